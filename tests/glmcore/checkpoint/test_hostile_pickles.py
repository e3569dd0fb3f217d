"""Pickles that somebody forged: their opcodes are read to where they can be, and nothing of them runs."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmcore.checkpoint.pickles import UNREADABLE, imported


class Call:
    def __reduce__(self):
        return os.getcwd, ()


def names(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        return imported(file)


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_named_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"weight": Call()}, protocol))
    assert names(path) in (("posix.getcwd",), ("nt.getcwd",))


# BINUNICODE8, BINBYTES8, BYTEARRAY8: eight bytes say how long the text is.
@pytest.mark.parametrize("opcode", [b"\x8d", b"\x8e", b"\x96"])
@pytest.mark.parametrize("length", [2**34, 2**62, 2**64 - 1])
def test_a_length_beyond_all_memory_is_no_crash(tmp_path: Path, opcode: bytes, length: int) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(b"\x80\x05" + opcode + struct.pack("<Q", length) + b"x")
    assert names(path) == (UNREADABLE,)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_opcodes_are_read_as_far_as_they_go(tmp_path: Path, data) -> None:
    raw = bytearray(pickle.dumps({"weight": [1.5, "a", b"b", Call()]}, data.draw(st.integers(0, 5))))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=6)):
        raw[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(raw + data.draw(st.binary(max_size=40)))
    assert all(isinstance(name, str) for name in names(path))
