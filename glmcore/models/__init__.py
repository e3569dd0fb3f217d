"""The four generations as torch modules; ``build`` makes one from its configuration."""

from __future__ import annotations

from torch import nn

from glmcore.config import ModelConfig
from glmcore.models.glm1 import GLM1
from glmcore.models.glm2 import GLM2

__all__ = ["GLM1", "GLM2", "build"]


def build(config: ModelConfig) -> nn.Module:
    """The model of ``config``, not quantised, with weights as torch leaves them (none under the meta device)."""
    return GLM1(config) if config.generation == "v1" else GLM2(config)
