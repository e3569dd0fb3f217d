"""Checkpoint folders: whole, partial, damaged, huge."""

from __future__ import annotations

import base64
import json
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path

import pytest
from golden_cases import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from glmdoctor.host.facts import Checkpoint, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.probes import weights
from glmdoctor.host.recorded import RecordedIO


def safetensors(sizes: dict[str, int]) -> bytes:
    """Header and zeroed data."""
    at, header = 0, {}
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def examined(folder: Path) -> Checkpoint:
    found = Host(model=str(folder)).checkpoint
    assert isinstance(found, Checkpoint)
    return found


def described(folder: Path) -> dict[str, tuple[str, str | None]]:
    return {file.name: (file.kind, file.fault) for file in examined(folder).files}


def test_kinds_of_files(tmp_path):
    contents: dict[str, bytes] = {
        "model.safetensors": safetensors({"a": 8}),
        "pytorch_model.bin": pickle.dumps({"a": 1}, protocol=2),
        "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n",
        "page.bin": b"\n <!DOCTYPE html><html>",
        "ice_text.model": b"\x0a\x07\x0a\x05<unk>",
        "tokenizer.model": b"".join(b"%s %d\n" % (base64.b64encode(bytes([n])), n) for n in range(256)),
        "config.json": b"{}",
        "none.bin": b"",
        "README.md": b"# text",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert described(tmp_path) == {
        "model.safetensors": ("safetensors", None),
        "pytorch_model.bin": ("torch-pickle", None),
        "pointer.safetensors": ("lfs-pointer", None),
        "page.bin": ("html", None),
        "ice_text.model": ("sentencepiece", None),
        "tokenizer.model": ("tiktoken", None),
        "config.json": ("json", None),
        "none.bin": ("empty", None),
        "README.md": ("other", None),
    }


def test_cut_safetensors(tmp_path):
    whole = safetensors({"a": 100, "b": 50})
    for name, raw, fault in [
        ("start", whole[:5], "truncated: shorter than a header"),
        ("header", whole[:40], "truncated: the header is cut"),
        ("data", whole[:-1], f"truncated: has {len(whole) - 1} of {len(whole)} bytes"),
        ("longer", whole + b"x", "damaged: 1 bytes too many"),
        ("absurd", b"\xff" * 16, "damaged: the header's length is absurd"),
        ("nonsense", struct.pack("<Q", 4) + b"[1]]" + b"1", "damaged: the header is no safetensors header"),
    ]:
        (tmp_path / f"{name}.safetensors").write_bytes(raw)
        assert described(tmp_path)[f"{name}.safetensors"] == ("safetensors", fault)


def test_cut_zip_of_torch(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 1000)
    assert described(tmp_path)[path.name] == ("torch-zip", None)
    path.write_bytes(path.read_bytes()[:-30])
    assert described(tmp_path)[path.name] == ("torch-zip", "truncated: the zip archive has no end record")


def test_json_small_and_large(tmp_path):
    large = json.dumps({"vocabulary": "x" * weights.JSON_LIMIT}).encode()
    for name, raw, fault in [
        ("cut.json", b'{"a": ', "damaged: no valid JSON"),
        ("large.json", large + b"\n", None),
        ("large-cut.json", large[:-2], "truncated: the JSON has no end"),
    ]:
        (tmp_path / name).write_bytes(raw)
        assert described(tmp_path)[name] == ("json", fault)


def test_garbage_named_as_weights(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"garbage")
    assert described(tmp_path)["pytorch_model.bin"][1] == "damaged: neither a zip archive nor a pickle"


def test_links_as_the_hubs_cache_has_them(tmp_path):
    (tmp_path / "blob").write_bytes(safetensors({"a": 8}))
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/model.safetensors").symlink_to("../blob")
    (tmp_path / "snapshot/ice_text.model").symlink_to("../gone")
    os.mkfifo(tmp_path / "snapshot/pipe.bin")
    assert described(tmp_path / "snapshot") == {
        "model.safetensors": ("safetensors", None),
        "ice_text.model": ("missing", "unreadable: the link leads nowhere"),
        "pipe.bin": ("other", "damaged: not a regular file"),
    }


def test_shards_that_the_index_names_and_the_folder_lacks(tmp_path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(safetensors({"a": 4}))
    (tmp_path / "golden.safetensors").write_bytes(safetensors({"a": 400}))
    found = examined(tmp_path)
    assert [file.name for file in found.files if file.kind == "missing"] == ["model-2.safetensors"]
    assert found.weight_bytes == (tmp_path / "model-1.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("folder", "generation", "bits"),
    [
        ("v1/base", "v1", None),
        ("v1/int8", "v1", 8),
        ("v2/int4", "v2", 4),
        ("v3/sharded", "v3", None),
        ("glm4/base", "glm4", None),
    ],
)
def test_generations(folder, generation, bits):
    found = examined(GOLDEN / folder)
    assert (found.generation, found.quantization_bit) == (generation, bits)
    assert {file.fault for file in found.files} == {None}


def test_another_model_is_no_generation(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 32000}')
    assert examined(tmp_path).generation is None


def test_a_wrong_value_does_not_hide_the_generation(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "chatglm", "padded_vocab_size": 151552, "num_layers": -3}')
    assert examined(tmp_path).generation == "glm4"


@pytest.mark.parametrize("config", ["", "[1]", "{", '{"model_type": 3}', "[" * 5000])
def test_a_damaged_config(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    assert examined(tmp_path).generation is None


def test_names_and_paths_that_are_no_folder(tmp_path):
    (tmp_path / "file").touch()
    named = Host(model="THUDM/chatglm2-6b").checkpoint
    assert isinstance(named, Checkpoint)
    assert (named.exists, named.generation, named.path) == (False, "v2", "THUDM/chatglm2-6b")
    missing, file = examined(tmp_path / "none"), examined(tmp_path / "file")
    assert (missing.exists, missing.is_folder, missing.generation) == (False, False, None)
    assert (file.exists, file.is_folder) == (True, False)
    assert isinstance(Host().checkpoint, Unknown)


def test_twelve_gigabytes_take_no_time(tmp_path):
    """Sparse files with true headers; nothing but headers may be read."""
    names = [f"model-{n:05}-of-00007.safetensors" for n in range(1, 8)]
    for name in names:
        header = safetensors({f"layer.{n}": 0 for n in range(200)})
        (tmp_path / name).write_bytes(header)
    size = 12 << 30
    big = json.dumps({"w": {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(big)) + big)
        file.truncate(8 + len(big) + size)
    start = time.perf_counter()
    found = examined(tmp_path)
    assert time.perf_counter() - start < 1
    assert found.weight_bytes > size
    assert {file.fault for file in found.files} == {None}


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["a.safetensors", "a.bin", "a.json", "tokenizer.model"]), st.booleans())
def test_any_bytes_are_described(raw, name, valid_length):
    if name == "a.safetensors" and valid_length:
        raw = struct.pack("<Q", len(raw)) + raw
    file = weights.examine(RecordedIO({f"/m/{name}": raw}), "/m", name)
    assert file.size == len(raw)
    assert file.fault is None or file.fault.startswith(("truncated: ", "damaged: "))
