"""Variables for every shell of the user: a marked block in its start file, which is replaced and never doubled."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence

from glmdoctor.actions import WriteFile, digest
from glmdoctor.messages import text
from glmdoctor.remedies import proxy
from glmdoctor.remedies.plan import Plan

BEGIN, END = "# >>> glmdoctor >>>", "# <<< glmdoctor <<<"
BLOCK = re.compile(rf"^{re.escape(BEGIN)}\n(?:(?!{re.escape(BEGIN)}).*\n)*?{re.escape(END)}(?:\n|\Z)", re.MULTILINE)
NAMES = ("CUDA_PATH", "CUDA_HOME", *proxy.NAMES)
# Where a shell's variables may be set, below the home folder and in the system.
OWN_FILES = (
    ".bashrc", ".bash_profile", ".bash_login", ".bash_aliases", ".profile", ".zshenv", ".zprofile", ".zshrc", ".zlogin",
    ".pam_environment", ".config/fish/config.fish",
)  # fmt: skip
SYSTEM_FILES = ("/etc/environment", "/etc/profile", "/etc/bash.bashrc", "/etc/bashrc", "/etc/zsh/zshenv", "/etc/zshenv")
FOLDERS = ("/etc/profile.d", ".config/fish/conf.d")


def start_file(environ: Mapping[str, str], home: str) -> str:
    """The file that the user's shell reads when it starts."""
    shell = posixpath.basename(environ.get("SHELL", ""))
    if shell == "fish":
        return posixpath.join(environ.get("XDG_CONFIG_HOME") or f"{home}/.config", "fish/conf.d/glmdoctor.fish")
    if shell == "zsh":
        return posixpath.join(environ.get("ZDOTDIR") or home, ".zshrc")
    return f"{home}/.bashrc" if shell == "bash" else f"{home}/.profile"


def block(path: str, variables: Mapping[str, str]) -> str:
    fish = path.endswith(".fish")
    lines = [
        f"set -gx {name} {_fish_quoted(value)}" if fish else f"export {name}={shlex.quote(value)}"
        for name, value in variables.items()
    ]
    return "\n".join((BEGIN, *lines, END, ""))


def _fish_quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def rewritten(former: str, added: str) -> str:
    """The file with our block in its former place, else at the end, after whatever sets the variables before."""
    if BLOCK.search(former):
        blocks = iter((added,))
        return BLOCK.sub(lambda _: next(blocks, ""), former)
    return former + ("\n" if former and not former.endswith("\n") else "") + added


def plan(path: str, former: str | None, variables: Mapping[str, str], findings: Sequence[str]) -> Plan | None:
    """The toolkit's folders and what no proxy is asked for, as far as ``variables`` has them, for every new shell."""
    wanted = {name: variables[name] for name in NAMES if variables.get(name)}
    if not wanted:
        return None
    content = rewritten(former or "", block(path, wanted))
    title = text("Set {names} in {path} for every new shell", names=", ".join(wanted), path=path)
    action = WriteFile(path, content, None if former is None else digest(former))
    return Plan("shell-start-file", title, tuple(findings), (action,), own_question=True)


def setting_lines(files: Mapping[str, str], variable: str, folders: Sequence[str], home: str) -> list[str]:
    """``FILE:LINE: text`` of each line that puts one of ``folders`` into ``variable``."""
    return [
        f"{path}:{number}: {line.strip()}"
        for path, content in files.items()
        for number, line in enumerate(content.splitlines(), 1)
        if variable in line and not line.lstrip().startswith("#") and any(_names(line, f, home) for f in folders)
    ]


def _names(line: str, folder: str, home: str) -> bool:
    spoken = re.sub(r"\$HOME\b|\$\{HOME\}|(?<![\w/])~(?=/)", lambda _: home, line)
    return re.search(rf"(?<![\w./-]){re.escape(folder.rstrip('/'))}/?(?![\w./-])", spoken) is not None
