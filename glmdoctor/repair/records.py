"""Actions and what they found, as JSON data and back; what comes back is checked, for a journal may be damaged.

``ValueError``, ``TypeError`` or ``LookupError`` is what data raise that no glmdoctor wrote.
"""

from __future__ import annotations

import functools
import posixpath
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from glmdoctor.actions import ACTIONS, Action, Change
from glmdoctor.actions.disk import Node

KINDS: Mapping[str, Callable[..., Action]] = {action.kind: action for action in ACTIONS}
OF_A_FILE = {"link", "file", "absent"}  # what an action may have found where it changes something


def action_to_json(action: Action) -> dict[str, object]:
    return asdict(action)  # type: ignore[call-overload,no-any-return]


def action_from_json(data: Mapping[str, Any]) -> Action:
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items() if name != "kind"}
    action: Action = _typed(KINDS[data["kind"]], fields)
    for path in action.paths:
        _absolute(path)
    return action


def change_to_json(change: Change) -> dict[str, object]:
    return asdict(change)


def change_from_json(path: str, data: Mapping[str, Any]) -> Change:
    """A change of ``path``; the names in between lie beside it and are the doctor's own."""
    before = node_from_json(data["before"])
    change: Change = _typed(Change, {**data, "before": before})
    if before.kind not in OF_A_FILE or (change.kept is not None) != (before.kind == "file"):
        raise ValueError("a change that no action makes")
    for name, ending in ((change.temporary, ".new"), (change.kept, ".kept")):
        if name is not None and not _is_ours(name, path, ending):
            raise ValueError("a name that is not ours")
    return change


def _is_ours(name: str, path: str, ending: str) -> bool:
    folder, last = posixpath.split(name)
    return folder == posixpath.dirname(path) and last.startswith(".glmdoctor-") and last.endswith(ending)


def node_from_json(data: Mapping[str, Any]) -> Node:
    node: Node = _typed(Node, data)
    return node


def _absolute(path: str) -> None:
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise ValueError("a path that no plan names")


def _typed(kind: Callable[..., Any], fields: Mapping[str, Any]) -> Any:
    """An instance of a dataclass whose fields have the types that it declares."""
    hints = _hints(kind)
    for name, value in fields.items():
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} is {type(value).__name__}")
    return kind(**fields)


@functools.cache
def _hints(kind: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))
