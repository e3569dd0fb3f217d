"""A cluster from the command line's wishes to a front that answers, and back to nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from glmcore.cluster.examination import Asked, Seen, examined, examined_nodes, present, reference
from glmcore.cluster.exposure import authenticated, exposed
from glmcore.cluster.figures import ClusterFigures
from glmcore.cluster.front import Front
from glmcore.cluster.keeper import Keeper
from glmcore.cluster.nodes import Node
from glmcore.cluster.planning import Spec, Wish, plan_of, specs_of
from glmcore.cluster.request import Request
from glmcore.cluster.starting import start
from glmcore.errors import GlmError
from glmcore.plan.cluster import ClusterPlan
from glmcore.tokenizers import load_tokenizer

log = logging.getLogger("glmcore")


@dataclass(frozen=True)
class Planned:
    """The nodes, and what would run where."""

    wish: Wish
    nodes: tuple[Node, ...]
    plan: ClusterPlan

    @property
    def specs(self) -> list[Spec]:
        return specs_of(self.wish, self.plan, self.nodes)


def planned(request: Request) -> Planned:
    """Examine the nodes of the cluster that was joined, and plan; nothing is started beside. Errors: GlmError."""
    wish = request.wish
    nodes = examined_nodes(about(request), reference(request.folder, request.adapter))
    plan = plan_of(wish, nodes)
    assert plan is not None  # a replica at least is wanted
    return Planned(wish, tuple(nodes), plan)


def about(request: Request) -> Asked:
    return Asked(request.model, request.adapter, request.kernel)


@contextmanager
def serving(request: Request) -> Iterator[Front]:
    """A front whose replicas, in the cluster that was joined, are kept up for the length of the block.

    Errors: GlmError.
    """
    wish, expected = request.wish, reference(request.folder, request.adapter)
    front = Front(wish.config, load_tokenizer(request.folder, wish.config))
    answering = {**request.answering, "context": request.context}

    def examine(seen: Seen, name: str) -> Node:
        return examined(seen, name, about(request), expected)

    def begin(spec: Spec, lost: Callable, ended: Callable):
        return start(spec, request.model, request.loading, answering, lost, ended)

    def plan(nodes: Sequence[Node], running: int) -> list[Spec]:
        return specs_of(wish, plan_of(wish, nodes, running), nodes)

    keeper = Keeper(front, present, examine, plan, begin)
    front.cluster = ClusterFigures(keeper)
    seen = present()
    if warning := exposed((each.address for each in seen), authenticated()):
        log.warning(warning)
    log.warning("examining %d nodes", len(seen))
    try:
        keeper.begin()
        if not front.remotes:
            raise unfit(wish, keeper)
        yield front
    finally:
        keeper.close()


def unfit(wish: Wish, keeper: Keeper) -> GlmError:
    """Why nothing could be started: by the nodes, or by the plan."""
    failed = [f"{entry.name}: {entry.why}" for entry in keeper.table.entries.values() if entry.failures]
    made = plan_of(wish, list(keeper.nodes.values()))
    if failed or made is None or made.fits:
        return GlmError("cluster-unfit", f"no replica could be started: {'; '.join(failed)}")
    return GlmError("cluster-unfit", made.reasons[0], hint=f"would fit: {', '.join(made.would_fit)}")
