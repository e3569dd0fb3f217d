"""Weights lie on large pages where the system grants them."""

from pathlib import Path

import pytest
import torch

from glmcore.checkpoint.memory import huge_empty

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not SETTING.is_file() or "[never]" in SETTING.read_text(), reason="this system grants no large pages"
)
def test_large_tensors_lie_on_large_pages():
    before = huge_kilobytes()
    tensor = huge_empty((64 << 20,), torch.int8).fill_(3)
    assert huge_kilobytes() - before >= 32 << 10
    assert tensor.sum(dtype=torch.int64) == 3 * (64 << 20)


def test_small_tensors_are_ordinary():
    assert huge_empty((3, 5), torch.float16).shape == (3, 5)
    assert huge_empty((0,), torch.int8).numel() == 0


def huge_kilobytes():
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))
