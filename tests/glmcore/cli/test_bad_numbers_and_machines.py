"""glmcore chat where the machine or the weights fail: one clear line or an announced detour, never silent garbage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.tensor_files import TensorInfo
from glmcore.checkpoint.writer import write_safetensors
from glmcore.place import quantize_checkpoint

ROOT = Path(__file__).resolve().parents[3]
CHAT = [
    sys.executable,
    "-m",
    "glmcore",
    "chat",
    "--once",
    "who are you?",
    "--temperature",
    "0",
    "--max-new-tokens",
    "8",
]


def chat(*options: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, *CHAT, *options], capture_output=True, text=True, cwd=ROOT, timeout=300,
        env={**os.environ, **environment},
    )  # fmt: skip


def spoiled(folder: Path, quantize: str | None, value: float) -> Path:
    """The demo model with ``value`` in the first layer's norm: its linears are then given such activations."""
    if quantize:
        with open_checkpoint(demo.folder()) as source:
            quantize_checkpoint(source, folder, quantize)
    else:
        shutil.copytree(demo.folder(), folder)
    with open_checkpoint(folder) as opened:
        tensors = {name: opened.tensor(name) for name in opened.names}
    next(t for name, t in tensors.items() if name.endswith("layers.1.input_layernorm.weight"))[3] = value
    for path in folder.glob("model*"):
        path.unlink()
    layout = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    write_safetensors(folder / "model.safetensors", layout, tensors.items())
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("quantize", "options"), [("int4", ["--precision", "exact"]), ("int8", []), (None, [])])
def test_activations_that_are_no_numbers_are_said_once(tmp_path, quantize, options, value):
    done = chat("--model", str(spoiled(tmp_path / "model", quantize, value)), *options)
    assert done.returncode == 1 and done.stdout.strip() == ""
    assert done.stderr.startswith("glmcore: error[not-finite]") and len(done.stderr.splitlines()) == 1


def test_without_a_compiler_and_with_nan_it_is_said_too(tmp_path):
    done = chat(
        "--model", str(spoiled(tmp_path / "model", "int4", float("nan"))), PATH="/nowhere",
        XDG_CACHE_HOME=str(tmp_path / "cache"), HOME=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout.strip() == ""
    lines = done.stderr.splitlines()
    assert sum("error[not-finite]" in line for line in lines) == 1 and "Traceback" not in done.stderr


def test_without_a_compiler_it_says_so_and_answers(tmp_path):
    done = chat("--quant", "int4", PATH="/nowhere", XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 0 and done.stdout.strip()
    assert done.stderr.count("no C compiler found") == 1 and "Traceback" not in done.stderr


def test_more_threads_than_cores_answer_the_same():
    usual, many = chat("--quant", "int4"), chat("--quant", "int4", "--threads", str(4 * (os.cpu_count() or 1)))
    assert many.returncode == 0, many.stderr
    assert many.stdout == usual.stdout != ""


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="mounting a small file system takes root and unshare",
)
@pytest.mark.parametrize(("full", "said"), [(("XDG_CACHE_HOME",), 0), (("XDG_CACHE_HOME", "TMPDIR"), 1)])
def test_a_full_cache_is_gone_around_or_said(tmp_path, full, said):
    """The kernel is then kept among the temporary files; where these are full as well, torch computes."""
    small, other = tmp_path / "small", tmp_path / "other"
    small.mkdir(), other.mkdir()
    inside = f'mount -t tmpfs -o size=16k,mode=700 none "{small}" && exec "$@"'
    places = {"XDG_CACHE_HOME": str(other), "TMPDIR": str(other)} | dict.fromkeys(full, str(small))
    done = chat("--quant", "int4", before=("unshare", "--mount", "sh", "-c", inside, "sh"), **places)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    assert done.stderr.count("the CPU kernel is kept in") == 1 - said, done.stderr
    assert done.stderr.count("no CPU kernel") == said and "Traceback" not in done.stderr


def test_the_spoiled_model_is_spoiled_by_its_number_alone(tmp_path):
    done = chat("--model", str(spoiled(tmp_path / "model", "int4", 1.0)))
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
