"""Shapes from safetensors headers, of golden checkpoints and of forged files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from golden_cases import GOLDEN

from glmdoctor.checks import examine
from glmdoctor.findings import Status
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes.tensors import telltale

NAME = "transformer.embedding.word_embeddings.weight"


def safetensors(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize("name", ["v1/base", "v1/int4", "v1/int4-qe", "v2/sharded", "v2/int8", "v3/base", "glm4/int4"])
def test_golden_checkpoints_agree_with_their_configurations(name: str) -> None:
    folder = GOLDEN / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    [found] = examine(Host(model=str(folder)), only=["model.shapes"]).findings
    assert found.status is Status.OK, str(found.detail)
    assert len(list(telltale(RealIO(), str(folder), os.listdir(folder)))) >= 3


def test_a_configuration_of_another_model(tmp_path: Path) -> None:
    folder = GOLDEN / "v2" / "base"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_bit": 4}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    [found] = examine(Host(model=str(tmp_path)), only=["model.shapes"]).findings
    assert found.problem == "config-weights-mismatch"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"\xff" * 8,
        safetensors(b"[1]"),
        safetensors(b"{" * 100_000),
        safetensors(json.dumps({NAME: 3}).encode()),
        safetensors(json.dumps({NAME: {"dtype": 1, "shape": []}}).encode()),
        safetensors(json.dumps({NAME: {"dtype": "F16", "shape": ["a"]}}).encode()),
        safetensors(json.dumps({NAME: {"dtype": "F16", "shape": [512, 64]}}).encode())[:-3],
    ],
)
def test_forged_files_tell_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert list(telltale(RealIO(), str(tmp_path), ["model.safetensors", "gone.safetensors"])) == []
