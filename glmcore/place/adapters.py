"""Adapters that are put on a loaded model: LoRA in PEFT's layout and the prefixes of P-Tuning v2.

An adapter is read and checked against the model's configuration first, which needs no model, and applied after.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glmcore.checkpoint.files import LORA_FILES, find_weights, refuse_stand_in
from glmcore.checkpoint.headers import SHOWN
from glmcore.checkpoint.tensor_files import TensorFile, open_tensor_file
from glmcore.config import ModelConfig
from glmcore.errors import GlmError, plain
from glmcore.layout import in_files, parts
from glmcore.models.prefix import Prefix, prefix_of
from glmcore.place.part import Part
from glmcore.quant.lora import add_low_rank
from glmcore.reading import read_json

ENCODER = "transformer.prefix_encoder."
LORA_NAME = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
# Variants of LoRA that compute something else.
OTHER_FORMS = ("use_dora", "fan_in_fan_out", "lora_bias")

Pair = tuple[Tensor, Tensor, float]  # [rank, in], [out, rank], and the factor of their product


@dataclass(frozen=True)
class LoRA:
    """For each linear: the narrow matrices [rank, in] and [out, rank], and the factor of their product."""

    layers: Mapping[str, tuple[Tensor, Tensor, float]]

    def of_part(self, part: Part) -> LoRA:
        """What of it is for these layers of the model, by their names in a model that has them alone."""
        here = set(part.tensors)
        return LoRA({
            part.name_here(f"{name}.weight").removesuffix(".weight"): pair
            for name, pair in self.layers.items() if f"{name}.weight" in here
        })  # fmt: skip

    def apply(self, model: nn.Module) -> None:
        dtype = next(parameter.dtype for name, parameter in model.named_parameters() if "norm" in name)
        for name, (down, up, scaling) in self.layers.items():
            add_low_rank(model.get_submodule(name), down, up, scaling, dtype)


@dataclass(frozen=True)
class PrefixTuning:
    """The keys and values of a P-Tuning v2."""

    prefix: Prefix

    def of_part(self, part: Part) -> PrefixTuning:
        """GlmError("plan-invalid"): rows of the cache begin with a prefix, of which stages know nothing."""
        raise GlmError("plan-invalid", "a P-Tuning is put on a whole model", hint="leave --stages away, or give a LoRA")

    def apply(self, model: nn.Module) -> None:
        model.prefix = self.prefix.eval().requires_grad_(False)


def open_adapter(path: str | Path, config: ModelConfig) -> LoRA | PrefixTuning:
    """The adapter in the folder ``path``, checked to fit ``config``. Errors: GlmError("adapter-invalid") and others."""
    folder = Path(os.path.expanduser(path))
    if not os.path.isdir(folder):
        what = "is a file, not a folder" if os.path.exists(folder) else "does not exist"
        raise GlmError("model-path", f"the adapter {what}", where=str(folder), hint="give the adapter's folder")
    if os.path.exists(folder / "adapter_config.json"):
        return _open_lora(folder, config)
    return _open_prefix(folder, config)


def _error(folder: Path, what: str, hint: str) -> GlmError:
    return GlmError("adapter-invalid", what, where=str(folder), hint=hint)


def _open_lora(folder: Path, config: ModelConfig) -> LoRA:
    settings = _Settings(folder, read_json(folder / "adapter_config.json", "adapter-invalid"))
    path = next((folder / name for name in LORA_FILES if os.path.exists(folder / name)), None)
    if path is None:
        raise GlmError("checkpoint-missing-file", f"{LORA_FILES[0]} is missing", where=str(folder))
    refuse_stand_in(path)
    file = open_tensor_file(path)
    try:
        return LoRA(_as_modules(_lora_layers(file, settings, config), config))
    finally:
        file.close()


class _Settings:
    """What adapter_config.json says about the factor of each layer, checked."""

    def __init__(self, folder: Path, raw: Mapping[str, Any]) -> None:
        self.folder, self.raw = folder, raw
        if raw.get("peft_type") != "LORA":
            raise _error(folder, f"peft_type is {str(raw.get('peft_type'))[:40]!r}", "LORA and P-Tuning v2 are read")
        other = [key for key in OTHER_FORMS if raw.get(key)]
        if other:
            raise _error(folder, f"{other[0]} is not supported", "merge the adapter into its model")
        self.patterns = {key: raw.get(f"{key}_pattern") or {} for key in ("rank", "alpha")}
        for key, pattern in self.patterns.items():
            # As regular expressions they could take forever.
            if not isinstance(pattern, dict) or not all(re.fullmatch(r"[\w.]+", name) for name in pattern):
                raise _error(folder, f"{key}_pattern is no table of layer names", "merge the adapter into its model")

    def scaling(self, layer: str, found: int) -> float:
        """The factor for ``layer``, whose matrices have the rank ``found``."""
        rank, alpha = self._number("rank", "r", layer), self._number("alpha", "lora_alpha", layer)
        if rank != found:
            raise _error(
                self.folder, f"{layer} has rank {found}, adapter_config.json says {rank:g}",
                "adapter_config.json and the weights belong to different adapters",
            )  # fmt: skip
        return alpha / (math.sqrt(rank) if self.raw.get("use_rslora") else rank)

    def _number(self, pattern: str, key: str, layer: str) -> float:
        own = [value for name, value in self.patterns[pattern].items() if f".{layer}".endswith(f".{name}")]
        value = own[0] if own else self.raw.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
            raise _error(self.folder, f"{key} is {str(value)[:40]!r}, not a positive number", "restore the file")
        return float(value)


def _lora_layers(file: TensorFile, settings: _Settings, config: ModelConfig) -> dict[str, tuple[Tensor, Tensor, float]]:
    """Every layer's matrices, each pair there and of the shape that the model's own matrix asks for."""
    folder, pairs = settings.folder, {}
    for name in file.tensors:
        found, shown = LORA_NAME.fullmatch(name), plain(name, SHOWN)
        if found is None:
            raise _error(
                folder, f"holds {shown}, which is no LoRA of a linear layer", "merge the adapter into its model"
            )
        pairs.setdefault(found["layer"], {})[found["side"]] = name
    if not pairs:
        raise _error(folder, f"{file.path.name} holds no LoRA", "train or download the adapter again")
    shapes = in_files(dataclasses.replace(config, quantization_bit=0))
    layers = {}
    for layer, sides in pairs.items():
        spec, shown = shapes.get(f"{layer}.weight"), plain(layer, SHOWN)
        if spec is None or len(spec.shape) != 2 or "embed" in layer:
            raise _error(
                folder, f"changes {shown}, which is no linear layer of {config.name} ({config.generation})",
                f"it was trained for {str(settings.raw.get('base_model_name_or_path') or 'another model')[:80]}",
            )  # fmt: skip
        rank = _check_pair(file, sides, layer, spec.shape, folder)
        layers[layer] = (file.read(sides["A"]), file.read(sides["B"]), settings.scaling(layer, rank))
    return layers


def _as_modules(layers: dict[str, Pair], config: ModelConfig) -> dict[str, Pair]:
    """The layers by the modules' names; query, key and value of transformers' own layout are one module there.

    A matrix of their joined rows has the sum of their ranks, and each factor within its rows.
    """
    joined: dict[str, Pair] = {}
    for whole, of in parts(dataclasses.replace(config, quantization_bit=0)).items():
        rows = {part.removesuffix(".weight"): spec.shape[0] for part, spec in of.items()}
        if not (rows.keys() & layers.keys()):
            continue
        name = whole.removesuffix(".weight")
        joined[name] = layers[next(iter(rows))] if len(rows) == 1 else _joined(layers, rows)
    return joined


def _joined(layers: dict[str, Pair], rows: Mapping[str, int]) -> Pair:
    """Those of ``layers`` that are in ``rows`` (their output rows, in order), as one."""
    downs, ups = [], []
    for part, count in rows.items():
        down, up, scaling = layers.get(part) or (torch.zeros(0, 0), torch.zeros(count, 0), 1.0)
        downs += [down.float()] if len(down) else []
        ups.append(up.float() * scaling)
    return torch.cat(downs), torch.block_diag(*ups), 1.0


def _check_pair(file: TensorFile, sides: Mapping[str, str], layer: str, shape: tuple[int, ...], folder: Path) -> int:
    """The rank of a layer's pair of matrices."""
    for side in "AB":
        if side not in sides:
            raise _error(folder, f"has no lora_{side} for {layer}", "the adapter is not complete; download it again")
    down, up = (file.tensors[sides[side]].shape for side in "AB")
    rank = down[0] if down else 0
    if down != (rank, shape[1]) or up != (shape[0], rank) or not rank:
        raise _error(
            folder, f"{layer} has matrices {list(down)} and {list(up)} for a weight {list(shape)}",
            "the adapter was trained for another model",
        )  # fmt: skip
    for side in "AB":
        if not file.tensors[sides[side]].dtype.is_floating_point:
            raise _error(folder, f"{sides[side]} holds no floats", "download the adapter again")
    return rank


def _open_prefix(folder: Path, config: ModelConfig) -> PrefixTuning:
    """The prefix encoder among the weights of a P-Tuning run (alone, or beside the model's own weights)."""
    files = [open_tensor_file(path) for path in find_weights(folder).paths]
    try:
        found = {name.removeprefix(ENCODER): file for file in files for name in file.tensors if ENCODER in name}
        read: dict[str, Callable[[], Tensor]] = {
            key: lambda file=file, key=key: file.read(ENCODER + key) for key, file in found.items()
        }
        shapes = {key: file.tensors[ENCODER + key].shape for key, file in found.items()}
        hidden = _check_prefix(folder, shapes, config)
        table, *rest = (read[key]() for key in ("embedding.weight", *hidden))
    finally:
        for file in files:
            file.close()
    return PrefixTuning(prefix_of(table, tuple(rest), config.num_layers, config.num_kv_heads))


def _check_prefix(folder: Path, shapes: Mapping[str, tuple[int, ...]], config: ModelConfig) -> tuple[str, ...]:
    """The names of the encoder's inner layer, if it has one; raises where the shapes are not those of ``config``."""
    table = shapes.get("embedding.weight")
    if table is None:
        raise _error(folder, "holds neither adapter_config.json nor a prefix_encoder", "give the folder of an adapter")
    if len(table) != 2 or not table[0]:
        raise _error(folder, f"the prefix has the shape {list(table)}", "download the adapter again")
    stated = read_json(folder / "config.json", "adapter-invalid") if os.path.exists(folder / "config.json") else {}
    if stated.get("pre_seq_len") not in (None, table[0]):
        raise _error(
            folder, f"the prefix has {table[0]} tokens, pre_seq_len is {str(stated['pre_seq_len'])[:20]}",
            "config.json and the prefix belong to different runs",
        )  # fmt: skip
    width = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    if "trans.0.weight" not in shapes:
        _same(folder, "embedding.weight", table, (table[0], width), config)
        return ()
    hidden = ("trans.0.weight", "trans.0.bias", "trans.2.weight", "trans.2.bias")
    middle = (shapes["trans.0.weight"] or (0,))[0]
    wanted = ((middle, table[1]), (middle,), (width, middle), (width,))
    for name, shape in zip(hidden, wanted, strict=True):
        _same(folder, name, shapes.get(name), shape, config)
    return hidden


def _same(folder: Path, name: str, found: tuple[int, ...] | None, wanted: tuple[int, ...], config: ModelConfig) -> None:
    if found != wanted:
        asked = f"{config.name} ({config.generation}) asks for {list(wanted)}"
        hint = "the prefix was trained for another model"
        raise _error(folder, f"{name} has the shape {list(found or ())}, {asked}", hint)
