"""What scripts/house.py measures stays within what has been reached; and it finds a circle where there is one."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path
from typing import Any

import pytest

from glmcore.traits import TRAITS

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("house", ROOT / "scripts" / "house.py")
assert spec is not None and spec.loader is not None
house = importlib.util.module_from_spec(spec)
spec.loader.exec_module(house)


def test_the_doctor_has_few_rooms_and_no_circle() -> None:
    rooms, found = house.arrows(ROOT, "glmdoctor")
    assert len(rooms) <= 16
    assert len(found) <= 57
    assert house.circles(found) == []


@pytest.mark.parametrize("package", house.PACKAGES)
def test_every_room_is_told_of(package: str) -> None:
    told = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    asked = {name for row in told.splitlines() if row.startswith("| `") for name in row.split("|")[1].split("`")[1::2]}
    assert house.arrows(ROOT, package)[0] <= asked


def test_the_core_has_no_circle() -> None:
    assert house.circles(house.arrows(ROOT, "glmcore")[1]) == []


def test_generations_differ_in_a_table_and_not_in_comparisons() -> None:
    assert house.generations(ROOT) == set(TRAITS)
    assert house.comparisons(ROOT) <= 3


def test_functions_fit_the_eye() -> None:
    lines = house.lengths(ROOT)
    assert statistics.median(lines) <= 5
    assert lines[int(len(lines) * 0.9)] <= 17
    assert lines[-1] <= 45


@pytest.mark.parametrize(
    "package, asks, says",
    [("glmcore", house.takes_tensors, house.SHAPE), *((each, house.raises, house.ERROR) for each in house.PACKAGES)],
    ids=["shapes", "doctor", "core"],
)
def test_docstrings_give_shapes_and_errors(package: str, asks: Any, says: str) -> None:
    found = house.told(ROOT, package, asks, says)
    assert len(found) > 20 and not [name for name, told in found.items() if not told]


def test_a_problems_id_is_spelled_in_few_files() -> None:
    count, name = house.id_files(ROOT)
    assert count <= 3, name


def test_a_circle_through_a_third_room_is_found() -> None:
    assert house.circles({("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")}) == [("a", "b"), ("a", "c"), ("b", "c")]
