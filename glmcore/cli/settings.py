"""How answers are made, as /set and the options of the chat say it: named numbers, checked where they are set."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import TYPE_CHECKING

from glmcore.errors import GlmError

if TYPE_CHECKING:
    from glmcore.engine.engine import Engine

Number = int | float
LENGTH = 512  # tokens of an answer at most
# Name → whether it is a whole number, and what it does.
SETTINGS: dict[str, tuple[bool, str]] = {
    "temperature": (False, "0: the likeliest token, 1: drawn as trained"),
    "top_p": (False, "the likeliest with this probability together"),
    "top_k": (True, "so many of the likeliest; 0: all"),
    "min_p": (False, "those with this share of the likeliest's"),
    "repetition_penalty": (False, "above 1 what was said before is less likely"),
    "presence_penalty": (False, "taken from what the answer has said"),
    "frequency_penalty": (False, "taken from it as often as it was said"),
    "seed": (True, "the same seed gives the same answer"),
    "max_new_tokens": (True, "tokens of an answer at most"),
}
OWN = "default"


class Settings:
    """What has been set; the rest is the model's own. Errors: GlmError("usage") for a value that makes no sense."""

    def __init__(self, engine: Engine, **given: Number | None) -> None:
        self._engine = engine
        self.given = self._sensible({name: value for name, value in given.items() if value is not None})

    def set(self, name: str, value: str) -> None:
        """Set ``name`` to what ``value`` says, "default" to the model's own.

        Errors: GlmError("usage") for a name or value that makes no sense; nothing is changed then.
        """
        known(name)
        changed = {key: old for key, old in self.given.items() if key != name}
        if value != OWN:
            changed[name] = number(name, value)
        self.given = self._sensible(changed)

    def _sensible(self, settings: dict[str, Number]) -> dict[str, Number]:
        drawing = {name: value for name, value in settings.items() if name != "max_new_tokens"}
        self._engine.sampling(**{"temperature": None, "top_p": None, "seed": None, **drawing})
        return settings

    def lines(self, name: str = "") -> str:
        """Of each setting, or of one: name, value, what it does."""
        own = self._engine.sampling(None, None, None)
        lines = []
        for each in [name] if name else SETTINGS:
            value = self.given.get(each, LENGTH if each == "max_new_tokens" else getattr(own, each, None))
            shown = "none" if value is None else f"{value:g}" if isinstance(value, float) else value
            shown = f"{shown}{'' if each in self.given else f' ({OWN})'}"
            lines.append(f"{each:<19}{shown:<15}{SETTINGS[each][1]}")
        return "\n".join(lines)


def known(name: str) -> None:
    """GlmError("usage") with the nearest name where there is no such setting."""
    if name not in SETTINGS:
        near = get_close_matches(name, SETTINGS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SETTINGS)}"
        raise GlmError("usage", f"there is no setting {name}", hint=hint)


def number(name: str, text: str) -> Number:
    """The value of a setting. Errors: GlmError("usage")."""
    whole, about = SETTINGS[name]
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (name == "max_new_tokens" and value < 1):
        kind = "a whole number" + (" above 0" if name == "max_new_tokens" else "") if whole else "a number"
        raise GlmError("usage", f"{name} is {kind}, not {text}", hint=about)
    return value
