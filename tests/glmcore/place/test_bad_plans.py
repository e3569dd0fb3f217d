"""Plans that cannot be carried out, given to the program: one clear line, nothing loaded, nothing left in memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from golden_cases import GOLDEN

from glmcore.checkpoint import open_checkpoint
from glmcore.cli import main
from glmcore.config import NAMED
from glmcore.plan import Device, Precision, make_plan

MODEL = GOLDEN / "v2" / "base"


def saved(device: str = "cpu", **changes) -> str:
    with open_checkpoint(MODEL) as checkpoint:
        config = checkpoint.config
    made = make_plan(config, [Device(device, 2**34)], precision=Precision(config.dtype), context=64)
    return json.dumps(made.to_json() | changes)


def other_model() -> str:
    config = NAMED["glm-4-9b"]
    return json.dumps(make_plan(config, [Device("cpu", 2**36)], precision=Precision(config.dtype)).to_json())


PLANS = {
    "a device that is not here": (lambda: saved("cuda:77"), "device-missing", "cuda:77 is not on this machine"),
    "another model": (other_model, "plan-invalid", "the plan is for glm-4-9b"),
    "another version": (lambda: saved(schema_version=2), "plan-invalid", "schema version 2"),
    "cut off": (lambda: saved()[:-40], "plan-invalid", "this is no plan"),
    "one that does not fit": (lambda: saved(fits=False), "plan-invalid", "does not fit"),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_bad_plan_is_one_line(tmp_path, name, monkeypatch, capsys):
    make, code, said = PLANS[name]
    path = tmp_path / "plan.json"
    path.write_text(make(), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["glmcore", "bench", str(MODEL), "--plan", str(path), "--prompt", "4"])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 1 and printed.out == ""
    assert printed.err.startswith(f"glmcore: error[{code}]") and said in printed.err and printed.err.count("\n") == 1


LIMITED = """
import gc, resource, sys
import psutil, torch
from glmcore.errors import GlmError
from glmcore.place.loader import load_model

torch.set_num_threads(1)
load_model(sys.argv[1], dtype="float32")  # libraries and threads have what they need
process = psutil.Process()
gc.collect()
before = process.memory_info()
resource.setrlimit(resource.RLIMIT_AS, (before.vms + int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    load_model(sys.argv[2], dtype="bfloat16")  # other than the file's, so that memory is taken for each tensor
    print("loaded")
except GlmError as error:
    gc.collect()
    print(error.code, error.what, error.where, sep="|")
    print((process.memory_info().rss - before.rss) // 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_memory_that_really_runs_out_while_placing_is_freed(tmp_path):
    """The allocator itself refuses here: a model of 330 MB, in 200 MiB of address space."""
    from safetensors.torch import load_file, save_file

    config = json.loads((MODEL / "config.json").read_text())
    tensors = load_file(MODEL / "model.safetensors")
    rows = 640_000
    for name, tensor in tensors.items():
        if tensor.shape[:1] == (config["padded_vocab_size"],):
            tensors[name] = tensor.new_zeros(rows, tensor.shape[1])
    large = tmp_path / "large"
    large.mkdir()
    save_file(tensors, large / "model.safetensors")
    (large / "config.json").write_text(json.dumps(config | {"padded_vocab_size": rows}))
    command = [sys.executable, "-c", LIMITED, str(MODEL), str(large), str(200 * 2**20)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, left = done.stdout.splitlines()
    assert first.startswith("memory-short|cpu has no memory left for "), first
    assert "MiB|" in first and first.endswith(".weight"), first
    assert int(left) < 40
