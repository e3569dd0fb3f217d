"""The table of tensors in a file of torch.save: names, types, shapes, places, by its pickle's opcodes. No torch.

Nothing is executed: of what a pickle builds, only the forms that torch writes for tensors are followed.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, BinaryIO

from glmcore.checkpoint import pickles
from glmcore.checkpoint.headers import SIZES, Entry

TENSOR, PARAMETER = "torch._utils._rebuild_tensor", "torch._utils._rebuild_parameter"
Places = Mapping[str, tuple[int, int]]  # a storage's key → its first byte in the file, and the one behind it
LOCAL = struct.Struct("<26xHH")  # of a zip archive's entry: the lengths of its name and of what stands behind that
TYPES = {
    "Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32", "Short": "I16",
    "Char": "I8", "Byte": "U8", "Bool": "BOOL",
}  # fmt: skip
STATE = 4  # the table's place among the pickles that torch before 1.6 wrote
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUTS, GETS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")


class Name(str):
    """A class or function that the pickle asks for; nothing is looked up."""


@dataclass
class Machine:
    """The unpickler's stack, of plain data."""

    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)  # what lies under each mark
    memo: dict[int, Any] = field(default_factory=dict)
    places: Places = field(default_factory=dict)

    def marked(self) -> list[Any]:
        above, self.stack = self.stack, self.below.pop()
        return above

    def taken(self, count: int) -> list[Any]:
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items


def read_table(file: BinaryIO) -> dict[str, Entry] | None:
    """Name → type, shape and bytes of each tensor; None where the file is not as torch writes a table of tensors.

    A view with other strides than a row's is given the bytes from its first value on. Without a zip archive, as torch
    before 1.6 wrote, all bytes are 0 to 0.
    """
    try:
        table = _table(file)
    except Exception:  # zipfile and pickletools raise many kinds on forged files
        return None
    whole = isinstance(table, dict) and all(type(n) is str and isinstance(e, Entry) for n, e in table.items())
    return table if whole else None


def _table(file: BinaryIO) -> Any:
    if pickles.fault(file):
        return None
    file.seek(0)
    if file.read(len(pickles.ZIP)) != pickles.ZIP:
        file.seek(0)
        content = io.BytesIO(file.read(pickles.PICKLE_LIMIT))
        return [built(content) for _ in range(STATE)][-1] if pickles.LEGACY in content.getvalue()[:32] else None
    with zipfile.ZipFile(file) as archive:
        (name,) = (entry for entry in archive.namelist() if entry.endswith(".pkl"))
        with archive.open(name) as packed:
            content = io.BytesIO(packed.read(pickles.PICKLE_LIMIT))
        return built(content, dict(_storages(file, archive)))


def _storages(file: BinaryIO, archive: zipfile.ZipFile) -> Iterator[tuple[str, tuple[int, int]]]:
    """torch names a storage's entry ``…/data/KEY`` and never compresses it (`pickles.fault` has looked)."""
    for entry in archive.infolist():
        folder, _, key = entry.filename.rpartition("/")
        if folder.rpartition("/")[2] == "data":
            file.seek(entry.header_offset)
            begin = entry.header_offset + LOCAL.size + sum(LOCAL.unpack(file.read(LOCAL.size)))
            yield key, (begin, begin + entry.file_size)


def built(content: BinaryIO, places: Places = MappingProxyType({})) -> Any:
    """What one pickle holds. Raises many kinds where it holds anything else than tables, texts, numbers and tensors."""
    machine = Machine(places=places)
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "STOP":
            break
        _step(machine, opcode, argument)
    return machine.stack.pop()


def _step(machine: Machine, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
    name, stack = opcode.name, machine.stack
    if name in PUTS or name == "MEMOIZE":
        machine.memo[len(machine.memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
    elif name in GETS:
        stack.append(machine.memo[int(argument)])
    elif name == "MARK":
        machine.below.append(stack)
        machine.stack = []
    elif name in EMPTY:
        stack.append(EMPTY[name]())
    elif name in TUPLES:
        stack.append(tuple(machine.taken(TUPLES[name])))
    elif name == "TUPLE":
        items = machine.marked()
        machine.stack.append(tuple(items))
    elif name in ("SETITEM", "SETITEMS"):
        items = machine.taken(2) if name == "SETITEM" else machine.marked()
        machine.stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name in ("APPEND", "APPENDS"):
        items = machine.taken(1) if name == "APPEND" else machine.marked()
        machine.stack[-1].extend(items)
    else:
        _call(machine, opcode, argument)


def _call(machine: Machine, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
    name, stack = opcode.name, machine.stack
    if name == "GLOBAL":
        stack.append(Name(argument.replace(" ", ".")))
    elif name == "STACK_GLOBAL":
        stack.append(Name(".".join(machine.taken(2))))
    elif name == "REDUCE":
        stack.append(_made(machine.places, *machine.taken(2)))
    elif name == "BUILD":  # a table's metadata
        stack.pop()
    elif name != "BINPERSID" and not opcode.stack_before and len(opcode.stack_after) <= 1:
        stack.extend([argument] * len(opcode.stack_after))  # a text, a number; PROTO and FRAME push nothing
    elif name != "BINPERSID":
        raise ValueError(name)


def _made(places: Places, function: Any, arguments: tuple[Any, ...]) -> Any:
    if function == "collections.OrderedDict" and not arguments:
        return {}
    if function == PARAMETER:
        return arguments[0]
    if function in (TENSOR, TENSOR + "_v2"):
        (_, storage, key, *_), offset, sizes = arguments[:3]
        dtype = TYPES[str(storage).removeprefix("torch.").removesuffix("Storage")]
        shape = tuple(int(size) for size in sizes)
        first, last = places.get(str(key), (0, 0))
        begin = min(first + max(0, int(offset)) * SIZES[dtype], last)
        return Entry(dtype, shape, begin, min(begin + math.prod(shape) * SIZES[dtype], last))
    return None
