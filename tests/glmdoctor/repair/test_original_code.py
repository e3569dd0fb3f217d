"""The original quantization.py gets the verified kernel as its kernel_file, and works by it as published."""

from __future__ import annotations

import ctypes
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from glmdoctor.remedies import original

# The parts of the published file that load a kernel, shortened; what it calls on it is as published.
PUBLISHED = '''
import ctypes
import os


class CPUKernel:
    def __init__(self, kernel_file="", source_code="", compile_parallel_kernel=None, parallel_num=None):
        self.load = False
        kernels = None
        if (not kernel_file) or (not os.path.exists(kernel_file)):
            print("No compiled kernel found.")
        if kernel_file:
            kernels = ctypes.cdll.LoadLibrary(kernel_file)
        if kernels is not None:
            self.int8WeightExtractionFloat = kernels.extract_int8_weight_to_float
            self.int4WeightExtractionFloat = kernels.extract_int4_weight_to_float
            self.int4WeightCompression = kernels.compress_int4_weight
            self.SetNumThreads = kernels.set_num_threads
            self.load = True
            self.SetNumThreads(2)


def load_cpu_kernel(**kwargs):
    global cpu_kernels
    cpu_kernels = CPUKernel(**kwargs)
    assert cpu_kernels.load


def quantize(model, weight_bit_width, use_quantization_cache=False, empty_init=False, **kwargs):
    """Replace fp16 linear with quantized linear"""
    try:
        load_cpu_kernel(**kwargs)
    except:
        print("Cannot load cpu kernel, don't use quantized model on cpu.")
        raise
    return model
'''


def test_one_call_is_changed_and_nothing_else() -> None:
    changed = original.with_kernel(PUBLISHED, "/home/a b/kernel.so")
    assert changed is not None
    differ = [(a, b) for a, b in zip(PUBLISHED.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert differ == [
        ("        load_cpu_kernel(**kwargs)",
         '        load_cpu_kernel(**{"kernel_file": "/home/a b/kernel.so", **kwargs})')
    ]  # fmt: skip
    assert original.with_kernel(changed, "/home/a b/kernel.so") == changed
    again = original.with_kernel(changed, "/elsewhere.so")
    assert again and again.count('kernel_file": "/elsewhere.so') == 1


@pytest.mark.parametrize(
    "source", ["", "x = 1\n", "def load_cpu_kernel(**kwargs):\n    pass\n", "  load_cpu_kernel(**kwargs)\n"]
)
def test_other_files_are_left_alone(source: str) -> None:
    assert original.with_kernel(source, "/k.so") is None


def test_the_lines_of_the_file_keep_their_ends() -> None:
    changed = original.with_kernel(PUBLISHED.replace("\n", "\r\n"), "/k.so")
    assert changed and changed.count("\r\n") == PUBLISHED.count("\n")


@pytest.fixture
def home(root: Any) -> Any:
    """The running system with a home folder of its own: a checkpoint, and transformers' copy of its code."""
    model = root.path / "home" / "models" / "chatglm-6b-int4"
    copies = root.path / "home" / ".cache" / "huggingface" / "modules" / "transformers_modules"
    for folder in (model, copies / "chatglm-6b-int4", copies / "another-model"):
        folder.mkdir(parents=True)
        (folder / "quantization.py").write_text(PUBLISHED)
    (model / "quantization_kernels.c").write_text("/* C */\n")
    hub = str(root.path / "home" / ".cache" / "huggingface")
    root.environ.update(GLMDOCTOR_ROOT="/", HOME=str(root.path / "home"), HF_HOME=hub)
    return root


def files(root: Any) -> dict[str, str]:
    return {path: what for path, what in root.tree().items() if "/.local" not in path and "glmdoctor" not in path}


def test_fix_kernel_passes_the_kernel_file(home: Any) -> None:
    model, copies = home.path / "home/models/chatglm-6b-int4", home.path / "home/.cache/huggingface/modules"
    before = files(home)
    done = home.glmdoctor("fix", "--kernel", "--model", str(model), "--yes", "--json")
    plans = {plan["id"]: plan for plan in json.loads(done.stdout)["plans"]}
    assert plans["pass-kernel-file"]["outcome"] == "repaired", done.stdout + done.stderr
    copy = copies / "transformers_modules/chatglm-6b-int4"
    assert (copy / "quantization_kernels.c").read_text() == "/* C */\n"
    assert (copies / "transformers_modules/another-model/quantization.py").read_text() == PUBLISHED
    for folder in (model, copy):
        works_as_published((folder / "quantization.py").read_text())
    again = json.loads(home.glmdoctor("fix", "--kernel", "--model", str(model), "--yes", "--json").stdout)
    assert again["run"] is None and not any(plan["actions"] for plan in again["plans"])
    undone = home.glmdoctor("undo")
    assert undone.returncode == 0, undone.stderr
    assert files(home) == before


def works_as_published(source: str) -> None:
    """quantize() without a kernel_file, then the calls of extract_weight_to_float and compress_int4_weight."""
    names: dict[str, Any] = {}
    exec(compile(source, "quantization.py", "exec"), names)
    assert names["quantize"]("model", 4) == "model"
    kernels = names["cpu_kernels"]
    rows, columns = 3, 4
    values = [[(row + 2 * column) % 16 - 8 for column in range(columns)] for row in range(rows)]
    weight = (ctypes.c_int8 * (rows * columns))(*(value for row in values for value in row))
    scales = (ctypes.c_float * rows)(0.5, 0.25, 2.0)
    whole, packed = (ctypes.c_float * (rows * columns))(), (ctypes.c_uint8 * (rows * columns // 2))()

    def address(array: Any) -> ctypes.c_void_p:
        return ctypes.c_void_p(ctypes.addressof(array))

    size = ctypes.c_int32(rows), ctypes.c_int32(columns)
    kernels.int8WeightExtractionFloat(address(weight), address(scales), address(whole), *size)
    expected = [value * scale for row, scale in zip(values, scales, strict=True) for value in row]
    assert list(whole) == expected
    half = ctypes.c_int32(rows), ctypes.c_int32(columns // 2)
    kernels.int4WeightCompression(address(weight), address(packed), *half)
    first = struct.unpack("2b", struct.pack("2b", *values[0][:2]))
    assert packed[0] == (first[0] & 15) << 4 | (first[1] & 15)
    whole[:] = [0.0] * len(whole)
    kernels.int4WeightExtractionFloat(address(packed), address(scales), address(whole), *half)
    assert list(whole) == expected


def test_without_a_model_every_copy_is_seen_and_nothing_is_done_in_a_dry_run(home: Any) -> None:
    before = home.tree()
    done = home.glmdoctor("fix", "--kernel", "--dry-run", "--json")
    [plan] = [plan for plan in json.loads(done.stdout)["plans"] if plan["id"] == "pass-kernel-file"]
    written = {action["path"] for action in plan["actions"] if action["kind"] == "write-file"}
    assert {Path(path).parent.name for path in written} == {"chatglm-6b-int4", "another-model"}
    after = {path: what for path, what in home.tree().items() if path in before}
    assert after == before
