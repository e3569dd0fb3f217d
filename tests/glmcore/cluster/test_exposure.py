"""Who is warned that Ray executes what strangers send."""

from __future__ import annotations

import pytest

from glmcore.cluster.exposure import exposed


@pytest.mark.parametrize(
    "addresses, authenticated, warned",
    [
        (["127.0.0.1", "127.0.0.1"], False, None),
        (["10.0.0.5", "127.0.0.1"], True, None),
        (["10.0.0.5"], False, "Ray listens on 10.0.0.5 without"),
        (["127.0.0.1", "10.0.0.7", "10.0.0.5"], False, "Ray listens on 10.0.0.5 and 1 more without"),
        (["2001:db8::1"], False, "Ray listens on 2001:db8::1 without"),
    ],
)
def test_a_warning_where_others_reach_it_and_no_token_is_asked_for(
    addresses: list[str], authenticated: bool, warned: str | None
) -> None:
    said = exposed(addresses, authenticated)
    assert said is None if warned is None else said is not None and said.startswith(warned)
