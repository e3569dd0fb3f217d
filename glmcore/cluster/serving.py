"""A cluster from the command line's wishes to a front that answers, and back to nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from glmcore.cluster.examination import Seen, examined, examined_nodes, present, reference
from glmcore.cluster.figures import ClusterFigures
from glmcore.cluster.front import Front
from glmcore.cluster.keeper import Keeper
from glmcore.cluster.nodes import Node
from glmcore.cluster.planning import Spec, Wish, specs
from glmcore.cluster.request import Request
from glmcore.cluster.starting import start
from glmcore.tokenizers import load_tokenizer


@dataclass(frozen=True)
class Planned:
    """What would run where."""

    wish: Wish
    nodes: tuple[Node, ...]
    specs: tuple[Spec, ...]


def planned(request: Request) -> Planned:
    """Examine the nodes of the cluster that was joined, and plan; nothing is started beside. Errors: GlmError."""
    wish = request.wish
    nodes = examined_nodes(request.model, reference(request.folder))
    fit = [node for node in nodes if not node.verdict.against]
    return Planned(wish, tuple(nodes), tuple(specs(wish, fit, 0)))


@contextmanager
def serving(request: Request) -> Iterator[Front]:
    """A front whose replicas, in the cluster that was joined, are kept up for the length of the block.

    Errors: GlmError.
    """
    wish, expected = request.wish, reference(request.folder)
    front = Front(wish.config, load_tokenizer(request.folder, wish.config))
    answering = {**request.answering, "context": request.context}

    def examine(seen: Seen, name: str) -> Node:
        return examined(seen, name, request.model, expected)

    def begin(spec: Spec, lost: Callable, ended: Callable):
        return start(spec, request.model, request.loading, answering, lost, ended)

    keeper = Keeper(front, present, examine, lambda nodes, running: specs(wish, nodes, running), begin)
    front.cluster = ClusterFigures(keeper)
    say(f"examining {len(present())} nodes")
    try:
        keeper.begin()
        yield front
    finally:
        keeper.close()


def say(line: str) -> None:
    sys.stderr.write(f"glmcore: {line}\n")
