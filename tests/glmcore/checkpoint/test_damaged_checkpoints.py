"""Every damaged checkpoint ends in one line that names what is wrong, and nothing it holds is run."""

from __future__ import annotations

import collections
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from glmcore.checkpoint import open_checkpoint
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.models import build
from glmcore.place import load_model

CONFIG = {
    "_name_or_path": "THUDM/chatglm2-6b", "model_type": "chatglm", "num_layers": 2, "hidden_size": 32,
    "ffn_hidden_size": 40, "kv_channels": 8, "num_attention_heads": 4, "multi_query_attention": True,
    "multi_query_group_num": 2, "padded_vocab_size": 64, "add_qkv_bias": True, "seq_length": 128,
}  # fmt: skip
QKV = "transformer.encoder.layers.0.self_attention.query_key_value"
SINGLE = "model.safetensors"


def write(folder: Path, *, bits: int = 0, config: dict | None = None, shards: int = 1) -> Path:
    """A small checkpoint; ``config`` changes what config.json says, not the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = CONFIG | ({"quantization_bit": bits} if bits else {})
    torch.manual_seed(0)
    state = {name: value.contiguous() for name, value in build(ModelConfig.from_dict(raw)).state_dict().items()}
    (folder / "config.json").write_text(json.dumps(raw | (config or {})))
    if shards == 1:
        save_file(state, folder / SINGLE)
        return folder
    weight_map = {}
    for index in range(shards):
        part = {name: state[name] for name in list(state)[index::shards]}
        weight_map |= dict.fromkeys(part, f"model-{index}.safetensors")
        save_file(part, folder / f"model-{index}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("good") / "chatglm2-6b")


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))


def refused(folder: Path) -> GlmError:
    with pytest.raises(GlmError) as caught:
        open_checkpoint(folder)
    line = caught.value.line()
    assert "\n" not in line and str(folder) in line and len(line) < 500
    return caught.value


def rewrite_header(path: Path, change) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_the_undamaged_one_loads(copy: Path) -> None:
    with open_checkpoint(copy) as checkpoint:
        wanted = load_file(copy / SINGLE)
        assert set(checkpoint.names) == set(wanted)
        assert all(torch.equal(checkpoint.tensor(name), wanted[name]) for name in checkpoint.names)
        assert checkpoint.nbytes == sum(tensor.nbytes for tensor in wanted.values())


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, -1, -1000])
def test_truncated(copy: Path, size: int) -> None:
    path = copy / SINGLE
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    error = refused(copy)
    assert error.code == "checkpoint-damaged" and SINGLE in error.what


def test_bytes_after_the_end(copy: Path) -> None:
    with (copy / SINGLE).open("ab") as file:
        file.write(b"more")
    assert "4 bytes follow its last tensor" in refused(copy).what


def test_truncated_while_open(copy: Path) -> None:
    with open_checkpoint(copy) as checkpoint:
        last = max(checkpoint.names, key=lambda name: checkpoint.info(name).end)
        os.truncate(copy / SINGLE, (copy / SINGLE).stat().st_size - 8)
        with pytest.raises(GlmError, match="ends inside"):
            checkpoint.tensor(last)


@pytest.mark.parametrize("change, words", [
    (lambda h: h[f"{QKV}.weight"].update(dtype="F4"), "unknown type"),
    (lambda h: h[f"{QKV}.weight"].update(dtype="F64"), "its shape needs"),
    (lambda h: h[f"{QKV}.weight"].update(shape=[1, 2]), "its shape needs"),
    (lambda h: h[f"{QKV}.weight"].update(shape=[-64, -32]), "make no sense"),
    (lambda h: h[f"{QKV}.weight"].update(shape=[2**40, 2**40]), "its shape needs"),
    (lambda h: h[f"{QKV}.weight"].update(data_offsets=[0, 2**60]), "make no sense"),
    (lambda h: h[f"{QKV}.weight"].update(data_offsets=h[f"{QKV}.bias"]["data_offsets"]), "its shape needs"),
    (lambda h: h.update({f"{QKV}.weight": "x"}), "no JSON object"),
    (lambda h: h.update(twin=h[f"{QKV}.weight"]), "overlap"),
    (lambda h: h.pop(f"{QKV}.weight"), "hole"),
])  # fmt: skip
def test_headers_that_lie(copy: Path, change, words: str) -> None:
    rewrite_header(copy / SINGLE, change)
    error = refused(copy)
    assert error.code == "checkpoint-damaged" and words in error.what


@pytest.mark.parametrize("content, code", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "checkpoint-lfs-pointer"),
    (b"<!DOCTYPE html>\n<html>not found</html>", "checkpoint-html"),
    (b"\n<html>", "checkpoint-html"),
    (b"", "checkpoint-damaged"),
    (b"\xff" * 64, "checkpoint-damaged"),
    (b"\x04\0\0\0\0\0\0\0nope", "checkpoint-damaged"),
    ((2).to_bytes(8, "little") + b"[]", "checkpoint-damaged"),
])  # fmt: skip
def test_other_files_in_place_of_the_weights(copy: Path, content: bytes, code: str) -> None:
    (copy / SINGLE).write_bytes(content)
    assert refused(copy).code == code


def test_no_weights_and_a_folder_in_their_place(copy: Path) -> None:
    (copy / SINGLE).unlink()
    assert refused(copy).code == "checkpoint-missing-file"
    (copy / SINGLE).mkdir()
    assert refused(copy).code == "checkpoint-missing-file"


def test_shards(tmp_path: Path) -> None:
    folder = write(tmp_path / "sharded", shards=3)
    open_checkpoint(folder).close()
    (folder / "model-1.safetensors").unlink()
    (folder / "model-2.safetensors").unlink()
    error = refused(folder)
    assert error.code == "checkpoint-missing-file" and "model-1.safetensors and 1 more" in error.what


LEAVING = ["../outside.safetensors", "/etc/passwd", "a/../../b.safetensors", "C:\\x", "\\\\h\\x", "..\\x", "x\0y", ""]


@pytest.mark.parametrize("entry", LEAVING)
def test_index_entries_that_leave_the_folder(tmp_path: Path, entry: str) -> None:
    folder = write(tmp_path / "sharded", shards=2)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"][f"{QKV}.weight"] = entry
    path.write_text(json.dumps(index))
    assert refused(folder).code == "checkpoint-unsafe"


@pytest.mark.parametrize(
    "text", ['{"weight_map": {}}', '{"weight_map": {"a": 1}}', "{}", "[]", "{", '{"weight_map": []}']
)
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "sharded", shards=2)
    (folder / "model.safetensors.index.json").write_text(text)
    assert refused(folder).code == "checkpoint-damaged"


def test_an_index_that_names_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "sharded", shards=2)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"][f"{QKV}.weight"] = "parts"
    path.write_text(json.dumps(index))
    (folder / "parts").mkdir()
    error = refused(folder)
    assert error.code == "checkpoint-damaged" and error.where == str(path) and error.hint
    assert "index.json" in error.what and f"{QKV}.weight" in error.what and "'parts'" in error.what


def test_an_index_that_names_the_wrong_shard(tmp_path: Path) -> None:
    folder = write(tmp_path / "sharded", shards=2)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "model-0.safetensors")
    path.write_text(json.dumps(index))
    error = refused(folder)
    assert error.code == "checkpoint-damaged" and "model-0.safetensors" in error.what


@pytest.mark.parametrize("bits, config, words", [
    (0, {"num_layers": 3}, "layers.2"),
    (0, {"num_layers": 1}, "layers.1"),
    (0, {"hidden_size": 64}, "shape"),
    (0, {"padded_vocab_size": 65}, "word_embeddings.weight with shape [64, 32], config.json asks for [65, 32]"),
    (0, {"multi_query_group_num": 4}, "query_key_value"),
    (0, {"add_bias_linear": True}, "dense.bias"),
    (0, {"add_qkv_bias": False}, "query_key_value.bias"),
    (0, {"rmsnorm": False}, "layernorm.bias"),
    (0, {"quantization_bit": 4}, "as float32, config.json says quantization_bit 4"),
    (4, {"quantization_bit": 0}, "as int4, config.json says it is not quantised"),
    (8, {"quantization_bit": 0}, "as int8, config.json says it is not quantised"),
    (4, {"quantization_bit": 8}, "as int4, config.json says quantization_bit 8"),
    (8, {"quantization_bit": 4}, "as int8, config.json says quantization_bit 4"),
])  # fmt: skip
def test_weights_of_another_configuration(tmp_path: Path, bits: int, config: dict, words: str) -> None:
    error = refused(write(tmp_path / "other", bits=bits, config=config))
    assert error.code == "checkpoint-mismatch" and words in error.what and error.hint


def test_missing_scales(tmp_path: Path) -> None:
    folder = write(tmp_path / "int8", bits=8)
    state = load_file(folder / SINGLE)
    del state[f"{QKV}.weight_scale"]
    save_file(state, folder / SINGLE)
    error = refused(folder)
    assert error.code == "checkpoint-mismatch" and f"{QKV}.weight_scale" in error.what and "scales" in error.what


def test_packed_weights_of_another_type(tmp_path: Path) -> None:
    folder = write(tmp_path / "int8", bits=8)
    state = load_file(folder / SINGLE)
    state[f"{QKV}.weight"] = state[f"{QKV}.weight"].view(torch.uint8)
    save_file(state, folder / SINGLE)
    assert "as uint8" in refused(folder).what


class Evil:
    """Pickled, it asks its reader to make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_that_would_run_code(copy: Path, zipped: bool) -> None:
    (copy / SINGLE).unlink()
    target, path = copy / "executed", copy / "pytorch_model.bin"
    state = collections.OrderedDict(weight=Evil(target))
    if zipped:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    error = refused(copy)
    assert error.code == "checkpoint-unsafe" and "mkdir" in error.what
    assert not target.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files(copy: Path, legacy: bool) -> None:
    wanted = load_file(copy / SINGLE)
    (copy / SINGLE).unlink()
    torch.save(wanted, copy / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    with open_checkpoint(copy) as checkpoint:
        assert all(torch.equal(checkpoint.tensor(name), wanted[name]) for name in wanted)


def test_damaged_torch_files(copy: Path) -> None:
    wanted, path = load_file(copy / SINGLE), copy / "pytorch_model.bin"
    (copy / SINGLE).unlink()
    torch.save(wanted, path)
    data = path.read_bytes()
    for damaged in (data[:1000], data[: len(data) // 2], b"PK\x03\x04" + bytes(100), b"rubbish"):
        path.write_bytes(damaged)
        assert refused(copy).code == "checkpoint-damaged"
    torch.save([1, 2], path)
    assert refused(copy).code == "checkpoint-damaged"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert refused(copy).code == "checkpoint-damaged"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_ends_in_one_line_or_loads(good: Path, tmp_path: Path, data) -> None:
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    path = folder / data.draw(st.sampled_from([SINGLE, SINGLE, "config.json"]))
    content = bytearray(path.read_bytes())
    header = (
        min(len(content) - 1, 8 + int.from_bytes(content[:8], "little")) if path.name == SINGLE else len(content) - 1
    )
    match data.draw(st.sampled_from(["flip", "flip", "cut", "insert", "remove"])):
        case "flip":
            for _ in range(data.draw(st.integers(1, 4))):
                content[data.draw(st.integers(0, header))] = data.draw(st.integers(0, 255))
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case "insert":
            place = data.draw(st.integers(0, header))
            content[place:place] = data.draw(st.binary(min_size=1, max_size=9))
        case "remove":
            place = data.draw(st.integers(0, header))
            del content[place : place + data.draw(st.integers(1, 9))]
    path.write_bytes(content)
    try:
        load_model(folder, dtype="float32")
    except GlmError as error:
        assert "\n" not in error.line() and error.code.startswith(("checkpoint-", "config-"))
