"""Whole folders damaged at random, as people and networks do it: one line that names the place, or the same model."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_cases import rest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from glmcore.checkpoint import open_checkpoint
from glmcore.errors import GlmError
from glmcore.place import load_model, quantize_checkpoint
from glmcore.tokenizers import load_tokenizer

INDEX = "model.safetensors.index.json"
# Far more than any of these takes, even on a busy machine; absurd numbers must not turn into work.
SECONDS = 20
ODD = (None, True, -1, 0, 1, 3, 7, 2**31, 2**63, 1e300, float("nan"), 0.5, "", "many", "__import__('os')", [], [[]], {})


class Bomb:
    """Leaves a mark where its pickle is really loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sharded folders with a tokenizer: float and int4 of two generations."""
    made = []
    for generation in ("v1", "v2"):
        floats = tmp_path_factory.mktemp(generation) / "floats"
        floats.mkdir()
        tokenizer = (rest(generation, "tokenizer")).iterdir()
        for path in (*(rest(generation, "e2e")).iterdir(), *tokenizer):
            if path.name != "chat_greedy.json":
                shutil.copyfile(path, floats / path.name)
        split(floats)
        packed = floats.with_name("int4")
        with open_checkpoint(floats) as checkpoint:
            quantize_checkpoint(checkpoint, packed, "int4", shard_bytes=1_500_000)
        made += [floats, packed]
    return made


def split(folder: Path) -> None:
    """One weight file → two and their index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        save_file({name: tensors[name] for name in part}, folder / f"model-{number}.safetensors")
        index |= dict.fromkeys(part, f"model-{number}.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": index}))


def state(folder: Path) -> dict[str, Tensor]:
    model = load_model(folder, dtype="float32")
    load_tokenizer(folder, model.config)
    return model.state_dict()


@functools.cache
def whole(source: Path) -> dict[str, Tensor]:
    return state(source)


def replace_file(folder: Path, data: st.DataObject, mark: Path) -> None:
    path = data.draw(st.sampled_from(sorted(folder.iterdir())), label="file")
    contents: dict[str, bytes] = {
        "nothing": b"",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "page": b"<!DOCTYPE html><html>Sign in</html>",
        "pickle": pickle.dumps(Bomb(mark)),
        "zip": b"PK\x03\x04" + bytes(200),
        "zeros": bytes(4096),
        "other": data.draw(st.sampled_from(sorted(folder.iterdir()))).read_bytes(),
    }
    path.write_bytes(contents[data.draw(st.sampled_from(sorted(contents)), label="content")])


def cut_file(folder: Path, data: st.DataObject, mark: Path) -> None:
    path = data.draw(st.sampled_from(sorted(folder.iterdir())), label="file")
    os.truncate(path, data.draw(st.integers(0, path.stat().st_size), label="size"))


def remove_file(folder: Path, data: st.DataObject, mark: Path) -> None:
    path = data.draw(st.sampled_from(sorted(folder.iterdir())), label="file")
    path.unlink()
    if data.draw(st.booleans(), label="folder instead"):
        path.mkdir()


def change_config(folder: Path, data: st.DataObject, mark: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    key = data.draw(st.sampled_from(sorted(raw)), label="field")
    if data.draw(st.booleans(), label="remove"):
        del raw[key]
    else:
        raw[key] = data.draw(st.sampled_from(ODD), label="value")
    (folder / "config.json").write_text(json.dumps(raw))


def change_index(folder: Path, data: st.DataObject, mark: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    name = data.draw(st.sampled_from(sorted(index["weight_map"])), label="tensor")
    shards = sorted({*index["weight_map"].values()})
    value = data.draw(st.sampled_from([None, "../x", "/etc/passwd", "", 3, *shards]), label="entry")
    if value is None:
        del index["weight_map"][name]
    else:
        index["weight_map"][name] = value
    (folder / INDEX).write_text(json.dumps(index))


def change_tensor(folder: Path, data: st.DataObject, mark: Path) -> None:
    path = data.draw(st.sampled_from(sorted(folder.glob("*.safetensors"))), label="file")
    tensors = load_file(path)
    name = data.draw(st.sampled_from(sorted(tensors)), label="tensor")
    tensor = tensors.pop(name)
    match data.draw(st.sampled_from(["remove", "rename", "longer", "flat", "int8", "float64"]), label="change"):
        case "rename":
            tensors[f"{name}.old"] = tensor
        case "longer":
            tensors[name] = torch.cat((tensor, tensor[:1]))
        case "flat":
            tensors[name] = tensor.flatten()[None]
        case "int8":
            tensors[name] = tensor.to(torch.int8)
        case "float64":
            tensors[name] = tensor.to(torch.float64)
    save_file(tensors, path)


DAMAGES: tuple[Callable[[Path, st.DataObject, Path], None], ...] = (
    replace_file, cut_file, remove_file, change_config, change_index, change_tensor
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_folder_is_refused_in_one_line_or_loads_as_before(
    sources: list[Path], tmp_path: Path, data: st.DataObject
) -> None:
    source = data.draw(st.sampled_from(sources), label="source")
    folder, mark = tmp_path / source.parent.name / source.name, tmp_path / "the pickle ran"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    damage = data.draw(st.sampled_from(DAMAGES), label="damage")
    damage(folder, data, mark)
    started = time.monotonic()
    try:
        found = state(folder)
    except GlmError as error:
        line = error.line()
        assert "\n" not in line and len(line) < 1000
        assert error.code.startswith(("checkpoint-", "config-", "tokenizer-", "model-")), line
        assert str(folder) in line or "config.json" in line, "the line does not say where"
    else:
        # A field that the shapes do not depend on, or a file that nothing needs: the weights are what they were.
        wanted = whole(source)
        if damage is not change_tensor:
            assert all(torch.equal(found[name], wanted[name]) for name in found.keys() & wanted.keys())
    assert not mark.exists()
    assert time.monotonic() - started < SECONDS
