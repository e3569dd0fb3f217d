"""Fake roots and real, tiny ELF files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from glmdoctor.host.io import RealIO

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def shared_object(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """shared_object(soname, source="", bits=64) → a file that gcc linked; 32 bits by rewriting the ELF class."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc builds the ELF files of this test")
    folder = tmp_path_factory.mktemp("elf")
    built: dict[tuple[str, str, int], Path] = {}

    def build(soname: str, source: str = "", bits: int = 64) -> Path:
        key = (soname, source, bits)
        if key not in built:
            path = folder / f"{len(built)}.so"
            subprocess.run(
                ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), f"-Wl,-soname,{soname}"],
                input=source,
                text=True,
                check=True,
            )
            if bits == 32:
                raw = bytearray(path.read_bytes())
                raw[4] = 1  # EI_CLASS
                path.write_bytes(raw)
            built[key] = path
        return built[key]

    return build


class Root:
    """A folder that stands for "/"."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def io(self, **environ: str) -> RealIO:
        return RealIO(str(self.path), environ={"PATH": "/usr/bin:/bin", **environ})

    def file(self, path: str, content: str | bytes | Path = b"") -> None:
        place = self._place(path)
        if isinstance(content, Path):
            shutil.copy(content, place)
        else:
            place.write_bytes(content.encode() if isinstance(content, str) else content)

    def link(self, path: str, target: str) -> None:
        os.symlink(target, self._place(path))

    def folder(self, path: str) -> None:
        (self.path / path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def program(self, path: str, script: str = "") -> None:
        self.file(path, f"#!/bin/sh\n{script}\n")
        self._place(path).chmod(0o755)

    def _place(self, path: str) -> Path:
        place = self.path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path / "root")
