"""The group of commands; each is imported only when it is called, so that ``--help`` stays quick."""

from __future__ import annotations

from importlib import import_module

import click

from glmdoctor import __version__

# Name → module, function in it, and what the overview says.
COMMANDS = {
    "check": ("glmdoctor.cli.check", "check", "Examine this machine; change nothing."),
    "fix": ("glmdoctor.cli.fix", "fix", "Repair what the findings allow, and check each repair."),
    "undo": ("glmdoctor.cli.undo", "undo", "Take a repair back."),
    "explain": ("glmdoctor.cli.explain", "explain", "Say which known problem a log shows."),
    "run": ("glmdoctor.cli.run", "run", "Start a command with the repaired environment."),
    "chat": ("glmdoctor.cli.chat", "chat", "Check, then hand over to the glmcore chat."),
    "snapshot": ("glmdoctor.cli.snapshot", "snapshot", "Write this machine's facts, redacted, to a file."),
    "list": ("glmdoctor.cli.list", "list_catalogue", "List the checks and the known problems."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[name]
        command: click.Command = getattr(import_module(module), function)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Raises ``UsageError`` with the command that was probably meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no such command: {args[0]}{meant(args[0], COMMANDS)}", context)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


def meant(word: str, known: object) -> str:
    """``; did you mean a, b?`` for the names of ``known`` that are close to ``word``, else nothing."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=3, cutoff=0.5)  # type: ignore[call-overload]
    return f"; did you mean {', '.join(close)}?" if close else ""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="glmdoctor")
def application() -> None:
    """Find out why this machine cannot run ChatGLM models, repair it, and prove that the repair holds."""
