"""A model in stages gives to the bit what it gives in one piece: prompts, steps, drafts, beginnings that are shared."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapter_folders import write_lora, write_prefix
from crowds import compare
from golden_cases import GOLDEN
from staged import in_stages

from glmcore.engine.stages.calls import Report
from glmcore.engine.stages.runner import StagedRunner
from glmcore.errors import GlmError
from glmcore.kernels.load import PRECISIONS, load_kernel
from glmcore.place.adapters import open_adapter
from glmcore.place.loader import load_model

PACKED = ["v1/int4", "v1/int8", "v2/int4", "v2/int8", "v3/int4", "v3/int8", "glm4/int4", "glm4/int8"]
FLOATS = ["v1/base", "v2/base", "v3/rope-ratio", "glm4/base"]

pytestmark = pytest.mark.usefixtures("one_thread")


def check_holdings(runner: StagedRunner) -> None:
    """The stages hold what their leader believes, and nothing that it has forgotten."""
    cache, kept = runner.way.rows.cache, runner.way.pipeline
    kept.forget_dropped()
    for each in kept.all(Report()):
        assert (each.rows, each.capacity) == (cache.batch, cache.capacity)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", PACKED)
def test_packed_models_in_two_stages(case: str, precision: str) -> None:
    model = load_model(GOLDEN / case, kernel=load_kernel(threads=1, precision=precision))
    runner = in_stages(GOLDEN / case, (1,), model.config, precision=precision)
    reused = compare(model, 1, 16, count=12, runner=runner)
    assert bool(reused) == model.config.traits.causal
    check_holdings(runner)


@pytest.mark.parametrize("case", FLOATS)
def test_models_of_floats_in_two_stages(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmcore.engine.ways.module.CPU_CHUNK", 8)
    model = load_model(GOLDEN / case, dtype="float32")
    reused = compare(model, 2, 8, count=12, runner=in_stages(GOLDEN / case, (1,), model.config, dtype="float32"))
    assert bool(reused) == model.config.traits.causal


@pytest.mark.parametrize("case", ["v1/base", "v2/base", "glm4/base"])
def test_models_of_16_bits_in_two_stages(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps through the kernel, prompts through the modules."""
    monkeypatch.setattr("glmcore.engine.ways.module.CPU_CHUNK", 8)
    kernel = load_kernel(threads=1, precision="fast")
    model = load_model(GOLDEN / case, dtype="bfloat16", kernel=kernel)
    runner = in_stages(GOLDEN / case, (1,), model.config, dtype="bfloat16")
    assert all(facts.habits.drafts for facts in runner.pipeline.facts)
    compare(model, 3, 8, count=10, runner=runner)


def test_as_many_stages_as_layers_and_a_cache_of_16_bits() -> None:
    model = load_model(GOLDEN / "v3/int4", kernel=load_kernel(threads=1, precision="light"))
    cuts = tuple(range(1, model.config.num_layers))
    runner = in_stages(GOLDEN / "v3/int4", cuts, model.config, precision="light", cache="bfloat16")
    assert len(cuts) > 1
    assert compare(model, 4, 8, count=10, cache="bfloat16", runner=runner)


@pytest.mark.parametrize("case, layers", [("v1/int8", (0, 1)), ("v2/base", (1,)), ("glm4/int4", (0,))])
def test_a_lora_is_put_on_the_layers_of_each_stage(case: str, layers: tuple[int, ...], tmp_path: Path) -> None:
    """On some of them alone, too: the other stage goes through its modules then, as the model in one piece does."""
    model = load_model(GOLDEN / case, dtype="float32", kernel=load_kernel(threads=1, precision="fast"))
    write_lora(tmp_path, model, layers=layers)
    open_adapter(tmp_path, model.config).apply(model)
    runner = in_stages(GOLDEN / case, (1,), model.config, dtype="float32", adapter=tmp_path)
    compare(model, 5, 8, count=6, runner=runner)


def test_a_p_tuning_is_not_cut(tmp_path: Path) -> None:
    model = load_model(GOLDEN / "v2/base", dtype="float32")
    with pytest.raises(GlmError, match="whole model"):
        in_stages(GOLDEN / "v2/base", (1,), model.config, adapter=write_prefix(tmp_path, model.config))
