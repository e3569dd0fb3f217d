"""Keeps replicas on the nodes that are fit: examines who joins, starts what is missing, replaces what is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from glmcore.cluster import waiting
from glmcore.cluster.examination import Seen
from glmcore.cluster.front import Front
from glmcore.cluster.nodes import Node, judged
from glmcore.cluster.planning import Spec
from glmcore.cluster.remote import Remote, RemoteAnswer
from glmcore.cluster.table import State, Table
from glmcore.cluster.waiting import Over
from glmcore.errors import GlmError

# Seconds between two looks at the nodes; losses are acted upon at once.
TICK_S = 0.5
AT_ONCE = 16  # nodes that are examined, or replicas that are started

log = logging.getLogger("glmcore")


class Keeper:
    """One thread decides, others examine and start. What is done with a node is what ``Table`` says of it.

    present: the nodes now. examine: one of them, by its name. plan: nodes that are fit and free → what to start.
    start: one of those; raises GlmError where it does not come up.
    """

    def __init__(
        self, front: Front, present: Callable[[], Sequence[Seen]], examine: Callable[[Seen, str], Node],
        plan: Callable[[Sequence[Node], int], Sequence[Spec]],
        start: Callable[[Spec, Callable[[Remote, str], None], Callable[[Remote, RemoteAnswer], None]], Remote],
    ) -> None:  # fmt: skip
        self.front, self.present, self.examine, self.plan, self.start = front, present, examine, plan, start
        self.table = Table()
        self.nodes: dict[str, Node] = {}
        self._seen: dict[str, Seen] = {}
        self._starting = 0
        self._lock = threading.RLock()
        self._woken = threading.Condition(self._lock)
        self._closed = self._planned = False
        self._workers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="glmcore cluster")
        self._thread = threading.Thread(target=self._run, name="glmcore keeper", daemon=True)

    def begin(self) -> None:
        """Return once a first plan has been carried out, as far as that went."""
        self._thread.start()
        with self._woken:
            self._woken.wait_for(lambda: (self._planned and not self.table.undecided) or self._closed)

    def close(self) -> None:
        """End all replicas, and what was being examined or started; none of its threads is left."""
        with self._woken:
            self._closed = True
            self._woken.notify_all()
        waiting.end()
        for remote in list(self.front.remotes.values()):
            remote.end()
        if self._thread.is_alive():
            self._thread.join()
        self._workers.shutdown(cancel_futures=True)

    def _run(self) -> None:
        while not self._closed:
            try:
                self.look()
            except Exception as error:  # whatever Ray raises: the next look may find it again
                log.warning("the cluster could not be looked at: %s", type(error).__name__, exc_info=error)
            with self._woken:
                self._woken.notify_all()
                if not self._closed:
                    self._woken.wait(TICK_S)

    def look(self) -> None:
        """Who is there, who is to be examined, and what can be started."""
        seen = self.present()
        with self._lock:
            self._seen = {each.id: each for each in seen}
            gone = self.table.seen((each.id, each.machine) for each in seen)
            due = self.table.due(time.monotonic())
        for remote in [each for each in list(self.front.remotes.values()) if set(each.nodes) & set(gone)]:
            remote.close("its machine has left the cluster")
        for id in due:
            self._workers.submit(self._examine, self._seen[id], self.table.entries[id].name)
        self._fill()

    def _examine(self, seen: Seen, name: str) -> None:
        try:
            node = self.examine(seen, name)
        except Over:
            return
        except Exception as error:
            log.debug("%s could not be examined", name, exc_info=error)
            facts = {"absent": f"it could not be examined ({type(error).__name__})"}
            node = Node(seen.id, name, seen.address, facts, judged(facts, {}, None))
        with self._woken:
            known = self.nodes.get(seen.id)
            self.nodes[seen.id] = node
            self.table.examined(seen.id, time.monotonic(), node.verdict.against)
            there = self.table.there(seen.id)
            self._woken.notify_all()
        if there and node.verdict.against and (known is None or known.verdict != node.verdict):
            log.warning("%s gets nothing: %s; there: %s", name, node.verdict.against, node.verdict.fix)

    def _fill(self) -> None:
        """Start what the plan makes of the nodes that are fit and free."""
        with self._lock:
            self._planned = not any(entry.state is State.EXAMINING for entry in self.table.entries.values())
            if self._closed or not self._planned:
                return
            specs = self.plan([self.nodes[id] for id in self.table.fit], len(self.front.remotes) + self._starting)
            for spec in specs:
                self.table.began(spec.nodes)
                self._starting += 1
            self._woken.notify_all()
        for spec in specs:
            self._workers.submit(self._start, spec)

    def _start(self, spec: Spec) -> None:
        try:
            remote = self.start(spec, self._lost, self._ended)
        except Over:
            return
        except Exception as error:
            why = str(error) if isinstance(error, GlmError) else f"it did not start ({type(error).__name__})"
            log.warning("%s: %s", spec.name, why, exc_info=None if isinstance(error, GlmError) else error)
            self._failed(spec.nodes, why)
            return
        with self._woken:
            self._starting -= 1
            if remote.alive and not self._closed:
                self.table.serving(spec.nodes)
                self.front.add(remote)
            again = any(self.table.entries[id].restarts for id in spec.nodes)
            self._woken.notify_all()
        if self._closed:
            remote.end()
        elif again:
            log.warning("%s is back: %s", spec.name, self._count())

    def _failed(self, ids: Sequence[str], why: str) -> None:
        with self._woken:
            self._starting -= 1
            self.table.lost(ids, time.monotonic(), why)
            self._woken.notify_all()

    def _lost(self, remote: Remote, why: str) -> None:
        with self._woken:
            self.front.remove(remote)
            self.table.lost(remote.nodes, time.monotonic(), why)
            self._woken.notify_all()
        log.warning("the replica on %s was lost: %s; %s", remote.name, why, self._count())

    def _count(self) -> str:
        count = len(self.front.remotes)
        return f"{count} replica{'s' * (count != 1)} {'serve' if count != 1 else 'serves'}"

    def _ended(self, remote: Remote, answer: RemoteAnswer) -> None:
        self.front.ended(remote, answer)
        with suppress(KeyError), self._lock:
            self.table.served(remote.nodes)
