"""The Windows Subsystem for Linux, where libcuda is that of the Windows driver."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, ok, skipped
from glmdoctor.findings import Finding, Status
from glmdoctor.messages import text

TITLE = text("GPU under WSL")
FOLDER = "/usr/lib/wsl/lib"


def adapter(host: Machine) -> Iterator[Finding]:
    if not known(host.os).wsl:
        yield skipped(TITLE, text("This is not WSL."))
        return
    names = [lib for lib in known(host.libraries) if lib.name == "cuda" and lib.path.startswith(FOLDER)]
    if not names:
        yield bad(
            Status.WARN,
            "wsl-no-adapter",
            text("WSL sees no GPU"),
            text("{folder} holds no libcuda: Windows has no NVIDIA driver for WSL, or no card.", folder=FOLDER),
            folder=FOLDER,
        )
        return
    copies = [lib.path for lib in names if not lib.is_link and lib.path.endswith(".so.1")]
    yield ok(
        TITLE,
        text("{folder} holds libcuda; that ldconfig calls it no symbolic link is harmless.", folder=FOLDER)
        if copies
        else text("{folder} holds libcuda.", folder=FOLDER),
        copies=copies,
    )


CHECKS = (Check("wsl.adapter", TITLE, adapter, problems=("wsl-no-adapter",), needs=("os", "libraries")),)
