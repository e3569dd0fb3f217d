"""Facts made by hand, with as little said as a test needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from glmdoctor.checks import Machine
from glmdoctor.host import facts
from glmdoctor.host.facts import Unknown

LIB = "/usr/lib/x86_64-linux-gnu"
MODULE, OTHER = "535.183.01", "550.54.14"
CPM = ("nvrtc", "cuda", "cudart", "cublasLt")
NAMES = Machine.names()


@dataclass(frozen=True)
class Stub:
    """Facts by name; one that was not given is unknown."""

    facts: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES:
            raise AttributeError(name)
        return self.facts.get(name, Unknown(f"{name} was not read"))

    def having(self, **changed: Any) -> Stub:
        """The same machine with some facts replaced; a dict changes single fields of a fact."""
        new = {k: replace(self.facts[k], **v) if isinstance(v, dict) else v for k, v in changed.items()}
        return Stub({**self.facts, **new})


def library(
    name: str, *chain: str, found_by: tuple[str, ...] = ("loader-folder", "linker-cache"), **fields: Any
) -> Any:
    version = chain[-1].partition(".so.")[2] or None
    defaults = {
        "fault": None,
        "size": 1 << 25,
        "elf_class": 64,
        "machine": "x86_64",
        "version": version,
        "real": chain[-1],
    }
    return facts.Library(name, chain[0], chain, found_by, **{**defaults, **fields})


def driver_libraries(version: str, folder: str = LIB, **fields: Any) -> tuple[Any, ...]:
    """The files of one driver version under their SONAMEs."""
    names = (("cuda", "libcuda.so"), ("nvidia-ml", "libnvidia-ml.so"))
    return tuple(library(n, f"{folder}/{s}.1", f"{folder}/{s}.{version}", **fields) for n, s in names)


def loader_for(*libraries: Any, **fields: Any) -> Any:
    """A loader that takes these libraries, all listed in its cache."""
    resolved = {lib.path.rsplit("/", 1)[-1]: lib.path for lib in reversed(libraries)}
    cache = tuple(facts.CacheEntry(s, p, 64, True) for s, p in resolved.items())
    return facts.Loader(**{
        "ld_library_path": (), "folders": (LIB,), "cache_path": "/etc/ld.so.cache", "cache": cache, "cache_fault": None,
        "resolved": resolved, **fields,
    })  # fmt: skip


def node(path: str, **fields: Any) -> Any:
    defaults = {"kind": "char", "mode": 0o666, "uid": 0, "gid": 0, "readable_and_writable": True}
    return facts.DeviceNode(path, **{**defaults, **fields})
