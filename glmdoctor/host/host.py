"""A machine as a bag of facts: each read once, when first asked for, and kept."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar, overload

from glmcore import workers
from glmdoctor.host import facts, snapshot
from glmdoctor.host.facts import Unknown
from glmdoctor.host.io import IO, RealIO
from glmdoctor.host.probes import (
    accelerators,
    bitsandbytes,
    checkpoint,
    containers,
    cpm,
    cuda,
    cxx,
    deep,
    driver,
    flash_attention,
    guards,
    hub,
    kernel,
    kernel_log,
    kills,
    leftovers,
    libraries,
    linker,
    nvml,
    original_kernel,
    own_code,
    python,
    resources,
    system,
    toolchain,
)
from glmdoctor.host.recorded import RecordedIO

T = TypeVar("T")
# Probes wait on files and children far more than they compute.
WORKERS = 4


class _Fact(Generic[T]):
    """A property that runs its probe at the first access and keeps what it gave."""

    def __init__(self, probe: Callable[[Host], T | Unknown], *, slow: bool = False) -> None:
        """``slow``: measures for seconds to minutes: read only where asked for, with nothing beside it."""
        self.probe, self.slow = probe, slow
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, host: None, owner: type) -> _Fact[T]: ...
    @overload
    def __get__(self, host: Host, owner: type) -> T | Unknown: ...
    def __get__(self, host: Host | None, owner: type) -> _Fact[T] | T | Unknown:
        return self if host is None else host._once(self.name, self.probe)


class Host:
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
        self.progress: deep.Progress | None = None  # told while the weights are hashed
        self.timings: dict[str, float] = {}  # seconds, waiting for other facts included
        self._values: dict[str, object] = {}
        self._readings: dict[str, object] = {}
        self._replayed = False
        self._locks = {name: threading.Lock() for name in self.names()}

    os = _Fact[facts.Os](lambda host: system.operating_system(host.io))
    cpu = _Fact[facts.Cpu](lambda host: resources.cpu(host.io))
    memory = _Fact[facts.Memory](lambda host: resources.memory(host.io))
    disk_cache = _Fact[facts.Disk](lambda host: resources.disk_cache(host.io))
    shared_memory = _Fact[facts.Disk](lambda host: resources.shared_memory(host.io))
    pci = _Fact[tuple[facts.PciDisplay, ...]](lambda host: driver.pci(host.io))
    accelerators = _Fact[tuple[facts.Accelerator, ...]](
        lambda host: accelerators.accelerators(host.io, host.pci, host.loader)
    )
    kernel_driver = _Fact[facts.KernelDriver](lambda host: driver.kernel_driver(host.io))
    guards = _Fact[facts.Guards](lambda host: guards.guards(host.io))
    containers = _Fact[facts.Containers](lambda host: containers.containers(host.io))
    loader = _Fact[facts.Loader](lambda host: linker.loader(host.io))
    cuda = _Fact[facts.CudaInstall](lambda host: cuda.install(host.io))
    interpreter = _Fact[facts.Interpreter](lambda host: python.interpreter(host.io, host.python))
    libraries = _Fact[tuple[facts.Library, ...]](
        lambda host: libraries.libraries(host.io, host.loader, host.cuda, host.interpreter)
    )
    nvml = _Fact[facts.Nvml](lambda host: nvml.nvml(host.io, host.kernel_driver, host.loader))
    kernel_log = _Fact[facts.KernelLog](lambda host: kernel_log.kernel_log(host.io, host.kernel_driver, host.pci))
    memory_kills = _Fact[facts.MemoryKills](lambda host: kills.memory_kills(host.io))
    ceiling = _Fact[facts.DriverCeiling](lambda host: nvml.ceiling(host.io, host.loader))
    torch = _Fact[facts.Torch](lambda host: python.torch(host.io, host.interpreter))
    flash_attention = _Fact[facts.FlashAttention](
        lambda host: flash_attention.flash_attention(host.io, host.interpreter)
    )
    bitsandbytes = _Fact[facts.Bitsandbytes](lambda host: bitsandbytes.bitsandbytes(host.io, host.interpreter))
    cxx_runtime = _Fact[facts.CxxRuntime](lambda host: cxx.cxx_runtime(host.io, host.interpreter, host.loader))
    toolchain = _Fact[facts.Toolchain](lambda host: toolchain.toolchain(host.io))
    kernel_build = _Fact[facts.KernelBuild](lambda host: kernel.kernel_build(host.io))
    given_kernel = _Fact[facts.GivenKernel](lambda host: kernel.given_kernel(host.io, host.kernel_file))
    cpm = _Fact[facts.Cpm](lambda host: cpm.cpm(host.io, host.interpreter, host.loader))
    checkpoint = _Fact[facts.Checkpoint](lambda host: checkpoint.checkpoint(host.io, host.model))
    original_kernels = _Fact[tuple[facts.OriginalKernel, ...]](
        lambda host: original_kernel.original_kernels(host.io, host.checkpoint)
    )
    own_code = _Fact[facts.OwnCode](lambda host: own_code.own_code(host.io, host.checkpoint))
    hub = _Fact[facts.Hub](lambda host: hub.hub(host.io, host.model))
    cpu_run = _Fact[facts.KernelRun](lambda host: deep.cpu_run(host.io, host.cpu, host.kernel_file), slow=True)
    gpu_runs = _Fact[tuple[facts.KernelRun, ...]](
        lambda host: deep.gpu_runs(host.io, host.nvml, host.torch, host.interpreter), slow=True
    )
    hashes = _Fact[tuple[facts.FileHash, ...]](
        lambda host: deep.hashes(host.io, host.checkpoint, host.progress), slow=True
    )
    settings = _Fact[facts.Settings](lambda host: leftovers.settings(host.io))
    state = _Fact[facts.State](lambda host: leftovers.state(host.io))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all facts."""
        return tuple(name for name, value in vars(cls).items() if isinstance(value, _Fact))

    @classmethod
    def quick(cls) -> tuple[str, ...]:
        """The names of the facts that every examination may read."""
        return tuple(name for name in cls.names() if not vars(cls)[name].slow)

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

    def _once(self, name: str, probe: Callable[[Host], T | Unknown]) -> T | Unknown:
        with self._locks[name]:
            if name not in self._values:
                start = time.perf_counter()
                try:
                    self._values[name] = probe(self)
                except Exception as error:  # a broken probe must not take the others with it
                    self._values[name] = Unknown(f"probe crashed: {type(error).__name__}: {error}")
                self.timings[name] = time.perf_counter() - start
            return self._values[name]  # type: ignore[return-value]
