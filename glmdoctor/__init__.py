"""glmdoctor: finds out why a machine cannot run ChatGLM models, repairs it, and proves that the repair holds."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it; a type checker takes it for true, and nothing is imported for it
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"
__all__ = ["Diagnosis", "__version__", "diagnose"]


def __getattr__(name: str) -> Any:
    """``diagnose`` and ``Diagnosis``, loaded when they are first asked for."""
    if name not in ("diagnose", "Diagnosis"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from glmdoctor import diagnosis

    return getattr(diagnosis, name)
