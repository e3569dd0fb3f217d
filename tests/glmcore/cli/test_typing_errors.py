"""What is typed wrongly is answered with what was meant."""

from __future__ import annotations

import sys

import pytest

from glmcore import cli


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["chta"], "no such command: chta; did you mean chat"),
        (["xyzzy"], "no such command: xyzzy"),
        (["chat", "--threads", "two"], "'two' is no whole number"),
        (["chat", "--xyzzy"], "No such option '--xyzzy', see --help"),
    ],
)
def test_a_slip_is_told_in_one_line(typed: list[str], words: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["glmcore", *typed])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2 and words in told and told.count("\n") == 1
    assert ("did you mean" in told) == (typed == ["chta"])
