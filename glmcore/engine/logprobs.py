"""What the model thought of a token: the logarithm of its probability, before any setting of a request changes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from glmcore.errors import GlmError

# The most that a request may have of the likeliest tokens at each place.
MOST = 20


@dataclass(frozen=True)
class Logprob:
    """A token's natural logarithm of its probability; ``top``: the likeliest ids at its place and theirs, the likeliest
    first."""

    token: int
    value: float
    top: tuple[tuple[int, float], ...] = ()


def logprob_of(logits: Tensor, token: int, top: int = 0) -> Logprob:
    """Of ``token`` by logits [V], log_softmax in float32 with the sum in float64, with ``top`` of the likeliest tokens.

    numpy's sum, unlike torch's, is the same to the bit for any number of threads. Errors: GlmError("not-finite").
    """
    logits = logits.float().cpu()
    values = logits.numpy()
    largest = values.max()
    if not np.isfinite(largest):  # the largest of numbers and NaN is NaN
        raise GlmError("not-finite", "the model produced NaN or infinite logits", hint="try another --dtype")
    total = float(largest) + math.log(float(np.exp(values - largest).sum(dtype=np.float64)))
    likeliest = logits.topk(min(top, logits.numel())).indices.tolist()
    ranked = sorted((total - float(values[each]), each) for each in likeliest)
    return Logprob(token, float(values[token]) - total, tuple((each, -behind) for behind, each in ranked))


def mean(logprobs: list[Logprob]) -> float:
    """Of an answer's tokens, its stop token too: what the best of several has most of. 0 of none."""
    return sum(each.value for each in logprobs) / max(1, len(logprobs))
