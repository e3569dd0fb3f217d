"""One set of packages that everything admits: found where there is one, and none promised where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet

from glmdoctor.readings.ranges import Needs, solve, transformers_releases, unmet

INSTALLED = {"torch": "2.13.0", "transformers": "5.24.0"}
WHOLE = Needs("3.11.7", ">=4.44", (13, 0), ((9, 0),), INSTALLED, {}, "13.0", True)


def test_what_goes_together_stays() -> None:
    solution = solve(WHOLE)
    assert solution is not None and solution.install == () and solution.torch == "2.13.0"


def test_pascal_gets_the_last_torch_that_has_its_code() -> None:
    solution = solve(replace(WHOLE, cards=((6, 1),), torch_runs=False))
    assert solution is not None and solution.install == ("torch==2.7.1",) and solution.index is None


def test_an_old_driver_gets_a_torch_for_its_cuda_from_its_index() -> None:
    solution = solve(replace(WHOLE, ceiling=(11, 4), cards=((8, 0),)))
    assert solution is not None and solution.install == ("torch==2.7.1+cu118",)
    assert solution.arguments[-2:] == ("--extra-index-url", "https://download.pytorch.org/whl/cu118")


def test_python_torch_and_transformers_bound_each_other() -> None:
    bare = replace(WHOLE, packages={}, torch_cuda=None)
    new, old = solve(bare), solve(replace(bare, python="3.10.2"))
    assert new is not None and new.install == ("torch==2.13.0", "transformers==5.24.0")
    assert old is not None and old.install == ("torch==2.13.0", "transformers==5.0.0")
    aged = solve(replace(bare, python="3.8.10", ceiling=(12, 0), cards=((6, 1),)))
    assert aged is not None and aged.install == ("torch==2.4.1", "transformers==4.44.2")


def test_the_range_of_a_checkpoints_own_code() -> None:
    solution = solve(replace(WHOLE, transformers=">=4.27.1,<4.34"))
    assert solution is not None and solution.install == ("transformers==4.33.3",)
    assert solve(replace(WHOLE, transformers=">=4.27.1,<4.34", python="3.13.1")) is None


def test_no_card_takes_the_build_for_the_cpu() -> None:
    solution = solve(Needs("3.12.1", ">=4.44"))
    assert solution is not None and "whl/cpu" in str(solution.index)


def test_the_installed_wheels_own_metadata_is_believed() -> None:
    requires = {"transformers": ("python>=3.11", "torch>=2.14; extra == 'torch'")}
    solution = solve(replace(WHOLE, requires=requires))
    assert solution is not None and solution.install == ("transformers==5.23.0",)


def test_without_transformers_it_is_not_asked_for() -> None:
    solution = solve(replace(WHOLE, transformers=None, packages={"torch": "2.13.0"}, others=("tiktoken>=0.7",)))
    assert solution is not None and solution.install == ("tiktoken>=0.7",)


@pytest.mark.parametrize(
    ("line", "met"),
    [
        ("torch>=2.0; extra == 'torch'", True),
        ("torch>=3; extra == 'torch'", False),
        ("accelerate>=1; extra == 'torch'", True),  # not installed: the extra was not asked for
        ("filelock", False),  # not installed, and needed always
        ("python>=3.12", False),
        ("tokenizers (<0.20,>=0.19)", True),  # as older wheels write it
        ("!!! no requirement", True),
    ],
)
def test_requirements_of_wheels(line: str, met: bool) -> None:
    packages = {"torch": "2.13.0+cpu", "tokenizers": "0.19.1"}
    assert (unmet([line], packages, "3.11.7") == ()) == met


def test_the_tables_are_sound() -> None:
    for row in transformers_releases():
        assert SpecifierSet(row["python"]) and SpecifierSet(row["torch"])
