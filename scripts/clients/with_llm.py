"""Simon Willison's llm, its Python API and its command: https://github.com/simonw/llm"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from calls import COLOUR, HELLO, KEY, MODEL, URL, call, is_colour, main

folder = Path(os.environ["LLM_USER_PATH"])
folder.mkdir(parents=True, exist_ok=True)
about = {
    "model_id": "here", "model_name": MODEL, "api_base": f"{URL}/v1", "api_key_name": "here", "can_stream": True,
    "supports_schema": True, "supports_tools": True,
}  # fmt: skip
(folder / "extra-openai-models.yaml").write_text(json.dumps([about]), encoding="utf-8")  # JSON is YAML
(folder / "keys.json").write_text(json.dumps({"here": KEY}), encoding="utf-8")

import llm  # noqa: E402  (it reads those files)

model = llm.get_model("here")


@call
def prompt_and_its_stream() -> None:
    whole = model.prompt(HELLO, stream=False, temperature=0).text()
    said = "".join(model.prompt(HELLO, stream=True, temperature=0))
    assert said and said == whole


@call
async def async_prompt() -> None:
    assert await llm.get_async_model("here").prompt(HELLO, temperature=0).text()


@call
def a_conversation() -> None:
    talk = model.conversation()
    first = talk.prompt(HELLO, system="Be brief.", temperature=0).text()
    assert first and talk.prompt("And now?", temperature=0).text()


@call
def an_answer_held_to_a_schema() -> None:
    assert is_colour(json.loads(model.prompt(HELLO, schema=COLOUR, stream=False).text()))


@call
def tools_are_offered() -> None:
    def paint(colour: str) -> str:
        """Paints a wall."""
        return colour

    answer = model.prompt(HELLO, tools=[paint], max_tokens=30)
    assert answer.text() or answer.tool_calls()


@call
def the_command() -> None:
    asked = [sys.executable, "-m", "llm", "-m", "here", "-o", "temperature", "0", HELLO]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == model.prompt(HELLO, temperature=0).text().strip()


main()
