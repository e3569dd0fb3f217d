"""Empty Python environments, made in a moment: with the pip of this one, which ensurepip takes seconds to unpack."""

from __future__ import annotations

import shutil
import venv
from importlib.metadata import distribution
from pathlib import Path


def make_environment(folder: Path) -> Path:
    """An environment at ``folder`` with pip alone; its site-packages."""
    venv.create(folder, with_pip=False, symlinks=True)
    [site] = folder.glob("lib/python3*/site-packages")
    pip = distribution("pip")  # not imported: setuptools would then no longer be, and torch's compiler needs it
    for name in ("pip", f"pip-{pip.version}.dist-info"):
        shutil.copytree(pip.locate_file(name), site / name)
    return site
