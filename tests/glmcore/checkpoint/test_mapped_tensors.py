"""What is kept as the file has it is mapped: no copy, no harm to the file, and the same values."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest
import torch

from glmcore.checkpoint.tensor_files import SafetensorsFile, TensorInfo, TorchFile
from glmcore.checkpoint.writer import write_safetensors
from glmcore.errors import GlmError

TENSORS = {
    "packed": torch.arange(-100, 100, dtype=torch.int8).view(20, 10),
    "scale": torch.rand(20).half(),
    "table": torch.rand(33, 7).bfloat16(),
    "empty": torch.zeros(0, 4),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    layout = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()}
    write_safetensors(tmp_path / "model.safetensors", layout, TENSORS.items())
    return tmp_path / "model.safetensors"


def test_mapped_tensors_are_those_that_reading_gives_and_outlive_the_file(path: Path):
    file = SafetensorsFile(path)
    mapped = {name: file.mapped(name) for name in TENSORS}
    file.close()
    path.unlink()
    gc.collect()
    for name, tensor in TENSORS.items():
        assert mapped[name].dtype == tensor.dtype and torch.equal(mapped[name], tensor)


def test_writing_into_a_mapped_tensor_leaves_the_file_alone(path: Path):
    before, file = path.read_bytes(), SafetensorsFile(path)
    file.mapped("packed").fill_(1)
    assert path.read_bytes() == before
    file.close()


def test_our_own_files_begin_a_cache_line(path: Path):
    file = SafetensorsFile(path)
    assert min(info.begin for info in file.tensors.values()) % 64 == 0
    file.close()


def test_an_odd_offset_is_read_instead(path: Path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    path.write_bytes((length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :])
    file = SafetensorsFile(path)
    assert torch.equal(file.mapped("scale"), TENSORS["scale"])
    file.close()


def test_a_file_system_without_mapping_is_read_instead(path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(descriptor: int) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr("glmcore.checkpoint.tensor_files.map_file", refuse)
    file = SafetensorsFile(path)
    assert torch.equal(file.mapped("packed"), TENSORS["packed"])
    file.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems say it only when the page is used")
def test_a_file_that_was_cut_after_opening_is_damage(path: Path):
    file = SafetensorsFile(path)
    os.truncate(path, 0)
    with pytest.raises(GlmError) as raised:
        file.mapped("packed")
    assert raised.value.code == "checkpoint-damaged"
    file.close()


def test_a_torch_file_gives_its_own_mapping(tmp_path: Path):
    torch.save({"a": torch.arange(6.0).view(2, 3), "b": torch.arange(6.0).view(2, 3).t()}, tmp_path / "model.bin")
    file = TorchFile(tmp_path / "model.bin")
    assert file.mapped("a").data_ptr() == file.state["a"].data_ptr()
    assert file.mapped("b").is_contiguous() and torch.equal(file.mapped("b"), file.state["b"])
    file.close()
