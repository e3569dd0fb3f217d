"""What a node says of itself. Runs there, in the node's own environment, as a task of Ray's.

Everything that goes back is plain data: the front may have another version of this package.
"""

from __future__ import annotations

import contextlib
import json
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from glmcore import __version__, programs
from glmcore.checkpoint.locate import find_folder
from glmcore.cluster.fingerprints import fingerprints
from glmcore.errors import GlmError
from glmcore.kernels.threads import default_threads

# Seconds; an examination takes less than one where the kernel has been built, some more where it is built first.
EXAMINATION_S = 120
# What the memory's speed is measured with, where it is not known: larger than caches, soon read.
READ_BYTES, ROUNDS = 64 << 20, 3


def facts(model: str | None, language: str) -> dict[str, Any]:
    """What is asked of a node before it gets anything: versions, cores, memory, cards, and the doctor's report.

    model: a folder or a name on the node; the demo model where None.
    """
    return {
        "host": platform.node(),
        "boot": boot(),
        "versions": versions(),
        "threads": default_threads(),
        "devices": devices(),
        "files": {},
        "report": report(model, language),
    }


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "ray": metadata.version("ray"), "glmcore": __version__}


def boot() -> str:
    """What two nodes on one machine have in common, and no others."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{platform.node()} {psutil.boot_time():.0f}"


def devices() -> list[dict[str, Any]]:
    """Cards and the CPU with what is free of them, in bytes, and bytes/s."""
    from glmcore.machine import present_devices, remember_bandwidth

    found = [{"name": each.name, "budget": each.budget, "bandwidth": each.bandwidth} for each in present_devices()]
    if found[-1]["bandwidth"] is None:
        found[-1]["bandwidth"] = read_speed()
        remember_bandwidth(found[-1]["bandwidth"])
    return found


def read_speed() -> float:
    """Bytes/s at which all threads together read memory, the best of a few rounds.

    The runtime's own sum is used where it is there: it is what reads the weights' types at full width.
    """
    import torch

    torch.set_num_threads(default_threads())
    data = torch.ones(READ_BYTES // 8, dtype=torch.int64)
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        data.sum()
        times.append(time.perf_counter() - started)
    return READ_BYTES / min(times)


def files(model: str | None, adapter: str | None) -> dict[str, Any]:
    """File → sha256, or under "error" why there are none."""
    from glmcore import demo

    try:
        folder = demo.folder() if model is None else find_folder(model)
        return fingerprints(folder, None if adapter is None else Path(adapter))
    except GlmError as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{error.filename}: {error.strerror}"}


def report(model: str | None, language: str) -> dict[str, Any]:
    """What ``glmdoctor check --json`` says here, or under "error" why it says nothing."""
    if model is not None:
        with contextlib.suppress(GlmError):  # the doctor knows folders, and not what the hub's cache calls them
            model = str(find_folder(model))
    asked = ["-m", "glmdoctor", "check", "--json", "--lang", language, *(["--model", model] if model else [])]
    done = programs.run(programs.with_packages(programs.own_python(), *asked), EXAMINATION_S, variables())
    try:
        return json.loads(done.out)
    except ValueError:
        return {"error": " ".join(done.err.split())[-300:] or f"exit status {done.code}"}


def variables() -> dict[str, str] | None:
    """The node's own: Ray starts its workers with others, which hide cards and bind threads."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process().parent().environ()  # type: ignore[union-attr]
    return None


def echo(payload: bytes) -> int:
    """For measuring the way here."""
    return len(payload)
