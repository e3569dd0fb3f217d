"""What is written into an engine's manifest of a request that was carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

import glmcore
from glmcore.compiled import build
from glmcore.compiled.checks import kernel_hash
from glmcore.compiled.manifest import Built, Manifest, Weights
from glmcore.compiled.opening import device_of
from glmcore.compiled.request import Request
from glmcore.digest import FileSum

GOLDEN = "golden.safetensors"  # the reference call


def manifest_of(request: Request, weights: tuple[Weights, ...], files: Mapping[str, FileSum]) -> Manifest:
    """What the engine says of itself."""
    devices = [device_of(stage.device) for stage in request.stages]
    device = next((device for device in devices if device.type == "cuda"), devices[0])
    return Manifest(
        glmcore=glmcore.__version__,
        name=request.name,
        config=replace(request.config, raw={}),
        dtype=request.plan.dtype,
        quantize=request.plan.quantize,
        total_len=request.total_len,
        batch=request.batch,
        built=Built(
            device.type,
            torch.__version__,
            kernel_hash() if by_operators(request) else "",
            build.instructions(),
            capability(device),
        ),
        plan=request.plan.to_json(),
        stages=request.stages,
        graphs=request.graphs,
        weights=weights,
        files=files,
        golden=GOLDEN if "golden" in request.roles else None,
    )


def by_operators(request: Request) -> bool:
    """Whether the graphs leave products to glmcore."""
    types = request.plan.types.values()
    return bool(request.config.quantization_bit) or any(each.stored != each.computing for each in types)


def capability(device: torch.device) -> str:
    """Of a card, "9.0"."""
    return ".".join(map(str, torch.cuda.get_device_capability(device))) if device.type == "cuda" else ""
