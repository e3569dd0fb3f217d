"""The scripts for a card, run without one: their parts, their files, what ends a part, and how they judge."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu_check.py"
spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
gpu_check = importlib.util.module_from_spec(spec)
sys.modules["gpu_check"] = gpu_check
spec.loader.exec_module(gpu_check)

EVERY_PART = """
import sys, gpu_parts, torch
torch.set_num_threads(1)
for name in sys.argv[1:]:
    gpu_parts.PARTS[name](gpu_parts.CPU)
"""


def test_every_part_runs_on_the_cpu(tmp_path):
    """All in one process here, which imports torch once."""
    done = subprocess.run(
        [sys.executable, "-c", EVERY_PART, *gpu_check.ON_CPU], capture_output=True, text=True, timeout=280,
        cwd=SCRIPT.parent,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    record = gpu_check.Record()
    record.take(done.stdout)
    assert not record.failed, record.notes
    result = gpu_check.write(tmp_path, record, [])
    figures = result["figures"]
    for name in ("decode fp16 1x16", "decode int4 2x16", "prefill int4 8", "generate fp16 2x16", "copy GB/s"):
        assert figures[name] > 0
    for name in ("whole", "recorded", "split", "split in chunks"):
        assert figures[f"error chatglm2-6b int4 {name} by torch"] < 1e-4
    if "golden" not in result["notes"]:
        assert figures["error v2/int4 split by torch"] < 1e-4
    assert result["ratios"]["int4 over fp16, 2x16"] > 0 and result["not_run_yet"] == []
    assert "| int4 decode over fp16 | 2.2 | not measured |" in (tmp_path / "gpu_check.md").read_text()


def test_the_command_runs_a_part_in_a_process_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "ON_CPU", ["machine"])
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--cpu", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert not ended.value.code and result["figures"]["copy GB/s"] > 0 and result["not_run_yet"] == []
    assert "machine: done" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a card")
def test_without_a_card_it_says_so():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "torch sees no card" in done.stderr and "Traceback" not in done.stderr


def run(tmp_path: Path, code: str, limit: float = 60):
    return gpu_check.run_part([sys.executable, "-c", code], limit, tmp_path, "a part")


BEFORE = 'print(\'{"figure": "known", "value": 2.5}\', flush=True);'


@pytest.mark.parametrize(
    "code, said",
    [
        ("pass", ""),
        ("raise RuntimeError('an illegal memory access')", "failed: ended with 1: RuntimeError: an illegal memory"),
        ("import os; os.abort()", "failed: ended with -6"),
        ("import os; os._exit(3)", "failed: ended with 3: nothing was said"),
    ],
)
def test_a_part_that_dies_keeps_its_figures(tmp_path, code, said):
    text, note = run(tmp_path, f"{BEFORE}print('{{half a li', flush=True)\n{code}")
    record = gpu_check.Record()
    record.take(text)
    assert record.figures == {"known": 2.5} and note.startswith(said) and bool(note) == bool(said)


def test_a_part_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    number = tmp_path / "number"
    code = (
        f"{BEFORE}import subprocess, time; child = subprocess.Popen(['sleep', '60']);"
        f"open({str(number)!r}, 'w').write(str(child.pid)); time.sleep(60)"
    )
    text, note = run(tmp_path, code, limit=2)
    assert note == "failed: not done after 2 s" and "2.5" in text
    until = time.monotonic() + 20
    while runs(int(number.read_text())):
        assert time.monotonic() < until, "what the part had started goes on"
        time.sleep(0.02)


def runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_parts_that_come_too_late_are_left_out_and_the_files_say_so(tmp_path):
    record = gpu_check.check(["machine", "generate"], tmp_path, 0, cpu=True)
    assert set(record.notes.values()) == {"left out: no time left"} and not record.failed
    assert json.loads((tmp_path / "gpu_check.json").read_text())["notes"] == record.notes
    assert "- machine: left out" in (tmp_path / "gpu_check.md").read_text()


def test_goals_and_ratios_are_those_of_figures():
    figures = {
        "decode fp16 1x512 GB/s": 3200.0, "copy GB/s": 4000.0, "decode fp16 1x512": 200.0, "decode int4 1x512": 500.0,
        "decode int4 1x512 by cpm_kernels": 100.0, "generate fp16 1x512": 40.0,
    }  # fmt: skip
    reached = {goal["goal"]: goal["reached"] for goal in gpu_check.goals(figures)}
    assert reached["fp16 decode, share of copy bandwidth"] == 0.8
    assert reached["int4 decode over fp16"] == 2.5
    assert reached["int8 decode over fp16"] is None
    assert dict(gpu_check.ratios(figures)) == {
        "fp16 share of copy bandwidth, 1x512": 0.8, "fp16 over generate(), 1x512": 5.0, "int4 over fp16, 1x512": 2.5,
        "int4 over cpm_kernels, 1x512": 5.0, "int4 over generate(), 1x512": 12.5,
    }  # fmt: skip


def test_each_part_is_one_that_can_be_run_and_the_wanted_ones_fit_into_the_time():
    listed = subprocess.run(
        [sys.executable, "-c", "import gpu_parts; print(*gpu_parts.PARTS, sep='\\n')"],
        capture_output=True, text=True, timeout=120, cwd=SCRIPT.parent, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert set(listed) == set(gpu_check.LIMITS) >= set(gpu_check.ON_CPU)
    wanted = ["machine", "doctor", "logits triton", *(f"decode {kind}" for kind in ("fp16", "int4", "int8"))]
    assert sum(gpu_check.LIMITS[name] for name in wanted) <= 460
