"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from glmcore.errors import GlmError


def write_text(path: Path, text: str) -> None:
    """Write by a temporary name and a rename. Errors: GlmError("write-failed") that names the file."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise GlmError("write-failed", f"could not write: {error.strerror}", where=str(path)) from error
