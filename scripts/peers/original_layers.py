"""The original code's way: expand int4 weights to float32 before every product, with its own compiler flags."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import layers
import torch
from machine import compile_c, compiler_of

from glmcore.kernels.compiler import SOURCES
from glmcore.kernels.load import load_kernel

# As the original's quantization.py compiles it.
FLAGS = ("-O3", "-fPIC", "-pthread", "-fopenmp", "-std=c99", "-shared")


def prepare(threads: int):
    torch.set_num_threads(threads)
    code = compile_c(compiler_of(load_kernel().library), SOURCES / "original.c", FLAGS)
    code.set_num_threads(threads)
    extract = code.extract_int4_weight_to_float
    extract.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int] * 2

    def build(rows: int, columns: int, copies: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        packed = torch.randint(-128, 128, (copies, rows, columns // 2), dtype=torch.int8, generator=generator)
        scale = torch.full((rows,), 0.004)

        def run(length: int) -> None:
            x = torch.zeros(length, columns)
            for weight in packed:
                expanded = torch.empty(rows, columns)
                extract(weight.data_ptr(), scale.data_ptr(), expanded.data_ptr(), rows, columns // 2)
                torch.nn.functional.linear(x, expanded)

        return run

    return build


if __name__ == "__main__":
    layers.main(prepare)
