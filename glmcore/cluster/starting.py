"""From a plan's replica to one that answers: its processes, started by Ray on the nodes that the plan names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from glmcore.cluster.examination import on
from glmcore.cluster.planning import Spec, described
from glmcore.cluster.remote import Remote, RemoteAnswer
from glmcore.cluster.replica import GROUPS, Replica
from glmcore.errors import GlmError


def start(
    spec: Spec, model: str | None, settings: Mapping[str, Any], lost: Callable[[Remote, str], None],
    ended: Callable[[Remote, RemoteAnswer], None],
) -> Remote:  # fmt: skip
    """Load it; takes as long as that takes. settings: those of ``glmcore.load``. Errors: GlmError."""
    [share] = spec.shares
    cards = sum(device.name.startswith("cuda") for device in share.plan.devices if device.pieces)
    actor = ray.remote(
        concurrency_groups=GROUPS, max_restarts=0, **on(share.node.id), **({"num_gpus": cards} if cards else {})
    )(Replica).remote()
    try:
        about = ray.get(actor.load.remote(model, {**settings, "plan": share.plan, "threads": share.threads}))
    except RayTaskError as error:
        end(actor)
        cause = error.cause
        raise cause if isinstance(cause, GlmError) else GlmError("internal", f"{type(cause).__name__}") from error
    except RayError as error:
        end(actor)
        raise GlmError("replica-lost", f"its process ended while it loaded ({type(error).__name__})") from error
    about["stages"] = [described(share) for share in spec.shares]
    return Remote(spec.name, spec.nodes, [actor], about, lost, ended)


def end(actor: Any) -> None:
    with suppress(RayError, ValueError):
        ray.kill(actor)
