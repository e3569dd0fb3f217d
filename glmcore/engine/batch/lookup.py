"""Guesses of what comes next, from the text itself: where its last tokens stood before, and what followed there.

A guess is checked by the model: several of its tokens go through one step, and those count that the model would have
chosen. What is chosen, and its bits, are the same without: guesses only save steps where they are right.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 15
# So many tokens must have stood together before; where they did often, the last time counts.
GRAM = 3
# Where a copy differs from what it copies, it goes on within so many tokens, if it was as long as that.
NEAR, LONG = 8, 4
# How likely the next token is the one that followed before, after 1, 2-3, 4-7, … tokens that were alike, until an
# answer shows how it is in this one: between what copies show and what talk does (``bench_batching.py expected``).
CHANCES = (0.4, 0.6, 0.85, 0.95, 0.97, 0.98)
# What one token more tells of that.
NEW = 0.1


class Lookup:
    """The tokens of a prompt and its answer, the place before them that they repeat, and how often they go on alike.

    Whether the guess was right is seen of every token, tried or not: nothing is paid to learn what guesses are worth.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens: list[int] = []
        self.chances = list(CHANCES)
        self._place: int | None = None  # of the token that is guessed next
        self._alike = 0  # so many before it are those at the end
        self._left: int | None = None  # the place of the token that a copy has instead of which another came
        self._ends: dict[tuple[int, ...], int] = {}  # some tokens → the place behind where they stood last
        for token in tokens:
            self._append(token)

    def push(self, token: int) -> None:
        """The next token of the answer."""
        if self._place is not None:
            level = self.level()
            self.chances[level] += NEW * ((token == self.tokens[self._place]) - self.chances[level])
        self._append(token)

    def guess(self, most: int) -> tuple[list[int], list[float]]:
        """Up to ``most`` tokens that may follow, none where the last ones are new; of each how likely it is right if
        those before it are."""
        if self._place is None:
            return [], []
        most = min(most, MOST)
        tokens = self.tokens[self._place : self._place + most]
        while len(tokens) < most:  # what repeats itself goes on with what was just guessed
            tokens.append(tokens[len(tokens) - len(self.tokens) + self._place])
        return tokens, [self.chances[self.level(number)] for number in range(most)]

    def level(self, further: int = 0) -> int:
        """Which of the chances is the next guess's, or that of the one so many tokens further on."""
        return min((self._alike + further).bit_length(), len(self.chances)) - 1

    def _append(self, token: int) -> None:
        if self._place is not None:
            if token == self.tokens[self._place]:
                self._place, self._alike = self._place + 1, self._alike + 1
            else:
                self._left = self._place if self._alike >= LONG else self._left
                self._place = None
        self.tokens.append(token)
        last = tuple(self.tokens[-GRAM:])
        if self._place is None:
            self._find(self._ends.get(last), token)
        if len(last) == GRAM:
            self._ends[last] = len(self.tokens)

    def _find(self, place: int | None, token: int) -> None:
        """The place behind tokens like the last ones, or else that where an interrupted copy goes on."""
        if place is not None:
            self._place, self._alike, self._left = place, GRAM, None
        elif self._left is not None:
            near = self.tokens[self._left : min(self._left + NEAR, len(self.tokens) - 1)]
            if token in near:
                self._place, self._alike = self._left + near.index(token) + 1, 1
