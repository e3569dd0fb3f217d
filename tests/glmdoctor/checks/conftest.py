"""Machines made of facts alone: what the checks see of a CPU server and of a GPU server, both healthy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import CPM, LIB, MODULE, Stub, driver_libraries, loader_for, node

from glmdoctor.host import facts
from glmdoctor.host.facts import Unknown


@pytest.fixture
def cpu_machine() -> Stub:
    """A server without a card: gcc, memory, a torch for the CPU."""
    return Stub({
        "os": facts.Os("Linux", "6.1.0", "x86_64", "debian", "12", "Debian 12", None, False, 1000, "glibc 2.36"),
        "shared_memory": facts.Disk("/dev/shm", 8 << 30, 8 << 30, True),
        "cpu": facts.Cpu("EPYC", 4, 2, 4.0, ("avx2", "fma")),
        "memory": facts.Memory(32 << 30, 24 << 30, 0, None, None),
        "disk_cache": facts.Disk("/home/user/.cache", 100 << 30, 50 << 30, True),
        "pci": (),
        "kernel_driver": facts.KernelDriver(False, None, None, False, False, (), (), ()),
        "libraries": (),
        "loader": loader_for(),
        "cuda": facts.CudaInstall(None, None, "/usr/local/cuda", False, None, {}, {}, None),
        "nvml": facts.Nvml(12, "NVML Shared Library Not Found", None, None, None),
        "ceiling": Unknown("no libcuda.so.1 on the loader's path"),
        "interpreter": facts.Interpreter(
            "/venv/bin/python", "3.11.7", "/venv", "linux_x86_64",
            {"torch": "2.13.0+cpu", "safetensors": "0.8.0", "sentencepiece": "0.2.3", "tiktoken": "0.14.0",
             "transformers": "5.23.0", "llguidance": "1.9.1", "numpy": "2.4.6"},
            ("/venv/lib",),
        ),
        "torch": facts.Torch("2.13.0+cpu", None, None, "/venv/lib/torch", ()),
        "toolchain": facts.Toolchain((facts.Compiler("gcc", "/usr/bin/gcc", "gcc", "12.2.0"),), None),
        "kernel_build": facts.KernelBuild(True, "done", "/c/k.so", "gcc", "avx2", True, True, "", 1e-7),
        "given_kernel": Unknown("no kernel file was named"),
        "cpm": facts.Cpm(None, tuple(facts.CpmHit(n, None, "none", ("/usr/local/cuda/lib64",), None) for n in CPM)),
        "checkpoint": Unknown("no model was named (--model)"),
        "settings": facts.Settings({}),
        "state": facts.State(None, (), ()),
    })  # fmt: skip


@pytest.fixture
def gpu_machine(cpu_machine: Stub) -> Stub:
    """A server with one Pascal card, driver and toolkit in order, a torch for CUDA 12.1 and cpm_kernels."""
    libraries = driver_libraries(MODULE)
    nodes = tuple(node(path) for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm"))
    gpu = facts.NvmlGpu(0, "Tesla P4", 8 << 30, 7 << 30, (6, 1))
    packages = {**cpu_machine.interpreter.packages, "torch": "2.4.0+cu121", "cpm-kernels": "1.0.11"}
    return cpu_machine.having(
        pci=(facts.PciDisplay("0000:01:00.0", "10de", "1bb3", "0302", "nvidia"),),
        kernel_driver=facts.KernelDriver(
            True, MODULE, "/proc/driver/nvidia/version", False, False, (MODULE,), nodes, ()
        ),
        libraries=libraries,
        loader=loader_for(*libraries),
        cuda=facts.CudaInstall(
            None,
            None,
            "/usr/local/cuda",
            True,
            "/usr/local/cuda-12.2",
            {"/usr/local/cuda": True},
            {"/usr/local/cuda-12.2": "12.2.140"},
            "/usr/local/cuda/bin/nvcc",
        ),
        nvml=facts.Nvml(0, "", f"{LIB}/libnvidia-ml.so.1", MODULE, MODULE, (gpu,)),
        ceiling=facts.DriverCeiling((12, 2), f"{LIB}/libcuda.so.1"),
        interpreter={"packages": packages},
        torch=facts.Torch("2.4.0+cu121", "12.1", None, "/venv/lib/torch", ("/venv/lib/nvidia/libcudart.so.12",)),
        cpm=facts.Cpm(
            "1.0.11", tuple(facts.CpmHit(n, f"/usr/local/cuda/lib64/lib{n}.so", "lib64", (), True) for n in CPM)
        ),
    )


@pytest.fixture
def chatglm2() -> Any:
    """A whole checkpoint of the second generation, not quantised, without code of its own."""
    files = (
        facts.CheckpointFile("config.json", 900, "json"),
        facts.CheckpointFile("model.safetensors", 12 << 30, "safetensors"),
        facts.CheckpointFile("tokenizer.model", 1 << 20, "sentencepiece"),
    )
    config = {"model_type": "chatglm", "vocab_size": 65024}
    return facts.Checkpoint("/models/chatglm2-6b", True, True, True, "v2", None, config, files, 12 << 30)
