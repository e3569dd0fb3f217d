"""How a fact is declared: its type, and the probe that reads it when somebody first asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

T = TypeVar("T")


@dataclass(frozen=True)
class Unknown:
    """A fact that could not be read, and why (English, one line; shown beside the skipped check)."""

    reason: str


class Fact(Generic[T]):
    """A property of a machine: what its probe gives, kept from the first access on."""

    def __init__(self, kind: type[T], probe: str, *, slow: bool = False) -> None:
        """``probe``: module and function in ``host/probes``, whose parameters are named after what it goes by.

        ``slow``: measures for seconds to minutes: read only where asked for, with nothing beside it.
        """
        self.kind, self.probe, self.slow = kind, probe, slow
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, machine: None, owner: type) -> Fact[T]: ...
    @overload
    def __get__(self, machine: Facts, owner: type) -> T | Unknown: ...
    def __get__(self, machine: Facts | None, owner: type) -> Fact[T] | T | Unknown:
        if machine is None:
            return self
        return machine._read(self)


class Facts(ABC):
    """Some facts of a machine. How they are read is left to ``Host``."""

    @classmethod
    def table(cls) -> dict[str, Fact[object]]:
        """Every fact by its name."""
        return {name: value for kind in cls.__mro__ for name, value in vars(kind).items() if isinstance(value, Fact)}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all facts."""
        return tuple(cls.table())

    @classmethod
    def quick(cls) -> tuple[str, ...]:
        """The names of the facts that every examination may read."""
        return tuple(name for name, fact in cls.table().items() if not fact.slow)

    @abstractmethod
    def _read(self, fact: Fact[T]) -> T | Unknown:
        """What the fact's probe gives."""
