"""Pipes, devices, endless and absurd files in place of a model's own: one line with the right code, at once."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from glmcore.checkpoint import open_checkpoint
from glmcore.config import ModelConfig, find_config
from glmcore.engine.placing import read_plan
from glmcore.errors import GlmError
from glmcore.place.adapters import open_adapter
from glmcore.tokenizers import load_tokenizer

INDEX = "model.safetensors.index.json"


def used(model: Path) -> None:
    """All that a chat reads before the weights."""
    with open_checkpoint(model) as checkpoint:
        load_tokenizer(model, checkpoint.config)


def refused(model: Path, code: str) -> GlmError:
    with pytest.raises(GlmError) as caught:
        used(model)
    line = caught.value.line()
    assert caught.value.code == code, line
    assert len(line) < 2000 and line.isprintable(), line
    return caught.value


def replace(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "endless":
        with path.open("wb") as file:
            file.write(b"{")
            file.truncate(1 << 40)


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "endless"])
@pytest.mark.parametrize(
    "name, code",
    [
        ("config.json", "model-path"),
        (INDEX, "model-path"),
        ("tokenizer.model", "tokenizer-damaged"),
        ("model.safetensors", "checkpoint-"),
    ],
)
def test_a_pipe_a_device_or_an_endless_file_is_refused_at_once(model: Path, name: str, code: str, kind: str) -> None:
    if name == INDEX:
        (model / "model.safetensors").unlink()
    replace(model / name, kind)
    with pytest.raises(GlmError) as caught:
        used(model)
    # A link that leads nowhere, or in a circle, is a file that is missing.
    wanted = ("checkpoint-", "tokenizer-") if kind in ("loop", "endless") else (code, "checkpoint-missing-file")
    assert caught.value.code.startswith((code, *wanted)), caught.value.line()


@pytest.mark.parametrize("kind", ["pipe", "device", "endless"])
def test_a_plan_or_an_adapter_that_is_no_file_is_refused_at_once(model: Path, kind: str) -> None:
    config = ModelConfig.from_folder(model)
    replace(model / "plan.json", kind)
    with pytest.raises(GlmError, match="the plan cannot be read"):
        read_plan(model / "plan.json", config)
    adapter = model / "adapter"
    adapter.mkdir()
    replace(adapter / "adapter_config.json", kind)
    with pytest.raises(GlmError, match="cannot be read"):
        open_adapter(adapter, config)


def test_a_config_nested_without_end_is_said(model: Path) -> None:
    raw = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(raw)[:-1] + ', "deep": ' + "[" * 900 + "]" * 900 + "}")
    assert "nested too deeply" in refused(model, "config-invalid").what


def test_a_plan_nested_without_end_is_said(model: Path) -> None:
    (model / "plan.json").write_text("[" * 100_000)
    with pytest.raises(GlmError, match="this is no plan"):
        read_plan(model / "plan.json", ModelConfig.from_folder(model))


def header_of(path: Path) -> tuple[dict, bytes]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def with_header(path: Path, header: dict, data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("kind", [[], {}, None, 3, "F16\x1b[31m", "x" * 1_000_000])
def test_a_type_that_is_none_is_damage(model: Path, kind: object) -> None:
    header, data = header_of(model / "model.safetensors")
    name = next(name for name in header if name != "__metadata__")
    header[name]["dtype"] = kind
    with_header(model / "model.safetensors", header, data)
    assert "unknown type" in refused(model, "checkpoint-damaged").what


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07\x1b[2J\nglmcore: all is well", "x" * 4_000_000, "\u202egpj.exe"])
def test_a_tensors_name_neither_drives_the_terminal_nor_fills_it(model: Path, name: str) -> None:
    header, data = header_of(model / "model.safetensors")
    old = next(name for name in header if name != "__metadata__")
    header[name] = header.pop(old)
    with_header(model / "model.safetensors", header, data)
    with pytest.raises(GlmError) as caught:
        used(model)
    line = caught.value.line()
    assert line.isprintable() and len(line) < 2000 and caught.value.code.startswith("checkpoint-")


@pytest.mark.parametrize("shard", ["x" * 300, "y" * 5000, "half\ud800", "\x1b[31mred", "loop/loop"])
def test_a_shards_name_that_no_file_can_have_is_said(model: Path, shard: str) -> None:
    (model / "loop").symlink_to("loop")
    (model / "model.safetensors").unlink()
    (model / INDEX).write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(GlmError) as caught:
        used(model)
    assert caught.value.code.startswith("checkpoint-") and caught.value.line().isprintable()


@pytest.mark.parametrize("model_name", ["x" * 5000, "a\0b", "~nobody-at-all/x", "\x1b[2Jx", "half\udcff"])
def test_a_models_name_that_is_none_is_one_line(model_name: str) -> None:
    for use in (open_checkpoint, find_config, lambda name: open_adapter(name, None)):
        with pytest.raises(GlmError) as caught:
            use(model_name)
        assert caught.value.code == "model-path" and caught.value.line().isprintable()


def test_names_in_a_plan_do_not_drive_the_terminal(model: Path) -> None:
    (model / "plan.json").write_text(json.dumps({"devices": [{"name": "\x1b[2J\n"}]}))
    with pytest.raises(GlmError) as caught:
        read_plan(model / "plan.json", ModelConfig.from_folder(model))
    assert caught.value.line().isprintable()


def test_a_tokenizer_config_that_is_nested_without_end_is_damage(model: Path) -> None:
    from glmcore.tokenizers.glm1 import image_tokens

    (model / "tokenizer_config.json").write_text("[" * 100_000)
    with pytest.raises(GlmError, match="no JSON object"):
        image_tokens(model, 0)
