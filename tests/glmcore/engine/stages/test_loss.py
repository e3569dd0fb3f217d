"""A stage that dies: all who were being answered hear it, no row stays taken, and with a new one all goes on."""

from __future__ import annotations

import random

import pytest
import torch
from crowds import Asked, alone, crowd
from golden_cases import GOLDEN
from staged import Faulty, InProcess, stages_of

from glmcore import demo
from glmcore.config import ModelConfig
from glmcore.engine.batch.answer import Answer, Item
from glmcore.engine.batch.loop import Loop
from glmcore.engine.batch.scheduler import Scheduler
from glmcore.engine.batch.worth import StepCosts
from glmcore.engine.sampling import Sampling
from glmcore.engine.stages.calls import Holdings, Report
from glmcore.engine.stages.pipeline import Local, Pipeline
from glmcore.engine.stages.runner import StagedRunner, restage, staged_engine
from glmcore.engine.stages.stage import Stage
from glmcore.errors import GlmError
from glmcore.kernels.load import load_kernel
from glmcore.place.loader import load_model

CASES = {"v3/int4": 35, "v1/int8": 15}  # and how often a stage of it is lost


pytestmark = pytest.mark.usefixtures("one_thread")


def fresh(stage: Stage) -> Stage:
    """As it is in a new process: the same weights, and nothing else."""
    return Stage(stage.name, stage.model, stage.part, stage.kept, stage.room)


def served(loop: Loop, asked: list[Asked], config, chance: random.Random) -> tuple[list[Answer], list[list[Item]]]:
    """In turns until all have ended, well or not; what each of them heard."""
    loop.costs.tokens_beside = lambda rows, seconds: chance.randint(1, 50)
    answers: list[Answer] = [each.answer(config) for each in asked]
    heard: list[list[Item]] = [[] for _ in asked]
    for answer, items in zip(answers, heard, strict=True):
        answer.listen(items.append)
    turn = 0
    while not all(items and (answer.ending or isinstance(items[-1], Exception))
                  for answer, items in zip(answers, heard, strict=True)):  # fmt: skip
        for each, answer in zip(asked, answers, strict=True):
            if each.comes == turn:
                loop.scheduler.add(answer)
        loop.runner.way.piece = chance.randint(1, 60)
        loop.turn()
        if chance.random() < 0.3:
            loop.freshen()
            loop.seats.compact()
        turn += 1
        assert turn < 2000
    return answers, heard


@pytest.mark.parametrize("case", CASES)
def test_stages_that_are_lost_at_any_moment_leak_nothing_and_no_answer_is_wrong(case: str) -> None:
    """Between any two calls, of steps, prompts, rows that are made, copied, kept apart: 50 losses in a row."""
    model = load_model(GOLDEN / case, kernel=load_kernel(threads=1, precision="fast"))
    config, chance = model.config, random.Random(11)
    stages, lost, told, whole = stages_of(GOLDEN / case, (1, 2), config.num_layers), 0, 0, 0
    asked = [each for each in crowd(config, chance, 24) if each.leaves is None]
    expected = [alone(model, config, each, None) for each in asked]
    while lost < CASES[case]:
        handles = [Faulty(Local(stage)) for stage in stages]
        runner = StagedRunner(Pipeline(handles), config)
        doomed = chance.randrange(len(stages))
        handles[doomed].lost_at = len(handles[doomed].calls) + chance.randint(0, 120)
        loop = Loop(runner, Scheduler(8), prefix_bytes=60_000, step_costs=StepCosts({1: 1, 16: 1.1}))
        answers, heard = served(loop, asked, config, chance)
        for each, answer, items, (tokens, logits) in zip(asked, answers, heard, expected, strict=True):
            found = answer.sequence.output
            assert found == tokens[: len(found)], each
            assert all(torch.equal(mine, other) for mine, other in zip(each.sampler.seen, logits, strict=False))
            whole += answer.ending is not None and len(found) == len(tokens)
            if answer.ending is None:
                told += 1
                [error] = [item for item in items if isinstance(item, Exception)]
                assert isinstance(error, GlmError) and error.code == "stage-lost", error
                assert f"stage {stages[doomed].name} " in str(error)
        assert not loop.scheduler and not loop.seats.taken and not loop._readings
        if runner.pipeline.lost is not None:
            lost += 1
            assert not any(loop.way.rows.held[row] for row in range(len(loop.way.rows)) if row not in loop.seats.free)
            stages[doomed] = fresh(stages[doomed])
        del loop, runner  # with all tickets
        after = Pipeline([Local(stage) for stage in stages])
        again = StagedRunner(after, config)
        assert after.all(Report()) == [Holdings(1, again.cache.capacity, 0)] * len(stages)
    assert told > CASES[case] and whole > CASES[case]


def test_a_process_that_is_killed_ends_what_it_was_in_and_a_new_one_goes_on() -> None:
    folder = demo.folder()
    config = ModelConfig.from_folder(folder)
    cuts = (0, config.num_layers // 2, config.num_layers)
    first, second = (InProcess(f"p{n}", folder, cuts[n], cuts[n + 1], quantize="int8") for n in (0, 1))
    new = None
    try:
        engine = staged_engine(None, [first, second], lookup=False)
        assert set(engine.runner.layer_devices) == {"p0/cpu", "p1/cpu"} and engine.config.quantization_bit == 8
        texts, greedy = ["hello", "what is libcuda?", "gcc"], Sampling(0, 1)
        before = [engine.submit(text, max_new_tokens=12, sampling=greedy).text() for text in texts]
        answers = [engine.submit(text, max_new_tokens=1500, sampling=Sampling(100, 1, 4)) for text in texts]
        pieces = [iter(answer) for answer in answers]
        for each in pieces:
            next(each)
        second.kill()
        for each in pieces:
            with pytest.raises(GlmError, match="stage p1 does not answer") as raised:
                list(each)
            assert raised.value.code == "stage-lost"
        with pytest.raises(GlmError, match="stage p1 does not answer"):
            engine.submit(texts[0], sampling=greedy).text()
        assert not engine.loop.seats.taken and not engine.loop.scheduler
        new = InProcess("p2", folder, cuts[1], cuts[2], quantize="int8")
        restage(engine, [first, new])
        assert [engine.submit(text, max_new_tokens=12, sampling=greedy).text() for text in texts] == before
        engine.loop.close(20)
    finally:
        for each in (first, second, *([new] if new else [])):
            each.close()
