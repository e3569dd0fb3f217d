"""What is made of the states that reading a prompt leaves: the logprobs of its own tokens, or the mean of them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from glmcore.config import ModelConfig
from glmcore.engine.logprobs import Logprob, logprob_of
from glmcore.engine.ways.way import Reading, Showing
from glmcore.errors import GlmError
from glmcore.models.inputs import context_length


class Observer(ABC):
    """Is shown the states [some tokens, hidden size] of a prompt in their order, each once, as the last layer leaves
    them. So all of the prompt is read, whatever the cache holds of it."""

    def __init__(self) -> None:
        self.seen = 0

    def see(self, way: Showing, states: Tensor) -> None:
        self._see(way, states)
        self.seen += len(states)

    @abstractmethod
    def _see(self, way: Showing, states: Tensor) -> None: ...


class Observed(Reading):
    """A prompt that is read with an observer, who is shown no more states at once than tokens are read at once.

    A token is half read when its keys and values are there, and wholly when its state was shown: of a prompt that sees
    itself both ways no state is there before all are.
    """

    way: Showing

    def __init__(self, reading: Reading, observer: Observer) -> None:
        super().__init__(reading.way, reading.row, reading.prompt)
        self.reading, self.observer = reading, observer
        self.waiting = reading.states = []
        self.logits: Tensor | None = None

    @property
    def left(self) -> int:
        return -(-(self.reading.left + len(self.prompt) - self.observer.seen) // 2)

    @torch.inference_mode()
    def advance(self, most: int) -> Tensor | None:
        until = max(0, self.left - most)
        while self.left > until:
            if self.waiting:
                self._show(most if self.way.grid == 1 else self.way.grid)  # the same products, however it is cut
            else:
                self.logits = self.reading.advance(most)
        return None if self.left else self.logits

    def _show(self, most: int) -> None:
        states = self.waiting.pop(0)
        self.observer.see(self.way, states[:most])
        if len(states) > most:
            self.waiting.insert(0, states[most:])


class PromptLogprobs(Observer):
    """``found``: what the model thought of each token of a prompt by those before it, None where it saw the token
    itself, or none before it.

    ChatGLM-6B sees all up to <sop> both ways. Only a few tokens' logits are there at a time.
    """

    def __init__(self, config: ModelConfig, prompt: Sequence[int], top: int) -> None:
        super().__init__()
        self.prompt, self.top = prompt, top
        # The state from which on the next token is foretold and not seen.
        self.first = 0 if config.traits.causal else context_length(config, prompt)
        self.found: list[Logprob | None] = [None] * min(self.first + 1, len(prompt))

    @property
    def tells(self) -> bool:
        """Whether any token will have one."""
        return self.first + 1 < len(self.prompt) or self.first == 0

    def _see(self, way: Showing, states: Tensor) -> None:
        wanted = states[max(0, self.first - self.seen) : len(self.prompt) - 1 - self.seen]
        for few in way.logits(wanted):
            for logits in few:
                self.found.append(logprob_of(logits, self.prompt[len(self.found)], self.top))


class MeanState(Observer):
    """The mean of the states of some of a prompt's tokens, after the last norm."""

    def __init__(self, tokens: range) -> None:
        super().__init__()
        self.tokens, self._total = tokens, torch.zeros(())

    def _see(self, way: Showing, states: Tensor) -> None:
        begin, end = max(0, self.tokens.start - self.seen), max(0, self.tokens.stop - self.seen)
        for state in way.normed(states)[begin:end].double().cpu():  # one by one: any pieces have the same bits
            self._total = self._total + state

    @property
    def vector(self) -> Tensor:
        """[hidden size] in float32, of length 1. Errors: GlmError("not-finite")."""
        mean: Tensor = self._total / self._total.norm()
        if not torch.isfinite(mean).all():
            raise GlmError("not-finite", "the model's states are NaN or infinite", hint="try another --dtype")
        return mean.float()
