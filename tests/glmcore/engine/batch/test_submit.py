"""The engine as programs use it: many answers at once, by iterating, by awaiting, in a batch."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

import glmcore
from glmcore.engine.batch import loop
from glmcore.engine.sampling import Sampling
from glmcore.errors import GlmError

PROMPTS = ["hello", "what is libcuda?", "gcc", "我没有gcc怎么办", "显存不够"]
GREEDY = Sampling(0, 1)


@pytest.fixture(scope="module")
def engine():
    return glmcore.load(quantize="int8", threads=1)


@pytest.fixture(scope="module")
def alone(engine) -> list[str]:
    return [engine.submit(text, max_new_tokens=12, sampling=GREEDY).text() for text in PROMPTS]


def test_a_batch_is_answered_in_its_order_and_as_one_by_one(engine, alone: list[str]) -> None:
    assert engine.generate(PROMPTS * 5, max_new_tokens=12, temperature=0) == alone * 5
    assert max(engine.loop.costs.steps) > 4  # some steps were for many


def test_answers_can_be_awaited_side_by_side(engine, alone: list[str]) -> None:
    async def ask(text: str) -> str:
        return "".join([piece.text async for piece in engine.submit(text, max_new_tokens=12, sampling=GREEDY)])

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*map(ask, PROMPTS))

    assert asyncio.run(all_of_them()) == alone


def test_an_answer_can_be_read_again(engine, alone: list[str]) -> None:
    """In a thread of its own: who waited for pieces that had been told already waited for ever."""
    answer, found = engine.submit(PROMPTS[0], max_new_tokens=12, sampling=GREEDY), list[str]()

    def read() -> None:
        found.extend([answer.text(), answer.text(), "".join(piece.text for piece in answer)])

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(30)
    assert found == [alone[0]] * 3


def test_one_text_is_not_taken_for_many(engine) -> None:
    for call in (engine.generate, engine.embed):
        with pytest.raises(GlmError, match="a list of texts is needed"):
            call("hello")
    with pytest.raises(GlmError, match="0 tokens or more, not -1"):
        engine.submit("hello", max_new_tokens=-1)


def test_threads_may_share_an_engine(engine) -> None:
    talks = [[{"role": "user", "content": text}] for text in PROMPTS]
    alone = [engine.chat(talk, temperature=0, max_new_tokens=12) for talk in talks]
    found: dict[int, str] = {}

    def talk(number: int) -> None:
        found[number] = "".join(engine.stream(talks[number], temperature=0, max_new_tokens=12))

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(len(talks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(talks))] == alone


def test_an_answer_that_is_not_read_to_its_end_is_given_up(engine) -> None:
    answer = engine.submit(PROMPTS[0], max_new_tokens=1500, sampling=Sampling(100, 1, 4))
    for piece in answer:
        assert piece.token is not None
        break
    assert engine.loop.idle_within(20) and answer.ending.finish_reason in ("cancelled", "stop")
    assert answer.ending.stats.generated_tokens < 1500


def test_an_engine_that_nobody_has_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LINGER", 0.05)
    engine = glmcore.load(threads=1)
    engine.generate(["hello"], max_new_tokens=2)
    thread, kept = engine.loop._thread, weakref.ref(engine)
    del engine
    if thread is not None:
        thread.join(20)
    del thread
    gc.collect()
    assert kept() is None


def test_several_continuations_of_a_text_come_one_after_the_other(engine) -> None:
    settings = {"max_new_tokens": 8, "temperature": 1.0, "top_p": 1.0}
    both = engine.generate(PROMPTS[:2], n=3, seed=5, **settings)
    alone = [engine.generate([text], seed=seed, **settings)[0] for text in PROMPTS[:2] for seed in (5, 6, 7)]
    assert both == alone and len(set(both)) > 3
