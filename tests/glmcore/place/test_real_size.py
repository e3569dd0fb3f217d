"""What a real 6B model takes of the process's memory is what was planned for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from glmcore.config import find_config
from glmcore.plan import Device, Plan, Precision, make_plan

SLOW = "GLM_SLOW_TESTS"  # set to 1: a prompt of 512 tokens through 6B takes minutes on a small machine
MEASURE = """
import json, sys, psutil, torch
from glmcore.bench.measure import weight_bytes
from glmcore.bench.workloads import random_model
from glmcore.config import find_config
from glmcore.engine.runner import layer_devices, layer_dtypes
from glmcore.plan import plan_from_json
from glmcore.models.cache import KVCache

config = find_config(sys.argv[1])
plan = plan_from_json(sys.argv[2], config)
before = psutil.Process().memory_info().rss
model = random_model(config, plan=plan)
weights = psutil.Process().memory_info().rss - before
cache = KVCache(config, 1, 2048, layer_dtypes(model), layer_devices(model))
found = {"tensors": weight_bytes(model), "resident": weights, "cache": cache.nbytes}
if sys.argv[3]:
    from torch.profiler import ProfilerActivity, profile
    from glmcore.kernels.load import kernel_or_torch
    from glmcore.quant.convert import attach_kernel

    attach_kernel(model, kernel_or_torch())
    ids = torch.randint(10, 60000, (1, 512))
    cache.length = 1536
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        model(ids, cache=cache, last_only=True)
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = [0]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held.append(held[-1] + event.nbytes())
    found["workspace"] = max(held)
print("FOUND", json.dumps(found))
"""


def measured(name: str, plan: Plan, prompt: bool) -> dict[str, int]:
    """Bytes of a random model's weights, cache and, with a prompt, its workspace, in a process of its own."""
    command = [sys.executable, "-c", MEASURE, name, json.dumps(plan.to_json()), "prompt" if prompt else ""]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280 if not prompt else 1800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.partition("FOUND ")[2])


@pytest.mark.parametrize("name", ["chatglm2-6b-int4"])
@pytest.mark.skipif(psutil.virtual_memory().available < 7 * 2**30, reason="less than 7 GiB of memory are free")
def test_planned_bytes_are_the_resident_ones(name):
    config = find_config(name)
    devices = [Device("cpu:0", 3 * 2**30), Device("cpu:1", 3 * 2**30)]
    plan = make_plan(config, devices, precision=Precision.of(config, config.dtype), context=2048)
    assert all(share.pieces for share in plan.devices)
    found = measured(name, plan, prompt=False)
    planned = sum(share.weights_bytes for share in plan.devices)
    assert found["tensors"] == pytest.approx(planned, rel=0.03)
    # The system gives large tensors memory in pages of 2 MiB, and torch itself takes some on the way.
    assert planned < found["resident"] < planned * 1.06
    assert found["cache"] == sum(share.kv_cache_bytes for share in plan.devices)


@pytest.mark.skipif(os.environ.get(SLOW) != "1", reason=f"minutes on a small machine: {SLOW}=1 runs it")
@pytest.mark.skipif(psutil.virtual_memory().available < 7 * 2**30, reason="less than 7 GiB of memory are free")
@pytest.mark.timeout(1900)
def test_all_that_is_planned_is_all_that_is_taken():
    config = find_config("chatglm2-6b-int4")
    precision = Precision.of(config, config.dtype)
    plan = make_plan(config, [Device("cpu", 8 * 2**30)], precision=precision, context=2048)
    found = measured("chatglm2-6b-int4", plan, prompt=True)
    share = plan.devices[0]
    assert found["workspace"] == pytest.approx(share.workspace_bytes, rel=0.15)
    assert found["tensors"] + found["cache"] + found["workspace"] == pytest.approx(share.total_bytes, rel=0.03)
