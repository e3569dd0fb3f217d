"""How long `glmdoctor explain` takes for long logs, everyday ones and forged ones; no line comes twice.

    python scripts/bench_explain.py [--megabytes 30]

CPU seconds for 100 MB, less what making the log takes, and the largest memory of the process so far.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import time
from collections.abc import Callable, Iterator

from glmdoctor.explain import book, explain
from glmdoctor.explain.signatures import WORD

STAMP = "2026-03-11 11:00:21,{} - INFO - "
BUSY = "step loss loading shard model cuda device ready request response user nvidia driver file not found"
FAULT = "RuntimeError: CUDA out of memory. Tried to allocate 2.34 GiB"
DOCKER = '{{"log":"\\u001b[31mstep {} \\"x\\" model not found 模型\\u001b[0m\\n","stream":"stderr"}}'
PIECES = sorted({piece for pattern in book().patterns for piece in pattern.pieces if piece.strip()})
WORDS = sorted({word for piece in PIECES for word in WORD.findall(piece)})


def shuffled(number: int, parts: list[str]) -> str:
    return " ".join(random.Random(number).sample(parts, len(parts)))


def torn(number: int) -> list[str]:
    """All pieces of all signatures, each in two."""
    places = random.Random(number)
    halves = [(piece[:cut], piece[cut:]) for piece in PIECES for cut in [places.randint(0, len(piece))]]
    return [half for pair in halves for half in pair]


LOGS: dict[str, Callable[[int], str]] = {
    "everyday lines": lambda n: STAMP.format(n) + BUSY,
    "an error on every line": lambda n: STAMP.format(n) + FAULT,
    "container JSON": lambda n: DOCKER.format(n),
    "forged, all words": lambda n: f"{n} " + " ".join(WORDS),
    "forged, in another order": lambda n: f"{n} " + shuffled(n, WORDS),
    "forged, pieces torn apart": lambda n: f"{n} " + shuffled(n, torn(n)),
    "forged, last letters gone": lambda n: f"{n} " + shuffled(n, [piece[:-1] for piece in PIECES]),
}


class Log(io.RawIOBase):
    """Lines of ``line`` until they are ``size`` bytes, made while they are read."""

    def __init__(self, line: Callable[[int], str], size: int) -> None:
        self.lines, self.left, self.rest = self._lines(line), size, b""

    @staticmethod
    def _lines(line: Callable[[int], str]) -> Iterator[bytes]:
        number = 0
        while True:
            number += 1
            yield line(number).encode() + b"\n"

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, self.left)
        while len(self.rest) < size:
            self.rest += next(self.lines)
        block, self.rest = self.rest[:size], self.rest[size:]
        self.left -= len(block)
        return block


def seconds(log: Log, read: Callable[[Log], object]) -> float:
    start = time.process_time()
    read(log)
    return time.process_time() - start


def drained(log: Log) -> None:
    while log.read(1 << 16):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="How long `glmdoctor explain` takes for long logs.")
    parser.add_argument("--megabytes", type=int, default=30)
    size = parser.parse_args().megabytes << 20
    for name, line in LOGS.items():
        taken = seconds(Log(line, size), explain) - seconds(Log(line, size), drained)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"{name:<26} {taken / (size >> 20) * 100:6.1f} s for 100 MB, {memory} MB")


if __name__ == "__main__":
    main()
