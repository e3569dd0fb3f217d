"""The quantised stand-ins for ``nn.Linear`` and ``nn.Embedding``; they load the original checkpoints' tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmcore.kernels.cuda import choice
from glmcore.packing import dequantize, packed_columns

if TYPE_CHECKING:
    from glmcore.kernels.load import Kernel
    from glmcore.quant.operators import Operator

# Rows that the torch fallback expands at a time: bounds its memory to 2048 x K floats.
FALLBACK_ROWS = 2048


def on_card(x: Tensor) -> bool:
    """Whether a tensor of any shape lies on an NVIDIA card."""
    return x.device.type == "cuda"


class QuantLinear(nn.Module):
    """``y = x · dequantize(weight)ᵀ + bias`` with int8 or packed int4 weights and one scale per output row."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(
        self, in_features: int, out_features: int, bits: int, bias: bool, *,
        dtype: torch.dtype = torch.float16, device: torch.device | str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_features, self.out_features, self.bits = in_features, out_features, bits
        columns = packed_columns(in_features, bits)
        self.register_buffer("weight", torch.zeros(out_features, columns, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.zeros(out_features, dtype=dtype, device=device))
        self.register_buffer("bias", torch.zeros(out_features, dtype=dtype, device=device) if bias else None)
        self.kernel: Kernel | None = None
        self.operator: Operator | None = None  # of torch; the weight is then in its order
        self._floats: tuple[int, Tensor, Tensor | None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out] in the type of ``x``, by the fastest code that takes it.

        Errors: those of ``Kernel.linear``.
        """
        if self.kernel is not None and self.kernel.takes(x) and self.weight.device.type == "cpu":
            return self.kernel.linear(x, self.weight, *self._scale_and_bias(), bits=self.bits)
        if on_card(x) and not (torch.is_grad_enabled() and x.requires_grad):
            return choice.backend_for(x.device).linear(x, self.weight, self.weight_scale, self.bias, self.bits)
        if self.operator is not None and x.device.type == "cpu" and not (torch.is_grad_enabled() and x.requires_grad):
            return self._by_operator(x, self.operator)
        return self.torch_forward(x)

    def _by_operator(self, x: Tensor, operator: Operator) -> Tensor:
        scale, bias = self._scale_and_bias()
        y = operator.product(x.reshape(-1, self.in_features).to(torch.bfloat16), self.weight).float() * scale
        return (y if bias is None else y + bias).view(*x.shape[:-1], self.out_features).to(x.dtype)

    def original_weight(self) -> Tensor:
        """The weight as the checkpoint has it: int8 [out, in], or int4 packed [out, in/2]."""
        return self.weight if self.operator is None else self.operator.restore(self.weight)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.original_weight()

    def _scale_and_bias(self) -> tuple[Tensor, Tensor | None]:
        """Both as float32 for the kernel, converted once rather than for every token."""
        stamp = self.weight_scale.data_ptr()
        if self._floats is None or self._floats[0] != stamp:
            bias = None if self.bias is None else self.bias.detach().float()
            self._floats = (stamp, self.weight_scale.detach().float(), bias)
        return self._floats[1:]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._floats = self.operator = None
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args: Any, **kwargs: Any) -> QuantLinear:
        self.weight, self._floats, self.operator = self.original_weight(), None, None
        return super()._apply(*args, **kwargs)

    def torch_forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out] by plain torch operators: every device and type, differentiable in ``x``, slow."""
        out = [
            F.linear(x, dequantize(weight, scale, self.bits, x.dtype))
            for weight, scale in zip(
                self.original_weight().split(FALLBACK_ROWS), self.weight_scale.split(FALLBACK_ROWS), strict=True
            )
        ]
        y = out[0] if len(out) == 1 else torch.cat(out, dim=-1)
        return y if self.bias is None else y + self.bias.to(x.dtype)

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.bits}, bias={bias}"


class QuantEmbedding(nn.Module):
    """An embedding with packed rows; ``dtype`` is the type of what it returns (``QuantLinear`` returns its input's)."""

    weight: Tensor
    weight_scale: Tensor

    def __init__(
        self, num_embeddings: int, embedding_dim: int, bits: int, *,
        dtype: torch.dtype = torch.float32, device: torch.device | str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.bits, self.dtype = num_embeddings, embedding_dim, bits, dtype
        columns = packed_columns(embedding_dim, bits)
        self.register_buffer("weight", torch.zeros(num_embeddings, columns, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.zeros(num_embeddings, dtype=torch.float16, device=device))

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape [...] → their rows [..., columns] in ``dtype``."""
        return dequantize(self.weight[ids], self.weight_scale[ids], self.bits, self.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, bits={self.bits}"
