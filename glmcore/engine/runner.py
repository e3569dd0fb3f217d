"""Runs a model over one sequence: prefill, then one token after the other, on a cache that is kept between turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from glmcore.config import ModelConfig
from glmcore.engine.graph import GraphStep, StaticStep, can_record
from glmcore.engine.native import CHUNK, native_model
from glmcore.engine.pipeline import prefill_chunks
from glmcore.engine.sequence import common_prefix
from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState, step_inputs
from glmcore.plan.planner import PREFILL_CHUNK

# The cache starts with one block and doubles, so that a long chat copies it only a few times.
CACHE_BLOCK = 512


class Runner:
    """A model with its cache. ``reused`` counts the prompt tokens that the last prefill found in the cache."""

    def __init__(self, model: nn.Module, config: ModelConfig) -> None:
        self.model, self.config = model, config
        self.positions: PositionState | None = None
        self.reused = 0
        self.forget()

    def forget(self) -> None:
        """An empty cache, where the model's layers are now."""
        capacity = min(CACHE_BLOCK, self.config.max_length)
        self.cache = KVCache(self.config, 1, capacity, layer_dtypes(self.model), layer_devices(self.model))
        self.held: list[int] = []  # the tokens whose keys and values are in the cache
        self.records = can_record(self.model)
        self.step: StaticStep | None = None
        self.native = native_model(self.model, self.config)

    @torch.inference_mode()
    def prefill(self, prompt: Sequence[int]) -> Tensor:
        """Logits [V] after ``prompt``; what the cache holds of it already is not computed again."""
        self.reused = min(common_prefix(self.held, prompt), len(prompt) - 1) if self.config.traits.causal else 0
        self.cache.length = self.reused
        self.held = list(prompt[: self.reused])  # all that is sure until the pass has come to its end
        self.make_room(len(prompt))
        logits = self._read(torch.tensor([prompt[self.reused :]], device=self.device))
        self.held = list(prompt)
        return logits

    def _read(self, ids: Tensor) -> Tensor:
        """Logits [V] after ``ids`` [1, S], the rest of a prompt."""
        native = self.native if self.native is not None and self.native.takes(ids.shape[1]) else None
        if not self.config.traits.causal:
            self.positions = PositionState(self.config, ids)
            inputs = self.positions.prompt()
            if native is not None:
                return native(ids, self.cache, inputs["position_ids"], self.positions.context[0], prompt=ids.shape[1])
            return self.model(ids, cache=self.cache, last_only=True, **inputs)[0, -1]
        if native is not None:
            length = self.reused + ids.shape[1]
            return [native(chunk, self.cache, prompt=length) for chunk in ids.split(CHUNK, dim=1)][-1]
        return prefill_chunks(self.model, ids.split(PREFILL_CHUNK, dim=1), self.cache)[0, -1]

    @torch.inference_mode()
    def decode(self, token: int) -> Tensor:
        """Logits [V] after one more token."""
        self.make_room(len(self.held) + 1)
        ids = torch.tensor([[token]], device=self.device)
        inputs = step_inputs(self.positions, ids) if self.positions else {}
        logits = self._step(ids, inputs)
        self.held.append(token)
        return logits

    def _step(self, ids: Tensor, inputs: Mapping[str, Tensor | None]) -> Tensor:
        """Logits [V] after ``ids`` [1, 1]."""
        if self.records:
            if self.step is None or not self.step.usable:
                self.step = GraphStep(self.model, self.cache)
            last = torch.tensor([[self.cache.length]], device=self.device)
            return self.step(ids, inputs.get("position_ids", last))[0]
        if self.native is not None:
            return self.native(ids, self.cache, inputs.get("position_ids"))
        return self.model(ids, cache=self.cache, last_only=True, **inputs)[0, -1]

    @property
    def device(self) -> torch.device:
        """Where token ids belong: beside the embedding."""
        return next(self.model.embedding.buffers(), next(self.model.embedding.parameters(), None)).device

    def make_room(self, length: int) -> None:
        capacity = self.cache.capacity
        while capacity < length:
            capacity *= 2
        self.cache.reserve(min(capacity, max(length, self.config.max_length)))


def layer_dtypes(model: nn.Module) -> list[torch.dtype]:
    """The type that each layer computes in, which is that of its norms and of its keys and values."""
    return [layer.input_layernorm.weight.dtype for layer in model.layers]


def layer_devices(model: nn.Module) -> list[torch.device]:
    """The device of each layer, which is that of its keys and values."""
    return [next(layer.parameters()).device for layer in model.layers]
