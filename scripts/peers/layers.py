"""What the peers measured by layers have in common: the shapes, the timing, and the line they print.

A peer is run as ``python PEER.py SHAPE_JSON THREADS LENGTHS`` and prints, as JSON, the seconds that all linear layers
of the model take for one token (the head too) and for prompts of the given lengths (without the head).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

ROTATED_BYTES = 100_000_000  # weights of one shape, read in turn, so that no cache keeps them
MOST_COPIES = 16  # of the small shapes of tests, which would need thousands
GROUP = 128  # columns that share a scale
ROUNDS = 3


def sizes(config) -> dict[str, int]:
    """The shape of a model as the peers take it, from its ModelConfig."""
    return {
        "layers": config.num_layers, "hidden": config.hidden_size, "ffn": config.ffn_hidden_size,
        "heads": config.num_heads, "kv_heads": config.num_kv_heads, "head_dim": config.head_dim,
        "vocab": config.vocab_size, "context": config.max_length,
    }  # fmt: skip


def layer_shapes(shape: dict[str, int]) -> list[tuple[int, int]]:
    """(rows, columns) of the four linears of a layer."""
    hidden, ffn = shape["hidden"], shape["ffn"]
    qkv = hidden + 2 * shape["kv_heads"] * shape["head_dim"]
    return [(qkv, hidden), (hidden, hidden), (2 * ffn, hidden), (hidden, ffn)]


def head_shape(shape: dict[str, int]) -> tuple[int, int]:
    return shape["vocab"], shape["hidden"]


def copies(rows: int, columns: int) -> int:
    """How many int4 matrices of this shape make up ``ROTATED_BYTES``."""
    return min(MOST_COPIES, -(-ROTATED_BYTES // (rows * columns // 2)))


def median_seconds(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Of a few runs after one that does not count."""
    action()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(
    build: Callable[[int, int, int, int], Callable[[int], object]], shape: dict[str, int], lengths: list[int]
) -> dict:
    """Seconds per token and per prompt; ``build(rows, columns, copies, seed)`` gives a function of the row count."""
    decode, prefill = 0.0, dict.fromkeys(map(str, lengths), 0.0)
    for rows, columns in layer_shapes(shape):
        count = copies(rows, columns)
        run = build(rows, columns, count, 0)
        decode += shape["layers"] * median_seconds(lambda run=run: run(1), 5) / count
        run = build(rows, columns, 1, 1)
        for length in lengths:
            prefill[str(length)] += shape["layers"] * median_seconds(lambda run=run, length=length: run(length), 1)
    head = build(*head_shape(shape), 1, 2)
    return {"decode_s": decode + median_seconds(lambda: head(1), 5), "prefill_s": prefill}


def main(prepare: Callable[[int], Callable[[int, int, int, int], Callable[[int], object]]]) -> None:
    """``prepare(threads)`` gives ``build``."""
    shape, threads = json.loads(sys.argv[1]), int(sys.argv[2])
    lengths = [int(length) for length in sys.argv[3].split(",")]
    print(json.dumps(measure(prepare(threads), shape, lengths)))
