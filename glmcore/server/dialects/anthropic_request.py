"""What Anthropic's clients ask, in the core's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NoReturn

from pydantic import BaseModel, Field

from glmcore.chat.messages import short
from glmcore.server.dialects.reading import Asked
from glmcore.server.errors import ApiError
from glmcore.server.fields import DONE, HARMLESS, Fate, only, refuse_unless_neutral
from glmcore.server.schemas import StopText

Given = dict[str, Any]

# Of a tool: what is not read below.
TOOL_FATES: dict[str, Fate] = {
    "type": only("custom"), "input_examples": only([]), "defer_loading": only(False),
    "allowed_callers": only(["direct"]),
}  # fmt: skip
CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Said(BaseModel):
    """One message."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Given]


class CountTokens(Asked):
    words: ClassVar[Mapping[str, str]] = {
        "stop": "stop_sequences", "response_format": "output_config.format",
        "reasoning_effort": "output_config.effort", "continue_final_message": "messages",
    }  # fmt: skip
    fates: ClassVar[Mapping[str, Fate]] = {
        "container": only(), "mcp_servers": only([]), "context_management": only(),
        "output_format": only(), "inference_geo": HARMLESS, "cache_control": HARMLESS, "speed": only("standard"),
        "max_tokens": HARMLESS, "stream": HARMLESS,
    }  # fmt: skip

    model: str | None = None
    messages: Annotated[list[Said], Field(min_length=1)]
    system: str | list[Given] | None = None
    tools: list[Given] | None = None
    tool_choice: Given | None = None
    thinking: Given | None = None
    output_config: Given | None = None

    def in_core(self) -> Given:
        """Errors: ApiError(400) for what these models cannot do."""
        said = [part for number, one in enumerate(self.messages) for part in of_message(one, f"messages.{number}")]
        system = [{"role": "system", "content": text_of(self.system, "system")}] if self.system else []
        tools = [of_tool(tool, f"tools.{number}") for number, tool in enumerate(self.tools or ())]
        return {
            "model": self.model, "messages": [*system, *said], "tools": tools or None, **of_choice(self.tool_choice),
            **of_output(self.output_config or {}),
            "continue_final_message": self.messages[-1].role == "assistant" or None,
        }  # fmt: skip

    def check_thinking(self, thinks: bool) -> None:
        """Errors: ApiError(400) where the model cannot do otherwise. A budget is a wish in Anthropic's API, too."""
        asked = self.thinking or {}
        kind = asked.get("type")
        if asked.get("display") not in (None, "summarized"):
            raise ApiError(
                400, 'thinking.display is not supported; only "summarized" is taken', param="thinking.display"
            )
        if kind not in (None, "enabled", "adaptive", "disabled"):
            raise ApiError(400, f"thinking.type cannot be {short(kind)}", param="thinking.type")
        if kind is not None and thinks is (kind == "disabled"):
            message = (
                f"thinking cannot be {kind}: this model {'always' if thinks else 'never'} thinks before it answers"
            )
            raise ApiError(400, message, param="thinking", code="unsupported_parameter")


class CreateMessage(CountTokens):
    fates: ClassVar[Mapping[str, Fate]] = {**CountTokens.fates, "max_tokens": DONE}

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: Annotated[list[StopText], Field(max_length=16)] | None = None
    stream: bool | None = None

    def in_core(self) -> Given:
        return {**super().in_core(), "max_tokens": self.max_tokens, "stop": self.stop_sequences}


def of_message(said: Said, where: str) -> list[Given]:
    """A message in the core's words: results of tools are messages of their own there."""
    if isinstance(said.content, str):
        return [{"role": said.role, "content": said.content}]
    made: list[Given] = []
    for number, block in enumerate(said.content):
        made += of_block(said.role, block, f"{where}.content.{number}")
    return joined(made) or [{"role": said.role, "content": ""}]


def of_block(role: str, block: Given, where: str) -> list[Given]:
    """A block as messages: none for a thought. Errors: ApiError(400)."""
    kind = block.get("type")
    if kind == "text":
        return [{"role": role, "content": text_of([block], where)}]
    if kind == "tool_result" and role == "user":
        content = block.get("content")
        return [{"role": "tool", "content": text_of("" if content is None else content, f"{where}.content")}]
    if kind == "tool_use" and role == "assistant":
        call = {"name": block.get("name"), "arguments": block.get("input")}
        if not isinstance(call["name"], str) or not call["name"] or not isinstance(call["arguments"], dict):
            raise ApiError(400, "a tool_use block needs a name and an object as its input", param=where)
        return [{"role": role, "content": None, "tool_calls": [{"function": call}]}]
    if kind in ("thinking", "redacted_thinking") and role == "assistant":
        return []  # thoughts are never fed back
    unsupported(f"a block of the type {short(kind)}", f"{where}.type")


def joined(made: list[Given]) -> list[Given]:
    """Texts that follow one another in a message are one text."""
    whole: list[Given] = []
    for message in made:
        plain = set(message) == {"role", "content"} and message["role"] != "tool"
        if plain and whole and set(whole[-1]) == {"role", "content"} and whole[-1]["role"] == message["role"]:
            whole[-1] = {**message, "content": whole[-1]["content"] + message["content"]}
        else:
            whole.append(message)
    return whole


def text_of(content: object, where: str) -> str:
    """The text of a str or of a list of text blocks. Errors: ApiError(400)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ApiError(400, "must be a text or a list of text blocks", param=where)
    for number, block in enumerate(content):
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            kind = block.get("type") if isinstance(block, dict) else type(block).__name__
            unsupported(f"a block of the type {short(kind)}", f"{where}.{number}")
    return "".join(block["text"] for block in content)


def of_tool(tool: Given, where: str) -> Given:
    """Chat has a function's parts one level deeper. Errors: ApiError(400)."""
    for name, value in tool.items():
        if value is not None:
            refuse_in(where, name, value)
    if not isinstance(tool.get("name"), str):
        raise ApiError(400, "a tool needs a name", param=f"{where}.name")
    function = {"name": tool["name"], "description": tool.get("description"), "parameters": tool.get("input_schema")}
    if tool.get("strict"):
        function["strict"] = tool["strict"]
    return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}


def refuse_in(where: str, name: str, value: object) -> None:
    """Errors: ApiError(400) for what a tool has no use for, by the name that it has in the request."""
    try:
        refuse_unless_neutral(name, value, TOOL_FATES)
    except ApiError as error:
        raise error.renamed({name: f"{where}.{name}"}) from None


def of_choice(choice: Given | None) -> Given:
    """``tool_choice`` and ``parallel_tool_calls``. Errors: ApiError(400)."""
    if choice is None:
        return {}
    kind, name = choice.get("type"), choice.get("name")
    if kind == "tool" and isinstance(name, str):
        core: object = {"type": "function", "function": {"name": name}}
    elif isinstance(kind, str) and kind in CHOICES:
        core = CHOICES[kind]
    else:
        raise ApiError(
            400, 'tool_choice is {"type": "auto"}, "any", "none", or "tool" with a name', param="tool_choice"
        )
    return {"tool_choice": core, "parallel_tool_calls": False if choice.get("disable_parallel_tool_use") else None}


def of_output(config: Given) -> Given:
    """``response_format`` and ``reasoning_effort``. Errors: ApiError(400)."""
    effort, form = config.get("effort"), config.get("format")
    core: Given = {"reasoning_effort": None if effort == "high" else effort}  # "high" is as if nothing was asked
    if form is None:
        return core
    if not isinstance(form, dict) or form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        message = 'output_config.format is {"type": "json_schema", "schema": {…}}'
        raise ApiError(400, message, param="output_config.format")
    named = {"name": "answer", "schema": form["schema"], "strict": True}
    return {**core, "response_format": {"type": "json_schema", "json_schema": named}}


def unsupported(what: str, param: str) -> NoReturn:
    """Errors: ApiError(400), always."""
    message = f"{what} is not supported; these models read text"
    raise ApiError(400, message, param=param, code="unsupported_parameter")
