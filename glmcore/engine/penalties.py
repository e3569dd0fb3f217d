"""Logits as a request wants them changed before a token is chosen: a bias, and penalties for what was said already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from glmcore.engine.sampling import Sampling


class Penalties:
    """For one answer; ``note`` each of its tokens.

    As vLLM and OpenAI define them: presence and frequency count the answer's own tokens, repetition (Keskar et al.
    2019, CTRL, section 4.1) looks at the prompt's too.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self.sampling, self.seen, self.said = sampling, set(prompt), Counter[int]()

    def note(self, token: int) -> None:
        self.said[token] += 1

    def applied(self, logits: Tensor) -> Tensor:
        """New logits [V] in float32 from logits [V]."""
        logits = logits.float().clone()
        asked = self.sampling
        if asked.logit_bias:
            ids, biases = zip(*asked.logit_bias, strict=True)
            logits[list(ids)] += torch.tensor(biases, device=logits.device)
        if asked.repetition_penalty != 1:
            ids = torch.tensor(sorted(self.seen | self.said.keys()), dtype=torch.long, device=logits.device)
            values = logits[ids]
            logits[ids] = torch.where(values > 0, values / asked.repetition_penalty, values * asked.repetition_penalty)
        if self.said:
            ids = torch.tensor(list(self.said), device=logits.device)
            counts = torch.tensor(list(self.said.values()), dtype=torch.float32, device=logits.device)
            logits[ids] -= asked.presence_penalty + asked.frequency_penalty * counts
        return logits
