"""How a library reads weights the fastest on this machine: some milliseconds of decoding decide. Standard library only.

No bit of a result depends on it, for the order of sums is the same. One thread and its processor time are measured,
so that other programs disturb little.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import statistics
import time
from collections.abc import Mapping, Sequence

from glmcore.kernels import abi

MEMORY, SAMPLE = 64 << 20, 4 << 20  # bytes: more than a processor's caches, of which each sample reads the next
PAGE = 2 << 20
ROUNDS = 9
LONGEST = 0.002  # seconds of a sample from which arithmetic decides, not reading
GAIN = 0.93  # of the library's own time, below which another way is taken
NARROW, WIDE = 4096, 13696  # columns
NEVER_WIDE = 1 << 40

Numbers = tuple[int, ...]


def ways(own: abi.Reading, columns: int) -> list[Numbers]:
    """What is tried for matrices of so many columns, the library's own way first."""
    near, far, most, wide = own.numbers
    if columns == NARROW:
        stretches, distances = (1 << 16, 1 << 19, 1 << 21), (256, 384, 512, 1024)
        others = [(ahead, far, stretch, wide) for stretch in stretches for ahead in distances]
    else:
        others = [(near, ahead, most, wide) for ahead in (256, 512, 1024)] + [(near, far, most, NEVER_WIDE)]
    return [own.numbers, *(way for way in others if way != own.numbers)]


def choose(taken: Mapping[Numbers, Sequence[float]]) -> Numbers:
    """The fastest way, by the median of its time against that of the first way in the same round; the first one unless
    another is faster by more than chance."""
    own, *_ = taken
    against = {
        way: statistics.median(mine / first for mine, first in zip(times, taken[own]))  # noqa: B905 (older interpreters)
        for way, times in taken.items()
    }
    best = min(against, key=lambda way: against[way])
    return best if against[best] < GAIN else own


def fastest(library: ctypes.CDLL) -> abi.Reading:
    """The best way for narrow matrices, then for wide ones; the library is left reading so."""
    found = abi.Reading()
    library.glm_reading(found)
    samples = Samples(library)
    for columns in (NARROW, WIDE):
        if samples.seconds(found.numbers, columns) > LONGEST:
            break
        taken: dict[Numbers, list[float]] = {way: [] for way in ways(found, columns)}
        for _ in range(ROUNDS):
            for way, times in taken.items():
                times.append(samples.seconds(way, columns))
        found = abi.Reading(*choose(taken))
    library.glm_read_by(found)
    return found


class Samples:
    """Products of one row with int4 weights that no cache holds."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library, self.at = library, 0
        self.memory = mmap.mmap(-1, MEMORY + PAGE)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # as weights lie, on systems that have such pages
            with contextlib.suppress(OSError):
                self.memory.madvise(mmap.MADV_HUGEPAGE)
        self.first = -(-ctypes.addressof(ctypes.c_char.from_buffer(self.memory)) // PAGE) * PAGE
        ctypes.memset(self.first, 0x35, MEMORY)  # pages that nobody wrote would all be the same one
        rows = SAMPLE // (NARROW // 2)
        self.x, self.y, self.scale = ((ctypes.c_float * count)() for count in (WIDE, rows, rows))

    def seconds(self, way: Numbers, columns: int) -> float:
        """Of this thread's processor time for the next sample."""
        self.library.glm_read_by(abi.Reading(*way))
        self.at = (self.at + SAMPLE) % MEMORY
        rows, weights = SAMPLE // (columns // 2), self.first + self.at
        started = time.thread_time()
        self.library.glm_linear(4, 0, weights, self.scale, None, self.x, self.y, 1, rows, columns, 1)
        return time.thread_time() - started
