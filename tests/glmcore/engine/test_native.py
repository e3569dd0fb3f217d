"""The model as one call of the CPU kernel, held to its own modules and to the original results."""

from dataclasses import replace

import family_cases
import pytest
import torch
from golden_cases import GOLDEN
from safetensors.torch import load_file

from glmcore.bench.workloads import prompt_ids, random_model
from glmcore.config import NAMED
from glmcore.engine.native import native_model
from glmcore.engine.runner import Runner
from glmcore.engine.ways import ModuleWay, NativeWay
from glmcore.errors import GlmError
from glmcore.kernels.load import load_kernel
from glmcore.models.prefix import Prefix
from glmcore.place.loader import load_model

CASES = ["v1/int8", "v1/int4", "v1/int4-qe", "v2/int8", "v3/int4", "glm4/int8"]
NAMES = ["chatglm-6b", "chatglm2-6b", "chatglm3-6b-128k", "glm-4-9b", "glm-edge-1.5b-chat", "glm-4-9b-0414"]


@pytest.fixture(scope="module")
def kernel():
    return load_kernel(threads=2, precision="exact")


@pytest.fixture
def small(kernel):
    """``small(name, bits)``: two narrow layers of a published configuration, with random weights."""

    def make(name, bits):
        config = replace(
            NAMED[name], num_layers=2, hidden_size=256, num_heads=8, head_dim=32, vocab_size=400, ffn_hidden_size=700,
            num_kv_heads=8 if name == "chatglm-6b" else 2, quantization_bit=bits, gmask_token_id=390, bos_token_id=391,
            mask_token_id=389,
        )  # fmt: skip
        return random_model(config, torch.float32, kernel=kernel)

    return make


def answer(model, prompt, *, native, tokens=(5, 17, 5, 99), kept=None):
    """The logits after the prompt and after each token, through the library or through the modules."""
    runner = Runner(model, model.config, kept)
    assert isinstance(runner.way, NativeWay)
    if not native:
        runner.way = ModuleWay(model, runner.way.rows)
    return torch.stack([runner.prefill(prompt), *(runner.decode(token) for token in tokens)])


@pytest.mark.parametrize("case", CASES)
def test_it_gives_the_originals_logits(case, kernel):
    data = load_file(GOLDEN / case / "golden.safetensors")
    model = load_model(GOLDEN / case, kernel=kernel)
    prompt, tokens = data["prompt.input_ids"][0].tolist(), data["greedy.tokens"][0].tolist()
    logits = answer(model, prompt, native=True, tokens=tokens[:-1])
    torch.testing.assert_close(logits, data["greedy.logits"][0], atol=2e-4, rtol=0)


@pytest.mark.parametrize("case", family_cases.CASES)
def test_it_gives_the_greedy_tokens_of_transformers(case, kernel):
    golden = family_cases.results(case)
    model = load_model(family_cases.FAMILY / case, dtype="bfloat16", kernel=kernel)  # kept; it computes in float32
    for row, prompt in zip(golden["greedy"], golden["input_ids"], strict=True):
        runner = Runner(model, model.config)
        assert isinstance(runner.way, NativeWay)
        logits = runner.prefill(prompt.tolist())
        found = [int(logits.argmax())]
        while len(found) < 12:
            found.append(int(runner.decode(found[-1]).argmax()))
        assert found == row[len(prompt) :].tolist()


@pytest.mark.parametrize("length", [3, 70, 600])  # few rows, many, and more than the cache's first block
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_modules(name, bits, length, small):
    model = small(name, bits)
    prompt = prompt_ids(model.config, length)
    ours, theirs = (answer(model, prompt, native=native) for native in (True, False))
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", ["chatglm-6b", "chatglm2-6b"])  # a query for each key, and four
def test_keys_and_values_in_bfloat16_change_little(name, small):
    model = small(name, 4)
    prompt = prompt_ids(model.config, 300)
    for native in (True, False):
        whole, kept = (answer(model, prompt, native=native, kept=kept) for kept in ("float32", "bfloat16"))
        assert 0 < (kept - whole).abs().max() < 0.02 * whole.abs().max()


def test_a_prefix_stands_before_the_tokens(small):
    model = small("chatglm2-6b", 8)
    config = model.config
    shape = (config.num_layers, config.num_kv_heads, 5, config.head_dim)
    bare = answer(model, [5, 6, 7], native=True)
    model.prefix = Prefix(torch.randn(shape), torch.randn(shape))
    with_prefix = answer(model, [5, 6, 7], native=True)
    torch.testing.assert_close(with_prefix, answer(model, [5, 6, 7], native=False), atol=2e-4, rtol=2e-4)
    assert (with_prefix - bare).abs().max() > 1e-3


def test_a_second_turn_goes_on_where_the_first_one_ended(small):
    model = small("chatglm3-6b", 4)
    runner = Runner(model, model.config)
    runner.prefill([5, 6, 7])
    runner.decode(8)
    longer = [5, 6, 7, 8, *range(20, 60)]
    again = runner.prefill(longer)
    assert runner.reused == 4
    torch.testing.assert_close(again, answer(model, longer, native=False)[0], atol=2e-4, rtol=2e-4)


def test_a_hooked_model_runs_through_its_modules(small):
    model = small("chatglm2-6b", 4)
    seen = []
    handle = model.layers[1].mlp.register_forward_hook(lambda *_: seen.append(1))
    runner = Runner(model, model.config)
    assert not isinstance(runner.way, NativeWay)
    runner.prefill([5, 6, 7])
    assert seen
    handle.remove()
    runner.forget()
    assert isinstance(runner.way, NativeWay)


def test_other_types_and_models_without_kernel_run_through_their_modules(small):
    model = small("chatglm2-6b", 4)
    model.layers[1].input_layernorm.to(torch.bfloat16)
    assert native_model(model, model.config) is None
    bare = random_model(model.config, torch.float32)
    assert native_model(bare, model.config) is None


def test_values_that_are_not_finite_are_reported(small):
    model = small("chatglm2-6b", 4)
    model.embedding.weight[7] = torch.nan
    runner = Runner(model, model.config)
    assert isinstance(runner.way, NativeWay)
    with pytest.raises(GlmError) as raised:
        runner.prefill([5, 6, 7])
    assert raised.value.code == "not-finite"


def test_an_interrupted_prompt_leaves_nothing_that_is_reused(small):
    model = small("chatglm2-6b", 4)
    runner = Runner(model, model.config)
    broken = model.embedding.weight[7].clone()
    model.embedding.weight[7] = torch.nan
    with pytest.raises(GlmError):
        runner.prefill([5, 6, 7, 8])
    model.embedding.weight[7] = broken
    logits = runner.prefill([5, 6, 7, 8])
    assert runner.reused == 0
    torch.testing.assert_close(logits, answer(model, [5, 6, 7, 8], native=False, tokens=())[0], atol=2e-4, rtol=2e-4)
