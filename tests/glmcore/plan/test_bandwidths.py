"""Where a plan's bandwidths come from: written, stated by NVML, or measured before; never measured while planning."""

from __future__ import annotations

import subprocess
import sys

import pytest

from glmcore import machine
from glmcore.config import NAMED
from glmcore.plan import Device, Precision, make_plan


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A user's cache of the test's own, for this process and those it starts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "glmcore"


def planned(*devices: str) -> str:
    written = [word for device in devices for word in ("--device", device)]
    command = [sys.executable, "-m", "glmcore", "plan", "chatglm2-6b", *written]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_what_was_measured_before_is_what_a_plan_goes_by(cache):
    assert machine.remembered_bandwidth() is None
    assert "decode speed unknown (no bandwidth for cpu: write NAME=SIZE@BANDWIDTH)" in planned("cpu=16GiB")
    machine.remember_bandwidth(25e9)
    assert machine.bandwidths()["cpu"] == 25e9
    weights = make_plan(NAMED["chatglm2-6b"], [Device("cpu", 2**34, 25e9)], precision=Precision("float16"))
    assert f"about {weights.tokens_per_s:.1f} tokens/s" in planned("cpu=16GiB")
    assert f"about {weights.tokens_per_s:.1f} tokens/s" not in planned("cpu=16GiB@50GB")


@pytest.mark.parametrize(
    "kept", ["", "[]", "{}", "no json", '{"machine": "another", "bytes_per_s": 1e9}', '{"machine": null}']
)
def test_what_cannot_be_used_is_unknown(cache, kept):
    cache.mkdir()
    (cache / "memory.json").write_text(kept)
    assert machine.remembered_bandwidth() is None and "cpu" not in machine.bandwidths()


def test_a_folder_that_cannot_be_written_is_no_failure(cache):
    cache.write_text("a file where the folder should be")
    machine.remember_bandwidth(25e9)
    assert machine.remembered_bandwidth() is None


def test_cards_read_as_nvml_states_and_what_is_written_counts(monkeypatch, cache):
    monkeypatch.setattr(machine, "_cards", lambda: [(2**34, 900e9), (2**34, None)])
    known = machine.bandwidths()
    assert known == {"cuda:0": 900e9}
    assert machine.with_bandwidth(Device("cuda:0", 1), known).bandwidth == 900e9
    assert machine.with_bandwidth(Device("cuda:0", 1, 5.0), known).bandwidth == 5.0
    assert machine.with_bandwidth(Device("cuda:1", 1), known).bandwidth is None
    assert machine.with_bandwidth(Device("cpu:1", 1), {"cpu": 7.0}).bandwidth == 7.0
