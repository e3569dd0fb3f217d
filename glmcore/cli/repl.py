"""The interactive chat: a session that holds the messages, and the loop that reads lines and commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmcore.cli.failures import told
from glmcore.cli.history import History, history_file
from glmcore.cli.terminal import LineEditing, read_line, write_through
from glmcore.errors import GlmError
from glmcore.output import write_text

if TYPE_CHECKING:
    from glmcore.engine.engine import Engine

HELP = """\
/help           this list
/clear          forget the conversation
/system TEXT    instructions before the conversation (without TEXT: none)
/save FILE      write the conversation as JSON
/stats          figures of the last answer
/exit           leave (Ctrl-D too); Ctrl-C stops an answer
\"""             begins and ends a message of several lines; a paste of several lines is one message"""
QUOTES = '"""'


class Thoughts:
    """What a model thinks before it answers, shown dimmed where the output is a terminal; it is not remembered."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._open = write, False
        self._marks = ("\x1b[2m", "\x1b[22m\n\n") if sys.stdout and sys.stdout.isatty() else ("", "\n\n")

    def write(self, thought: str) -> None:
        self._write(thought if self._open else self._marks[0] + thought)
        self._open = True

    def end(self) -> None:
        """Before the answer, or where it was stopped."""
        if self._open:
            self._write(self._marks[1])
            self._open = False


class Session:
    """A conversation with one engine. An answer that was stopped stays in it as far as it came."""

    def __init__(self, engine: Engine, system: str | None, settings: dict[str, Any]) -> None:
        self.engine, self.system, self.settings = engine, system, settings
        self.turns: list[dict[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        instructions = [{"role": "system", "content": self.system}] if self.system else []
        return [*instructions, *self.turns]

    def answer(self, text: str, write: Callable[[str], None]) -> None:
        """Stream the answer to ``text`` through ``write`` and remember both."""
        question = {"role": "user", "content": text}
        pieces: list[str] = []
        thoughts = Thoughts(write)
        try:
            for piece in self.engine.stream([*self.messages, question], think=thoughts.write, **self.settings):
                thoughts.end()
                pieces.append(piece)
                write(piece)
        finally:
            thoughts.end()
            if pieces:
                self.turns += [question, {"role": "assistant", "content": "".join(pieces)}]

    def save(self, path: Path) -> None:
        """Write the messages as JSON, whole or not at all."""
        write_text(path, json.dumps(self.messages, ensure_ascii=False, indent=1) + "\n")


class Repl:
    """Reads a line, answers it or carries out a command, until the end of input."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.commands = {
            "help": self.help,
            "clear": self.clear,
            "system": self.set_system,
            "save": self.save,
            "stats": self.stats,
        }

    def run(self) -> None:
        self.editing = LineEditing(History(history_file()))
        write_through(f"{self.session.engine.describe()}\nType a question, or /help.\n")
        while True:
            try:
                line = read_line("you> ")
            except EOFError:
                write_through("\n")
                return
            except KeyboardInterrupt:
                write_through("\n(Ctrl-D or /exit leaves)\n")
                continue
            if line.strip() in ("/exit", "/quit"):
                return
            self.handle(line.strip())

    def handle(self, line: str) -> None:
        """What was typed or pasted; no failure of it ends the chat."""
        try:
            if line.startswith(QUOTES):
                line = read_on(line)
                self.editing.remember(line)
                self.ask(line[len(QUOTES) : -len(QUOTES)].strip())
            elif line:
                self.editing.remember(line)
                if not self.obey(line):
                    self.ask(line)
        except KeyboardInterrupt:
            write_through("\n(stopped)\n")
        except EOFError:
            write_through("\n(the message is dropped)\n")
        except Exception as error:
            write_through(f"\n{told(error).line()}\n")

    def ask(self, text: str) -> None:
        if text:
            write_through("glm> ")
            self.session.answer(text, write_through)
            write_through("\n")

    def obey(self, line: str) -> bool:
        """Carry a command out. A line that only looks like one, say a path, is none; a lone word may be mistyped."""
        name, _, argument = line.removeprefix("/").partition(" ")
        if not line.startswith("/") or "\n" in line:
            return False
        if name in self.commands:
            self.commands[name](argument.strip())
        elif line == f"/{name}" and name.isalpha():
            write_through(f"There is no /{name}.\n{HELP}\n")
        else:
            return False
        return True

    def help(self, argument: str) -> None:
        write_through(HELP + "\n")

    def clear(self, argument: str) -> None:
        self.session.turns.clear()
        write_through("(the conversation is empty)\n")

    def set_system(self, argument: str) -> None:
        self.session.system = argument or None
        write_through(f"(system: {argument or 'none'})\n")

    def save(self, argument: str) -> None:
        """Write the conversation to the file that is named. Errors: GlmError("usage", "write-failed")."""
        if not argument:
            raise GlmError("usage", "/save needs a file", hint="for example /save talk.json")
        try:
            path = Path(argument).expanduser()
        except RuntimeError as error:  # ~NAME of nobody
            raise GlmError("usage", str(error), where=argument) from error
        self.session.save(path)
        write_through(f"(saved {len(self.session.messages)} messages)\n")

    def stats(self, argument: str) -> None:
        stats = self.session.engine.stats
        if not stats.prompt_tokens:
            write_through("(no answer yet)\n")
            return
        write_through(
            f"prefill {stats.prompt_tokens} tokens ({stats.reused_tokens} from the cache), "
            f"{stats.prefill_tokens_per_s:.1f} tokens/s; time to first token {stats.time_to_first_token_s:.3f} s\n"
            f"decode {stats.generated_tokens} tokens, {stats.decode_tokens_per_s:.1f} tokens/s\n"
            f"backend {stats.backend}\n"
        )


def read_on(line: str) -> str:
    """The line that begins with three quotes, with those after it up to one that ends with three."""
    while len(line) < 2 * len(QUOTES) or not line.rstrip().endswith(QUOTES):
        line += "\n" + read_line("...> ")
    return line.rstrip()
