"""The prompt of each generation, as segments: plain text and special tokens apart, so that no text can pose as a token.

A prompt without the tokens that frame every input ([gMASK], sop): those the tokenizer adds on its side.

ChatGLM-6B and ChatGLM2-6B were trained without a system role and without tools: system texts stand before the
first round, and tools become such texts (``plain_tools``), for GLM-Edge too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from glmcore.chat import glm4_tools
from glmcore.chat.bounds import TOO_DEEP, Writer, bounded
from glmcore.chat.messages import Call, Message, Turn, named_function, tools_of, turns
from glmcore.chat.plain_tools import without_tools
from glmcore.chat.reasoning import BEGIN, without_thought
from glmcore.errors import GlmError
from glmcore.traits import TRAITS, Rounds


@dataclass(frozen=True)
class Special:
    """A special token by name, e.g. ``<|user|>``."""

    name: str


Segment = str | Special
V3_TOOLS = "Answer the following questions as best as you can. You have access to the following tools:"


def prompt(
    messages: Sequence[Message],
    generation: str,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
) -> list[Segment]:
    """The segments of the generation's own prompt for OpenAI-shaped ``messages``, which stay as they are.

    Errors: GlmError("usage") for messages or tools that the generation has no form for.
    """
    chat, offered = turns(messages), tools_of(tools)
    rounds = TRAITS[generation].rounds
    if not TRAITS[generation].knows_tools:
        chat = without_tools(chat, offered)
    if rounds is not None:
        return [_rounds(chat, rounds, add_generation_prompt)]
    render = RENDERERS[generation]
    if TRAITS[generation].sandwich:
        chat = _in_order(chat, offered, generation)
    elif TRAITS[generation].knows_tools:
        chat = tuple(_with_tools(chat, offered, generation))
    try:
        segments: list[Segment] = list(bounded(part for turn in chat for part in render(turn)))
    except RecursionError:
        raise GlmError("usage", TOO_DEEP, where="messages") from None
    if add_generation_prompt:
        segments.append(Special("<|assistant|>"))
        segments += [f"\n{BEGIN}"] if TRAITS[generation].thinks else []
    return segments


# ChatGLM-6B and ChatGLM2-6B: one text of numbered rounds


def _rounds(chat: tuple[Turn, ...], rounds: Rounds, open_answer: bool) -> str:
    system = [turn.content for turn in chat if turn.role == "system"]
    pairs = _pairs([turn for turn in chat if turn.role != "system"])
    if open_answer and (not pairs or pairs[-1][1] is not None):
        raise GlmError("usage", "the last message must be the user's", where="messages", hint="add a user message")
    if rounds.bare_question and len(pairs) == 1 and pairs[0][1] is None:
        return rounds.gap.join([*system, pairs[0][0]])
    numbered = [_round(number, pair, rounds.gap, open_answer) for number, pair in enumerate(pairs, rounds.first)]
    return rounds.gap.join([*system, *numbered])


def _pairs(chat: list[Turn]) -> list[tuple[str, str | None]]:
    """(question, answer or None); questions in a row are one question, an answer without one has an empty one."""
    pairs: list[tuple[str, str | None]] = []
    for turn in chat:
        open_question = bool(pairs) and pairs[-1][1] is None
        if turn.role == "user":
            text = f"{pairs.pop()[0]}\n{turn.content}" if open_question else turn.content
            pairs.append((text, None))
        elif open_question:
            pairs[-1] = (pairs[-1][0], turn.content)
        else:
            pairs.append(("", turn.content))
    return pairs


def _round(number: int, pair: tuple[str, str | None], gap: str, open_answer: bool) -> str:
    question, answer = pair
    head = f"[Round {number}]{gap}问：{question}"
    return head if answer is None and not open_answer else f"{head}{gap}答：{answer or ''}"


# ChatGLM3 and GLM-4: a special token per role


def _with_tools(chat: tuple[Turn, ...], tools: tuple[Mapping[str, Any], ...], generation: str) -> Iterable[Turn]:
    """``tools`` given apart from the messages join the leading system message, or become one."""
    if not tools:
        return chat
    lead = chat[0] if chat[0].role == "system" else Turn("system", "")
    rest = chat[1:] if chat[0].role == "system" else chat
    if generation == "v3":
        # ChatGLM3 was trained on bare functions under this sentence.
        text = f"{lead.content}\n{V3_TOOLS}" if lead.content else V3_TOOLS
        lead, tools = replace(lead, content=text), tuple(named_function(tool) for tool in tools)
    return (replace(lead, tools=lead.tools + tools), *rest)


def _v3(turn: Turn) -> Iterator[Segment]:
    """Role, metadata line and content are tokenised each for itself, so each text begins with a dummy blank."""
    content = turn.content
    if turn.role == "system" and turn.tools:
        content += "\n" + Writer().indented([dict(tool) for tool in turn.tools])
    if content or not turn.calls:
        yield from (Special(f"<|{turn.role}|>"), f"{turn.metadata}\n", content)
    for call in turn.calls:
        yield from (Special("<|assistant|>"), f"{call.name}\n", _v3_call(call))


def _v3_call(call: Call) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    return f" ```python\ntool_call({arguments})\n```"


def _glm4(turn: Turn) -> Iterator[Segment]:
    """The release's chat_template: an empty message is left out, tools have a system message of their own."""
    if turn.tools:
        yield from (Special("<|system|>"), glm4_tools.describe(turn.tools))
    if turn.content:
        yield from (Special(f"<|{turn.role}|>"), f"{turn.metadata}\n{turn.content}")
    for call in turn.calls:
        yield from (Special("<|assistant|>"), f"{call.name}\n{json.dumps(call.arguments, ensure_ascii=False)}")


# GLM-4-0414, GLM-Z1 and GLM-Edge: a line for each role


def _in_order(chat: tuple[Turn, ...], tools: tuple[Mapping[str, Any], ...], generation: str) -> tuple[Turn, ...]:
    """Tools first, then the system's texts, then the conversation, wherever those stood."""
    every = (*tools, *(tool for turn in chat for tool in turn.tools))
    described = glm4_tools.describe_0414(every, introduced=TRAITS[generation].thinks) if every else ""
    head = [Turn("system", described)] if described else []
    system = [replace(turn, tools=()) for turn in chat if turn.role == "system" and (turn.content or not turn.tools)]
    return (*head, *system, *(turn for turn in chat if turn.role != "system"))


def _lines(turn: Turn) -> Iterator[Segment]:
    """Role, what names a tool, and the text in the next line."""
    if turn.content or not turn.calls:
        yield from (Special(f"<|{turn.role}|>"), f"{turn.metadata}\n{turn.content}")
    for call in turn.calls:
        yield from (Special("<|assistant|>"), f"{call.name}\n{json.dumps(call.arguments, ensure_ascii=False)}")


def _z1(turn: Turn) -> Iterator[Segment]:
    """A thought is not fed back."""
    return _lines(turn if turn.role == "system" else replace(turn, content=without_thought(turn.content)))


RENDERERS = {
    "v3": _v3, "glm4": _glm4, "glm4-hf": _glm4, "glm-edge": _lines, "glm4-0414": _lines, "glm-z1": _z1,
}  # fmt: skip
