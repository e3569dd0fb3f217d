"""Advice for every problem, with commands that a shell takes as they stand."""

from __future__ import annotations

import shlex
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from glmdoctor import remedies
from glmdoctor.findings import Files, Finding, Mismatch, Owner, Payload, Requirements, Status, Variables, WrongDriver
from glmdoctor.host import facts
from glmdoctor.host.facts import Unknown
from glmdoctor.knowledge import problems
from glmdoctor.messages import text
from glmdoctor.remedies import propose
from glmdoctor.remedies.advice import advise
from glmdoctor.remedies.answer import Answer, pip, shell

FACTS = (
    "os", "cpu", "memory", "disk_cache", "pci", "kernel_driver", "libraries", "loader", "cuda", "nvml", "ceiling",
    "interpreter", "torch", "toolchain", "kernel_build", "given_kernel", "cpm", "checkpoint", "settings", "state",
    "containers",
)  # fmt: skip


def host(distribution: str = "debian", uid: int = 1000, **known: Any) -> Any:
    os = facts.Os("Linux", "6.1.0-18-amd64", "x86_64", distribution, "12", "x", None, False, uid, "glibc 2.36")
    return SimpleNamespace(**{**{name: Unknown("not read") for name in FACTS}, "os": os, **known})


def finding(problem: str, payload: Payload | None = None) -> Finding:
    return Finding("x", Status.FAIL, text("t"), text("d"), problem, root_cause=True, payload=payload)


def lines_for(found: Finding, machine: Any) -> tuple[str, ...]:
    """The advice's commands."""
    return propose(found, machine)[-1].commands


def python(executable: str = "/opt/my python/bin/python", version: str = "3.11.7") -> facts.Interpreter:
    return facts.Interpreter(executable, version, "/opt", "linux_x86_64", {}, ())


@pytest.mark.parametrize("problem", problems())
def test_every_problem_has_advice_in_both_languages(problem: str) -> None:
    remedies = propose(finding(problem), host(interpreter=python()))
    assert remedies and not any(remedy.automatic for remedy in remedies)
    for remedy in remedies:
        assert remedy.title.render("en") and any("\u4e00" <= letter <= "\u9fff" for letter in remedy.title.render("zh"))
        for command in remedy.commands:
            assert shlex.split(command) and "\n" not in command
        assert remedy.needs_root == any(command.startswith("sudo ") for command in remedy.commands)


def test_root_needs_no_sudo() -> None:
    [remedy] = propose(finding("driver-not-loaded"), host(uid=0))
    assert remedy.commands[0] == "modprobe nvidia"


@pytest.mark.parametrize(
    "distribution, expected",
    [
        ("ubuntu", "sudo apt-get install gcc libc6-dev"),
        ("fedora", "sudo dnf install gcc"),
        ("opensuse-leap", "sudo zypper install gcc"),
        ("arch", "sudo pacman -S gcc"),
        ("alpine", "sudo apk add gcc musl-dev"),
    ],
)
def test_packages_are_installed_as_the_distribution_does(distribution: str, expected: str) -> None:
    [remedy] = propose(finding("gcc-missing"), host(distribution))
    assert remedy.commands == (expected,)


def test_an_unknown_distribution_gets_words_alone() -> None:
    [remedy] = propose(finding("gcc-missing"), host("plan9"))
    assert remedy.commands == ()


def test_packages_go_into_the_examined_interpreter() -> None:
    asked = Requirements(("sentencepiece", "icetk"))
    [remedy] = propose(finding("python-deps-missing", asked), host(interpreter=python()))
    assert remedy.commands == ("'/opt/my python/bin/python' -m pip install sentencepiece icetk",)


def test_torch_is_chosen_by_ceiling_card_and_interpreter() -> None:
    pascal = facts.Nvml(0, "", None, None, None, (facts.NvmlGpu(0, "Tesla P4", 8 << 30, 8 << 30, (6, 1)),))
    machine = host(interpreter=python(), nvml=pascal, ceiling=facts.DriverCeiling((12, 4), "libcuda.so.1"))
    [command] = lines_for(finding("torch-cpu-only"), machine)
    assert "torch==2.6.0" in command  # CUDA 12.4, and still with code for Pascal
    assert lines_for(finding("torch-cpu-only"), host(ceiling=facts.DriverCeiling((10, 2), "libcuda.so.1"))) == ()


def test_the_three_mismatches_are_advised_each_rightly() -> None:
    module = facts.KernelDriver(True, "535.183.01", None, False, False, (), (), (facts.Process(42, "python"),))

    def advice(case: Mismatch, *packages: str) -> tuple[str, tuple[str, ...]]:
        found = finding("driver-library-mismatch", WrongDriver(case, packages))
        [remedy] = propose(found, host(kernel_driver=module))
        return str(remedy.title), remedy.commands

    title, lines = advice(Mismatch.UPGRADED)
    assert "python (42)" in title and "reboot" in title and "sudo modprobe -r nvidia_uvm nvidia_drm" in lines[0]
    _, lines = advice(Mismatch.TWO_VERSIONS, "libcuda1-550", "libcuda1-550")
    assert lines == ("sudo apt-get remove libcuda1-550",)
    title, lines = advice(Mismatch.STRAY_FOLDER)
    assert "no reboot" in title and lines == ()


def test_nouveau_is_blacklisted_in_one_quoted_command() -> None:
    [remedy] = propose(finding("nouveau-in-the-way"), host(uid=0))
    words = shlex.split(remedy.commands[0])
    assert words[:2] == ["sh", "-c"] and words[2].endswith("/etc/modprobe.d/blacklist-nouveau.conf")
    assert remedy.commands[1:] == ("update-initramfs -u", "reboot")


def test_a_container_is_started_with_the_card_and_a_host_enabled_for_it() -> None:
    outside = host()
    inside = host(os=replace(outside.os, container="podman"))
    found = finding("docker-no-gpu-runtime")
    assert lines_for(found, inside) == ("podman run --device nvidia.com/gpu=all …",)
    assert lines_for(found, host(os=replace(outside.os, container="kubernetes"))) == ()
    assert lines_for(found, outside)[0] == "sudo apt-get install nvidia-container-toolkit"
    toolkit = facts.Containers("/usr/bin/dockerd", "/usr/bin/nvidia-ctk", {"nvidia": None})
    enabling = lines_for(found, host(containers=toolkit))
    assert enabling[0] == "sudo nvidia-ctk runtime configure --runtime=docker"


def test_the_key_is_where_the_distribution_keeps_it() -> None:
    found = finding("secure-boot-module-rejected")
    assert "sudo mokutil --import /var/lib/dkms/mok.pub" in lines_for(found, host())
    assert "sudo mokutil --import /var/lib/shim-signed/mok/MOK.der" in lines_for(found, host("ubuntu"))


@pytest.mark.parametrize(("older", "expected"), [("12.1.0", ("export CUDA_PATH='/opt/my cuda'",)), ("12.8.1", ())])
def test_a_toolkit_that_the_driver_knows_is_named_where_there_is_one(older: str, expected: tuple[str, ...]) -> None:
    toolkits = {"/usr/local/cuda-12.8": "12.8.0", "/opt/my cuda": older, "/usr/local/cuda-11.8": ""}
    cuda = facts.CudaInstall(None, None, "/usr/local/cuda", True, None, {}, toolkits, None)
    here = host(cuda=cuda, ceiling=facts.DriverCeiling((12, 2), "libcuda.so.1"))
    assert lines_for(finding("ptx-newer-than-driver"), here) == expected
    assert lines_for(finding("ptx-newer-than-driver"), host(cuda=cuda)) == ()


def test_a_linux_driver_under_wsl_is_removed_by_its_package() -> None:
    lines = lines_for(finding("wsl-libcuda-shadowed", Owner("libcuda1:amd64")), host("ubuntu"))
    assert lines == ("sudo apt-get remove libcuda1:amd64",)


def checkpoint(path: str, config: dict[str, object], *files: facts.CheckpointFile) -> facts.Checkpoint:
    return facts.Checkpoint(path, True, True, True, "v1", None, config, files, 0)


CUT = facts.CheckpointFile("pytorch_model-00001-of-00008.bin", 5, "torch-zip", "truncated: 5 bytes")
GONE = facts.CheckpointFile("pytorch_model-00002-of-00008.bin", 0, "missing")


WINDOWS = facts.Os("Windows", "10", "AMD64", "", "", "Windows 11", None, False, None, "")


def test_a_damaged_shard_is_fetched_by_fix() -> None:
    here = host(checkpoint=checkpoint("/my models/m", {"_name_or_path": "THUDM/chatglm-6b"}, CUT, GONE))
    [line] = lines_for(finding("truncated-checkpoint", Files((CUT.name,))), here)
    assert shlex.split(line) == ["glmdoctor", "fix", "--only", "truncated-checkpoint", "--model", "/my models/m"]


def test_on_windows_a_damaged_shard_is_moved_aside_and_fetched() -> None:
    files = checkpoint("/my models/m", {"_name_or_path": "THUDM/chatglm-6b"}, CUT, GONE)
    here = host(checkpoint=files, os=WINDOWS)
    lines = lines_for(finding("truncated-checkpoint", Files((CUT.name,))), here)
    place = f"/my models/m/{CUT.name}"
    assert [shlex.split(line) for line in lines] == [
        ["mv", "-n", place, f"{place}.damaged"],
        ["glmcore", "download", "THUDM/chatglm-6b", "-o", "/my models/m"],
    ]
    lines = lines_for(finding("missing-shard", Files((GONE.name,))), here)
    assert [shlex.split(line)[:2] for line in lines] == [["glmcore", "download"]]


@pytest.mark.parametrize("folder, name", [("chatglm2-6b-int4", "chatglm2-6b-int4"), ("my-own", None)])
def test_a_checkpoint_is_fetched_by_its_folders_name_where_that_tells(folder: str, name: str | None) -> None:
    here = host(checkpoint=checkpoint(f"/models/{folder}", {}, GONE), os=WINDOWS)
    lines = lines_for(finding("missing-shard", Files((GONE.name,))), here)
    assert lines == ((f"glmcore download {name} -o /models/{folder}",) if name else ())


def test_variables_in_the_way_are_unset() -> None:
    proxy = finding("hub-unreachable", Variables(("HTTPS_PROXY",)))
    assert lines_for(proxy, host()) == ("unset HTTPS_PROXY https_proxy",)
    assert lines_for(finding("hub-unreachable", Variables(("HF_ENDPOINT",))), host()) == ("unset HF_ENDPOINT",)
    assert lines_for(finding("hub-unreachable"), host()) == ()
    forced = finding("bitsandbytes-cuda-setup", Variables(("BNB_CUDA_VERSION",)))
    assert lines_for(forced, host()) == ("unset BNB_CUDA_VERSION",)
    [line] = lines_for(finding("bitsandbytes-cuda-setup"), host())
    assert line.endswith("-m pip install --upgrade bitsandbytes")


def test_each_problem_has_one_row() -> None:
    modules = [module for module in vars(remedies).values() if hasattr(module, "ANSWERS")]
    rows = [problem for module in modules for problem in module.ANSWERS]
    assert len(modules) > 5 and len(rows) == len(set(rows)) == len(remedies.ANSWERS) and set(rows) <= set(problems())


def test_what_needs_root_is_said_by_the_command_not_by_its_words() -> None:
    """A line that begins with sudo is still the user's own; and pip's arguments are no line at all."""
    rows = {"gcc-missing": Answer(advice=shell("sudo -n true")), "numpy2-abi": Answer(advice=pip("numpy<2 ; x"))}
    [own] = advise(finding("gcc-missing"), rows["gcc-missing"], host())
    assert own.commands == ("sudo -n true",) and not own.needs_root
    [quoted] = advise(finding("numpy2-abi"), rows["numpy2-abi"], host(interpreter=python("/py")))
    assert quoted.commands == ("/py -m pip install 'numpy<2 ; x'",)
