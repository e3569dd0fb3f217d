"""The generations as torch modules; ``build`` makes one from its configuration."""

from __future__ import annotations

from glmcore.config import ModelConfig
from glmcore.models.glm1 import GLM1
from glmcore.models.glm2 import GLM2
from glmcore.quant.convert import skeleton

__all__ = ["GLM1", "GLM2", "build"]


MODELS = {"glm1": GLM1, "glm2": GLM2}


def build(config: ModelConfig) -> GLM1 | GLM2:
    """The model of ``config``, with room for packed weights where it is quantised; the weights are still to come."""
    model = MODELS[config.traits.modules](config)
    if config.quantization_bit:
        skeleton(model, config.quantization_bit)
    if config.embedding_bits:
        tables = (model.embedding, model.lm_head)
        names = [name for name, module in model.named_modules() if module in tables]
        skeleton(model, config.embedding_bits, names)
    return model
