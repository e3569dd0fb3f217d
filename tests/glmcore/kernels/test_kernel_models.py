"""Whole quantised models on the kernels, held to the original results."""

import pytest
import torch
from golden_cases import GOLDEN
from safetensors.torch import load_file

from glmcore.engine.runner import Runner
from glmcore.kernels.isa import usable_isas
from glmcore.kernels.load import Kernel
from glmcore.place.loader import load_model

CASES = [f"{version}/{case}" for version in ("v1", "v2", "v3", "glm4") for case in ("int8", "int4")] + ["v1/int4-qe"]


def decode(folder, data, kernel):
    """Logits of the prompt's last position and after each token of the golden path."""
    model = load_model(folder, kernel=kernel)
    runner = Runner(model, model.config)
    logits = [runner.prefill(data["prompt.input_ids"][0].tolist())]
    logits += [runner.decode(token) for token in data["greedy.tokens"][0, :-1].tolist()]
    return torch.stack(logits)


@pytest.mark.parametrize("case", CASES)
def test_exact_precision_keeps_logits_and_greedy_paths(case, library):
    data = load_file(GOLDEN / case / "golden.safetensors")
    logits = decode(GOLDEN / case, data, Kernel(library, threads=2))
    torch.testing.assert_close(logits, data["greedy.logits"][0], atol=2e-4, rtol=0)
    assert torch.equal(logits.argmax(-1), data["greedy.tokens"][0])


@pytest.mark.parametrize("case", CASES)
def test_fast_precision_keeps_greedy_paths(case, built):
    """Few rows keep 16 bits of each block, which random weights, less forgiving than trained ones, need as well."""
    data = load_file(GOLDEN / case / "golden.safetensors")
    logits = decode(GOLDEN / case, data, Kernel(built(usable_isas()[0].name), threads=2, precision="fast"))
    torch.testing.assert_close(logits, data["greedy.logits"][0], atol=2e-2, rtol=0)
    assert torch.equal(logits.argmax(-1), data["greedy.tokens"][0])
