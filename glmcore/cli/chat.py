"""glmcore chat: an interactive chat on a terminal; one answer with --once or piped input."""

from __future__ import annotations

from typing import Any

import click

from glmcore.cli.options import model_options
from glmcore.cli.terminal import piped_text
from glmcore.errors import GlmError


@click.command()
@model_options
@click.option("--once", metavar="TEXT", help="Answer this and end.")
@click.option("--system", metavar="TEXT", help="Instructions that stand before the chat.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=512, show_default=True)
@click.option("--temperature", type=float, default=None, help="0 is greedy. [default: the generation's own]")
@click.option("--top-p", type=float, default=None, help="[default: the generation's own]")
@click.option("--seed", type=int, default=None, help="The same seed gives the same answer.")
def chat(
    once: str | None,
    system: str | None,
    max_new_tokens: int,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    debug: bool,
    **loading: Any,
) -> None:
    """Chat with a model."""
    from glmcore.cli.conversation import Conversation
    from glmcore.cli.display import display
    from glmcore.cli.loading import load_engine
    from glmcore.cli.repl import Repl
    from glmcore.cli.settings import Settings

    text = once if once is not None else piped_text()
    if text is not None and not text.strip():
        raise GlmError("usage", "there is nothing to answer", hint="give a text to --once or on standard input")
    engine = load_engine(**loading)
    settings = Settings(engine, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    conversation = Conversation(engine, system, settings)
    if text is not None:
        conversation.answer(text, display())
    else:
        Repl(conversation).run()
