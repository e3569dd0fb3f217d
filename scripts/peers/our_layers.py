"""Our own kernels (int4, precision fast) at the layers' shapes, beside the peers that are measured so: products alone,
into memory that is there already, as in a whole model."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import layers
import torch

from glmcore.checkpoint.memory import huge_empty
from glmcore.kernels.load import declared, load_kernel


def prepare(threads: int):
    torch.set_num_threads(threads)
    kernel = load_kernel(threads=threads, precision="fast")
    linear = declared(kernel.library).glm_linear

    def build(rows: int, columns: int, copies: int, seed: int):
        packed = huge_empty([copies, rows, columns // 2], torch.int8).random_(-128, 128)
        scale, generator = torch.full((rows,), 0.004), torch.Generator().manual_seed(seed)
        memory: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

        def run(length: int) -> None:
            if length not in memory:
                memory[length] = torch.randn(length, columns, generator=generator), torch.zeros(length, rows)
            x, y = memory[length]
            for weight in packed:
                pointers = (tensor.data_ptr() if tensor is not None else None for tensor in (weight, scale, None, x, y))
                assert linear(4, kernel.precision_number, *pointers, length, rows, columns, threads) == 0

        return run

    return build


if __name__ == "__main__":
    layers.main(prepare)
