"""The small trained model that ships with the package, in the original ChatGLM2 layout."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """The folder of the demo model's checkpoint."""
    return Path(__file__).parent / "model"
