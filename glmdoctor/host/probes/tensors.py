"""The tensors by which a checkpoint tells its sizes, from the headers of its safetensors files; no weights are read."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from glmdoctor.host.facts import Tensor
from glmdoctor.host.io import IO

# The embedding tells vocabulary and width, the last projection of each layer the rest.
TELLTALE = re.compile(
    r"transformer\.(embedding\.)?word_embeddings\.weight|.*\.layers\.\d{1,4}\.mlp\.dense_4h_to_h\.weight"
)
HEADER_LIMIT = 8 << 20  # bytes; that of a 9B checkpoint's largest shard is 20 KB


def telltale(io: IO, folder: str, names: Iterable[str]) -> Iterator[Tensor]:
    for name in names:
        header = _header(io, posixpath.join(folder, name)) if name.endswith(".safetensors") else {}
        for tensor, entry in header.items():
            if TELLTALE.fullmatch(tensor) and (described := _described(tensor, entry)):
                yield described


def _header(io: IO, path: str) -> Mapping[str, object]:
    try:
        with io.open(path) as file:
            length = int.from_bytes(file.read(8), "little")
            raw = file.read(length) if length <= HEADER_LIMIT else b""
        header = json.loads(raw)
    except (OSError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _described(name: str, entry: object) -> Tensor | None:
    if not isinstance(entry, dict):
        return None
    kind, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(kind, str) or not isinstance(shape, list) or not all(isinstance(n, int) for n in shape):
        return None
    return Tensor(name, kind, tuple(shape))
