"""A machine to break: mounts, links and libraries in a mount namespace of its own, kept between commands.

Each command enters a fresh namespace in which ``/usr`` and ``/etc`` are overlays (the upper folders are the exact
record of what was changed), ``/proc/driver``, ``/sys/module`` and ``/sys/bus/pci`` are what the machine says,
and ``/dev`` is private. Nothing is visible outside, and the network is off unless the machine is ``connected``.
``entering`` has the mounts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import entering

STUBS = Path(__file__).with_name("stubs.c")
LIB = "/usr/lib/x86_64-linux-gnu"
SCRIPTS = Path(sys.executable).parent
PACKAGES = {
    "transformers": "4.44.2",
    "cpm_kernels": "1.0.11",
    "sentencepiece": "0.2.0",
    "safetensors": "0.4.5",
    "tiktoken": "0.7.0",
    "accelerate": "0.33.0",
    "llguidance": "1.9.1",
}

SEEN_NODES = ("dev.before", "dev.after")

# Both in one namespace, since each has a /dev of its own. Folders are passed over: in a fake root /dev is that of the
# machine outside, where other programs come and go in /dev/shm and /dev/pts.
WATCHED = """list() { find /dev -xdev ! -type d -exec ls -ldn --time-style=+ {} + | sort; }
before=$1 after=$2; shift 2; list >"$before"; "$@"; status=$?; list >"$after"; exit $status"""


@dataclass
class Machine:
    """One machine; paths given to its methods are those inside."""

    folder: Path  # where its state lies outside
    stubs: Path  # cache of built stand-ins
    python: str = sys.executable  # the interpreter that is examined
    environment: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)  # given to every check
    files: dict[str, dict[str, str]] = field(
        default_factory=lambda: {name: {} for name in (*entering.KERNEL_FOLDERS, *entering.EXTRA_FOLDERS)}
    )
    links: dict[str, dict[str, str]] = field(default_factory=lambda: {"pci": {}})
    nodes: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # name → mode, major, minor
    plain_files_in_dev: list[str] = field(default_factory=list)
    release: str | None = None  # what /proc/sys/kernel/osrelease says
    steps: list[tuple[str, ...]] = field(default_factory=list)  # further commands before entering: mounts and limits
    rootless: int | None = None  # the plain user whose own namespaces make the machine
    connected: bool = False  # it has the network of the machine outside

    def __post_init__(self) -> None:
        for name in ("usr", "usr.work", "etc", "etc.work", "home", "tmp", "dev"):
            (self.folder / name).mkdir(parents=True)

    # What the kernel says

    def module(self, version: str, uvm: bool = True) -> None:
        """The NVIDIA kernel module of ``version`` is loaded, with its device nodes."""
        line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Thu Jun  1 00:00:00 UTC 2023\n"
        self.files["driver"]["nvidia/version"] = line + "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
        self.files["module"] |= {"nvidia/version": version + "\n", "nvidia/initstate": "live\n"}
        self.nodes |= {"nvidiactl": (0o666, 195, 255), "nvidia0": (0o666, 195, 0)}
        if uvm:
            self.files["module"]["nvidia_uvm/initstate"] = "live\n"
            self.nodes["nvidia-uvm"] = (0o666, 510, 0)

    def card(self, driver: str | None = "nvidia", device: str = "1bb3") -> None:
        """An NVIDIA card (a Tesla P4 by default) bound to the kernel driver ``driver``."""
        slot = "0000:01:00.0"
        for name, value in (("vendor", "0x10de"), ("device", f"0x{device}"), ("class", "0x030200")):
            self.files["pci"][f"devices/{slot}/{name}"] = value + "\n"
        if driver:
            self.files["pci"][f"drivers/{driver}/bind"] = ""
            self.links["pci"][f"devices/{slot}/driver"] = f"../../drivers/{driver}"
        if driver == "nouveau":
            self.files["module"]["nouveau/initstate"] = "live\n"

    # What lies on the disk

    def write(self, path: str, content: bytes | str = b"", mode: int = 0o644) -> None:
        target = self._upper(path)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def link(self, path: str, target: str) -> None:
        self._upper(path).unlink(missing_ok=True)
        self._upper(path).symlink_to(target)

    def library(self, path: str, soname: str, *definitions: str, bits: int = 64) -> None:
        """A stand-in built from stubs.c; ``bits`` 32 rewrites the ELF header's class."""
        content = bytearray(build_stub(self.stubs, soname, definitions).read_bytes())
        if bits == 32:
            content[4], content[18:20] = 1, (3).to_bytes(2, "little")
        self.write(path, bytes(content), 0o755)

    def driver_libraries(
        self,
        version: str,
        folder: str = LIB,
        chain: bool = True,
        nvml_code: int = 0,
        health: tuple[str, ...] = (),
        cards: int = 1,
    ) -> None:
        """libcuda and libnvidia-ml of ``version`` as a distribution lays them, with their chains of links."""
        for name, *definitions in (
            ("cuda", "LIB_CUDA", "CUDA_VERSION=12020"),
            (
                "nvidia-ml",
                "LIB_NVML",
                f"NVML_CODE={nvml_code}",
                f'DRIVER_VERSION="{version}"',
                f"GPUS={cards}",
                *health,
            ),
        ):
            self.library(f"{folder}/lib{name}.so.{version}", f"lib{name}.so.1", *definitions)
            if chain:
                self.link(f"{folder}/lib{name}.so.1", f"lib{name}.so.{version}")
        if chain:
            self.link(f"{folder}/libcuda.so", "libcuda.so.1")

    def toolkit(self, version: str = "12.2", folder: str | None = None, libraries: tuple[str, ...] = ()) -> str:
        """A CUDA toolkit under /usr/local, named by /usr/local/cuda; returns its folder."""
        folder = folder or f"/usr/local/cuda-{version}"
        major = version.split(".")[0]
        self.write(f"{folder}/version.json", json.dumps({"cuda": {"name": "CUDA SDK", "version": f"{version}.0"}}))
        for name in libraries or ("cudart", "nvrtc", "cublasLt"):
            self.library(f"{folder}/lib64/lib{name}.so.{major}", f"lib{name}.so.{major}")
            self.link(f"{folder}/lib64/lib{name}.so", f"lib{name}.so.{major}")
        return folder

    def discard(self, path: str) -> None:
        """Take away what the machine was given."""
        self._upper(path).unlink()

    def remove(self, path: str) -> None:
        """Take a file or folder of the outer machine away (an overlay's whiteout)."""
        os.mknod(self._upper(path), stat.S_IFCHR, os.makedev(0, 0))

    def remove_toolkits(self) -> None:
        """The toolkits of the machine that the lab runs on."""
        for path in (Path("/usr/local/cuda"), *Path("/usr/local").glob("cuda-*")):
            if os.path.lexists(path):
                self.remove(str(path))

    def remove_compilers(self) -> None:
        for path in Path("/usr/bin").iterdir():
            if re.fullmatch(r"(.*-)?(gcc|cc|clang|c99|c89|tcc)(-\d+)?", path.name):
                self.remove(str(path))

    def default_toolkit(self, target: str) -> None:
        self.link("/usr/local/cuda", target)

    def refresh_linker_cache(self) -> None:
        """ldconfig inside: what the package's own script would have done."""
        done = self.run("ldconfig")
        assert done.returncode == 0, done.stderr

    def _upper(self, path: str) -> Path:
        top, _, rest = path.removeprefix("/").partition("/")
        base = {"usr": self.folder / "usr", "etc": self.folder / "etc"}.get(top)
        target = (base / rest) if base else self.folder / "tree" / top / rest
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def open_home(self) -> None:
        """Let a plain user write where users write."""
        (self.folder / "home").chmod(0o777)
        (self.folder / "tmp").chmod(0o1777)

    def folder_of_size(self, path: Path, size: str) -> None:
        """A file system of its own, as small as "64k", lies at ``path`` (a folder outside ``/usr`` and ``/etc``)."""
        path.mkdir(parents=True, exist_ok=True)
        self.steps.append(("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "lab", str(path)))

    def mounted_with(self, path: Path, options: str) -> None:
        """``path`` is mounted with ``options``, as "ro" or "noexec"."""
        path.mkdir(parents=True, exist_ok=True)
        self.steps.append(("mount", "--bind", str(path), str(path)))
        self.steps.append(("mount", "-o", f"remount,bind,{options}", str(path)))

    def patient(self, torch: str | None = "2.4.1+cu121", cuda: str | None = "12.1", **packages: str | None) -> Path:
        """Have another Python examined: torch and ``packages`` as said; returns its site-packages."""
        self.python = make_patient(self.folder / "venv", self.stubs, torch, cuda, packages)
        [site] = (self.folder / "venv").glob("lib/python3*/site-packages")
        return site

    # What is done to it

    def run(self, *command: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root or as ``user`` (a plain user id)."""
        argv, environment = self.entered(command, user)
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment)

    def entered(self, command: Sequence[str], user: int | None = None) -> tuple[list[str], dict[str, str]]:
        """The program that runs a command inside, and the environment to start it with."""
        if self.rootless and os.geteuid() == 0:
            subprocess.run(["chown", "-R", "-h", f"{self.rootless}:{self.rootless}", str(self.folder)], check=True)
        return entering.argv(self, command, user), self._environment(self.rootless or user)

    def glmdoctor(self, *arguments: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(str(SCRIPTS / "glmdoctor"), *arguments, user=user)

    def check(self, *arguments: str, user: int | None = None) -> dict[str, Any]:
        """The JSON report, of a doctor that did not crash and left files and device nodes as they were."""
        named = ("--python", self.python, *self.arguments, *arguments)
        before, nodes = self.tree(), [self.folder / "tmp" / name for name in SEEN_NODES]
        watched = ("sh", "-c", WATCHED, "sh", *map(str, nodes), str(SCRIPTS / "glmdoctor"), "check", "--json")
        done = self.run(*watched, *named, user=user)
        assert done.returncode in (0, 1), done.stderr + done.stdout
        assert self.tree() == before
        assert nodes[0].read_text() == nodes[1].read_text()
        return json.loads(done.stdout)

    def tree(self) -> dict[str, str]:
        """Everything that differs from the machine outside: path → what it is (a link's target, a file's hash)."""
        return {
            str(path.relative_to(self.folder)): describe(path)
            for top in ("usr", "etc", "home", "tmp", "tree")
            for path in sorted((self.folder / top).rglob("*"))
            if ".cache" not in path.parts and path.name not in SEEN_NODES
        }

    def _environment(self, user: int | None) -> dict[str, str]:
        # One cache for all machines of a run: the kernel is built once, not for each machine.
        cache = self.stubs / ("cache" if user is None else f"cache-{user}")
        if not cache.exists():
            cache.mkdir()
            os.chown(cache, user or 0, user or 0)
        kept = {"PATH": f"{SCRIPTS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        return {
            **kept,
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_CACHE_HOME": str(cache),
            **self.environment,
        }


def build_stub(cache: Path, soname: str, definitions: tuple[str, ...]) -> Path:
    """Compile stubs.c once for each SONAME and set of answers."""
    key = hashlib.sha256(repr((soname, definitions)).encode()).hexdigest()[:16]
    path = cache / f"{key}.so"
    if not path.exists():
        flags = [f"-D{definition}" for definition in definitions]
        command = ["gcc", "-shared", "-fPIC", "-Os", f"-Wl,-soname,{soname}", *flags, "-o", str(path), str(STUBS)]
        subprocess.run(command, check=True, capture_output=True)
    return path


def make_patient(
    folder: Path,
    stubs: Path,
    torch: str | None = "2.4.1+cu121",
    cuda: str | None = "12.1",
    packages: Mapping[str, str | None] = MappingProxyType({}),
) -> str:
    """A Python whose packages are metadata and a torch version file alone: all that the doctor reads of them."""
    # The system's own Python, where there is one: a plain user can run it, root's private one perhaps not.
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else os.path.realpath(sys.executable)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(python)
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    (folder / "pyvenv.cfg").write_text(f"home = {os.path.dirname(python)}\nversion = {version}\n")
    site = folder / "lib" / f"python{version.rpartition('.')[0]}" / "site-packages"
    site.mkdir(parents=True)
    for name, version in {**PACKAGES, "torch": torch, **packages}.items():
        if version is not None:
            (site / f"{name}-{version}.dist-info").mkdir()
            (site / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    if torch is None:
        return str(folder / "bin" / "python")
    (site / "torch").mkdir()
    (site / "torch" / "version.py").write_text(f"__version__ = {torch!r}\ncuda = {cuda!r}\nhip = None\n")
    for wheel, name in (("cuda_runtime", "cudart"), ("cuda_nvrtc", "nvrtc"), ("cublas", "cublasLt")) if cuda else ():
        library = site / "nvidia" / wheel / "lib" / f"lib{name}.so.{numbered(name, cuda)}"
        library.parent.mkdir(parents=True)
        library.write_bytes(build_stub(stubs, library.name, ()).read_bytes())
    return str(folder / "bin" / "python")


def numbered(name: str, cuda: str) -> str:
    """The number in a CUDA library's SONAME; cudart kept its minor number until CUDA 12."""
    major = cuda.partition(".")[0]
    return "11.0" if (major, name) == ("11", "cudart") else major


def describe(path: Path) -> str:
    status = path.lstat()
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if path.is_file():
        return f"file {status.st_mode & 0o7777:o} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    return f"other {status.st_mode:o}"
