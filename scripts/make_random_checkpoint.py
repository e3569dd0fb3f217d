"""Write a checkpoint with random weights and the true shapes of a published model, to measure loading with.

    python scripts/make_random_checkpoint.py NAME FOLDER [--quant int8|int4]

NAME is for example chatglm2-6b or glm-4-9b. One seeded block of values is repeated, so writing costs little more than
the disk. There is no tokenizer: the weights could not answer anyway.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import Tensor

from glmcore.checkpoint.tensor_files import TensorInfo
from glmcore.checkpoint.writer import save_checkpoint
from glmcore.config import NAMED, ModelConfig
from glmcore.layout import Spec, expected

BLOCK = 1 << 22  # values
SPREAD = 0.02  # the standard deviation of the weights, about what trained ones have
SCALE = 0.003  # of a quantised row; times 7 again about what trained weights reach


class Source:
    """Random values by kind, always the same."""

    def __init__(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        self.dtype = dtype
        self.floats = (torch.randn(BLOCK, generator=generator) * SPREAD).to(dtype)
        self.bytes = torch.randint(-128, 128, (BLOCK,), generator=generator, dtype=torch.int8)

    def tensor(self, name: str, spec: Spec) -> Tensor:
        if spec.kind == "scale":
            return torch.full(spec.shape, SCALE, dtype=self.dtype)
        if "norm" in name and name.endswith("weight"):
            return torch.ones(spec.shape, dtype=self.dtype)
        block = self.bytes if spec.kind == "packed" else self.floats
        count = torch.Size(spec.shape).numel()
        return block.repeat(-(-count // BLOCK))[:count].view(spec.shape)


def write(given: ModelConfig, folder: Path, quant: str | None = None) -> None:
    """A checkpoint of the model of ``given`` in ``folder``."""
    bits = int(quant.removeprefix("int")) if quant else 0
    config = replace(given, quantization_bit=bits)
    specs = {key: spec for key, spec in expected(config).items() if not spec.optional}
    source = Source(getattr(torch, config.dtype))
    kinds = {"packed": torch.int8, "scale": source.dtype, "float": source.dtype}
    layout = {key: TensorInfo(kinds[spec.kind], spec.shape) for key, spec in specs.items()}

    def produce(names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        return ((key, source.tensor(key, specs[key])) for key in names)

    raw = {**config.raw, "_name_or_path": f"random-weights/{config.name}", "torch_dtype": config.dtype}
    save_checkpoint(
        folder, raw | ({"quantization_bit": bits} if bits else {}), layout, produce, source="random weights"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(NAMED))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quant", choices=["int8", "int4"])
    options = parser.parse_args()
    write(NAMED[options.name], options.folder, options.quant)


if __name__ == "__main__":
    main()
