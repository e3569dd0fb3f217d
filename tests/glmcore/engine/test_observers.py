"""What is made of a prompt's states: the logprobs of its tokens and its embedding, whichever way the model runs."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from golden_cases import GOLDEN

import glmcore
from glmcore.engine.batch.answer import Answer
from glmcore.engine.batch.costs import LEAST
from glmcore.engine.batch.loop import Loop
from glmcore.engine.batch.scheduler import Scheduler
from glmcore.engine.logprobs import logprob_of
from glmcore.engine.observers import MeanState, Observed, Observer, PromptLogprobs
from glmcore.engine.runner import Runner
from glmcore.engine.sampling import Sampler, Sampling
from glmcore.engine.sequence import Sequence
from glmcore.engine.ways import NativeWay
from glmcore.errors import GlmError
from glmcore.kernels.load import PRECISIONS, load_kernel
from glmcore.layout import piece_names
from glmcore.place.loader import load_model
from glmcore.place.multi_devices import place_model

CAUSAL = ["v2/base", "v3/rope-ratio", "glm4/base"]


class Mute:
    """In place of an answer's text: these checkpoints have no tokenizer."""

    found, stopped = None, False
    push = lambda self, token: ""  # noqa: E731
    flush = lambda self: ""  # noqa: E731


def prompt_of(config, length: int, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(5, config.vocab_size - 20) for _ in range(length)]


def observed(way, prompt: list[int], observer: Observer, pieces=lambda: 10**6, row: int = 0) -> Observer:
    reading = Observed(way.begin(row, prompt, 0), observer)
    while reading.advance(pieces()) is None:
        pass
    return observer


@torch.inference_mode()
def by_modules(model, prompt: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """log_softmax [S, V] and the normed states [S, hidden size] of one whole forward pass."""
    states: list[torch.Tensor] = []
    logits = model(torch.tensor([prompt]), states=states)[0]
    last = states[-1][0]
    done_already = not model.config.traits.causal or model.final_norm is None
    return logits.float().log_softmax(-1), last if done_already else model.final_norm(last)


def unit(states: torch.Tensor) -> torch.Tensor:
    return states.mean(0) / states.mean(0).norm()


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("case", CAUSAL)
def test_a_prompts_logprobs_are_those_of_a_teacher_forced_run(case: str, parts: int) -> None:
    model = load_model(GOLDEN / case, dtype="float32")
    names = piece_names(model.config)
    place_model(model, {name: f"cpu:{number * parts // len(names)}" for number, name in enumerate(names)})
    prompt, way = prompt_of(model.config, 100), Runner(model, model.config).way
    found = observed(way, prompt, PromptLogprobs(model.config, prompt, 3)).found
    rows, states = by_modules(model, prompt)
    assert found[0] is None and [each.token for each in found[1:]] == prompt[1:]
    for each, row in zip(found[1:], rows, strict=False):
        assert each.value == pytest.approx(float(row[each.token]), abs=1e-4)
        assert [value for _, value in each.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)
    mean = observed(way, prompt, MeanState(range(2, 90))).vector
    torch.testing.assert_close(mean, unit(states[2:90]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", ["v2/int8", "v3/int4", "glm4/int8"])
def test_of_the_native_step_any_pieces_have_the_same_bits(case: str, precision: str) -> None:
    """And in light and exact they are those that the tokens have as an answer."""
    model = load_model(GOLDEN / case, kernel=load_kernel(threads=1, precision=precision))
    config = model.config
    prompt, chance = prompt_of(config, 60), random.Random(3)
    way = Runner(model, config).way
    assert isinstance(way, NativeWay)
    whole = observed(way, prompt, PromptLogprobs(config, prompt, 2)).found
    mean = observed(way, prompt, MeanState(range(60))).vector
    for row in (1, 0):
        pieces = lambda: chance.randint(1, 40)  # noqa: E731
        assert observed(way, prompt, PromptLogprobs(config, prompt, 2), pieces, row).found == whole
        assert torch.equal(observed(way, prompt, MeanState(range(60)), pieces, row).vector, mean)
    first = 30
    alone = Runner(model, config)
    logits = alone.prefill(prompt[:first])
    forced = [logprob_of(logits, prompt[first], 2)]
    for token, following in zip(prompt[first:], prompt[first + 1 :], strict=False):
        forced.append(logprob_of(alone.decode(token), following, 2))
    if precision != "fast":  # whose prompts keep less than answers
        assert whole[first:] == forced
    rows, states = by_modules(model, prompt)
    expected = [float(row[token]) for row, token in zip(rows, prompt[1:], strict=False)]
    apart = [abs(each.value - other) for each, other in zip(whole[1:], expected, strict=True)]
    assert sum(apart) / len(apart) < (0.3 if precision == "fast" else 0.05)
    assert float(unit(states) @ mean) > 0.999


@pytest.mark.parametrize("case", ["v1/base", "v1/int8"])
def test_chatglm_6bs_tokens_have_logprobs_behind_sop_alone(case: str) -> None:
    kernel = load_kernel(threads=1, precision="light") if case.endswith("int8") else None
    model = load_model(GOLDEN / case, dtype="float32", kernel=kernel)
    config = model.config
    context, answer = prompt_of(config, 20), prompt_of(config, 9, seed=2)
    prompt = [*context, config.gmask_token_id, config.bos_token_id, *answer]
    runner = Runner(model, config)
    rows = [runner.prefill(prompt[:22])]
    rows += [runner.decode(token).clone() for token in answer[:-1]]
    observer = PromptLogprobs(config, prompt, 1)
    found = observed(Runner(model, config).way, prompt, observer).found
    assert observer.tells and found[:22] == [None] * 22 and len(found) == len(prompt)
    for each, row, token in zip(found[22:], rows, answer, strict=True):
        assert each.value == pytest.approx(float(row.log_softmax(-1)[token]), abs=1e-4)
    assert not PromptLogprobs(config, prompt[:22], 1).tells and PromptLogprobs(config, context, 1).tells
    mean = observed(Runner(model, config).way, prompt, MeanState(range(20))).vector
    _, states = by_modules(model, prompt)
    torch.testing.assert_close(mean, unit(states[:20]), atol=2e-2 if kernel else 1e-5, rtol=1e-4)


def test_never_more_than_a_few_tokens_logits_are_there() -> None:
    for kernel, most in ((None, 64), (load_kernel(threads=1, precision="fast"), 16)):
        model = load_model(GOLDEN / "v2/int8", kernel=kernel)
        way = Runner(model, model.config).way
        sizes = [len(few) for few in way.logits(torch.zeros(150, model.config.hidden_size))]
        assert sum(sizes) == 150 and max(sizes) == most


def answer_of(config, prompt: list[int], tokens: int, observer: Observer | None = None) -> Answer:
    heard = Answer(Sequence(tuple(prompt), tokens, frozenset()), Sampler(Sampling(0, 1)), Mute(), observer=observer)
    heard.listen(lambda item: None)
    return heard


class Watching(PromptLogprobs):
    def _see(self, way, states):
        self.shown = [*getattr(self, "shown", []), len(states)]
        super()._see(way, states)


def test_answers_are_not_held_up_by_what_is_observed() -> None:
    model = load_model(GOLDEN / "v2/int8", kernel=load_kernel(threads=1, precision="fast"))
    loop = Loop(Runner(model, model.config), Scheduler(4))
    talking = answer_of(model.config, [7, 8, 9], 60)
    loop.scheduler.add(talking)
    loop.turn()
    prompt = prompt_of(model.config, 200)
    scoring = answer_of(model.config, prompt, 0, Watching(model.config, prompt, 0))
    loop.costs.token = 1e-9  # plain reading costs nothing
    loop.scheduler.add(scoring)
    turns = 0
    while scoring.ending is None:
        before = len(talking.sequence.output)
        loop.turn()
        turns += 1
        assert len(talking.sequence.output) == before + 1 or talking.ending
    shown = scoring.observer.shown
    assert shown[0] == LEAST and sum(shown) == 200 and turns > 1  # what one costs is not known before
    assert scoring.ending.finish_reason == "length" and len(scoring.observer.found) == 200
    assert not scoring.sequence.output and loop.costs.observed


@pytest.mark.parametrize("case", ["v1/int8", "v1/base", "v2/base"])
def test_no_more_states_are_shown_at_once_than_tokens_are_read(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a prompt that sees itself both ways all states are there at once."""
    monkeypatch.setattr("glmcore.engine.ways.module.CPU_CHUNK", 16)
    kernel = load_kernel(threads=1, precision="fast") if case.endswith("int8") else None
    model = load_model(GOLDEN / case, dtype="float32", kernel=kernel)
    prompt = prompt_of(model.config, 100)
    found = []
    for most in (7, 40, 1000):
        way, observer = Runner(model, model.config).way, Watching(model.config, prompt, 2)
        reading, lefts = Observed(way.begin(0, prompt, 0), observer), [100]
        while reading.advance(most) is None:
            lefts.append(reading.left)
        assert max(observer.shown) <= (most if kernel else 16) and sum(observer.shown) == 100
        assert all(before > after for before, after in pairwise(lefts))
        found.append(observer.found)
    assert len(found[0]) == 100 and found[0] == found[1] == found[2]


def test_what_the_cache_holds_is_read_again() -> None:
    engine = glmcore.load(quantize="int8", precision="light", threads=1)
    ids = engine.prompt_ids("what is libcuda, and what is gcc? " * 3)
    first, again = (engine.prompt_logprobs(ids, 2) for _ in range(2))
    engine.submit(ids, max_new_tokens=3, sampling=Sampling(0, 1)).text()
    for observer in (first, again):
        answer = engine.submit(ids, max_new_tokens=0, observer=observer)
        assert answer.text() == "" and answer.stats.reused_tokens == 0
    assert first.found == again.found and len(first.found) == len(ids)


def test_texts_that_are_alike_lie_close() -> None:
    engine = glmcore.load(threads=1)
    ids = engine.tokenizer.encode("gcc is missing")
    vectors = engine.embed(["gcc is missing", "gcc is not there", "显存不够", ids])
    assert vectors.shape == (4, engine.config.hidden_size) and vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    assert torch.equal(vectors[0], vectors[3])
    assert float(vectors[0] @ vectors[1]) > float(vectors[0] @ vectors[2])
    for nothing in ("", []):
        with pytest.raises(GlmError):
            engine.embed([nothing])
    with pytest.raises(GlmError, match="context"):
        engine.embed([[9] * engine.context])
