"""Reading and writing checkpoints in the original layout, lazily and without executing anything they hold."""

from glmcore.checkpoint.reader import Checkpoint, open_checkpoint
from glmcore.checkpoint.writer import save_checkpoint

__all__ = ["Checkpoint", "open_checkpoint", "save_checkpoint"]
