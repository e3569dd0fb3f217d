"""What an engine's graphs compute, by the modules that they are compiled from: the answers of a run without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import family_cases
import pytest
import torch
from golden_cases import GOLDEN
from safetensors.torch import load_file

from glmcore.checkpoint import open_checkpoint
from glmcore.compiled import operators
from glmcore.compiled.modules import bound, stage_graph, uncompiled
from glmcore.compiled.opened import Call, Opened
from glmcore.compiled.request import make_request
from glmcore.compiled.weights import OWN, wanted, write_own
from glmcore.engine.runner import Runner
from glmcore.errors import GlmError
from glmcore.kernels.load import load_kernel
from glmcore.place.loader import load_model

TYPES = {"fp32": ("float32", None), "bf16": ("bfloat16", None), "int8": (None, "int8"), "int4": (None, "int4")}
BASES = [f"{generation}/base" for generation in ("v1", "v2", "v3", "glm4")]
OTHERS = [
    ("v1/int4-qe", "int4"), ("v1/int8", "int8"), ("v2/int4", "int4"), ("v2/tiny-layernorm-preres", "fp32"),
    ("v2/mha-bias", "int8"), ("v3/rope-ratio", "fp32"), ("glm4/tiny-nopostln", "bf16"), ("v1/tiny-heads8", "fp32"),
    *((f"family/{case}", "int4") for case in family_cases.CASES),
]  # fmt: skip
STEPS = 12


def prompt_of(case: str) -> list[int]:
    name, key = ("results", "input_ids") if case.startswith("family") else ("golden", "prompt.input_ids")
    return load_file(GOLDEN / case / f"{name}.safetensors")[key][0].tolist()


def engine_of(case: str, kind: str, folder: Path, precision: str = "fast", **wishes) -> Opened:
    """The engine of a case, its modules in the graphs' place."""
    dtype, quantize = TYPES[kind]
    operators.computing.use(load_kernel(precision=precision))
    with open_checkpoint(GOLDEN / case) as checkpoint:
        if checkpoint.config.quantization_bit:
            quantize = None
        lengths = {"pre_len": 16 if checkpoint.config.traits.causal else 24, "total_len": 64}
        request = make_request(checkpoint.config, dtype=dtype, quantize=quantize, **{**lengths, **wishes})
        return uncompiled(request, checkpoint, folder)


def answers(engine: Opened, prompts: Sequence[list[int]], rows: int | None = None, steps: int = STEPS):
    """The likeliest tokens of each prompt, side by side."""
    caches = engine.caches(rows or len(prompts))
    logits, found = engine.prefill(prompts, caches), [[] for _ in prompts]
    for _ in range(steps):
        for row, after in zip(found, logits, strict=False):
            row.append(int(after.argmax()))
        logits = engine.decode([*(row[-1] for row in found), *[None] * (caches.rows - len(prompts))], caches)
    return found


def engineless(case: str, kind: str, prompt: list[int], precision: str = "fast") -> list[int]:
    dtype, quantize = TYPES[kind]
    with open_checkpoint(GOLDEN / case) as checkpoint:
        quantize = None if checkpoint.config.quantization_bit else quantize
    model = load_model(GOLDEN / case, dtype=dtype, quantize=quantize, kernel=load_kernel(precision=precision))
    runner, found = Runner(model, model.config), []
    logits = runner.prefill(prompt)
    for _ in range(STEPS):
        found.append(int(logits.argmax()))
        logits = runner.decode(found[-1])
    return found


@pytest.mark.parametrize(("case", "kind"), [*((case, kind) for case in BASES for kind in TYPES), *OTHERS])
def test_tokens_are_those_of_a_run_without_an_engine(case: str, kind: str, tmp_path: Path) -> None:
    prompt = prompt_of(case)
    assert answers(engine_of(case, kind, tmp_path), [prompt]) == [engineless(case, kind, prompt)]


def test_rows_of_unequal_length_answer_as_each_alone(tmp_path: Path) -> None:
    """Some read in one round, some in two; a row without a prompt and one that has ended change nothing."""
    for case in ("v1/base", "v2/base"):
        engine = engine_of(case, "fp32", tmp_path, batch=(1, 32))
        whole = prompt_of(case)
        prompts = [whole, whole[:1] + whole[-4:], whole[3:]]
        if engine.config.traits.causal:
            prompts[0] = (whole * 3)[:30]
        alone = [answers(engine, [prompt])[0] for prompt in prompts]
        assert answers(engine, prompts, rows=5) == alone
        caches = engine.caches(2)
        engine.prefill(prompts[:2], caches)
        engine.decode([alone[0][0], None], caches)
        assert [len(held) for held in caches.held] == [len(prompts[0]) + 1, len(prompts[1])]


def test_a_split_engine_gives_the_same_and_takes_what_was_planned(tmp_path: Path) -> None:
    whole, prompt = engine_of("glm4/base", "fp32", tmp_path), prompt_of("glm4/base")
    sizes = [device["total_bytes"] for device in whole.manifest.plan["devices"]]
    half = (sizes[0] * 0.7) / 2**30
    split = engine_of("glm4/base", "fp32", tmp_path, strategy="equal", limits=(half, half))
    assert [stage.device for stage in split.manifest.stages] == ["cpu:0", "cpu:1"]
    assert answers(split, [prompt]) == answers(whole, [prompt])
    found = split.bytes_taken(split.caches())
    for device in split.manifest.plan["devices"]:
        planned = device["weights_bytes"] + device["kv_cache_bytes"]
        assert sum(found[device["name"]].values()) == pytest.approx(planned, rel=0.03)


def test_a_golden_graph_tells_every_layer_as_the_original_computed_it(tmp_path: Path) -> None:
    for case in ("v1/base", "v3/base"):
        engine, told = engine_of(case, "fp32", tmp_path, roles=("prefill", "decode", "golden")), []
        engine.watch = lambda call, caches, told=told: told.append(call)
        engine.prefill([prompt_of(case)], engine.caches())
        [call] = told
        assert isinstance(call, Call) and len(call.states) == engine.config.num_layers
        golden, own = load_file(GOLDEN / case / "golden.safetensors"), call.lengths[0]
        for layer, states in enumerate(call.states):
            wanted = golden[f"prompt.layer{layer}.out"][0]
            assert (states[0, :own] - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_prompt_that_sees_itself_both_ways_has_to_fit_one_round(tmp_path: Path) -> None:
    engine = engine_of("v1/base", "fp32", tmp_path)
    prompt = [*range(5, 30), *prompt_of("v1/base")[-2:]]
    with pytest.raises(GlmError, match=r"27 tokens .* one round of 24.*--pre-len 27"):
        engine.prefill([prompt], engine.caches())


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([], "a prompt is empty"),
        ([[]], "a prompt is empty"),
        ([[5], [6]], "2 prompts do not fit into 1 rows"),
        ([[5] * 65], "65 tokens do not fit into the engine's total length of 64"),
    ],
)
def test_prompts_that_no_engine_takes(prompts: list[list[int]], words: str, tmp_path: Path) -> None:
    engine = engine_of("v2/base", "fp32", tmp_path)
    with pytest.raises(GlmError, match=words):
        engine.prefill(prompts, engine.caches())
    with pytest.raises(GlmError, match="the engine takes 1 rows at a time, not 3"):
        engine.caches(3)
    with pytest.raises(GlmError, match="no prefill of 5 tokens"):
        engine.prefill([[5, 6]], engine.caches(), 5)


def test_the_last_token_that_fits_is_the_last(tmp_path: Path) -> None:
    engine = engine_of("v2/base", "fp32", tmp_path)
    caches = engine.caches()
    engine.prefill([[5] * 63], caches)
    assert torch.isfinite(engine.decode([7], caches)).all()
    with pytest.raises(GlmError, match="65 tokens do not fit"):
        engine.decode([7], caches)


def test_weights_stay_where_they_are_mapped_while_torch_compiles(tmp_path: Path) -> None:
    """It copies buffers: as many gigabytes as a model has, for each graph."""
    with open_checkpoint(GOLDEN / "v2" / "int4") as checkpoint:
        request = make_request(checkpoint.config, pre_len=16, total_len=64)
        needed = wanted(checkpoint, request.config, request.plan)
        write_own(tmp_path / OWN, checkpoint, request.config, needed)
    constants = bound(needed, tmp_path / OWN)
    module = stage_graph(request.config, request.plan.types, request.stages[0], request.graphs[0], constants)
    places = {tensor.data_ptr() for tensor in constants.values()}
    assert not list(module.buffers()) and {tensor.data_ptr() for tensor in module.parameters()} == places
