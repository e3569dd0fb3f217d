"""The interactive chat: reads messages and commands until the end of input."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from glmcore.cli.completion import completions
from glmcore.cli.conversation import Conversation
from glmcore.cli.display import display, unseen_keys
from glmcore.cli.failures import told
from glmcore.cli.history import History, history_file
from glmcore.cli.settings import LENGTH, OWN, SETTINGS
from glmcore.cli.terminal import LineEditing, read_line, write_through
from glmcore.errors import GlmError, plain

# Command → its argument, and what it does.
COMMANDS = {
    "help": ("", "this list"),
    "clear": ("", "forget the conversation"),
    "undo": ("", "take back the file that waits, or the last question and answer"),
    "regen": ("", "answer the last question again"),
    "file": ("PATH", "put a file's text into the next question"),
    "system": ("TEXT", "instructions before the conversation (without TEXT: none)"),
    "set": ("NAME VALUE", "temperature, top_p, seed, max_new_tokens, …; without NAME what is set"),
    "save": ("FILE", "write the conversation as JSON"),
    "load": ("FILE", "go on with a conversation that was saved"),
    "tokens": ("", "how much of the context is used"),
    "stats": ("", "figures of the last answer"),
    "exit": ("", "leave (Ctrl-D too); Ctrl-C stops an answer"),
}
NAME = "glm"
QUOTES, MORE = '"""', "\\"
HELP = "\n".join(f"{f'/{name} {argument}':<17}{about}" for name, (argument, about) in COMMANDS.items()) + (
    f"\n{QUOTES}              begins and ends a message of several lines; a paste of several lines is one message\n"
    f"{MORE}                at a line's end: the message goes on\n"
    "Tab completes commands and paths, Ctrl-R searches what was typed before."
)
ALIKE = 0.75  # from here on a word with text after it is a mistyped command rather than a message


class Repl:
    """A conversation from the keyboard."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation

    def run(self) -> None:
        arguments = {"set": [*SETTINGS, "system"]}
        self.editing = LineEditing(
            History(history_file()), lambda line: completions(line, list(COMMANDS), arguments)
        )  # fmt: skip
        write_through(f"{self.conversation.engine.describe()}\nType a question, or /help.\n")
        while True:
            try:
                line = read_line("you> ").strip()
            except EOFError:
                write_through("\n")
                return
            except KeyboardInterrupt:
                write_through("\n(Ctrl-D or /exit leaves)\n")
                continue
            if line.partition(" ")[0] in ("/exit", "/quit"):
                return
            self.handle(line)

    def handle(self, line: str) -> None:
        """What was typed or pasted; no failure of it ends the chat."""
        try:
            line = read_on(line)
            if line:
                self.editing.remember(line)
            if line.startswith(QUOTES):
                self.ask(line[len(QUOTES) : -len(QUOTES)].strip())
            elif line and not self.obey(line):
                self.ask(line)
        except KeyboardInterrupt:
            write_through("\n(stopped)\n")
        except EOFError:
            write_through("\n(the message is dropped)\n")
        except Exception as error:
            write_through(f"\n{told(error).line()}\n")

    def ask(self, text: str) -> None:
        if text:
            with unseen_keys():
                self.conversation.answer(text, display(NAME))
            self.say_if_cut()

    def obey(self, line: str) -> bool:
        """Carry a command out. A line that only looks like one, say a path, is none; a word may be mistyped."""
        name, _, argument = line.removeprefix("/").partition(" ")
        if not line.startswith("/") or ("\n" in line and name != "system"):
            return False
        name = "help" if line == "/" else name
        if name in COMMANDS:
            getattr(self, f"do_{name}")(argument.strip())
            return True
        near = get_close_matches(name, COMMANDS, n=1, cutoff=ALIKE if argument else 0.5)
        if not name.isalpha() or (argument and not near):
            return False
        meant = f"Did you mean /{near[0]}? " if near else ""
        write_through(f"There is no /{name}. {meant}/help lists the commands; {QUOTES} before it makes it a message.\n")
        return True

    def do_help(self, argument: str) -> None:
        write_through(HELP + "\n")

    def do_clear(self, argument: str) -> None:
        self.conversation.clear()
        write_through("(the conversation is empty)\n")

    def do_undo(self, argument: str) -> None:
        write_through(f"(taken back: {plain(self.conversation.undo(), 60)})\n")

    def do_regen(self, argument: str) -> None:
        with unseen_keys():
            self.conversation.answer_again(display(NAME))
        self.say_if_cut()

    def say_if_cut(self) -> None:
        if why := self.conversation.cut():
            write_through(f"({why})\n")

    def do_file(self, argument: str) -> None:
        path = named(argument, "/file report.txt")
        tokens = self.conversation.attach(path)
        write_through(f"({plain(path.name)}: {tokens} tokens, go with the next question; /undo takes them back)\n")

    def do_system(self, argument: str) -> None:
        self.conversation.system = argument or None
        write_through(f"(system: {argument or 'none'})\n")

    def do_set(self, argument: str) -> None:
        """Errors: GlmError("usage") for a name or value that makes no sense."""
        settings = self.conversation.settings
        name, _, value = argument.replace("=", " ", argument.partition(" ")[0].count("=")).partition(" ")
        if name == "system":
            self.do_system(value.strip())
        elif name and not value:
            raise GlmError("usage", f"/set {plain(name)} needs a value", hint=f"{OWN} is the model's own")
        else:
            if name:
                settings.set(name, value.strip())
            write_through(f"{settings.lines(name)}\n")

    def do_save(self, argument: str) -> None:
        self.conversation.save(named(argument, "/save talk.json"))
        write_through(f"(saved {len(self.conversation.messages)} messages)\n")

    def do_load(self, argument: str) -> None:
        self.conversation.load(named(argument, "/load talk.json"))
        write_through(f"(loaded {len(self.conversation.messages)} messages, {self.conversation.tokens()} tokens)\n")

    def do_tokens(self, argument: str) -> None:
        context, used = self.conversation.engine.context, self.conversation.tokens()
        longest = self.conversation.settings.given.get("max_new_tokens", LENGTH)
        write_through(
            f"({used} tokens of a context of {context}; {max(0, context - used)} are left for questions and answers, "
            f"an answer takes {longest} at most)\n"
        )

    def do_stats(self, argument: str) -> None:
        stats = self.conversation.engine.stats
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
    """The message that begins with ``line``: up to closing quotes where it opens them, else while lines end in a
    backslash, which goes.
    """
    if line.startswith(QUOTES):
        while len(line) < 2 * len(QUOTES) or not line.endswith(QUOTES):
            line += "\n" + read_line("...> ").rstrip()
        return line
    while line.endswith(MORE):
        line = line.removesuffix(MORE) + "\n" + read_line("...> ").rstrip()
    return line


def named(argument: str, example: str) -> Path:
    """The file that a command names. Errors: GlmError("usage")."""
    if not argument:
        raise GlmError("usage", "a file has to be named", hint=f"for example {example}")
    if len(argument) > 2 and argument[0] == argument[-1] and argument[0] in "'\"":  # as a file that is dropped comes
        argument = argument[1:-1]
    try:
        return Path(argument).expanduser()
    except RuntimeError as error:  # ~NAME of nobody
        raise GlmError("usage", str(error), where=argument) from error
