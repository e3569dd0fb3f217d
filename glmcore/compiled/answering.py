"""Questions through an engine: prompts in rounds, then token by token, in groups of as many rows as its graphs take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from glmcore.compiled.opened import Opened
from glmcore.compiled.throughput import Throughput
from glmcore.engine.sampling import Sampler, Sampling
from glmcore.engine.sequence import Sequence as Answer
from glmcore.errors import GlmError

Prompt = Sequence[int]


@dataclass(frozen=True)
class Request:
    """How to answer. ``length`` is the prefill's, None the shortest that takes the longest prompt in one round.

    ``constant``: an end token does not end an answer, which goes on to ``max_new_tokens``.
    """

    rows: int
    sampling: Sampling
    max_new_tokens: int
    stop_ids: frozenset[int]
    length: int | None = None
    constant: bool = False


@dataclass
class Timing:
    """What the calls took, in seconds and in rows that were read."""

    base_s: float = 0.0
    incremental_s: float = 0.0
    rounds: int = 0


@dataclass
class Answers:
    """Of each prompt what became of it."""

    base_length: int
    rows: list[Answer] = field(default_factory=list)
    timing: Timing = field(default_factory=Timing)

    @property
    def throughput(self) -> Throughput:
        ended = sum(row.finish_reason == "stop" for row in self.rows)  # their end tokens are not in the output
        return Throughput(
            rows=len(self.rows),
            rounds=self.timing.rounds,
            prompt_tokens=sum(len(row.prompt) for row in self.rows),
            tokens=ended + sum(len(row.output) for row in self.rows),
            base_s=self.timing.base_s,
            incremental_s=self.timing.incremental_s,
        )


def answer(
    engine: Opened,
    prompts: Sequence[Prompt],
    request: Request,
    *,
    begin_group: Callable[[int], None] = lambda group: None,
    progress: Callable[[int], None] = lambda tokens: None,
) -> Answers:
    """Answer all ``prompts``, ``request.rows`` at a time. ``progress`` is told the tokens so far.

    Errors: GlmError("context-full") before anything is computed, GlmError("not-finite").
    """
    stop_ids = frozenset() if request.constant else request.stop_ids
    left = [room(len(ids), engine.manifest.total_len) for ids in prompts]
    made = [
        Answer(tuple(ids), min(request.max_new_tokens, most), stop_ids) for ids, most in zip(prompts, left, strict=True)
    ]
    length = request.length or engine.length_for(max(map(len, prompts)))
    found, caches = Answers(length), engine.caches(request.rows)
    for number, group in enumerate(_groups(made, request.rows)):
        begin_group(number)
        _answer_group(engine, caches, group, request.sampling, found, progress)
    return found


def room(prompt_tokens: int, total: int) -> int:
    """Tokens that an answer may have. Errors: GlmError("context-full") where none is left."""
    if prompt_tokens >= total:
        raise GlmError(
            "context-full", f"the prompt has {prompt_tokens} tokens, the engine's total length is {total}",
            hint="shorten it, or compile with a larger --total-len",
        )  # fmt: skip
    return total - prompt_tokens


def _groups(rows: Sequence[Answer], size: int) -> Iterable[Sequence[Answer]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _answer_group(engine, caches, group, sampling, found: Answers, progress) -> None:
    """Rows side by side until the last of them has ended."""
    samplers = [Sampler(sampling, row.prompt) for row in group]
    found.rows += group
    started = time.perf_counter()
    prompts = [row.prompt for row in group]
    logits = engine.prefill(prompts, caches, found.base_length)
    fed = _next(group, samplers, logits)
    first_known = time.perf_counter()
    found.timing.base_s += first_known - started
    found.timing.rounds += len(group) * engine.rounds(prompts, found.base_length)
    free = [None] * (caches.rows - len(group))
    while any(token is not None for token in fed):
        fed = _next(group, samplers, engine.decode([*fed, *free], caches))
        progress(sum(len(row.output) for row in found.rows))
    found.timing.incremental_s += time.perf_counter() - first_known


def _next(group: Sequence[Answer], samplers: Sequence[Sampler], logits) -> list[int | None]:
    """Draw a token for each row that goes on; what is to be fed next, None for a row that has ended."""
    fed: list[int | None] = []
    for row, sampler, after in zip(group, samplers, logits, strict=False):
        token = sampler(after) if row.finish_reason is None else None
        goes_on = token is not None and row.push(token) and row.finish_reason is None
        fed.append(token if goes_on else None)
    return fed
