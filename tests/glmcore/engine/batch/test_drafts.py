"""Tokens that a grammar leaves no choice about go through one step, and change nothing but how many steps there are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

import glmcore
from glmcore.engine.batch.answer import Answer
from glmcore.engine.batch.lookup import Lookup
from glmcore.engine.batch.worth import StepCosts
from glmcore.engine.engine import Engine
from glmcore.engine.sampling import Sampling
from glmcore.grammar.forms import json_schema
from glmcore.grammar.matcher import Matcher

pytest.importorskip("llguidance")
sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "scripts"))
import check_schemas

SCHEMAS = list(islice((each for each in check_schemas.schemas(200) if "properties" in each), 6))
CHEAP, DEAR = {1: 1, 16: 1.1}, {1: 1, 16: 16}


class Told(StepCosts):
    """A double that learns nothing: what steps take here is not what the test is about."""

    def note(self, rows: int, seconds: float) -> None:
        pass


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield glmcore.load(quantize="int8", threads=1, lookup=False)


def asked(engine: Engine, costs: dict[int, float] | None) -> list[Answer]:
    """Answers by schemas, all at once, drawn by a seed, with a likelihood for what ends them."""
    engine.loop.step_costs = Told(costs) if costs else None
    ends = check_schemas.likelier(engine, 14)
    with engine.together():
        answers = [
            engine.submit(
                "Answer: ", max_new_tokens=60, sampling=Sampling(1, 1, number, logit_bias=ends), logprobs=1,
                grammar=json_schema(schema, engine.config.generation),
            )
            for number, schema in enumerate(SCHEMAS)
        ]  # fmt: skip
    for answer in answers:
        answer.text()
    return answers


@pytest.fixture(scope="module")
def singly(engine: Engine) -> list[Answer]:
    return asked(engine, None)


def test_what_must_come_comes_in_fewer_steps_and_nothing_else_changes(
    engine: Engine, singly: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lookup, "guess", lambda self, most: ([], []))
    drafted = asked(engine, CHEAP)
    for one, other in zip(singly, drafted, strict=True):
        assert one.sequence.output == other.sequence.output
        assert one.logprobs == other.logprobs
        assert one.sampler.generator(None).get_state().equal(other.sampler.generator(None).get_state())
        assert one.ending.finish_reason == other.ending.finish_reason
        assert other.stats.rejected_drafts == 0
        assert other.stats.decode_steps + other.stats.accepted_drafts == one.stats.decode_steps
    assert sum(each.stats.accepted_drafts for each in drafted) > 20


def test_guesses_from_the_text_go_beside_them(engine: Engine, singly: list[Answer]) -> None:
    drafted = asked(engine, CHEAP)
    assert [each.sequence.output for each in singly] == [each.sequence.output for each in drafted]
    assert [each.logprobs for each in singly] == [each.logprobs for each in drafted]


def test_nothing_is_forced_where_it_does_not_pay(engine: Engine) -> None:
    drafted = asked(engine, DEAR)
    assert sum(each.stats.accepted_drafts for each in drafted) == 0


def test_asking_what_must_come_moves_nothing_on(engine: Engine) -> None:
    """Every token of it is then the only one that is allowed."""
    forced = 0
    for schema in SCHEMAS:
        plain, curious = (engine.grammars.matcher(json_schema(schema, engine.config.generation)) for _ in range(2))
        for place in range(30):
            ahead = curious.forced()
            assert curious.forced() == ahead and curious.allowed() == plain.allowed()
            for token in ahead:
                assert allowed(curious) == [token] == allowed(plain)
                curious.note(token)
                plain.note(token)
            forced += len(ahead)
            choices = allowed(plain)
            if not choices or choices[0] in engine.stop_ids:
                break
            token = choices[place * 7919 % len(choices)]
            if token in engine.stop_ids:
                break
            curious.note(token)
            plain.note(token)
    assert forced > 20


def allowed(matcher: Matcher) -> list[int]:
    return [token for token, may in enumerate(matcher.allowed()) if may]
