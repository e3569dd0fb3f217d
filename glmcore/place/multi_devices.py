"""``ConfigMultiDevices``: the hand-made split of ChatGLM_MultiGPUCPU_eval, for every generation and number of layers.

Other forms of the same wish are taken too: the device maps of transformers and of THUDM's ``load_model_on_gpus``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from glmcore.checkpoint.names import layout
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.place.hops import attach_hops, pieces_of

_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


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
        model.runner.forget()
    for piece, device in placement.items():
        print(f"{original_name(piece)} -> {device}")
    print("hooked.")
    return model


def native_model(model: Any) -> nn.Module:
    """The torch module of an engine, of a transformers model, or the module itself."""
    if hasattr(model, "runner"):
        return model.runner.model
    return getattr(model, "native", model)


def manual_placement(
    config: ModelConfig, embeddings: str, layers: Mapping[str, str], final_layernorm: str
) -> dict[str, str]:
    """Piece → device, from the arguments of ``ConfigMultiDevices``."""
    for argument, value in (("embeddings", embeddings), ("final_layernorm", final_layernorm)):
        check_device(argument, value)
    holders: dict[int, str] = {}
    for device, ranges in layers.items():
        check_device("layers", device)
        for layer in parse_ranges(device, ranges, config.num_layers):
            if layer in holders:
                both = f"{holders[layer]} and {device}"
                raise GlmError("plan-invalid", f"layer {layer} is given to both {both}", where="layers")
            holders[layer] = device
    gaps = [layer for layer in range(1, config.num_layers + 1) if layer not in holders]
    if gaps:
        raise GlmError("plan-invalid", f"no device is given for layers {', '.join(map(str, gaps))}", where="layers")
    placement = {"embedding": embeddings}
    placement |= {f"layer.{layer - 1}": holders[layer] for layer in sorted(holders)}
    if config.post_layer_norm:
        placement["final_norm"] = final_layernorm
    placement["lm_head"] = embeddings if config.tie_embeddings else final_layernorm
    return placement


def parse_ranges(device: str, ranges: object, count: int) -> list[int]:
    """The 1-based layers of "1-4,9-12"."""
    if not isinstance(ranges, str):
        raise GlmError("plan-invalid", f"the layers of {device} are {ranges!r}", where="layers", hint='write "1-14"')
    found: list[int] = []
    for part in ranges.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise GlmError("plan-invalid", f"{part.strip()!r} is no range of layers", where=device, hint='write "1-14"')
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= count:
            what = f"layers {first}-{last} are outside the model's 1-{count}"
            raise GlmError("plan-invalid", what, where=device, hint="ranges count from 1 and include both ends")
        found += range(first, last + 1)
    return found


def check_device(argument: str, name: object) -> None:
    """A device by its torch name that this machine has."""
    if isinstance(name, tuple):
        hint = f"a comma at the end of the line makes it one: {argument}={name[0]!r}" if name else ""
        raise GlmError("plan-invalid", f"{argument} is a tuple, {name!r}", hint=hint)
    try:
        device = torch.device(name)  # type: ignore[arg-type]
    except (RuntimeError, TypeError) as error:
        raise GlmError("device-missing", f"{name!r} is no device", where=argument) from error
    available = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and (device.index or 0) >= available):
        raise GlmError("device-missing", f"{name} is not on this machine", where=argument, hint="see glmdoctor check")


def placement_from_map(config: ModelConfig, device_map: Mapping[str, Any]) -> dict[str, str]:
    """Piece → device from a device map by module names, as transformers and ``load_model_on_gpus`` write them.

    A name stands for everything below it; numbers are CUDA devices.
    """
    names = module_names(config)
    placement = {}
    for piece, module in names.items():
        fitting = [key for key in device_map if key == "" or module == key or module.startswith(f"{key}.")]
        if not fitting:
            raise GlmError("plan-invalid", f"the device map names no device for {module}", where=piece)
        device = device_map[max(fitting, key=len)]
        placement[piece] = f"cuda:{device}" if isinstance(device, int) else str(device)
    return placement


def module_names(config: ModelConfig) -> dict[str, str]:
    """Piece → the name of its module, which is that of the original files."""
    parts = layout(config)
    names = {"embedding": parts.embedding}
    names |= {f"layer.{i}": f"{parts.layers}.{i}" for i in range(config.num_layers)}
    if config.post_layer_norm:
        names["final_norm"] = parts.final_norm
    return {**names, "lm_head": parts.lm_head}


def place_model(model: nn.Module, placement: Mapping[str, str]) -> nn.Module:
    """Move each piece to its device and attach the hops."""
    for device in set(placement.values()):
        check_device("placement", device)
    for name, module in pieces_of(model):
        module.to(torch.device(placement[name]))
    return attach_hops(model, placement)


def original_name(piece: str) -> str:
    """A piece as the original prints it."""
    renamed = {"embedding": "word_embeddings", "final_norm": "final_layernorm"}
    return renamed.get(piece, piece.replace(".", " "))
