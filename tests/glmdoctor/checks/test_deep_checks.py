"""``--deep``: asked only when it is said, judged from measured facts, with the speed that follows from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import Stub

from glmdoctor.checks import ALL, examine, select
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import FileHash, KernelRun

RUN = KernelRun("cpu", "EPYC", None, 1e-7, 0.003, 20e9)


def judged(machine: Stub, check: str) -> Finding:
    [found] = examine(machine, only=[check]).findings
    return found


def test_deep_checks_are_left_out_unless_asked_for(cpu_machine: Stub) -> None:
    deep = {check.id for check in ALL if check.deep}
    assert deep == {"deep.cpu", "deep.engine", "deep.gpu", "deep.hashes", "deep.numbers", "deep.openmp"}
    assert not deep & {f.id for f in examine(cpu_machine).findings}
    assert deep <= {f.id for f in examine(cpu_machine, deep=True).findings}
    assert [c.id for c in select(ALL, only=["deep.cpu"])] == ["deep.cpu"]
    assert "deep.hashes" not in {c.id for c in select(ALL, only=["truncated-checkpoint"])}


def test_the_expected_speed_follows_from_bandwidth_and_precision(cpu_machine: Stub) -> None:
    found = judged(cpu_machine.having(cpu_run=RUN), "deep.cpu")
    speeds: Any = found.evidence["tokens_per_s"]
    assert found.status is Status.OK and found.evidence["model"] == "chatglm2-6b"
    assert speeds["float16"] < speeds["int8"] < speeds["int4"]
    assert 1.2 < speeds["float16"] < 1.9  # 12 GB of weights at 20 GB/s
    assert "20.0 GB/s" in str(found.detail)


def test_a_kernel_that_is_wrong_or_dies(cpu_machine: Stub) -> None:
    for run in (replace(RUN, error=0.1), KernelRun("cpu", "EPYC", "Illegal instruction (exit status -4)")):
        found = judged(cpu_machine.having(cpu_run=run), "deep.cpu")
        assert (found.problem, found.status) == ("cpu-kernel-not-loaded", Status.WARN)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("CUDA error: no kernel image is available for execution on the device", "torch-arch-unsupported"),
        ("CUDA error: unspecified launch failure", "gpu-xid-fault"),
    ],
)
def test_a_card_by_its_own_words(gpu_machine: Stub, fault: str, problem: str) -> None:
    found = judged(gpu_machine.having(gpu_runs=(KernelRun("cuda:0", "Tesla P4", fault),)), "deep.gpu")
    assert (found.problem, found.status) == (problem, Status.FAIL) and fault in str(found.detail)


def test_each_card_is_told(gpu_machine: Stub) -> None:
    runs = (KernelRun("cuda:0", "Tesla P4", None, 0.0, 0.01, 192e9),)
    found = judged(gpu_machine.having(gpu_runs=runs), "deep.gpu")
    speeds: Any = found.evidence["tokens_per_s"]
    assert found.status is Status.OK and list(speeds) == ["int8", "int4"]  # 7 GiB hold no float16


def test_hashes(cpu_machine: Stub) -> None:
    right = FileHash("a.safetensors", 8, "aa", "aa", "hub cache")
    unknown = FileHash("tokenizer.model", 8, "bb", None, "")
    assert "1 files have" in str(judged(cpu_machine.having(hashes=(right, unknown)), "deep.hashes").detail)
    assert "nothing here tells" in str(judged(cpu_machine.having(hashes=(unknown,)), "deep.hashes").detail)
    found = judged(cpu_machine.having(hashes=(right, replace(right, name="b", sha256="cc"))), "deep.hashes")
    assert (found.problem, found.status) == ("truncated-checkpoint", Status.FAIL) and "b:" in str(found.detail)


def test_numbers_among_the_weights(cpu_machine: Stub) -> None:
    sound = FileHash("a.safetensors", 8, "aa", None, "", looked_into=True)
    assert judged(cpu_machine.having(hashes=(sound,)), "deep.numbers").status is Status.OK
    found = judged(cpu_machine.having(hashes=(replace(sound, not_finite=("x.weight",)),)), "deep.numbers")
    assert (found.problem, found.status) == ("nan-logits", Status.FAIL) and "x.weight" in str(found.detail)
    pickled = FileHash("pytorch_model.bin", 8, "aa", None, "")
    assert judged(cpu_machine.having(hashes=(pickled,)), "deep.numbers").status is Status.SKIPPED


@pytest.mark.parametrize("open_module", [True, False])
def test_a_start_that_fails_under_the_open_module(gpu_machine: Stub, open_module: bool) -> None:
    fault = "CUDA driver initialization failed: Error 3: initialization error"
    machine = gpu_machine.having(
        gpu_runs=(KernelRun("cuda:0", "H100", fault),), kernel_driver={"open_module": open_module}
    )
    assert judged(machine, "deep.gpu").problem == ("uvm-hmm-cuinit-fails" if open_module else "gpu-xid-fault")
