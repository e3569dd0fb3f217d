"""`glmcore combine`: engines of one model become one with its weights once; others are refused with both values."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from glmcore.cli import group
from glmcore.compiled.checks import check_files, read_manifest
from glmcore.compiled.combine import combine
from glmcore.compiled.opening import open_engine
from glmcore.compiled.products import LIBRARY
from glmcore.compiled.weights import OWN
from glmcore.digest import sum_of
from glmcore.errors import GlmError

Engines = Callable[[str], Path]


@pytest.fixture
def other(engine: Engines, tmp_path: Path) -> Path:
    """A copy of the engine that reads prompts by 256 tokens."""
    return Path(shutil.copytree(engine("usual"), tmp_path / "other"))


def edit(folder: Path, *path: str, value: object) -> None:
    """Another value in an engine's manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    place = manifest
    for name in path[:-1]:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place[path[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rewrite(folder: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> None:
    """Other weights in an engine, which its manifest knows of."""
    (folder / OWN).unlink()
    save_file(tensors, folder / OWN, metadata)
    found = sum_of(folder / OWN)
    edit(folder, "weights", "0", "size", value=found.size)
    edit(folder, "weights", "0", "sha256", value=found.sha256)


def refused(*folders: Path, output: Path) -> GlmError:
    with pytest.raises(GlmError) as caught:
        combine(folders, output)
    assert not output.exists() and not output.with_name(f"{output.name}.unfinished").exists()
    return caught.value


def test_graphs_of_both_are_in_one_engine_and_the_weights_once(engine: Engines, several: Path, tmp_path: Path) -> None:
    ours, theirs, both = (read_manifest(folder) for folder in (engine("usual"), engine("wide"), several))
    assert [graph.name for graph in both.graphs] == ["prefill.256.0", "decode.1.0", "prefill.1024.0"]
    assert both.weights == ours.weights and [path.name for path in several.glob("*.safetensors")] == [OWN]
    # Of the plans that with the larger workspace, as the longer prefill needs it.
    assert both.plan == max(ours.plan, theirs.plan, key=lambda plan: plan["devices"][0]["total_bytes"])
    opened = open_engine(several)
    assert [opened.length_for(count) for count in (1, 256, 257, 1024, 1500)] == [256, 256, 1024, 1024, 1024]
    again = CliRunner().invoke(group, ["combine", str(several), str(engine("usual")), "-o", str(tmp_path / "again")])
    assert again.exit_code == 0 and "prefill of 256, 1024; decode" in again.stdout
    assert read_manifest(tmp_path / "again").graphs == both.graphs


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("total_len",), 4096, "another total length: usual 2048, other 4096"),
        (("dtype",), "bfloat16", "another type: usual float32, other bfloat16"),
        (("quantize",), "int8", "another quantisation: usual none, other int8"),
        (("config", "generation"), "v3", "another generation: usual v2, other v3"),
        (("config", "rope_ratio"), 50.0, "another model: usual rope_ratio 1.0, other rope_ratio 50.0"),
        (("batch",), [1, 4], "another static batch size: usual 1-8, other 1-4"),
        (("built", "torch"), "2.12.0+cpu", "other 2.12.0+cpu"),
        (("built", "kernel"), "other sources", "other other sources"),
        (("built", "instructions"), ["avx2"], "other avx2"),
        (("stages", "0", "cache"), "bfloat16", "another cache: usual float32, kept in float32, other float32, kept in"),
        (("stages", "0", "device"), "cpu:1", "another split: usual cpu: embedding to lm_head, other cpu:1: embedding"),
    ],
)
def test_what_differs_is_refused_with_both_values(path, value, words, engine: Engines, other: Path, tmp_path: Path):
    edit(other, *path, value=value)
    error = refused(engine("usual"), other, output=tmp_path / "out")
    assert words in str(error) and error.exit_status == 2


def test_weights_are_compared_tensor_by_tensor(engine: Engines, other: Path, tmp_path: Path) -> None:
    tensors = load_file(other / OWN)
    rewrite(other, tensors, written="by another program")  # the file's hash is another, no tensor's is
    assert read_manifest(other).weights[0].sha256 != read_manifest(engine("usual")).weights[0].sha256
    combine([engine("usual"), other], tmp_path / "same")
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    rewrite(other, tensors | {name: tensors[name] + 1})
    error = refused(engine("usual"), other, output=tmp_path / "out")
    assert f"other weights: {name}: usual " in str(error)
    rewrite(other, tensors | {name: tensors[name][1:].contiguous()})
    rows, columns = tensors[name].shape
    error = refused(engine("usual"), other, output=tmp_path / "out")
    assert f"usual [{rows}, {columns}] float32, other [{rows - 1}, {columns}] float32" in str(error)
    rewrite(other, {kept: tensor for kept, tensor in tensors.items() if kept != name})
    manifest = json.loads((other / "manifest.json").read_text())
    del manifest["weights"][0]["tensors"][name]
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert f"has {name}, other does not" in str(refused(engine("usual"), other, output=tmp_path / "out"))


def test_another_tokenizer_is_refused(engine: Engines, other: Path, tmp_path: Path) -> None:
    (other / "tokenizer.model").write_bytes(b"another")
    edit(other, "files", "tokenizer.model", value={"size": 7, "sha256": sum_of(other / "tokenizer.model").sha256})
    assert "another tokenizer.model" in str(refused(engine("usual"), other, output=tmp_path / "out"))


def test_products_are_compared_by_what_they_were_made_of(engine: Engines, other: Path, tmp_path: Path) -> None:
    """Two compilers make other bytes of the same sources, whose hash has been found to be the same."""
    first = Path(shutil.copytree(engine("usual"), tmp_path / "first"))
    for folder in (first, other):
        (folder / LIBRARY).write_text(folder.name)
        found = sum_of(folder / LIBRARY)
        edit(folder, "files", LIBRARY, value={"size": found.size, "sha256": found.sha256})
    combine([first, other], tmp_path / "both")
    assert (tmp_path / "both" / LIBRARY).read_text() == "first"
    check_files(tmp_path / "both", read_manifest(tmp_path / "both"))


def test_what_cannot_be_trusted_or_is_no_engine_is_refused(engine: Engines, other: Path, tmp_path: Path) -> None:
    assert refused(other, output=tmp_path / "out").code == "usage"
    with (other / "engine.pt2").open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    error = refused(engine("usual"), other, output=tmp_path / "out")
    assert (error.code, error.what) == ("engine-damaged", "engine.pt2 has changed (its hash differs)")
    assert refused(engine("usual"), tmp_path / "nowhere", output=tmp_path / "out").code == "model-path"
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    with pytest.raises(GlmError, match="not empty"):
        combine([engine("usual"), engine("wide")], taken)
    assert os.listdir(taken) == ["file"]
