"""The tensors by which a checkpoint tells its sizes, from its files' headers and pickles; no weights are read."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from glmcore.checkpoint.headers import SHOWN, Entry, read_header
from glmcore.checkpoint.tables import read_table
from glmcore.config import ModelConfig
from glmcore.errors import GlmError, plain
from glmcore.layout import in_files, is_ignored
from glmdoctor.host.facts import Tensor
from glmdoctor.host.io import IO

WEIGHTS = (".safetensors", ".bin")
# The embedding tells vocabulary and width, the last projection of each layer the rest.
TELLTALE = re.compile(
    r"transformer\.(embedding\.)?word_embeddings\.weight|.*\.layers\.\d{1,4}\.mlp\.dense_4h_to_h\.weight"
    r"|model\.embed_tokens\.weight|model\.layers\.\d{1,4}\.mlp\.down_proj\.weight"
)


def telltale(io: IO, folder: str, names: Iterable[str]) -> Iterator[Tensor]:
    for name in names:
        header = _header(io, posixpath.join(folder, name))
        for tensor, entry in (header or {}).items():
            if TELLTALE.fullmatch(tensor):
                yield Tensor(tensor, entry.dtype, entry.shape)


def misfit(io: IO, folder: str, names: Iterable[str], config: Mapping[str, object]) -> str | None:
    """The first tensor in the weight files ``names`` that is not as config.json asks; None where all are, or unknown.

    It is what glmcore itself says when it opens the checkpoint.
    """
    held: dict[str, Entry] = {}
    for name in names:
        header = _header(io, posixpath.join(folder, name))
        if header is None:
            return None
        held |= header
    try:
        wanted = in_files(ModelConfig.from_dict(config, folder=Path(io.place(folder)))) if held else {}
    except GlmError:
        return None
    for name, spec in wanted.items():
        if name not in held and not spec.optional:
            return f"{name} is not in the files"
        if name in held and held[name].shape != spec.shape:
            return f"{name} is {list(held[name].shape)}, not {list(spec.shape)}"
    strange = (plain(name, SHOWN) for name in held if name not in wanted and not is_ignored(name))
    return next((f"{name} is none of this model's" for name in strange), None) if held else None


def _header(io: IO, path: str) -> dict[str, Entry] | None:
    if not path.endswith(WEIGHTS):
        return None
    try:
        with io.open(path) as file:
            return read_table(file) if path.endswith(".bin") else read_header(file, io.stat(path).st_size)
    except (OSError, ValueError):
        return None
