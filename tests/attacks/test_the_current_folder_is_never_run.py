"""Somebody stands in a folder that a stranger filled, and starts one of the programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import glmcore.cli
import glmdoctor.cli
from glmcore import demo, programs

ROOT = Path(__file__).resolve().parents[2]
# What the programs and the children that they start import, by themselves or through their packages.
MODULES = ("safetensors", "click", "json", "ctypes", "pip", "typing_extensions", "pynvml", "psutil", "readline",
           "sitecustomize", "usercustomize", "filelock", "tempfile", "hashlib", "rich", "numpy", "torch")  # fmt: skip


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder in which every module leaves its name in the file ``run`` when it is imported."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'a').write('{name} ')\n")
    return folder


def ran(trap: Path) -> str:
    file = trap.parent / "run"
    return file.read_text() if file.exists() else ""


def started(trap: Path, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **variables}
    return subprocess.run(
        command, cwd=trap, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("path", [str(ROOT), f":{ROOT}", f".:{ROOT}"], ids=["plain", "empty-entry", "relative-entry"])
@pytest.mark.parametrize(
    "arguments",
    [("glmdoctor", "check", "--only", "system.cpu"), ("glmdoctor", "explain", "/dev/null"),
     ("glmcore", "chat", "--help"), ("glmcore", "chat", "--once", "x", "--model", ".")],
    ids=lambda words: "-".join(words[:3]),
)  # fmt: skip
def test_python_m_imports_nothing_from_there(trap: Path, arguments: tuple[str, ...], path: str) -> None:
    if path != str(ROOT):  # Python imports these two before our first line, where PYTHONPATH leads to them
        (trap / "sitecustomize.py").unlink()
        (trap / "usercustomize.py").unlink()
    done = started(trap, [sys.executable, "-m", *arguments], PYTHONPATH=path)
    assert ran(trap) == "", done.stderr


def test_another_glmcore_that_lies_there_is_not_the_doctors(trap: Path) -> None:
    (trap / "glmcore").mkdir()
    for name in ("__init__", "startup"):
        (trap / "glmcore" / f"{name}.py").write_text((trap / "json.py").read_text())
    done = started(trap, [sys.executable, "-m", "glmdoctor", "check", "--only", "system.cpu"])
    assert ran(trap) == "" and done.returncode == 0, done.stderr


def test_the_chat_that_the_doctor_starts_imports_nothing_from_there(trap: Path) -> None:
    done = started(trap, [sys.executable, "-m", "glmdoctor", "chat", "--anyway", "--once", "x", "--model", "."])
    assert ran(trap) == "", done.stderr
    assert "glmcore: error" in done.stderr  # the folder holds no model: glmcore itself says so


@pytest.mark.parametrize("path", ["", ":", ".", "./x::."])
def test_children_of_every_kind_import_nothing_from_there(trap: Path, path: str) -> None:
    python, environment = sys.executable, {"PYTHONPATH": path, "PYTHONINSPECT": "", "PATH": os.environ["PATH"]}
    module = programs.with_packages(python, "-m", "pip", "--version")
    for command in (module, programs.isolated(python, "-c", "import json, ctypes; print(json)")):
        done = subprocess.run(command, cwd=trap, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and ran(trap) == "", done.stderr


def test_children_import_what_a_plain_start_imports(tmp_path: Path) -> None:
    """But for the current folder: PYTHONPATH's folders first, then the standard library, the user's own, the rest."""
    named, user = tmp_path / "named", tmp_path / "user"
    named.mkdir()
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = os.path.realpath(f"{sys.base_prefix}/bin/{version}")
    (user / "lib" / version / "site-packages").mkdir(parents=True)
    script = tmp_path / "show.py"
    script.write_text("import sys; print(*sys.path, sep='\\n')")
    environment = {"PYTHONPATH": str(named), "PYTHONUSERBASE": str(user), "PATH": os.environ["PATH"]}

    def shown(command: list[str]) -> list[str]:
        shown = subprocess.check_output(command, cwd=named, env=environment, text=True, timeout=60)
        return [line for line in shown.splitlines() if line != str(tmp_path)]

    found = shown(programs.with_packages(base, str(script)))
    plain = shown([base, str(script)])
    if os.geteuid() == 0:  # the user's packages lie below /tmp, where root takes nothing from
        plain = [folder for folder in plain if not folder.startswith(str(user))]
    assert found == plain


@pytest.mark.parametrize("path", [".:{}", ":{}", "bin:{}", "{}:", "."])
def test_compilers_and_tools_are_not_taken_from_there(trap: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    for place in (trap, trap / "bin"):
        place.mkdir(exist_ok=True)
        for name in ("gcc", "cc", "clang", "as", "ld", "dmesg"):
            (place / name).write_text(f"#!/bin/sh\necho {name} >>{trap.parent / 'run'}\n")
            (place / name).chmod(0o755)
    monkeypatch.chdir(trap)
    monkeypatch.setenv("PATH", path.format(os.environ["PATH"]))
    for name in ("gcc", "cc", "clang"):
        found = programs.which(name)
        assert found is None or not found.startswith(str(trap))
    from glmcore.kernels.build import find_compilers

    assert not [each for each in find_compilers() if not os.path.isabs(each.path) or each.path.startswith(str(trap))]
    done = started(trap, [sys.executable, "-m", "glmdoctor", "check", "--only", "compiler.found"])
    assert ran(trap) == "", done.stderr


@pytest.mark.parametrize("folders", [":/usr/lib", "/usr/lib;."])
def test_the_loader_takes_no_library_from_there(trap: Path, folders: str) -> None:
    """What torch asks for, libgomp, was taken from beside the checkpoint: a leading colon is enough."""
    if shutil.which("gcc") is None or sys.platform != "linux":
        pytest.skip("gcc makes the library of this test")
    shutil.copytree(demo.folder(), trap, dirs_exist_ok=True)
    opened = f'fopen("{trap.parent}/run", "a")'
    source = f"#include <stdio.h>\n__attribute__((constructor)) void run(void) {{ fputs(\"lib \", {opened}); }}"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(trap / "libgomp.so.1")]
    subprocess.run(command, input=source, text=True, check=True)
    done = started(trap, [sys.executable, "-m", "glmcore", "info", "."], LD_LIBRARY_PATH=folders)
    assert ran(trap) == "" and done.returncode == 0, done.stderr


@pytest.mark.parametrize("folders", [":/usr/lib", "/usr/lib:", ".:/usr/lib", "/usr/lib;.", "::/usr/lib:"])
@pytest.mark.parametrize("program", [glmcore.cli, glmdoctor.cli], ids=["glmcore", "glmdoctor"])
def test_both_begin_anew_without_it(monkeypatch: pytest.MonkeyPatch, program: ModuleType, folders: str) -> None:
    def execve(path: str, arguments: list[str], environment: dict[str, str]) -> None:
        raise SystemExit(environment["LD_LIBRARY_PATH"])

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv("LD_LIBRARY_PATH", folders)
    with pytest.raises(SystemExit, match=r"^/usr/lib$"):
        program.main()


def test_children_work_in_the_root_folder(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else looks into the working folder (compilers, their options, pip) finds nothing there either."""
    monkeypatch.chdir(trap)
    monkeypatch.setenv("LD_LIBRARY_PATH", f":.:{trap}")
    done = programs.run(["sh", "-c", 'pwd; echo "$LD_LIBRARY_PATH"'], 20)
    assert done.out.split() == ["/", str(trap)]
