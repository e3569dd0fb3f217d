"""glmcore bench as a program, its figures against the model's own sizes, and wishes that make no sense."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from golden_cases import GOLDEN

from glmcore import demo
from glmcore.bench.measure import bytes_per_token, measure, weight_bytes
from glmcore.bench.workloads import Workload, prompt_ids, random_model
from glmcore.config import NAMED, ModelConfig
from glmcore.engine.load import load
from glmcore.engine.runner import Runner
from glmcore.errors import GlmError
from glmcore.machine import remembered_bandwidth
from glmcore.plan import Device, Precision, make_plan

# The figures that the contract names.
PROMISED = {
    "prefill_tokens_per_s", "decode_tokens_per_s", "time_to_first_token_s", "weight_bytes", "bandwidth_gb_per_s",
    "machine_bandwidth_gb_per_s", "peak_rss_bytes", "load_s",
}  # fmt: skip


def small(name: str, bits: int = 0):
    """A published model with two layers, narrow but still wide beside their norms."""
    return replace(
        NAMED[name], num_layers=2, hidden_size=256, num_heads=4, head_dim=64, vocab_size=400, ffn_hidden_size=1024,
        num_kv_heads=4 if name == "chatglm-6b" else 2, quantization_bit=bits, gmask_token_id=390, bos_token_id=391,
        mask_token_id=389,
    )  # fmt: skip


def bench(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "glmcore", "bench", *arguments], capture_output=True, text=True, timeout=120
    )


def test_a_checkpoint_is_measured():
    done = bench(str(GOLDEN / "v2" / "int4"), "--prompt", "16", "--generate", "4", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) >= PROMISED
    assert all(figures[name] > 0 for name in PROMISED)
    assert "int4" in figures["backend"]
    assert remembered_bandwidth() == figures["machine_bandwidth_gb_per_s"] * 1e9  # for plans


def test_exact_keeps_keys_and_values_in_float32(tmp_path):
    words = "error[usage]: exact keeps keys and values in float32"
    done = bench(str(GOLDEN / "v2" / "int4"), "--cache", "bfloat16", "--precision", "exact")
    assert done.returncode == 2 and words in done.stderr
    config = ModelConfig.from_folder(demo.folder())
    precision = Precision.of(config, "float32", 4, "bfloat16")
    saved = tmp_path / "plan.json"
    saved.write_text(json.dumps(make_plan(config, [Device("cpu", 2**34)], precision=precision, context=64).to_json()))
    with pytest.raises(GlmError, match="exact keeps keys and values in float32"):
        load(plan=saved, precision="exact")
    with pytest.raises(GlmError, match="the plan keeps keys and values in bfloat16, not float32"):
        load(plan=saved, cache="float32")
    engine = load(plan=saved)
    assert {tensor.dtype for tensor in engine.runner.cache.keys} == {torch.bfloat16}


@pytest.mark.parametrize("case", ["v1/int8", "v2/int4"])
def test_answers_side_by_side_are_measured(case):
    done = bench(
        str(GOLDEN / case), "--prompt", "16", "--generate", "2", "--batch", "1,3,16", "--precision", "light", "--json"
    )
    assert done.returncode == 0, done.stderr
    batches = json.loads(done.stdout)["batches"]
    assert [batch["rows"] for batch in batches] == [1, 3, 16] and batches[0]["step_cost"] == 1
    assert all(batch["decode_tokens_per_s"] > 0 and batch["step_cost"] > 0 for batch in batches)


@pytest.mark.parametrize("text", ["", "0", "2,,4", "65", "two"])
def test_rows_that_are_no_numbers_are_refused(text):
    done = bench("chatglm2-6b", "--random-weights", "--batch", text)
    assert done.returncode == 2 and done.stderr.startswith("glmcore: error[usage]"), done.stderr


@pytest.mark.parametrize("bits", [0, 8, 4])
@pytest.mark.parametrize("name", ["chatglm-6b", "chatglm2-6b", "glm-4-9b"])
def test_random_models_have_the_planned_size_and_finite_logits(name, bits):
    config = small(name, bits)
    model = random_model(config, torch.float32)
    kept = config.dtype if bits else "float32"
    plan = make_plan(config, [Device("cpu", 2**34)], precision=Precision(kept, bits), context=32)
    assert weight_bytes(model) == pytest.approx(plan.devices[0].weights_bytes, rel=0.03)
    runner = Runner(model, config)
    figures = measure(runner, Workload(12, 3), backend="torch", kernel=None, load_s=0.1)
    assert figures.decode_tokens_per_s > 0 and torch.isfinite(runner.decode(5)).all()
    assert figures.bandwidth_gb_per_s * 1e9 == pytest.approx(
        figures.decode_tokens_per_s * bytes_per_token(runner, Workload(12, 3))
    )
    table = model.embedding.weight.nbytes
    assert bytes_per_token(runner, Workload(12, 3)) > weight_bytes(model) - table


def test_the_workload_is_the_same_each_time():
    config = NAMED["chatglm-6b"]
    assert prompt_ids(config, 20) == prompt_ids(config, 20) != prompt_ids(config, 20, seed=1)
    assert prompt_ids(config, 20)[-2:] == [config.gmask_token_id, config.bos_token_id]


@pytest.mark.parametrize("workload", [Workload(2, 1), Workload(8, 0), Workload(2048, 1)])
def test_workloads_outside_the_context_are_refused(workload):
    with pytest.raises(GlmError) as caught:
        workload.check(NAMED["chatglm-6b"])
    assert caught.value.code == "usage"


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["no-such-model", "--random-weights"], "model-path"),
        (["chatglm-6b", "--random-weights", "--prompt", "4000"], "usage"),
        (["chatglm-6b", "--random-weights", "--prompt", "x"], "usage"),
    ],
)
def test_bad_input_is_one_line(arguments, code):
    done = bench(*arguments)
    assert done.returncode == (2 if code == "usage" else 1)
    assert done.stderr.startswith(f"glmcore: error[{code}]") and done.stderr.count("\n") == 1
