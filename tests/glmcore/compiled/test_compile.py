"""`glmcore compile`: an engine that opens and answers, what is refused when it is opened, and runs that are stopped."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import click
import document_examples
import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock
from golden_cases import GOLDEN
from safetensors.torch import load_file
from shallow import make_shallow

from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.lock import LOCK
from glmcore.cli import group
from glmcore.cli.compile import types_of
from glmcore.compiled import build, checks, make, work
from glmcore.compiled.checks import Here, foreign, here
from glmcore.compiled.crew import Crew
from glmcore.compiled.dumping import Dumping
from glmcore.compiled.manifest import MANIFEST, Manifest, manifest_from_json
from glmcore.compiled.opening import open_engine
from glmcore.compiled.request import Request, holds, make_request
from glmcore.compiled.weights import OWN, write_own
from glmcore.digest import FileSum
from glmcore.engine.runner import Runner
from glmcore.errors import GlmError
from glmcore.kernels.load import load_kernel
from glmcore.place.loader import load_model

CASE = GOLDEN / "v2" / "int4"
STEPS = 10
Compiling = Callable[[Crew, dict[str, str], Callable[[str], None]], None]


def run(*arguments: object) -> str:
    """What the command prints. Errors: GlmError, click's own."""
    result = CliRunner().invoke(group, ["compile", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="session")
def shallow_int4(shelf: Path) -> Path:
    """The original's int4 checkpoint of ChatGLM2-6B's shape without all layers but the first."""
    folder = shelf / "v2-int4"
    with FileLock(shelf / "v2-int4.lock"):
        if not folder.exists():
            make_shallow(CASE, folder)
    return folder


@pytest.fixture(scope="session")
def made(shelf: Path, shallow_int4: Path) -> Path:
    """Its engine of 1 to 32 rows, with a graph that tells states; compiled once in a run of the tests."""
    with FileLock(shelf / "any.lock"):
        if not (shelf / "any").exists():
            said = run(shallow_int4, "-o", shelf / "any", "--pre-len", 16, "--total-len", 64, "--any-batch", "--golden")
            assert "prefill 16, decode 1, golden 16, total 64, rows 1-32, int4" in said and "mapped" in said
    return shelf / "any"


def prompt() -> list[int]:
    return load_file(CASE / "golden.safetensors")["prompt.input_ids"][0].tolist()


def engineless(folder: Path, ids: list[int]) -> list[int]:
    model = load_model(folder, kernel=load_kernel(precision="fast"))
    runner, found = Runner(model, model.config), []
    logits = runner.prefill(ids)
    for _ in range(STEPS):
        found.append(int(logits.argmax()))
        logits = runner.decode(found[-1])
    return found


@pytest.mark.parametrize("rows", [1, 2, 5, 17])
def test_rows_of_any_number_answer_as_a_run_without_an_engine(made: Path, shallow_int4: Path, rows: int) -> None:
    engine = open_engine(made)
    prompts = [[*prompt(), 7 + row % 3] for row in range(rows)]
    caches = engine.caches(rows)
    logits, found = engine.prefill(prompts, caches), [[] for _ in prompts]
    for _ in range(STEPS):
        for row, after in zip(found, logits, strict=True):
            row.append(int(after.argmax()))
        logits = engine.decode([row[-1] for row in found], caches)
    wanted = [engineless(shallow_int4, ids) for ids in prompts[:3]]
    assert found == [wanted[row % 3] for row in range(rows)]


def test_the_golden_graph_gives_the_reference_call(made: Path) -> None:
    engine, told = open_engine(made, precision="exact"), []
    reference = load_file(made / str(engine.manifest.golden))
    engine.watch = Dumping(lambda role, tensors: told.append((role, dict(tensors))))
    engine.prefill(reference["ids"][:, : int(reference["lengths"][0])].tolist(), engine.caches(1))
    [(role, tensors)] = told
    assert role == "prefill" and tensors.keys() == reference.keys() and "layer.0.out" in tensors
    own = int(reference["lengths"][0])
    for name, tensor in tensors.items():
        axis = {"out": 1, "key": 2, "value": 2}.get(name.rpartition(".")[2])
        ours, theirs = (t.narrow(axis, 0, own) if axis else t for t in (tensor, reference[name]))
        assert torch.allclose(ours.double(), theirs.double(), atol=1e-4, rtol=1e-4), name


def test_the_manifest_reads_back_to_itself_and_what_is_none_is_one_line(made: Path) -> None:
    text = (made / MANIFEST).read_text()
    manifest = manifest_from_json(text)
    assert isinstance(manifest, Manifest) and manifest.text() == text
    assert list(manifest.built.instructions) == sorted(set(manifest.built.instructions))
    data = json.loads(text)
    parts = ("config", "total_len", "batch", "built", "stages", "graphs", "weights", "files", "inputs")
    for key in ("schema_version", *parts):
        for other in (None, -1, "x", [[1]], {"a": 1}):
            with pytest.raises(GlmError, match="none of an engine"):
                manifest_from_json(json.dumps({**data, key: other}))
    for bad in ("", "{", "[]", "null", json.dumps({**data, "graphs": data["graphs"] * 2})):
        with pytest.raises(GlmError, match="none of an engine"):
            manifest_from_json(bad)


def test_files_of_the_folder_alone_are_named(made: Path) -> None:
    data = json.loads((made / MANIFEST).read_text())
    for name in ("../passwd", "/etc/passwd", "..", ""):
        with pytest.raises(GlmError, match="no file of the folder"):
            manifest_from_json(json.dumps({**data, "files": {**data["files"], name: {"size": 1, "sha256": ""}}}))
    part = {**data["weights"][0], "file": "x/y", "how": "mapped"}
    with pytest.raises(GlmError, match="neither inside nor mapped"):
        manifest_from_json(json.dumps({**data, "weights": [part]}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"torch": "1.0"}, "compiled by torch 1.0, and torch .* is here, install torch 1.0, or compile"),
        ({"kernel": "0"}, "compiled for the kernel 0, this glmcore has"),
        ({"instructions": ("avx512f", "amx_tile")}, "instructions that this CPU lacks: amx_tile, compile"),
        ({"device": "cuda", "capability": "9.0"}, "a card of capability 9.0, here are: 8.6, 8.9"),
    ],
)
def test_an_engine_of_another_machine_is_refused(made: Path, change: dict[str, object], words: str) -> None:
    built = manifest_from_json((made / MANIFEST).read_text()).built
    own = here(torch.__version__)
    machine = Here(own.torch, own.kernel, own.instructions - {"amx_tile"}, ("8.6", "8.9"))
    assert foreign(built, machine) is None
    refused = foreign(replace(built, **change), machine)
    assert refused is not None and refused.code == "engine-foreign"
    with pytest.raises(GlmError, match=words):
        raise refused


def test_torchs_version_is_the_one_that_torch_says(made: Path, tmp_path: Path, monkeypatch) -> None:
    """The package index's own build says 2.13.0 in its metadata and 2.13.0+cu130 in torch.__version__."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace(f'"torch": "{torch.__version__}"', '"torch": "2.13.0+cu130"'))
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    assert open_engine(folder).manifest.built.torch == "2.13.0+cu130"


def test_nothing_of_a_foreign_or_damaged_engine_is_loaded(made: Path, tmp_path: Path, monkeypatch) -> None:
    """Each fault is found before any code of the engine is."""
    monkeypatch.setattr(torch._C._aoti, "AOTIModelPackageLoader", None)
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)

    def refused(code: str, words: str) -> None:
        with pytest.raises(GlmError, match=words) as error:
            open_engine(folder)
        assert error.value.code == code

    for name in ("engine.pt2", "weights.safetensors", "config.json", "products.so", "golden.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1])
        refused("engine-damaged", f"{name} has {len(content) - 1} bytes of {len(content)}")
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        refused("engine-damaged", f"{name} has changed")
        (folder / name).unlink()
        refused("engine-damaged", f"{name} is missing")
        (folder / name).write_bytes(content)
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace(f'"torch": "{torch.__version__}"', '"torch": "2.1.0"'))
    refused("engine-foreign", "compiled by torch 2.1.0")
    (folder / MANIFEST).unlink()
    refused("engine-invalid", "this is no engine")
    shutil.rmtree(folder)
    refused("model-path", "does not exist")


def test_mapped_weights_are_found_beside_the_engine_too(made: Path, tmp_path: Path, monkeypatch) -> None:
    data = json.loads((made / MANIFEST).read_text())
    [mapped] = [part for part in data["weights"] if part["how"] == "mapped"]
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    gone = {**mapped, "file": str(tmp_path / "gone" / "model.safetensors")}
    weights = [gone if part == mapped else part for part in data["weights"]]
    (folder / MANIFEST).write_text(json.dumps({**data, "weights": weights}))
    with pytest.raises(GlmError, match=r"model.safetensors is missing.*bring the checkpoint's model.safetensors back"):
        open_engine(folder)
    shutil.copy(mapped["file"], folder / "model.safetensors")
    assert open_engine(folder).prefill([prompt()], open_engine(folder).caches(1)).isfinite().all()


# Without torch's compiler: what a graph's compilation gives is stood in for.


@pytest.fixture
def stood_in(monkeypatch) -> list[str]:
    """In place of compiling a graph, a file; the graphs that were asked for."""
    asked: list[str] = []

    def compile_graph(crew: Crew, task: dict[str, str], step: Callable[[str], None]) -> None:
        asked.append(task["graph"])
        step(f"compiling {task['graph']}")
        Path(task["into"], "graph.wrapper.so").write_bytes(b"code")

    monkeypatch.setattr(Crew, "compile", compile_graph)
    return asked


def stopped_at_decode(whole: Compiling) -> Compiling:
    """Ctrl-C before the graph that decodes."""

    def stopped(crew: Crew, task: dict[str, str], step: Callable[[str], None]) -> None:
        if task["graph"] == "decode.1.0":
            raise KeyboardInterrupt
        whole(crew, task, step)

    return stopped


def request_of(**wishes) -> Request:
    with open_checkpoint(CASE) as checkpoint:
        return make_request(checkpoint.config, **{"pre_len": 16, "total_len": 64, **wishes})


def compiled(output: Path, request: Request | None = None, **settings) -> Manifest:
    with open_checkpoint(CASE) as checkpoint:
        return make.compile_engine(request or request_of(), output, checkpoint, **settings)


def test_a_run_that_was_stopped_goes_on_with_what_it_finished(stood_in: list[str], tmp_path: Path, monkeypatch) -> None:
    output, whole = tmp_path / "engine", Crew.compile
    monkeypatch.setattr(Crew, "compile", stopped_at_decode(whole))
    with pytest.raises(KeyboardInterrupt):
        compiled(output)
    assert not output.exists() and stood_in == ["prefill.16.0"]
    monkeypatch.setattr(Crew, "compile", whole)
    told: list[tuple[str, int, int]] = []
    compiled(output, progress=lambda *step: told.append(step))
    assert stood_in == ["prefill.16.0", "decode.1.0"]
    labels = [label for label, _, _ in told]
    assert "kept prefill.16.0" in labels and "compiling decode.1.0" in labels
    assert told[-1] == ("", 6, 6) and [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert (output / MANIFEST).exists() and not output.with_name("engine.unfinished").exists()
    with pytest.raises(GlmError, match="the engine's folder is not empty"):
        compiled(output)


def test_a_pair_that_was_stopped_goes_on_too(stood_in: list[str], onnx: Path, tmp_path: Path, monkeypatch) -> None:
    """Of the brief's two engines neither is there before the other, and their weights are one file."""
    whole, written = Crew.compile, []
    monkeypatch.setattr(make, "write_own", lambda *given: written.append(write_own(*given)))
    said = ("--model-path", onnx, "--target-path", tmp_path / "engines", "--export-name", "x")
    monkeypatch.setattr(Crew, "compile", stopped_at_decode(whole))
    with pytest.raises((KeyboardInterrupt, click.Abort)):
        run(*said)
    assert os.listdir(tmp_path / "engines") == ["x_bf16_q.ngf.unfinished"] and len(stood_in) == 1
    monkeypatch.setattr(Crew, "compile", whole)
    assert run(*said).count("wrote ") == 2 and len(stood_in) == 2 and len(written) == 1
    pair = [tmp_path / "engines" / f"x_bf16_q{end}.ngf" for end in ("", "_inc")]
    assert sorted(os.listdir(tmp_path / "engines")) == [folder.name for folder in pair]
    assert os.path.samefile(*(folder / OWN for folder in pair))
    assert [manifest_from_json((folder / MANIFEST).read_text()).roles for folder in pair] == [("prefill",), ("decode",)]


def test_what_is_half_done_takes_no_room(stood_in: list[str], tmp_path: Path, monkeypatch) -> None:
    """Weights that are finished need no room again; the engine that could not be put together is not left lying."""
    whole = make.put_together
    monkeypatch.setattr(make, "put_together", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(GlmError, match=r"make room.*what is finished is kept"):
        compiled(tmp_path / "engine")
    kept = os.listdir(tmp_path / "engine.unfinished")
    assert sorted(kept) == [LOCK, "graph.decode.1.0", "graph.prefill.16.0", "weights"]
    monkeypatch.setattr(make, "put_together", whole)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    assert compiled(tmp_path / "engine").total_len == 64


def test_what_to_do_depends_on_what_is_wrong(stood_in: list[str], tmp_path: Path, monkeypatch) -> None:
    def denied(*_) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "engine"))

    monkeypatch.setattr(make, "put_together", denied)
    with pytest.raises(GlmError, match="a folder that you may write to"):
        compiled(tmp_path / "engine")
    (tmp_path / "file").touch()
    with pytest.raises(GlmError, match="a file lies where the engine is to be"):
        compiled(tmp_path / "file")


def test_another_length_is_another_graph(stood_in: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(make, "put_together", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    for length, graphs in ((16, 2), (16, 2), (24, 3)):  # the decode graph is the same
        with pytest.raises(GlmError, match=r"No space left.*what is finished is kept"):
            compiled(tmp_path / "engine", request_of(pre_len=length))
        assert len(stood_in) == graphs and not (tmp_path / "engine").exists()


def test_finished_work_that_has_changed_is_made_anew(stood_in: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(make, "put_together", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    for graphs in (2, 3):
        with pytest.raises(GlmError):
            compiled(tmp_path / "engine")
        assert len(stood_in) == graphs
        (tmp_path / "engine.unfinished" / "graph.prefill.16.0" / "graph.wrapper.so").write_bytes(b"other")


def test_two_runs_do_not_write_one_engine(stood_in: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "engine.unfinished"
    folder.mkdir()
    with FileLock(folder / LOCK):
        (folder / LOCK).write_text("process 7 on elsewhere")
        with pytest.raises(GlmError, match=r"another run is writing into this folder \(process 7 on elsewhere\)"):
            compiled(tmp_path / "engine")
    assert not stood_in


def test_a_full_disk_is_said_before_anything_is_written(stood_in: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(GlmError, match=r"B of weights are to be written and 10 B are free"):
        compiled(tmp_path / "engine")


def test_without_a_compiler_the_step_that_needs_it_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(GlmError, match=r"compiling a graph takes a C\+\+ compiler.*opening and running .* takes none"):
        compiled(tmp_path / "engine")
    monkeypatch.setenv("CXX", "g++-of-another-machine")
    with pytest.raises(GlmError, match=r"CXX names no program: g\+\+-of-another-machine, correct CXX"):
        compiled(tmp_path / "engine")
    assert not os.listdir(tmp_path)


def test_a_file_that_may_not_be_read_is_no_reason_to_compile_anew(tmp_path: Path, monkeypatch) -> None:
    def denied(path: Path, *_) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "engine.pt2").touch()
    monkeypatch.setattr(checks, "sum_of", denied)
    with pytest.raises(GlmError, match=r"engine\.pt2 cannot be read: Permission denied, .*, let this user read it"):
        checks.check_file(tmp_path / "engine.pt2", FileSum(0, ""), "compile it anew")
    monkeypatch.setattr(checks, "read_bytes", denied)
    with pytest.raises(GlmError, match=r"manifest\.json cannot be read: Permission denied, .*, let this user read it"):
        checks.read_manifest(tmp_path)


def test_the_disk_that_is_full_is_named(tmp_path: Path, monkeypatch) -> None:
    """The compiler writes among the temporary files, torch into its cache."""
    full, other = tmp_path / "full", tmp_path / "other"
    full.mkdir(), other.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=int(Path(folder) == other)))
    for cache, temporary in ((full, other), (other, full)):
        monkeypatch.setenv(build.CACHE, str(cache))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        assert build.fullest() == str(full)


def test_a_plan_for_other_weights_is_refused(tmp_path: Path) -> None:
    with open_checkpoint(GOLDEN / "v2" / "base") as checkpoint:
        config = checkpoint.config
    (tmp_path / "plan").write_text(
        json.dumps(make_request(config, pre_len=8, total_len=64, quantize="int8").plan.to_json())
    )
    with pytest.raises(GlmError, match=r"the plan is not for int4 weights, glmcore plan --quant int4"):
        make_request(config, pre_len=8, total_len=64, quantize="int4", plan=tmp_path / "plan")


def test_an_engine_is_no_checkpoint(stood_in: list[str], tmp_path: Path) -> None:
    compiled(tmp_path / "engine")
    with pytest.raises(GlmError, match=r"this is a compiled engine, no checkpoint.*glmcore infer --engine"):
        open_checkpoint(tmp_path / "engine")


def test_a_folders_tokenizer_goes_along_with_random_weights_too(stood_in: list[str], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    shutil.copy(CASE / "config.json", tmp_path / "model")
    (tmp_path / "model" / "tokenizer.model").write_bytes(b"words")
    run(tmp_path / "model", "-o", tmp_path / "engine", "--random-weights", "--pre-len", 16, "--total-len", 64)
    assert (tmp_path / "engine" / "tokenizer.model").read_bytes() == b"words"


def test_all_weights_lie_inside_where_that_is_asked_for(stood_in: list[str], tmp_path: Path) -> None:
    apart = compiled(tmp_path / "apart")
    inside = compiled(tmp_path / "inside", request_of(self_contained=True))
    assert {part.how for part in apart.weights} == {"inside", "mapped"}
    assert {part.how for part in inside.weights} == {"inside"}
    assert sum(len(part.tensors) for part in apart.weights) == sum(len(part.tensors) for part in inside.weights)
    assert work.sums(tmp_path / "inside")["weights.safetensors"] == inside.weights[0].sha256


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    """ChatGLM2-6B's shape in small, for 32768 tokens, where the document has its model.onnx."""
    folder = tmp_path / document_examples.MODEL
    shutil.copytree(GOLDEN / "v2" / "base", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "seq_length": 32768}))
    return folder


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("number", range(5))
def test_the_documents_examples_run_as_written(number: int, stood_in: list[str], tmp_path: Path, monkeypatch) -> None:
    """(scripts/check_document.py compiles what they compile.)"""
    monkeypatch.chdir(tmp_path)
    _, *arguments = document_examples.ours(document_examples.COMPILE[number])
    name, pre_len, total, rows = document_examples.COMPILED[number]
    run(*arguments)
    for suffix, role, length in (("", "prefill", pre_len), ("_inc", "decode", 1)):
        manifest = manifest_from_json((tmp_path / f"{name}{suffix}.ngf" / MANIFEST).read_text())
        assert (manifest.roles, manifest.total_len, manifest.batch) == ((role,), total, (rows, rows))
        assert manifest.lengths(role) == (length,)
        assert (manifest.quantize, manifest.dtype) == ("int8", "bfloat16")
    assert sorted(stood_in) == sorted([f"prefill.{pre_len}.0", "decode.1.0"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("MODEL", "an engine has one place"),
        ("MODEL -o DIR --target-path .", "an engine has one place"),
        ("-o DIR", "one model is compiled"),
        ("MODEL -o DIR --pre-len 64 --total-len 64", "leaves no room for an answer in --total-len 64"),
        ("MODEL -o DIR --pre-len 1 --total-len 64", "--pre-len 1 is no prompt"),
        ("MODEL -o DIR --total-len 9999", "longer than the model's own 128"),
        ("MODEL -o DIR --pre-len 8 --total-len 64 --device cuda", "cuda:0 is not on this machine"),
        ("MODEL -o DIR --pre-len 8 --total-len 64 --quant int8", "already quantised to int4"),
        ("MODEL -o DIR --pre-len 8 --total-len 64 --split-strategy 1", "--multi-dev-dram-limit 8,8"),
        ("MODEL -o DIR --pre-len 8 --total-len 64 --multi-dev-dram-limit 8,x", "'8,x' are no limits"),
        ("MODEL -o DIR --pre-len 8 --total-len 64 --is-bf16 maybe", "neither True nor False"),
        ("MODEL -o DIR --pre-len 8 --total-len 64 --quant none", "is quantised to int4, leave --quant away"),
        ("MODEL -o DIR --any-batch --static-batch-size 2", "--any-batch and --static-batch-size do not go together"),
        ("MODEL -o DIR --plan FILE --device cuda", "--plan and --device do not go together"),
        ("MODEL -o DIR --dtype fp32 --is-bf16 False", "--dtype and --is-bf16 do not go together"),
        ("MODEL -o DIR --ngf True", "-o and --ngf do not go together"),
        ("MODEL -o DIR --role decode --golden", "--role decode and --golden do not go together"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments: str, words: str, tmp_path: Path) -> None:
    written = [{"MODEL": str(CASE), "DIR": str(tmp_path / "engine")}.get(word, word) for word in arguments.split()]
    with pytest.raises(Exception, match=words):
        run(*written)
    assert not list(tmp_path.iterdir())


def test_the_briefs_words_say_what_they_name_and_no_more() -> None:
    assert types_of(None, None, None, True, brief=False) == (None, "int4")
    assert types_of(None, None, False, None, brief=False) == ("fp16", None)
    assert types_of(None, None, None, True, brief=True) == ("bf16", "int4")
    assert types_of(None, "none", False, False, brief=True) == ("fp16", "none")


def test_a_limit_that_no_plan_fits_says_by_how_much_and_what_would() -> None:
    from glmcore.config import find_config

    config = find_config("chatglm2-6b")
    assert holds("--quant int4", 256) and not holds("--context 256", 256) and not holds("--device cpu=8GiB", 256)
    with pytest.raises(GlmError, match=r"GiB are missing.*would fit.*--multi-dev-dram-limit (\S+),\1") as error:
        make_request(config, limits=(2.0, 2.0), dtype="bfloat16")
    [limit] = [word for word in error.value.hint.split() if "," in word and word[0].isdigit()]
    limits = [float(part) for part in limit.strip(",").split(",")]
    assert len(make_request(config, limits=limits, dtype="bfloat16").stages) == 2
    with pytest.raises(GlmError, match="are missing"):
        make_request(config, limits=[size - 0.25 for size in limits], dtype="bfloat16")
