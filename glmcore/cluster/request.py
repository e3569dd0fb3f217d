"""What the user asked for, before any node was seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from glmcore import demo
from glmcore.checkpoint.locate import find_folder
from glmcore.cluster.planning import Wish
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.plan import Precision

# Tokens that a plan keeps room for where nobody says how many.
USUAL_CONTEXT = 2048


@dataclass(frozen=True)
class Request:
    """``model``: an absolute folder or a name, the demo model where None.

    loading, answering: of ``glmcore.load``'s settings those for the weights and for the engine.
    """

    model: str | None = None
    quant: str | None = None
    dtype: str | None = None
    cache: str | None = None
    threads: int | None = None
    address: str = "local"
    nodes: int = 2
    replicas: int | None = None
    stages: int | None = None
    context: int | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)
    answering: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """The checkpoint on this machine. Errors: GlmError("model-path")."""
        return demo.folder() if self.model is None else find_folder(self.model)

    @cached_property
    def config(self) -> ModelConfig:
        """As it is to be run. Errors: GlmError of a checkpoint."""
        from glmcore.checkpoint import open_checkpoint
        from glmcore.place.loader import target_config

        with open_checkpoint(self.folder) as checkpoint:
            return target_config(checkpoint.config, self.quant)

    @property
    def adapter(self) -> str | None:
        """Its folder, on all nodes."""
        return self.loading.get("adapter")

    def check(self) -> None:
        """Look for what is asked for, before anything is started. Errors: GlmError("model-path") and of an adapter."""
        _ = self.folder
        if self.adapter is not None:
            self._stages()

    @cached_property
    def wish(self) -> Wish:
        """In the type that this machine would load it in, so that all nodes compute in the same one.

        Errors: GlmError of a checkpoint and of an adapter, "usage" for stages of a model that has to lie whole.
        """
        from glmcore.place.loader import default_dtype

        config = self.config
        context = min(self.context or USUAL_CONTEXT, config.max_length)
        precision = Precision.of(config, self.dtype or default_dtype(config), config.quantization_bit, self.cache)
        return Wish(config, precision, context, self.replicas, self.threads, self._stages())

    @property
    def kernel(self) -> bool:
        """Whether it runs through the CPU's kernel there, as what is quantised or kept in 16 bits does."""
        return bool(self.wish.precision.bits) or self.wish.precision.dtype != "float32"

    def _stages(self) -> int | None:
        """As asked for, but one where there is a P-Tuning."""
        from glmcore.place.adapters import PrefixTuning, open_adapter

        if self.adapter is None or not isinstance(open_adapter(self.adapter, self.config), PrefixTuning):
            return self.stages
        if (self.stages or 1) > 1:
            hint = "leave --stages away"
            raise GlmError("usage", "a P-Tuning is put on a whole model", where="--stages", hint=hint)
        return 1
