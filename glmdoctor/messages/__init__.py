"""All wording: English templates in the code, Chinese ones in ``zh.json``, joined by the template text.

A finding carries ``Text`` (template and values), never a finished sentence, so that one report can be shown in both
languages and a snapshot stays free of wording. A test keeps the catalogue complete and its fields equal.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from glmcore.errors import plain

LANGUAGES = ("en", "zh")
LONGEST = 4000  # characters of one value; a compiler's complaint has some hundreds


@dataclass(frozen=True)
class Text:
    """A sentence to be: a ``str.format`` template in English and its values (plain data or further Text)."""

    template: str
    values: Mapping[str, object] = field(default_factory=dict)

    def render(self, language: str = "en") -> str:
        template = catalogue(language).get(self.template, self.template)
        values = {name: _shown(value, language) for name, value in self.values.items()}
        return template.format(**values) if values else template

    def __str__(self) -> str:
        return self.render("en")


def _shown(value: object, language: str) -> object:
    """A value within a sentence: a path is one line, and no words out of files or programs fill a terminal."""
    if isinstance(value, Text):
        return value.render(language)
    if not isinstance(value, str):
        return value
    if value.startswith("/"):
        return plain(value, LONGEST)
    return value if len(value) <= LONGEST else f"{value[: LONGEST // 2]}…{value[-LONGEST // 2 :]}"


@dataclass(frozen=True)
class Translated(Text):
    """Wording that brings its own translations, as the entries of the problem catalogue do."""

    translations: Mapping[str, str] = field(default_factory=dict)

    def render(self, language: str = "en") -> str:
        return self.translations.get(language, self.template)


def text(template: str, **values: object) -> Text:
    """Mark ``template`` as wording (the catalogue test finds it by this call) and bind its values."""
    return Text(template, values)


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """English template → sentence template in ``language``; empty for English."""
    if language == "en":
        return {}
    raw = resources.files(__package__).joinpath(f"{language}.json").read_text(encoding="utf-8")
    entries: dict[str, str] = json.loads(raw)
    return entries


def language_of(environ: Mapping[str, str] = os.environ) -> str:
    """The user's language by the locale variables, in the order in which POSIX weighs them."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environ.get(name):
            return "zh" if environ[name].lower().startswith("zh") else "en"
    return "en"
