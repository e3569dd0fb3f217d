"""A machine as a bag of facts: each read once, when first asked for, and kept."""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from glmcore import workers
from glmdoctor.host import snapshot
from glmdoctor.host.facts import Fact, Machine, Unknown
from glmdoctor.host.io import IO, RealIO
from glmdoctor.host.recorded import RecordedIO

if TYPE_CHECKING:
    from glmdoctor.host.probes.deep import Progress

T = TypeVar("T")
# Probes wait on files and children far more than they compute.
WORKERS = 4


class Host(Machine):
    """The facts of one machine. Thread-safe; a probe that raises gives ``Unknown`` and leaves the others alone."""

    def __init__(
        self,
        io: IO | None = None,
        interpreter: str | None = None,
        model: str | None = None,
        kernel_file: str | None = None,
    ) -> None:
        """Examine ``io`` (this machine by default) with the Python, checkpoint and kernel that the user names."""
        self.io = io or RealIO()
        self.python = interpreter or sys.executable
        self.model = model
        self.kernel_file = kernel_file or self.io.env().get("GLMCORE_KERNEL_FILE")
        self.progress: Progress | None = None  # told while the weights are hashed
        self.timings: dict[str, float] = {}  # seconds, waiting for other facts included
        self._values: dict[str, object] = {}
        self._readings: dict[str, object] = {}
        self._replayed = False
        self._locks = {name: threading.Lock() for name in self.names()}

    def gather(self, names: Iterable[str] | None = None) -> Host:
        """Read the named facts (by default all that are quickly read) concurrently."""
        wanted = [name for name in names or self.quick() if name not in self._values]
        workers.each(lambda name: getattr(self, name), wanted, WORKERS)
        return self

    def reading(self, name: str, probe: Callable[[IO], object]) -> object | Unknown:
        """What a plugin's probe reads: plain JSON data, read once and kept in snapshots; on a replayed machine that."""
        if name not in self._readings:
            if self._replayed:
                return Unknown("not recorded")
            try:
                self._readings[name] = probe(self.io)
            except Exception as error:  # a stranger's probe must not take the examination with it
                return Unknown(f"probe crashed: {type(error).__name__}: {error}")
        return self._readings[name]

    def to_snapshot(self) -> dict[str, object]:
        """The facts as plain JSON data, without names of people and machines; the slow ones where they were read."""
        self.gather()
        return snapshot.encode(self._values, self.timings, self._readings)

    @classmethod
    def from_snapshot(cls, data: Mapping[str, object]) -> Host:
        """The machine that ``to_snapshot`` wrote; nothing of the running one is read."""
        known = cls.names()  # a later version may have more
        host = cls.of(**{name: value for name, value in snapshot.decode(data).items() if name in known})
        host._readings = dict(data.get("readings") or {})
        return host

    @classmethod
    def of(cls, **values: object) -> Host:
        """A machine of these facts; those not given are unknown."""
        unknown_names = values.keys() - set(cls.names())
        if unknown_names:
            raise TypeError(f"no such facts: {', '.join(sorted(unknown_names))}")
        host = cls(RecordedIO({}))
        host._replayed = True
        host._values = {name: values.get(name, Unknown("not recorded")) for name in cls.names()}
        return host

    def _read(self, fact: Fact[T]) -> T | Unknown:
        with self._locks[fact.name]:
            if fact.name not in self._values:
                start = time.perf_counter()
                try:
                    self._values[fact.name] = self._probed(fact)
                except Exception as error:  # a broken probe must not take the others with it
                    self._values[fact.name] = Unknown(f"probe crashed: {type(error).__name__}: {error}")
                self.timings[fact.name] = time.perf_counter() - start
            return self._values[fact.name]  # type: ignore[return-value]

    def _probed(self, fact: Fact[T]) -> object:
        """What the fact's probe gives for what its parameters name: ``io``, other facts, what the user named."""
        module, _, function = fact.probe.partition(".")
        probe = getattr(importlib.import_module(f"glmdoctor.host.probes.{module}"), function)
        return probe(**{name: getattr(self, name) for name in inspect.signature(probe).parameters})
