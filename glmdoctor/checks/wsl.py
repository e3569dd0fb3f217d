"""The Windows Subsystem for Linux, where libcuda is that of the Windows driver."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.findings import Finding, Owner, Status
from glmdoctor.host.facts import Library
from glmdoctor.messages import text
from glmdoctor.readings.cards import wsl_libcuda
from glmdoctor.readings.driver import WSL_FOLDER, from_windows, is_compat, loaded_as

TITLE = text("GPU under WSL")
LIBCUDA = text("libcuda under WSL")
NOT_WSL = text("This is not WSL.")
NO_LIBCUDA = text("{folder} holds no libcuda.", folder=WSL_FOLDER)


def adapter(host: Machine) -> Iterator[Finding]:
    driver = maybe(host.kernel_driver)
    if not known(host.os).wsl:
        yield skipped(TITLE, NOT_WSL)
    elif not wsl_libcuda(host):
        yield bad(
            Status.WARN,
            "wsl-no-adapter",
            text("WSL sees no GPU"),
            text("{folder} holds no libcuda: Windows has no NVIDIA driver for WSL, or no card.", folder=WSL_FOLDER),
            folder=WSL_FOLDER,
        )
    elif driver and driver.dxg is False:
        yield bad(
            Status.FAIL,
            "wsl-gpu-lost",
            text("WSL has lost its way to the GPU"),
            text("Windows' driver lies in {folder}, but its device /dev/dxg is not there.", folder=WSL_FOLDER),
            folder=WSL_FOLDER,
            dxg=False,
        )
    else:
        yield ok(TITLE, text("{folder} holds libcuda.", folder=WSL_FOLDER))


def libcuda(host: Machine) -> Iterator[Finding]:
    """Windows lays copies where links would be, which is harmless while they are equal and come first."""
    names, used = wsl_libcuda(host), loaded_as(host, "libcuda.so.1")
    if not known(host.os).wsl or not names:
        yield skipped(LIBCUDA, NO_LIBCUDA if known(host.os).wsl else NOT_WSL)
        return
    if used and not from_windows(used) and not used.stub and not is_compat(used):
        yield _shadowed(used)
        return
    copies = {lib.path: lib.size for lib in names if not lib.is_link}
    if len(set(copies.values())) > 1:
        yield bad(
            Status.WARN,
            "wsl-libcuda-symlink",
            text("WSL's copies of libcuda differ"),
            text(
                "{files} should be one file, but their sizes differ: Windows' driver was exchanged under WSL.",
                files=", ".join(sorted(copies)),
            ),
            sizes=copies,
        )
        return
    detail = text("It comes first; that ldconfig calls it no symbolic link is harmless.") if copies else None
    yield ok(LIBCUDA, detail or text("It comes first."), copies=sorted(copies))


def _shadowed(used: Library) -> Finding:
    return bad(
        Status.FAIL,
        "wsl-libcuda-shadowed",
        text("A Linux driver's libcuda hides that of WSL"),
        text(
            "Programs load {path}{owner}, which finds no device under WSL; that of {folder} has to come first.",
            path=used.path,
            owner=f" [{used.owner}]" if used.owner else "",
            folder=WSL_FOLDER,
        ),
        Owner(used.owner) if used.owner else None,
        path=used.path,
        owner=used.owner,
        chain=list(used.chain),
    )


CHECKS = (
    Check(
        "wsl.adapter",
        TITLE,
        adapter,
        problems=("wsl-no-adapter", "wsl-gpu-lost"),
        needs=("os", "libraries"),
    ),
    Check(
        "wsl.libcuda",
        LIBCUDA,
        libcuda,
        problems=("wsl-libcuda-shadowed", "wsl-libcuda-symlink"),
        needs=("os", "libraries", "loader"),
    ),
)
