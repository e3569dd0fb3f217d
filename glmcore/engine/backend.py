"""What computes a model's linear layers, in words for ``/stats`` and ``glmcore bench``."""

from __future__ import annotations

import torch
from torch import nn

from glmcore.kernels.cuda import choice
from glmcore.kernels.load import backend_name
from glmcore.quant.linear import QuantLinear


def describe_backend(model: nn.Module) -> str:
    """Each device that holds layers, with what multiplies there: "int4 cuda:0 triton, avx2 exact, 8 threads"."""
    bits = model.config.quantization_bit
    first = next((module for module in model.modules() if isinstance(module, QuantLinear)), None)
    names = []
    for device in dict.fromkeys(next(layer.parameters()).device for layer in model.layers):
        if device.type == "cuda":
            names.append(f"{device} {choice.backend_for(device).name if bits else 'torch'}")
        else:
            names.append(on_cpu(first) if first is not None else f"torch {torch.get_num_threads()} threads")
    return f"int{bits} {', '.join(names)}" if bits else ", ".join(names)


def on_cpu(linear: QuantLinear) -> str:
    """The kernel, torch's own operator, or plain torch."""
    if linear.kernel is None and linear.operator is not None:
        return f"{linear.operator.name}, {torch.get_num_threads()} threads"
    return backend_name(linear.kernel)
