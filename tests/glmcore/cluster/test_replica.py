"""What a replica says between two messages goes together."""

from __future__ import annotations

from typing import Any

import pytest

from glmcore.cluster import replica
from glmcore.cluster.replica import Replica
from glmcore.engine.batch.answer import Piece


def test_the_next_message_waits_a_little_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is a double: what comes while the second message waits goes with it."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # this process is not the replica's own
    now, made = [100.0], Replica()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if seconds:
            made.said.put((2, Piece("more"), None))

    monkeypatch.setattr(replica, "time", Clock(now, sleep))
    made.said.put((1, Piece("first"), None))
    assert texts(made._said()) == ["first"] and now[0] == 100
    now[0] += 0.001
    made.said.put((1, Piece("second"), None))
    assert texts(made._said()) == ["second", "more"]
    assert now[0] == pytest.approx(100 + replica.PACE_S)
    now[0] += 1
    made.said.put((1, Piece("third"), None))
    assert texts(made._said()) == ["third"]


class Clock:
    def __init__(self, now: list[float], sleep: Any) -> None:
        self.monotonic, self.sleep = (lambda: now[0]), sleep


def texts(said: list[Any]) -> list[str]:
    return [piece.text for _, piece, _ in said]
