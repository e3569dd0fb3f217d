"""What Tab may put at the end of a line of the chat: commands, settings, paths."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

WITH_PATH = ("file", "load", "save")
MOST = 200  # names of a folder that are offered


def completions(line: str, commands: Sequence[str], arguments: Mapping[str, Sequence[str]]) -> list[str]:
    """The lines that ``line`` may become. ``arguments``: the words that may follow a command."""
    name, gap, argument = line.removeprefix("/").partition(" ")
    if not line.startswith("/"):
        return []
    if not gap:
        return [f"/{command} " for command in commands if command.startswith(name)]
    if name in WITH_PATH:
        return [f"/{name} {path}" for path in paths(argument.lstrip())]
    return [f"/{name} {word} " for word in arguments.get(name, ()) if word.startswith(argument.lstrip())]


def paths(begun: str) -> list[str]:
    """The paths that begin so, folders with a slash at their end; hidden ones where a dot was typed."""
    folder, beginning = os.path.split(begun)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            found = sorted(_shown(entry) for entry in entries if entry.name.startswith(beginning))
    except (OSError, ValueError):
        return []
    within = begun[: len(begun) - len(beginning)]
    return [within + name for name in found if beginning or not name.startswith(".")][:MOST]


def _shown(entry: os.DirEntry[str]) -> str:
    try:
        return entry.name + ("/" if entry.is_dir() else "")
    except OSError:
        return entry.name
