"""The examination itself: selection, isolation, root causes, order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmdoctor.checks import ALL, Check, UnknownCheck, examine, select
from glmdoctor.checks.base import bad, ok
from glmdoctor.checks.engine import examine_with
from glmdoctor.findings import Finding, Report, Status
from glmdoctor.host.facts import Unknown
from glmdoctor.messages import Text

WORD = Text("word")


def check(id: str, *found: Finding, explained_by: tuple[str, ...] = (), needs: tuple[str, ...] = ()) -> Check:
    problems = tuple(f.problem for f in found if f.problem)
    return Check(id, WORD, lambda host: iter(found), problems, needs, explained_by)


def fail(problem: str) -> Finding:
    return bad(Status.FAIL, problem, WORD, WORD)


def warn(problem: str) -> Finding:
    return bad(Status.WARN, problem, WORD, WORD)


def by_id(report: Report) -> dict[str, Finding]:
    return {finding.id: finding for finding in report.findings}


class Blank:
    """A machine of which nothing is known."""

    def __getattr__(self, name: str) -> Unknown:
        return Unknown(f"no {name}")


def run(*checks: Check, host: Any = None) -> Report:
    return examine_with(checks, host or Blank())


def test_a_consequence_names_its_cause_and_follows_it() -> None:
    report = run(
        check("b", fail("later"), explained_by=("first",)), check("x", fail("other")), check("a", fail("first"))
    )
    assert [f.id for f in report.findings] == ["x", "a", "b"]
    assert report.root_causes == (by_id(report)["x"], by_id(report)["a"])
    assert by_id(report)["b"].caused_by == ("a",) and not by_id(report)["b"].root_cause


def test_a_chain_of_causes_has_one_root() -> None:
    a, b, c = (
        check("a", fail("1")),
        check("b", fail("2"), explained_by=("1",)),
        check("c", fail("3"), explained_by=("2",)),
    )
    report = run(c, b, a)
    assert [f.id for f in report.root_causes] == ["a"]
    assert [f.id for f in report.findings] == ["a", "b", "c"]


def test_a_warning_does_not_explain_a_failure() -> None:
    report = run(check("a", warn("1")), check("b", fail("2"), explained_by=("1",)))
    assert [f.id for f in report.root_causes] == ["b", "a"]


def test_a_failure_explains_a_warning() -> None:
    report = run(check("a", fail("1")), check("b", warn("2"), explained_by=("1",)))
    assert by_id(report)["b"].caused_by == ("a",)


def test_a_circle_of_explanations_still_has_a_root() -> None:
    report = run(check("a", fail("1"), explained_by=("2",)), check("b", fail("2"), explained_by=("1",)))
    assert len(report.root_causes) == 1 and len(report.findings) == 2


def test_a_healthy_finding_is_no_root_cause() -> None:
    assert run(check("a", ok(WORD, WORD))).root_causes == ()


def test_a_broken_check_is_a_finding_and_stops_nothing() -> None:
    def broken(host: object) -> Iterator[Finding]:
        yield fail("before")
        raise KeyError("nothing")

    report = run(Check("a", WORD, broken), check("b", ok(WORD, WORD)))
    assert [(f.id, f.status) for f in report.findings] == [
        ("a", Status.FAIL), ("a", Status.CRASHED), ("b", Status.OK),
    ]  # fmt: skip
    crashed = report.findings[1]
    assert crashed.evidence["error"] == "KeyError: 'nothing'"
    assert str(crashed.evidence["where"]).startswith("test_engine.py:")


def test_a_crash_alone_gives_exit_status_3() -> None:
    def broken(host: object) -> Iterator[Finding]:
        raise RuntimeError("no")
        yield

    assert run(Check("a", WORD, broken)).exit_status == 3


def test_a_check_without_its_facts_is_skipped_with_the_reason() -> None:
    [finding] = run(check("a", ok(WORD, WORD), needs=("memory",))).findings
    assert finding.status is Status.SKIPPED and "no memory" in finding.detail.render("en")


def test_order_of_status() -> None:
    found = [ok(WORD, WORD), warn("w"), fail("f")]
    report = run(check("s", needs=("os",)), *(check(str(i), f) for i, f in enumerate(found)))
    assert [f.status.value for f in report.findings] == ["fail", "warn", "ok", "skipped"]


def test_selection_by_check_and_by_problem() -> None:
    checks = (check("cuda.a", fail("p")), check("cuda.b", fail("q")))
    assert [c.id for c in select(checks, only=["p"])] == ["cuda.a"]
    assert [c.id for c in select(checks, skip=["cuda.a"])] == ["cuda.b"]
    assert [c.id for c in select(checks, only=["cuda.a", "cuda.b"], skip=["q"])] == ["cuda.a"]


def test_an_unknown_id_names_the_close_ones() -> None:
    with pytest.raises(UnknownCheck, match=r"did you mean cuda\.libcuda-link") as error:
        examine(Blank(), only=["cuda.libcuda-lnk"])
    assert isinstance(error.value, ValueError)
    with pytest.raises(UnknownCheck, match="glmdoctor list"):
        examine(Blank(), skip=["zzzzzzzzzz"])


def test_ids_are_unique_and_explanations_have_no_circle() -> None:
    assert len({c.id for c in ALL}) == len(ALL)
    graph: dict[str, set[str]] = {}
    for c in ALL:
        for problem in c.problems:
            graph.setdefault(problem, set()).update(set(c.explained_by) - set(c.problems))

    def reaches(start: str, target: str, seen: set[str]) -> bool:
        following = graph.get(start, set()) - seen
        return target in following or any(reaches(p, target, seen | following) for p in following)

    assert not [problem for problem in graph if reaches(problem, problem, set())]


def test_nothing_known_is_no_failure() -> None:
    report = examine(Blank())
    assert report.exit_status == 0 and report.summary["crashed"] == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 19)), st.booleans())
def test_whatever_is_unknown_no_check_breaks(
    cpu_machine: Any, gpu_machine: Any, chatglm2: Any, hidden: set[int], gpu: bool
) -> None:
    whole = (gpu_machine if gpu else cpu_machine).having(checkpoint=chatglm2)
    names = sorted(whole.facts)
    report = examine(whole.having(**{names[i]: Unknown("hidden") for i in hidden}), deep=True)
    assert not [f for f in report.findings if f.status is Status.CRASHED]
    assert {c.id for c in ALL} == {f.id for f in report.findings}
    for finding in report.findings:
        assert finding.title.render("zh") and finding.detail.render("zh")
        assert finding.problem is None or finding.bad
