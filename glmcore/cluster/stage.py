"""A stage in a process of its own, an actor of Ray's, and how its leader reaches it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glmcore.cluster.groups import BEAT_S, ORDERS
from glmcore.kernels.threads import share_cores

if TYPE_CHECKING:
    from glmcore.engine.stages.calls import Answered, Call
    from glmcore.engine.stages.pipeline import Pending


class StageProcess:
    """Some layers of a model, run for one leader."""

    def __init__(self) -> None:
        share_cores()  # before torch comes, which brings OpenMP

    def load(self, model: str | None, layers: tuple[int, int], loading: Mapping[str, Any]) -> None:
        """Errors: GlmError."""
        from glmcore.engine.stages.load import load_stage

        self.stage = load_stage(model, *layers, **loading)

    def run(self, call: Call, before: Any = None) -> Answered:
        return self.stage.run(call, before)

    def news(self) -> tuple[Sequence[int], Sequence[Any], Mapping[str, int]]:
        """As a replica's: nothing, but that it is there."""
        time.sleep(BEAT_S)
        return (), (), {}


@dataclass(frozen=True)
class Sent:
    """What another process will answer. ``ref``: Ray's, which goes from stage to stage without its content."""

    ref: Any

    def result(self) -> Answered:
        import ray

        return ray.get(self.ref)  # type: ignore[no-any-return]

    def wait(self) -> None:
        import ray

        ray.wait([self.ref], fetch_local=False)


class ActorStage:
    """A ``Handle`` of the pipeline's: Ray keeps the calls of one leader in their order."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self._run = actor.run.options(concurrency_group=ORDERS)

    def submit(self, call: Call, before: Pending | None = None) -> Sent:
        given = before.ref if isinstance(before, Sent) else None if before is None else before.result()
        return Sent(self._run.remote(call, given))
