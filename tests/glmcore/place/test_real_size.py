"""What a real 6B model takes of the process's memory is what was planned for it."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest

from glmcore.config import find_config
from glmcore.plan import Device, Precision, make_plan

MEASURE = """
import json, sys, psutil, torch
from glmcore.bench.measure import weight_bytes
from glmcore.bench.workloads import random_model
from glmcore.config import find_config
from glmcore.engine.runner import layer_devices
from glmcore.models.cache import KVCache

config, placement = find_config(sys.argv[1]), json.loads(sys.argv[2])
before = psutil.Process().memory_info().rss
model = random_model(config, torch.float16, placement=placement)
weights = psutil.Process().memory_info().rss - before
cache = KVCache(config, 1, 2048, model.cache_dtype, layer_devices(model))
print(json.dumps({"tensors": weight_bytes(model), "resident": weights, "cache": cache.nbytes}))
"""


@pytest.mark.parametrize("name", ["chatglm2-6b-int4"])
@pytest.mark.skipif(psutil.virtual_memory().available < 7 * 2**30, reason="less than 7 GiB of memory are free")
def test_planned_bytes_are_the_resident_ones(name):
    config = find_config(name)
    devices = [Device("cpu:0", 3 * 2**30), Device("cpu:1", 3 * 2**30)]
    plan = make_plan(config, devices, precision=Precision(config.dtype, config.quantization_bit), context=2048)
    assert all(share.pieces for share in plan.devices)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, name, json.dumps(plan.placement)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    planned = sum(share.weights_bytes for share in plan.devices)
    assert measured["tensors"] == pytest.approx(planned, rel=0.03)
    # The system gives large tensors memory in pages of 2 MiB, and torch itself takes some on the way.
    assert planned < measured["resident"] < planned * 1.06
    assert measured["cache"] == sum(share.kv_cache_bytes for share in plan.devices)
