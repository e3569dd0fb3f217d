"""glmcore: the runtime for ChatGLM and GLM-4 checkpoints, without remote code."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it; a type checker takes it for true, and nothing is imported for it
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"
__all__ = ["ConfigMultiDevices", "__version__", "load", "load_model_on_gpus"]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for."""
    if name in ("load", "load_model_on_gpus"):
        from glmcore.engine import load

        return getattr(load, name)
    if name == "ConfigMultiDevices":
        from glmcore.place.multi_devices import ConfigMultiDevices

        return ConfigMultiDevices
    raise AttributeError(f"module 'glmcore' has no attribute {name!r}")
