"""What many answers at once cost and give: throughput, stalls, first tokens, lookup, and a soak of a real server.

python scripts/bench_batching.py model [--model chatglm2-6b] [--quant int4] [--precision fast] [--threads N]
                                       [--layers N] [--only PART ...]
python scripts/bench_batching.py soak [--requests 5000] [--clients 24]

``model`` takes a published configuration with random weights. Answers that copy are dictated, since random weights copy
nothing: the model computes every step, and the sampler, having looked at its logits, says the token that the task says.
Every figure is printed as a line of JSON. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
import torch

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

PARTS = ("throughput", "stall", "first", "lookup")
NOTES = (
    "The driver was upgraded by half: files of two versions lie side by side, and the links lead to the one that the "
    "kernel does not run. Programs then say that the version of the library and of the module differ. The repair "
    "points the links to the files of the running module, and the other version's packages are removed afterwards. "
)
CODE = (
    "def tokens_beside(self, rows, seconds):\n    if self.token is None:\n        return LEAST\n"
    "    left = seconds - self.step(rows)\n    return max(LEAST, min(MOST, int(left / self.token)))\n"
)
# Question and answer: edits, extracts and quotes, and talk that copies nothing.
COPIES = {
    "edit": (CODE + "Rename rows to count.", CODE.replace("rows", "count")),
    "edit text": (NOTES + "Replace links by symbolic links.", NOTES.replace("links", "symbolic links")),
    "extract": (NOTES * 2 + "Which sentence is about the repair?", NOTES[NOTES.index("The repair") :]),
    "quote": ("Quote this: " + NOTES, "> " + NOTES),
}
TALKS = {
    "advice": (
        "How should I spend a rainy Sunday?",
        "Make some tea, put on music you have not heard for years and cook a soup that takes hours. When evening "
        "comes, write a letter to a friend who moved away; paper is slower than a screen, and that is the point of it.",
    ),
    "story": (
        "Tell me about a lighthouse.",
        "Nobody remembered who had lit the lamp first. Each keeper found it burning, trimmed the wick and went down to "
        "sleep, sure that another watched. One winter a child climbed up, counted the steps and saw an empty chair.",
    ),
}


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
        if not self.config.traits.causal:
            prompt = [*prompt, self.config.gmask_token_id, self.config.bos_token_id]
        sequence = Tokens(tuple(prompt), tokens, frozenset())
        answer = Answer(sequence, sampler or Sampler(Sampling(0, 1)), AnswerText(self.words))
        loop.submit(answer)
        return answer

    def say(self, part: str, **figures: Any) -> None:
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}
        print(json.dumps({"part": part, "on": self.name, **rounded}), flush=True)


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
    for clients in (1, 2, 4, 8, 16):
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
    long = bench.answer(loop, prompt_ids(bench.config, length - 2, seed=5), 2)
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
            prompt, tokens = bench.words.encode(question), bench.words.encode(said)
            seconds: dict[bool, list[float]] = {True: [], False: []}
            drafts = {}
            for _ in range(3):
                for drafting in (True, False):
                    loop = bench.loop(lookup=drafting)
                    answer = bench.answer(loop, prompt, len(tokens), Dictated(tokens))
                    moments = times_of(answer)
                    seconds[drafting].append(moments[-1] - moments[0])
                    drafts[drafting] = answer.stats
            gains.append(statistics.median(seconds[False]) / statistics.median(seconds[True]))
            bench.say("lookup", kind=kind, task=name, tokens=len(tokens), times=gains[-1],
                      accepted=drafts[True].accepted_drafts, rejected=drafts[True].rejected_drafts)  # fmt: skip
        bench.say("lookup", kind=kind, times=statistics.geometric_mean(gains))


@contextmanager
def serving() -> Iterable[tuple[int, psutil.Process]]:
    """``glmcore serve`` with the demo model; its port and process."""
    command = [sys.executable, "-m", "glmcore", "serve", "--port", "0", "--quant", "int8", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            port = int(process.stdout.readline().partition(";")[0].rpartition(":")[2])
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()


def soak(requests: int, clients: int) -> None:
    """Requests of which many are left, killed or read slowly: no wrong answer, no row that stays, no memory either."""
    bodies = [
        {"messages": [{"role": "user", "content": text * times}], "temperature": 0.7, "seed": seed, "max_tokens": 40}
        for seed, text in enumerate(["hello ", "what is libcuda? ", "我没有gcc怎么办 ", "显存不够 ", "gcc "])
        for times in (1, 3, 20)
    ]
    chance = random.Random(3)
    with serving() as (port, process):
        expected = [asked(port, body) for body in bodies]
        warm: list[int] = []
        wrong = 0

        def client(number: int) -> bool:
            which, dice = number % len(bodies), random.Random(number)
            fate = dice.random()
            if number == requests // 2:
                warm.append(process.memory_info().rss)
            if fate < 0.5:
                return asked(port, bodies[which]) == expected[which]
            return left(port, {**bodies[which], "stream": fate < 0.9}, fate, dice)

        numbers = list(range(requests))
        chance.shuffle(numbers)
        with ThreadPoolExecutor(clients) as pool:
            wrong = sum(not right for right in pool.map(client, numbers))
        end = time.monotonic() + 30
        while (stats := get(port, "/stats"))["queue"]["running"] and time.monotonic() < end:
            time.sleep(0.1)
        rss = process.memory_info().rss
        print(json.dumps({
            "part": "soak", "requests": requests, "wrong": wrong, "running": stats["queue"]["running"],
            "waiting": stats["queue"]["waiting"], "answers": stats["answers"], "refused": stats["queue"]["refused"],
            "rss_at_half_mib": warm[0] >> 20, "rss_at_end_mib": rss >> 20, "growth": round(rss / warm[0] - 1, 4),
        }))  # fmt: skip


def connected(port: int, body: dict[str, Any]) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection


def asked(port: int, body: dict[str, Any]) -> str:
    connection = connected(port, body)
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return reply["choices"][0]["message"]["content"]


def left(port: int, body: dict[str, Any], fate: float, dice: random.Random) -> bool:
    """A client that goes: at once, in the middle, or having read slowly for a while."""
    connection = connected(port, body)
    if fate > 0.6:
        response = connection.getresponse()
        for _ in range(dice.randrange(8)):
            response.read(30)
            if fate > 0.8:
                time.sleep(dice.random() / 20)
    if dice.random() < 0.5:  # as a process that is killed: what it had not read is refused
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    return True


def get(port: int, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return reply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    model = commands.add_parser("model")
    model.add_argument("--model", default="chatglm2-6b")
    model.add_argument("--quant", default="int4")
    model.add_argument("--precision", default="fast")
    model.add_argument("--threads", type=int)
    model.add_argument("--layers", type=int, help="fewer than the model has, to try the script")
    model.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    soaking = commands.add_parser("soak")
    soaking.add_argument("--requests", type=int, default=5000)
    soaking.add_argument("--clients", type=int, default=24)
    options = parser.parse_args()
    if options.command == "soak":
        return soak(options.requests, options.clients)
    torch.set_num_threads(options.threads or 2)
    bench = Bench(options)
    bench.say("steps", **{str(rows): bench.costs(rows) / bench.costs(1) for rows in (2, 4, 8, 16)},
              step_s=bench.costs(1))  # fmt: skip
    for part in options.only:
        {"throughput": throughput, "stall": stall, "first": first, "lookup": lookup}[part](bench)
    return None


if __name__ == "__main__":
    main()
