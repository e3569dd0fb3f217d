"""The planned workspace is the peak that torch's allocator shows while a prompt goes through, for each generation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from glmcore.bench.workloads import prompt_ids, random_model
from glmcore.config import NAMED
from glmcore.kernels.load import kernel_or_torch
from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState
from glmcore.plan import Device, Precision, workspace_bytes

# Of the planned bytes. Torch's attention takes some buffers for each thread besides, which weigh in small models only.
WITHIN = 0.15
CPU, CARD = Device("cpu", 2**34), Device("cuda:0", 2**34)
WIDE = {"num_layers": 2, "hidden_size": 512, "num_heads": 4, "head_dim": 128}


def shaped(name: str, **changes):
    """A smaller model with the proportions of the real one."""
    config = NAMED[name]
    first = config.generation == "v1"
    own = {"num_kv_heads": 4, "ffn_hidden_size": 2048} if first else {"num_kv_heads": 2, "ffn_hidden_size": 1712}
    special = {"bos_token_id": 997, "gmask_token_id": 998, "mask_token_id": 999} if first else {}
    return replace(config, vocab_size=1000, **WIDE, **own, **special, **changes)


def peak(action) -> int:
    """The largest sum of bytes that torch held at once on the CPU, beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        action()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert events
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def measured(config, dtype: str, prompt: int, context: int, *, batch: int, kernel=None) -> int:
    """The peak while the last ``prompt`` of ``context`` tokens go through the model."""
    model = random_model(config, dtype, kernel=kernel)
    cache = KVCache(config, batch, context)
    ids = torch.tensor([prompt_ids(config, prompt)] * batch)
    inputs = PositionState(config, ids).prompt() if config.generation == "v1" else {}

    @torch.inference_mode()
    def run() -> None:
        cache.length = context - prompt
        model(ids, cache=cache, last_only=True, **inputs)

    run()
    return peak(run)


@pytest.mark.parametrize(
    "name, dtype, prompt, context, batch",
    [
        ("chatglm-6b", "float32", 256, 256, 1),
        ("chatglm-6b", "bfloat16", 768, 768, 1),
        ("chatglm-6b", "float16", 256, 256, 1),
        ("chatglm2-6b", "float32", 256, 256, 1),
        ("chatglm2-6b", "float32", 128, 2048, 1),
        ("chatglm2-6b", "float16", 256, 1024, 1),
        ("chatglm2-6b", "float32", 128, 256, 3),
        ("chatglm3-6b", "bfloat16", 256, 1024, 1),
        ("glm-4-9b", "bfloat16", 256, 256, 1),
        ("glm-4-9b", "float16", 128, 2048, 1),
    ],
)
def test_the_planned_workspace_is_the_measured_peak(name, dtype, prompt, context, batch):
    config = shaped(name)
    # What is kept in 16 bits is computed with in 32, by the kernel.
    kernel = None if dtype == "float32" else kernel_or_torch()
    found = measured(config, dtype, prompt, context, batch=batch, kernel=kernel)
    planned = workspace_bytes(config, Precision(dtype), prompt, context, batch, CPU)
    assert found == pytest.approx(planned, rel=WITHIN), found / planned


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", ["chatglm-6b", "chatglm2-6b"])
def test_quantised_layers_take_no_more_with_the_kernel(name, bits):
    kernel = kernel_or_torch()
    if kernel is None:
        pytest.skip("no compiler here")
    config = shaped(name, quantization_bit=bits)
    found = measured(config, "float32", 256, 256, batch=1, kernel=kernel)
    planned = workspace_bytes(config, Precision("float32", bits), 256, 256, 1, CPU)
    assert found == pytest.approx(planned, rel=WITHIN), found / planned


def test_a_card_expands_the_widest_quantised_matrix():
    config = NAMED["chatglm2-6b"]
    plain, packed = (workspace_bytes(config, Precision("float16", bits), 512, 2048, 1, CARD) for bits in (0, 4))
    matrix = 2 * config.ffn_hidden_size * config.hidden_size * 2
    assert matrix < packed < matrix + plain
