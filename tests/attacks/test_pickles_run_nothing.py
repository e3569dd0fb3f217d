"""A .bin is read by a torch that reads it safely, where it asks for tensors alone and unpacks to its own size."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from glmcore.checkpoint.tensor_files import open_tensor_file
from glmcore.errors import GlmError


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def code_of(path: Path) -> str:
    with pytest.raises(GlmError) as caught:
        open_tensor_file(path)
    assert caught.value.line().isprintable()
    return caught.value.code


def repacked(path: Path, change) -> Path:
    """The archive with each entry as ``change`` (name, content) → (content, compression) has it."""
    with zipfile.ZipFile(path) as old:
        entries = [(name, old.read(name)) for name in old.namelist()]
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries:
            data, compression = change(name, content)
            new.writestr(name, data, compression)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save({"weight": torch.zeros(8, 8)}, tmp_path / "pytorch_model.bin")
    return tmp_path / "pytorch_model.bin"


# A double for what no test can install beside: the version that an older torch gives itself.
@pytest.mark.parametrize("version", ["2.4.0", "2.5.1+cu121", "2.9.1", "1.13.1"])
def test_an_older_torch_reads_no_pickle(saved: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(GlmError, match=r"torch 2\.10 or later, or convert the file to safetensors"):
        open_tensor_file(saved)


def test_compressed_entries_are_refused_before_they_are_unpacked(saved: Path) -> None:
    def grown(name: str, content: bytes) -> tuple[bytes, int]:
        return (bytes(50 << 20) if "/data/" in name else content), zipfile.ZIP_DEFLATED

    repacked(saved, grown)
    assert saved.stat().st_size < 1 << 20
    with pytest.raises(GlmError, match="is compressed"):
        open_tensor_file(saved)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("form", ["zip", "bare", "cut"])
def test_a_pickle_that_calls_foreign_code_is_unsafe_and_never_merely_damaged(
    saved: Path, tmp_path: Path, form: str, protocol: int
) -> None:
    mark = tmp_path / "mark"
    hostile = pickle.dumps({"weight": Bomb(mark)}, protocol)
    if form == "zip":
        repacked(saved, lambda name, content: (hostile if name.endswith(".pkl") else content, zipfile.ZIP_STORED))
    else:
        saved.write_bytes(hostile if form == "bare" else hostile[:-3])
    assert code_of(saved) == "checkpoint-unsafe"
    assert not mark.exists()


def test_strides_of_zero_make_no_gigabytes_out_of_a_few_bytes(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
    assert code_of(path) == "checkpoint-damaged"


@pytest.mark.parametrize("value", [torch.zeros(3, 3).to_sparse(), torch.zeros(2, dtype=torch.complex64), [1], "x"])
def test_what_is_no_plain_tensor_is_damage(tmp_path: Path, value: object) -> None:
    torch.save({"weight": value}, tmp_path / "pytorch_model.bin")
    assert code_of(tmp_path / "pytorch_model.bin") == "checkpoint-damaged"
