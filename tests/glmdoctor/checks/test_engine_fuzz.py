"""Whatever the facts say, the examination gives a report: facts drawn from their types alone."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from glmdoctor.checks import ALL, Machine, examine
from glmdoctor.findings import Status
from glmdoctor.host.facts import Unknown

json_values = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=3)
versions = st.sampled_from(["", "?", "535.183.01", "550.54.14", "1", "12.1", "13.0", "2.4.0+cu121", "0.0.0.dev0"])
words = st.text(max_size=12) | versions | st.sampled_from(["10de", "cuda", "/dev/nvidia0", "libcuda.so.1", "v1", "v2"])


class Drawn:
    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


@st.composite
def machines(draw: st.DrawFn) -> Drawn:
    return Drawn({name: draw(st.from_type(fact.kind | Unknown)) for name, fact in Machine.table().items()})


st.register_type_strategy(str, words)
st.register_type_strategy(object, json_values)


# A machine is a large example: shrinking one takes minutes and the crash names its line anyway.
@settings(max_examples=50, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(machines())
def test_no_facts_break_the_examination(host: Any) -> None:
    report = examine(host, deep=True)
    assert not [(f.id, f.evidence) for f in report.findings if f.status is Status.CRASHED]
    assert {f.id for f in report.findings} == {c.id for c in ALL}
    assert report.exit_status in (0, 1)
    bad = [f for f in report.findings if f.bad]
    assert not bad or report.root_causes
    assert all(f.root_cause != bool(f.caused_by) for f in bad)
