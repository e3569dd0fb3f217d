"""Several engines of one model as one: a prefill and a decode engine, or several prefill lengths.

Their equality is proven, not taken on trust: what the graphs compute by the manifests, the weights by their names,
shapes and hashes, after every file has been held against the manifest that names it. Weights are kept once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter
from torch.export.pt2_archive.constants import AOTINDUCTOR_DIR

import glmcore
from glmcore.checkpoint.tensor_files import SafetensorsFile
from glmcore.compiled.checks import check_files, damaged, path_of, read_manifest
from glmcore.compiled.manifest import ARCHIVE, MANIFEST, Graph, Manifest, Weights
from glmcore.compiled.products import LIBRARY
from glmcore.compiled.work import working
from glmcore.digest import sum_of
from glmcore.errors import GlmError
from glmcore.output import write_text

# What a mismatch is called, and where the manifest has it. Roles and lengths alone may differ.
SAME = {
    "generation": lambda manifest: manifest.config.generation,
    "model": lambda manifest: {name: value for name, value in asdict(manifest.config).items() if name != "raw"},
    "quantisation": lambda manifest: manifest.quantize or "none",
    "type": lambda manifest: manifest.dtype,
    "total length": lambda manifest: manifest.total_len,
    "static batch size": lambda manifest: "-".join(map(str, manifest.batch)),
    "device": lambda manifest: manifest.built.device,
    "card": lambda manifest: manifest.built.capability,
    "torch": lambda manifest: manifest.built.torch,
    "kernel": lambda manifest: manifest.built.kernel,
    "instruction set": lambda manifest: ", ".join(manifest.built.instructions),
    "split": lambda manifest: [f"{s.device}: {s.pieces[0]} to {s.pieces[-1]}" for s in manifest.stages],
    "cache": lambda manifest: [f"{s.computing}, kept in {s.cache}" for s in manifest.stages],
}


@dataclass(frozen=True)
class Engine:
    """An engine's folder and what its manifest says, every file of which has been found to be what it says."""

    folder: Path
    manifest: Manifest

    def constants(self) -> dict[str, Constant]:
        """Where each constant of the graphs lies."""
        parts = self.manifest.weights
        return {name: Constant(self, part, tensor) for part in parts for name, tensor in part.tensors.items()}


@dataclass(frozen=True)
class Constant:
    engine: Engine
    part: Weights
    tensor: str  # its name in the file

    @property
    def path(self) -> Path:
        return path_of(self.engine.folder, self.part)


def combine(folders: Sequence[str | Path], output: str | Path) -> Manifest:
    """Make the engine that has the graphs of all of ``folders`` at ``output``: it is there whole or not at all.

    A graph that several have is the first one's. Errors: GlmError("usage") where they do not go together, with both
    values; those of ``check_files``; GlmError("write-failed").
    """
    if len(folders) < 2:
        raise GlmError("usage", f"{len(folders)} engines are named, two or more are combined")
    engines = [opened(Path(folder)) for folder in folders]
    first, *others = engines
    for other in others:
        check_same(first, other)
        check_weights(first, other)
    files = companions(engines)
    output = Path(os.path.abspath(output))
    with working(output) as work, work.engines() as [folder]:
        return put_together(engines, files, folder)


def opened(folder: Path) -> Engine:
    """Errors: GlmError("model-path", "engine-invalid", "engine-damaged")."""
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return Engine(folder, manifest)


def check_same(first: Engine, other: Engine) -> None:
    """GlmError("usage") for the first thing that two engines differ in, with both values."""
    for what, value in SAME.items():
        ours, theirs = value(first.manifest), value(other.manifest)
        if ours != theirs:
            raise unlike(first, other, f"another {what}", *narrowed(ours, theirs))


def narrowed(ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Of two long records the first entry that differs."""
    if isinstance(ours, dict):
        name = next(name for name in ours if ours[name] != theirs[name])
        return f"{name} {ours[name]}", f"{name} {theirs[name]}"
    if isinstance(ours, list):
        return "; ".join(ours), "; ".join(theirs)
    return ours, theirs


def check_weights(first: Engine, other: Engine) -> None:
    """GlmError("usage") for the first constant that is not the same tensor in both: by name, shape and hash."""
    ours, theirs = first.constants(), other.constants()
    if lacking := sorted(ours.keys() ^ theirs.keys()):
        has, not_there = (first, other) if lacking[0] in ours else (other, first)
        raise unlike(has, not_there, "other weights", f"has {lacking[0]}", "does not")
    for name, mine in ours.items():
        yours = theirs[name]
        if (mine.part.sha256, mine.tensor) == (yours.part.sha256, yours.tensor):
            continue
        for said, same in ((shape_of(mine), shape_of(yours)), (hash_of(mine), hash_of(yours))):
            if said != same:
                raise unlike(first, other, f"other weights: {name}", said, same)


def shape_of(constant: Constant) -> str:
    with closing(SafetensorsFile(constant.path)) as file:
        info = file.tensors[constant.tensor]
    return f"{list(info.shape)} {str(info.dtype).removeprefix('torch.')}"


def hash_of(constant: Constant) -> str:
    """SHA-256 of a tensor's bytes."""
    import hashlib

    import torch

    with closing(SafetensorsFile(constant.path)) as file:
        tensor = file.mapped(constant.tensor)
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy()).hexdigest()


def unlike(first: Engine, other: Engine, what: str, ours: object, theirs: object) -> GlmError:
    return GlmError(
        "usage", f"the engines are of {what}: {first.folder.name} {ours}, {other.folder.name} {theirs}",
        hint="compile both from one checkpoint with the same options",
    )  # fmt: skip


def put_together(engines: Sequence[Engine], files: Mapping[str, Path], folder: Path) -> Manifest:
    """Archive, weights, ``files`` and manifest, in ``folder``. Errors: OSError, GlmError("engine-damaged")."""
    first = engines[0].manifest
    chosen = graphs_of(engines)
    merge_archives({engine.folder / ARCHIVE: names for engine, names in by_engine(chosen)}, folder / ARCHIVE)
    told = next((engine for engine in engines if engine.manifest.golden), engines[0])
    for name, source in files.items():
        place(source, folder / name)
    manifest = replace(
        first,
        glmcore=glmcore.__version__,
        graphs=tuple(chosen),
        weights=tuple(kept(engines[0].folder, part, folder) for part in first.weights),
        plan=max((engine.manifest.plan for engine in engines), key=planned_bytes),
        files={},
        golden=told.manifest.golden,
    )
    own = {part.file for part in manifest.weights if part.how == "inside"}
    sums = {path.name: sum_of(path) for path in sorted(folder.iterdir()) if path.name not in own}
    manifest = replace(manifest, files=sums)
    write_text(folder / MANIFEST, manifest.text())
    return manifest


def graphs_of(engines: Sequence[Engine]) -> dict[Graph, Engine]:
    """Every graph and whose it is, prefill by prefill."""
    found: dict[Graph, Engine] = {}
    for engine in engines:
        for graph in engine.manifest.graphs:
            found.setdefault(graph, engine)
    return found


def by_engine(chosen: Mapping[Graph, Engine]) -> Iterator[tuple[Engine, list[str]]]:
    for engine in {id(engine): engine for engine in chosen.values()}.values():
        yield engine, [graph.name for graph, owner in chosen.items() if owner is engine]


def merge_archives(sources: Mapping[Path, Sequence[str]], target: Path) -> None:
    """An archive of the named graphs of several. Errors: GlmError("engine-damaged") where one is not there."""
    with PT2ArchiveWriter(str(target)) as writer:
        for source, names in sources.items():
            reader = PT2ArchiveReader(str(source))
            records = reader.get_file_names()
            for name in names:
                held = [record for record in records if record.startswith(f"{AOTINDUCTOR_DIR}{name}/")]
                if not held:
                    raise damaged(f"{ARCHIVE} has no graph {name}", source)
                for record in held:
                    writer.write_bytes(record, reader.read_bytes(record))


def companions(engines: Sequence[Engine]) -> dict[str, Path]:
    """The files beside archive and weights: of reference calls the first, and of the products, which other compilers
    make other bytes of, as what they were made of has been found to be the same (the kernel's hash).

    Errors: GlmError("usage") for another one that is not the same in all that have it.
    """
    found: dict[str, tuple[Engine, Path]] = {}
    for engine in engines:
        for name, own in engine.manifest.files.items():
            if name == ARCHIVE or (name in (engine.manifest.golden, LIBRARY) and name in found):
                continue
            before, _ = found.setdefault(name, (engine, engine.folder / name))
            theirs = before.manifest.files[name]
            if theirs != own:
                raise unlike(before, engine, f"another {name}", theirs.sha256, own.sha256)
    return {name: path for name, (_, path) in found.items()}


def kept(folder: Path, part: Weights, target: Path) -> Weights:
    """A file of weights as the combined engine has it: inside, or mapped from where the checkpoint lies."""
    source = path_of(folder, part)
    if source.parent != folder:
        return part
    place(source, target / source.name)
    return replace(part, file=source.name, how="inside")


def place(source: Path, target: Path) -> None:
    """The same file under another name where the disk allows that, else a copy. Errors: OSError."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def planned_bytes(plan: Mapping[str, Any]) -> int:
    """A longer prefill needs the larger workspace."""
    return sum(device["total_bytes"] for device in plan["devices"])
