"""The graphs of an engine as torch modules: a stage is a run of a model's pieces on one device.

A stage takes, of S tokens in each of B rows:

* ``taken``: token ids [B, S] (the first stage), or hidden states [B, S, H] of the stage before ([B, 1, H] behind the
  last layer),
* ``slots`` [B, S]: the slot of the caches that each token's keys and values go to; padding goes to the last one,
* ``positions`` [B, S], of ChatGLM-6B [B, 2, S]: for the rotary embedding,
* ``visible`` [B, S]: how many slots, from the first, a token sees,
* ``last`` [B]: the token of each row whose logits are wanted,
* ``order`` [T]: 0, 1, … T-1, the slots that are looked at; T may differ from call to call,
* the caches of its layers [B, kv heads, slots, D], keys and values by turns, which are written in place,

and returns hidden states, or logits [B, V] in float32 where it holds the head; told to, each layer's hidden states too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from glmcore.compiled.manifest import Stage
from glmcore.config import ModelConfig
from glmcore.layout import pieces
from glmcore.models.rope import rotation
from glmcore.plan import Types


def stages_of(config: ModelConfig, placement: Mapping[str, str], types: Mapping[str, Types]) -> tuple[Stage, ...]:
    """The runs of pieces between two changes of device, in the order of the forward pass."""
    found = []
    for device, run in groupby((piece.name for piece in pieces(config)), key=placement.__getitem__):
        names = tuple(run)
        layers = [name for name in names if name.startswith("layer.")]
        caches = tuple(f"{layer}.{kind}" for layer in layers for kind in ("keys", "values"))
        kinds = types[names[0]]
        found.append(Stage(device, names, caches, kinds.computing, kinds.cache))
    return tuple(found)


class Slots:
    """What a layer's attention takes for a cache: writes each token to its slot and looks at the first T slots."""

    def __init__(self, first: int, caches: Sequence[Tensor], slots: Tensor, count: int) -> None:
        self.first, self.caches, self.slots, self.count = first, caches, slots, count
        self.rows = torch.arange(slots.shape[0], device=slots.device)[:, None]

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, n, S, D]; returns keys and values [B, n, T, D] in their type."""
        at = 2 * (layer - self.first)
        seen = []
        for held, fresh in zip(self.caches[at : at + 2], (key, value), strict=True):
            held[self.rows, :, self.slots] = fresh.transpose(1, 2).to(held.dtype)
            seen.append(held[:, :, : self.count].to(fresh.dtype))
        return seen[0], seen[1]


class StageGraph(nn.Module):
    """One stage of ``model``, whose other pieces are taken away. ``telling``: it returns each layer's states, too."""

    def __init__(self, model: nn.Module, stage: Stage, telling: bool = False) -> None:
        super().__init__()
        self.config: ModelConfig = model.config
        self.held, self.telling = frozenset(stage.pieces), telling
        self.layers = [int(name.partition(".")[2]) for name in stage.pieces if name.startswith("layer.")]
        self.computing = getattr(torch, stage.computing)
        for piece in pieces(self.config):
            if piece.name not in self.held:
                parent, _, name = piece.module.rpartition(".")
                setattr(model.get_submodule(parent), name, nn.Identity())
        self.model = model

    def forward(
        self, taken: Tensor, slots: Tensor, positions: Tensor, visible: Tensor, last: Tensor, order: Tensor,
        *caches: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """As the module's docstring says: logits [B, V], or the state [B, S, H] that the next stage takes."""
        hidden = self.model.embedding(taken) if "embedding" in self.held else taken
        states: list[Tensor] = []
        if self.layers:
            hidden = self.through(hidden, slots, positions, visible, order, caches, states)
            if self.layers[-1] == self.config.num_layers - 1:
                hidden = hidden[torch.arange(hidden.shape[0], device=hidden.device), last][:, None]
        if "final_norm" in self.held:
            hidden = self.model.final_norm(hidden)
        if "lm_head" not in self.held:
            return hidden, *states
        return self.model.lm_head(hidden)[:, 0].float(), *states

    def through(
        self, hidden: Tensor, slots: Tensor, positions: Tensor, visible: Tensor, order: Tensor,
        caches: Sequence[Tensor], states: list[Tensor],
    ) -> Tensor:  # fmt: skip
        """[B, S, H] through the stage's layers."""
        turned = rotation(self.config, positions, self.computing)
        mask = (order < visible[:, :, None])[:, None]
        view = Slots(self.layers[0], caches, slots, order.shape[0])
        for index in self.layers:
            hidden = self.model.layers[index](hidden, turned, mask, view)
            if self.telling:
                states.append(hidden)
        return hidden
