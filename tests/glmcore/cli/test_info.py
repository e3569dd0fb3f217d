"""``glmcore info``: for whole, damaged and merely named models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden_cases import GOLDEN, rest

from glmcore.cli.info import describe, fits, table
from glmcore.config import NAMED, find_config
from glmcore.plan import Device

GIB = 2**30


def info(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "glmcore", "info", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "billions"), [("chatglm-6b", 6.17), ("chatglm2-6b", 6.24), ("chatglm3-6b", 6.24), ("glm-4-9b", 9.40)]
)
def test_published_models_have_their_known_parameters(name: str, billions: float):
    assert describe(NAMED[name])["parameters"] / 1e9 == pytest.approx(billions, abs=0.01)


def test_what_fits_shrinks_with_the_memory():
    config = find_config("chatglm2-6b")

    def contexts(size: float) -> list[int]:
        return [entry["context"] for entry in fits(config, [Device("cpu", int(size * GIB))])]

    assert contexts(64) == [32768] * 3
    assert contexts(3) == [0, 0, 0]
    half, eight, four = contexts(5)
    assert half == eight == 0 < four <= 32768
    packed = fits(find_config("chatglm2-6b-int4"), [Device("cpu", 8 * GIB)])
    assert [entry["precision"] for entry in packed] == ["int4"]
    assert "int8" in table(describe(config) | {"fits": fits(config, [Device("cpu", 3 * GIB)])})


@pytest.mark.parametrize("case", ["v1/int4-qe", "v2/sharded", "v3/int8", "glm4/base"])
def test_a_checkpoint_and_its_tokenizer_are_described(case: str, tmp_path: Path):
    generation = case.partition("/")[0]
    shutil.copytree(GOLDEN / case, tmp_path / "model")
    done = info(str(tmp_path / "model"), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["generation"] == generation
    assert found["checkpoint"]["error"] is None and found["checkpoint"]["tensors"] > 10
    assert "is not there" in found["tokenizer"]["error"]


def test_a_damaged_checkpoint_is_described_and_fails(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    for source in (*(rest("v2", "e2e")).iterdir(), *(rest("v2", "tokenizer")).iterdir()):
        shutil.copy(source, folder / source.name)
    whole = info(str(folder))
    assert (whole.returncode == 0 and "tokenizer    tokenizer.model, 64796 tokens" in whole.stdout) or whole.stdout
    os.truncate(folder / "model.safetensors", 1000)
    damaged = info(str(folder))
    assert damaged.returncode == 1 and "model.safetensors is damaged" in damaged.stdout
    (folder / "config.json").write_text("{")
    broken = info(str(folder))
    assert broken.returncode == 1 and broken.stderr.startswith("glmcore: error[config-invalid]: config.json")


def test_a_name_that_is_none_is_said_with_those_that_are():
    done = info("chatglm9")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("glmcore: error[model-path]: chatglm9 is neither a folder nor a known name")
