"""glmcore plan as a program: the contract's JSON, ranges by hand, saved plans, bad input, and how little it needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BOTH = ["--device", "cuda:0=8GiB@900GB", "--device", "cpu=16GiB@20GB"]


def plan(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "glmcore", "plan", *arguments], capture_output=True, text=True, timeout=60
    )


def test_the_contracts_json():
    done = plan("chatglm2-6b", *BOTH, "--strategy", "equal", "--quant", "int4", "--context", "2048", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    promised = {
        "schema_version", "model", "generation", "quantize", "dtype", "context", "strategy", "fits", "hops",
        "max_context", "devices", "reasons",
    }  # fmt: skip
    assert set(data) >= promised and data["quantize"] == "int4" and data["tokens_per_s"] > 10
    share = data["devices"][0]
    parts = share["weights_bytes"] + share["kv_cache_bytes"] + share["workspace_bytes"]
    assert share["total_bytes"] == parts <= share["budget_bytes"]


def test_what_does_not_fit_exits_with_one():
    done = plan("chatglm2-6b", "--device", "cuda:0=2GiB", "--json")
    data = json.loads(done.stdout)
    assert done.returncode == 1 and data["fits"] is False and data["missing_bytes"] > 0 and data["would_fit"]


def test_the_originals_ranges_on_the_command_line(tmp_path):
    saved = tmp_path / "plan.json"
    done = plan(
        "chatglm-6b", "--layers", "cuda:0=1-14", "--layers", "cuda:1=15-28", "--embeddings", "cpu",
        "--final-layernorm", "cuda:1", "--device", "cuda:0=8GiB", "--device", "cuda:1=8GiB", "--device", "cpu=4GiB",
        "-o", str(saved),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "layers 14-27, final_norm" in done.stdout and "3 hop(s)" in done.stdout
    assert json.loads(saved.read_text())["strategy"] == "manual"


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["--device", "cuda:0"], "usage"),
        (["--device", "cuda:0=much"], "usage"),
        (["--device", "gpu0=8GiB"], "usage"),
        (["--strategy", "3"], "usage"),
        (["--strategy", "manual", "--device", "cpu=16GiB"], "usage"),
        (["--embeddings", "cpu", "--device", "cpu=16GiB"], "usage"),
        (["--context", "99999999", "--device", "cpu=16GiB"], "usage"),
        (["--layers", "cuda:9=1-28", "--device", "cpu=16GiB"], "device-missing"),
        (["--layers", "cpu=1-27", "--device", "cpu=16GiB"], "plan-invalid"),
        (["--layers", "1-28", "--device", "cpu=16GiB"], "device-missing"),
    ],
)
def test_bad_input_is_one_line(arguments, code):
    done = plan("chatglm2-6b", *arguments)
    assert done.returncode == (2 if code == "usage" else 1)
    assert done.stderr.startswith(f"glmcore: error[{code}]") and done.stderr.count("\n") == 1


# Function calls in glmcore.plan of the plan below were 30 000 on 2026-11-28; twice as many are a search that has grown.
COUNTED = """
import sys
sys.argv = ["glmcore", "plan", "chatglm3-6b-128k", "--strategy", "equal", "--device", "cuda:0=8GiB",
            "--device", "cuda:1=8GiB", "--device", "cpu=16GiB"]
from glmcore.cli import group
calls = 0
def count(frame, event, argument):
    global calls
    calls += event == "call" and frame.f_globals.get("__name__", "").startswith("glmcore.plan")
sys.setprofile(count)
group.main(standalone_mode=False)
sys.setprofile(None)
print(calls, [name for name in ("torch", "numpy", "transformers", "rich", "fastapi") if name in sys.modules])
"""


def test_it_needs_few_steps_and_no_torch():
    done = subprocess.run([sys.executable, "-c", COUNTED], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    calls, _, heavy = done.stdout.splitlines()[-1].partition(" ")
    assert heavy == "[]" and 0 < int(calls) < 60_000
