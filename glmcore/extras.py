"""Which command installs what is missing: the packages of setup.cfg's extras, from where this one came from.

Nothing of this project lies on a package index, so that no name alone can be given to pip.
"""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from glmcore.programs import own_python

DISTRIBUTION = "glmdoctor"
EXTRAS = ("core", "serve", "ray")  # those for users, the smallest first


def install_hint(module: str) -> str:
    """The command that installs the extra which brings ``module``, or ``module`` itself where none does."""
    extra = extra_of(module)
    pip = f"{shlex.quote(own_python())} -m pip install"
    if extra is None:
        return f"{pip} {_distribution(module)}"
    folder, editable = source()
    if folder is None:
        return f"in a clone of its repository: {pip} '.[{extra}]'"
    return f"{pip} {'-e ' * editable}{shlex.quote(f'{folder}[{extra}]')}"


def extra_of(module: str) -> str | None:
    """The extra that requires ``module``, by the installed metadata."""
    from packaging.requirements import Requirement

    try:
        required = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return None
    named = [requirement for requirement in required if _same(requirement.name, module) and requirement.marker]
    return next((extra for extra in EXTRAS for r in named if r.marker and r.marker.evaluate({"extra": extra})), None)


def source() -> tuple[Path | None, bool]:
    """The folder that this package was installed from, if it is there still, and whether it is used in place."""
    try:
        record = json.loads(metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None, False
    address = urlsplit(record.get("url", ""))
    folder = Path(unquote(address.path))
    if address.scheme != "file" or not (folder / "setup.cfg").is_file():
        return None, False
    return folder, bool(record.get("dir_info", {}).get("editable"))


def _distribution(module: str) -> str:
    return module.partition(".")[0].replace("_", "-")


def _same(requirement: str, module: str) -> bool:
    return requirement.lower().replace("_", "-") == _distribution(module).lower()
