"""A published model's shapes with random weights: throughput, stalls, first tokens, lookup.

Answers that copy are dictated, since random weights copy nothing: the model computes every step, and the sampler,
having looked at its logits, says the token that the task says.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from batching.tasks import COPIES, TALKS
from glmcore import demo
from glmcore.bench.workloads import prompt_ids, random_model
from glmcore.config import find_config
from glmcore.engine.batch.answer import Answer
from glmcore.engine.batch.loop import Loop
from glmcore.engine.batch.scheduler import Scheduler
from glmcore.engine.runner import Runner
from glmcore.engine.sampling import Sampler, Sampling
from glmcore.engine.sequence import Sequence as Tokens
from glmcore.engine.text import AnswerText
from glmcore.kernels.load import load_kernel
from glmcore.place.loader import target_config
from glmcore.tokenizers import load_tokenizer

CLIENTS = (1, 4, 8)


class Dictated(Sampler):
    """Says the given tokens, having drawn one from the logits as ever."""

    def __init__(self, tokens: Iterable[int]) -> None:
        super().__init__(Sampling(0, 1))
        self.tokens = iter(tokens)

    def __call__(self, logits: torch.Tensor) -> int:
        super().__call__(logits)
        return next(self.tokens, 5)


class Bench:
    """A model with random weights, and answers of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        kernel = load_kernel(threads=options.threads, precision=options.precision)
        config = target_config(find_config(options.model), options.quant)
        config = replace(config, num_layers=options.layers or config.num_layers)
        self.config, self.name = config, f"{options.model} {options.quant} {options.precision}, {kernel.name}"
        self.precision, self.rounds, self.longest = options.precision, options.rounds, options.longest
        self.runner = Runner(random_model(config, torch.float32, kernel=kernel), config)
        self.words = load_tokenizer(demo.folder(), "v2")
        self.last = Loop(self.runner, Scheduler(16), lookup=True)
        self.last.measure()
        self.costs = self.last.step_costs

    def loop(self, *, lookup: bool = False) -> Loop:
        """One that remembers nothing of those before."""
        self.last.forget()
        self.last = Loop(self.runner, Scheduler(16), step_costs=self.costs if lookup else None)
        return self.last

    def answer(self, loop: Loop, prompt: Sequence[int], tokens: int, sampler: Sampler | None = None) -> Answer:
        if not self.config.traits.causal and self.config.bos_token_id not in prompt:
            prompt = [*prompt, self.config.gmask_token_id, self.config.bos_token_id]
        sequence = Tokens(tuple(prompt), tokens, frozenset())
        answer = Answer(sequence, sampler or Sampler(Sampling(0, 1)), AnswerText(self.words))
        loop.submit(answer)
        return answer

    def say(self, part: str, **figures: Any) -> None:
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}
        print(json.dumps({"part": part, "on": self.name, "precision": self.precision, **rounded}), flush=True)


def times_of(answer: Answer) -> list[float]:
    """When each token came; the words of the dictated answers need not be the model's."""
    found = []
    for piece in answer:
        if piece.token is not None:
            found.append(time.perf_counter())
    return found


def throughput(bench: Bench, tokens: int = 48) -> None:
    """All tokens after the first ones per second, of several clients at once and of one."""
    alone = 0.0
    for clients in CLIENTS:
        loop = bench.loop()
        prompts = [prompt_ids(bench.config, 32, seed=number) for number in range(clients)]
        answers = [bench.answer(loop, prompt, tokens) for prompt in prompts]
        with ThreadPoolExecutor(clients) as pool:
            times = list(pool.map(times_of, answers))
        begin = max(each[0] for each in times)  # all of them are being answered from here on
        end = min(each[-1] for each in times)
        count = sum(begin < moment <= end for each in times for moment in each)
        rate = count / (end - begin)
        alone = alone or rate
        bench.say("throughput", clients=clients, tokens_per_s=rate, times=rate / alone)


def stall(bench: Bench, length: int = 2000) -> None:
    """The longest gap between two tokens of an answer while a long prompt is read."""
    loop = bench.loop()
    talking = bench.answer(loop, prompt_ids(bench.config, 32), 100_000)
    moments: list[float] = []
    listener = threading.Thread(target=lambda: moments.extend(times_of(talking)))
    listener.start()
    time.sleep(3)
    begun = time.perf_counter()
    long = bench.answer(loop, prompt_ids(bench.config, length, seed=5), 2)
    times_of(long)
    ended = time.perf_counter()
    talking.cancel()
    listener.join()
    during = [after - before for before, after in pairwise(moments) if after > begun and before < ended]
    bench.say(
        "stall", prompt=length, longest_gap_s=max(during), median_gap_s=statistics.median(during),
        prompt_tokens_per_s=length / (ended - begun), tokens=len(during),
    )  # fmt: skip


def first(bench: Bench, rounds: int = 7) -> None:
    """Seconds until the first token of a 32-token prompt, alone and beside a running answer, in steps of that."""
    loop = bench.loop()
    alone = [waited(bench, loop, seed) for seed in range(rounds)]
    talking = bench.answer(loop, prompt_ids(bench.config, 32, seed=99), 100_000)
    listener = threading.Thread(target=lambda: times_of(talking))
    listener.start()
    time.sleep(3)
    beside = []
    for seed in range(rounds):
        time.sleep(0.37)
        beside.append(waited(bench, loop, 100 + seed))
    step = loop.costs.step(1)
    talking.cancel()
    listener.join()
    steps = (statistics.median(beside) - statistics.median(alone)) / step
    bench.say("first", alone_s=statistics.median(alone), beside_s=statistics.median(beside), step_s=step, steps=steps)


def waited(bench: Bench, loop: Loop, seed: int) -> float:
    begun = time.perf_counter()
    answer = bench.answer(loop, prompt_ids(bench.config, 32, seed=seed), 1)
    return times_of(answer)[0] - begun


def lookup(bench: Bench) -> None:
    """Tasks with drafts and without, in turns: how many times as fast they are answered."""
    for kind, tasks in (("copy", COPIES), ("talk", TALKS)):
        gains = []
        for name, (question, said) in tasks.items():
            prompt, tokens = bench.words.encode(question), bench.words.encode(said)[: bench.longest]
            seconds: dict[bool, list[float]] = {True: [], False: []}
            drafts = {}
            for number in range(bench.rounds):
                for drafting in (number % 2 == 0, number % 2 == 1):  # neither is always the first
                    loop = bench.loop(lookup=drafting)
                    answer = bench.answer(loop, prompt, len(tokens), Dictated(tokens))
                    moments = times_of(answer)
                    seconds[drafting].append(moments[-1] - moments[0])
                    drafts[drafting] = answer.stats
            gains.append(statistics.median(seconds[False]) / statistics.median(seconds[True]))
            bench.say("lookup", kind=kind, task=name, tokens=len(tokens), times=gains[-1],
                      accepted=drafts[True].accepted_drafts, rejected=drafts[True].rejected_drafts)  # fmt: skip
        bench.say("lookup", kind=kind, times_of_all=statistics.geometric_mean(gains))


PARTS = {"throughput": throughput, "stall": stall, "first": first, "lookup": lookup}


def measure(options: argparse.Namespace) -> None:
    """The parts that were asked for; each figure is printed as a line of JSON."""
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    bench.say("steps", **{str(rows): bench.costs(rows) / bench.costs(1) for rows in (2, 4, 8, 16)},
              step_s=bench.costs(1))  # fmt: skip
    for part in options.only:
        PARTS[part](bench)
