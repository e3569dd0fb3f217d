"""Our own kernels (int4, precision fast) at the layers' shapes, beside the peers that are measured so."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import layers
import torch

from glmcore.checkpoint.memory import huge_empty
from glmcore.kernels.load import load_kernel


def prepare(threads: int):
    torch.set_num_threads(threads)
    kernel = load_kernel(threads=threads, precision="fast")

    def build(rows: int, columns: int, copies: int, seed: int):
        packed = huge_empty([copies, rows, columns // 2], torch.int8).random_(-128, 128)
        scale, generator = torch.full((rows,), 0.004), torch.Generator().manual_seed(seed)
        inputs: dict[int, torch.Tensor] = {}

        def run(length: int) -> None:
            x = inputs.setdefault(length, torch.randn(length, columns, generator=generator))
            for weight in packed:
                kernel.linear(x, weight, scale, bits=4)

        return run

    return build


if __name__ == "__main__":
    layers.main(prepare)
