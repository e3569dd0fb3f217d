"""Puts a checkpoint's tensors where they are to work."""

from glmcore.place.loader import load_model

__all__ = ["load_model"]
