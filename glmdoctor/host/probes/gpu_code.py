"""The GPU kernels inside a checkpoint's own quantization.py: bzip2 in base64, decoded as data and never run.

The original's code hands them to cuModuleLoadData: a fat binary, or one cubin.
"""

from __future__ import annotations

import ast
import base64
import binascii
import bz2
import posixpath
import re
import struct

from glmdoctor.host.io import IO
from glmdoctor.host.probes.cpm import MACHINE_CODE, PTX, entries

CODE = "quantization.py"
PACKED = re.compile(r"\$?(?P<base64>[A-Za-z0-9+/\s]{200,}={0,2})\s*")
LIMIT = 8 << 20  # bytes unpacked; the original's are some tens of thousands
ELF_HEADER = struct.Struct("<4s14xH28xI")  # magic, machine, flags: a 64-bit file's
ELF, EM_CUDA = b"\x7fELF", 190


def gpu_code(io: IO, folder: str) -> tuple[int, ...]:
    """The architectures of the machine code, each once; () where there is none, or PTX, which any later card takes."""
    text = io.text_or_none(posixpath.join(folder, CODE))
    if not text or "base64" not in text:
        return ()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    packed = next((match["base64"] for match in map(PACKED.fullmatch, strings) if match), "")
    return _architectures(_unpacked(packed))


def _unpacked(text: str) -> bytes:
    try:
        return bz2.BZ2Decompressor().decompress(base64.b64decode(text), LIMIT)
    except (binascii.Error, ValueError, OSError, EOFError):
        return b""


def _architectures(code: bytes) -> tuple[int, ...]:
    if code.startswith(ELF) and len(code) >= ELF_HEADER.size:
        _, machine, flags = ELF_HEADER.unpack_from(code)
        return (flags & 0xFF,) if machine == EM_CUDA else ()
    found = list(entries(code))
    if any(kind == PTX for kind, _ in found):
        return ()
    return tuple(sorted({target for kind, target in found if kind == MACHINE_CODE}))
