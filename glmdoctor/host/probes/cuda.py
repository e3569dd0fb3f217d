"""The variables and folders that say where the CUDA toolkit is."""

from __future__ import annotations

import json
import posixpath
import re

from glmdoctor.host.facts import CudaInstall
from glmdoctor.host.io import IO

DEFAULT = "/usr/local/cuda"
WINDOWS_DEFAULT = "C:\\Program Files\\NVIDIA GPU Computing Toolkit\\CUDA"


def cuda(io: IO) -> CudaInstall:
    env = io.env()
    cuda_path, cuda_home = env.get("CUDA_PATH"), env.get("CUDA_HOME")
    default = WINDOWS_DEFAULT if io.system == "Windows" else DEFAULT
    return CudaInstall(
        cuda_path=cuda_path,
        cuda_home=cuda_home,
        default=default,
        default_exists=io.is_folder(default),
        default_target=_target(io, default),
        folders={folder: io.is_folder(f"{folder}/lib64") for folder in (cuda_path, cuda_home, default) if folder},
        toolkits=_toolkits(io, cuda_path, cuda_home),
        nvcc=io.which("nvcc"),
    )


def _target(io: IO, path: str) -> str | None:
    try:
        return posixpath.normpath(posixpath.join(posixpath.dirname(path), io.readlink(path)))
    except OSError:
        return None


def _toolkits(io: IO, *named: str | None) -> dict[str, str]:
    """Folders that hold a toolkit (once each, links aside) and their versions."""
    if io.system == "Windows":
        versions = (name for name in io.names(WINDOWS_DEFAULT) if re.fullmatch(r"v[\d.]+", name))
        return {f"{WINDOWS_DEFAULT}\\{name}": name[1:] for name in versions}
    local = [f"/usr/local/{name}" for name in io.names("/usr/local") if re.fullmatch(r"cuda-[\d.]+", name)]
    found: dict[str, str] = {}
    seen: set[str] = set()
    for folder in (*local, DEFAULT, "/opt/cuda", "/usr/lib/cuda", *(name for name in named if name)):
        if not io.is_folder(folder) or not posixpath.isabs(folder):
            continue
        real = io.realpath(folder)
        version = toolkit_version(io, folder)
        if real not in seen and (version or io.is_file(f"{folder}/bin/nvcc")):
            seen.add(real)
            found[folder] = version
    return found


def toolkit_version(io: IO, folder: str) -> str:
    """ "13.0.88" by version.json (11.1 and later), version.txt (older) or the headers; "" where none tells."""
    raw = io.text_or_none(f"{folder}/version.json")
    if raw:
        try:
            entry = json.loads(raw)["cuda"]["version"]
            return str(entry)
        except (ValueError, KeyError, TypeError):
            pass
    by_text = re.search(r"CUDA Version ([\d.]+)", io.text_or_none(f"{folder}/version.txt") or "")
    if by_text:
        return by_text.group(1)
    by_header = re.search(r"#define CUDA_VERSION (\d{1,9})", io.text_or_none(f"{folder}/include/cuda.h") or "")
    if by_header:
        number = int(by_header.group(1))
        return f"{number // 1000}.{number % 1000 // 10}"
    by_name = re.fullmatch(r"cuda-(\d+\.\d+)", posixpath.basename(folder))
    return by_name.group(1) if by_name else ""
