"""Reading and writing checkpoints in the original layout, lazily and without executing anything they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glmcore.checkpoint.reader import Checkpoint, open_checkpoint
    from glmcore.checkpoint.writer import save_checkpoint

__all__ = ["Checkpoint", "open_checkpoint", "save_checkpoint"]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for: the doctor reads headers and names without it."""
    if name in ("Checkpoint", "open_checkpoint"):
        from glmcore.checkpoint import reader

        return getattr(reader, name)
    if name == "save_checkpoint":
        from glmcore.checkpoint.writer import save_checkpoint

        return save_checkpoint
    raise AttributeError(f"module 'glmcore.checkpoint' has no attribute {name!r}")
