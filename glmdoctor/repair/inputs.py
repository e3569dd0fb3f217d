"""The files and lists that some repairs rewrite, read through the doctor's eyes; nothing is changed here."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence

from glmcore import programs
from glmdoctor.actions.packages import listed, normalised, pip
from glmdoctor.host.io import IO
from glmdoctor.host.probes.deep import recorded
from glmdoctor.host.probes.weights import POINTER_LIMIT
from glmdoctor.messages import text
from glmdoctor.remedies import original, shell
from glmdoctor.remedies.fetch import Wanted
from glmdoctor.repair.recovery import Refused

DEPTH = 6  # transformers_modules/OWNER/NAME/REVISION, and newer releases' own levels
POINTER = re.compile(r"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)  # of a git-lfs pointer
FOLDERS = 2000  # looked into at most
LIST_SECONDS, SOLVE_SECONDS = 60, 1800


def exact(io: IO, path: str) -> str | None:
    """The text of a file as it is; None where it cannot be read or is not UTF-8."""
    try:
        return io.read_bytes(path).decode("utf-8")
    except (OSError, ValueError):
        return None


def home(io: IO) -> str:
    """Root's own, though HOME may name another user's."""
    return programs.environment(io.env()).get("HOME") or os.path.expanduser("~")


def original_code(io: IO, model: str | None) -> dict[str, str]:
    """Path → text of quantization.py and its C sources: in the checkpoint, and in transformers' copies (of it)."""
    folder = os.path.abspath(os.path.expanduser(model)) if model else None
    copies = list(_folders(io, posixpath.join(modules_cache(io), "transformers_modules"), DEPTH))[:FOLDERS]
    if folder:
        copies = [folder, *(copy for copy in copies if _is_copy(copy, folder))]
    paths = [posixpath.join(place, name) for place in copies for name in (original.QUANTIZATION, *original.SOURCES)]
    found = {path: exact(io, path) for path in paths}
    return {path: content for path, content in found.items() if content is not None}


def written(io: IO, folder: str, names: Iterable[str]) -> dict[str, str]:
    """Path → text of the files of these names in a folder, as far as they can be read."""
    found = {path: exact(io, path) for path in (posixpath.join(folder, name) for name in names)}
    return {path: content for path, content in found.items() if content is not None}


def modules_cache(io: IO) -> str:
    """As huggingface_hub and transformers choose it."""
    environ = programs.environment(io.env())
    cache = environ.get("XDG_CACHE_HOME") or posixpath.join(home(io), ".cache")
    hub = environ.get("HF_HOME") or posixpath.join(cache, "huggingface")
    return environ.get("HF_MODULES_CACHE") or posixpath.join(hub, "modules")


def _folders(io: IO, folder: str, depth: int) -> Iterator[str]:
    if not depth or not io.is_folder(folder):
        return
    yield folder
    for name in io.names(folder):
        if name != "__pycache__":
            yield from _folders(io, posixpath.join(folder, name), depth - 1)


def _is_copy(copy: str, folder: str) -> bool:
    """transformers names its copies by the folder, newer releases with words for what Python cannot import."""
    name = posixpath.basename(folder)
    names = {name, name.replace(".", "_dot_"), name.replace(".", "_dot_").replace("-", "_hyphen_")}
    return bool(names & set(copy.split("/")))


def wanted(io: IO, folder: str, names: Sequence[str]) -> tuple[Wanted, ...]:
    """Where files of a checkpoint lie, behind the hub cache's links, and what is recorded of them."""
    found = []
    for name in names:
        path = posixpath.join(folder, name)
        pointer = POINTER.search(exact(io, path) or "") if _is_small(io, path) else None
        sha256 = pointer[1] if pointer else recorded(io, folder, name)[0]
        found.append(Wanted(name, io.realpath(path), sha256))
    return tuple(found)


def _is_small(io: IO, path: str) -> bool:
    return io.is_file(path) and io.stat(path).st_size < POINTER_LIMIT


def start_files(io: IO) -> dict[str, str]:
    """Path → text of the files in which a shell's variables may be set."""
    paths = [*(posixpath.join(home(io), name) for name in shell.OWN_FILES), *shell.SYSTEM_FILES]
    for folder in (posixpath.join(home(io), name) for name in shell.FOLDERS):
        paths += [posixpath.join(folder, name) for name in io.names(folder) if name.endswith((".sh", ".fish"))]
    found = {path: exact(io, path) for path in paths}
    return {path: content for path, content in found.items() if content is not None}


def packages(io: IO, python: str) -> dict[str, str]:
    """What pip finds installed, name → version."""
    return listed(_pip(io, python, ("list", "--format=json"), LIST_SECONDS))


def solved(io: IO, python: str, arguments: Sequence[str]) -> dict[str, str]:
    """What pip would install for these arguments, dependencies included; nothing is installed."""
    report = json.loads(
        _pip(io, python, ("install", "--dry-run", "--quiet", "--report", "-", *arguments), SOLVE_SECONDS)
    )
    found = [item["metadata"] for item in report["install"]]
    return {normalised(entry["name"]): entry["version"] for entry in found}


def _pip(io: IO, python: str, arguments: Sequence[str], seconds: float) -> str:
    done = io.running().run(pip(python, *arguments), seconds, io.env())
    if done.code:
        errors = [line for line in done.err.splitlines() if line.startswith("ERROR")] or done.err.splitlines()
        what = re.sub(r"^ERROR: ", "", errors[-1]) if errors else str(done.code)
        raise Refused(text("pip cannot plan this: {what}", what=what))
    return done.out
