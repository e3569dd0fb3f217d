"""The wheel, built and installed in empty environments elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from environments import make_environment

ROOT = Path(__file__).resolve().parent.parent


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment, timeout=240, **options
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source") / "tree"
    listed = run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    built = run(sys.executable, "-m", "build", "--wheel", "--outdir", source / "dist", source)
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the doctor alone."""
    folder = tmp_path_factory.mktemp("light") / "venv"
    make_environment(folder)
    installed = run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    if installed.returncode and "No matching distribution" in installed.stderr:
        pytest.skip("the package index cannot be reached")
    assert installed.returncode == 0, installed.stderr
    return folder


def test_wheel_carries_data_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "glmdoctor/knowledge/problems.json" in names
    assert "glmdoctor/messages/zh.json" in names
    assert any(name.startswith("glmcore/kernels/cpu/") and name.endswith(".c") for name in names)
    assert "glmcore/kernels/cuda/extract.cu" in names
    assert any(name.startswith("glmcore/demo/") and name.endswith(".safetensors") for name in names)
    assert not any(name.startswith(("tests/", "scripts/")) for name in names)


def test_doctor_alone_examines_without_torch(light: Path, tmp_path: Path) -> None:
    missing = run(light / "bin" / "python", "-c", "import torch")
    assert missing.returncode == 1
    checked = run(light / "bin" / "glmdoctor", "check", "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert '"schema_version": 1' in checked.stdout


def test_chat_without_the_runtime_says_what_to_install(light: Path, tmp_path: Path) -> None:
    answered = run(light / "bin" / "glmcore", "chat", "--once", "hello", cwd=tmp_path)
    assert answered.returncode == 1
    assert answered.stderr.startswith("glmcore: error[packages-missing]")
    assert answered.stderr.count("\n") == 1


def test_wheel_with_the_runtime_chats(wheel: Path, tmp_path: Path) -> None:
    """The wheel itself in an empty environment; torch and the like are lent by the environment of the tests."""
    folder = tmp_path / "venv"
    site = make_environment(folder)
    installed = run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    assert installed.returncode == 0, installed.stderr
    lent = [entry for entry in sys.path if "-packages" in entry]
    (site / "lent.pth").write_text("\n".join(lent) + "\n", encoding="utf-8")
    where = run(folder / "bin" / "python", "-c", "import glmcore; print(glmcore.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(folder))
    answered = run(folder / "bin" / "glmcore", "chat", "--once", "hello", "--temperature", "0", cwd=tmp_path)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.strip()
