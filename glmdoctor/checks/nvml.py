"""What the driver's management library answers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped, unknown
from glmdoctor.checks.causes import NO_MODULE, OUT_OF_REACH, STALE_CACHE
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import Nvml
from glmdoctor.messages import Text, text
from glmdoctor.readings.cards import confined_by_selinux, container, has_card, on_wsl

NONE_VISIBLE = "no-cuda-gpu-visible"
NVML = text("NVIDIA management library (NVML)")
VISIBLE = text("GPUs visible to this process")

# nvmlReturn_t (nvml.h)
NO_PERMISSION, NOT_LOADED, NO_LIBRARY, GPU_LOST, MISMATCH, UNKNOWN_ERROR = 4, 9, 12, 15, 18, 999


def answer(host: Machine) -> Iterator[Finding]:
    nvml = known(host.nvml)
    if nvml.code == 0:
        names = [f"{gpu.name} ({gpu.memory_total / 2**30:.0f} GiB)" for gpu in nvml.gpus]
        yield ok(
            NVML,
            text(
                "Answers: driver {version}, {gpus}.", version=nvml.driver_version or "?", gpus=", ".join(names) or "-"
            ),
            driver_version=nvml.driver_version,
            gpus=names,
        )
    elif not has_card(host):
        yield skipped(NVML, text("There is no NVIDIA card here; models run on the CPU."))
    elif nvml.code in (MISMATCH, NOT_LOADED):
        yield _seen_elsewhere(nvml)
    else:
        yield _failed(host, nvml)


def _seen_elsewhere(nvml: Nvml) -> Finding:
    """Answers that other checks judge from their own readings."""
    return unknown(
        NVML,
        text("It answers {code} ({message}).", code=nvml.code, message=nvml.message),
        code=nvml.code,
        library=nvml.library,
    )


def _failed(host: Machine, nvml: Nvml) -> Finding:
    evidence = {"code": nvml.code, "message": nvml.message, "library": nvml.library}
    detail = text("nvmlInit answers {code}: {message}.", code=nvml.code, message=nvml.message)
    if nvml.code == NO_LIBRARY:
        return bad(
            Status.FAIL,
            "nvml-not-found",
            text("libnvidia-ml.so.1 not found"),
            text(
                "The card is there, but libnvidia-ml.so.1 cannot be loaded by its name: {message}.",
                message=nvml.message,
            ),
            **evidence,
        )
    label = confined_by_selinux(host)
    if nvml.code == NO_PERMISSION and label and _open_by_mode(host):
        return _closed_by_label(label, detail, evidence)
    if nvml.code == NO_PERMISSION:
        return bad(Status.FAIL, "device-node-permission", text("NVML: insufficient permissions"), detail, **evidence)
    if nvml.code == GPU_LOST and on_wsl(host):
        return bad(Status.FAIL, "wsl-gpu-lost", text("Windows has lost the card"), detail, **evidence)
    if nvml.code == GPU_LOST:
        return bad(Status.FAIL, "gpu-lost", text("The card fell off the bus"), detail, **evidence)
    if nvml.code == UNKNOWN_ERROR:
        return _unknown_error(host, evidence)
    return unknown(NVML, detail, **evidence)


def _open_by_mode(host: Machine) -> bool:
    driver = maybe(host.kernel_driver)
    return driver is not None and all(node.mode & 0o006 == 0o006 for node in driver.nodes if node.kind == "char")


def _closed_by_label(label: str, detail: Text, evidence: dict[str, object]) -> Finding:
    title = text("SELinux keeps this container from the card")
    words = text("{detail} The label {label} may not use the device nodes.", detail=detail, label=label)
    return bad(Status.FAIL, "selinux-blocks-gpu", title, words, label=label, **evidence)


def _unknown_error(host: Machine, evidence: dict[str, object]) -> Finding:
    """NVML's 999: the nodes are there and their modes are right, yet opening them is refused by someone else."""
    kind = container(host)
    if kind:
        return bad(
            Status.FAIL,
            "container-lost-gpu",
            text("The container lost access to the card"),
            text(
                "NVML answers 999 (unknown error) in {container}: the cgroup no longer lets it open the device nodes.",
                container=kind,
            ),
            container=kind,
            **evidence,
        )
    return bad(
        Status.FAIL,
        "sandbox-blocks-gpu",
        text("Something keeps this process from the card"),
        text(
            "NVML answers 999 (unknown error) outside a container: a sandbox (Landlock, seccomp) may block the nodes."
        ),
        **evidence,
    )


def visible(host: Machine) -> Iterator[Finding]:
    count = len(known(host.nvml).gpus)
    value = known(host.settings).values.get("CUDA_VISIBLE_DEVICES")
    if not count:
        yield skipped(VISIBLE, text("NVML lists no GPU."))
    elif value is None:
        yield ok(VISIBLE, text("All {count}: CUDA_VISIBLE_DEVICES is not set.", count=count))
    else:
        yield _by_variable(value, count)


def _by_variable(value: str, count: int) -> Finding:
    names = [name.strip() for name in value.split(",")]
    if names in ([""], ["-1"]):
        return bad(
            Status.WARN,
            NONE_VISIBLE,
            text("CUDA_VISIBLE_DEVICES hides every GPU"),
            text("The variable is '{value}'; {count} GPUs are there.", value=value, count=count),
            value=value,
            count=count,
        )
    beyond = [name for name in names if re.fullmatch("-?[0-9]+", name) and not 0 <= int(name) < count]
    if beyond:
        return bad(
            Status.FAIL,
            "invalid-device-ordinal",
            text("CUDA_VISIBLE_DEVICES names a GPU that is not there"),
            text(
                "The variable is '{value}', the GPUs are numbered 0 to {last}; CUDA ignores {beyond} and all after it.",
                value=value,
                last=count - 1,
                beyond=beyond[0],
            ),
            value=value,
            count=count,
        )
    return ok(VISIBLE, text("CUDA_VISIBLE_DEVICES is '{value}'.", value=value), value=value)


CHECKS = (
    Check(
        "driver.nvml",
        NVML,
        answer,
        problems=(
            *("nvml-not-found", "device-node-permission", "gpu-lost", "container-lost-gpu", "sandbox-blocks-gpu"),
            *("selinux-blocks-gpu", "wsl-gpu-lost"),
        ),
        needs=("nvml",),
        explained_by=(
            *NO_MODULE,
            *OUT_OF_REACH,
            *STALE_CACHE,
            "device-node-permission",
            "selinux-blocks-gpu",
        ),
    ),
    Check(
        "driver.visible",
        VISIBLE,
        visible,
        problems=(NONE_VISIBLE, "invalid-device-ordinal"),
        needs=("nvml", "settings"),
    ),
)
