"""``ConfigMultiDevices``: the hand-made split of ChatGLM_MultiGPUCPU_eval, for every generation and number of layers.

Other forms of the same wish are taken too: the device maps of transformers and of THUDM's ``load_model_on_gpus``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.layout import pieces
from glmcore.place.hops import attach_hops, pieces_of
from glmcore.plan import Precision
from glmcore.plan.manual import check_name, manual_placement
from glmcore.quant.convert import keep_halves
from glmcore.quant.halves import HalfEmbedding, HalfLinear
from glmcore.quant.linear import QuantEmbedding

TABLES = (nn.Linear, nn.Embedding)


def ConfigMultiDevices(model: Any, embeddings: str, layers: Mapping[str, str], final_layernorm: str) -> Any:
    """Place ``model`` by hand and return it; prints the map. May be called again to place it anew.

    layers: device → 1-based inclusive ranges, "1-14" or "1-4,9-12". A tied head sits with the embedding, another with
    the final norm. Errors: GlmError("plan-invalid") for a gap, an overlap or a range outside the model,
    GlmError("device-missing") for a device that is not there; nothing is moved then.
    """
    native = native_model(model)
    placement = manual_placement(native.config, embeddings, layers, final_layernorm)
    place_model(native, placement)
    if hasattr(model, "runner"):
        model.placed()
    for piece, device in placement.items():
        print(f"{original_name(piece)} -> {device}")
    print("hooked.")
    return model


def native_model(model: Any) -> nn.Module:
    """The torch module of an engine, of a transformers model, or the module itself."""
    if hasattr(model, "runner"):
        return model.runner.model
    return getattr(model, "native", model)


def check_present(names: Iterable[str]) -> None:
    """GlmError("device-missing") for a device that this machine has not."""
    for name in sorted(set(names)):
        check_name("placement", name)
        device = torch.device(name)
        available = torch.cuda.device_count() if device.type == "cuda" else 1
        if device.type not in ("cpu", "cuda") or (device.type == "cuda" and (device.index or 0) >= available):
            raise GlmError("device-missing", f"{name} is not on this machine", hint="see glmdoctor check")


def placement_from_map(config: ModelConfig, device_map: Mapping[str, Any]) -> dict[str, str]:
    """Piece → device from a device map by module names, as transformers and ``load_model_on_gpus`` write them.

    A name stands for everything below it; numbers are CUDA devices. Errors: GlmError("plan-invalid") for a gap.
    """
    placement = {}
    for piece in pieces(config):
        fitting = [key for key in device_map if f"{piece.module}.".startswith(f"{key}." if key else "")]
        if not fitting:
            raise GlmError("plan-invalid", f"the device map names no device for {piece.module}", where=piece.name)
        device = device_map[max(fitting, key=len)]
        placement[piece.name] = f"cuda:{device}" if isinstance(device, int) else str(device)
    if config.tie_embeddings:
        placement["lm_head"] = placement["embedding"]  # one matrix has one place, whatever the map says of its names
    return placement


def place_model(model: nn.Module, placement: Mapping[str, str]) -> nn.Module:
    """Move each piece to its device, in the type that it computes in there, and attach the hops.

    On a card that is the checkpoint's own type: what the CPU computed in float32 is too large and too slow for it.
    """
    check_present(placement.values())
    precision = Precision.of(model.config, model.config.dtype)
    for name, module in pieces_of(model):
        module.to(torch.device(placement[name]))
        types = precision.on(placement[name])
        if types.stored != types.computing:
            keep_halves(model, getattr(torch, types.computing), halves(module, getattr(torch, types.stored)))
    for name, module in pieces_of(model):
        set_dtype(module, getattr(torch, precision.on(placement[name]).computing))
    return attach_hops(model, placement)


def halves(piece: nn.Module, dtype: torch.dtype) -> list[nn.Module]:
    """The embeddings and linears of a piece whose weights have ``dtype``."""
    return [part for part in piece.modules() if isinstance(part, TABLES) and part.weight.dtype == dtype]


def set_dtype(piece: nn.Module, dtype: torch.dtype) -> None:
    """Let a piece compute in ``dtype``; weights that are packed or kept in 16 bits on purpose stay so."""
    for module in piece.modules():
        if isinstance(module, (QuantEmbedding, HalfEmbedding)):
            module.dtype = dtype
        elif not isinstance(module, HalfLinear):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


def original_name(piece: str) -> str:
    """A piece as the original prints it."""
    renamed = {"embedding": "word_embeddings", "final_norm": "final_layernorm"}
    return renamed.get(piece, piece.replace(".", " "))
