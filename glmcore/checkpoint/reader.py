"""A checkpoint folder: its configuration, and its tensors by their original names, read when asked for.

Where the files hold a tensor under other names or in several parts (``layout.parts``), it is put together as it is
read: never more than that one tensor lies in memory twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from torch import Tensor

from glmcore.checkpoint.files import WeightFiles, find_weights
from glmcore.checkpoint.headers import SHOWN
from glmcore.checkpoint.memory import huge_empty
from glmcore.checkpoint.tensor_files import TensorFile, TensorInfo, open_tensor_file
from glmcore.config import ModelConfig
from glmcore.errors import GlmError, plain
from glmcore.layout import Spec, in_files, is_ignored, parts
from glmcore.packing import from_words, to_words


class Checkpoint:
    """Opened and checked against its configuration; nothing but headers has been read."""

    def __init__(
        self, folder: Path, config: ModelConfig, files: list[TensorFile], holders: dict[str, TensorFile]
    ) -> None:
        self.folder, self.config = folder, config
        self._files, self.holders = files, holders
        self._parts = parts(config)
        self.names = tuple(name for name in self._parts if all(part in holders for part in self._pieces(name)))

    def info(self, name: str) -> TensorInfo:
        """Type and shape of a tensor, without reading it."""
        of = self._pieces(name)
        (part, spec), *others = of.items()
        first = self.stored(part)
        if not others and spec.kind in ("float", "packed"):
            return first
        rows = sum(self.stored(part).shape[0] for part in of)
        if spec.kind == "words":
            return TensorInfo(torch.int8, (rows, 4 * first.shape[1]))
        return TensorInfo(first.dtype, (rows,) if is_column(spec) else (rows, *first.shape[1:]))

    def _pieces(self, name: str) -> dict[str, Spec]:
        """The parts whose rows a tensor has."""
        return {part: spec for part, spec in self._parts[name].items() if spec.kind != "shape"}

    def stored(self, part: str) -> TensorInfo:
        """The same of a tensor by the name that it has in its file."""
        return self.holders[part].tensors[part]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that hold the tensors."""
        return tuple(sorted({file.path for file in self.holders.values()}))

    def tensor(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        """A tensor [N, ...], or its rows from ``first`` to before ``last``, in memory of its own, in the file's type.

        Threads may read at once. Errors: GlmError("checkpoint-damaged").
        """
        of = self._pieces(name)
        if len(of) > 1:
            return self._joined(name, first, self.info(name).shape[0] if last is None else last)
        (part, spec), *_ = of.items()
        return as_ours(self.holders[part].read(part, first, last), spec)

    def _joined(self, name: str, first: int, last: int) -> Tensor:
        """Rows of a tensor that lies in several parts, one below the other."""
        info, begin = self.info(name), 0
        whole = huge_empty((last - first, *info.shape[1:]), info.dtype)
        for part, spec in self._pieces(name).items():
            low, high = max(first - begin, 0), min(last - begin, spec.shape[0])
            if low < high:
                at = begin + low - first
                whole[at : at + high - low] = as_ours(self.holders[part].read(part, low, high), spec)
            begin += spec.shape[0]
        return whole

    def mapped(self, name: str) -> Tensor:
        """A tensor in the shape and type in which it is stored, in the file's own pages where that can be.

        Threads may ask at once. Errors: GlmError("checkpoint-damaged").
        """
        (part, spec), *others = self._pieces(name).items()
        if others or spec.kind == "words":
            return self.tensor(name)
        return as_ours(self.holders[part].mapped(part), spec)

    @property
    def nbytes(self) -> int:
        return sum(self.info(name).nbytes for name in self.names)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_column(spec: Spec) -> bool:
    """Whether the file keeps a vector as a column."""
    return spec.kind == "scale" and len(spec.shape) == 2


def as_ours(tensor: Tensor, spec: Spec) -> Tensor:
    """A part of a file, [N, ...], as the modules have it.

    Eight int4 values of a word become four bytes, a column [N, 1] becomes a vector [N].
    """
    if spec.kind == "words":
        return from_words(tensor)
    return tensor[:, 0] if is_column(spec) else tensor


def cut(tensor: Tensor, of: Mapping[str, Spec]) -> Iterator[tuple[str, Tensor]]:
    """A tensor of the modules, [N, ...], as the files keep it: its parts, rows of it, by their names there."""
    part = tensor
    for name, spec in of.items():
        if spec.kind == "shape":  # of the words before it
            yield name, torch.tensor([len(part), 2 * part.shape[1]])
            continue
        part, tensor = tensor[: spec.shape[0]], tensor[spec.shape[0] :]
        yield name, to_words(part) if spec.kind == "words" else part[:, None] if is_column(spec) else part


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open the checkpoint in the folder ``path``; whatever is wrong with it is said here, before anything is loaded."""
    folder = Path(path)
    config = ModelConfig.from_folder(folder)
    weights = find_weights(folder)
    with ExitStack() as opened:
        files = [opened.enter_context(closing(open_tensor_file(file))) for file in weights.paths]
        holders = {name: file for name, file in _holders(folder, files, weights).items() if not is_ignored(name)}
        checkpoint = Checkpoint(folder, config, files, holders)
        check_tensors(checkpoint)
        opened.pop_all()
    return checkpoint


def _holders(folder: Path, files: list[TensorFile], weights: WeightFiles) -> dict[str, TensorFile]:
    """Which file holds which tensor: what the files say, and the index where several have the same name."""
    by_name = {str(file.path.relative_to(folder)): file for file in files}
    holders: dict[str, TensorFile] = {}
    for file in files:
        holders |= dict.fromkeys(file.tensors, file)
    for name, shard in (weights.index or {}).items():
        file = by_name[str(Path(shard))]
        if name not in file.tensors:
            what = f"the index puts {plain(name, SHOWN)} into {plain(shard, SHOWN)}, where it is not"
            raise GlmError("checkpoint-damaged", what, where=str(folder), hint="download index and shards again")
        holders[name] = file
    return holders


def check_tensors(checkpoint: Checkpoint) -> None:
    """Compare the tensors with what config.json describes.

    Errors: GlmError("checkpoint-mismatch"), which names the tensor and the field.
    """
    wanted, held = in_files(checkpoint.config), checkpoint.holders
    other = other_spelling(checkpoint.config, held)
    if other is not None:
        raise _mismatch(checkpoint, *other)
    for name, spec in wanted.items():
        if name in held:
            _check_tensor(checkpoint, name, spec)
        elif not spec.optional:
            raise _missing(checkpoint, name, spec)
    for name in held:
        if name not in wanted:
            raise _mismatch(
                checkpoint, f"holds {plain(name, SHOWN)}, which config.json has no place for", _hint_for_extra(name)
            )
    for whole in parts(checkpoint.config).values():
        kinds = {n: _short(checkpoint.stored(n)) for n, s in whole.items() if n in held and s.kind != "shape"}
        if len(set(kinds.values())) > 1:
            what = ", ".join(f"{name} as {kind}" for name, kind in kinds.items())
            raise _mismatch(checkpoint, f"holds {what}, which make up one matrix", "download the weights again")


def other_spelling(config: ModelConfig, held: Iterable[str]) -> tuple[str, str] | None:
    """What is wrong and what helps, where the tensors have the names of another layout than config.json is written in.

    The original spells them ``transformer.…``, transformers' own classes ``model.layers.…``.
    """
    hf = config.traits.files == "hf"
    theirs = "transformer." if hf else "model.layers."
    name = next((name for name in held if name.startswith(theirs)), None)
    if name is None:
        return None
    layouts = ("transformers' own layout", "the original layout")
    weights, configuration = layouts[hf], layouts[not hf]
    return (
        f"holds {plain(name, SHOWN)} and so is in {weights}, config.json describes {configuration}",
        "take config.json and weights from the same repository: those that end in -hf are transformers' own",
    )


def _check_tensor(checkpoint: Checkpoint, name: str, spec: Spec) -> None:
    info, bits = checkpoint.stored(name), checkpoint.config.quantization_bit
    held = f"holds {name} as {_short(info)}"
    if spec.kind == "shape":
        return  # says again what the words' own shape says
    if spec.kind == "words" and info.dtype != torch.int32:
        hint = "get the quantised files again"
        raise _mismatch(checkpoint, f"{held}, config.json says int4 in words of 32 bits", hint)
    if spec.kind == "packed" and info.dtype != torch.int8:
        hint = "set quantization_bit to 0, or get the quantised files"
        raise _mismatch(checkpoint, f"{held}, config.json says quantization_bit {bits}", hint)
    if spec.kind not in ("packed", "words") and not info.dtype.is_floating_point:
        found = _bits(info, spec)
        what = f"holds {name} as int{found}" if found else held
        hint = f"set quantization_bit to {found or '4 or 8'} if these are quantised files"
        raise _mismatch(checkpoint, f"{what}, config.json says it is not quantised", hint)
    other = 12 - bits
    if spec.kind == "packed" and info.shape == (spec.shape[0], spec.shape[1] * other // bits):
        what = f"holds {name} as int{other}, config.json says quantization_bit {bits}"
        raise _mismatch(checkpoint, what, f"set quantization_bit to {other}")
    if info.shape != spec.shape:
        what = f"holds {name} with shape {list(info.shape)}, config.json asks for {list(spec.shape)}"
        raise _mismatch(checkpoint, what, "config.json and the weights belong to different models")


def _missing(checkpoint: Checkpoint, name: str, spec: Spec) -> GlmError:
    if spec.kind == "scale":
        return _mismatch(
            checkpoint, f"has no {name}: the scales of a quantised weight are missing", "get the quantised files again"
        )
    return _mismatch(
        checkpoint, f"has no {name}, which config.json asks for", "config.json and the weights do not belong together"
    )


def _hint_for_extra(name: str) -> str:
    if name.endswith(".weight_scale"):
        return "these are quantised weights: set quantization_bit to 4 or 8"
    return "compare num_layers and the other fields with the original config.json"


def _bits(info: TensorInfo, spec: Spec) -> int:
    """The bits of integers that stand in place of a float matrix of shape ``spec``, 0 where they are none of ours."""
    if info.shape == spec.shape:
        return 8
    return 4 if info.shape == (*spec.shape[:-1], spec.shape[-1] // 2) else 0


def _short(info: TensorInfo) -> str:
    return str(info.dtype).removeprefix("torch.")


def _mismatch(checkpoint: Checkpoint, what: str, hint: str) -> GlmError:
    return GlmError("checkpoint-mismatch", f"the checkpoint {what}", where=str(checkpoint.folder), hint=hint)
