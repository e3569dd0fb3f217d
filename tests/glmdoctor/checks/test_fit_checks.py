"""What fits where: stated for the 6B without a model, judged for the model that is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import Stub

from glmcore.config import NAMED
from glmdoctor.checks import examine
from glmdoctor.findings import Finding, Status
from glmdoctor.host import facts

GIB = 1 << 30


def judged(machine: Stub, check: str = "model.memory") -> Finding:
    [found] = examine(machine, only=[check]).findings
    return found


def told(machine: Stub) -> Finding:
    return judged(machine, "system.capacity")


def named(name: str, **config: Any) -> facts.Checkpoint:
    raw = {**NAMED[name].raw, **config}
    return facts.Checkpoint(name, False, False, False, "v2", None, raw, (), 0)


def card(machine: Stub, free: int, total: int = 0, **fields: Any) -> Stub:
    gpu = replace(machine.nvml.gpus[0], memory_free=free * GIB, memory_total=(total or free) * GIB, **fields)
    return machine.having(nvml={"gpus": (gpu,)})


def test_without_a_model_the_6b_is_told_of(cpu_machine: Stub) -> None:
    found = told(cpu_machine)
    assert found.status is Status.OK and "float16 32768" in str(found.detail)
    table = found.evidence["max_context"]
    assert set(table) == {"cpu"} and set(table["cpu"]) == {"float16", "int8", "int4"}
    small = told(cpu_machine.having(memory={"available": 6 * GIB})).evidence["max_context"]["cpu"]
    assert small["float16"] == 0 and small["int4"] > 0
    assert told(cpu_machine.having(memory={"available": GIB})).status is Status.OK
    assert judged(cpu_machine).status is Status.SKIPPED


def test_a_small_card_holds_it_in_int4_alone(gpu_machine: Stub) -> None:
    table = told(card(gpu_machine, 5)).evidence["max_context"]
    assert set(table) == {"cuda:0", "cpu", "cards+cpu"}
    assert table["cuda:0"]["float16"] == table["cuda:0"]["int8"] == 0 < table["cuda:0"]["int4"]


def test_a_model_and_the_memory(cpu_machine: Stub) -> None:
    machine = cpu_machine.having(checkpoint=named("chatglm2-6b"))
    assert judged(machine).status is Status.OK
    short = judged(machine.having(memory={"available": 8 * GIB}))
    assert (short.problem, short.status) == ("ram-oom", Status.FAIL)
    assert "int4 " in str(short.detail) and short.evidence["would_fit"]["cpu"]["int4"] > 2048
    limited = judged(machine.having(memory={"limit": 9 * GIB, "limit_used": GIB}))
    assert "limited to 9.0 GiB" in str(limited.detail) and limited.evidence["free"]["cpu"] == 8 * GIB
    nothing = judged(machine.having(memory={"available": 2 * GIB}))
    assert "nothing fits" in str(nothing.detail)


def test_a_quantised_model_becomes_no_more_precise(cpu_machine: Stub) -> None:
    found = judged(cpu_machine.having(checkpoint=named("chatglm2-6b", quantization_bit=4)))
    assert set(found.evidence["max_context"]["cpu"]) == {"int4"}


@pytest.mark.parametrize(
    ("free", "total", "memory", "problem", "status"),
    [
        (16, 16, 4, None, Status.OK),
        (8, 8, 24, "cuda-oom", Status.WARN),  # split it, or quantise it
        (3, 8, 4, "cuda-oom", Status.FAIL),
    ],
)
def test_the_cards(gpu_machine: Stub, free: int, total: int, memory: int, problem: str | None, status: Status) -> None:
    machine = card(gpu_machine, free, total).having(checkpoint=named("chatglm2-6b"))
    found = judged(machine.having(memory={"available": memory * GIB}))
    assert (found.problem, found.status) == (problem, status)


def test_who_holds_the_card_is_named(gpu_machine: Stub) -> None:
    machine = card(gpu_machine, 8, 24, processes=(facts.GpuProcess(77, "python", 16 * GIB),))
    found = judged(machine.having(checkpoint=named("chatglm2-6b")))
    assert found.problem == "cuda-oom" and "python (77) 16.00 GiB" in str(found.detail)


def test_a_card_that_torch_cannot_use_is_not_counted(gpu_machine: Stub) -> None:
    machine = card(gpu_machine, 24).having(torch={"version": "2.13.0+cpu", "cuda": None}, memory={"available": GIB})
    found = judged(machine.having(checkpoint=named("chatglm2-6b")))
    assert (found.problem, found.status) == ("ram-oom", Status.FAIL)


def test_a_configuration_that_tells_no_size(cpu_machine: Stub, chatglm2: Any) -> None:
    broken = replace(chatglm2, config={"model_type": "chatglm", "num_layers": "many"})
    assert judged(cpu_machine.having(checkpoint=broken)).status is Status.SKIPPED


def test_memory_that_only_an_unused_card_would_spare_follows_from_torch(gpu_machine: Stub) -> None:
    """A CPU build of torch beside a card that holds the model: one cause, not two."""
    machine = card(gpu_machine, 20).having(
        checkpoint=named("chatglm2-6b"),
        torch=facts.Torch("2.4.0+cpu", None, None, "/venv/lib/torch", ()),
        memory={"available": 4 * GIB},
    )
    found = {f.id: f for f in examine(machine, only=["model.memory", "torch.build"]).findings}
    assert found["model.memory"].problem == "ram-oom" and found["model.memory"].caused_by == ("torch.build",)
    assert found["torch.build"].root_cause and not found["model.memory"].root_cause
    small = {f.id: f for f in examine(card(machine, 2), only=["model.memory", "torch.build"]).findings}
    assert small["model.memory"].root_cause and small["torch.build"].root_cause, "the card would not hold it either"
