"""Packages solved as one range, as a finding: one line for pip, folded under what it answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import Stub

from glmdoctor.checks import examine
from glmdoctor.findings import Status
from glmdoctor.remedies import propose


def test_packages_that_go_together(cpu_machine: Stub, gpu_machine: Stub) -> None:
    for machine in (cpu_machine, gpu_machine):
        [found] = examine(machine, only=["python.together"]).findings
        assert found.status is Status.OK, str(found.detail)


def test_one_line_is_folded_under_the_clash_that_it_ends(gpu_machine: Stub) -> None:
    packages = {**gpu_machine.interpreter.packages, "torch": "2.13.0"}
    machine = gpu_machine.having(interpreter={"packages": packages}, torch={"version": "2.13.0", "cuda": "13.0"})
    report = examine(machine)
    [found] = [f for f in report.findings if f.id == "python.together"]
    assert "torch==2.4.1" in str(found.detail) and found.evidence["cards"] == ["6.1"]
    assert found.caused_by and "python.together" not in [f.id for f in report.root_causes]
    assert any("torch==2.4.1" in command for remedy in propose(found, machine) for command in remedy.commands)


def test_a_wheel_whose_own_requirement_is_not_met(cpu_machine: Stub) -> None:
    machine = cpu_machine.having(interpreter={"requires": {"accelerate": ("torch>=9; extra == 'torch'",)}})
    [found] = examine(machine, only=["python.together"]).findings
    assert found.problem == "python-deps-missing" and "accelerate itself asks for torch>=9" in str(found.detail)


@pytest.mark.parametrize("newer", [{"transformers": "5.30.0"}, {"torch": "2.15.0"}])
def test_what_is_newer_than_tested_is_said_alike(cpu_machine: Stub, chatglm2: Any, newer: dict[str, str]) -> None:
    """The range of setup.cfg holds for both checks; what is only newer is a warning, even for a model."""
    packages = {**cpu_machine.interpreter.packages, "safetensors": "0.5", "sentencepiece": "0.2", **newer}
    machine = cpu_machine.having(interpreter={"packages": packages}, checkpoint=chatglm2)
    report = examine(machine, only=["python.together"])
    [found] = report.findings
    assert found.problem == "python-deps-missing" and found.status is Status.WARN


def test_remote_code_is_told_its_range_and_a_line(cpu_machine: Stub, chatglm2: Any) -> None:
    brought = replace(chatglm2, remote_code=("present", "tokenizer-init-early", "pad-without-padding-side"))
    machine = cpu_machine.having(checkpoint=brought)
    report = examine(machine)
    broken = {f.problem: f for f in report.findings if f.id.startswith("remote-code.") and f.bad}
    assert set(broken) == {"tf-new-tokenizer-init", "tf-new-pad-padding-side"}  # all at once
    for found in broken.values():
        assert found.evidence["needs"] == ">=4.30.2,<4.34" and found.evidence["install"] == ["transformers==4.33.3"]
        assert "glmcore loads" in str(found.detail)
        assert any("transformers==4.33.3" in c for remedy in propose(found, machine) for c in remedy.commands)
    [together] = [f for f in report.findings if f.id == "python.together"]
    assert together.evidence["remote_code"] == {
        "transformers": ">=4.30.2,<4.34", "install": ["transformers==4.33.3"], "native": True,
    }  # fmt: skip
