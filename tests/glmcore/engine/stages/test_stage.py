"""What a stage is asked and says: its own tensors alone, plain data, errors with its name, chunks under way at once."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
import torch
from golden_cases import GOLDEN
from staged import InThread, in_stages, stages_of

from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.reader import Checkpoint
from glmcore.config import ModelConfig
from glmcore.engine.runner import Runner
from glmcore.engine.stages.calls import Copy, Describe, Failed, Forget, Reshape, Settle, Work
from glmcore.engine.stages.load import load_stage
from glmcore.engine.stages.pipeline import Local, Pipeline
from glmcore.engine.stages.runner import StagedRunner
from glmcore.errors import GlmError
from glmcore.kernels.load import load_kernel
from glmcore.layout import piece_of
from glmcore.models.cache import KVCache
from glmcore.place.loader import load_model

V3 = GOLDEN / "v3/int4"
CONFIG = ModelConfig.from_folder(V3)


def work(**changes) -> Work:
    two = np.arange(2)
    return Work(**{"ids": two + 7, "rows": two * 0, "places": two, "positions": two[None], "prompt": 2, **changes})


@pytest.mark.parametrize("case, head", [("v3/int4", "lm_head"), ("v1/int4", "embedding"), ("v2/base", "lm_head")])
def test_only_the_stages_own_tensors_are_read(case, head, monkeypatch):
    """A tied head is the embedding's own matrix, which the last stage needs as well."""
    read = []

    def watched(method):
        return lambda self, name, *more: read.append(name) or method(self, name, *more)

    for name in ("tensor", "mapped"):
        monkeypatch.setattr(Checkpoint, name, watched(getattr(Checkpoint, name)))
    held = {}
    for first, last in ((0, 1), (1, 2), (2, 3)):
        read.clear()
        load_stage(GOLDEN / case, first, last, threads=1)
        with open_checkpoint(GOLDEN / case) as checkpoint:
            held[first] = {piece_of(checkpoint.config, name).name for name in read}
    assert held[0] == {"embedding", "layer.0"} and held[1] == {"layer.1"}
    assert held[2] == {"layer.2", "final_norm", head}


def test_what_is_asked_and_answered_travels_as_plain_data():
    first, second = stages_of(V3, (1,), 3, name="a")
    pickled = lambda value: pickle.loads(pickle.dumps(value))  # noqa: E731
    hidden = pickled(first.run(pickled(work())))
    assert hidden.dtype == np.float32 and hidden.shape == (2, CONFIG.hidden_size)
    hidden.flags.writeable = False  # as it comes out of a store that processes share
    logits = second.run(work(wanted=1), hidden)
    assert logits.shape == (1, CONFIG.vocab_size)
    model = load_model(V3, kernel=load_kernel(threads=1, precision="fast"))
    assert torch.equal(torch.from_numpy(logits)[0], Runner(model, CONFIG).prefill([7, 8]))
    facts = pickled(second.run(Describe()))
    assert (facts.first, facts.last, facts.layers, facts.bits) == (1, 3, 3, 4) and facts.devices == {"cpu": [1, 2]}


def test_errors_say_which_stage_and_go_through_the_others():
    runner = in_stages(V3, (1, 2), CONFIG)
    stages = [handle.stage for handle in runner.pipeline.handles]
    broken = stages[1].model.layers[0].input_layernorm.weight
    before = broken.clone()
    expected = runner.prefill([7, 8, 9])
    broken.fill_(float("nan"))
    runner.way.rows.hold(0, [])
    stages[1].native.held[0].fill_(float("nan"))
    with pytest.raises(GlmError) as raised:
        runner.prefill([7, 8, 9])
    assert raised.value.code == "not-finite" and "stage 1-1" in str(raised.value)
    stages[1].native.held[0].copy_(before)
    assert runner.pipeline.lost is None and torch.equal(runner.prefill([7, 8, 9]), expected)


@pytest.mark.parametrize(
    "call, before", [(work(), np.zeros((2, 8), np.float32)), (Copy(0, 5, 1), None), (Reshape(-1, 4, ()), None)]
)
def test_what_makes_no_sense_is_answered_and_not_raised(call, before):
    stage = load_stage(V3, 0, 1, threads=1)
    answer = stage.run(call, before)
    assert isinstance(answer, Failed) and answer.code == "internal" and "stage 0-0" in answer.where
    assert stage.run(work()).shape == (2, CONFIG.hidden_size)


def test_stages_that_are_none_of_one_model_are_refused():
    first, second, third = stages_of(V3, (1, 2), 3)
    other = load_stage(GOLDEN / "v3/int8", 1, 3, threads=1)
    for wrong in ([first], [second, third], [first, third], [third, first, second], [first, other]):
        with pytest.raises(GlmError, match="do not make up one model") as raised:
            Pipeline([Local(stage) for stage in wrong])
        assert raised.value.code == "plan-invalid"
    with pytest.raises(GlmError, match="layers 2-3 are none of the 3"):
        load_stage(V3, 2, 4)


def test_a_stage_without_the_memory_for_more_rows_lets_no_other_have_them(monkeypatch):
    runner = in_stages(V3, (1,), CONFIG)
    first, second = (handle.stage for handle in runner.pipeline.handles)
    way, prompt = runner.way, list(range(20, 50))
    expected = runner.prefill(prompt).clone()

    kept = KVCache._moved

    def full(cache, *given):
        if len(cache.keys) == 2:  # the second stage's
            raise MemoryError
        return kept(cache, *given)

    monkeypatch.setattr(KVCache, "_moved", full)
    with pytest.raises(GlmError) as raised:
        way.prefill({1: prompt})
    assert raised.value.code == "memory-short" and "stage 1-2" in str(raised.value)
    assert first.cache.batch == second.cache.batch == len(way.rows) == 1 and first.ready is None
    assert runner.pipeline.lost is None
    monkeypatch.undo()
    assert torch.equal(way.prefill({1: prompt})[0], expected)
    assert first.cache.batch == second.cache.batch == len(way.rows) == 2


def test_what_was_taken_is_dropped_with_its_ticket():
    runner = in_stages(V3, (1,), CONFIG)
    stages = [handle.stage for handle in runner.pipeline.handles]
    runner.prefill(list(range(20, 60)))
    tickets = [runner.cache.take(0, 20) for _ in range(3)]
    assert [len(stage.taken) for stage in stages] == [3, 3]
    del tickets[1:]
    runner.decode(5)
    assert [list(stage.taken) for stage in stages] == [[tickets[0].number]] * 2
    runner.forget()
    assert [stage.taken for stage in stages] == [{}, {}]


@pytest.mark.parametrize("leading", [InThread, Local])  # the second stage elsewhere too, or beside the leader
def test_the_first_stage_has_the_next_chunk_while_the_second_has_one(leading, monkeypatch):
    first, second = stages_of(V3, (1,), 3)
    ahead, began, run = threading.Event(), [], type(first).run

    def watched(self, call, before=None):
        if isinstance(call, Work):
            began.append(self.name)
            if began.count("0-0") == 2:
                ahead.set()
            if self is second and not began.count("1-2") > 1:
                assert ahead.wait(20), "the second chunk waited for the whole first one"
        return run(self, call, before)

    monkeypatch.setattr(type(first), "run", watched)
    runner = StagedRunner(Pipeline([InThread(first), leading(second)]), CONFIG)
    runner.way.chunk = 10
    logits = runner.prefill(list(range(20, 60)))
    assert sorted(began) == ["0-0"] * 4 + ["1-2"] * 4
    alone = load_model(V3, kernel=load_kernel(threads=1, precision="fast"))
    assert torch.equal(logits, Runner(alone, CONFIG).prefill(list(range(20, 60))))


def test_chatglms_prompt_is_interrupted_within_a_layer(monkeypatch):
    monkeypatch.setattr("glmcore.engine.sweeps.LEAST", 1)
    folder = GOLDEN / "v1/int4"
    config = ModelConfig.from_folder(folder)
    prompt = [*range(20, 60), config.gmask_token_id, config.bos_token_id]
    runner = in_stages(folder, (2,), config)
    stages = [handle.stage for handle in runner.pipeline.handles]
    runner.way.begin(0, prompt).advance(5)  # and nobody goes on with it
    assert [len(stage.going) for stage in stages] == [1, 0]
    reading, lefts = runner.way.begin(0, prompt), []
    while (logits := reading.advance(1)) is None:
        lefts.append(reading.left)
        assert sum(len(stage.going) for stage in stages) <= 1
    assert lefts == list(range(41, 0, -1))
    assert [stage.going for stage in stages] == [{}, {}]
    model = load_model(folder, kernel=load_kernel(threads=1, precision="fast"))
    assert torch.equal(logits, Runner(model, config).prefill(prompt))


def test_a_new_leader_begins_anew():
    stage, *others = stages_of(V3, (1,), 3)
    stage.run(Reshape(4, 64, ()))
    stage.run(Settle(use=True))
    assert stage.cache.batch == 4
    runner = StagedRunner(Pipeline([Local(stage), *map(Local, others)]), CONFIG)
    assert stage.cache.batch == 1 and stage.cache.capacity == runner.cache.capacity
    assert stage.run(Forget(8)) is None and stage.cache.capacity == 8
