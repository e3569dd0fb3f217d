"""A placement by hand, in the words of the original ``ConfigMultiDevices``: 1-based inclusive ranges of layers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.layout import piece_names
from glmcore.plan.devices import is_device_name

_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


def manual_placement(
    config: ModelConfig, embeddings: str, layers: Mapping[str, str], final_layernorm: str
) -> dict[str, str]:
    """Piece → device. A tied head sits with the embedding, another with the final norm.

    layers: device → "1-14" or "1-4,9-12". Errors: GlmError("plan-invalid") for a gap, an overlap or a range outside the
    model, GlmError("device-missing") for what is no device's name.
    """
    check_name("embeddings", embeddings)
    check_name("final_layernorm", final_layernorm)
    if not isinstance(layers, Mapping):
        raise GlmError("plan-invalid", f"layers is {layers!r}", hint='write {"cuda:0": "1-14", "cpu": "15-28"}')
    holders: dict[int, str] = {}
    for device, ranges in layers.items():
        check_name("layers", device)
        for layer in parse_ranges(device, ranges, config.num_layers):
            if layer in holders:
                twice = f"{device} twice" if holders[layer] == device else f"both {holders[layer]} and {device}"
                raise GlmError("plan-invalid", f"layer {layer} is given to {twice}", where="layers")
            holders[layer] = device
    gaps = [layer for layer in range(1, config.num_layers + 1) if layer not in holders]
    if gaps:
        raise GlmError("plan-invalid", f"no device is given for layers {', '.join(map(str, gaps))}", where="layers")
    placed = {f"layer.{layer - 1}": device for layer, device in holders.items()}
    placed |= {"embedding": embeddings, "final_norm": final_layernorm}
    placed["lm_head"] = embeddings if config.tie_embeddings else final_layernorm
    return {name: placed[name] for name in piece_names(config)}


def parse_ranges(device: str, ranges: object, count: int) -> list[int]:
    """The 1-based layers of "1-4,9-12". Errors: GlmError("plan-invalid")."""
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


def check_name(argument: str, name: object) -> None:
    """GlmError where ``name`` is no device's; the tuple that a comma at the end of a line makes is explained."""
    if isinstance(name, tuple):
        hint = f"a comma at the end of the line makes it one: {argument}={name[0]!r}" if name else ""
        raise GlmError("plan-invalid", f"{argument} is a tuple, {name!r}", hint=hint)
    if not isinstance(name, str) or not is_device_name(name):
        raise GlmError("device-missing", f"{name!r} is no device", where=argument, hint="for example cuda:0 or cpu")
