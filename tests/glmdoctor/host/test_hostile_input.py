"""Files that somebody forged: every probe and check ends soon, in little memory, with findings and not with a crash."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmdoctor.checks import ALL
from glmdoctor.checks.engine import examine_with
from glmdoctor.findings import Status
from glmdoctor.host import facts
from glmdoctor.host.facts import Checkpoint, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.probes import cuda, cxx, kernel_log, remote_code
from glmdoctor.host.recorded import RecordedIO
from glmdoctor.readings.versions import numbers

SECONDS, BYTES = 3.0, 64 << 20
MODEL_CHECKS = tuple(check for check in ALL if check.id.startswith(("model.", "remote-code.", "system.", "python.")))

words = st.sampled_from(
    [
        "chatglm",
        "hidden_size",
        "num_layers",
        "quantization_bit",
        "vocab_size",
        "torch_dtype",
        "../../etc/passwd",
        "错",
        "",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))
KEYS = (
    *("model_type", "num_layers", "hidden_size", "ffn_hidden_size", "kv_channels", "num_attention_heads"),
    *("multi_query_group_num", "padded_vocab_size", "vocab_size", "seq_length", "quantization_bit", "torch_dtype"),
    *("position_encoding_2d", "eos_token_id", "bos_token_id", "pre_seq_len", "rope_ratio", "multi_query_attention"),
)
SOUND = {
    "model_type": "chatglm",
    "num_layers": 2,
    "hidden_size": 32,
    "ffn_hidden_size": 48,
    "kv_channels": 32,
    "num_attention_heads": 1,
    "multi_query_attention": True,
    "multi_query_group_num": 1,
    "padded_vocab_size": 64,
    "seq_length": 128,
}
TENSOR = "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight"


def examined(files: dict[str, str | bytes]) -> Checkpoint:
    """Probe and checks over a recorded folder, within their time and memory."""
    tracemalloc.start()
    begin = time.perf_counter()
    host = Host(RecordedIO({f"/m/{name}": content for name, content in files.items()}), model="/m")
    found = host.checkpoint
    assert isinstance(found, Checkpoint), found.reason
    memory = facts.Memory(24 << 30, 20 << 30, 0, None, None)
    report = examine_with(MODEL_CHECKS, Host.of(checkpoint=found, memory=memory))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - begin < SECONDS and peak < BYTES
    crashed = [finding for finding in report.findings if finding.status is Status.CRASHED]
    assert not crashed, crashed
    return found


@settings(max_examples=80)
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=4))
def test_any_configuration(changes) -> None:
    examined({"config.json": json.dumps({**SOUND, **changes}), "model.safetensors": safetensors({})})


@settings(max_examples=60)
@given(values | st.fixed_dictionaries({"weight_map": values}))
def test_any_index(index) -> None:
    examined({"config.json": json.dumps(SOUND), "model.safetensors.index.json": json.dumps(index)})


@settings(max_examples=60)
@given(st.dictionaries(st.just(TENSOR) | words, values | st.fixed_dictionaries({"dtype": words | st.just("F16"), "shape": values, "data_offsets": values}), max_size=3))  # fmt: skip # noqa: E501
def test_any_safetensors_header(header) -> None:
    examined({"config.json": json.dumps(SOUND), "model.safetensors": safetensors(header)})


def safetensors(header: object, length: int | None = None) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw


@settings(max_examples=60)
@given(st.integers(0, 2**64 - 1), st.sampled_from(["model.safetensors", "model-00001-of-00009.safetensors"]))
def test_any_length_of_a_header(length, name) -> None:
    examined({"config.json": json.dumps(SOUND), name: safetensors({}, length)})


@settings(max_examples=80)
@given(st.data(), st.booleans())
def test_any_damage_to_torchs_files(data, zipped) -> None:
    raw = bytearray(torch_zip() if zipped else pickle.dumps({"weight": list(range(20))}, protocol=2))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=6)):
        raw[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
    examined({"config.json": json.dumps(SOUND), "pytorch_model.bin": bytes(raw[:end])})


def torch_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": 1}, protocol=2))
        archive.writestr("archive/data/0", bytes(64))
    return packed.getvalue()


def test_nesting_without_end_is_no_crash() -> None:
    deep = "[" * 100_000
    for name in ("config.json", "tokenizer_config.json", "model.safetensors.index.json"):
        examined({"config.json": json.dumps(SOUND), name: deep})
    raw = deep.encode()
    examined({"config.json": json.dumps(SOUND), "model.safetensors": struct.pack("<Q", len(raw)) + raw})
    examined({"config.json": json.dumps(SOUND), "modeling_chatglm.py": "x = " + "(" * 100_000})


@settings(max_examples=80)
@given(st.lists(st.sampled_from(["class ChatGLMTokenizer:", "\n", "    ", "def __init__(self):", "super().__init__()", "self.tokenizer", " = ", "1", "\0", "(", "@", "错"]), max_size=14))  # fmt: skip # noqa: E501
def test_any_remote_code_is_only_read(parts) -> None:
    files = {"/m/tokenization_chatglm.py": "".join(parts), "/m/modeling_chatglm.py": "".join(reversed(parts))}
    assert remote_code.marks(RecordedIO(files), "/m")[:1] in ((), ("present",))


@settings(max_examples=80)
@given(st.lists(st.sampled_from(["NVRM: Xid (PCI:", "0000:01:00", "): ", "79", ", ", "\n", "Out of memory: Killed process ", "9" * 5000, "(", ")", "task=", ",pid="]), max_size=12))  # fmt: skip # noqa: E501
def test_any_kernel_log(parts) -> None:
    log = kernel_log.parsed("".join(parts), "dmesg")
    assert all(xid.number >= 0 for xid in log.xids)


@pytest.mark.parametrize("digits", [4301, 100_000])
def test_numbers_longer_than_python_reads(digits: int) -> None:
    """Python refuses to make an integer of more than 4300 digits; a log, a header or a version may hold them."""
    long = "9" * digits
    log = kernel_log.parsed(f"NVRM: Xid (PCI:0000:01:00): {long}\nOut of memory: Killed process {long} (a)", "dmesg")
    assert [(xid.number, len(xid.line)) for xid in log.xids] == [(999_999_999, kernel_log.LINE)]
    assert cuda.toolkit_version(RecordedIO({"/c/include/cuda.h": f"#define CUDA_VERSION {long}"}), "/c")
    assert cxx.number(f"GLIBCXX_3.{long}")[0] == numbers(f"3.{long}")[0] == 3


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["schema_version", "facts", *Host.names()]), values, max_size=4))
def test_any_snapshot_is_a_machine_or_refused(data) -> None:
    try:
        host = Host.from_snapshot(data)
    except ValueError:
        return
    assert isinstance(host.os, Unknown | facts.Os)
