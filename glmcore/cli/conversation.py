"""A conversation with one model: what was said, files that wait to be sent, and how answers are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmcore.chat.messages import turns as read_turns
from glmcore.cli.display import Plain
from glmcore.cli.settings import LENGTH, Settings
from glmcore.errors import GlmError
from glmcore.output import write_text
from glmcore.reading import JSON_LIMIT, parse_json, read_bytes

if TYPE_CHECKING:
    from glmcore.engine.engine import Engine

Message = dict[str, Any]
FILE_BYTES = 4 << 20  # of text put into a message; the model's context is the narrower bound
BINARY = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")  # control characters that no text has; logs have colours


class Conversation:
    """An answer that was stopped stays in it as far as it came; a question that got none does not."""

    def __init__(self, engine: Engine, system: str | None, settings: Settings) -> None:
        self.engine, self.system, self.settings = engine, system, settings
        self.turns: list[Message] = []
        self.files: list[tuple[str, str]] = []  # name and text of those that go with the next question

    @property
    def messages(self) -> list[Message]:
        instructions = [{"role": "system", "content": self.system}] if self.system else []
        return [*instructions, *self.turns]

    def answer(self, text: str, shown: Plain) -> None:
        """Show the answer to ``text`` and the files that wait, and remember both."""
        attached = [quoted(name, content) for name, content in self.files]
        question = {"role": "user", "content": "\n\n".join([*attached, text])}
        pieces: list[str] = []
        shown.begin()
        try:
            for piece in self.engine.stream([*self.messages, question], think=shown.think, **self.settings.given):
                pieces.append(piece)
                shown.say(piece)
        finally:
            if pieces:
                self.turns += [question, {"role": "assistant", "content": "".join(pieces)}]
                self.files.clear()
            shown.end()

    def answer_again(self, shown: Plain) -> None:
        """Another answer to the last question; the old one stays where none comes. Errors: GlmError("usage")."""
        before, files = self.turns, self.files
        at, question = self._last_question()
        self.turns, self.files = before[:at], []
        try:
            self.answer(question, shown)
        finally:
            self.files = files
            if len(self.turns) == at:
                self.turns = before

    def undo(self) -> str:
        """Take back the file that waits, else the last question and what followed it; what that was.

        Errors: GlmError("usage") where there is neither.
        """
        if self.files:
            return self.files.pop()[0]
        at, question = self._last_question()
        del self.turns[at:]
        return question

    def _last_question(self) -> tuple[int, str]:
        """Its place among the turns, and its text."""
        asked = [at for at, turn in enumerate(self.turns) if turn["role"] == "user"]
        if not asked:
            raise GlmError("usage", "nothing has been asked yet")
        return asked[-1], read_turns([self.turns[asked[-1]]])[0].content

    def cut(self) -> str:
        """Why the last answer ended before its end, and what to do; "" where it did not."""
        stats, context = self.engine.stats, self.engine.context
        if stats.prompt_tokens + stats.generated_tokens >= context:
            return f"the context of {context} tokens is full: /clear begins anew, /undo takes the last question back"
        longest = self.settings.given.get("max_new_tokens", LENGTH)
        said = stats.generated_tokens
        return f"cut at {longest} tokens: /set max_new_tokens N allows more" if said >= longest else ""

    def attach(self, path: Path) -> int:
        """Let a file's text go with the next question; its tokens. Errors: GlmError("usage", "context-full")."""
        text = text_of(path)
        tokens = len(self.engine.tokenizer.encode(text))
        if tokens >= self.engine.context:
            raise GlmError("context-full", f"the file has {tokens} tokens, the context {self.engine.context}",
                           where=str(path), hint="take a part of it")  # fmt: skip
        self.files.append((path.name, text))
        return tokens

    def tokens(self) -> int:
        """Of the prompt that all this makes, with an empty question."""
        return len(self._prompt(self.messages, "\n\n".join(quoted(name, text) for name, text in self.files)))

    def _prompt(self, messages: list[Message], question: str) -> list[int]:
        return self.engine.prompt([*messages, {"role": "user", "content": question}], None)

    def clear(self) -> None:
        self.turns, self.files = [], []

    def save(self, path: Path) -> None:
        """Write the messages as JSON, whole or not at all."""
        write_text(path, json.dumps(self.messages, ensure_ascii=False, indent=1) + "\n")

    def load(self, path: Path) -> None:
        """Go on with the messages of a file: a list, or an object that has them. Errors: GlmError("usage")."""
        try:
            found = parse_json(read_bytes(path, JSON_LIMIT))
        except OSError as error:
            raise GlmError("usage", f"cannot be read: {error.strerror}", where=str(path)) from None
        except ValueError as error:
            raise GlmError("usage", f"is no JSON ({error})", where=str(path)) from None
        messages = found.get("messages") if isinstance(found, dict) else found
        if messages == []:  # one that was saved before anything was said
            self.system, self.turns, self.files = None, [], []
            return
        instructions = read_turns(messages)[0]
        self._prompt(messages, "")  # says what makes no sense
        leads = instructions.role == "system" and not instructions.tools
        self.system = instructions.content if leads else None
        self.turns, self.files = list(messages[1:] if leads else messages), []


def quoted(name: str, text: str) -> str:
    """A file's text as it stands in a question, fenced by more marks than it has."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{name}:\n{fence}\n{text.rstrip()}\n{fence}"


def text_of(path: Path) -> str:
    """The text of a regular file in UTF-8, in UTF-16 with its mark, or in GB 18030. Errors: GlmError("usage")."""
    try:
        content = read_bytes(path, FILE_BYTES)
    except OSError as error:
        raise GlmError("usage", f"cannot be read: {error.strerror}", where=str(path)) from None
    if not content.strip():
        raise GlmError("usage", "the file is empty", where=str(path))
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if BINARY.isdisjoint(map(ord, text)):
            return text.replace("\r\n", "\n")
    raise GlmError("usage", "the file is no text", where=str(path), hint="these models read text only")
