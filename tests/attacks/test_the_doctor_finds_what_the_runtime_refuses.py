"""What glmcore refuses to load, ``glmdoctor check --model`` finds, whatever lies in place of a file; and it ends."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.tables import read_table
from glmcore.errors import GlmError
from glmcore.tokenizers import load_tokenizer
from glmdoctor.checks import checkpoint, contents, shapes
from glmdoctor.checks.engine import examine_with
from glmdoctor.findings import Status
from glmdoctor.host.host import Host

INDEX = "model.safetensors.index.json"


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("/nowhere/at/all",)


def as_pickle(model: Path, save: Callable[[Path, dict], None]) -> None:
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    save(model / "pytorch_model.bin", tensors)


def zeros(model: Path) -> None:
    (model / "model.safetensors").write_bytes(bytes(4096))


def zeros_in_the_archive(model: Path) -> None:
    def save(path: Path, tensors: dict) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", bytes(1000))

    as_pickle(model, save)


def broken_pickle(model: Path) -> None:
    as_pickle(model, lambda path, tensors: path.write_bytes(pickle.dumps({"a": 1}, 2)[:-4]))


def hostile_pickle(model: Path) -> None:
    as_pickle(model, lambda path, tensors: path.write_bytes(pickle.dumps(Bomb(), 2)))


def compressed_pickle(model: Path) -> None:
    def save(path: Path, tensors: dict) -> None:
        torch.save(tensors, path)
        with zipfile.ZipFile(path) as old:
            entries = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name, content in entries.items():
                new.writestr(name, content)

    as_pickle(model, save)


def pipe(name: str) -> Callable[[Path], None]:
    def place(model: Path) -> None:
        if name == INDEX:
            (model / "model.safetensors").unlink()
        (model / name).unlink(missing_ok=True)
        os.mkfifo(model / name)

    return place


def deep_config(model: Path) -> None:
    raw = (model / "config.json").read_text().rstrip()
    (model / "config.json").write_text(raw[:-1] + ', "deep": ' + "[" * 900 + "]" * 900 + "}")


def other_ranks(model: Path) -> None:
    raw = json.loads((model / "config.json").read_text()) | {"glmcore_generation": "glm4"}
    (model / "config.json").write_text(json.dumps(raw))
    (model / "tokenizer.model").write_bytes(b"IQ== 99999999999999\nIg== 1\n")


def cut_tokenizer(model: Path) -> None:
    os.truncate(model / "tokenizer.model", (model / "tokenizer.model").stat().st_size - 3)


def changed(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def place(model: Path) -> None:
        tensors = load_file(model / "model.safetensors")
        change(tensors)
        save_file(tensors, model / "model.safetensors")

    return place


def without_a_norm(tensors: dict) -> None:
    tensors.pop(next(name for name in tensors if "input_layernorm" in name))


def a_wider_norm(tensors: dict) -> None:
    name = next(name for name in tensors if "input_layernorm" in name)
    tensors[name] = torch.cat([tensors[name], tensors[name]])


def one_more(tensors: dict) -> None:
    tensors["\x1b[31mmore"] = torch.zeros(2)


def in_a_pickle(change: Callable[[dict], None], **options: bool) -> Callable[[Path], None]:
    def place(model: Path) -> None:
        def save(path: Path, tensors: dict) -> None:
            change(tensors)
            torch.save(tensors, path, **options)

        as_pickle(model, save)

    return place


def strange_type(model: Path) -> None:
    raw = (model / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header[next(name for name in header if name != "__metadata__")]["dtype"] = []
    text = json.dumps(header).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def odd_number(model: Path) -> None:
    raw = json.loads((model / "config.json").read_text()) | {"kv_channels": 5}
    (model / "config.json").write_text(json.dumps(raw))


ATTACKS: dict[str, Callable[[Path], None]] = {
    "weights of zeros": zeros,
    "an archive of zeros": zeros_in_the_archive,
    "a broken pickle": broken_pickle,
    "a hostile pickle": hostile_pickle,
    "a compressed pickle": compressed_pickle,
    "a pipe for the index": pipe(INDEX),
    "a pipe for the configuration": pipe("config.json"),
    "a pipe for the tokenizer": pipe("tokenizer.model"),
    "a pipe for the weights": pipe("model.safetensors"),
    "a configuration nested 900 deep": deep_config,
    "absurd ranks": other_ranks,
    "a cut tokenizer": cut_tokenizer,
    "a missing norm": changed(without_a_norm),
    "a wider norm": changed(a_wider_norm),
    "a tensor too many": changed(one_more),
    "a missing norm in a pickle": in_a_pickle(without_a_norm),
    "a wider norm in a pickle": in_a_pickle(a_wider_norm),
    "a tensor too many in a pickle": in_a_pickle(one_more),
    "a missing norm in a pickle of torch before 1.6": in_a_pickle(without_a_norm, _use_new_zipfile_serialization=False),
    "a type that is a list": strange_type,
    "an odd number in the configuration": odd_number,
}


def failures(model: Path) -> list[str]:
    report = examine_with((*checkpoint.CHECKS, *contents.CHECKS, *shapes.CHECKS), Host(model=str(model)))
    shown = [str(finding.detail) for finding in report.findings]
    assert all("\x1b" not in text and len(text) < 5000 for text in shown)
    assert not [finding.id for finding in report.findings if finding.status is Status.CRASHED]
    return [finding.id for finding in report.findings if finding.status is Status.FAIL]


def test_the_whole_model_is_healthy(model: Path) -> None:
    assert failures(model) == []


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [dict, OrderedDict])
def test_a_whole_pickle_is_known_tensor_by_tensor(model: Path, zipped: bool, wrapped: type) -> None:
    saved = {}

    def save(path: Path, tensors: dict) -> None:
        saved.update({name: torch.nn.Parameter(t, False) if "norm" in name else t for name, t in tensors.items()})
        torch.save(wrapped(saved), path, _use_new_zipfile_serialization=zipped)

    as_pickle(model, save)
    with (model / "pytorch_model.bin").open("rb") as file:
        table = read_table(file)
    assert table is not None and {name: entry.shape for name, entry in table.items()} == {
        name: tuple(tensor.shape) for name, tensor in saved.items()
    }
    assert "model.shapes" not in failures(model)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_refused_is_found(model: Path, attack: str) -> None:
    ATTACKS[attack](model)
    with pytest.raises(GlmError), open_checkpoint(model) as opened:
        load_tokenizer(model, opened.config)
    assert failures(model), attack
