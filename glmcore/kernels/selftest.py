"""Checks a kernel library in a process of its own: ``python selftest.py LIBRARY`` prints one JSON object.

A library built for another CPU dies here (SIGILL, SIGSEGV) instead of in the caller. Standard library only, so that it
starts in a few hundredths of a second and runs in any interpreter.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import struct
import sys

# This runs isolated, with no packages but the standard library's: glmcore's own folder comes after those.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from glmcore.kernels import abi, plain_step, reading
from glmcore.kernels.abi import NOT_FINITE, PRECISIONS
from glmcore.kernels.plain_step import Numbers

BLOCK = 128
ELF_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
# (activation rows, matrix rows, columns): odd sizes, short last blocks, rows one by one, few and many rows by tiles.
SHAPES = ((1, 5, 130), (2, 37, 258), (5, 35, 128), (17, 3, 130))
EXACT = PRECISIONS.index("exact")
# The largest integer that activations of so many bits are rounded to.
LARGEST = {8: 127, 16: 32639}
# Float32 sums in another order differ by this share of the sum of magnitudes at most.
TOLERANCE = 2e-6
# Of a whole step, as a share of the largest value: some ten products in a row, with norms and e^x to 2e-7 between them.
# bfloat16 rounds keys, values, and with them queries and weights, by up to 2^-9.
STEP_TOLERANCES = {abi.SINGLE: 5e-5, abi.BRAIN: 2e-2}
FAST_TOLERANCE = 0.1  # activations of 8 bits in matrices as small as these: it is looked for the wrong, not the rough


class Failure(Exception):
    """Why the library cannot be used: the stage that failed and one line."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage


def why_not_loaded(path: str, error: OSError) -> str:
    """The loader's words, or the plainer fact that the file is none of this machine's libraries."""
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError as unreadable:
        return str(unreadable)
    if head[:4] != b"\x7fELF":
        return "it is no ELF library" if head else "the file is empty"
    built_for = ELF_MACHINES.get(int.from_bytes(head[18:20], "little"), "another processor")
    here = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "").lower()
    return str(error) if built_for == here else f"it was built for {built_for}, this machine is {here}"


def open_library(path: str) -> ctypes.CDLL:
    """Load the library and declare its functions. Errors: ``Failure``."""
    # Threads that wait actively for each other take seconds on a busy machine. libgomp reads this at its load.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise Failure("load", why_not_loaded(path, error)) from error
    try:
        abi.declare(library)
    except abi.Mismatch as error:
        raise Failure("symbols", str(error)) from error
    return library


def weights(packed: bytes, bits: int, columns: int) -> list[list[int]]:
    """Packed rows → rows of integers, by the definition of the packing."""
    if bits == 4:
        values = [nibble - 16 if nibble > 7 else nibble for byte in packed for nibble in (byte >> 4, byte & 15)]
    else:
        values = [byte - 256 if byte > 127 else byte for byte in packed]
    return [values[at : at + columns] for at in range(0, len(values), columns)]


def rounded(row: list[float], bits: int) -> list[float]:
    """What activations of 8 or 16 bits with one scale per block keep of a row."""
    out: list[float] = []
    for at in range(0, len(row), BLOCK):
        block = row[at : at + BLOCK]
        scale = max(map(abs, block)) / LARGEST[bits]
        out += [round(x / scale) * scale if scale else 0.0 for x in block]
    return out


def worst_error(library: ctypes.CDLL, bits: int, precision: int, shape: tuple[int, int, int], rng: Numbers) -> float:
    """The largest error of one product, as a share of the sum of its terms' magnitudes. Errors: ``Failure``."""
    m, n, k = shape
    packed = bytes([0x80, 0x7F, 0x88, 0x77] + [rng.integer(0, 255) for _ in range(n * k * bits // 8 - 4)])
    scale, bias = [rng.integer(8, 24) / 16 for _ in range(n)], [rng.integer(-16, 16) / 16 for _ in range(n)]
    # Quarters of up to 16 bits: floats hold them exactly, and rounding to so many steps has no ties.
    x = [[rng.integer(-30000, 30000) / 4 for _ in range(k)] for _ in range(m)]
    y = (ctypes.c_float * (m * n))(*[math.nan] * (m * n))
    floats = [(ctypes.c_float * len(values))(*values) for values in (scale, bias, [v for row in x for v in row])]
    status = library.glm_linear(bits, precision, packed, *floats, y, m, n, k, 2)
    if status != 0:
        raise Failure("verify", f"status {status} for int{bits}, {m} x {n} x {k}")
    worst, rows, kept = 0.0, weights(packed, bits, k), library.glm_precision(bits, precision, m)
    for i, row in enumerate(x if precision == EXACT else [rounded(row, kept) for row in x]):
        for j, w in enumerate(rows):
            terms = [a * b for a, b in zip(row, w)]  # noqa: B905 (runs in older interpreters too)
            expected = scale[j] * math.fsum(terms) + bias[j]
            error = abs(y[i * n + j] - expected) / (math.fsum(map(abs, terms)) * scale[j] + abs(bias[j]))
            worst = max(worst, error if error == error else math.inf)
    if worst > TOLERANCE:
        raise Failure("verify", f"int{bits} {PRECISIONS[precision]} {m} x {n} x {k} is off by {worst:.1e}")
    return worst


def check_halves(library: ctypes.CDLL, brain: bool, rng: Numbers) -> None:
    """A product with 16-bit floats; small integers are exact in both kinds, whatever the order of summing.

    Errors: ``Failure``.
    """
    m, n, k = 2, 37, 45
    w, x = [rng.integer(-100, 100) for _ in range(n * k)], [rng.integer(-100, 100) for _ in range(m * k)]
    # bfloat16 is the upper half of float32.
    packed = b"".join(struct.pack("<f", v)[2:] for v in w) if brain else struct.pack(f"<{n * k}e", *w)
    y = (ctypes.c_float * (m * n))()
    library.glm_linear16(brain, packed, (ctypes.c_float * len(x))(*x), y, m, n, k, 2)
    for i in range(m):
        for j in range(n):
            if y[i * n + j] != sum(a * b for a, b in zip(x[i * k : (i + 1) * k], w[j * k : (j + 1) * k])):  # noqa: B905
                raise Failure("verify", f"{'bfloat16' if brain else 'float16'} is off at row {j}")


def check_step(library: ctypes.CDLL, shape: plain_step.Shape, cache: int, rng: Numbers) -> None:
    """The passes of a small model, the first also a row and half a layer at a time, one again as ``fast`` takes answers
    beside prompts; one with a NaN is reported.

    Errors: ``Failure``.
    """
    model = plain_step.SmallModel(shape, rng, cache)
    for tokens in plain_step.PASSES:
        check_pass(library, plain_step.Pass(model, tokens, rng), STEP_TOLERANCES[cache])
    check_pass(library, plain_step.Pass(model, plain_step.PASSES[0], rng), STEP_TOLERANCES[cache], at_once=1)
    model.described.precision = plain_step.FAST
    run = plain_step.Pass(model, plain_step.PASSES[-2], rng, answers=1)
    check_pass(library, run, FAST_TOLERANCE)
    run.hidden[0] = math.nan
    if run.by(library) != NOT_FINITE:
        raise Failure("verify", "a NaN within a step was not reported")


def check_pass(library: ctypes.CDLL, run: plain_step.Pass, tolerance: float, at_once: int = 0) -> None:
    """One pass against plain Python, in halves of layers where so many rows at once are named. Errors: ``Failure``."""
    if (status := run.in_halves(library, at_once) if at_once else run.by(library)) != 0:
        raise Failure("verify", f"status {status} for a step of {run.model.shape.name}")
    if (error := run.error()) > tolerance:
        what = f"{run.model.shape.name}, {run.rows} tokens, cache {run.model.described.cache}"
        raise Failure("verify", f"a step of {what} is off by {error:.1e}")


def check(path: str) -> dict[str, object]:
    """Open the library and compare every path with plain Python; raises ``Failure``."""
    library = open_library(path)
    rng = Numbers()
    worst = max(
        worst_error(library, bits, precision, shape, rng)
        for bits in (4, 8)
        for precision in range(len(PRECISIONS))
        for shape in SHAPES
    )
    check_halves(library, False, rng)
    check_halves(library, True, rng)
    for shape in plain_step.SHAPES:
        for cache in STEP_TOLERANCES:
            check_step(library, shape, cache, rng)
    bad = (ctypes.c_float * 2)(1.0, math.nan)
    one, y = (ctypes.c_float * 1)(1.0), (ctypes.c_float * 1)()
    if library.glm_linear(8, 0, b"\1\1", one, None, bad, y, 1, 1, 2, 1) != NOT_FINITE:
        raise Failure("verify", "a NaN among the activations was not reported")
    return {"isa": library.glm_isa().decode(), "openmp": bool(library.glm_openmp()), "max_error": worst,
            "reading": reading.fastest(library).numbers}  # fmt: skip


def main() -> None:
    try:
        answer = check(sys.argv[1])
    except Failure as failure:
        answer = {"stage": failure.stage, "reason": str(failure)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
