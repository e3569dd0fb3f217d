"""What an engine says of itself: ``manifest.json``, read and written. Pure, imports no torch.

An engine is a folder: ``engine.pt2`` with its graphs, the weights (in the folder, or where the checkpoint has them),
the tokenizer's files, and the manifest, which carries the hash of each of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from glmcore.config import ModelConfig
from glmcore.config.hf import Yarn
from glmcore.digest import FileSum
from glmcore.errors import GlmError, plain
from glmcore.reading import parse_json

SCHEMA_VERSION = 1
MANIFEST, ARCHIVE = "manifest.json", "engine.pt2"
ROLES = ("prefill", "decode", "golden")
# What each graph takes before its caches, in this order; ``compiled.stages`` says what they are.
INPUTS = ("taken", "slots", "positions", "visible", "last", "order")


@dataclass(frozen=True)
class Graph:
    """A graph of the archive: what it does, for how many tokens of each row, and which part of the plan it is."""

    role: str  # one of ROLES
    length: int  # tokens of each row; 1 of a "decode"
    stage: int  # 0, 1, …: a run of pieces on one device, in the order of the forward pass
    name: str  # in the archive

    @classmethod
    def of(cls, role: str, length: int, stage: int) -> Graph:
        return cls(role, length, stage, f"{role}.{length}.{stage}")


@dataclass(frozen=True)
class Stage:
    """The pieces that one device computes one after the other; ``caches`` names its graphs' caches in their order."""

    device: str
    pieces: tuple[str, ...]
    caches: tuple[str, ...]  # "layer.0.keys", "layer.0.values", "layer.1.keys", …
    computing: str  # the type of hidden states
    cache: str  # the type of keys and values



@dataclass(frozen=True)
class Weights:
    """A safetensors file and which of its tensors are which constants of the graphs."""

    file: str  # a name in the engine's folder where it lies inside, else an absolute path
    how: str  # "inside", or "mapped" from the checkpoint's own folder
    size: int  # bytes
    sha256: str
    tensors: Mapping[str, str]  # constant → the tensor's name in the file


@dataclass(frozen=True)
class Built:
    """What the graphs were compiled for and with; an engine runs where all of it is the same."""

    device: str  # "cpu" or "cuda"
    torch: str  # its version, with the local part
    kernel: str  # hash of the quantised products' sources; "" where no graph uses them
    instructions: tuple[str, ...]  # the CPU flags (as Linux names them) that the code takes
    capability: str = ""  # of the card, "9.0"


@dataclass(frozen=True)
class Manifest:
    """An engine. Lengths count tokens, ``batch`` is the least and the largest number of rows that its graphs take."""

    glmcore: str
    name: str
    config: ModelConfig  # as the graphs compute it: quantised, where they are
    dtype: str
    quantize: str | None
    total_len: int
    batch: tuple[int, int]
    built: Built
    plan: Mapping[str, Any]  # ``Plan.to_json``
    stages: tuple[Stage, ...]
    graphs: tuple[Graph, ...]
    weights: tuple[Weights, ...]
    files: Mapping[str, FileSum]  # every file of the folder but the manifest and the weights
    golden: str | None = None  # the file of ``files`` that holds the reference call

    @property
    def roles(self) -> tuple[str, ...]:
        """Those that there are graphs for, in the order of ROLES."""
        return tuple(role for role in ROLES if any(graph.role == role for graph in self.graphs))

    def lengths(self, role: str = "prefill") -> tuple[int, ...]:
        """The lengths of the graphs of a role, ascending."""
        return tuple(sorted({graph.length for graph in self.graphs if graph.role == role}))

    def stages_of(self, role: str, length: int) -> tuple[Graph, ...]:
        """The graphs of one call, in the order of their stages."""
        found = [graph for graph in self.graphs if (graph.role, graph.length) == (role, length)]
        return tuple(sorted(found, key=lambda graph: graph.stage))

    def to_json(self) -> dict[str, Any]:
        """What ``manifest_from_json`` reads back to an equal one."""
        data = asdict(self)
        del data["config"]["raw"]
        return {
            "schema_version": SCHEMA_VERSION,
            "glmcore": data.pop("glmcore"),
            "name": data.pop("name"),
            "generation": self.config.generation,
            **data,
            "inputs": list(INPUTS),
        }

    def text(self) -> str:
        """The content of ``manifest.json``."""
        return json.dumps(self.to_json(), ensure_ascii=False, indent=1) + "\n"


def manifest_from_json(text: str | bytes, where: str = "") -> Manifest:
    """The manifest of a ``manifest.json``. Errors: GlmError("engine-invalid") for whatever is none of this version."""
    try:
        data = parse_json(text)
        version, inputs = data["schema_version"], tuple(data["inputs"])
        if type(version) is not int or version != SCHEMA_VERSION:
            raise ValueError(f"its schema version is {version!r}, this glmcore knows {SCHEMA_VERSION}")
        manifest = _manifest(data)
        if inputs != INPUTS:
            raise ValueError(f"its graphs take {', '.join(map(str, inputs))}")
        _check(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        what = f"{MANIFEST} is none of an engine: {plain(said, 160)}"
        raise invalid(what, where, "make the engine anew: glmcore compile") from error
    return manifest


def invalid(what: str, where: str | Path, hint: str = "") -> GlmError:
    return GlmError("engine-invalid", what, where=str(where), hint=hint)


def _manifest(data: Mapping[str, Any]) -> Manifest:
    least, most = data["batch"]
    return Manifest(
        glmcore=_text(data["glmcore"]),
        name=_text(data["name"]),
        config=_config(data["config"]),
        dtype=_text(data["dtype"]),
        quantize=None if data["quantize"] is None else _text(data["quantize"]),
        total_len=_natural(data["total_len"]),
        batch=(_natural(least), _natural(most)),
        built=_record(Built, data["built"]),
        plan=dict(data["plan"]),
        stages=tuple(_record(Stage, entry) for entry in data["stages"]),
        graphs=tuple(_record(Graph, entry) for entry in data["graphs"]),
        weights=tuple(_record(Weights, entry) for entry in data["weights"]),
        files={_text(name): _record(FileSum, entry) for name, entry in data["files"].items()},
        golden=None if data["golden"] is None else _text(data["golden"]),
    )


def _config(entry: Mapping[str, Any]) -> ModelConfig:
    known = {field.name: entry[field.name] for field in fields(ModelConfig) if field.name != "raw"}
    known["eos_token_ids"] = tuple(_natural(token) for token in known["eos_token_ids"])
    known["yarn"] = None if known["yarn"] is None else Yarn(**known["yarn"])
    for name in ("num_layers", "hidden_size", "num_heads", "head_dim", "num_kv_heads", "vocab_size", "max_length"):
        _natural(known[name])
    config = ModelConfig(**known)
    _ = config.traits  # KeyError for a generation that nobody knows
    return config


def _record(kind: Any, entry: Mapping[str, Any]) -> Any:
    """One of the records above. Errors: ValueError, KeyError for what it does not hold."""
    found: dict[str, Any] = {}
    for field in fields(kind):
        value = entry[field.name]
        if field.type == "int":
            found[field.name] = _natural(value, 0)
        elif field.type == "str":
            found[field.name] = _text(value)
        elif field.type == "tuple[str, ...]":
            found[field.name] = tuple(_text(part) for part in value)
        else:
            found[field.name] = {_text(key): _text(name) for key, name in value.items()}
    return kind(**found)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{plain(repr(value), 60)} is no text")
    return value


def _natural(value: Any, least: int = 1) -> int:
    if type(value) is not int or not least <= value < 2**48:
        raise ValueError(f"{plain(repr(value), 60)} is no number from {least} on")
    return value


def _check(manifest: Manifest) -> None:
    """ValueError for an engine whose parts do not go together, or whose files lie where none of its own do."""
    if manifest.batch[0] > manifest.batch[1] or not manifest.stages or not manifest.graphs:
        raise ValueError("it has no graphs, stages or rows")
    if len({graph.name for graph in manifest.graphs}) < len(manifest.graphs):
        raise ValueError("two graphs have one name")
    wanted = list(range(len(manifest.stages)))
    for graph in manifest.graphs:
        if graph.role not in ROLES or not 1 <= graph.length <= manifest.total_len:
            raise ValueError(
                f"a graph {graph.role} of {graph.length} tokens is none of an engine of {manifest.total_len}"
            )
        if [other.stage for other in manifest.stages_of(graph.role, graph.length)] != wanted:
            raise ValueError(f"{graph.role} of {graph.length} tokens lacks a stage, or has one twice")
    inside = [*manifest.files, *(part.file for part in manifest.weights if part.how == "inside")]
    for name in inside:
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise ValueError(f"{plain(repr(name), 60)} is no file of the folder")
    for part in manifest.weights:
        if part.how not in ("inside", "mapped") or (part.how == "mapped" and not part.file.startswith("/")):
            raise ValueError(f"{plain(repr(part.file), 60)} is neither inside nor mapped from a path")
    if ARCHIVE not in manifest.files or (manifest.golden is not None and manifest.golden not in manifest.files):
        raise ValueError(f"it names no {manifest.golden if ARCHIVE in manifest.files else ARCHIVE}")
