"""Waiting that ends when the session does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("ray", reason="pip install .[ray]")

import ray
from ray.exceptions import GetTimeoutError

from glmcore.cluster import waiting


@pytest.fixture(autouse=True)
def never(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's own waiting has a double, which brings nothing."""
    monkeypatch.setattr(ray, "wait", lambda refs, timeout: ([], refs))
    waiting.begin()
    yield
    waiting.begin()


def test_it_ends_with_the_session_and_at_its_time() -> None:
    with pytest.raises(GetTimeoutError):
        waiting.fetched("nothing", 0.0)
    waiting.end()
    with pytest.raises(waiting.Over):
        waiting.fetched("nothing")
