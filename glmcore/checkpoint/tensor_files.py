"""One weight file: what it holds, known from its header alone, and its tensors, read when asked for."""

from __future__ import annotations

import ctypes
import mmap
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from torch import Tensor

from glmcore.checkpoint import pickles
from glmcore.checkpoint.headers import SHOWN, read_header
from glmcore.checkpoint.memory import huge_empty, map_file, populate
from glmcore.checkpoint.pickles import SAFE_TORCH, reads_safely
from glmcore.errors import GlmError, plain
from glmcore.reading import open_regular

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


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
        """A tensor [N, ...], or its rows from ``first`` to before ``last``, in memory of its own, in the file's type.

        Errors: GlmError("checkpoint-damaged").
        """

    def mapped(self, name: str) -> Tensor:
        """A tensor in its stored shape and the file's own pages where that can be, for who keeps it as it is.

        Errors: GlmError("checkpoint-damaged").
        """

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
        with _opened(path) as file:
            try:
                entries = read_header(file, os.fstat(file.fileno()).st_size)
            except ValueError as error:
                raise _damaged(path, str(error)) from None
            self.descriptor = os.dup(file.fileno())
        self.tensors = {n: TensorInfo(DTYPES[e.dtype], e.shape, e.begin, e.end) for n, e in entries.items()}
        self.memory = self._map()

    def _map(self) -> mmap.mmap | None:
        try:
            return map_file(self.descriptor)
        except (OSError, ValueError):  # a file system without mapping, or no address space left
            return None

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


class TorchFile:
    """A pytorch_model*.bin, unpickled with ``weights_only`` and mapped where its format allows it.

    Only by a torch that keeps what ``weights_only`` promises, and only where the pickle asks for tensors alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not reads_safely(torch.__version__):
            raise GlmError(
                "packages-missing", f"torch {torch.__version__} does not read {path.name} safely", where=str(path),
                hint=f"install torch {'.'.join(map(str, SAFE_TORCH))} or later, or convert the file to safetensors",
            )  # fmt: skip
        self.state = self._load(self._mappable())
        self.tensors = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in self.state.items()}

    def _mappable(self) -> bool:
        """Whether the file is a zip archive. Errors: GlmError where it is no file of tensors, by its bytes alone."""
        with _opened(self.path) as file:
            names, fault = pickles.imported(file), pickles.fault(file)
            if foreign := pickles.foreign_calls(names):
                raise GlmError(
                    "checkpoint-unsafe", f"{self.path.name} would run code: its pickle calls {foreign[0]}",
                    where=str(self.path), hint="do not use this file; get the safetensors of the checkpoint",
                )  # fmt: skip
            if fault or pickles.UNREADABLE in names:
                raise _damaged(self.path, fault or "its pickle cannot be read")
            file.seek(0)
            return file.read(len(pickles.ZIP)) == pickles.ZIP

    def _load(self, mappable: bool) -> dict[str, Tensor]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickles that are refused a moment later
                state = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mappable)
        except Exception as error:  # torch lets whatever its readers meet in a damaged file through
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise _damaged(self.path, f"torch cannot read it ({plain(first, 120)})") from None
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise _damaged(self.path, "it holds no table of tensors")
        for name, value in state.items():
            _check_tensor(self.path, name, value)
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


def _check_tensor(path: Path, name: str, value: object) -> None:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        raise _damaged(path, "it holds no table of tensors")
    if value.dtype not in DTYPES.values():
        raise _damaged(path, f"{plain(name, SHOWN)} has the unknown type {value.dtype}")
    # Strides of zero make any size out of a few bytes.
    if value.numel() * value.itemsize > value.untyped_storage().nbytes():
        held = value.untyped_storage().nbytes()
        raise _damaged(path, f"{plain(name, SHOWN)} has {held} bytes for {list(value.shape)}")


def _opened(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as error:
        raise GlmError("model-path", f"{path.name} cannot be read: {error.strerror}", where=str(path)) from None


def _damaged(path: Path, what: str) -> GlmError:
    return GlmError("checkpoint-damaged", f"{path.name} is damaged: {what}", where=str(path), hint="download it again")
