"""Functions applied to a model: make room for quantised weights, quantise it, give it a kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from glmcore.quant.halves import HalfEmbedding, HalfLinear
from glmcore.quant.linear import QuantEmbedding, QuantLinear
from glmcore.quant.schemes import quantize_rows

if TYPE_CHECKING:
    from glmcore.kernels.load import Kernel


def layer_linears(model: nn.Module) -> list[str]:
    """The names of the linears inside the transformer layers: what the original quantises."""
    return [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and "layers" in name.split(".")
    ]


def skeleton(
    model: nn.Module, bits: int, names: Iterable[str] | None = None, *, dtype: torch.dtype = torch.float16
) -> nn.Module:
    """Swap the named linears and embeddings for empty quantised ones on their devices (meta stays meta)."""
    for name in layer_linears(model) if names is None else list(names):
        swap(model, name, _empty(model.get_submodule(name), bits, dtype))
    return model


def quantize_model(
    model: nn.Module, bits: int, names: Iterable[str] | None = None, *, in_float32: bool = False
) -> nn.Module:
    """Quantise the named modules in place, one after another, so that only one is held twice.

    ``in_float32`` divides as ChatGLM-6B's quantiser does.
    """
    for name in layer_linears(model) if names is None else list(names):
        source = model.get_submodule(name)
        swap(model, name, quantize_module(source, bits, in_float32=in_float32))
    return model


@torch.no_grad()
def quantize_module(source: nn.Module, bits: int, *, in_float32: bool = False) -> QuantLinear | QuantEmbedding:
    """One ``nn.Linear`` or ``nn.Embedding`` → its quantised stand-in."""
    target = _empty(source, bits, source.weight.dtype)
    target.weight, target.weight_scale = quantize_rows(source.weight.float() if in_float32 else source.weight, bits)
    if isinstance(target, QuantLinear) and source.bias is not None:
        target.bias = source.bias.detach()
    return target


def keep_halves(model: nn.Module, dtype: torch.dtype, inside: Iterable[nn.Module] | None = None) -> None:
    """Let plain embeddings and linears keep weights of 16 bits while the model computes in ``dtype``.

    Their own weights stay what they are, also where those of 16 bits are still to come.

    inside: the parts of the model that this is done in; embedding and head where None.
    """
    parts = (model.embedding, model.lm_head) if inside is None else inside
    chosen = {id(module) for part in parts for module in part.modules()}
    for name, module in list(model.named_modules()):
        if id(module) not in chosen:
            continue
        if type(module) is nn.Embedding:
            swap(model, name, HalfEmbedding.of(module, dtype))
        elif type(module) is nn.Linear:
            swap(model, name, HalfLinear.of(module))


def attach_kernel(model: nn.Module, kernel: Kernel | None) -> nn.Module:
    """Let every linear that it can compute run through ``kernel`` (None: through torch)."""
    for module in model.modules():
        if isinstance(module, (QuantLinear, HalfLinear)):
            module.kernel = kernel
        if isinstance(module, QuantLinear) and kernel is not None and module.weight.device.type == "cpu":
            # Now rather than in the first prompt, whose large blocks the allocator could not give back around them.
            module._scale_and_bias()
    return model


def _empty(source: nn.Module, bits: int, dtype: torch.dtype) -> QuantLinear | QuantEmbedding:
    device = source.weight.device
    if isinstance(source, nn.Embedding):
        kind = source.weight.dtype if source.weight.is_floating_point() else torch.float32
        return QuantEmbedding(source.num_embeddings, source.embedding_dim, bits, dtype=kind, device=device)
    return QuantLinear(
        source.in_features, source.out_features, bits, source.bias is not None, dtype=dtype, device=device
    )


def swap(model: nn.Module, name: str, module: nn.Module) -> None:
    """Let ``module`` be the model's part of that name."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)
