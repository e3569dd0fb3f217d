"""From a plan's replica to one that answers: its processes, started by Ray on the nodes that the plan names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from glmcore.cluster.examination import on
from glmcore.cluster.groups import GROUPS
from glmcore.cluster.planning import Share, Spec, described
from glmcore.cluster.remote import Remote, RemoteAnswer
from glmcore.cluster.replica import Replica
from glmcore.cluster.stage import StageProcess
from glmcore.cluster.waiting import Over, fetched
from glmcore.errors import GlmError
from glmcore.plan.devices import is_cpu


def start(
    spec: Spec, model: str | None, loading: Mapping[str, Any], answering: Mapping[str, Any],
    lost: Callable[[Remote, str], None], ended: Callable[[Remote, RemoteAnswer], None],
) -> Remote:  # fmt: skip
    """Load it; takes as long as that takes. Errors: GlmError.

    loading, answering: of ``glmcore.load``'s settings those for the weights and for the engine.
    """
    from ray.exceptions import RayError, RayTaskError

    *stages, last = spec.shares
    actors = [actor_for(last, Replica), *(actor_for(share, StageProcess) for share in stages)]
    try:
        about = loaded(spec, actors, model, loading, dict(answering))
    except RayTaskError as error:
        end(actors)
        cause = error.cause
        raise cause if isinstance(cause, GlmError) else GlmError("internal", f"{type(cause).__name__}") from error
    except Over:
        end(actors)
        raise
    except RayError as error:
        end(actors)
        raise GlmError("replica-lost", f"its process ended while it loaded ({type(error).__name__})") from error
    about["stages"] = [described(share) for share in spec.shares]
    return Remote(spec.name, spec.nodes, actors, about, lost, ended)


def actor_for(share: Share, kind: type) -> Any:
    import ray

    # What Ray notes of each call for its dashboard costs more than the call.
    options = {"concurrency_groups": GROUPS, "max_restarts": 0, "enable_task_events": False}
    return ray.remote(**on(share.node.id), **options, num_gpus=cards(share))(kind).remote()


def cards(share: Share) -> int:
    """All of the node's, where it has anything on one: they have their numbers for a process that is given them all."""
    used = any(not is_cpu(device.name) for device in share.plan.devices if device.pieces)
    return int(share.node.gpus) if used else 0


def loaded(
    spec: Spec, actors: Sequence[Any], model: str | None, loading: Mapping[str, Any], answering: dict[str, Any]
) -> dict[str, Any]:
    """What the leader, the first of ``actors``, says of the replica. The stages load side by side."""
    leader, *others = actors
    *stages, last = spec.shares
    mine = {**loading, "plan": last.plan, "threads": last.threads}
    if not stages:
        return fetched(leader.load.remote(model, mine, answering))
    names = [share.node.name for share in stages]
    loads = [
        actor.load.remote(
            model, share.layers, {**loading, "plan": share.plan, "threads": share.threads, "name": share.node.name}
        )
        for actor, share in zip(others, stages, strict=True)
    ]
    for load in loads:
        fetched(load)
    before = list(zip(names, others, strict=True))
    return fetched(leader.lead.remote(model, last.layers, {**mine, "name": last.node.name}, answering, before))


def end(actors: Sequence[Any]) -> None:
    import ray
    from ray.exceptions import RayError

    for actor in actors:
        with suppress(RayError, ValueError):
            ray.kill(actor)
