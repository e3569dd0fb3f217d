"""Every sentence of the doctor has a Chinese twin with the same fields, read from the syntax trees."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from string import Formatter

import pytest

import glmdoctor
from glmdoctor.messages import Text, catalogue, language_of, text

PACKAGE = Path(glmdoctor.__file__).parent


def templates(path: Path) -> list[tuple[int, str | None]]:
    """(line, template) of each call of ``text(…)``; where a name is given, all that the file assigns to it.

    The constant reasons of ``Unknown("…")`` count as well: they are shown beside a skipped check.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: list[tuple[int, str | None]] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called, first = getattr(node.func, "id", ""), node.args[0]
        if called == "text" and "host" not in path.parts:
            found += [(node.lineno, template) for template in constants(tree, first) or [None]]
        elif called == "Unknown" and isinstance(first, ast.Constant):
            found.append((node.lineno, first.value))
    return found


def constants(tree: ast.AST, node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value]
    name = getattr(node, "id", None)
    assigned = [
        n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == name
    ]
    return [value.value for value in assigned if isinstance(value, ast.Constant)]


def wording() -> dict[str, str]:
    """English template → where it is first used."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, template in templates(path):
            where = f"{path.relative_to(PACKAGE.parent)}:{line}"
            assert template is not None, f"{where}: text() needs a literal, or this test cannot see it"
            found.setdefault(template, where)
    return found


def fields(template: str) -> list[str]:
    return sorted({name for _, name, _, _ in Formatter().parse(template) if name is not None})


def test_every_sentence_has_a_chinese_twin() -> None:
    chinese = catalogue("zh")
    missing = {template: where for template, where in wording().items() if template not in chinese}
    assert not missing, json.dumps(missing, indent=1)


def test_twins_have_the_same_fields() -> None:
    chinese = catalogue("zh")
    different = [t for t in wording() if t in chinese and fields(t) != fields(chinese[t])]
    assert not different


def test_no_twin_is_left_over() -> None:
    used = wording()
    assert not [template for template in catalogue("zh") if template not in used]


def test_sentences_are_really_translated() -> None:
    """A twin without Chinese letters is only right where the English is names and punctuation."""
    plain = [en for en, zh in catalogue("zh").items() if not re.search(r"[\u4e00-\u9fff]", zh)]
    assert not [en for en in plain if len(re.findall(r"\b[a-z]{3,}\b", re.sub(r"\{\w*\}", "", en))) > 1]


def test_a_text_is_rendered_in_both_languages_with_texts_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Text("no {what}", {"what": "gcc"})
    outer = Text("{a}: {b}", {"a": 1, "b": inner})
    entries = {"no {what}": "没有 {what}", "{a}: {b}": "{a}：{b}"}
    monkeypatch.setattr("glmdoctor.messages.catalogue", lambda language: entries if language == "zh" else {})
    assert outer.render("en") == "1: no gcc"
    assert outer.render("zh") == "1：没有 gcc"


def test_a_value_with_braces_is_left_alone() -> None:
    assert text("{reason}", reason="{not a field}").render("en") == "{not a field}"
    assert Text("{left} as it is").render("en") == "{left} as it is"


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_MESSAGES": "zh_TW"}, "zh"),
        ({}, "en"),
    ],
)
def test_the_language_follows_the_locale(environ: dict[str, str], language: str) -> None:
    assert language_of(environ) == language
