"""Metal and half precision: a Mac as it is recorded, and CPUs with torches of several ages."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import Stub

from glmcore.config import NAMED
from glmdoctor.checks import examine
from glmdoctor.findings import Finding, Status
from glmdoctor.host import facts

GIB = 1 << 30
MAC = facts.Os("Darwin", "23.5.0", "arm64", "", "", "macOS 14.5", None, False, 501, "")


@pytest.fixture
def mac(cpu_machine: Stub) -> Stub:
    return cpu_machine.having(os=MAC, memory=facts.Memory(16 * GIB, 14 * GIB, 0, None, None))


def judged(machine: Stub, check: str) -> Finding:
    [found] = examine(machine, only=[check]).findings
    return found


def torch(version: str, cuda: str | None = None) -> facts.Torch:
    return facts.Torch(version, cuda, None, "/venv/lib/torch", ())


def named(**config: Any) -> facts.Checkpoint:
    raw = {**NAMED["chatglm2-6b"].raw, **config}
    return facts.Checkpoint("chatglm2-6b", False, False, False, "v2", None, raw, (), 0)


@pytest.mark.parametrize(
    ("memory", "ratio", "bits", "status"),
    [
        (32, None, 0, Status.OK),
        (16, None, 0, Status.OK),
        (16, "1.0", 0, Status.WARN),  # two thirds of 16 GiB are less than the weights
        (16, "0.0", 0, Status.OK),  # no limit
        (8, None, 0, Status.WARN),
        (8, None, 4, Status.OK),
        (8, "nonsense", 4, Status.OK),
    ],
)
def test_metals_part_of_the_memory(mac: Stub, memory: int, ratio: str | None, bits: int, status: Status) -> None:
    machine = mac.having(
        memory={"total": memory * GIB},
        checkpoint=named(quantization_bit=bits) if bits else named(),
        settings=facts.Settings({"PYTORCH_MPS_HIGH_WATERMARK_RATIO": ratio} if ratio else {}),
    )
    found = judged(machine, "model.metal")
    assert found.status is status and found.problem == ("mps-oom" if status is Status.WARN else None), found.detail
    assert status is Status.OK or "int4" in str(found.detail)


def test_metal_is_apples_alone(cpu_machine: Stub, mac: Stub) -> None:
    assert judged(cpu_machine.having(checkpoint=named()), "model.metal").status is Status.SKIPPED
    assert judged(cpu_machine, "torch.metal").status is Status.SKIPPED
    intel = mac.having(os={"machine": "x86_64"}, checkpoint=named())
    assert judged(intel, "model.metal").status is Status.SKIPPED


def test_operators_that_an_old_torch_lacks(mac: Stub) -> None:
    found = judged(mac.having(torch=torch("1.13.1")), "torch.metal")
    assert (found.status, found.problem) == (Status.WARN, "mps-op-unsupported")
    fallback = facts.Settings({"PYTORCH_ENABLE_MPS_FALLBACK": "1"})
    assert judged(mac.having(torch=torch("1.13.1"), settings=fallback), "torch.metal").status is Status.OK
    assert judged(mac, "torch.metal").status is Status.OK


def test_half_precision_on_a_cpu(cpu_machine: Stub, gpu_machine: Stub) -> None:
    half = named(torch_dtype="float16")
    found = judged(cpu_machine.having(checkpoint=half, torch=torch("2.1.2+cpu")), "torch.half")
    assert (found.status, found.problem) == (Status.WARN, "half-on-cpu") and ".float()" in str(found.detail)
    assert judged(cpu_machine.having(checkpoint=half), "torch.half").status is Status.OK
    other = cpu_machine.having(checkpoint=named(torch_dtype="bfloat16"), torch=torch("2.1.2+cpu"))
    assert judged(other, "torch.half").status is Status.SKIPPED
    card = gpu_machine.having(checkpoint=half, torch=torch("2.1.2+cu121", "12.1"))
    assert judged(card, "torch.half").status is Status.SKIPPED
