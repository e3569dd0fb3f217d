"""The command line: subcommands are imported when they are called, errors become one line and an exit status."""

from __future__ import annotations

import importlib
import os
import sys

import click

from glmcore import __version__
from glmcore.cli.failures import told
from glmcore.errors import GlmError
from glmcore.kernels.threads import share_cores
from glmcore.programs import begin_outside

COMMANDS = {
    "bench": "Measure prefill and decode.",
    "chat": "Chat with a model; without --model with the demo model.",
    "cluster": "Serve a model over several machines, on Ray.",
    "combine": "Put several engines of one model into one.",
    "compile": "Compile a model of known lengths into an engine.",
    "download": "Fetch a checkpoint from the hub or a mirror.",
    "golden": "Compare two dumps of an engine, or one with the original code's tensors.",
    "infer": "Answer questions with a compiled engine.",
    "info": "Say what a checkpoint is and what it needs.",
    "plan": "Say which device holds which piece, byte by byte.",
    "quantize": "Write an int8 or int4 checkpoint in the original layout.",
    "serve": "Serve a model through OpenAI's API.",
}


class LazyGroup(click.Group):
    """Knows every command's name and short help, and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"glmcore.cli.{name}"), name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the names that come close. Errors: click.UsageError."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches  # here, since it is rarely wanted

            close = get_close_matches(args[0], COMMANDS, n=3, cutoff=0.5)
            near = f"; did you mean {', '.join(close)}?" if close else ""
            raise click.UsageError(f"no such command: {args[0]}{near}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glmcore")
def group() -> None:
    """Run ChatGLM-6B, ChatGLM2-6B, ChatGLM3-6B and GLM-4-9B from their original checkpoints."""


def main() -> None:
    """Entry point: every failure a user can cause ends in one line and the right exit status."""
    begin_outside()
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (closed by the caller, `2>&-`)
    share_cores()
    try:
        group.main(standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("\nglmcore: interrupted\n")
        sys.exit(130)
    except Exception as error:
        sys.exit(complain(told(error)))


def complain(error: GlmError) -> int:
    """Print the error's line and return the exit status."""
    sys.stderr.write(error.line() + "\n")
    return error.exit_status
