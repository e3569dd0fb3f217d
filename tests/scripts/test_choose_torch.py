"""The torch build that start.sh installs, for machines that are not here, and that all who answer give one answer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from glmdoctor.findings import Finding, Status
from glmdoctor.host import facts
from glmdoctor.host.facts import Unknown
from glmdoctor.messages import Text
from glmdoctor.readings.ranges import Needs, solve
from glmdoctor.readings.torch_builds import best, builds
from glmdoctor.remedies import propose

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("choose_torch", ROOT / "scripts" / "choose_torch.py")
choose_torch = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(choose_torch)


@pytest.mark.parametrize(
    "ceiling, cards, python, version",
    [
        (None, [], (3, 11), None),  # no driver: the CPU build
        ((13, 0), [(9, 0)], (3, 12), "2.13.0"),
        ((12, 8), [(8, 6)], (3, 11), "2.9.1"),
        ((12, 2), [(8, 6)], (3, 11), "2.4.1"),  # driver 535: nothing above CUDA 12.2
        ((13, 0), [(6, 1), (6, 1)], (3, 10), "2.7.1"),  # Tesla P4 and P104-100: the last build with Pascal
        ((13, 0), [(6, 1), (12, 0)], (3, 11), None),  # no build has code for both a Pascal and a Blackwell card
        ((11, 8), [(7, 0)], (3, 10), "2.7.1+cu118"),
        ((11, 4), [(7, 0)], (3, 10), "2.7.1+cu118"),  # by minor version compatibility: nothing lies within
        ((10, 2), [(7, 0)], (3, 10), None),  # older than every build we know
        ((12, 2), [(8, 6)], (3, 13), "2.7.1+cu118"),  # 2.4.1 has no wheel for this Python
    ],
)
def test_build_lies_within_ceiling_cards_and_python(ceiling, cards, python, version):
    build = best(python, ceiling, cards)
    assert (build and build.version) == version


def test_table_is_sorted_and_sound():
    cudas = [build.cuda for build in builds()]
    assert cudas == sorted(cudas, reverse=True)
    assert all(build.oldest < build.newest and build.pythons[0] < build.pythons[1] for build in builds())


CEILINGS = [(10, 2), (11, 4), (11, 8), (12, 0), (12, 2), (12, 4), (12, 6), (12, 8), (13, 0), (13, 2)]
CAPABILITIES = [(3, 7), (5, 2), (6, 1), (7, 0), (8, 6), (9, 0), (10, 0), (12, 0)]
PYTHONS = [(3, 8), (3, 9), (3, 10), (3, 11), (3, 13), (3, 14)]


class Machine:
    """A machine with one card, of which nothing else is known."""

    def __init__(self, ceiling, card, python):
        gpu = facts.NvmlGpu(0, "card", 1 << 33, 1 << 33, card)
        self.nvml = facts.Nvml(0, "", None, None, None, (gpu,))
        self.ceiling = facts.DriverCeiling(cuda=ceiling, library="libcuda.so.1")
        self.interpreter = facts.Interpreter("/py", "{}.{}.7".format(*python), "/", "linux_x86_64", {}, ())

    def __getattr__(self, name):
        return Unknown("not read")


def advised(machine):
    found = Finding("torch.driver", Status.FAIL, Text(""), Text(""), "cuda-driver-too-old")
    [remedy] = propose(found, machine)
    return [command.removeprefix("/py -m pip install ") for command in remedy.commands]


@pytest.mark.parametrize("ceiling", CEILINGS)
def test_advice_solver_and_script_choose_one_build(ceiling):
    """With a ceiling of 12.2, a card of 6.1 and Python 3.11 two once said 2.4.1 and one 2.7.1."""
    for card, python in product(CAPABILITIES, PYTHONS):
        solution = solve(Needs("{}.{}.7".format(*python), None, ceiling, (card,)))
        solved = " ".join(solution.arguments) if solution else None
        advice = advised(Machine(ceiling, card, python))
        assert advice == ([solved] if solved else []), (ceiling, card, python)
        if solved:
            assert choose_torch.requirement(ceiling, [card], python) == solved


def test_runs_from_a_clone_before_anything_is_installed(tmp_path):
    program = f"import runpy; runpy.run_path({str(ROOT / 'scripts' / 'choose_torch.py')!r}, run_name='here')"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], cwd=tmp_path, check=True, timeout=60)
