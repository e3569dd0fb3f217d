"""The forms that a diagnosis can take; each is a pure function from a diagnosis to text."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis

FORMATS = ("terminal", "json", "markdown", "html", "junit", "github")


def render(form: str, diagnosis: Diagnosis, language: str) -> str:
    """The diagnosis as text in one of ``FORMATS``; the terminal's here is plain, as for a pipe."""
    rendered: str = import_module(f"glmdoctor.reports.{form}").render(diagnosis, language)
    return rendered
