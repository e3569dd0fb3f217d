"""What is measured: a prompt of so many tokens, an answer of so many, and a model that needs no checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.layout import bits_of, piece_of
from glmcore.place.loader import assign, empty_model, kept_dtype, plan_on_cpu, tie
from glmcore.place.random import Drawer
from glmcore.place.ready import ready
from glmcore.plan import Plan


@dataclass(frozen=True)
class Workload:
    """Tokens of the prompt and of the answer."""

    prompt: int
    generate: int

    def check(self, config: ModelConfig) -> None:
        """GlmError("usage") where the model's context is shorter."""
        if self.prompt < 3 or self.generate < 1:
            raise GlmError("usage", "a workload has at least 3 tokens of prompt and 1 of answer")
        if self.prompt + self.generate > config.max_length:
            asked = f"{self.prompt} and {self.generate} tokens"
            raise GlmError("usage", f"{asked} exceed the model's context of {config.max_length}")


def prompt_ids(config: ModelConfig, count: int, seed: int = 0) -> list[int]:
    """Ordinary token ids, the same for the same seed; ChatGLM-6B's prompt ends as its own do."""
    drawn = torch.randint(10, config.vocab_size // 2, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    if not config.traits.causal:
        drawn[-2:] = [config.gmask_token_id, config.bos_token_id]
    return drawn


def random_model(
    config: ModelConfig,
    dtype: torch.dtype | str | None = None,
    *,
    plan: Plan | None = None,
    **computing: Any,
) -> nn.Module:
    """A model of ``config``'s shapes with random weights, placed by a plan or else on the CPU.

    computing: what ``ready`` takes besides.
    """
    plan = plan or plan_on_cpu(config, dtype)
    types, placement = plan.types, plan.placement
    model = empty_model(config, types)
    draw = Drawer(seed=0)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        piece = piece_of(config, name).name
        kept = kept_dtype(config, name, types[piece]) or getattr(torch, types[piece].stored)
        assign(model, name, draw(name, tensor, kept, bits_of(config, name), torch.device(placement[piece])))
    if config.tie_embeddings:
        tie(model)
    return ready(model, placement, **computing)
