"""The caches of all stages as one: what ``Rows`` and prefixes do to a cache is done at each of them."""

from __future__ import annotations

from collections.abc import Sequence

from glmcore.engine.stages.calls import Copy, Forget, Put, Reshape, Settle, Take
from glmcore.engine.stages.pipeline import Pipeline, Ticket
from glmcore.errors import GlmError

Kept = Sequence[tuple[int, int, int]]


class StagedCache:
    """As ``KVCache``, whose memory lies with the stages. Errors: those of the stages; all is as it was then."""

    prefix = 0  # P-Tuning's is not taken

    def __init__(self, pipeline: Pipeline, capacity: int) -> None:
        self.pipeline, self.capacity, self.batch, self.length = pipeline, capacity, 1, 0
        pipeline.all(Forget(capacity))

    @property
    def nbytes(self) -> int:
        return sum(each.row_bytes for each in self.pipeline.facts) * self.batch * self.capacity

    def reshape(self, rows: int, capacity: int, kept: Kept) -> None:
        """So many rows of so many positions. kept: (row of now, row from now on, positions that are filled) of each."""
        self.pipeline.forget_dropped()
        try:
            self.pipeline.all(Reshape(rows, capacity, tuple(kept)))
        except GlmError:
            self.pipeline.all(Settle(use=False))  # where one has no room for it, none may have it
            raise
        self.pipeline.all(Settle(use=True))
        self.batch, self.capacity = rows, capacity

    def copy_row(self, source: int, target: int, count: int) -> None:
        """Let a row begin with the first ``count`` tokens of another one."""
        self.pipeline.all(Copy(source, target, count))

    def take(self, row: int, count: int) -> Ticket:
        """The first ``count`` tokens of a row, which the stages keep as long as somebody has the ticket."""
        self.pipeline.forget_dropped()
        ticket = self.pipeline.ticket()
        self.pipeline.all(Take(ticket.number, row, count))
        return ticket

    def put(self, row: int, taken: Ticket, count: int) -> None:
        """Let a row begin with the first ``count`` tokens of what was taken."""
        self.pipeline.all(Put(taken.number, row, count))
