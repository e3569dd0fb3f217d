"""Run the CPU kernel on a real layer's shape and read the memory once.

Input: {"library": path, "sha256": of the file that was verified, "threads": n}. Rows of the product are checked against
exact sums of integers.
"""

import ctypes
import json
import os
import sys
import time
from pathlib import Path

from glmcore.kernels.failure import KernelError
from glmcore.kernels.opening import opened

ROWS, COLUMNS = 27392, 4096  # gate and up projections of ChatGLM2-6B and ChatGLM3-6B
CHECKED = (0, 1, ROWS // 2, ROWS - 1)
READ = 256 << 20  # bytes; beyond any cache
ROUNDS = 3


def signed(packed):
    for byte in packed:
        for nibble in (byte >> 4, byte & 15):
            yield nibble - 16 if nibble > 7 else nibble


def linear(library, threads):
    """(worst relative error of the rows that are checked, best seconds)."""
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.glm_linear.argtypes = [ctypes.c_int, ctypes.c_int] + [pointer] * 5 + [size] * 3 + [ctypes.c_int]
    stride = COLUMNS // 2
    packed = os.urandom(ROWS * stride)
    x = [(value % 65) - 32 for value in os.urandom(COLUMNS)]
    scale = (ctypes.c_float * ROWS)(*[0.5] * ROWS)
    inputs, y = (ctypes.c_float * COLUMNS)(*x), (ctypes.c_float * ROWS)()
    best = None
    for _ in range(ROUNDS):
        start = time.perf_counter()
        status = library.glm_linear(4, 1, packed, scale, None, inputs, y, 1, ROWS, COLUMNS, threads)
        seconds = time.perf_counter() - start
        best = seconds if best is None else min(best, seconds)
        if status:
            raise SystemExit(f"the kernel answered {status}")
    worst = 0.0
    for row in CHECKED:
        weights = list(signed(packed[row * stride : (row + 1) * stride]))
        expected = sum(w * v for w, v in zip(weights, x)) / 2  # noqa: B905 (older interpreters)
        magnitude = sum(abs(w * v) for w, v in zip(weights, x)) / 2  # noqa: B905
        worst = max(worst, abs(y[row] - expected) / magnitude)
    return worst, best


def bandwidth(library, threads):
    """Bytes per second of reading, the best of some rounds."""
    library.glm_read.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
    library.glm_read.restype = ctypes.c_uint64
    data = ctypes.create_string_buffer(READ)
    ctypes.memset(data, 1, READ)  # otherwise every page is the same page of zeros
    best = 0.0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        library.glm_read(data, READ, threads)
        best = max(best, READ / (time.perf_counter() - start))
    return best


def main():
    asked = json.load(sys.stdin)
    try:
        library = opened(Path(asked["library"]), asked["sha256"])
    except KernelError as error:
        raise SystemExit(str(error)) from None
    error, seconds = linear(library, asked["threads"])
    print(json.dumps({"error": error, "seconds": seconds, "bandwidth": bandwidth(library, asked["threads"])}))


main()
