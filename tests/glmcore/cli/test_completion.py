"""What Tab offers in the chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmcore.cli.completion import completions

COMMANDS, ARGUMENTS = ("save", "set", "system", "file"), {"set": ("temperature", "top_p", "top_k")}


def offered(line: str) -> list[str]:
    return completions(line, COMMANDS, ARGUMENTS)


def test_commands_and_their_words() -> None:
    assert offered("/s") == ["/save ", "/set ", "/system "] and offered("/fi") == ["/file "]
    assert offered("/set to") == ["/set top_p ", "/set top_k "] and offered("/set") == ["/set "]
    assert offered("/set temperature 0") == offered("/system be") == offered("hello") == offered("/x") == []


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a one.txt", "a two.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "b folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert offered("/file a t") == ["/file a two.txt"] and offered("/file b") == ["/file b folder/"]
    assert offered("/file .") == ["/file .hidden"]
    assert offered("/file ") == ["/file a one.txt", "/file a two.txt", "/file b folder/"]
    assert offered("/load ~/a o") == ["/load ~/a one.txt"] and offered(f"/save {tmp_path}/b") == [
        f"/save {tmp_path}/b folder/"
    ]
    assert offered("/file /nonexistent/") == offered("/file \0") == []
