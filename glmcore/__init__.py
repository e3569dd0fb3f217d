"""glmcore: the runtime for the four generations of ChatGLM checkpoints, without remote code."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """``load`` needs torch, which importing this package does not."""
    if name == "load":
        from glmcore.engine.load import load

        return load
    raise AttributeError(f"module 'glmcore' has no attribute {name!r}")
