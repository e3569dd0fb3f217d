"""What takes longer (``--deep``): a real kernel on each device, the memories' speed, the hashes of the weights."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator

from glmcore.kernels.build import KernelError, ensure_kernel
from glmdoctor.host.facts import (
    Checkpoint,
    CheckpointFile,
    Cpu,
    FileHash,
    Interpreter,
    KernelRun,
    Nvml,
    Torch,
    Unknown,
)
from glmdoctor.host.io import IO, RealIO
from glmdoctor.host.probes import not_finite
from glmdoctor.host.probes.nvml import child

CPU_SECONDS, GPU_SECONDS = 120.0, 180.0
CHUNK = 1 << 23
HASHED = ("safetensors", "torch-zip", "torch-pickle", "sentencepiece", "tiktoken")
LOOKED_INTO = ("safetensors", "torch-zip")
SHA256 = re.compile("[0-9a-f]{64}")
# Called with a file's name, the bytes read so far and those of all files.
Progress = Callable[[str, int, int], None]


def cpu_run(io: IO, cpu: Cpu | Unknown, kernel_file: str | None) -> KernelRun | Unknown:
    if not isinstance(io, RealIO):
        return Unknown("a recorded machine cannot run a kernel")
    threads = max(1, int(cpu.usable)) if isinstance(cpu, Cpu) else 1
    try:
        library = ensure_kernel(kernel_file, temporary=False)
    except KernelError as error:
        return Unknown(f"no kernel to run: {error}")
    asked = {"library": str(library.path), "sha256": library.sha256, "threads": threads}
    answer = child(io, "kernel_run.py", asked, limit=CPU_SECONDS)
    name = cpu.model if isinstance(cpu, Cpu) else ""
    if isinstance(answer, Unknown):
        return KernelRun("cpu", name, answer.reason)
    return KernelRun("cpu", name, None, **answer)


def gpu_runs(
    io: IO, nvml: Nvml | Unknown, torch: Torch | Unknown, interpreter: Interpreter | Unknown
) -> tuple[KernelRun, ...] | Unknown:
    """By the examined Python's torch; only where NVML lists a card and torch is built for CUDA."""
    if not isinstance(nvml, Nvml) or not nvml.gpus:
        return Unknown("there is no card to run on")
    if isinstance(torch, Unknown) or not torch.cuda or isinstance(interpreter, Unknown):
        return Unknown("there is no torch for CUDA in the examined interpreter")
    answer = child(io, "gpu_run.py", {}, io.env(), interpreter.executable, GPU_SECONDS)
    if isinstance(answer, Unknown):
        return tuple(KernelRun(f"cuda:{gpu.index}", gpu.name, answer.reason) for gpu in nvml.gpus)
    return tuple(KernelRun(**{"fault": None, **row}) for row in answer["runs"])


def hashes(io: IO, checkpoint: Checkpoint | Unknown, progress: Progress | None) -> tuple[FileHash, ...] | Unknown:
    if isinstance(checkpoint, Unknown):
        return checkpoint
    if not checkpoint.readable:
        return Unknown("there is no folder of files to hash")
    io = io.bound(checkpoint.path, _cache_of(checkpoint.path))
    files = [file for file in checkpoint.files if file.kind in HASHED]
    total, before, found = sum(file.size for file in files), 0, []
    for file in files:
        path = posixpath.join(checkpoint.path, file.name)
        digest, weights = hashlib.sha256(), not_finite.Scan(io, path if file.kind in LOOKED_INTO else None)
        for done, block in _blocks(io, path):
            digest.update(block)
            weights.read(done - len(block), block)
            if progress:
                progress(file.name, before + done, total)
        before += file.size
        expected, source = _expected(io, checkpoint.path, file, digest.hexdigest())
        numbers = (tuple(weights.found), weights.looked)
        found.append(FileHash(file.name, file.size, digest.hexdigest(), expected, source, *numbers))
    return tuple(found)


def _blocks(io: IO, path: str) -> Iterator[tuple[int, bytes]]:
    done = 0
    with io.open(path) as file:
        while block := file.read(CHUNK):
            done += len(block)
            yield done, block


def _cache_of(folder: str) -> str:
    """The hub cache's folder of a model, where ``folder`` is one of its snapshots."""
    above = posixpath.dirname(folder)
    return posixpath.dirname(above) if posixpath.basename(above) == "snapshots" else folder


def _expected(io: IO, folder: str, file: CheckpointFile, found: str) -> tuple[str | None, str]:
    """The sha256 that the hub or git-lfs gave for this file, and where that is written."""
    sha256, source = recorded(io, folder, file.name)
    if sha256:
        return sha256, source
    objects = [oid for oid, size in _lfs_objects(io, folder) if size == file.size]
    if objects:
        return (found if found in objects else objects[0]), "git lfs"
    return None, ""


def recorded(io: IO, folder: str, name: str) -> tuple[str | None, str]:
    """The sha256 that the hub's cache or huggingface_hub's record gives for a file by its name."""
    blob = posixpath.basename(io.realpath(posixpath.join(folder, name)))
    if SHA256.fullmatch(blob):
        return blob, "hub cache"
    record = io.text_or_none(f"{folder}/.cache/huggingface/download/{name}.metadata") or ""
    etag = [*record.splitlines(), "", ""][1].strip()
    return (etag, "download record") if SHA256.fullmatch(etag) else (None, "")


def _lfs_objects(io: IO, folder: str) -> Iterator[tuple[str, int]]:
    """git-lfs keeps each file once more under its sha256."""
    top = f"{folder}/.git/lfs/objects"
    for first in io.names(top):
        for second in io.names(f"{top}/{first}"):
            for oid in io.names(f"{top}/{first}/{second}"):
                if SHA256.fullmatch(oid):
                    yield oid, io.stat(f"{top}/{first}/{second}/{oid}").st_size
