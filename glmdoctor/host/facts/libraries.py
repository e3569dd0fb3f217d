"""CUDA's libraries: the files, the loader that looks for them, the toolkits, and what cpm_kernels would take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from glmdoctor.host.facts.base import Fact, Facts


@dataclass(frozen=True)
class Library:
    """One file name of a CUDA library, with the whole chain of links behind it."""

    name: str  # "cuda", "nvidia-ml", "cudart", "nvrtc", "nvrtc-builtins", "cublasLt"
    path: str  # the name as found
    chain: tuple[str, ...]  # path, then each link's target, absolute; the last is the file (or where it stops)
    # "loader-folder" "linker-cache" "LD_LIBRARY_PATH" "CUDA_PATH" "CUDA_HOME" "toolkit" "wheel" "driver-folder"
    found_by: tuple[str, ...]
    fault: str | None  # None | "dangling" | "loop" | "empty" | "not-elf" | "truncated" | "unreadable"
    size: int = 0
    elf_class: int | None = None  # 32 or 64
    machine: str | None = None  # "x86_64", "aarch64", … as platform.machine() spells it
    soname: str | None = None
    version: str | None = None  # from the file name's tail, else the SONAME's: "535.183.01", "12", "13.0.88"
    stub: bool = False  # a link-time stub of the toolkit (lies in stubs/, or is tiny and exports no driver version)
    owner: str | None = None  # the package that owns the file ("libcuda1:amd64"), where the package database tells
    real: str = ""  # canonical path of the file: links of folders followed as well; equal for names of one file

    @property
    def file(self) -> str:
        return self.chain[-1] if self.chain else self.path

    @property
    def is_link(self) -> bool:
        return len(self.chain) > 1


@dataclass(frozen=True)
class CacheEntry:
    soname: str
    path: str
    elf_class: int  # 32 or 64
    exists: bool


@dataclass(frozen=True)
class Loader:
    """How the dynamic loader looks for a library by its plain name."""

    ld_library_path: tuple[str, ...]
    folders: tuple[str, ...]  # of ld.so.conf and the system's own, in order
    cache_path: str
    cache: tuple[CacheEntry, ...]  # only the libraries of interest (CUDA's and the driver's)
    cache_fault: str | None  # None, "missing", "unreadable: …"
    resolved: Mapping[str, str | None] = field(default_factory=dict)  # SONAME → the file dlopen would take, or None


@dataclass(frozen=True)
class CudaInstall:
    """The variables and folders that say where CUDA is."""

    cuda_path: str | None  # the variable's value; None where unset
    cuda_home: str | None
    default: str  # "/usr/local/cuda"
    default_exists: bool
    default_target: str | None  # where the link leads; None where it is no link
    folders: Mapping[str, bool]  # CUDA_PATH, CUDA_HOME, default: does <value>/lib64 exist as a folder
    toolkits: Mapping[str, str]  # folder of each installed toolkit → its version ("13.0.88"; "" where not written)
    nvcc: str | None  # nvcc on PATH


@dataclass(frozen=True)
class CpmHit:
    """What cpm_kernels' own search gives for one library."""

    library: str  # "nvrtc", "cuda", "cudart", "cublasLt"
    path: str | None  # the winning file or name; None where nothing is found
    rule: str  # "CUDA_PATH/lib64", "/usr/local/cuda/lib64", "find_library", "PATH", "none"
    tried: tuple[str, ...]  # every file looked for, in order
    loads: bool | None  # can it be opened (ELF class, not dangling, not a stub); None where not known
    stub: bool = False
    real: str | None = None  # the winning file with every link followed, its folders' too


@dataclass(frozen=True)
class Cpm:
    """cpm_kernels in the examined interpreter and its search, replayed as the installed version has it."""

    version: str | None  # None: not installed; the rules of 1.0.11 are replayed then
    hits: tuple[CpmHit, ...]
    path_files: tuple[str, ...] = ()  # Windows: entries of PATH that are files, which it lists as folders
    architectures: tuple[int, ...] = ()  # of the machine code in its fatbins: 61, 62, 70, …; () where it was not read


class LibraryFacts(Facts):
    loader = Fact(Loader, "linker.loader")
    cuda = Fact(CudaInstall, "cuda.cuda")
    libraries = Fact(tuple[Library, ...], "libraries.libraries")
    cpm = Fact(Cpm, "cpm.cpm")
