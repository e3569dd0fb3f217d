"""The deep probes on real things: the kernel runs here, torch's child runs, files are hashed."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from pathlib import Path

import pytest

from glmcore import programs
from glmdoctor.host.facts import KernelRun, NvmlGpu, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO, Result
from glmdoctor.host.probes.deep import gpu_runs
from glmdoctor.host.probes.not_finite import Scan
from glmdoctor.host.probes.nvml import CHILD
from glmdoctor.host.recorded import RecordedIO


def test_the_kernel_runs_on_a_real_layer():
    run = Host().cpu_run
    if isinstance(run, Unknown):
        pytest.skip(run.reason)
    assert run.fault is None and run.error < 1e-5
    assert run.seconds > 0 and run.bandwidth > 1e8


def test_the_cards_answers(gpu_facts):
    nvml, torch, python = gpu_facts
    row = {"device": "cuda:0", "name": "Tesla P4", "error": 0.0, "seconds": 0.02, "bandwidth": 1.6e11}
    rows = [row, {"device": "cuda:1", "name": "Tesla P4", "fault": "out of memory"}]
    key = tuple(programs.with_packages(python.executable, str(CHILD / "gpu_run.py"), flags=["-B"]))
    io = RecordedIO({}, answers={key: Result(0, json.dumps({"runs": rows}), "")})
    first, second = gpu_runs(io, nvml, torch, python)
    assert first == KernelRun("cuda:0", "Tesla P4", None, 0.0, 0.02, 1.6e11)
    assert second.fault == "out of memory"
    broken = RecordedIO({}, answers={key: Result(1, "", "ImportError: libcudart")})
    [only] = gpu_runs(broken, nvml, torch, python)
    assert only.device == "cuda:0" and "ImportError" in only.fault


@pytest.fixture
def gpu_facts():
    from glmdoctor.host.facts import Interpreter, Nvml, Torch

    nvml = Nvml(0, "", None, None, "535.183.01", (NvmlGpu(0, "Tesla P4", 8 << 30, 7 << 30, (6, 1)),))
    python = Interpreter("/venv/bin/python", "3.11", "/venv", "linux_x86_64", {}, ())
    return nvml, Torch("2.4.0+cu121", "12.1", None, "/venv/torch", ()), python


def test_the_childs_own_code_says_that_there_is_no_card():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    done = RealIO().run([sys.executable, "-I", "-B", str(CHILD / "gpu_run.py")], 120)
    assert json.loads(done.out) == {"runs": []}, done.err


WEIGHTS = (2).to_bytes(8, "little") + b"{}"
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


def hashed(folder: Path, seen=None):
    host = Host(model=str(folder))
    host.progress = seen
    [file] = [f for f in host.hashes if f.name == "model.safetensors"]
    return file.sha256 == DIGEST, file.expected, file.source


def plain(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "chatglm"}')
    return folder


def test_nothing_tells_the_hash(tmp_path):
    folder = plain(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    seen = []
    assert hashed(folder, lambda *told: seen.append(told)) == (True, None, "")
    assert seen[-1] == ("model.safetensors", len(WEIGHTS), len(WEIGHTS))


def test_the_hub_cache_names_its_files_by_their_hash(tmp_path):
    folder = plain(tmp_path / "models--x" / "snapshots" / "main")
    blobs = tmp_path / "models--x" / "blobs"
    blobs.mkdir()
    (blobs / ("0" * 64)).write_bytes(WEIGHTS)
    (folder / "model.safetensors").symlink_to(f"../../blobs/{'0' * 64}")
    assert hashed(folder) == (True, "0" * 64, "hub cache")


def test_a_download_record(tmp_path):
    folder = plain(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    records = folder / ".cache" / "huggingface" / "download"
    records.mkdir(parents=True)
    (records / "model.safetensors.metadata").write_text(f"{'a' * 40}\n{DIGEST}\n1700000000.0\n")
    assert hashed(folder) == (True, DIGEST, "download record")


def test_git_lfs_objects(tmp_path):
    folder = plain(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    oid = "ab" + "1" * 62
    objects = folder / ".git" / "lfs" / "objects" / "ab" / "11"
    objects.mkdir(parents=True)
    (objects / oid).write_bytes(WEIGHTS)
    assert hashed(folder) == (True, oid, "git lfs")


def test_a_snapshot_measures_nothing():
    host = Host(RecordedIO({}))
    host.gather()
    assert set(host.timings) <= set(Host.quick())


def safetensors(lead: int = 0, **tensors: tuple[str, bytes]) -> bytes:
    """A file of one-dimensional tensors; ``lead`` blanks lengthen the header."""
    header, data = {}, b""
    for name, (dtype, values) in tensors.items():
        shape = [len(values) // {"F32": 4, "I8": 1}.get(dtype, 2)]
        place = [len(data), len(data) + len(values)]
        header[name.replace("_", ".")] = {"dtype": dtype, "shape": shape, "data_offsets": place}
        data += values
    text = json.dumps(header).encode() + b" " * lead
    return len(text).to_bytes(8, "little") + text + data


F16, BF16, F32 = b"\x00\x3c" * 50, b"\x80\x3f" * 50, struct.pack("<50f", *range(50))


@pytest.mark.parametrize("lead", range(4))
@pytest.mark.parametrize(
    ("dtype", "sound", "wrong"),
    [
        ("F16", F16 + b"\xff\x7b", [b"\x00\x7c", b"\x00\xfc", b"\x01\x7e", b"\xff\xff"]),
        ("BF16", BF16 + b"\x7f\x7f", [b"\x80\x7f", b"\xc0\xff"]),
        ("F32", F32 + struct.pack("<f", 3e38), [struct.pack("<f", float(v)) for v in ("nan", "inf", "-inf")]),
        ("I8", b"\x7f\xff" * 50, []),
    ],
)
def test_what_is_not_finite_is_found(lead: int, dtype: str, sound: bytes, wrong: list[bytes]) -> None:
    def found(values: bytes, name: str = "b_weight") -> list[str]:
        io = RecordedIO(
            {"/m": safetensors(lead, a_weight=("F16", F16), **{name: (dtype, values)}, c_bias=("F16", F16))}
        )
        data, scan = io.read_bytes("/m"), Scan(io, "/m")
        for at in range(0, len(data), 96):  # several blocks to a tensor
            scan.read(at, data[at : at + 96])
        whole = Scan(io, "/m")
        whole.read(0, data)
        assert set(scan.found) <= set(whole.found)
        return whole.found

    assert found(sound) == []
    for value in wrong:
        assert found(sound + value) == found(value + sound) == ["b.weight"]
        assert found(sound + value, "b_mask") == []


def test_the_scan_of_what_is_no_safetensors_file():
    for scan in (Scan(RecordedIO({"/m": "<html>"}), "/m"), Scan(RecordedIO({}), "/m"), Scan(RecordedIO({}), None)):
        scan.read(0, b"\xff" * 64)
        assert scan.found == []


def test_hashing_finds_what_is_not_finite(tmp_path):
    folder = plain(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(safetensors(a_weight=("F16", F16), b_weight=("F16", F16 + b"\0\x7e")))
    [file] = [f for f in Host(model=str(folder)).hashes if f.name == "model.safetensors"]
    assert file.not_finite == ("b.weight",)


def test_hashing_finds_what_is_not_finite_in_a_file_of_torch_save(tmp_path):
    torch = pytest.importorskip("torch")
    folder = plain(tmp_path / "model")
    storage = torch.ones(4096, dtype=torch.float16)
    storage[-1] = float("inf")
    tensors = {
        "a.weight": torch.ones(3, 5),
        "b.weight": torch.tensor([1.0, float("nan")], dtype=torch.bfloat16),
        "c.weight": storage[:2048],  # a view beside what is not finite
        "d.weight": storage[2048:].view(32, 64),
        "e.mask": torch.full((4,), float("-inf")),
        "f.weight": torch.full((4,), 0x7F, dtype=torch.int8),
    }
    torch.save(tensors, folder / "pytorch_model.bin")
    [file] = [f for f in Host(model=str(folder)).hashes if f.name == "pytorch_model.bin"]
    assert file.not_finite == ("b.weight", "d.weight") and file.looked_into


def test_a_file_of_torch_before_1_6_is_not_looked_into(tmp_path):
    torch = pytest.importorskip("torch")
    folder = plain(tmp_path / "model")
    weights = {"a.weight": torch.tensor([float("nan")])}
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    [file] = [f for f in Host(model=str(folder)).hashes if f.name == "pytorch_model.bin"]
    assert file.not_finite == () and not file.looked_into
