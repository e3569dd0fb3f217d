"""GLM-4's vocabulary: lines of ``base64 rank``, as tiktoken writes them. Imports no torch and no tiktoken."""

from __future__ import annotations

import base64


def parse_ranks(content: bytes) -> dict[bytes, int]:
    """The tokens with their ranks, which count from 0 and hold every byte. Errors: ValueError."""
    lines = [line.split() for line in content.splitlines() if line.strip()]
    try:
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except ValueError:  # of the base64, the number, or a line of three words
        raise ValueError("it holds lines that are no `base64 rank`") from None
    if sorted(ranks.values()) != list(range(len(lines))) or any(bytes([value]) not in ranks for value in range(256)):
        raise ValueError("ranks are missing or appear twice")
    return ranks
