"""The nodes that Ray sees, and what each says when it is asked: a task on that very node, in its own environment."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmcore.cluster import probe, waiting
from glmcore.cluster.fingerprints import fingerprints
from glmcore.cluster.nodes import Node, judged, other_versions
from glmcore.plan.cluster.nodes import USUAL, Link

# Seconds that a node has to start a worker and to say all but its files' hashes.
ANSWER_S = probe.EXAMINATION_S + 60.0
# Bytes of the messages by which the way to a node is measured, each so often: a hidden state, and some of a prompt's.
SMALL, LARGE, ROUNDS = 16 << 10, 4 << 20, 5


@dataclass(frozen=True)
class Seen:
    """A node as Ray lists it. ``machine``: what a node that joins again has in common with the one that left."""

    id: str
    address: str
    machine: str
    cpus: float
    gpus: float


def present() -> list[Seen]:
    """Every node that is alive, the head first."""
    import ray

    found = [each for each in ray.nodes() if each["Alive"]]
    found.sort(key=lambda each: ("node:__internal_head__" not in each["Resources"], each["NodeID"]))
    return [
        Seen(
            each["NodeID"], each["NodeManagerAddress"], f"{each['NodeManagerAddress']} {each['NodeManagerHostname']}",
            each["Resources"].get("CPU", 0.0), each["Resources"].get("GPU", 0.0),
        )
        for each in found
    ]  # fmt: skip


def on(node: str) -> dict[str, Any]:
    """Options by which Ray starts a task or an actor on that node or not at all.

    (Labels cannot be set once a node has joined, and a verdict is known only then: so nodes are named by their ids.)
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


@dataclass(frozen=True)
class Asked:
    """What nodes are asked about: a model (a folder or a name there; the demo where None), and an adapter's folder."""

    model: str | None
    adapter: str | None = None
    kernel: bool = False  # whether the model is to run through the CPU's kernel
    language: str = "en"  # of the doctor's report


def reference(folder: Path | None, adapter: str | None = None) -> dict[str, Any]:
    """What the nodes are compared with: this program's versions and files, none where there is no ``folder``.

    Errors: GlmError, OSError.
    """
    files = {} if folder is None else fingerprints(folder, None if adapter is None else Path(adapter))
    return {"versions": probe.versions(), "files": files}


def examined_nodes(about: Asked, expected: Mapping[str, Any]) -> list[Node]:
    """All nodes side by side, named in their order."""
    seen = present()
    names = [f"node{number}" for number in range(1, len(seen) + 1)]
    with ThreadPoolExecutor(max(1, len(seen))) as pool:
        try:
            return list(pool.map(lambda each, name: examined(each, name, about, expected), seen, names))
        except BaseException:
            waiting.end()  # the pool waits for its threads
            raise


def examined(seen: Seen, name: str, about: Asked, expected: Mapping[str, Any]) -> Node:
    """Ask a node, and judge what it says; one that says nothing gets nothing."""
    facts = asked(seen.id, about, expected)
    verdict = judged(facts, expected, about.model, kernel=about.kernel)
    link = USUAL if verdict.kind else measured(seen.id)
    return Node(seen.id, name, seen.address, facts, verdict, seen.cpus, seen.gpus, link)


def measured(node: str) -> Link:
    """How it is reached from here: small messages give half of what they take there and back, a large one the rate.

    Where a small one was kept waiting, most of the large one's time is still taken to be its way.
    """
    import ray

    echo = ray.remote(max_retries=0)(probe.echo).options(**on(node))
    times = {size: [seconds(echo, size) for _ in range(ROUNDS)] for size in (SMALL, LARGE)}
    there_and_back = min(times[SMALL])
    carrying = max(min(times[LARGE]) - there_and_back, min(times[LARGE]) / 2)
    return Link(LARGE / carrying, there_and_back / 2)


def seconds(echo: Any, size: int) -> float:
    """Of a message there and an answer. (A new one each time: Ray keeps what a node has seen.)"""
    from ray.exceptions import RayError

    payload = os.urandom(size)
    started = time.perf_counter()
    with suppress(RayError):  # a node that has just been lost is noticed elsewhere
        waiting.fetched(echo.remote(payload), ANSWER_S)
    return time.perf_counter() - started


def asked(node: str, about: Asked, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Its facts, or under "error" why its Python gives none, or under "absent" why nothing came back."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError

    task = ray.remote(max_retries=0)(probe.facts).options(**on(node)).remote(about.model, about.language)
    try:
        facts = waiting.fetched(task, ANSWER_S)
        # Gigabytes may have to be read: that ends, or the node does. (Another glmcore may be asked otherwise.)
        if expected["files"] and not other_versions(facts["versions"], expected["versions"]):
            hashing = ray.remote(max_retries=0)(probe.files).options(**on(node))
            facts["files"] = waiting.fetched(hashing.remote(about.model, about.adapter))
        return facts
    except GetTimeoutError:
        ray.cancel(task, force=True)
        return {"absent": f"no answer within {ANSWER_S:g} s"}
    except RayTaskError as error:
        return {"error": f"{type(error.cause).__name__}: {error.cause}"}
    except RayError as error:
        return {"absent": f"it was lost while it was examined ({type(error).__name__})"}
