"""Choosing the next token from the logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from glmcore.errors import GlmError

# Nearly always the nucleus lies within so many candidates; where it does not, all are sorted.
CANDIDATES = 256


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0 is greedy; ``top_p`` keeps the smallest set of tokens with that probability."""

    temperature: float = 0.8
    top_p: float = 0.8
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise GlmError(
                "usage", f"a temperature of {self.temperature} makes no sense", hint="0 is greedy, 1 as trained"
            )
        if not 0 < self.top_p <= 1:
            raise GlmError("usage", f"top-p is a probability above 0 and up to 1, not {self.top_p}")


class Sampler:
    """Draws tokens where the logits are, with its own generator, so that a seed gives the same answer again."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
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
        """One token id from logits [V]. Errors: GlmError("not-finite") where the model gave NaN or infinity."""
        logits = logits.float()
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
        """The ids [n] of the smallest set whose probability reaches top_p, and their probabilities [n], of logits [V].

        Both are sorted, the likeliest first; the probabilities are those within all of V.
        """
        total = torch.logsumexp(logits, dim=-1)
        for count in (CANDIDATES, logits.numel()):
            values, ids = logits.topk(min(count, logits.numel()))
            probabilities = (values - total).exp()
            before = probabilities.cumsum(-1) - probabilities
            keep = before < self.sampling.top_p
            if not keep[-1]:
                break
        return ids[keep], probabilities[keep]
