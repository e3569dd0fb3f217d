"""Several tokens of an answer in one step: which may come next, for whom it pays to try, which of them were right."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from glmcore.config import ModelConfig
from glmcore.engine.batch.answer import Answer
from glmcore.engine.batch.lookup import Lookup
from glmcore.engine.batch.worth import StepCosts, worth
from glmcore.engine.ways.way import Way


def drafts(answers: Sequence[Answer], way: Way, costs: StepCosts) -> dict[Answer, list[int]]:
    """What may come next, of those of whom it pays to try."""
    room = way.together - len(answers)
    if room < 1:
        return {}
    guesses = [guess(answer, room, way.config) for answer in answers]
    counts = worth(costs, [chances for _, chances in guesses], room)
    tried = zip(answers, guesses, counts, strict=True)
    return {answer: tokens[:count] for answer, (tokens, _), count in tried if count}


def guess(answer: Answer, most: int, config: ModelConfig) -> tuple[list[int], list[float]]:
    """Up to ``most`` tokens, and of each how likely it is right if those before it are: what must come by the answer's
    grammar, or else what came after such words before."""
    if answer.lookup is None:
        answer.lookup = Lookup(answer.sequence.prompt + tuple(answer.sequence.output))
    most = min(most, answer.sequence.max_new_tokens - len(answer.sequence.output) - 1)
    tokens = answer.sampler.forced()[:most]
    chances = [1.0] * len(tokens)
    if not tokens:
        tokens, chances = answer.lookup.guess(most)
    tokens = without_marks(tokens, config)
    return tokens, chances[: len(tokens)]


def without_marks(tokens: list[int], config: ModelConfig) -> list[int]:
    """Up to a token that would move ChatGLM-6B's positions."""
    marks = () if config.traits.causal else (config.gmask_token_id, config.mask_token_id, config.bos_token_id)
    return tokens[: next((place for place, token in enumerate(tokens) if token in marks), len(tokens))]


def drawn(answer: Answer, logits: Tensor, draft: Sequence[int]) -> list[int]:
    """As many tokens as the draft was right, and one more, by logits [1 + drafted, V]."""
    tokens = [answer.draw(logits[0])]
    for guessed, own in zip(draft, logits[1:], strict=True):
        if tokens[-1] != guessed or guessed in answer.sequence.stop_ids:
            break
        tokens.append(answer.draw(own))
    answer.stats.accepted_drafts += len(tokens) - 1
    answer.stats.rejected_drafts += len(draft) - len(tokens) + 1
    if answer.lookup is not None:
        for token in tokens:
            answer.lookup.push(token)
    return tokens
