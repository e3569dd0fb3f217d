"""Every file name of the CUDA libraries and of the driver's, each with its chain of links and its ELF header."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from glmdoctor.host.facts import CudaInstall, Interpreter, Library, Loader, Unknown
from glmdoctor.host.io import IO, MAX_LINKS
from glmdoctor.host.probes import elf

PATTERN = re.compile(r"lib(cuda|nvidia-ml|cudart|nvrtc|nvrtc-builtins|cublasLt)(?:-[0-9a-f]{6,})?\.so(?:\.([\w.]+))?")
DRIVER = ("cuda", "nvidia-ml")
WSL = "/usr/lib/wsl/lib"
# Outside the loader's own: where distributions and containers put the driver's libraries.
DRIVER_FOLDERS = (
    WSL,
    "/usr/lib/{machine}-linux-gnu/nvidia/current",
    "/usr/lib/nvidia",
    "/usr/local/nvidia/lib64",
    "/run/opengl-driver/lib",
)
TOOLKIT_FOLDERS = ("lib64", "lib64/stubs", "targets/{target}/lib", "targets/{target}/lib/stubs", "compat")
TARGETS = {"x86_64": "x86_64-linux", "aarch64": "sbsa-linux"}
DPKG = "/var/lib/dpkg/info"
PACKAGES = re.compile(r"cuda|nvidia|nvrtc|cublas")
# A driver library is tens of megabytes; the toolkit's link-time stub about a hundred kilobytes.
STUB_SIZE = 1 << 20


def libraries(
    io: IO, loader: Loader | Unknown, cuda: CudaInstall | Unknown, interpreter: Interpreter | Unknown
) -> tuple[Library, ...] | Unknown:
    if io.system != "Linux":
        return Unknown(f"lib*.so files are looked for on Linux; this is {io.system}")
    if isinstance(interpreter, Interpreter):
        io = io.bound(*interpreter.site_folders)
    found: dict[tuple[str, str], list[str]] = {}  # canonical folder and name → where it was met
    paths: dict[tuple[str, str], str] = {}
    for source, path in _paths(io, loader, cuda, interpreter):
        folder, name = posixpath.split(path)
        key = (_canonical(io, folder), name)
        paths.setdefault(key, path)
        found.setdefault(key, []).append(source)
    owners = _owners(io)
    return tuple(describe(io, paths[key], tuple(dict.fromkeys(sources)), owners) for key, sources in found.items())


def _canonical(io: IO, path: str) -> str:
    try:
        return io.realpath(path)
    except OSError:  # a loop
        return path


def _paths(
    io: IO, loader: Loader | Unknown, cuda: CudaInstall | Unknown, interpreter: Interpreter | Unknown
) -> Iterator[tuple[str, str]]:
    """(where it was met, path) of every name, in the order in which the loader and the programs look."""
    if isinstance(loader, Loader):
        for folder in loader.ld_library_path:
            yield from _in_folder(io, "LD_LIBRARY_PATH", folder)
        yield from (("linker-cache", entry.path) for entry in loader.cache if PATTERN.fullmatch(_name(entry.path)))
        for folder in loader.folders:
            yield from _in_folder(io, "loader-folder", folder)
    for folder in DRIVER_FOLDERS:
        yield from _in_folder(io, "driver-folder", folder.format(machine=io.machine))
    if isinstance(cuda, CudaInstall):
        for source, folder in _toolkits(cuda):
            for below in TOOLKIT_FOLDERS:
                yield from _in_folder(io, source, f"{folder}/{below.format(target=TARGETS.get(io.machine, ''))}")
    if isinstance(interpreter, Interpreter):
        for folder in wheel_folders(io, interpreter):
            yield from _in_folder(io, "wheel", folder)


def _toolkits(cuda: CudaInstall) -> Iterator[tuple[str, str]]:
    if cuda.cuda_path:
        yield "CUDA_PATH", cuda.cuda_path
    if cuda.cuda_home:
        yield "CUDA_HOME", cuda.cuda_home
    yield "toolkit", cuda.default
    yield from (("toolkit", folder) for folder in cuda.toolkits)


def wheel_folders(io: IO, interpreter: Interpreter) -> Iterator[str]:
    """torch's own libraries and those of NVIDIA's wheels: nvidia/<name>/lib, or nvidia/cu13/lib."""
    for site in interpreter.site_folders:
        yield f"{site}/torch/lib"
        yield from (f"{site}/nvidia/{name}/lib" for name in io.names(f"{site}/nvidia"))


def _in_folder(io: IO, source: str, folder: str) -> Iterator[tuple[str, str]]:
    if posixpath.isabs(folder):
        yield from ((source, f"{folder.rstrip('/')}/{n}") for n in io.names(folder) if PATTERN.fullmatch(n))


def _name(path: str) -> str:
    return posixpath.basename(path)


def describe(
    io: IO, path: str, found_by: tuple[str, ...] = (), owners: Mapping[str, str] = MappingProxyType({})
) -> Library:
    """One library file name with everything behind it; ``owners`` gives the package of each canonical path."""
    match = PATTERN.fullmatch(_name(path))
    name = match.group(1) if match else _name(path)
    chain, fault = follow(io, path)
    real = _canonical(io, path)
    header = elf.Header(fault) if fault else elf.read(io, path) or elf.Header("dangling")
    version = _version(chain, header.soname)
    return Library(
        name=name,
        path=path,
        chain=chain,
        found_by=found_by,
        fault=header.fault,
        size=header.size,
        elf_class=header.elf_class,
        machine=header.machine,
        soname=header.soname,
        version=version,
        stub=header.fault is None and _is_stub(name, chain, header),
        owner=owners.get(real),
        real=real,
    )


def _owners(io: IO) -> dict[str, str]:
    """Canonical path → Debian package of the libraries of interest, by the few file lists that can name them."""
    owners = {}
    for name in io.names(DPKG):
        if not name.endswith(".list") or not PACKAGES.search(name):
            continue
        for line in (io.text_or_none(f"{DPKG}/{name}") or "").splitlines():
            if PATTERN.fullmatch(_name(line)):
                folder, file = posixpath.split(line)
                # Lists say /lib where the merged /usr has the file; only folders are followed, since each link of a
                # chain may have its own package.
                owners[posixpath.join(_canonical(io, folder), file)] = name.removesuffix(".list")
    return owners


def follow(io: IO, path: str) -> tuple[tuple[str, ...], str | None]:
    """The chain of links that starts at ``path``, and "dangling" or "loop" where it leads to no file."""
    chain = [path]
    while len(chain) <= MAX_LINKS:
        try:
            target = io.readlink(chain[-1])
        except OSError:  # no link (or not there): the end
            return tuple(chain), None if io.exists(chain[-1]) else "dangling"
        step = posixpath.join(_canonical(io, posixpath.dirname(chain[-1])), target)
        step = posixpath.normpath(step) if ".." in target else step
        if step in chain:
            return (*chain, step), "loop"
        chain.append(step)
    return tuple(chain), "loop"


def _version(chain: tuple[str, ...], soname: str | None) -> str | None:
    """The longest version in the names of the chain ("535.183.01" rather than "1"), else the SONAME's."""
    matches = (PATTERN.fullmatch(_name(path)) for path in reversed(chain))
    versions = [match.group(2) for match in matches if match and match.group(2)]
    by_soname = PATTERN.fullmatch(soname or "")
    return next(iter(versions), by_soname.group(2) if by_soname else None)


def _is_stub(name: str, chain: tuple[str, ...], header: elf.Header) -> bool:
    """The toolkit's link-time stand-in: in a folder `stubs`, or a small driver library whose name has no version.

    WSL's real libcuda is small and unversioned too.
    """
    if any("stubs" in posixpath.dirname(path).split("/") for path in chain):
        return True
    if name not in DRIVER or chain[-1].startswith(WSL):
        return False
    return header.size < STUB_SIZE and not re.search(r"\.so\.\d+\.\d+", _name(chain[-1]))
