"""The torch build that start.sh installs, for machines that are not here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("choose_torch", ROOT / "scripts" / "choose_torch.py")
choose_torch = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(choose_torch)
TABLE = json.loads(choose_torch.TABLE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "ceiling, cards, python, version",
    [
        (None, [], (3, 11), None),  # no driver: the CPU build
        ((13, 0), [90], (3, 12), "2.13.0"),
        ((12, 8), [86], (3, 11), "2.9.1"),
        ((12, 2), [86], (3, 11), "2.4.1"),  # driver 535: nothing above CUDA 12.2
        ((13, 0), [61, 61], (3, 10), "2.7.1"),  # Tesla P4 and P104-100: the last build with Pascal
        ((13, 0), [61, 120], (3, 11), None),  # no build has code for both a Pascal and a Blackwell card
        ((11, 8), [70], (3, 10), "2.7.1+cu118"),
        ((11, 4), [70], (3, 10), None),  # older than every build we know
        ((12, 2), [86], (3, 13), "2.7.1+cu118"),  # 2.4.1 has no wheel for this Python
    ],
)
def test_build_lies_within_ceiling_cards_and_python(ceiling, cards, python, version):
    row = choose_torch.choose(TABLE, ceiling, cards, python)
    assert (row and row["version"]) == version


def test_table_is_sorted_and_sourced():
    cudas = [choose_torch.number(row["cuda"]) for row in TABLE["builds"]]
    assert cudas == sorted(cudas, reverse=True)
    assert all(row["source"] and row["checked_on"] for row in TABLE["builds"])
