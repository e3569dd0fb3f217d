"""An engine's dump against what the original code computed: ids, positions, caches, hidden states and logits."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_cases import GOLDEN
from safetensors.torch import load_file

from glmcore.checkpoint import open_checkpoint
from glmcore.compiled.answering import Request, answer
from glmcore.compiled.dumping import Dumping
from glmcore.compiled.modules import uncompiled
from glmcore.compiled.request import make_request
from glmcore.engine.sampling import Sampling
from glmcore.golden.compare import compare_dumps
from glmcore.golden.dump import recording

CASES = ("v1/base", "v1/tiny-long", "v2/base", "v3/base", "v3/rope-ratio", "glm4/base")


@pytest.mark.parametrize("case", CASES)
def test_a_dump_is_what_the_original_code_computed(case: str, tmp_path: Path) -> None:
    """Prompts go in rounds where they can; the original's code did not end at an end token either."""
    golden = load_file(GOLDEN / case / "golden.safetensors")
    prompt, steps = golden["prompt.input_ids"][0].tolist(), golden["greedy.tokens"].shape[1]
    wishes = {"pre_len": 48 if case.startswith("v1") else 4, "total_len": 64, "roles": ("prefill", "decode", "golden")}
    with open_checkpoint(GOLDEN / case) as checkpoint:
        engine = uncompiled(make_request(checkpoint.config, dtype="float32", **wishes), checkpoint, tmp_path)
    asked = Request(1, Sampling(temperature=0), steps, frozenset(), constant=True)
    with recording(tmp_path / "dump") as recorder:
        engine.watch = Dumping(recorder)
        made = answer(engine, [prompt], asked)
    assert made.rows[0].output == golden["greedy.tokens"][0].tolist()
    # ChatGLM-6B's hidden states are scaled up by 7.5 at every residual: 0.0005 is 1e-5 of the largest.
    found = compare_dumps(tmp_path / "dump", GOLDEN / case / "golden.safetensors", 5e-4)
    layers = engine.config.num_layers
    assert found.equal and not found.left_out, found.text()
    # Ids, positions, logits; keys, values and states of each layer of the prompt.
    assert (found.stages, found.tensors) == (steps, 3 * steps + 3 * layers)
    assert made.timing.rounds == (1 if case.startswith("v1") else -(-len(prompt) // 4))
