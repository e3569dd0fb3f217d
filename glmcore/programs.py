"""The one way in which both programs start others: nothing is taken from the current folder.

A Python child is isolated (``-I``), programs are found in absolute folders of PATH alone, and the working folder is
``/``: no module, compiler or library of the folder that somebody happens to stand in is run. Imports no torch.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glmcore.folders import believed

if TYPE_CHECKING:
    import subprocess

ISOLATED = Path(__file__).resolve().with_name("isolated.py")
WORKING_FOLDER = os.path.abspath(os.sep)
LOADERS = "LD_LIBRARY_PATH"
# Lists of folders in which an empty or relative entry stands for (a folder below) the current one.
FOLDER_LISTS = ("PATH", LOADERS)
# Exit statuses of a program that could not be started (as shells have them) or did not end (as ``timeout`` has it).
NO_END, NOT_STARTED = 124, 127


class Done(NamedTuple):
    """Exit status (negative: the signal), standard output and standard error of a program that has ended."""

    code: int
    out: str
    err: str


def isolated(python: str, *arguments: str) -> list[str]:
    """``python ARGUMENTS`` that imports the standard library and the packages of its own environment only.

    For scripts by absolute path and ``-c``; ``python``: an absolute path.
    """
    return [python, "-I", "-B", *arguments]


def with_packages(python: str, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
    """``python -m MODULE …`` or ``python SCRIPT …`` that imports what a plain start would, the current folder apart.

    ``python``: an absolute path.
    """
    return [python, "-I", *flags, str(ISOLATED), *arguments]


def own_python() -> str:
    """The interpreter that runs this program."""
    return os.path.abspath(sys.executable) if sys.executable else which("python3") or "python3"


def which(name: str, path: str | None = None) -> str | None:
    """The absolute path of a program (a name, or a path), in the absolute folders of ``path`` (PATH by default)."""
    import shutil  # here and in ``run``: every start of a program imports this module, few ask it

    if os.path.dirname(name):
        found = shutil.which(name)
        return os.path.abspath(found) if found else None
    return shutil.which(name, path=absolute(os.environ.get("PATH", os.defpath) if path is None else path) or os.devnull)


def absolute(folders: str, separators: str = os.pathsep) -> str:
    """A list of folders without the empty and relative ones."""
    return os.pathsep.join(folder for folder in re.split(f"[{separators}]", folders) if os.path.isabs(folder))


def begin_outside() -> None:
    """Start this program anew where LD_LIBRARY_PATH leads to the current folder (a leading colon is enough).

    The loader reads it once, when the program starts, and would take what torch needs, as libgomp, from there.
    """
    lists = folder_lists(os.environ)
    if os.name == "posix" and not all(map(os.path.isabs, re.split("[:;]", os.environ.get(LOADERS) or "/"))):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **lists})  # noqa: S606


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """``given`` (the present variables by default) for a child: PATH is set, no list leads to the current folder."""
    variables = dict(os.environ if given is None else given)
    variables.setdefault("PATH", os.defpath)  # gcc finds its assembler by it
    variables = believed(variables)  # pip's settings are read from these folders, for one
    return {**variables, **folder_lists(variables)}


def folder_lists(variables: Mapping[str, str]) -> dict[str, str]:
    """The lists of folders among ``variables``, without what leads to the current folder."""
    separators = {LOADERS: ":;"}  # the loader takes both
    return {
        name: absolute(variables[name], separators.get(name, os.pathsep)) for name in FOLDER_LISTS if name in variables
    }


def run(
    command: Sequence[str], seconds: float, variables: Mapping[str, str] | None = None, *, stdin: str = "",
    merged: bool = False,
) -> Done:  # fmt: skip
    """Run a program to its end, at most ``seconds`` long; one that cannot start or does not end failed, with the reason
    as its standard error. ``merged``: standard error goes to standard output."""
    import subprocess

    try:
        done = subprocess.run(
            list(command), input=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE, timeout=seconds, cwd=WORKING_FOLDER,
            env=environment(variables), encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Done(NO_END, "", f"no answer within {seconds:g} s")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Done(NOT_STARTED, "", f"{command[0]}: {getattr(error, 'strerror', None) or error}")
    return Done(done.returncode, done.stdout, done.stderr or "")


def begin(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a program that is told by its input and tells by its output (and error output), line by line.

    In a session of its own: what interrupts us at a terminal does not reach it. Errors: OSError.
    """
    import subprocess

    return subprocess.Popen(
        list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=WORKING_FOLDER,
        env=environment(), encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
