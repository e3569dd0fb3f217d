"""Empty Python environments, made in a moment: with the pip of this one, which ensurepip takes seconds to unpack."""

from __future__ import annotations

import shutil
import venv
from pathlib import Path

import pip


def make_environment(folder: Path) -> Path:
    """An environment at ``folder`` with pip alone; its site-packages."""
    venv.create(folder, with_pip=False, symlinks=True)
    [site] = folder.glob("lib/python3*/site-packages")
    here = Path(pip.__file__).parents[1]
    for name in ("pip", f"pip-{pip.__version__}.dist-info"):
        shutil.copytree(here / name, site / name)
    return site
