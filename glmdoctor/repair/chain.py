"""The lines of a journal: JSON objects, each with a checksum over itself and over every line before it.

A bit that flipped, a line that is missing, repeated, moved or another file's breaks the chain. A file may end within a
line alone: a kill cut that append, and the act that it announces never began. The next record begins a line of its own
and goes on from the last whole one. Journals of format 1 have no checksums, and a cut line is told by its end.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

LIMIT = 32 << 20  # bytes of one journal; what a repair rewrites is text of at most a megabyte a file
LINE_LIMIT = 8 << 20  # of one line: parsed, it takes some twenty times as much
SUMMED = re.compile(rb'(\{.*), "sum": "([0-9a-f]{64})"\}')


class Broken(ValueError):
    """A line that no glmdoctor wrote, or not in this place; the message says which."""


def line(record: Mapping[str, object], last: str | None) -> tuple[bytes, str | None]:
    """The record as a line, and the checksum that the next one goes on from; None is a journal without checksums."""
    body = json.dumps(record, sort_keys=True).encode()
    if last is None:
        return body, None
    total = _sum(last, body[:-1])
    return b'%s, "sum": "%s"}' % (body[:-1], total.encode()), total


def records(content: bytes, seed: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Every record with its checksum (None in format 1); ``seed`` is what the first line goes on from.

    Raises ``Broken`` where a line is not what was written there.
    """
    lines = content.split(b"\n")
    summed = any(SUMMED.fullmatch(each) for each in lines)
    last, cut = seed, 0
    for number, each in enumerate(lines, 1):
        if not each:
            continue
        if len(each) > LINE_LIMIT:
            raise Broken(f"line {number} is longer than any record")
        found = _chained(each, last) if summed else _plain(each)
        if found is None and number < len(lines) and _looks_whole(each, summed):
            raise Broken(f"line {number} is not what was written there")
        if found is None:
            cut = number
            continue
        cut, last = 0, found[1] or last
        yield found
    if summed and 0 < cut < len(lines):  # it has its line break, and nothing goes on from it
        raise Broken(f"line {cut} is not what was written there")


def _looks_whole(each: bytes, summed: bool) -> bool:
    return bool(SUMMED.fullmatch(each)) if summed else each.endswith(b"}")


def _chained(each: bytes, last: str) -> tuple[dict[str, Any], str] | None:
    match = SUMMED.fullmatch(each)
    if match is None or _sum(last, match[1]) != match[2].decode():
        return None
    record = _object(each)
    return None if record is None else (record, match[2].decode())


def _plain(each: bytes) -> tuple[dict[str, Any], None] | None:
    record = _object(each)
    return None if record is None else (record, None)


def _object(each: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(each)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _sum(last: str, body: bytes) -> str:
    return hashlib.sha256(last.encode() + b"\n" + body).hexdigest()
