"""What is done about one problem: the plan of `glmdoctor fix`, and advice as data, which is written out last."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from glmdoctor.findings import Finding
from glmdoctor.messages import Text
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies.plan import Options, Plan


@dataclass(frozen=True)
class Shell:
    """A line for the user's own shell, as it stands."""

    line: str


@dataclass(frozen=True)
class Root:
    """A line that root has to run."""

    line: str


@dataclass(frozen=True)
class Pip:
    """An installation into the interpreter that is examined: requirements, and pip's options among them."""

    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Removal:
    """A package taken out of the interpreter that is examined; `fix --packages` removes none by itself."""

    package: str


Command = Shell | Root | Pip | Removal
Commands = tuple[Command, ...]


class Beyond(Enum):
    """What a plan needs that is no fact: `repair` reads it, and only where such a plan is wanted."""

    FILES = "the checkpoint's damaged files, to be fetched again"
    CONFIGURATION = "the text of the checkpoint's JSON files"
    ENVIRONMENT = "the variables of the user's own shell"


@dataclass(frozen=True)
class Case:
    """Advice whose words depend on the finding, not on its problem alone."""

    id: str
    title: Text
    commands: Commands


Planner = Callable[[Finding, Machine, Options], Plan | None]


def nothing(finding: Finding, host: Machine) -> Commands:
    """No command helps."""
    return ()


@dataclass(frozen=True)
class Answer:
    """One problem's row."""

    plan: tuple[Planner, ...] = ()  # the first that gives one
    advice: Callable[[Finding, Machine], Commands] = nothing
    option: str | None = None  # of `fix`, under which its repair falls
    beyond: Beyond | None = None
    case: Callable[[Finding, Machine], Case] | None = None


def words(*arguments: str) -> Shell:
    """A command by its arguments, each quoted where a shell would read something into it."""
    return Shell(shlex.join(arguments))


def root(*lines: str) -> Commands:
    return tuple(Root(line) for line in lines)


def by_host(make: Callable[[Machine], Commands]) -> Callable[[Finding, Machine], Commands]:
    return lambda finding, host: make(host)


def as_root(*lines: str) -> Callable[[Finding, Machine], Commands]:
    return lambda finding, host: root(*lines)


def shell(*lines: str) -> Callable[[Finding, Machine], Commands]:
    return lambda finding, host: tuple(Shell(line) for line in lines)


def pip(*arguments: str) -> Callable[[Finding, Machine], Commands]:
    return lambda finding, host: (Pip(arguments),)


def is_root(host: Machine) -> bool:
    os = maybe(host.os)
    return os is not None and os.effective_uid == 0


def written(command: Command, host: Machine) -> str:
    """The command as a line for a shell on this machine."""
    if isinstance(command, Pip):
        return _with_pip(host, "install", *command.arguments)
    if isinstance(command, Removal):
        return _with_pip(host, "uninstall", "-y", command.package)
    return f"sudo {command.line}" if isinstance(command, Root) and not is_root(host) else command.line


def _with_pip(host: Machine, *arguments: str) -> str:
    interpreter = maybe(host.interpreter)
    return shlex.join([interpreter.executable if interpreter else "python", "-m", "pip", *arguments])
