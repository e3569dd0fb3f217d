"""A runner whose model lies in stages, and the engine that answers with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glmcore import demo
from glmcore.checkpoint.locate import find_folder
from glmcore.config import ModelConfig
from glmcore.engine.batch.room import Room
from glmcore.engine.engine import Engine
from glmcore.engine.runner import Runner
from glmcore.engine.stages.pipeline import Handle, Pipeline
from glmcore.engine.stages.way import StagedWay
from glmcore.errors import GlmError
from glmcore.tokenizers import load_tokenizer


class StagedRunner(Runner):
    """As ``Runner``. The stages are one leader's: what they held for another one is forgotten."""

    model = None

    def __init__(self, pipeline: Pipeline, config: ModelConfig) -> None:
        self.pipeline, self.config, self.reused = pipeline, config, 0
        self.forget()

    def forget(self) -> None:
        self.way = StagedWay(self.pipeline, self.config)
        self.cache = self.way.rows.cache

    @property
    def layer_devices(self) -> list[str]:
        return [
            f"{facts.name}/{device}"
            for facts in self.pipeline.facts
            for device, layers in facts.devices.items()
            for _ in layers
        ]

    @property
    def weights_bytes(self) -> int:
        return sum(facts.weights_bytes for facts in self.pipeline.facts)

    def describe_backend(self) -> str:
        return "; ".join(f"{facts.name}: {facts.backend}" for facts in self.pipeline.facts)


def staged_engine(model: str | Path | None, handles: Sequence[Handle], **settings: Any) -> Engine:
    """The engine for a model whose layers are loaded in stages, which ``handles`` reach in their order.

    model: the checkpoint's folder, or its name in the local hub cache, of which configuration and tokenizer are read;
    the demo model where None.
    settings: those of ``Engine``. Errors: GlmError("plan-invalid", "stage-lost") and those of the files.
    """
    folder = demo.folder() if model is None else find_folder(model)
    config = ModelConfig.from_folder(folder)
    tokenizer = load_tokenizer(folder, config)
    pipeline = Pipeline(handles)
    check_model(pipeline, config)
    runner = StagedRunner(pipeline, config.quantised(pipeline.facts[0].bits))
    room = Room(min(facts.room for facts in pipeline.facts))
    return Engine(runner.config, tokenizer, runner, runner.describe_backend(), room=room, **settings)


def restage(engine: Engine, handles: Sequence[Handle]) -> None:
    """Let a staged engine go on with other stages, after one was lost; what the old ones held is forgotten.

    What is still under way is given up. Errors: as ``staged_engine``.
    """
    pipeline = Pipeline(handles)
    check_model(pipeline, engine.config)
    engine.runner.pipeline = pipeline
    engine.placed()


def check_model(pipeline: Pipeline, config: ModelConfig) -> None:
    """GlmError("plan-invalid") where the stages are those of another model than ``config``."""
    facts = pipeline.facts[0]
    if (facts.generation, facts.layers) != (config.generation, config.num_layers):
        what = f"the stages are those of {facts.model} with {facts.layers} layers, not of {config.name}"
        raise GlmError("plan-invalid", what, where=pipeline.names, hint="load them by a plan for this model")
