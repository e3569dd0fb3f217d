"""Broken machines: each is diagnosed with its root cause, and left as it was (``Machine.check`` sees to that)."""

from __future__ import annotations

import re

import cuda_machines
import driver_machines
import engine_machines
import model_machines
import pytest
import python_machines
import system_machines
from case import Case, failures, found, root_causes
from cuda_machines import take_toolkit_away
from driver_machines import card_not_well, gpu_machine, no_uvm, stray_folder, two_versions, upgraded_under_module
from machine import Machine

from glmdoctor import checks
from glmdoctor.checks import deep

MODULES = (driver_machines, cuda_machines, python_machines, system_machines, model_machines, engine_machines)
CASES = tuple(case for module in MODULES for case in module.CASES)
# What no machine of this lab can show, and where it is shown instead.
SHOWN_ELSEWHERE = {
    ("system.platform", "cpm-platform-import"): "macOS: recorded machines of test_recorded_windows.py",
    ("cpm.cudart", "cpm-wrong-cudart-picked"): "Windows: recorded machines of test_recorded_windows.py",
    ("cpm.path", "cpm-path-entry-is-file"): "Windows: recorded machines of test_cpm_probe.py",
    ("system.commit", "windows-pagefile-too-small"): "Windows: synthetic machines of test_model_checks.py",
    ("model.path", "non-ascii-path"): "Windows: synthetic machines of test_model_checks.py",
    ("deep.cpu", "cpu-kernel-not-loaded"): "a kernel that only errs on large layers: test_deep_checks.py",
    ("deep.openmp", "openmp-runtime-duplicated"): "a second torch: real libraries of test_openmp_probe.py",
    ("gpu.peers", "p2p-hang"): "an IOMMU's fault is the kernel's own log: test_gpu_health_checks.py",
    ("compiler.native", "clang-march-native"): "a compiler that refuses a flag: test_system_probe.py",
    ("hub.links", "windows-symlink-privilege"): "Windows: recorded machines of test_links_probe.py",
    ("model.metal", "mps-oom"): "macOS: test_apple_checks.py",
    ("torch.metal", "mps-op-unsupported"): "macOS: test_apple_checks.py",
    # What hides inside a container, where this lab may run, is told by test_fake_roots.py.
    ("driver.nvml", "sandbox-blocks-gpu"): "test_fake_roots.py",
    ("driver.nvml", "selinux-blocks-gpu"): "a label is the kernel's: test_fake_roots.py",
    ("driver.nodes", "selinux-blocks-gpu"): "a label is the kernel's: test_driver_access_checks.py",
}
CARD_IN_USE = "a real card: no lab has one; recorded answers of test_deep_checks.py"
[DEEP_GPU] = [check for check in deep.CHECKS if check.id == "deep.gpu"]
SHOWN_ELSEWHERE |= {("deep.gpu", problem): CARD_IN_USE for problem in DEEP_GPU.problems}
NOT_CLEARED = {
    "cpm.cudart": "asked on Windows alone",
    "cpm.path": "asked on Windows alone",
    "system.commit": "asked on Windows alone",
    "model.metal": "asked on macOS alone",
    "torch.metal": "asked on macOS alone",
    "deep.gpu": CARD_IN_USE,
    "deep.openmp": "no torch in the lab's Python: test_openmp_probe.py",
    "gpu.peers": "asked where two cards are: test_gpu_health_checks.py",
    "compiler.native": "asked of clang alone: test_system_probe.py",
    "hub.links": "asked on Windows alone",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_root_cause_comes_first(machine: Machine, case: Case, request) -> None:
    user = request.getfixturevalue("plain_user") if case.as_user else None
    case.build(machine)
    report = machine.check(user=user)
    assert root_causes(report) == case.root_causes, told(report)
    assert set(case.shows.items()) <= found(report), told(report)
    status = {finding["id"]: finding["status"] for finding in report["findings"]}
    assert {check: status.get(check) for check in case.clears} == dict.fromkeys(case.clears, "ok")
    assert not case.root_causes or report["findings"][0]["root_cause"]
    assert report["summary"]["crashed"] == 0


def told(report: dict) -> list[str]:
    bad = [finding for finding in report["findings"] if finding["status"] in ("fail", "warn", "crashed")]
    return [f"{f['id']} {f['problem']} {f['status']} {f['root_cause']}: {f['detail']}" for f in bad]


def test_every_check_has_a_machine_that_shows_each_of_its_problems() -> None:
    shown = {pair for case in CASES for pair in case.shows.items()}
    wanted = {(check.id, problem) for check in checks.ALL for problem in check.problems}
    assert shown <= wanted
    assert wanted - shown == SHOWN_ELSEWHERE.keys()


def test_every_check_has_a_machine_that_does_not_show_it() -> None:
    cleared = {check for case in CASES for check in case.clears}
    assert {check.id for check in checks.ALL} - cleared == NOT_CLEARED.keys()


def test_the_lab_is_large_enough_and_names_each_machine_once() -> None:
    names = [(case.build.__module__, case.name) for case in CASES]
    assert len(set(names)) == len(names) >= 40
    assert all(re.fullmatch(r"\w+", name.replace("=", "")) for _, name in names if '"' not in name)


def test_healthy_machines_are_healthy(machine: Machine) -> None:
    assert machine.check()["verdict"] == "healthy"
    gpu_machine(machine)
    report = machine.check()
    assert report["verdict"] == "healthy", told(report)


def test_a_healthy_cards_readings_are_told(machine: Machine) -> None:
    card_not_well("HOLDER=1", "LINK_GENERATION=3", "STATE=0")(machine)
    report = machine.check()
    assert failures(report) == []
    [gpu] = report["host"]["nvml"]["gpus"]
    assert gpu["link"]["width"] == gpu["link"]["width_max"] == 16 and gpu["processes"][0]["memory"] == 6 << 30


def test_toolkit_without_driver_and_card_is_healthy(machine: Machine) -> None:
    machine.default_toolkit(machine.toolkit())
    assert machine.check()["verdict"] == "healthy"


@pytest.mark.parametrize(
    "build, kind",
    [(upgraded_under_module, "upgraded-under-module"), (two_versions, "two-versions"), (stray_folder, "stray-folder")],
)
def test_three_mismatches_are_told_apart(machine: Machine, build, kind: str) -> None:
    build(machine)
    [finding] = [f for f in machine.check()["findings"] if f["problem"] == "driver-library-mismatch"]
    assert finding["evidence"]["case"] == kind
    advice = finding["detail"] + " ".join(r["title"] + " ".join(r["commands"]) for r in finding["remedies"])
    assert ("no reboot" in advice) == (kind == "stray-folder")


def test_two_independent_problems_are_two_root_causes(machine: Machine) -> None:
    no_uvm(machine)
    take_toolkit_away(machine)
    assert root_causes(machine.check()) == ["cuda-path-wrong", "cuda-unknown-error-999"]


def test_a_model_makes_a_missing_compiler_a_failure(machine: Machine) -> None:
    model_machines.quantised_without_compiler(machine)
    assert "gcc-missing" in failures(machine.check())
    machine.arguments.clear()
    assert failures(machine.check()) == []
