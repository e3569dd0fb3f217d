"""Data, not code: the catalogue of known problems and the tables of versions; every row has a source and a date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A known problem. The wording is by language ("en", "zh")."""

    id: str
    group: str  # "driver" "libraries" "memory" "kernel" "checkpoint" "packages" "use"
    title: Mapping[str, str]
    cause: Mapping[str, str]
    probe: Mapping[str, str]  # the reading that confirms it
    remedy: Mapping[str, str]
    by: tuple[str, ...]  # who can carry it out: "no-root" "root" "advise"
    decided_by: tuple[str, ...]  # ids of the checks that find it; empty where only a log can show it
    source: str
    checked_on: str


@cache
def problems() -> Mapping[str, Problem]:
    """All known problems by id, in the order of the catalogue."""
    return MappingProxyType({id: _problem(id, row) for id, row in _load("problems.json").items()})


@cache
def versions() -> Mapping[str, Any]:
    """The tables of versions.json: what goes with what."""
    return MappingProxyType(_load("versions.json"))


@cache
def signatures() -> Mapping[str, Any]:
    """The words by which logs show the problems; `glmdoctor.explain` says what they mean."""
    return MappingProxyType(_load("signatures.json"))


def _problem(id: str, row: Mapping[str, Any]) -> Problem:
    lists = {name: tuple(row[name]) for name in ("by", "decided_by")}
    return Problem(id=id, **{**row, **lists})


def _load(name: str) -> dict[str, Any]:
    raw = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    rows: dict[str, Any] = json.loads(raw)
    return rows
