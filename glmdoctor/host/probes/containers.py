"""Docker on this host, and whether it was given a way to hand NVIDIA's cards to containers."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping

from glmdoctor.host.facts import Containers, Unknown
from glmdoctor.host.io import IO

SOCKETS = ("/run/docker.sock", "/var/run/docker.sock")
DAEMON = "/etc/docker/daemon.json"
# Any of them means that the toolkit is installed; Docker's --gpus asks for the first alone.
TOOLKIT = ("nvidia-container-runtime-hook", "nvidia-container-toolkit", "nvidia-container-runtime", "nvidia-ctk")
CDI_FOLDERS = ("/etc/cdi", "/run/cdi", "/var/run/cdi")
CDI_KIND = "nvidia.com/gpu"


def containers(io: IO) -> Containers | Unknown:
    if io.system != "Linux":
        return Unknown(f"how containers get cards is looked at on Linux; this is {io.system}")
    return Containers(
        docker=io.which("dockerd") or next((path for path in SOCKETS if io.exists(path)), None),
        toolkit=next((path for name in TOOLKIT if (path := io.which(name))), None),
        runtimes=_runtimes(io),
        cdi=tuple(_cdi(io)),
    )


def _runtimes(io: IO) -> dict[str, str | None]:
    """Runtimes of daemon.json with a program of their own; the file may hold anything."""
    try:
        rows = json.loads(io.text_or_none(DAEMON) or "{}").get("runtimes")
    except (ValueError, AttributeError, RecursionError):
        return {}
    paths = {name: row.get("path") for name, row in rows.items() if isinstance(row, dict)} if _is(rows) else {}
    return {str(name): io.which(path) for name, path in paths.items() if isinstance(path, str) and path}


def _is(rows: object) -> bool:
    return isinstance(rows, Mapping)


def _cdi(io: IO) -> list[str]:
    """Specifications by what they say, since their files may have any name; one folder counts under one name."""
    files = [f"{folder}/{name}" for folder in CDI_FOLDERS for name in io.names(folder)]
    named = [file for file in files if file.endswith((".yaml", ".json")) and CDI_KIND in (io.text_or_none(file) or "")]
    return list({io.realpath(posixpath.dirname(file)) + posixpath.basename(file): file for file in named}.values())
