"""The Windows Subsystem for Linux, where libcuda is that of the Windows driver."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, ok, skipped
from glmdoctor.checks.situation import WSL_FOLDER, wsl_libcuda
from glmdoctor.findings import Finding, Status
from glmdoctor.messages import text

TITLE = text("GPU under WSL")


def adapter(host: Machine) -> Iterator[Finding]:
    if not known(host.os).wsl:
        yield skipped(TITLE, text("This is not WSL."))
        return
    names = wsl_libcuda(host)
    if not names:
        yield bad(
            Status.WARN,
            "wsl-no-adapter",
            text("WSL sees no GPU"),
            text("{folder} holds no libcuda: Windows has no NVIDIA driver for WSL, or no card.", folder=WSL_FOLDER),
            folder=WSL_FOLDER,
        )
        return
    copies = [lib.path for lib in names if not lib.is_link and lib.path.endswith(".so.1")]
    yield ok(
        TITLE,
        text("{folder} holds libcuda; that ldconfig calls it no symbolic link is harmless.", folder=WSL_FOLDER)
        if copies
        else text("{folder} holds libcuda.", folder=WSL_FOLDER),
        copies=copies,
    )


CHECKS = (Check("wsl.adapter", TITLE, adapter, problems=("wsl-no-adapter",), needs=("os", "libraries")),)
