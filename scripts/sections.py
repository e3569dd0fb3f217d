"""Sections of a document that a program writes: each between two markers of its own."""

from __future__ import annotations

from pathlib import Path


def put_into(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between the markers by ``text``, which has them, or add it at the end."""
    old = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    before, _, rest = old.partition(begin)
    after = rest.partition(end)[2] or "\n"
    path.write_text(before.rstrip("\n") + "\n\n" + text + after, encoding="utf-8")
