"""Facts as plain JSON data and back, without names of people and machines.

Only what ``facts`` declares is ever written (environment variables come from an allow-list); from that, home folders,
the user's and the machine's names and serial numbers are taken out.
"""

from __future__ import annotations

import dataclasses
import functools
import getpass
import os
import platform
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from glmdoctor.host import facts
from glmdoctor.host.facts import Unknown
from glmdoctor.people import hiding, in_paths, of_this_machine
from glmdoctor.private import redacted, telling, within

SCHEMA = 1
SECRET_FIELDS = {"uuid"}
Redact = Callable[[str], str]


def encode(
    values: Mapping[str, object], timings: Mapping[str, float], readings: Mapping[str, object] = MappingProxyType({})
) -> dict[str, object]:
    """{"schema_version", "facts": {name: {"type": …, fields …}}, "timings", "readings": what plugins read}."""
    redact = redactor(others=of_this_machine() | in_paths(repr((values, readings))))
    return {
        "schema_version": SCHEMA,
        "facts": {name: _plain(value, redact) for name, value in sorted(values.items())},
        "readings": {name: _plain(value, redact) for name, value in sorted(readings.items())},
        "timings": {name: round(seconds, 4) for name, seconds in sorted(timings.items())},
    }


def _plain(value: Any, redact: Redact) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        plain = {name: "" if name in SECRET_FIELDS else _plain(item, redact) for name, item in fields.items()}
        return {"type": type(value).__name__, **plain}
    if isinstance(value, Mapping):
        return {redact(str(key)): _plain(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, redact) for item in value]
    return redact(value) if isinstance(value, str) else value


def redactor(
    home: str | None = None, user: str | None = None, host: str | None = None, others: Collection[str] = ()
) -> Redact:
    """A function that takes home folders, names of users and machines, identities and addresses out of a text."""
    home = os.path.expanduser("~") if home is None else home
    host = platform.node() if host is None else host
    users = telling([os.path.basename(home), *(_users() if user is None else [user])])
    marks = {**dict.fromkeys(telling([host, host.split(".")[0]]), "<host>"), **dict.fromkeys(users, "<user>")}
    rules = [(re.compile(re.escape(home) + r"(?=[/\\:;\s'\"]|$)"), "~")] if len(home) > 1 else []
    word = r"[^/\\\s:;'\"]+"  # a name of several words ends at the next folder, else at a blank
    rules.append((re.compile(rf"(/home/|/Users/|\\Users\\)(?:{word}(?: {word}){{1,3}}(?=[/\\])|{word})"), r"\1<user>"))
    rules += [(within(name), mark) for name, mark in marks.items()]
    hide = hiding(frozenset(others), "<user>")

    def own(text: str) -> str:
        for pattern, mark in rules:
            # A mark such as \1<user> is a template for the rule that has the group.
            text = pattern.sub(mark, text)
        return hide(text)

    return lambda text: redacted(text, own)


def _users() -> list[str]:
    """Whoever is here, also behind sudo."""
    names = [os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")]
    try:
        return [getpass.getuser(), *names]
    except (KeyError, OSError):  # a user id without a name, as containers have
        return names


def decode(data: Mapping[str, Any]) -> dict[str, object]:
    """The facts of a snapshot by name; ValueError where it is none."""
    if not isinstance(data, Mapping) or data.get("schema_version") != SCHEMA or not isinstance(data.get("facts"), dict):
        raise ValueError(f"no snapshot of schema version {SCHEMA}")
    return {name: _fact(value) for name, value in data["facts"].items()}


def _fact(value: Any) -> object:
    if isinstance(value, list):
        return tuple(_fact(item) for item in value)
    kind = getattr(facts, str(value.get("type")), None) if isinstance(value, dict) else None
    if not dataclasses.is_dataclass(kind):
        raise ValueError("an entry of the snapshot is no fact")
    return _instance(typing.cast(type, kind), value)


def _instance(kind: type, value: Mapping[str, Any]) -> object:
    """Fields that a newer or older version lacks take their default; unknown ones are left out."""
    hints = _hints(kind)
    fields = {name: _value(hints[name], value[name]) for name in hints if name in value}
    try:
        return kind(**fields)
    except TypeError as error:
        return Unknown(f"the snapshot's {kind.__name__} does not fit this version: {error}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return _value(next(part for part in arguments if part is not type(None)), value)
    if origin is tuple:
        hints = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        return tuple(_value(part, item) for part, item in zip(hints, value, strict=True))
    if dataclasses.is_dataclass(hint):
        return _instance(typing.cast(type, hint), value)
    if origin is not None and issubclass(origin, Mapping):
        return {name: _value(arguments[1], item) for name, item in value.items()}
    return value
