"""What an engine computed, as safetensors: a folder with one file for each call of a graph.

A file is called ``GROUP.CALL.ROLE.safetensors``, both counted from 0, the role "prefill" or "decode". With B rows of at
most S tokens it holds

* ``ids`` [B, S] and ``positions`` [B, S] (ChatGLM-6B's [B, 2, S]), integers,
* ``lengths`` [B]: how many of the S tokens are the row's own; padding follows them,
* ``layer.N.key`` and ``layer.N.value`` [B, heads, S, D]: what the call added to the cache, keys after rotary,
* ``layer.N.out`` [B, S, H]: the layer's hidden states, where the engine was compiled to tell them,
* ``logits`` [B, V]: after the last of a row's own tokens.

Reading gives stages: a group's prompt, whose pieces are joined, so that engines of any prefill length compare, and then
its tokens one by one; of each row only what is its own.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from glmcore.checkpoint.tensor_files import SafetensorsFile, TensorInfo
from glmcore.checkpoint.writer import write_safetensors
from glmcore.errors import GlmError
from glmcore.output import PART, remedy

Role = Literal["prefill", "decode"]
FILE = re.compile(r"(?P<group>\d{4})\.(?P<call>\d{6})\.(?P<role>prefill|decode)\.safetensors", re.ASCII)
LAYERED = re.compile(r"layer\.(?P<layer>\d{1,4})\.(?P<kind>key|value|out)", re.ASCII)
# Where a row's tensor counts its tokens.
TOKENS = {"ids": -1, "positions": -1, "key": 1, "value": 1, "out": 0}
# Axes of a call's tensor.
AXES = {"ids": (2,), "positions": (2, 3), "lengths": (1,), "key": (4,), "value": (4,), "out": (3,), "logits": (2,)}
WHOLE = ("ids", "positions", "lengths")  # of whole numbers; all else is floating point
NEEDED = (*WHOLE, "logits")

Row = dict[str, Tensor]


@dataclass
class Stage:
    """A group's prompt or its n-th token: of each row the tensors by name, without padding."""

    group: int
    name: str
    rows: list[Row] = field(default_factory=list)


class Recorder:
    """Writes a dump's calls into a folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.group, self.calls = folder, 0, 0

    def begin_group(self, group: int) -> None:
        self.group, self.calls = group, 0

    def __call__(self, role: Role, tensors: Mapping[str, Tensor]) -> None:
        """Keep a call's tensors, as the module's docstring lists them. Errors: OSError."""
        layout = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        path = self.folder / f"{self.group:04d}.{self.calls:06d}.{role}.safetensors"
        write_safetensors(path, layout, ((name, tensor.cpu()) for name, tensor in tensors.items()))
        self.calls += 1


@contextmanager
def recording(folder: str | Path) -> Iterator[Recorder]:
    """A recorder whose dump is at ``folder`` when the block ends well, and nowhere when it does not.

    Errors: GlmError("write-failed"), also for a folder that is there and not empty.
    """
    folder = Path(folder)
    part = folder.parent / PART.format(secrets.token_hex(8))
    try:
        if os.path.lexists(folder) and not (folder.is_dir() and not os.listdir(folder)):
            hint = "choose another folder, or empty this one"
            raise GlmError("write-failed", "the folder of the dump is not empty", where=str(folder), hint=hint)
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        yield Recorder(part)
        os.replace(part, folder)
    except OSError as error:
        what = f"could not write: {error.strerror or error}"
        raise GlmError("write-failed", what, where=str(folder), hint=remedy(error)) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(part)


def calls(folder: Path) -> list[tuple[int, Role, Path]]:
    """(group, role, file) of every call, in order.

    Errors: GlmError("dump-invalid") where one is missing, or the folder cannot be read.
    """
    try:
        named = [match for match in map(FILE.fullmatch, os.listdir(folder)) if match]
    except OSError as error:
        raise invalid(folder, f"it cannot be read: {error.strerror}") from None
    found = sorted((int(match["group"]), int(match["call"]), match["role"], folder / match[0]) for match in named)
    for group, members in groupby(found, key=lambda item: item[0]):
        for expected, (_, call, _, path) in enumerate(members):
            if call != expected:
                raise invalid(path, f"call {expected} of group {group} is missing")
    return [(group, role, path) for group, _, role, path in found]


def stages(folder: Path) -> Iterator[Stage]:
    """A dump's stages; one call is held at a time, or one prompt. Errors: GlmError("dump-invalid")."""
    for (group, role), members in groupby(calls(folder), key=lambda item: item[:2]):
        read = (_rows(path, read_tensors(path)) for _, _, path in members)
        if role == "prefill":
            yield Stage(group, "prompt", _joined(folder, list(read)))
        else:
            yield from (Stage(group, f"token {number}", rows) for number, rows in enumerate(read, 1))


def one_call(path: Path, tensors: Mapping[str, Tensor]) -> list[Stage]:
    """The stages of a prompt's call in a file of its own, as engines bring one. Errors: GlmError("dump-invalid")."""
    return [Stage(0, "prompt", _rows(path, tensors))]


def _rows(path: Path, tensors: Mapping[str, Tensor]) -> list[Row]:
    """A call's rows, without padding."""
    shapes(path, tensors)
    return [_row(tensors, number, int(own)) for number, own in enumerate(tensors["lengths"].tolist())]


def _row(tensors: Mapping[str, Tensor], number: int, own: int) -> Row:
    row = {}
    for name, tensor in tensors.items():
        if (axis := TOKENS.get(kind_of(name))) is not None:
            row[name] = tensor[number].narrow(axis, 0, own)
    if own:  # else the logits are those of padding
        row["logits"] = tensors["logits"][number]
    return row


def _joined(folder: Path, pieces: list[list[Row]]) -> list[Row]:
    """A prompt's pieces as one: each row's tensors token by token, and the logits after its last token."""
    try:
        return [_concatenated(row) for row in zip(*pieces, strict=True)]
    except (ValueError, KeyError, RuntimeError):  # other rows, other tensors, other sizes
        raise invalid(folder, "the calls of a prompt do not fit each other") from None


def _concatenated(pieces: tuple[Row, ...]) -> Row:
    whole = {
        name: torch.cat([piece[name] for piece in pieces], dim=TOKENS[kind_of(name)])
        for name in pieces[0].keys() - {"logits"}
    }
    last = [piece["logits"] for piece in pieces if "logits" in piece]
    return whole | ({"logits": last[-1]} if last else {})


def kind_of(name: str) -> str:
    """ "layer.3.key" → "key"; other names are their own kind."""
    match = LAYERED.fullmatch(name)
    return match["kind"] if match else name


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file. Errors: GlmError("dump-invalid")."""
    try:
        opened = SafetensorsFile(path)
        try:
            return {name: opened.read(name) for name in opened.tensors}
        finally:
            opened.close()
    except GlmError as error:
        raise invalid(path, error.what) from None


def shapes(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """GlmError("dump-invalid") for a call whose tensors are not what the module's docstring says."""
    if missing := [name for name in NEEDED if name not in tensors]:
        raise invalid(path, f"it has no tensor {' and no '.join(missing)}")
    rows, tokens = tensors["ids"].shape if tensors["ids"].dim() == 2 else (0, 0)
    for name, tensor in tensors.items():
        kind = kind_of(name)
        if kind not in AXES:
            raise invalid(path, f"{name} is no tensor of a dump")
        if tensor.is_floating_point() == (kind in WHOLE):
            raise invalid(path, f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}")
        fits = rows and tensor.dim() in AXES[kind] and tensor.shape[0] == rows
        if not fits or (kind in TOKENS and tensor[0].shape[TOKENS[kind]] != tokens):
            raise invalid(path, f"{name} has the shape {list(tensor.shape)} beside ids of {list(tensors['ids'].shape)}")
    if not all(0 <= own <= tokens for own in tensors["lengths"].tolist()):
        raise invalid(path, f"lengths lie between 0 and {tokens}")


def invalid(path: Path, what: str) -> GlmError:
    return GlmError("dump-invalid", what, where=str(path), hint="dump again: glmcore infer --dump-golden")
