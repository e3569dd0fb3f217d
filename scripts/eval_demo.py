"""Ask the demo model all questions of the corpus and count the right answers, in fp32, int8 and int4.

    python scripts/eval_demo.py [--model FOLDER] [--weights fp32|int8|int4] [--precision exact|fast|light]
                                [--cache float32|bfloat16] [--json FILE]

Decoding is greedy. An answer is right when it is the wanted text, blanks apart; or when it shares nine tenths of its
words (Chinese: characters) with it and is nearer to it than to every other answer. ``--precision`` is that of
quantised layers' inputs, as in ``glmcore chat``. ``--perplexity`` measures instead how well the model foresees wanted
answers to held-out questions, per token: "read" with all tokens in one forward, "decoded" token by token.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from demo_corpus import LANGUAGES, Corpus, Example, evaluation_sets

import glmcore
from glmcore import demo
from glmcore.engine.engine import Engine
from glmcore.engine.load import CACHES
from glmcore.kernels.load import PRECISIONS
from glmcore.models.cache import KVCache

WEIGHTS = {"fp32": None, "int8": "int8", "int4": "int4"}
HELD_OUT = ("paraphrased", "free", "follow-up")
MAX_NEW_TOKENS = 100
BATCH = 64


def words(text: str) -> Counter[str]:
    """The words of a text; each Chinese character is one."""
    return Counter(re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text.lower()))


def overlap(one: Counter[str], other: Counter[str]) -> float:
    return 2 * (one & other).total() / max(one.total() + other.total(), 1)


class Judge:
    """Says whether an answer is the right one among all that there are."""

    def __init__(self, answers: Iterable[str]) -> None:
        self.answers = {text: words(text) for text in answers}

    def right(self, given: str, wanted: str) -> bool:
        if given.split() == wanted.split():
            return True
        said = words(given)
        nearest = max(self.answers, key=lambda text: overlap(said, self.answers[text]))
        return nearest == wanted and overlap(said, self.answers[nearest]) >= 0.9


@torch.inference_mode()
def answers(engine: Engine, examples: list[Example]) -> list[str]:
    """The greedy answers; prompts of one length go together, so that none needs padding."""
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for place, example in enumerate(examples):
        prompt = engine.prompt(example.messages, None)
        by_length[len(prompt)].append((place, prompt))
    texts = [""] * len(examples)
    for group in by_length.values():
        for start in range(0, len(group), BATCH):
            part = group[start : start + BATCH]
            for (place, _), ids in zip(part, decode(engine, [prompt for _, prompt in part]), strict=True):
                texts[place] = engine.tokenizer.decode(ids).strip()
    return texts


def decode(engine: Engine, prompts: list[list[int]]) -> Iterator[list[int]]:
    """The greedy continuation of prompts of one length, each up to its end token."""
    model, end = engine.runner.model, engine.tokenizer.eos_token_ids[0]
    cache = KVCache(engine.config, len(prompts), len(prompts[0]) + MAX_NEW_TOKENS, kept_in(engine))
    last, steps = torch.tensor(prompts), []
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    while len(steps) < MAX_NEW_TOKENS and not ended.all():
        last = model(last, cache=cache, last_only=True)[:, -1].argmax(-1, keepdim=True)
        steps.append(last[:, 0])
        ended |= last[:, 0] == end
    for row in torch.stack(steps, dim=1).tolist():
        yield row[: row.index(end)] if end in row else row


def kept_in(engine: Engine) -> torch.dtype:
    """The type of the engine's keys and values."""
    return engine.runner.cache.keys[0].dtype


def evaluate(engine: Engine, sets: dict[str, list[Example]], judge: Judge, show: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, examples in sets.items():
        given = answers(engine, examples)
        verdicts = [judge.right(text, e.answer) for text, e in zip(given, examples, strict=True)]
        figures[name] = {"right": sum(verdicts), "of": len(verdicts), "share": sum(verdicts) / len(verdicts)}
        for language in LANGUAGES:
            own = [verdict for verdict, e in zip(verdicts, examples, strict=True) if e.language == language]
            figures[name][language] = sum(own) / len(own)
        wrong = [(e, text) for e, text, verdict in zip(examples, given, verdicts, strict=True) if not verdict]
        for example, text in wrong[:show]:
            print(f"  wrong ({name}, {example.topic}): {example.question!r} -> {text!r}", file=sys.stderr)
    return figures


@torch.inference_mode()
def perplexities(engine: Engine, examples: list[Example]) -> dict[str, float]:
    """exp of the mean loss of an answer's token: "read" as a prompt is, and "decoded" as an answer is."""
    losses: dict[str, list[float]] = {"read": [], "decoded": []}
    for example in examples:
        prompt = engine.prompt(example.messages, None)
        answer = [*engine.tokenizer.encode(example.answer), engine.tokenizer.eos_token_ids[0]]
        ids = torch.tensor([prompt + answer])
        cache = KVCache(engine.config, 1, ids.shape[1], kept_in(engine))
        read = engine.runner.model(ids, cache=cache)[0, len(prompt) - 1 : -1]
        first = engine.runner.prefill(prompt)
        decoded = torch.stack([first, *(engine.runner.decode(token).clone() for token in answer[:-1])])
        for way, logits in (("read", read), ("decoded", decoded)):
            losses[way] += F.cross_entropy(logits.float(), torch.tensor(answer), reduction="none").tolist()
    return {way: math.exp(math.fsum(each) / len(each)) for way, each in losses.items()}


def held_out(sets: dict[str, list[Example]], number: int) -> list[Example]:
    """So many examples, spread evenly over the sets that were not trained."""
    examples = [example for name in HELD_OUT for example in sets[name]]
    return examples[:: max(1, len(examples) // number)][:number]


def table(results: dict[str, Any]) -> str:
    """One line per set: questions, then the share answered rightly in each precision (English, Chinese)."""
    lines = [f"{'':12} {'questions':>9}" + "".join(f" {precision:>22}" for precision in results)]
    for name, first in next(iter(results.values())).items():
        cells = (result[name] for result in results.values())
        shares = "".join(f" {c['share']:>8.1%} ({c['en']:.1%}, {c['zh']:.1%})".rjust(23) for c in cells)
        lines.append(f"{name:12} {first['of']:>9}{shares}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=demo.folder())
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--show", type=int, default=0, help="wrong answers to print per set")
    parser.add_argument("--threads", type=int, default=1, help="matrices this small gain nothing from more")
    parser.add_argument("--weights", choices=WEIGHTS, action="append", help="only these (repeatable)")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="[default: exact] (repeatable)")
    parser.add_argument("--cache", choices=CACHES, help="of keys and values")
    parser.add_argument("--perplexity", type=int, metavar="N", help="of N held-out questions, instead of answering")
    options = parser.parse_args()
    corpus = Corpus()
    sets, judge = evaluation_sets(corpus), Judge(corpus.answers)
    results: dict[str, Any] = {}
    for weights in options.weights or WEIGHTS:
        for precision in options.precision or ["exact"]:
            started, name = time.monotonic(), f"{weights} {precision}"
            engine = glmcore.load(
                options.model, quantize=WEIGHTS[weights], precision=precision, cache=options.cache,
                threads=options.threads,
            )  # fmt: skip
            if options.perplexity:
                results[name] = perplexities(engine, held_out(sets, options.perplexity))
                print(
                    f"{name:11} " + ", ".join(f"{way} {found:.5f}" for way, found in results[name].items()), flush=True
                )
            else:
                results[name] = evaluate(engine, sets, judge, options.show)
            print(f"{name}: {engine.backend}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if not options.perplexity:
        print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
