"""Choosing the next token from the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glmcore.engine.penalties import Penalties
from glmcore.errors import GlmError
from glmcore.grammar.matcher import Matcher

# Nearly always the nucleus lies within so many candidates; where it does not, all are sorted.
CANDIDATES = 256
# Seeds lie from -SEEDS up to below SEEDS; after the largest comes the smallest.
SEEDS = 2**63


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0 is greedy; ``top_p`` keeps the smallest set of tokens with that probability, ``top_k`` so many
    (0: all), ``min_p`` those with that share of the likeliest one's. ``logit_bias``: token ids and what is added to
    their logits. The penalties are explained in ``penalties``.
    """

    temperature: float = 0.8
    top_p: float = 0.8
    seed: int | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise GlmError(
                "usage", f"a temperature of {self.temperature} makes no sense", where="temperature",
                hint="0 is greedy, 1 as trained",
            )  # fmt: skip
        if not 0 < self.top_p <= 1:
            raise GlmError("usage", f"top-p is a probability above 0 and up to 1, not {self.top_p}", where="top_p")
        if self.seed is not None and not -SEEDS <= self.seed < SEEDS:  # what torch.Generator takes
            raise GlmError("usage", f"a seed has 64 bits, unlike {self.seed}", where="seed")
        if self.top_k < 0:
            raise GlmError("usage", f"top-k is a number of tokens, not {self.top_k}", where="top_k", hint="0 keeps all")
        if not 0 <= self.min_p <= 1:
            raise GlmError("usage", f"min-p is a share from 0 to 1, not {self.min_p}", where="min_p")
        if not 0.01 <= self.repetition_penalty <= 100:
            what = f"a repetition penalty lies between 0.01 and 100, not {self.repetition_penalty}"
            raise GlmError("usage", what, where="repetition_penalty")
        for name in ("presence_penalty", "frequency_penalty"):
            if not -2 <= getattr(self, name) <= 2:
                what = f"presence and frequency penalties lie between -2 and 2, not {getattr(self, name)}"
                raise GlmError("usage", what, where=name)
        if not all(-100 <= bias <= 100 for _, bias in self.logit_bias):
            raise GlmError("usage", "a logit bias lies between -100 and 100", where="logit_bias")

    def of_choice(self, number: int) -> Sampling:
        """Of the choice of that number, counted from 0, of several answers to one request: its seed is by so much
        larger, so that each choice is what its seed alone gives."""
        if self.seed is None or not number:
            return self
        return replace(self, seed=(self.seed + number + SEEDS) % (2 * SEEDS) - SEEDS)

    @property
    def changes_logits(self) -> bool:
        """Whether anything is added to logits or taken from them before a token is chosen."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return bool(self.logit_bias) or penalties != (1, 0, 0)


class Sampler:
    """Draws an answer's tokens, one after the other, where the logits are; with its own generator, so that a seed gives
    the same answer again. grammar: what the answer may be.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = (), grammar: Matcher | None = None) -> None:
        self.sampling, self.grammar = sampling, grammar
        self._penalties = Penalties(sampling, prompt) if sampling.changes_logits else None
        self._generator: torch.Generator | None = None

    def generator(self, device: torch.device) -> torch.Generator:
        """The generator, made at the first token, when it is known where the logits are."""
        if self._generator is None:
            self._generator = torch.Generator(device)
            if self.sampling.seed is not None:
                self._generator.manual_seed(self.sampling.seed)
            else:
                self._generator.seed()
        return self._generator

    def __call__(self, logits: torch.Tensor) -> int:
        """The next token's id from logits [V]. Errors: GlmError("not-finite") where the model gave NaN or infinity."""
        logits = self._penalties.applied(logits) if self._penalties else logits.float()
        token = self._drawn(only(self.grammar.allowed(), logits) if self.grammar else logits)
        if self._penalties:
            self._penalties.note(token)
        if self.grammar:
            self.grammar.note(token)
        return token

    def forced(self) -> list[int]:
        """The tokens that it must say next, whatever the logits."""
        return self.grammar.forced() if self.grammar else []

    def _drawn(self, logits: torch.Tensor) -> int:
        best = int(logits.argmax())
        if not torch.isfinite(logits[best]):  # argmax finds NaN and +inf first
            raise GlmError(
                "not-finite",
                "the model produced NaN or infinite logits",
                hint="try another --dtype, or examine the checkpoint",
            )
        if self.sampling.temperature == 0:
            return best
        ids, probabilities = self.nucleus(logits / self.sampling.temperature)
        return int(ids[torch.multinomial(probabilities, 1, generator=self.generator(logits.device))])

    def nucleus(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The ids [n] that top_k, top_p and min_p keep, and their probabilities [n], of logits [V].

        Both are sorted, the likeliest first; the probabilities are those within the top_k, or all of V.
        """
        most = min(self.sampling.top_k or logits.numel(), logits.numel())
        total = torch.logsumexp(logits.topk(most).values if self.sampling.top_k else logits, dim=-1)
        for count in (min(CANDIDATES, most), most):
            values, ids = logits.topk(count)
            probabilities = (values - total).exp()
            before = probabilities.cumsum(-1) - probabilities
            keep = (before < self.sampling.top_p) & (probabilities >= self.sampling.min_p * probabilities[0])
            if not keep[-1]:
                break
        return ids[keep], probabilities[keep]


def only(allowed: bytearray, logits: Tensor) -> Tensor:
    """Logits [V], those of tokens whose byte in ``allowed`` [V] is 0 made minus infinity."""
    mask = torch.frombuffer(allowed, dtype=torch.uint8).to(logits.device)
    return logits.masked_fill(mask == 0, -torch.inf)
