"""Where the results of the original code are: the models beside this file, the rest in GLM_GOLDEN."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# tests/golden/<generation>/<case>: config, checkpoint, golden.safetensors.
GOLDEN = Path(__file__).resolve().parent / "golden"
CASES = sorted(str(path.parent.relative_to(GOLDEN)) for path in GOLDEN.glob("*/*/golden.safetensors"))
# <generation>/tokenizer and <generation>/e2e: with the vocabularies of the original models, which others published.
REST = Path(os.environ.get("GLM_GOLDEN", GOLDEN.parents[2] / "shared" / "golden"))
WITHOUT_REST = f"no original vocabularies at {REST} (set GLM_GOLDEN)"
needs_rest = pytest.mark.skipif(not REST.is_dir(), reason=WITHOUT_REST)


def rest(generation: str, folder: str) -> Path:
    """A folder of the rest; skips the test that asks for it where it is not there."""
    if not (REST / generation / folder).is_dir():
        pytest.skip(WITHOUT_REST)
    return REST / generation / folder
