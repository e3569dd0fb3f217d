"""One weight file: what it holds, known from its header alone, and its tensors, read when asked for."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from glmcore.checkpoint.memory import huge_empty, map_file, populate
from glmcore.checkpoint.pickles import foreign_call
from glmcore.errors import GlmError

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
# The safetensors library itself refuses longer headers.
HEADER_LIMIT = 100_000_000


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the file's header describes it; ``begin`` and ``end`` are byte offsets into the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int = 0
    end: int = 0

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class TensorFile(Protocol):
    """A file of tensors."""

    path: Path
    tensors: Mapping[str, TensorInfo]

    def read(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        """A tensor, or its rows from ``first`` to before ``last``, in memory of its own."""

    def mapped(self, name: str) -> Tensor:
        """A tensor in the file's own pages where that can be, for who keeps it as it is."""

    def close(self) -> None: ...


def open_tensor_file(path: Path) -> TensorFile:
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)


class SafetensorsFile:
    """A .safetensors file.

    What is kept as it is stored is mapped: it costs no copy and no memory besides the page cache, and there it mostly
    lies on large pages. What is converted is read: the process would else be charged for the mapped original, too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.tensors = _check_layout(self._header(), self.size, path)
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.memory = self._map()

    def _map(self) -> mmap.mmap | None:
        try:
            return map_file(self.descriptor)
        except (OSError, ValueError):  # a file system without mapping, or no address space left
            return None

    def _header(self) -> dict[str, Any]:
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if self.size < 8 or length > min(self.size - 8, HEADER_LIMIT):
                raise _damaged(self.path, f"its header should be {length} bytes and the file has {self.size}")
            raw = file.read(length)
        try:
            header = json.loads(raw)
        except (ValueError, RecursionError):
            raise _damaged(self.path, "its header is not valid JSON") from None
        if not isinstance(header, dict):
            raise _damaged(self.path, "its header is no JSON object")
        header.pop("__metadata__", None)
        return {"start": 8 + length, "tensors": header}

    def read(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        info = self.tensors[name]
        shape, begin = info.shape, info.begin
        if last is not None:
            begin += first * (info.nbytes // shape[0])
            shape = (last - first, *shape[1:])
        tensor = huge_empty(shape, info.dtype)
        if tensor.nbytes:
            self._read_into((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr()), begin, name)
        return tensor

    def mapped(self, name: str) -> Tensor:
        info = self.tensors[name]
        if self.memory is None or not info.nbytes or info.begin % info.dtype.itemsize:
            return self.read(name)
        # The tensor keeps the mapping alive; closing the file does not end it.
        values = torch.Size(info.shape).numel()
        tensor = torch.frombuffer(self.memory, dtype=info.dtype, count=values, offset=info.begin).view(info.shape)
        try:
            populate(tensor)
        except OSError as error:  # EFAULT: the file has become shorter
            raise _damaged(self.path, f"{name} cannot be read ({error.strerror})") from None
        return tensor

    def _read_into(self, target: Any, offset: int, name: str) -> None:
        view, done = memoryview(target).cast("B"), 0
        while done < len(view):
            # Linux moves at most 2 GiB with one call.
            count = os.preadv(self.descriptor, [view[done:]], offset + done)
            if not count:
                raise _damaged(self.path, f"it ends inside {name}")
            done += count

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor, self.memory = -1, None


def _check_layout(header: Mapping[str, Any], size: int, path: Path) -> dict[str, TensorInfo]:
    """The header's entries, which have to fill the file from end to end with neither overlap nor hole."""
    start = header["start"]
    tensors = {name: _entry(name, entry, start, path) for name, entry in header["tensors"].items()}
    position, previous = start, "the header"
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != position:
            what = "overlap" if info.begin < position else "leave a hole"
            raise _damaged(path, f"{previous} and {name} {what}")
        position, previous = info.end, name
    if position != size:
        what = (
            f"it has {size} bytes of {position}"
            if size < position
            else f"{size - position} bytes follow its last tensor"
        )
        raise _damaged(path, what)
    return tensors


def _entry(name: str, entry: Any, start: int, path: Path) -> TensorInfo:
    if not isinstance(entry, dict):
        raise _damaged(path, f"the entry of {name} is no JSON object")
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if kind not in DTYPES:
        raise _damaged(path, f"{name} has the unknown type {str(kind)[:40]!r}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise _damaged(path, f"the shape or the offsets of {name} make no sense")
    info = TensorInfo(DTYPES[kind], tuple(shape), start + offsets[0], start + offsets[1])
    needed = DTYPES[kind].itemsize
    for extent in shape:
        needed *= extent
    if info.end - info.begin != needed:
        raise _damaged(path, f"{name} has {info.end - info.begin} bytes, its shape needs {needed}")
    return info


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**48 for item in value)


class TorchFile:
    """A pytorch_model*.bin, unpickled with ``weights_only`` and mapped where its format allows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            mappable = file.read(4) == b"PK\x03\x04"
        self.state = self._load(mappable)
        self.tensors = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in self.state.items()}

    def _load(self, mappable: bool) -> dict[str, Tensor]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickles that are refused a moment later
                state = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mappable)
        except Exception as error:  # torch lets whatever its readers meet in a damaged file through
            raise _refused(self.path, error) from None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise _damaged(self.path, "it holds no table of tensors")
        return state

    def read(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        tensor = self.state[name]
        return tensor.clone() if last is None else tensor[first:last].clone()

    def mapped(self, name: str) -> Tensor:
        tensor = self.state[name].contiguous()
        populate(tensor)
        return tensor

    def close(self) -> None:
        self.state = {}


def _refused(path: Path, error: Exception) -> GlmError:
    """Torch refused the file: its pickle asks for something besides tensors (it would have run), or it is damaged."""
    call = foreign_call(path) if isinstance(error, pickle.UnpicklingError) else None
    if call is None:
        return _damaged(path, f"torch cannot read it ({(str(error).splitlines() or [''])[0][:120]})")
    return GlmError(
        "checkpoint-unsafe", f"{path.name} would run code: its pickle calls {call[:80]}", where=str(path),
        hint="do not use this file; get the safetensors of the checkpoint",
    )  # fmt: skip


def _damaged(path: Path, what: str) -> GlmError:
    return GlmError("checkpoint-damaged", f"{path.name} is damaged: {what}", where=str(path), hint="download it again")
