"""What a repair is before anything is done: data that is printed, asked about, and then carried out as it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from glmdoctor.actions import Action
from glmdoctor.messages import Text


@dataclass(frozen=True)
class Options:
    """What a plan may use beyond the facts."""

    private: str  # the doctor's own folder of this user; CUDA_PATH and the kernel go below it
    may_write: Callable[[str], bool]  # may this user make names in that folder?


@dataclass(frozen=True)
class Plan:
    """Actions on the disk, and variables that `glmdoctor run` and `chat` set, that together repair findings."""

    id: str
    title: Text
    findings: tuple[str, ...]  # ids of the findings that it answers
    actions: tuple[Action, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()  # for the user's own shell, shell-quoted
    needs_root: bool = False
    own_question: bool = False  # never done because others were allowed: it reaches beyond what is broken
    notes: tuple[Text, ...] = ()  # where the user's own files bring the fault back

    @property
    def reversible(self) -> bool:
        """Every action has its inverse; variables last as long as the program."""
        return True
