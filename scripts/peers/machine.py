"""What the machine gives: read bandwidth as decoding reads, and the peaks of integer and float arithmetic.

    python machine.py SHAPE_JSON THREADS

Also holds what the other measurements by our own means share: compiling a C file as the kernels are.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from glmcore.checkpoint.memory import huge_empty
from glmcore.kernels.build import KernelLibrary
from glmcore.kernels.compiler import FLAGS, OPENMP
from glmcore.kernels.isa import ISAS
from glmcore.kernels.load import load_kernel

PEAK = Path(__file__).parent / "peak.c"
READ_BYTES = 1 << 30
ROUNDS = 4
PEAK_ROUNDS = 20_000_000


def compile_c(compiler: str, source: Path, flags: Sequence[str]) -> ctypes.CDLL:
    """The library made of one C file; torch's own OpenMP serves it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "lib.so"
        subprocess.run([compiler, *flags, str(source), "-o", str(target)], check=True)
        return ctypes.CDLL(str(target))


def compiler_of(library: KernelLibrary) -> str:
    """The compiler that built the kernels."""
    return library.compiler.partition(": ")[0]


def fastest(action: Callable[[], float]) -> float:
    """The best rate of a few rounds: what the machine can do, whatever else it did in the others."""
    return max(action() for _ in range(ROUNDS))


def rate(function: Callable[[int, int], int], threads: int) -> float:
    """Operations per second."""
    started = time.perf_counter()
    done = function(PEAK_ROUNDS, threads)
    return done / (time.perf_counter() - started)


def main() -> None:
    threads = int(sys.argv[2])
    torch.set_num_threads(threads)
    kernel = load_kernel(threads=threads)
    library = kernel.library
    flags = [flag for flag in FLAGS if not flag.startswith("-fvisibility")]
    peak = compile_c(compiler_of(library), PEAK, [*flags, "-shared", OPENMP, *ISAS[library.isa].flags])
    for function in (peak.peak_integers, peak.peak_floats):
        function.argtypes, function.restype = [ctypes.c_int64, ctypes.c_int], ctypes.c_int64
    peak.peak_name.restype = ctypes.c_char_p
    data = huge_empty([READ_BYTES], torch.int8).fill_(1)
    print(json.dumps({
        "bandwidth": fastest(lambda: kernel.read_bandwidth(data)) * 1e9,
        "integer_peak": fastest(lambda: rate(peak.peak_integers, threads)),
        "float_peak": fastest(lambda: rate(peak.peak_floats, threads)),
        "instruction": peak.peak_name().decode(),
        "isa": library.isa,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
