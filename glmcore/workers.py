"""Work done side by side, by threads where they can be had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
# Of address space: each thread takes a stack of 8 MiB and a heap of 128. One that begins and finds no memory dies
# before it has said that it began, which is waited for without end.
ROOM = 1 << 30


def each(work: Callable[[Item], Made], items: Sequence[Item], most: int) -> list[Made]:
    """``work`` of every item, by ``most`` threads at most; one after the other where no thread can be started.

    An item whose thread could not be started may be worked on twice.
    """
    if min(most, len(items)) < 2 or not _has_room():
        return [work(item) for item in items]
    from concurrent.futures import Future, ThreadPoolExecutor

    begun: list[Future[Made]] = []
    with ThreadPoolExecutor(min(most, len(items))) as pool:
        try:
            for item in items:
                begun.append(pool.submit(work, item))
        except RuntimeError:  # "can't start new thread": RLIMIT_NPROC, a container's limit of processes
            pool.shutdown(wait=True, cancel_futures=True)
    done = [None if future.cancelled() else future for future in begun]
    return [
        future.result() if future else work(item)
        for item, future in zip(items, done + [None] * (len(items) - len(done)), strict=True)
    ]


def _has_room() -> bool:
    try:
        import resource
    except ImportError:  # Windows
        return True
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return limit == resource.RLIM_INFINITY or limit >= ROOM
