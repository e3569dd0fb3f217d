"""The C structures of ``cpu/step.h``, field for field, and the call that takes them."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int, c_int64, c_void_p

PAIRS, HALVES = 0, 1
GELU, SWIGLU = 0, 1


class Matrix(Structure):
    """``bits`` as the library counts kinds of weights: 4, 8, 16 (float16), 17 (bfloat16), 32."""

    _fields_ = (
        ("bits", c_int64), ("data", c_void_p), ("scale", c_void_p), ("bias", c_void_p), ("n", c_int64), ("k", c_int64),
    )  # fmt: skip


class Norm(Structure):
    """Without a bias it is a root-mean-square norm, without a weight none."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class Layer(Structure):
    _fields_ = (
        ("before_attention", Norm), ("before_mlp", Norm),
        ("qkv", Matrix), ("dense", Matrix), ("up", Matrix), ("down", Matrix),
        ("keys", c_void_p), ("values", c_void_p),
    )  # fmt: skip


class Model(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("layers", "hidden", "heads", "groups", "size", "ffn", "within_heads", "rotary",
                                       "parts", "gate", "precision", "residual_of_norm")),
        ("residual", c_float), ("epsilon", c_float), ("layer", POINTER(Layer)), ("last", Norm), ("head", Matrix),
    )  # fmt: skip


class Tokens(Structure):
    _fields_ = (
        ("rows", c_int64),
        *((name, c_void_p) for name in ("sequence", "place", "visible", "cosines", "sines")),
        ("sequence_stride", c_int64), ("group_stride", c_int64),
        ("hidden", c_void_p), ("logits", c_void_p), ("wanted", c_int64), ("answers", c_int64),
    )  # fmt: skip


def declare(code: ctypes.CDLL) -> None:
    """Tell ctypes the types of the library's two functions."""
    code.glm_step_bytes.argtypes = [POINTER(Model), POINTER(Tokens), c_int]
    code.glm_step_bytes.restype = c_int64
    code.glm_step.argtypes = [POINTER(Model), POINTER(Tokens), c_void_p, c_int]
