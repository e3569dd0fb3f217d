"""From a plan's replica to one that answers: its processes, started by Ray on the nodes that the plan names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from glmcore.cluster.examination import on
from glmcore.cluster.planning import Share, Spec, described
from glmcore.cluster.remote import Remote, RemoteAnswer
from glmcore.cluster.replica import GROUPS, Replica
from glmcore.cluster.stage import StageProcess
from glmcore.errors import GlmError


def start(
    spec: Spec, model: str | None, loading: Mapping[str, Any], answering: Mapping[str, Any],
    lost: Callable[[Remote, str], None], ended: Callable[[Remote, RemoteAnswer], None],
) -> Remote:  # fmt: skip
    """Load it; takes as long as that takes. Errors: GlmError.

    loading, answering: of ``glmcore.load``'s settings those for the weights and for the engine.
    """
    actors = [actor_for(share, StageProcess if number else Replica) for number, share in enumerate(spec.shares)]
    own = [{**loading, "plan": share.plan, "threads": share.threads} for share in spec.shares]
    try:
        about = loaded(spec, actors, model, own, dict(answering))
    except RayTaskError as error:
        end(actors)
        cause = error.cause
        raise cause if isinstance(cause, GlmError) else GlmError("internal", f"{type(cause).__name__}") from error
    except RayError as error:
        end(actors)
        raise GlmError("replica-lost", f"its process ended while it loaded ({type(error).__name__})") from error
    about["stages"] = [described(share) for share in spec.shares]
    return Remote(spec.name, spec.nodes, actors, about, lost, ended)


def actor_for(share: Share, kind: type) -> Any:
    cards = sum(device.name.startswith("cuda") for device in share.plan.devices if device.pieces)
    options = {**on(share.node.id), "concurrency_groups": GROUPS, "max_restarts": 0}
    return ray.remote(**options, **({"num_gpus": cards} if cards else {}))(kind).remote()


def loaded(
    spec: Spec, actors: Sequence[Any], model: str | None, own: Sequence[dict[str, Any]], answering: dict[str, Any]
) -> dict[str, Any]:
    """What the leader says of the replica. The stages load side by side."""
    leader, *others = actors
    if not others:
        return ray.get(leader.load.remote(model, own[0], answering))
    ray.get([
        actor.load.remote(model, share.layers, {**mine, "name": share.node.name})
        for actor, share, mine in zip(others, spec.shares[1:], own[1:], strict=True)
    ])  # fmt: skip
    names = [share.node.name for share in spec.shares]
    first = {**own[0], "name": names[0]}
    return ray.get(
        leader.lead.remote(model, spec.shares[0].layers, first, answering, list(zip(names[1:], others, strict=True)))
    )


def end(actors: Sequence[Any]) -> None:
    for actor in actors:
        with suppress(RayError, ValueError):
            ray.kill(actor)
