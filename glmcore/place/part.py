"""Some layers of a model that are loaded alone: what a stage of a pipeline holds, a model of its own with fewer layers.

Its layers count from 0. What it does not have of the model's ends passes on what it is given: without an embedding it
takes hidden states, without a head it returns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import nn

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.layout import layout, piece_names, pieces, pieces_of_part
from glmcore.quant.convert import swap

Value = TypeVar("Value")


@dataclass(frozen=True)
class Part:
    """Layers ``first`` to before ``last`` of the model of ``config``. Errors: GlmError("plan-invalid")."""

    config: ModelConfig
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last <= self.config.num_layers:
            what = f"layers {self.first}-{self.last - 1} are none of the {self.config.num_layers} of {self.config.name}"
            raise GlmError("plan-invalid", what, hint="layers count from 0")

    @property
    def is_last(self) -> bool:
        return self.last == self.config.num_layers

    @property
    def own_config(self) -> ModelConfig:
        """That of a model which has these layers alone."""
        return replace(self.config, num_layers=self.last - self.first)

    @property
    def held(self) -> tuple[str, ...]:
        """The whole model's pieces that lie here."""
        return pieces_of_part(self.config, self.first, self.last)

    @property
    def tensors(self) -> list[str]:
        """The tensors that lie here, by their names in the whole model."""
        held = set(self.held)
        return [name for piece in pieces(self.config) if piece.name in held for name in piece.tensors]

    def name_here(self, tensor: str) -> str:
        """What a tensor of the whole model is called in the part."""
        before = f"{layout(self.config).layers}."
        if not tensor.startswith(before):
            return tensor
        index, _, rest = tensor.removeprefix(before).partition(".")
        return f"{before}{int(index) - self.first}.{rest}"

    def of(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """What stands for each piece of the whole model, by the part's own pieces; what is not here has what its
        neighbour has."""
        last = self.last - self.first
        ends = {"embedding": f"layer.{self.first}", "final_norm": f"layer.{self.last - 1}"}
        ends["lm_head"] = ends["final_norm"]
        layers = {f"layer.{index}": f"layer.{self.first + index}" for index in range(last)}
        held = set(self.held)
        wholes = {name: layers.get(name) or (name if name in held else ends[name]) for name in self.names}
        return {name: values[whole] for name, whole in wholes.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The part's own pieces, those that it does without too."""
        return piece_names(self.own_config)

    def leave_out(self, model: nn.Module) -> None:
        """Take off the ends that lie elsewhere."""
        for piece in pieces(self.own_config):
            if not piece.is_layer and piece.name not in self.held:
                swap(model, piece.module, nn.Identity())
