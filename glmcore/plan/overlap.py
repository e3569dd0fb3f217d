"""Whether the chunks of a prompt are worth sending through a split model at the same time, and what that gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def overlaps(devices: Iterable[str]) -> bool:
    """Whether processors that wait for each other hold pieces: the CPU and at least one card.

    Cards overlap by themselves, since what they are to do is only queued. The CPU under several names is one processor.
    """
    return len({name.partition(":")[0] for name in devices}) > 1


def prefill_seconds(stages: Sequence[float], chunks: int) -> tuple[float, float]:
    """Seconds for ``chunks`` equal parts of a prompt, one after the other and overlapped.

    stages: seconds of each stage for one chunk. The first chunk passes every stage; each of the others adds what the
    slowest stage takes, since the rest of its way is covered by its neighbours'.
    """
    return chunks * sum(stages), sum(stages) + (chunks - 1) * max(stages)
