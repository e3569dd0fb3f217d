"""What every way to run a model does: prompts into rows of the cache, then tokens for some of the rows at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from glmcore.engine.sequence import common_prefix
from glmcore.engine.ways.rows import Rows
from glmcore.models.inputs import PositionState


@dataclass(frozen=True)
class Habits:
    """How a way reads prompts and makes answers."""

    short: int  # prompts of up to so many tokens are read to the bits that answers have
    grid: int  # longer ones have the bits of pieces that end at multiples of this; 1: of any pieces
    piece: int  # tokens that are read at a time where nobody waits
    together: int  # answers that are made at once where nobody says how many
    drafts: bool = False  # whether several tokens of a row in one step have the bits of each alone
    shares: bool = False  # whether a step of several tokens reads the weights once for all


class Way(ABC):
    """A model and the rows that it serves. Each row gets the logits that it would get alone, whatever rows held before.

    Its ``Habits`` are attributes of it; ``beside``: up to how many of a prompt's tokens go through the model with a
    step of answers. One that can do more is a ``Showing`` or a ``Timed`` way too.
    Errors: GlmError("context-full", "not-finite") and torch's own; the row holds then what was sure before.
    """

    beside = 0

    def __init__(self, rows: Rows, habits: Habits) -> None:
        self.rows, self.config = rows, rows.config
        self.short, self.grid, self.piece, self.together, self.drafts, self.shares = astuple(habits)

    @torch.inference_mode()
    def prefill(self, prompts: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [prompts, V] after a whole prompt for each row; what a row holds of it is not computed again."""
        return torch.stack([self._whole(self.begin(row, prompt)) for row, prompt in prompts.items()])

    def _whole(self, reading: Reading) -> Tensor:
        while (logits := reading.advance(self.piece)) is None:
            pass
        return logits

    def begin(self, row: int, prompt: Sequence[int], kept: int | None = None) -> Reading:
        """A prompt to be read into a row, which keeps ``kept`` tokens; where None is given all that it can."""
        self.rows.make_room(len(prompt), row + 1)
        self.put_prefix()  # before the rows get their views
        kept = self.reusable(row, prompt) if kept is None else kept
        self.rows.hold(row, prompt[:kept], min(self.rows.read[row], kept))
        if self.config.traits.causal:
            return Reading(self, row, prompt)
        self.rows.positions[row] = PositionState(self.config, torch.tensor([prompt], device=self.device))
        return self.both_ways(row, prompt)

    def reusable(self, row: int, prompt: Sequence[int]) -> int:
        """How many tokens of ``prompt`` need not be read where ``row`` holds them already: one at least is left."""
        return self.shared(self.rows.held[row], self.rows.read[row], prompt)

    def shared(self, held: Sequence[int], read: int, prompt: Sequence[int]) -> int:
        """The same of tokens that any row has held, of which ``read`` were a long prompt's."""
        if not self.config.traits.causal:
            return 0
        common = min(common_prefix(held, prompt), len(prompt) - 1)
        if len(prompt) <= self.short:
            return 0 if read else common
        kept: int = min(common, read) // self.grid * self.grid
        return kept

    def both_ways(self, row: int, prompt: Sequence[int]) -> Reading:
        """The reading of a prompt that sees itself both ways, and so goes through every layer in one piece."""
        return Whole(self, row, prompt)

    @torch.inference_mode()
    def decode(self, tokens: Mapping[int, int]) -> Tensor:
        """Logits [tokens, V] after one more token for each of some rows; good until the next call."""
        logits = self.follow({row: [token] for row, token in tokens.items()})
        for row, token in tokens.items():
            self.rows.add(row, [token])
        return logits

    @torch.inference_mode()
    def follow(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [all tokens, V] after the next tokens of some rows, more than one each only with ``drafts``.

        The rows hold none of them yet: ``Rows.add`` says which were right. Good until the next call.
        """
        self.rows.make_room(self.rows.cache.length + max(map(len, tokens.values())))
        return self.step(tokens)

    @torch.inference_mode()
    def follow_beside(
        self, tokens: Mapping[int, Sequence[int]], reading: Reading, most: int
    ) -> tuple[Tensor, Tensor | None]:
        """What ``follow`` and ``reading.advance(most)`` give, in one pass where the way can."""
        return self.follow(tokens), reading.advance(most)

    @abstractmethod
    def read(self, row: int, ids: Tensor, length: int, states: list[Tensor] | None = None) -> Tensor:
        """Logits [V] after ``ids`` [1, S], the next of a row's prompt, which has ``length`` tokens in all.

        states: as for ``Reading``; given to a ``Showing`` way alone.
        """

    @abstractmethod
    def step(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [all tokens, V] after the next tokens of each row."""

    @abstractmethod
    def put_prefix(self) -> None:
        """Let P-Tuning's prefix, where the model has one, stand before the tokens of every row."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where token ids belong: beside the embedding."""


class Showing(Way):
    """A way that shows the states of a prompt's tokens, and says what the model makes of them."""

    @abstractmethod
    def normed(self, states: Tensor) -> Tensor:
        """``states`` [S, hidden size] of the last layer after the last norm."""

    @abstractmethod
    def logits(self, states: Tensor) -> Iterator[Tensor]:
        """Logits of states [S, hidden size] of the last layer, [few tokens, V] at a time, as a step would give them."""


class Timed(Way):
    """A way whose steps can be timed while no row is to be disturbed."""

    @abstractmethod
    def trial(self, rows: int) -> None:
        """A step of so many rows whose results nobody wants."""


class Reading:
    """A prompt on its way into a row, some tokens at a time.

    states: a list that is given the states of each piece, [its tokens, hidden size], as the last layer leaves them.
    """

    states: list[Tensor] | None = None

    def __init__(self, way: Way, row: int, prompt: Sequence[int]) -> None:
        self.way, self.row, self.prompt = way, row, list(prompt)

    @property
    def left(self) -> int:
        """Tokens that are still to be read."""
        return len(self.prompt) - len(self.way.rows.held[self.row])

    @torch.inference_mode()
    def advance(self, most: int) -> Tensor | None:
        """Read about ``most`` tokens more, or as few as can be; logits [V] once all are read."""
        piece, way = self.next(most), self.way
        logits = way.read(self.row, torch.tensor([piece], device=way.device), len(self.prompt), self.states)
        self.took(len(piece))
        return None if self.left else logits

    def next(self, most: int) -> list[int]:
        """The tokens that are read next, about ``most``."""
        start, way = len(self.way.rows.held[self.row]), self.way
        if most < self.left and len(self.prompt) > way.short:
            most = max(way.grid, most // way.grid * way.grid)
        return self.prompt[start : start + most]

    def took(self, count: int) -> None:
        """So many more have been read."""
        way, held = self.way, len(self.way.rows.held[self.row]) + count
        read = held // way.grid * way.grid if len(self.prompt) > way.short else 0
        way.rows.hold(self.row, self.prompt[:held], read)


class Whole(Reading):
    """A prompt that is read at once."""

    def advance(self, most: int) -> Tensor | None:
        return super().advance(len(self.prompt))
