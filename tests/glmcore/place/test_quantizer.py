"""``glmcore quantize``: the files it writes, and what happens when it is stopped or given the wrong folder."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from golden_cases import GOLDEN
from safetensors.torch import load_file, save_file

from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint import writer as writer_module
from glmcore.errors import GlmError
from glmcore.layout import piece_of
from glmcore.place import load_model, quantize_checkpoint

GENERATIONS = ("v1", "v2", "v3", "glm4")


def write(source: Path, folder: Path, quantize: str = "int4", **options) -> None:
    with open_checkpoint(source) as checkpoint:
        quantize_checkpoint(checkpoint, folder, quantize, **options)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    with open_checkpoint(folder) as checkpoint:
        return {name: checkpoint.tensor(name) for name in checkpoint.names}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_it_writes_the_original_quantisers_bytes(generation: str, bits: int, tmp_path: Path):
    write(GOLDEN / generation / "base", tmp_path / "out", f"int{bits}")
    found, wanted = tensors(tmp_path / "out"), tensors(GOLDEN / generation / f"int{bits}")
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        differs = tensor != wanted[name]
        # Where bfloat16 rounds up to 128 the original's int8 overflows; ours stays at 127.
        overflown = (generation, bits) == ("glm4", 8) and tensor[differs].abs().eq(127).all()
        assert not differs.any() or overflown, name


@pytest.mark.parametrize("generation", GENERATIONS)
def test_shards_hold_what_loading_would_have_quantised(generation: str, tmp_path: Path):
    source = GOLDEN / generation / "sharded"
    write(source, tmp_path / "out", shard_bytes=60_000)
    shards = sorted((tmp_path / "out").glob("model-*.safetensors"))
    assert len(shards) > 1 and all(shard.stat().st_size < 110_000 for shard in shards)
    assert not list((tmp_path / "out").glob(".*"))
    written, direct = load_model(tmp_path / "out"), load_model(source, quantize="int4")
    for name, one in written.state_dict().items():
        if piece_of(written.config, name).is_table:  # in int8 in memory; the original layout has no room for that
            continue
        other = direct.state_dict()[name]
        assert one.dtype == other.dtype and torch.equal(one, other), name
    held = {name for shard in shards for name in load_file(shard)}  # the official library reads them too
    assert held == set(json.loads((tmp_path / "out" / writer_module.INDEX).read_text())["weight_map"])


def test_a_killed_run_keeps_its_finished_shards(tmp_path: Path):
    source, out = GOLDEN / "v2" / "sharded", tmp_path / "out"
    program = (
        "import sys, time\n"
        "from glmcore.checkpoint import open_checkpoint\n"
        "from glmcore.place import quantize_checkpoint\n"
        "def slowly(done, total):\n    print(done, flush=True); time.sleep(0.2)\n"
        "quantize_checkpoint(open_checkpoint(sys.argv[1]), sys.argv[2], 'int4', shard_bytes=40_000, progress=slowly)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(source), str(out)], stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(out.glob("model-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (out / "config.json").exists()
    first = sorted(out.glob("model-*"))[0]
    before = first.stat().st_mtime_ns
    damaged = sorted(out.glob("model-*"))[1]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    write(source, out, shard_bytes=40_000)
    assert first.stat().st_mtime_ns == before, "a finished shard was written again"
    write(source, tmp_path / "straight", shard_bytes=40_000)
    for path in (tmp_path / "straight").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "straight").iterdir()}


@pytest.mark.parametrize("kind", ["foreign", "other bits", "finished", "itself"])
def test_it_never_mixes_into_a_folder_of_something_else(kind: str, tmp_path: Path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(GOLDEN / "v2" / "base", source)
    out.mkdir()
    if kind == "foreign":
        (out / "notes.txt").write_text("mine")
    elif kind == "other bits":
        (out / ".unfinished.json").write_text('{"source": "another"}')
    elif kind == "finished":
        write(source, out, "int8")
    before = {path.name: path.read_bytes() for path in (source if kind == "itself" else out).iterdir()}
    with pytest.raises(GlmError) as caught:
        write(source, source if kind == "itself" else out)
    assert caught.value.code in ("write-failed", "usage")
    assert before == {path.name: path.read_bytes() for path in (source if kind == "itself" else out).iterdir()}


def test_no_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writer_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(GlmError, match="GB are to be written"):
        write(GOLDEN / "v2" / "base", tmp_path / "out")
    monkeypatch.undo()
    write(GOLDEN / "v2" / "base", tmp_path / "out")  # the folder is still this job's


def test_a_quantised_checkpoint_is_not_quantised_again(tmp_path: Path):
    with pytest.raises(GlmError, match="already quantised to int8"):
        write(GOLDEN / "v2" / "int8", tmp_path / "out", "int4")
    assert not (tmp_path / "out").exists()


def test_the_generation_survives_a_folder_that_no_longer_names_it(tmp_path: Path):
    source = tmp_path / "chatglm3-6b"
    shutil.copytree(GOLDEN / "v3" / "base", source)
    raw = json.loads((source / "config.json").read_text())
    for key in ("_name_or_path", "transformers_version"):
        raw.pop(key, None)
    (source / "config.json").write_text(json.dumps(raw))
    for extra in source.glob("token*"):
        extra.unlink()
    with open_checkpoint(source) as checkpoint:
        assert checkpoint.config.generation == "v3"
    write(source, tmp_path / "small")
    with open_checkpoint(tmp_path / "small") as checkpoint:
        assert checkpoint.config.generation == "v3"


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_tables_of_another_type_than_config_says_are_not_rounded(stored: torch.dtype, tmp_path: Path):
    folder = shutil.copytree(GOLDEN / "v2" / "int4", tmp_path / "model", copy_function=shutil.copyfile)
    tensors = load_file(folder / "model.safetensors")
    table = "transformer.output_layer.weight"
    tensors[table] = (tensors[table].float() * 1.0001).to(stored)
    save_file(tensors, folder / "model.safetensors")
    model = load_model(folder)
    assert model.config.dtype == "float16" and torch.equal(model.lm_head.weight, tensors[table])
    logits = model(torch.tensor([[5, 6, 7]]))
    hidden = load_model(folder, dtype="float32")
    assert logits.dtype == torch.float32 and torch.equal(logits, hidden(torch.tensor([[5, 6, 7]])))


def test_the_command_says_what_it_wrote(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "glmcore", "quantize", str(GOLDEN / "v2" / "base"), "--quant", "int4", "-o",
         str(tmp_path / "out"), "--shard-size", "100kB"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == ""
    assert "of weights in int4" in done.stdout
    again = subprocess.run(
        [sys.executable, "-m", "glmcore", "quantize", str(GOLDEN / "v2" / "base"), "--quant", "int4", "-o",
         str(tmp_path / "out")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert again.returncode == 1
    assert (
        again.stderr.startswith("glmcore: error[write-failed]: the folder is not empty")
        and again.stderr.count("\n") == 1
    )
