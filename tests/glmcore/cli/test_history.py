"""The file that keeps what was typed: bounded, private, and never in the way of a chat."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmcore.cli import history
from glmcore.cli.history import KEPT, History


@given(st.lists(st.text(), max_size=5))
def test_what_was_kept_comes_back(tmp_path_factory: pytest.TempPathFactory, messages: list[str]) -> None:
    kept = History(tmp_path_factory.mktemp("state") / "glmcore" / "chat_history")
    for message in messages:
        kept.add(message)
    assert kept.load() == messages


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = History(tmp_path / "chat_history")
    for number in range(KEPT + 5):
        kept.add(str(number))
    assert kept.load() == [str(number) for number in range(5, KEPT + 5)]
    kept.add("x" * (history.LONGEST + 1))
    assert kept.load()[-1] == str(KEPT + 4)
    monkeypatch.setattr(history, "MAX_BYTES", 1000)
    assert kept.load()[-1] == str(KEPT + 4)
    assert kept.path.stat().st_size <= 1000 and kept.path.stat().st_mode & 0o777 == 0o600
    assert kept.load()[-1] == str(KEPT + 4) and [path.name for path in tmp_path.iterdir()] == ["chat_history"]


def test_a_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "chat_history"
    path.write_text('"a"\nno JSON\n[1]\n"b"\n')
    path.chmod(0o644)
    assert History(path).load() == ["a", "b"] and path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_of_the_users_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("as it was")
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "link", tmp_path / "pipe", tmp_path / "folder", Path("/dev/null"), None):
        kept = History(path)
        kept.add("hello")
        assert kept.load() == []
    assert target.read_text() == "as it was"
