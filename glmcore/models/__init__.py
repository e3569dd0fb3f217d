"""The four generations as torch modules; ``build`` makes one from its configuration."""

from __future__ import annotations

from torch import nn

from glmcore.config import ModelConfig
from glmcore.models.glm1 import GLM1
from glmcore.models.glm2 import GLM2
from glmcore.quant.convert import layer_linears, skeleton

__all__ = ["GLM1", "GLM2", "build"]


def build(config: ModelConfig) -> GLM1 | GLM2:
    """The model of ``config``, with room for packed weights where it is quantised; the weights are still to come."""
    model = GLM1(config) if config.generation == "v1" else GLM2(config)
    if config.quantization_bit:
        skeleton(model, config.quantization_bit, quantized_names(config, model))
    return model


def quantized_names(config: ModelConfig, model: nn.Module) -> list[str]:
    """The modules that the configuration says are packed."""
    tables = (model.embedding, model.lm_head) if config.quantized_embeddings else ()
    return layer_linears(model) + [name for name, module in model.named_modules() if module in tables]
