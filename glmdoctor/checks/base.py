"""What a check is, and the few words in which checks speak.

A check is a pure function from a machine's facts to findings. Its function names no id: the engine stamps the check's
own id on every finding, so that the table of checks is the only place where ids are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from glmdoctor.findings import Finding, Status
from glmdoctor.host import facts
from glmdoctor.host.facts import Unknown
from glmdoctor.messages import Text, text

T = TypeVar("T")


class Machine(Protocol):
    """The facts that a check may look at; each is read when it is first asked for."""

    @property
    def os(self) -> facts.Os | Unknown: ...
    @property
    def cpu(self) -> facts.Cpu | Unknown: ...
    @property
    def memory(self) -> facts.Memory | Unknown: ...
    @property
    def disk_cache(self) -> facts.Disk | Unknown: ...
    @property
    def shared_memory(self) -> facts.Disk | Unknown: ...
    @property
    def pci(self) -> tuple[facts.PciDisplay, ...] | Unknown: ...
    @property
    def accelerators(self) -> tuple[facts.Accelerator, ...] | Unknown: ...
    @property
    def kernel_driver(self) -> facts.KernelDriver | Unknown: ...
    @property
    def guards(self) -> facts.Guards | Unknown: ...
    @property
    def containers(self) -> facts.Containers | Unknown: ...
    @property
    def libraries(self) -> tuple[facts.Library, ...] | Unknown: ...
    @property
    def loader(self) -> facts.Loader | Unknown: ...
    @property
    def cuda(self) -> facts.CudaInstall | Unknown: ...
    @property
    def nvml(self) -> facts.Nvml | Unknown: ...
    @property
    def kernel_log(self) -> facts.KernelLog | Unknown: ...
    @property
    def memory_kills(self) -> facts.MemoryKills | Unknown: ...
    @property
    def ceiling(self) -> facts.DriverCeiling | Unknown: ...
    @property
    def interpreter(self) -> facts.Interpreter | Unknown: ...
    @property
    def torch(self) -> facts.Torch | Unknown: ...
    @property
    def bitsandbytes(self) -> facts.Bitsandbytes | Unknown: ...
    @property
    def cxx_runtime(self) -> facts.CxxRuntime | Unknown: ...
    @property
    def toolchain(self) -> facts.Toolchain | Unknown: ...
    @property
    def kernel_build(self) -> facts.KernelBuild | Unknown: ...
    @property
    def given_kernel(self) -> facts.GivenKernel | Unknown: ...
    @property
    def cpm(self) -> facts.Cpm | Unknown: ...
    @property
    def checkpoint(self) -> facts.Checkpoint | Unknown: ...
    @property
    def original_kernels(self) -> tuple[facts.OriginalKernel, ...] | Unknown: ...
    @property
    def own_code(self) -> facts.OwnCode | Unknown: ...
    @property
    def hub(self) -> facts.Hub | Unknown: ...
    @property
    def cpu_run(self) -> facts.KernelRun | Unknown: ...
    @property
    def gpu_runs(self) -> tuple[facts.KernelRun, ...] | Unknown: ...
    @property
    def hashes(self) -> tuple[facts.FileHash, ...] | Unknown: ...
    @property
    def settings(self) -> facts.Settings | Unknown: ...
    @property
    def state(self) -> facts.State | Unknown: ...


@dataclass(frozen=True)
class Check:
    """One question to the machine; it is skipped where a fact in ``needs`` is unknown, and may look at others."""

    id: str
    title: Text
    run: Callable[[Machine], Iterable[Finding]]
    problems: tuple[str, ...] = ()  # what it can find, by the catalogue's ids
    needs: tuple[str, ...] = ()
    explained_by: tuple[str, ...] = ()  # problems of which everything found here is a mere consequence
    deep: bool = False  # takes seconds or more: asked only with ``--deep``, or by its id


def known(fact: T | Unknown) -> T:
    """A fact that the check's ``needs`` promise."""
    assert not isinstance(fact, Unknown), fact.reason
    return fact


def maybe(fact: T | Unknown) -> T | None:
    """A fact that the check can do without."""
    return None if isinstance(fact, Unknown) else fact


def ok(title: Text, detail: Text, **evidence: object) -> Finding:
    return Finding("", Status.OK, title, detail, evidence=evidence)


def skipped(title: Text, detail: Text, **evidence: object) -> Finding:
    """The question does not arise on this machine; ``detail`` says why."""
    return Finding("", Status.SKIPPED, title, detail, evidence=evidence)


def unknown(title: Text, detail: Text, **evidence: object) -> Finding:
    return Finding("", Status.UNKNOWN, title, detail, evidence=evidence)


def not_looked_at(title: Text, fact: Unknown) -> Finding:
    """Skipped because the fact that would decide could not be read."""
    return skipped(title, text("Not looked at: {reason}", reason=Text(fact.reason)))


def bad(status: Status, problem: str, title: Text, detail: Text, **evidence: object) -> Finding:
    return Finding("", status, title, detail, problem, evidence)
