"""The tested range is said."""

from __future__ import annotations

import logging

import pytest

import glmcore
from glmcore import versions
from glmcore.engine import load

RANGE = ["transformers>=4.44,<5.25; extra == 'core'", "torch>=2.4,<2.14; extra == 'core'", "click>=8.1"]


@pytest.mark.parametrize(
    "version, newer", [("4.44.0", False), ("5.24.9", False), ("5.25.0", True), ("5.25.0rc1", True), ("6.0", True)]
)
def test_a_version_past_the_newest_tested_is_told(version: str, newer: bool, monkeypatch) -> None:
    assert versions.newer(RANGE, "transformers", version) is newer
    monkeypatch.setattr(versions.metadata, "requires", lambda _: RANGE)
    monkeypatch.setattr(versions.metadata, "version", {"torch": "2.13.0+cpu", "transformers": version}.get)
    told = versions.untested("torch", "transformers")
    assert [f"transformers {version} is newer" in line for line in told] == [True] * newer


def test_load_says_an_untested_torch_once(monkeypatch, caplog) -> None:
    monkeypatch.setattr(versions.metadata, "requires", lambda _: ["torch>=2.4,<2.5; extra == 'core'"])
    load.say_untested.cache_clear()
    with caplog.at_level(logging.WARNING, "glmcore"):
        for _ in range(2):
            glmcore.load(threads=1)
    told = [line for line in caplog.messages if "newer than what glmcore was tested with" in line]
    assert len(told) == 1 and told[0].startswith("torch 2.") and "\n" not in told[0]
    load.say_untested.cache_clear()
