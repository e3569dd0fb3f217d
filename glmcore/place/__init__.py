"""Puts a checkpoint's tensors where they are to work, in memory or quantised in another folder."""

from glmcore.place.loader import load_model
from glmcore.place.quantizer import quantize_checkpoint

__all__ = ["load_model", "quantize_checkpoint"]
