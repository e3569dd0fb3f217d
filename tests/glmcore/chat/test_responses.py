"""What becomes of a generated text, against the original's own results and against hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from golden_cases import rest

from glmcore.chat import process_response
from glmcore.errors import GlmError


def cases(generation: str) -> list[dict[str, Any]]:
    path = rest(generation, "tokenizer") / "process_response.json"
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_cleaned_text(generation: str) -> None:
    for case in cases(generation):
        assert process_response(case["input"], generation) == case["output"], case


@pytest.mark.parametrize("generation", ["v3", "glm4"])
def test_content_and_history(generation: str) -> None:
    for case in cases(generation):
        before = json.dumps(case["history"])
        content, history = process_response(case["input"], generation, case["history"])
        if "error" in case:
            # Where the original raises, the text stays as it is.
            assert content == case["input"].split("<|assistant|>")[-1]
        else:
            assert content == case["content"], case
            assert history == case["new_history"]
        assert json.dumps(case["history"]) == before


TOOLS = [{"role": "system", "content": "", "tools": [{}]}, {"role": "user", "content": "q"}]
HOSTILE = [
    "tool_call(x=__import__('os').system('touch pwned'))",
    "tool_call(**{'x': 1})",
    "tool_call(1)",
    "other(x=1)",
    "tool_call(x=1)(y=2)",
    "tool_call(x=1, x=2)",
    "tool_call(x=" + "(" * 5000 + ")" * 5000 + ")",
    "tool_call(x=" + "-" * 100000 + "1)",
    "tool_call(x=\x00)",
    "",
]


@pytest.mark.parametrize("code", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_but_literals_is_a_call(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"track\n```python\n{code}\n```"
    content, _ = process_response(text, "v3", TOOLS)
    assert content == text
    assert process_response(text, "v3") == text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("body", ["{", "[" * 200000, "1" * 5000, '{"a": }'])
def test_damaged_json_stays_text(body: str) -> None:
    assert process_response(f"track\n{body}", "glm4", TOOLS)[0] == f"track\n{body}"


def test_without_a_history_a_call_must_parse() -> None:
    call = {"name": "track", "parameters": {"symbol": "1"}}
    assert process_response("track\n```python\ntool_call(symbol='1')\n```", "v3") == call
    assert process_response('track\n{"symbol": "1"}', "glm4") == call
    assert process_response("\nThe answer\n42", "glm4") == "The answer\n42"
    assert process_response("The answer\n42", "glm4") == "The answer\n42"
    assert process_response("line 1\nline 2", "v3") == "line 1\nline 2"


def test_an_unknown_generation_is_named() -> None:
    with pytest.raises(GlmError, match="v7"):
        process_response("x", "v7")
