"""Folders that stand for "/", with real, tiny ELF files, and a glmdoctor that treats them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LIB = "/usr/lib/x86_64-linux-gnu"
MODULE, OTHER = "535.183.01", "550.54.14"
HOME = "/home/user"
DATA, STATE = f"{HOME}/.local/share/glmdoctor", f"{HOME}/.local/state/glmdoctor"


@dataclass
class Root:
    """A machine below ``path``; paths given to its methods are those inside."""

    LIB, MODULE, OTHER, HOME, DATA, STATE = LIB, MODULE, OTHER, HOME, DATA, STATE
    path: Path
    elf: Path
    environ: dict[str, str] = field(default_factory=dict)

    def place(self, path: str) -> Path:
        place = self.path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def file(self, path: str, content: str = "", mode: int = 0o644) -> None:
        self.place(path).write_text(content)
        self.place(path).chmod(mode)

    def link(self, path: str, target: str) -> None:
        self.place(path).unlink(missing_ok=True)
        self.place(path).symlink_to(target)

    def library(self, path: str, soname: str, *, stub: bool = False) -> None:
        """A shared object; a driver's is padded to a size that no link-time stub has."""
        self.place(path).write_bytes(shared_object(self.elf, soname).read_bytes() + b"\0" * (0 if stub else 1 << 20))

    def driver(self, version: str, *, module: str | None = None, folder: str = LIB, chain: bool = True) -> None:
        """The kernel module and the user-space libraries, with their chains of links."""
        self.file(
            "/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {module or version}  x\n"
        )
        self.file("/sys/module/nvidia/version", f"{module or version}\n")
        for name in ("cuda", "nvidia-ml"):
            self.library(f"{folder}/lib{name}.so.{version}", f"lib{name}.so.1")
            if chain:
                self.link(f"{folder}/lib{name}.so.1", f"lib{name}.so.{version}")

    def toolkit(
        self, folder: str = "/usr/local/cuda-12.2", names: tuple[str, ...] = ("cudart", "nvrtc", "cublasLt")
    ) -> None:
        self.file(f"{folder}/version.json", '{"cuda": {"version": "12.2.0"}}')
        for name in names:
            self.library(f"{folder}/lib64/lib{name}.so.12", f"lib{name}.so.12")
            self.link(f"{folder}/lib64/lib{name}.so", f"lib{name}.so.12")
        self.link("/usr/local/cuda", folder)

    def refresh_linker_cache(self) -> None:
        self.file("/etc/ld.so.conf", f"{LIB}\n")
        program = shutil.which("ldconfig", path="/usr/sbin:/sbin")
        assert program
        subprocess.run([program, "-X", "-r", str(self.path)], check=True, capture_output=True)

    def glmdoctor(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """The real command on this root, without a terminal."""
        kept = {name: os.environ[name] for name in ("PATH", "XDG_CACHE_HOME") if name in os.environ}
        variables = {
            "GLMDOCTOR_ROOT": str(self.path),
            "HOME": HOME,
            "LANG": "C.UTF-8",
            **kept,
            **self.environ,
            **environ,
        }
        return subprocess.run(
            [sys.executable, "-m", "glmdoctor", *arguments],
            env={"PYTHONPATH": str(Path(__file__).parents[3]), "XDG_CACHE_HOME": str(self.elf), **variables},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def tree(self, *, journal: bool = False) -> dict[str, str]:
        """Path → what lies there, but for the doctor's own journal."""
        every = tree_of(str(self.path))
        return every if journal else {path: what for path, what in every.items() if not _of_journal(path)}


def tree_of(root: str) -> dict[str, str]:
    return {str(path).removeprefix(root): describe(path) for path in sorted(Path(root).rglob("*"))}


def _of_journal(path: str) -> bool:
    return STATE.startswith(path) or path.startswith(STATE)


def describe(path: Path) -> str:
    status = path.lstat()
    if path.is_symlink():
        return f"link {os.readlink(path)} {status.st_uid}:{status.st_gid} {status.st_mtime_ns}"
    if path.is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return f"file {status.st_mode & 0o7777:o} {status.st_uid}:{status.st_gid} {status.st_mtime_ns} {digest}"
    return f"folder {status.st_mode & 0o7777:o}"


def shared_object(folder: Path, soname: str) -> Path:
    path = folder / soname
    if not path.exists():
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "/dev/null", "-o", str(path), f"-Wl,-soname,{soname}"]
        subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc builds the ELF files of this test")
    return tmp_path_factory.mktemp("elf")


@pytest.fixture
def snapshot() -> Callable[[str], dict[str, str]]:
    """Everything below a folder, in as much detail as an undo promises to restore."""
    return tree_of


@pytest.fixture
def root(tmp_path: Path, elf: Path) -> Root:
    made = Root(tmp_path / "root", elf)
    made.place(f"{HOME}/x")
    return made
