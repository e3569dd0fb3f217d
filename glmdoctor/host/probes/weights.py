"""What a file of a checkpoint really is, by its first and last bytes, and whether it is whole."""

from __future__ import annotations

import posixpath
import re
import stat
import struct
from typing import BinaryIO

from glmcore.checkpoint import pickles
from glmcore.checkpoint.headers import read_header
from glmcore.reading import JSON_LIMIT as READ_LIMIT
from glmcore.reading import parse_json
from glmcore.tokenizers.ranks import parse_ranks
from glmdoctor.host.facts import CheckpointFile
from glmdoctor.host.io import IO

KINDS = ("safetensors", "torch-zip", "torch-pickle")
POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_LIMIT = 1024  # bytes; a pointer is about 130
ZIP, ZIP_END, ZIP64_LOCATOR = b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x07"
END_RECORD = struct.Struct("<4s4H2LH")
TAIL = (1 << 16) + END_RECORD.size  # an end record may be followed by a comment of 64 KiB
# A 6B checkpoint's header is 30 KB; safetensors itself allows 100 MB, which would cost seconds and a gigabyte to parse.
HEADER_LIMIT = 16 << 20
JSON_LIMIT = 4 << 20  # larger ones (a tokenizer.json of 20 MB) are judged by their two ends
HEAD = 1024
VOCABULARY_LIMIT = 32 << 20
# What glmcore reads whole.
CORE_JSON = (
    "config.json", "tokenizer_config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json",
)  # fmt: skip
RANKS = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")  # a line of a tiktoken file: token in base64, its rank


def examine(io: IO, folder: str, name: str) -> CheckpointFile:
    path = posixpath.join(folder, name)
    try:
        status = io.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block
            return CheckpointFile(name, 0, "other", "damaged: not a regular file")
        size = status.st_size
        with io.open(path) as file:
            head = file.read(HEAD)
            kind = _kind(name, head, size)
            fault = _fault(kind, name, file, size)
            imports = _imports(kind, file)
    except FileNotFoundError:
        return CheckpointFile(name, 0, "missing", "unreadable: the link leads nowhere")
    except OSError as error:
        return CheckpointFile(name, 0, "other", f"unreadable: {error.strerror}")
    return CheckpointFile(name, size, kind, fault, imports)


def _imports(kind: str, file: BinaryIO) -> tuple[str, ...]:
    return pickles.imported(file) if kind in ("torch-zip", "torch-pickle") else ()


def _kind(name: str, head: bytes, size: int) -> str:
    start = head.lstrip()[:64].lower()
    if size == 0:
        return "empty"
    if head.startswith(POINTER) and size <= POINTER_LIMIT:
        return "lfs-pointer"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "html"
    if name.endswith(".safetensors"):
        return "safetensors"
    if head.startswith(ZIP):
        return "torch-zip"
    if head.startswith(b"\x80") and name.endswith((".bin", ".pt", ".pth")):
        return "torch-pickle"
    if name.endswith(".json"):
        return "json"
    if name.endswith(".model") and RANKS.match(head):
        return "tiktoken"
    # A serialised ModelProto starts with its first piece: field 1, length-delimited.
    if name.endswith(".model") and head.startswith(b"\x0a"):
        return "sentencepiece"
    return "other"


def _fault(kind: str, name: str, file: BinaryIO, size: int) -> str | None:
    if kind == "safetensors":
        return _safetensors_fault(file, size)
    if kind == "torch-zip":
        return _zip_fault(file, size) or _prefixed(pickles.fault(file))
    if kind == "json":
        return _json_fault(name, file, size)
    if kind in ("tiktoken", "sentencepiece"):
        return _vocabulary_fault(kind, file, size)
    if kind == "other" and name.endswith((".bin", ".pt", ".pth")):
        return "damaged: neither a zip archive nor a pickle"
    return None


def _safetensors_fault(file: BinaryIO, size: int) -> str | None:
    """The header's length, its JSON, and whether the tensors' offsets end where the file does."""
    file.seek(0)
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8:
        return "truncated: shorter than a header"
    if length > HEADER_LIMIT:
        return "damaged: the header's length is absurd"
    if 8 + length > size:
        return "truncated: the header is cut"
    try:
        header = parse_json(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        needed = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "damaged: the header is no safetensors header"
    if size < needed:
        return f"truncated: has {size} of {needed} bytes"
    if size > needed:
        return f"damaged: {size - needed} bytes too many"
    try:
        read_header(file, size)
    except ValueError as error:
        return f"damaged: {error}"
    return None


def _prefixed(fault: str | None) -> str | None:
    return fault and f"damaged: {fault}"


def _zip_fault(file: BinaryIO, size: int) -> str | None:
    """The end record and the central directory that it points to."""
    file.seek(max(0, size - TAIL))
    tail = file.read(TAIL)
    at = tail.rfind(ZIP_END)
    if at < 0 or len(tail) - at < END_RECORD.size:
        return "truncated: the zip archive has no end record"
    if ZIP64_LOCATOR in tail[:at]:  # sizes beyond 4 GiB lie in the zip64 record, which is there
        return None
    *_, length, start, _ = END_RECORD.unpack_from(tail, at)
    end = max(0, size - TAIL) + at
    return None if start + length <= end else "damaged: the zip archive's directory lies outside the file"


def _json_fault(name: str, file: BinaryIO, size: int) -> str | None:
    if size > READ_LIMIT and name in CORE_JSON:
        return f"damaged: larger than {READ_LIMIT >> 20} MiB"
    if size > JSON_LIMIT:
        file.seek(size - HEAD)
        return None if file.read().rstrip().endswith((b"}", b"]")) else "truncated: the JSON has no end"
    file.seek(0)
    try:
        parse_json(file.read())
    except ValueError as error:
        return "damaged: nested too deeply" if "deeply" in str(error) else "damaged: no valid JSON"
    return None


def _vocabulary_fault(kind: str, file: BinaryIO, size: int) -> str | None:
    if size > VOCABULARY_LIMIT:
        return f"damaged: larger than {VOCABULARY_LIMIT >> 20} MiB"
    file.seek(0)
    content = file.read()
    try:
        parse_ranks(content) if kind == "tiktoken" else _walk_fields(content)
    except ValueError as error:
        return f"damaged: {error}"
    return None


def _walk_fields(content: bytes) -> None:
    """ValueError where a serialised message does not end with its last field. Its pieces come first, some 64,000.

    https://protobuf.dev/programming-guides/encoding/: a varint of field and wire type, then the field.
    """
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        kind, length = tag & 7, 0
        if kind in (0, 2):
            length, at = _varint(content, at)
        at += {0: 0, 1: 8, 2: length, 5: 4}.get(kind, len(content) + 1)
        if at > len(content) or not tag >> 3:
            raise ValueError("it is cut, or no sentencepiece model")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(content[at : at + 10]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("it is cut, or no sentencepiece model")
