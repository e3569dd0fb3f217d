"""Broken machines: each is diagnosed with its root cause; the repairable ones are repaired, re-checked, taken back."""

from __future__ import annotations

from machine import LIB, Machine


def root_causes(report: dict) -> list[str]:
    return [finding["problem"] for finding in report["findings"] if finding["root_cause"]]


def failures(report: dict) -> set[str]:
    return {finding["problem"] for finding in report["findings"] if finding["status"] == "fail"}


def healthy_gpu(machine: Machine, version: str = "535.183.01") -> None:
    machine.card()
    machine.module(version)
    machine.driver_libraries(version)
    machine.default_toolkit(machine.toolkit())


def test_healthy_cpu_machine(machine: Machine) -> None:
    report = machine.check()
    assert failures(report) == set()
    assert report["summary"]["crashed"] == 0


def test_healthy_gpu_machine(machine: Machine) -> None:
    healthy_gpu(machine)
    machine.link("/usr/local/cuda-12.2/lib64/libcuda.so", f"{LIB}/libcuda.so.1")
    machine.refresh_linker_cache()
    report = machine.check()
    assert failures(report) == set(), report["findings"]


def test_cuda_path_without_libcuda(machine: Machine) -> None:
    healthy_gpu(machine)
    machine.refresh_linker_cache()
    report = machine.check()
    assert root_causes(report) == ["libcuda-not-in-cuda-path"], report["findings"]
