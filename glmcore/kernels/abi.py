"""The interface of the CPU library: its functions' types, its numbers, and the structures of ``cpu/step.h``.

Standard library only: the self-test uses it in a process of its own. A library whose structures have other sizes than
those here is refused before it is given one.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int64, c_uint64, c_void_p, sizeof

VERSION = 6
OK, NOT_FINITE, NO_MEMORY = 0, 1, 2
# By their numbers in the library.
PRECISIONS = ("fast", "exact", "light")
SINGLE, BRAIN = 32, 17
PAIRS, HALVES = 0, 1
GELU, SWIGLU = 0, 1
BOTH, STORING, SEEING = 0, 1, 2  # halves of a layer


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
        ("before_attention", Norm), ("before_mlp", Norm), ("after_attention", Norm), ("after_mlp", Norm),
        ("qkv", Matrix), ("dense", Matrix), ("up", Matrix), ("down", Matrix),
        ("keys", c_void_p), ("values", c_void_p),
    )  # fmt: skip


class Model(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("layers", "hidden", "heads", "groups", "size", "ffn", "within_heads", "rotary",
                                       "turned", "parts", "gate", "precision", "cache", "residual_of_norm")),
        ("residual", c_float), ("epsilon", c_float), ("layer", POINTER(Layer)), ("last", Norm), ("head", Matrix),
    )  # fmt: skip


class Tokens(Structure):
    _fields_ = (
        ("rows", c_int64),
        *((name, c_void_p) for name in ("sequence", "place", "visible", "cosines", "sines")),
        ("sequence_stride", c_int64), ("group_stride", c_int64),
        ("hidden", c_void_p), ("logits", c_void_p), ("wanted", c_int64), ("answers", c_int64),
        ("half", c_int64), ("queries", c_void_p),
    )  # fmt: skip


class Reading(Structure):
    """How decoding reads weights: bytes asked for ahead in narrow and in wide matrices, of a stretch at most, and the
    columns from which a matrix is wide."""

    _fields_ = (("near", c_int64), ("far", c_int64), ("most_bytes", c_int64), ("wide", c_int64))

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.near, self.far, self.most_bytes, self.wide


# In the order of ``glm_size_of`` in cpu/step.c.
STRUCTURES = (Matrix, Norm, Layer, Model, Tokens, Reading)


class Mismatch(Exception):
    """The library has another interface than this file; its text says how they differ."""


def declare(code: ctypes.CDLL) -> None:
    """Tell ctypes the types of the library's functions; raises ``Mismatch`` where it has others."""
    try:
        if (version := code.glm_abi()) != VERSION:
            raise Mismatch(f"it was built for interface {version}, this glmcore needs {VERSION}")
        code.glm_isa.restype = c_char_p
        code.glm_precision.argtypes = [c_int, c_int, c_int64]
        code.glm_linear.argtypes = [c_int, c_int, *[c_void_p] * 5, *[c_int64] * 3, c_int]
        code.glm_linear16.argtypes = [c_int, *[c_void_p] * 3, *[c_int64] * 3, c_int]
        code.glm_read.argtypes, code.glm_read.restype = [c_void_p, c_int64, c_int], c_uint64
        code.glm_step_bytes.argtypes = [POINTER(Model), POINTER(Tokens), c_int]
        code.glm_step_bytes.restype = c_int64
        code.glm_step.argtypes = [POINTER(Model), POINTER(Tokens), c_void_p, c_int]
        code.glm_read_by.argtypes, code.glm_read_by.restype = [POINTER(Reading)], None
        code.glm_reading.argtypes, code.glm_reading.restype = [POINTER(Reading)], None
        code.glm_size_of.argtypes, code.glm_size_of.restype = [c_int], c_int64
    except AttributeError as error:
        raise Mismatch(f"it has no function of glmcore's kernel: {error}") from error
    for number, structure in enumerate(STRUCTURES):
        if (size := code.glm_size_of(number)) != sizeof(structure):
            raise Mismatch(f"its {structure.__name__} takes {size} bytes, glmcore's takes {sizeof(structure)}")
