"""The tested range is said."""

from __future__ import annotations

import pytest

from glmcore.huggingface import versions

RANGE = ["transformers>=4.44,<5.25; extra == 'core'", "torch>=2.4,<2.14; extra == 'core'", "click>=8.1"]


@pytest.mark.parametrize(
    "version, newer", [("4.44.0", False), ("5.24.9", False), ("5.25.0", True), ("5.25.0rc1", True), ("6.0", True)]
)
def test_a_version_past_the_newest_tested_is_told(version: str, newer: bool, monkeypatch, recwarn) -> None:
    assert versions.newer(RANGE, "transformers", version) is newer
    monkeypatch.setattr(versions.metadata, "requires", lambda _: RANGE)
    monkeypatch.setattr(versions.metadata, "version", {"torch": "2.13.0+cpu", "transformers": version}.get)
    versions.warn_untested()
    assert [f"transformers {version} is newer" in str(warning.message) for warning in recwarn] == [True] * newer
