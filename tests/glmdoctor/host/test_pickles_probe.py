"""What a weight file's pickle would call: told without running any of it, however the file is made."""

from __future__ import annotations

import collections
import io
import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmcore.checkpoint import pickles
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes import weights

torch = pytest.importorskip("torch", reason="torch writes the files of this test")


class Harm:
    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.where),)


def archive(*contents: bytes, compression: int = zipfile.ZIP_STORED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for number, content in enumerate(contents):
            out.writestr(f"archive{number}/data.pkl", content)
    file.seek(0)
    return file


def tensors() -> dict[str, Any]:
    return collections.OrderedDict(
        a=torch.zeros(2, dtype=torch.float16), b=torch.nn.Parameter(torch.zeros(3)), c=torch.zeros(1, dtype=torch.int8)
    )


@pytest.mark.parametrize("modern", [True, False])
def test_what_torch_saves_asks_for_tensors_alone(tmp_path: Path, modern: bool) -> None:
    torch.save(tensors(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=modern)
    found = weights.examine(RealIO(), str(tmp_path), "pytorch_model.bin")
    assert found.kind == ("torch-zip" if modern else "torch-pickle") and found.fault is None
    assert {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.HalfStorage"} <= set(found.imports)


@pytest.mark.parametrize(("modern", "protocol"), [(True, 0), (True, 1), (True, 2), (True, 4), (False, 2), (False, 4)])
def test_a_call_hidden_among_tensors_is_named_and_not_made(tmp_path: Path, modern: bool, protocol: int) -> None:
    made = tmp_path / "made"
    data = {**tensors(), "z": Harm(made)}
    torch.save(data, tmp_path / "x.bin", _use_new_zipfile_serialization=modern, pickle_protocol=max(protocol, 1))
    if protocol == 0:
        (tmp_path / "x.bin").write_bytes(archive(pickle.dumps(Harm(made), 0)).read())
    assert f"{os.name}.mkdir" in weights.examine(RealIO(), str(tmp_path), "x.bin").imports
    assert not made.exists()


def test_a_second_pickle_in_the_archive_counts(tmp_path: Path) -> None:
    file = archive(pickle.dumps({}), pickle.dumps(Harm(tmp_path / "made")))
    assert pickles.imported(file) == (f"{os.name}.mkdir",)


def test_a_name_that_is_put_together_is_flagged() -> None:
    """The module's name comes out of a tuple, so that no plain search for it finds it."""
    computed = b"\x80\x04\x8c\x02os\x8c\x06system\x86\x93."
    assert pickles.imported(io.BytesIO(computed)) == (pickles.COMPUTED,)
    stored = pickle.dumps(["os", "system"], 4)[:-1] + b"0h\x01h\x02\x93."  # both by their places in the memo
    assert list(pickletools.genops(stored))
    assert pickles.imported(io.BytesIO(stored)) in ((pickles.COMPUTED,), ("os.system",))


def test_a_bomb_is_read_no_further_than_the_limit() -> None:
    padding = b"\x80\x02" + b"0N" * (pickles.PICKLE_LIMIT // 2)
    file = archive(padding + b"cos\nsystem\n.", compression=zipfile.ZIP_DEFLATED)
    assert pickles.imported(file)[-1] == pickles.UNREADABLE


def test_a_directory_beyond_measure_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "DIRECTORY_LIMIT", 10)
    assert pickles.imported(archive(pickle.dumps({}))) == (pickles.UNREADABLE,)


@given(st.binary(max_size=300))
@settings(max_examples=150)
def test_no_bytes_break_it(content: bytes) -> None:
    assert all(isinstance(name, str) for name in pickles.imported(io.BytesIO(content)))
    for inner in (content, b"\x80\x04" + content, pickle.dumps([1, "a"], 4)[:-1] + content):
        assert len(pickles.imported(archive(inner))) <= pickles.NAMES_LIMIT


@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=100)
def test_no_changed_byte_of_an_archive_breaks_it(at: int, value: int) -> None:
    raw = bytearray(archive(pickle.dumps({"a": [1, 2]}, 4)).read())
    raw[at % len(raw)] = value
    assert all(isinstance(name, str) for name in pickles.imported(io.BytesIO(bytes(raw))))
