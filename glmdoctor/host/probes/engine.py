"""A compiled engine by its manifest: its files' sizes, the hashes of all but the weights. No code of it is loaded."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import replace

from glmcore.compiled.checks import kernel_hash
from glmcore.compiled.manifest import ARCHIVE, MANIFEST, Manifest, manifest_from_json
from glmcore.errors import GlmError
from glmcore.reading import JSON_LIMIT
from glmdoctor.host.facts import Engine, EngineFile, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes.deep import Progress

BLOCK = 1 << 23
# A checkpoint has one of these; an engine mapped from it may lie in the same folder's copy with neither.
WEIGHTS = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}


def is_engine(io: IO, folder: str) -> bool:
    """Whether a folder holds an engine, whole or not, rather than a checkpoint."""
    names = set(io.names(folder))
    return ARCHIVE in names or (MANIFEST in names and not names & WEIGHTS)


def engine(io: IO, model: str | None) -> Engine | Unknown:
    if model is None:
        return Unknown("no model was named (--model)")
    folder = os.path.abspath(os.path.expanduser(model))
    io = io.bound(folder)
    if not is_engine(io, folder):
        return Unknown("the model is no compiled engine")
    try:
        manifest = manifest_from_json(io.read_bytes(posixpath.join(folder, MANIFEST), JSON_LIMIT))
    except OSError as error:
        return Engine(folder, fault=f"{MANIFEST} cannot be read: {error.strerror}")
    except GlmError as error:
        return Engine(folder, fault=error.what)
    built = manifest.built
    return Engine(
        path=folder,
        name=manifest.name,
        generation=manifest.config.generation,
        graphs=tuple(graph.name for graph in manifest.graphs),
        total_len=manifest.total_len,
        device=built.device,
        capability=built.capability,
        instructions=built.instructions,
        torch=built.torch,
        kernel=built.kernel,
        kernel_here=kernel_hash(),
        files=tuple(_files(io, folder, manifest)),
    )


def engine_weights(io: IO, engine: Engine | Unknown, progress: Progress | None) -> tuple[EngineFile, ...] | Unknown:
    """The files of which ``engine`` knows the sizes alone."""
    if isinstance(engine, Unknown):
        return engine
    files = [file for file in engine.files if not file.hashed and file.fault is None]
    total, before, found = sum(file.size for file in files), 0, []
    for file in files:
        name = posixpath.basename(file.path)

        def tell(done: int, name: str = name, before: int = before) -> None:
            if progress:
                progress(name, before + done, total)

        found.append(_hashed(io.bound(posixpath.dirname(file.path)), file, tell))
        before += file.size
    return tuple(found)


def _files(io: IO, folder: str, manifest: Manifest) -> Iterator[EngineFile]:
    for name, wanted in manifest.files.items():
        file = _sized(io, EngineFile(posixpath.join(folder, name), wanted.size, wanted.sha256))
        yield _hashed(io, file) if file.fault is None else file
    for part in manifest.weights:
        beside = posixpath.join(folder, posixpath.basename(part.file))
        place = io.bound(posixpath.dirname(part.file)) if part.how == "mapped" else io
        # A checkpoint's file may have been copied into the engine's folder.
        inside = part.how == "inside" or (not place.exists(part.file) and io.exists(beside))
        yield _sized(io if inside else place, EngineFile(beside if inside else part.file, part.size, part.sha256))


def _sized(io: IO, file: EngineFile) -> EngineFile:
    try:
        size = io.stat(file.path).st_size
    except FileNotFoundError:
        return replace(file, fault="missing")
    except OSError as error:
        return replace(file, fault=f"cannot be read: {error.strerror}")
    return file if size == file.size else replace(file, fault=f"has {size} bytes of {file.size}", found=size)


def _hashed(io: IO, file: EngineFile, tell: Callable[[int], None] = lambda done: None) -> EngineFile:
    digest, done = hashlib.sha256(), 0
    try:
        with io.open(file.path) as content:
            while block := content.read(BLOCK):
                digest.update(block)
                done += len(block)
                tell(done)
    except OSError as error:
        return replace(file, fault=f"cannot be read: {error.strerror}")
    return replace(file, hashed=True, fault=None if digest.hexdigest() == file.sha256 else "has changed")
