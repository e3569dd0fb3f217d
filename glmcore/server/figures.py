"""What the server has done so far, for people (/stats) and for Prometheus (/metrics)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from glmcore.engine.batch.answer import Ending
from glmcore.engine.engine import Engine
from glmcore.engine.stats import Stats
from glmcore.server.line import Line

DEFINITIONS = {
    "prefill_tokens_per_s": "prompt tokens that were not in the cache, per second until the first token is known",
    "decode_tokens_per_s": "tokens after the first one, which belongs to the prefill, per second: one a forward pass, "
    "and those that were drafted rightly",
    "time_to_first_token_s": "seconds from the begin of the prefill until the first token is known, without the wait "
    "in the queue",
    "reused_tokens": "prompt tokens whose keys and values were in the cache already",
    "accepted_drafts": "tokens that were guessed from the text itself, or that a schema left no choice about, and that "
    "the model would have chosen; the others are rejected_drafts",
    "prefix_cache": "beginnings of earlier prompts that have no row of the cache any more; found_tokens were not read "
    "again",
    "generated_tokens": "tokens of answers, without the token that ends one",
    "totals": "over all answers since the start; speeds are sums of tokens over sums of seconds",
}
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Figures:
    """The sums over all answers, and how they spread."""

    def __init__(self) -> None:
        self.total = Stats()
        self.last: Stats | None = None
        self.endings: Counter[str] = Counter()
        self.registry = CollectorRegistry()
        self.first_token = self._histogram("glmcore_time_to_first_token_seconds", "From the begin of the prefill")
        self.waited = self._histogram("glmcore_queue_wait_seconds", "Time that answers waited in the queue")

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(name, meaning, buckets=SECONDS, registry=self.registry)

    def ended(self, ending: Ending) -> None:
        """Take an answer in."""
        stats, total = ending.stats, self.total
        self.endings[ending.finish_reason] += 1
        total.prompt_tokens += stats.prompt_tokens
        total.reused_tokens += stats.reused_tokens
        total.generated_tokens += stats.generated_tokens
        total.decode_steps += stats.decode_steps
        total.accepted_drafts += stats.accepted_drafts
        total.rejected_drafts += stats.rejected_drafts
        total.prefill_s += stats.prefill_s
        total.decode_s += stats.decode_s
        self.last = stats
        self.first_token.observe(stats.time_to_first_token_s)
        self.waited.observe(ending.waited_s)


class LiveMetrics:
    """The sums and the line as Prometheus metrics, read at the moment they are asked for."""

    def __init__(self, figures: Figures, line: Line) -> None:
        self.figures, self.line = figures, line

    def collect(self) -> Iterator[Metric]:
        answers = CounterMetricFamily("glmcore_answers", "Answers by how they ended", labels=["ending"])
        for ending, count in sorted(self.figures.endings.items()):
            answers.add_metric([ending], count)
        yield answers
        total = self.figures.total
        for name, meaning, value in (
            ("requests", "Answers that were asked for, those refused too", self.line.asked),
            ("prompt_tokens", "Tokens of all prompts", total.prompt_tokens),
            ("reused_tokens", DEFINITIONS["reused_tokens"], total.reused_tokens),
            ("generated_tokens", DEFINITIONS["generated_tokens"], total.generated_tokens),
            ("decode_steps", "Forward passes of one token each", total.decode_steps),
            ("accepted_drafts", DEFINITIONS["accepted_drafts"], total.accepted_drafts),
            ("rejected_drafts", "Tokens that were guessed wrongly", total.rejected_drafts),
            ("prefill_seconds", "Seconds until first tokens were known", total.prefill_s),
            ("decode_seconds", "Seconds of all tokens after the first ones", total.decode_s),
            ("refused", "Requests that found the queue full", self.line.refused),
        ):
            yield CounterMetricFamily(f"glmcore_{name}", meaning, value=value)
        yield GaugeMetricFamily("glmcore_running", "Answers that are being made", value=self.line.running)
        yield GaugeMetricFamily("glmcore_waiting", "Answers that wait", value=self.line.waiting)
        if self.line.engine.cluster is not None:
            yield from self.line.engine.cluster.metrics()


def stats_report(engine: Engine, figures: Figures, line: Line) -> dict[str, Any]:
    """What /stats says: what is loaded and how it runs, who waits, and the figures with their definitions."""
    config = engine.config
    cluster = {} if engine.cluster is None else {"cluster": engine.cluster.report()}
    return {
        **cluster,
        "model": {
            "name": config.name,
            "generation": config.generation,
            "layers": config.num_layers,
            "max_length": config.max_length,
            "context": engine.context,
            "quantization_bit": config.quantization_bit,
        },
        "backend": engine.backend,
        "placement": engine.placement(),
        "plan": engine.plan.to_json() if engine.plan else None,
        "queue": {
            "running": line.running,
            "parallel": engine.parallel,
            "waiting": line.waiting,
            "limit": line.limit,
            "refused": line.refused,
        },
        "answers": dict(figures.endings),
        "prefix_cache": engine.prefix_cache(),
        "totals": without(figures.total, "backend", "time_to_first_token_s"),
        "last": without(figures.last, "backend") if figures.last else None,
        "definitions": DEFINITIONS,
    }


def without(stats: Stats, *names: str) -> dict[str, Any]:
    """The figures that make sense there."""
    return {name: value for name, value in stats.to_json().items() if name not in names}
