"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Truth(click.ParamType):
    """True or False in a word, for options that the brief's tools give one."""

    name = "True|False"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        if isinstance(value, bool):
            return value
        found = TRUTHS.get(str(value).lower())
        if found is None:
            self.fail(f"{value!r} is neither True nor False", param, ctx)
        return found


precision_option = click.option(
    "--precision",
    type=click.Choice(["exact", "fast", "light"]),
    default="fast",
    show_default=True,
    help="Of a quantised layer's input on the CPU: fast keeps 16 bits in answers and 8 in prompts, light 8 in both, "
    "exact float32's.",
)


cache_option = click.option(
    "--cache",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of keys and values on the CPU: bfloat16 takes half the memory and is the faster with long contexts; not with "
    "exact. [default: the plan's, or float32]",
)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All that loading needs: from --model to --threads, and --debug."""
    options: list[Decorator] = [
        click.option("--model", metavar="DIR_OR_NAME", help="Checkpoint folder; without it the demo model."),
        click.option("--adapter", metavar="DIR", help="A LoRA (PEFT) or P-Tuning v2 to put on the model."),
        click.option("--quant", type=click.Choice(["int8", "int4"]), help="Quantise while loading."),
        click.option(
            "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Of what is not quantised."
        ),
        click.option("--plan", "plan_file", metavar="FILE", help="A placement made by glmcore plan."),
        click.option("--kernel-file", metavar="FILE", help="A ready CPU kernel in place of building one."),
        precision_option,
        cache_option,
        click.option(
            "--threads", type=click.IntRange(1), metavar="N", help="CPU threads; the physical cores by default."
        ),
        click.option("--debug", is_flag=True, help="Show the traceback of a failure."),
    ]
    for option in reversed(options):
        command = option(command)
    return command
