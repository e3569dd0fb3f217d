"""`glmcore golden`: dumps against each other and against what the original code gave, equal, apart and damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from golden_cases import CASES, GOLDEN
from safetensors.torch import load_file, save_file

from glmcore.checkpoint import open_checkpoint
from glmcore.cli.golden import golden
from glmcore.engine.runner import Runner
from glmcore.errors import GlmError
from glmcore.golden.compare import compare_dumps
from glmcore.golden.dump import recording
from glmcore.place.loader import load_model

LAYERS, HEADS, SIZE, VOCABULARY = 2, 2, 4, 11


def call(tokens: int, seed: int, lengths: tuple[int, ...] = (3, 2)) -> dict[str, torch.Tensor]:
    """One call's tensors for as many rows as ``lengths``, padding filled with what no run would compute."""
    generator = torch.Generator().manual_seed(seed)
    rows = len(lengths)
    ids = torch.randint(0, VOCABULARY, (rows, tokens), generator=generator)
    found = {"ids": ids, "positions": torch.arange(tokens).expand(rows, tokens).contiguous()}
    found |= {"lengths": torch.tensor(lengths), "logits": torch.randn(rows, VOCABULARY, generator=generator)}
    for layer in range(LAYERS):
        for kind in ("key", "value"):
            found[f"layer.{layer}.{kind}"] = torch.randn(rows, HEADS, tokens, SIZE, generator=generator)
    return found


def dump(folder: Path, *calls: tuple[str, dict[str, torch.Tensor]]) -> Path:
    with recording(folder) as record:
        for role, tensors in calls:
            record(role, tensors)
    return folder


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """The same run twice: a prompt of three tokens and of two, and two tokens after it."""
    run = [("prefill", call(4, 0)), ("decode", call(1, 1, (1, 1))), ("decode", call(1, 2, (1, 1)))]
    return dump(tmp_path / "a", *run), dump(tmp_path / "b", *run)


def change(folder: Path, number: int, role: str, **new: torch.Tensor | None) -> None:
    """Other tensors in a call's file, or none under the names that are None; dots are written as two underscores."""
    path = folder / f"0000.{number:06d}.{role}.safetensors"
    held = load_file(path) | {name.replace("__", "."): tensor for name, tensor in new.items()}
    path.unlink()
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, path)


def held(folder: Path, number: int, role: str) -> dict[str, torch.Tensor]:
    return load_file(folder / f"0000.{number:06d}.{role}.safetensors")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(golden, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, (SystemExit, GlmError)), done.exception
    status = done.exception.exit_status if isinstance(done.exception, GlmError) else done.exit_code
    return status, done.output + (str(done.exception) if isinstance(done.exception, GlmError) else "")


def test_equal_runs_are_equal_whatever_lies_in_the_padding(two: tuple[Path, Path]) -> None:
    padded = held(two[1], 0, "prefill")["ids"]
    padded[1, 2:] = 0
    change(two[1], 0, "prefill", ids=padded)
    status, told = run(*two, "--tolerance", "0")
    assert status == 0 and told.startswith("equal: 42 tensors of 3 steps agree within 0")


def test_the_first_tensor_in_the_order_of_computation_is_named(two: tuple[Path, Path]) -> None:
    value = held(two[1], 1, "decode")["layer.1.value"]
    value[1, 1, 0, 2] += 0.25
    logits = held(two[1], 1, "decode")["logits"] + 1
    change(two[1], 1, "decode", layer__1__value=value, logits=logits)
    status, told = run(*two, "--json")
    first = json.loads(told)["first"]
    # Rows are computed side by side: what row 1 has in a layer comes before the logits of row 0.
    assert status == 1 and (first["row"], first["stage"], first["tensor"]) == (1, "token 1", "layer.1.value")
    assert first["amount"] == pytest.approx(0.25, abs=1e-6) and first["index"] == [1, 0, 2]
    change(two[1], 1, "decode", logits=held(two[0], 1, "decode")["logits"])
    status, told = run(*two, "--tolerance", "0.3")
    assert status == 0 and "largest difference among these: row 1, token 1, layer.1.value: 0.25" in told


def test_ids_and_positions_have_to_be_equal_whatever_the_tolerance(two: tuple[Path, Path]) -> None:
    positions = held(two[1], 2, "decode")["positions"] + 1
    change(two[1], 2, "decode", positions=positions)
    status, told = run(*two, "--tolerance", "5")
    assert status == 1 and "row 0, token 2, positions: 1 at [0], 0 against 1" in told


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_parts_even_on_both_sides(two: tuple[Path, Path], number: float) -> None:
    for side in two:
        logits = held(side, 2, "decode")["logits"]
        logits[1, 3] = number
        change(side, 2, "decode", logits=logits)
    status, told = run(*two, "--tolerance", "1000")
    assert status == 1 and f"row 1, token 2, logits: {number:g} against {number:g} at [3]" in told


def test_a_run_that_ends_sooner_parts_there(two: tuple[Path, Path]) -> None:
    (two[1] / "0000.000002.decode.safetensors").unlink()
    status, told = run(*two)
    assert status == 1 and "row 0, token 2, ids: the left dump goes on" in told


def test_hidden_states_that_one_side_lacks_are_told_and_a_layer_that_it_lacks_parts(two: tuple[Path, Path]) -> None:
    change(two[0], 0, "prefill", layer__0__out=torch.zeros(2, 4, 8))
    status, told = run(*two)
    assert status == 0 and "out: in the left dump alone" in told
    change(two[1], 0, "prefill", layer__1__key=None)
    status, told = run(*two)
    assert status == 1 and "layer.1.key: in the left dump alone" in told


def test_a_prompt_in_pieces_is_the_prompt_at_once(tmp_path: Path) -> None:
    whole = call(5, 3, (5, 3))
    axis = {"ids": 1, "positions": 1, "lengths": 0, "logits": 0}
    first, rest = ({name: t.narrow(axis.get(name, 2), at, n) if name not in ("lengths", "logits") else t
                    for name, t in whole.items()} for at, n in ((0, 3), (3, 2)))  # fmt: skip
    first = {name: t.contiguous() for name, t in first.items()} | {"lengths": torch.tensor([3, 3])}
    rest = {name: t.contiguous() for name, t in rest.items()} | {"lengths": torch.tensor([2, 0])}
    first["logits"] = torch.stack([whole["logits"][0] + 7, whole["logits"][1]])  # row 0 is not at its end yet
    rest["logits"] = torch.stack([whole["logits"][0], whole["logits"][1] + 7])  # row 1 has nothing but padding
    sides = dump(tmp_path / "a", ("prefill", whole)), dump(tmp_path / "b", ("prefill", first), ("prefill", rest))
    status, told = run(*sides, "--tolerance", "0")
    assert status == 0, told


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"ids": None, "logits": None}, "it has no tensor ids and no logits"),
        ({"logits": torch.zeros(3, VOCABULARY)}, "logits has the shape [3, 11] beside ids of [2, 4]"),
        ({"layer__0__key": torch.zeros(2, HEADS, 3, SIZE)}, "layer.0.key has the shape [2, 2, 3, 4] beside ids"),
        ({"ids": torch.zeros(2, 4)}, "ids is of type float32"),
        ({"layer__0__value": torch.zeros(2, HEADS, 4, SIZE, dtype=torch.int8)}, "layer.0.value is of type int8"),
        ({"lengths": torch.tensor([3, 5])}, "lengths lie between 0 and 4"),
        ({"weights": torch.zeros(2)}, "weights is no tensor of a dump"),
        ({"ids": torch.zeros(0, 4, dtype=torch.int64)}, "beside ids of [0, 4]"),
    ],
)
def test_what_is_no_call_is_refused(two: tuple[Path, Path], new: dict, words: str) -> None:
    change(two[1], 0, "prefill", **new)
    status, told = run(*two)
    assert status == 2 and words in told


def test_what_is_no_dump_is_refused_in_one_line(two: tuple[Path, Path], tmp_path: Path) -> None:
    cut = two[1] / "0000.000001.decode.safetensors"
    os.truncate(cut, cut.stat().st_size - 100)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("no tensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for path, words in (
        (two[1], "0000.000001.decode.safetensors is damaged"),
        (tmp_path / "empty", "neither calls of an engine nor golden.safetensors lie there"),
        (tmp_path / "nowhere", "it does not exist"),
        (tmp_path / ("long" * 100), "it does not exist"),
        (tmp_path / "text.safetensors", "text.safetensors is damaged"),
        (tmp_path / "other.safetensors", "it holds no run of the original code"),
    ):
        status, told = run(two[0], path)
        assert status == 2 and words in told
    cut.unlink()
    status, told = run(*two)
    assert status == 2 and "call 1 of group 0 is missing" in told
    status, told = run(*two, "--tolerance", "nan")
    assert status == 2
    done = subprocess.run(
        [sys.executable, "-m", "glmcore", "golden", str(two[0]), str(tmp_path / "nowhere")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("glmcore: error[dump-invalid]: it does not exist")


def test_a_call_in_a_file_of_its_own_is_one_side(two: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    save_file(held(two[0], 0, "prefill"), tmp_path / "engine" / "golden.safetensors")
    for number in (1, 2):
        (two[1] / f"0000.{number:06d}.decode.safetensors").unlink()
    status, told = run(tmp_path / "engine", two[1], "--tolerance", "0")
    assert status == 0 and told.startswith("equal: 14 tensors of 1 steps")
    status, told = run(tmp_path / "engine", two[0])
    assert status == 1 and "token 1, ids: the right dump goes on" in told


def test_a_dump_that_was_interrupted_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), recording(tmp_path / "dump") as record:
        record("prefill", call(4, 0))
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    dump(tmp_path / "dump", ("prefill", call(4, 0)))
    with pytest.raises(GlmError, match="not empty"):
        dump(tmp_path / "dump", ("prefill", call(4, 0)))


def recorded(case: str, folder: Path) -> Path:
    """The greedy run of the original code's prompt, as our own modules compute it, in a dump."""
    reference = load_file(GOLDEN / case / "golden.safetensors")
    with open_checkpoint(GOLDEN / case) as checkpoint:
        runner = Runner(load_model(checkpoint, dtype=torch.float32), checkpoint.config)
    prompt = reference["prompt.input_ids"][0].tolist()
    positions = reference["prompt.position_ids"]
    logits, at = runner.prefill(prompt), len(prompt)
    calls = [("prefill", tensors_of(runner, prompt, positions, logits, 0))]
    for number in range(1, reference["greedy.tokens"].shape[1]):
        token = int(logits.argmax())
        logits = runner.decode(token)
        positions = reference["greedy.query_position_ids"][..., number : number + 1]
        calls.append(("decode", tensors_of(runner, [token], positions, logits, at)))
        at += 1
    return dump(folder, *calls)


def tensors_of(runner: Runner, ids: list[int], positions: torch.Tensor, logits: torch.Tensor, at: int) -> dict:
    found = {"ids": torch.tensor([ids]), "positions": positions.contiguous(), "lengths": torch.tensor([len(ids)])}
    for layer, (keys, values) in enumerate(zip(runner.cache.keys, runner.cache.values, strict=True)):
        for kind, tensor in (("key", keys), ("value", values)):
            found[f"layer.{layer}.{kind}"] = tensor[:1, :, at : at + len(ids)].float().contiguous()
    return found | {"logits": logits[None].clone()}


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith("/base")])
def test_the_original_codes_tensors_are_one_side(case: str, tmp_path: Path) -> None:
    ours = recorded(case, tmp_path / "ours")
    status, told = run(ours, GOLDEN / case / "golden.safetensors")
    assert status == 0 and "of 12 steps agree within 0.0002" in told
    shutil.copytree(GOLDEN / case, tmp_path / "original")
    status, told = run(tmp_path / "original", ours)
    assert status == 0 and "out: in the left dump alone" in told
    found = compare_dumps(ours, tmp_path / "original", tolerance=0)
    assert found.first is not None and found.first.amount
