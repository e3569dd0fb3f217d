"""glmcore infer: questions through a compiled engine, and what that took."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TextIO

import click

from glmcore.cli.options import Truth
from glmcore.cli.terminal import say
from glmcore.compiled.questions import EXAMPLES, SELF_TEST, chosen
from glmcore.compiled.wishes import Wishes, device_names, rows_of
from glmcore.errors import GlmError
from glmcore.plan import NUMBERED, STRATEGIES

if TYPE_CHECKING:
    from glmcore.compiled.opened import Opened
    from glmcore.config import ModelConfig
    from glmcore.engine.sampling import Sampling
    from glmcore.engine.sequence import Sequence as Answer
    from glmcore.tokenizers import Tokenizer

SCHEMA_VERSION = 1
# As the document has it; what does not fit the total length is cut.
MAX_NEW_TOKENS = 2048


def switch(name: str, **settings: Any):
    """A flag that takes True or False behind it, too, as the document's examples write it."""
    return click.option(
        name, type=Truth(), is_flag=False, flag_value="True", default=False, metavar="[True|False]", **settings
    )


def limits(context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...]:
    """ "8,7.5" → (8.0, 7.5). Errors: click.BadParameter."""
    try:
        found = tuple(float(part) for part in text.split(",")) if text and text.strip() else ()
    except ValueError:
        found = (0.0,)
    if not all(limit > 0 and math.isfinite(limit) for limit in found):
        raise click.BadParameter(f"{text!r} is no list of GiB such as 8,8")
    return found


@click.command()
@click.option("--engine", metavar="ENGINE", required=True, help="The engine's folder.")
@click.option(
    "--base-length",
    type=click.IntRange(1),
    help="Prefill length. [default: the shortest that takes the prompt at once]",
)
@click.option("--static-batch-size", type=click.IntRange(1), help="Rows of a call. [default: the engine's]")
@click.option(
    "--dynamic-batch-size",
    type=click.IntRange(1),
    help="Groups of rows. [default: as many as the questions need, else 1]",
)
@click.option(
    "--question", "questions", metavar="TEXT", multiple=True, help="A question of your own; as often as wanted."
)
@click.option(
    "--question-from",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="1: your own (--question; built-in texts to read where none is given), 2: short self-test questions.",
)
@click.option(
    "--question-index", type=click.IntRange(0), default=0, show_default=True, help="The first question to take."
)
@switch("--do-sample", help="Draw tokens by --temperature and --top-p; else the likeliest is taken.")
@click.option("--temperature", type=float, help="With --do-sample. [default: the generation's own]")
@click.option("--top-p", type=float, help="With --do-sample. [default: the generation's own]")
@click.option("--device", metavar="DEVICES", default="", help="As the engine was compiled for: cpu, or cards as 0,1.")
@click.option("--multi-dev-dram-limit", metavar="GIB,GIB…", callback=limits, help="GiB that each device may take.")
@click.option(
    "--split-strategy", "--split-stragety", type=click.Choice([*STRATEGIES[:3], *NUMBERED]), help="As compiled."
)
@click.option("--max-batch-size", type=click.IntRange(1), help="Groups at most.")
@click.option("--total-len", type=click.IntRange(1), help="As compiled. [default: the engine's]")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=MAX_NEW_TOKENS,
    show_default=True,
    help="Of each answer; what does not fit the total length is cut.",
)
@switch("--constant-output", help="Go on to --max-new-tokens, past an end token.")
@click.option(
    "--dump-golden",
    is_flag=False,
    flag_value="golden",
    metavar="[DIR]",
    help="Dump every call for glmcore golden. [default: ./golden]",
)
@click.option("--json", "as_json", is_flag=True)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def infer(engine: str, as_json: bool, debug: bool, **asked: Any) -> None:
    """Answer questions with a compiled ENGINE and print what that took, as the closed tool chain does.

    What contradicts the engine is refused. An engine is a program: run only those that you trust.
    """
    told = answered(engine, **asked)
    say(json.dumps(told, ensure_ascii=False, indent=1) if as_json else text_of(told))


def answered(
    engine: str,
    *,
    base_length: int | None,
    static_batch_size: int | None,
    total_len: int | None,
    device: str,
    multi_dev_dram_limit: tuple[float, ...],
    split_strategy: str | None,
    do_sample: bool,
    temperature: float | None,
    top_p: float | None,
    max_new_tokens: int,
    constant_output: bool,
    dump_golden: str | None,
    **asked: Any,
) -> dict[str, Any]:
    """What was asked, answered and timed, as ``--json`` prints it. Errors: GlmError."""
    from glmcore.compiled.answering import Request, answer
    from glmcore.compiled.checks import read_manifest
    from glmcore.compiled.opening import open_engine
    from glmcore.tokenizers import load_tokenizer

    manifest = read_manifest(engine)
    wishes = Wishes(
        base_length, static_batch_size, total_len, device_names(device), multi_dev_dram_limit, split_strategy
    )
    rows = rows_of(manifest, wishes)
    questions = questions_for(rows, **asked)
    sampling = sampling_for(manifest.config, do_sample, temperature, top_p)
    opened = open_engine(engine)  # before anything of it is read: the tokenizer's file is the engine's too
    tokenizer = load_tokenizer(engine, manifest.config)
    prompts = [tokenizer.apply_chat_template([{"role": "user", "content": text}]) for text in questions]
    stop_ids = frozenset({*tokenizer.stop_ids, *manifest.config.eos_token_ids})
    request = Request(rows, sampling, max_new_tokens, stop_ids, base_length, constant_output)
    with dumped(opened, dump_golden) as told_of:
        made = answer(opened, prompts, request, progress=counter(sys.stderr), **told_of)
    return {
        "schema_version": SCHEMA_VERSION, "engine": str(engine), "base_length": made.base_length,
        "static_batch_size": rows, "dynamic_batch_size": len(questions) // rows, "total_len": manifest.total_len,
        "answers": [told(tokenizer, question, row) for question, row in zip(questions, made.rows, strict=True)],
        "throughput": made.throughput.to_json(), "dump": dump_golden,
    }  # fmt: skip


@contextmanager
def dumped(opened: Opened, folder: str | None) -> Iterator[dict[str, Any]]:
    """While every call goes to ``folder``, where one is named: what ``answer`` is given for that."""
    from glmcore.compiled.dumping import Dumping
    from glmcore.golden.dump import recording

    if folder is None:
        yield {}
        return
    with recording(folder) as recorder:
        opened.watch = Dumping(recorder)
        yield {"begin_group": recorder.begin_group}


def questions_for(
    rows: int,
    *,
    dynamic_batch_size: int | None,
    max_batch_size: int | None,
    questions: tuple[str, ...],
    question_from: int,
    question_index: int,
) -> list[str]:
    """A question for every row of every group. Errors: GlmError("usage") for wishes that contradict each other."""
    if questions and question_from == 2:
        raise GlmError("usage", "--question is a question of your own, --question-from 2 takes built-in ones")
    pool = questions or (EXAMPLES if question_from == 1 else SELF_TEST)
    if question_index >= len(pool):
        what = f"--question-index {question_index} is beyond the {len(pool)} questions"
        raise GlmError("usage", what, hint=f"they are counted from 0 to {len(pool) - 1}")
    groups = dynamic_batch_size or (-(-len(questions) // rows) if questions else 1)
    if max_batch_size is not None and groups > max_batch_size:
        what = f"{groups} groups of {rows} are more than the {max_batch_size} of --max-batch-size"
        raise GlmError("usage", what, hint=f"--max-batch-size {groups}")
    return chosen(pool, question_index, rows * groups)


def sampling_for(config: ModelConfig, do_sample: bool, temperature: float | None, top_p: float | None) -> Sampling:
    """Greedy without --do-sample, whatever else is said, as the document has it. Errors: GlmError("usage")."""
    from glmcore.engine.sampling import Sampling

    own_temperature, own_top_p = config.traits.sampling
    drawn = Sampling(own_temperature if temperature is None else temperature, own_top_p if top_p is None else top_p)
    return drawn if do_sample else Sampling(temperature=0)


def told(tokenizer: Tokenizer, question: str, row: Answer) -> dict[str, Any]:
    """A question with its framed prompt, and what was answered."""
    from glmcore.chat.responses import clean_text
    from glmcore.engine.text import AnswerText

    text = AnswerText(tokenizer)
    pieces = [*map(text.push, row.output), text.flush()]
    return {
        "question": question,
        "prompt": tokenizer.prompt_text([{"role": "user", "content": question}]).removeprefix(tokenizer.head),
        "prompt_tokens": len(row.prompt),
        "response": clean_text("".join(pieces), tokenizer.generation),
        "tokens": row.output,
        "finish_reason": row.finish_reason,
    }


def text_of(told: dict[str, Any]) -> str:
    """The same as the document prints it: questions, responses, the block."""
    from glmcore.compiled.throughput import Throughput

    parts = [
        f"Question {number}:\n{answer['prompt']}\n\nResponse:\n{answer['response']}\n"
        for number, answer in enumerate(told["answers"], 1)
    ]
    counted = {field.name: told["throughput"][field.name] for field in fields(Throughput)}
    return "\n".join([*parts, Throughput(**counted).text()])


def counter(stream: TextIO) -> Callable[[int], None]:
    """Says on a terminal how many tokens there are so far."""

    def show(tokens: int) -> None:
        stream.write(f"\r{tokens} tokens\033[K\r")
        stream.flush()

    return show if stream.isatty() else lambda tokens: None
