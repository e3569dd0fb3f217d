"""What clients of OpenAI's responses ask, in the core's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from glmcore.chat.messages import short
from glmcore.server.dialects.reading import Asked
from glmcore.server.errors import ApiError
from glmcore.server.fields import HARMLESS, Fate, only
from glmcore.server.schemas import Count

Given = dict[str, Any]
ROLES = ("user", "assistant", "system", "developer")
TEXTS = ("input_text", "output_text", "text")


class CreateResponse(Asked):
    words: ClassVar[Mapping[str, str]] = {
        "max_tokens": "max_output_tokens", "response_format": "text.format", "reasoning_effort": "reasoning.effort",
        "verbosity": "text.verbosity", "messages": "input",
    }  # fmt: skip
    fates: ClassVar[Mapping[str, Fate]] = {
        "store": only(False), "background": only(False), "truncation": only("disabled"), "prompt": only(),
        "context_management": only([]), "moderation": only(), "stream_options": HARMLESS,
        "max_tool_calls": HARMLESS,  # of tools that run at OpenAI
    }  # fmt: skip

    input: str | list[Given]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: Count | None = None
    stream: bool | None = None
    tools: list[Given] | None = None
    tool_choice: str | Given | None = None
    parallel_tool_calls: bool | None = None
    text: Given | None = None
    reasoning: Given | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    metadata: Given | None = None
    previous_response_id: Any = None
    conversation: Any = None

    def in_core(self) -> Given:
        self.refuse_what_is_kept_nowhere()
        items = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        said = [message for number, item in enumerate(items) for message in of_item(item, f"input.{number}")]
        return {
            "model": self.model, "messages": [*system, *said], "max_tokens": self.max_output_tokens,
            "tools": [of_tool(tool, f"tools.{number}") for number, tool in enumerate(self.tools or ())] or None,
            "tool_choice": of_choice(self.tool_choice), "parallel_tool_calls": self.parallel_tool_calls,
            "logprobs": self.wants_logprobs, "top_logprobs": self.top_logprobs,
            **of_text(self.text or {}), **of_reasoning(self.reasoning or {}),
        }  # fmt: skip

    def choosing(self, own: tuple[float, float]) -> list[float]:
        """Temperature and top_p: those that are asked for, else the model's ``own``. For a request that is begun."""
        extra = self.model_extra or {}
        given = (extra.get(name) for name in ("temperature", "top_p"))
        return [default if value is None else float(value) for value, default in zip(given, own, strict=True)]

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.top_logprobs) or "message.output_text.logprobs" in (self.include or ())

    def refuse_what_is_kept_nowhere(self) -> None:
        """Errors: ApiError(400)."""
        for name in ("previous_response_id", "conversation"):
            if getattr(self, name) is not None:
                message = f"{name} is not supported: nothing is stored here, so send the whole conversation as input"
                raise ApiError(400, message, param=name, code="unsupported_parameter")


def of_item(item: Given, where: str) -> list[Given]:
    """An item of the input as messages: none for a thought, which is not fed back. Errors: ApiError(400)."""
    kind = item.get("type", "message")
    if kind == "message":
        role = item.get("role")
        if role not in ROLES:
            raise ApiError(400, f"unknown role {short(role)}", param=f"{where}.role")
        return [{"role": role, "content": text_of(item.get("content"), f"{where}.content")}]
    if kind == "function_call":
        return [{"role": "assistant", "content": None, "tool_calls": [{"function": of_call(item, where)}]}]
    if kind == "function_call_output":
        return [{"role": "tool", "content": text_of(item.get("output"), f"{where}.output")}]
    if kind == "reasoning":
        return []
    hint = ": nothing is stored here" if kind == "item_reference" else ""
    unsupported = f"{where}: an item of the type {short(kind)} is not supported{hint}"
    raise ApiError(400, unsupported, param=f"{where}.type", code="unsupported_parameter")


def text_of(content: object, where: str) -> str:
    """The text of a str or of a list of parts. Errors: ApiError(400)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ApiError(400, f"{where}: must be a text or a list of texts", param=where)
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") not in TEXTS or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            message = f"{where}: a part of the type {short(kind)} is not supported; these models read text"
            raise ApiError(400, message, param=f"{where}.{number}", code="unsupported_parameter")
    return "".join(part["text"] for part in content)


def of_call(item: Given, where: str) -> Given:
    """The function of a call. Errors: ApiError(400)."""
    name, arguments = item.get("name"), item.get("arguments")
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else None
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ApiError(400, "a function_call needs a name and arguments, which are a JSON object as text", param=where)
    return {"name": name, "arguments": arguments}


def of_tool(tool: Given, where: str) -> Given:
    """Chat has a function's parts one level deeper. Errors: ApiError(400)."""
    if tool.get("type") != "function":
        message = f"{where}: a tool of the type {short(tool.get('type'))} is not supported, only functions are"
        raise ApiError(400, message, param=f"{where}.type", code="unsupported_parameter")
    if not isinstance(tool.get("name"), str):
        raise ApiError(400, "a function needs a name", param=f"{where}.name")
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}


def of_choice(choice: str | Given | None) -> object:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def of_text(text: Given) -> Given:
    """``response_format`` and ``verbosity``. Chat has the schema's parts one level deeper."""
    form = text.get("format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": {name: form[name] for name in form if name != "type"}}
    return {"response_format": form, "verbosity": text.get("verbosity")}


def of_reasoning(reasoning: Given) -> Given:
    """``reasoning_effort``. Errors: ApiError(400)."""
    if reasoning.get("summary") not in (None, "auto"):
        message = 'reasoning.summary is not supported; only "auto" is taken'
        raise ApiError(400, message, param="reasoning.summary", code="unsupported_parameter")
    return {"reasoning_effort": reasoning.get("effort")}
