"""Hints for missing packages: commands that work, for nothing of this project lies on a package index."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from glmcore import extras

ROOT = Path(__file__).parents[2]
MADE_UP = """Metadata-Version: 2.1
Name: glmdoctor
Version: 9
Provides-Extra: core
Requires-Dist: torch>=2.4; extra == "core"
Provides-Extra: serve
Requires-Dist: sse-starlette>=3; extra == "serve"
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installation whose record of its origin a test writes."""
    folder = tmp_path / "glmdoctor-9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(MADE_UP)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return lambda record: (folder / "direct_url.json").write_text(record)


def test_the_real_folder_is_named_and_quoted(installed, tmp_path):
    source = tmp_path / "a clone"
    source.mkdir()
    (source / "setup.cfg").touch()
    url = f'"url": "file://{tmp_path}/a%20clone"'
    installed(f'{{{url}, "dir_info": {{"editable": true}}}}')
    assert extras.install_hint("sse_starlette").endswith(f" -m pip install -e '{source}[serve]'")
    installed(f'{{{url}, "dir_info": {{}}}}')
    assert extras.install_hint("torch.nn").endswith(f" -m pip install '{source}[core]'")
    (source / "setup.cfg").unlink()
    assert extras.install_hint("torch").startswith("in a clone") and extras.install_hint("torch").endswith("'.[core]'")


@pytest.mark.parametrize("record", ["", "[", '{"url": "https://example.org/x.whl", "archive_info": {}}'])
def test_without_a_folder_the_clone_is_named(installed, record):
    installed(record)
    assert extras.install_hint("torch").startswith("in a clone of its repository: ")


def test_a_package_of_no_extra_is_named_itself(installed):
    assert extras.install_hint("un_known.part").endswith("-m pip install un-known")


def test_the_hint_of_this_installation_leads_to_its_setup_cfg():
    hint = extras.install_hint("fastapi")
    if "in a clone" in hint:
        pytest.skip("not installed from a folder")
    python, *_, requirement = shlex.split(hint)
    assert python == sys.executable and requirement.endswith("[serve]")
    assert "name = glmdoctor" in (Path(requirement.removesuffix("[serve]")) / "setup.cfg").read_text()


def test_no_file_names_a_package_that_is_not_published():
    wrong = []
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("scripts/*"), *ROOT.glob("glm*/**/*.py"),
                 *ROOT.glob("glmdoctor/**/*.json")]:  # fmt: skip
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            wrong += [f"{path.relative_to(ROOT)}: {hit}" for hit in re.findall(r"install [^\n]{0,4}glmdoctor\W", text)]
    assert not wrong
