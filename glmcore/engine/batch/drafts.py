"""Several tokens of an answer in one step: which may come next, for whom it pays to try, which of them were right."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from glmcore.config import ModelConfig
from glmcore.engine.batch.answer import Answer
from glmcore.engine.batch.lookup import FIRST, MOST, Lookup, StepCosts, worth
from glmcore.engine.ways.way import Way


def drafts(answers: Sequence[Answer], way: Way, costs: StepCosts) -> dict[Answer, list[int]]:
    """What may come next, of those of whom it pays to guess."""
    found: dict[Answer, list[int]] = {}
    rows = len(answers)
    for answer in answers:
        if answer.lookup is None:
            answer.lookup = Lookup(answer.sequence.prompt + tuple(answer.sequence.output))
        left = answer.sequence.max_new_tokens - len(answer.sequence.output) - 1
        most = min(MOST, left, way.together - rows)
        if most < 1 or answer.lookup.pause or not (guess := answer.lookup.draft(most)):
            continue
        count = worth(costs, rows, len(answers), answer.lookup.chance, len(guess))
        if count == 0 and answer.lookup.chance < FIRST:
            answer.lookup.give_up()
        if guess := without_marks(guess[:count], way.config):
            found[answer] = guess
            rows += len(guess)
    return found


def without_marks(tokens: list[int], config: ModelConfig) -> list[int]:
    """Up to a token that would move ChatGLM-6B's positions."""
    marks = () if config.traits.causal else (config.gmask_token_id, config.mask_token_id, config.bos_token_id)
    return tokens[: next((place for place, token in enumerate(tokens) if token in marks), len(tokens))]


def drawn(answer: Answer, logits: Tensor, draft: Sequence[int]) -> list[int]:
    """As many tokens as the draft was right, and one more, by logits [1 + drafted, V]."""
    tokens = [answer.draw(logits[0])]
    for guess, own in zip(draft, logits[1:], strict=True):
        if tokens[-1] != guess or guess in answer.sequence.stop_ids:
            break
        tokens.append(answer.draw(own))
    if answer.lookup is not None:
        if draft:
            right = len(tokens) - 1
            answer.lookup.note(right, len(draft))
            answer.stats.accepted_drafts += right
            answer.stats.rejected_drafts += len(draft) - right
        for token in tokens:
            answer.lookup.push(token)
    return tokens
