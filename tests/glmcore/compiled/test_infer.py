"""`glmcore infer`: the document's examples, answers against the engine-less run, wishes that contradict the engine."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import document_examples
import pytest
from click.testing import CliRunner

import glmcore
from glmcore.cli import group
from glmcore.cli.failures import told as told_as
from glmcore.cli.infer import questions_for
from glmcore.compiled.answering import Request, answer
from glmcore.compiled.checks import read_manifest
from glmcore.compiled.opening import open_engine
from glmcore.compiled.questions import EXAMPLES, SELF_TEST
from glmcore.compiled.wishes import Wishes, device_names, rows_of
from glmcore.engine.sampling import Sampling
from glmcore.errors import GlmError
from glmcore.golden.compare import compare_dumps

Engines = Callable[[str], Path]

# The document's engines by their names, and which of ours each is.
ENGINES = {
    "glm2_6b2048_48M_bf16_q_multi.ngf": "usual",
    "glm2_6b2048_48M_bf16_q_pre1024_multi.ngf": "several",
    "glm2_6b2048_48M_b8_bf16_q_multi.ngf": "usual",
    "glm2_6b8192_48M_bf16_q_pre2048_multi.ngf": "long",
}
QUESTIONS = ("我没有gcc怎么办", "what does 'Library cuda is not initialized' mean?", EXAMPLES[1], "?")


def infer(*arguments: object) -> str:
    """What the command prints. Errors: GlmError, click's own."""
    done = CliRunner().invoke(group, ["infer", *map(str, arguments)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def told(*arguments: object) -> dict:
    return json.loads(infer(*arguments, "--json"))


@pytest.fixture(scope="module")
def alone(shallow: Path) -> Callable[[str, int], list[int]]:
    """The tokens that the engine-less run answers a question with, greedily."""
    loaded = glmcore.load(shallow, dtype="float32", precision="exact")

    def tokens(question: str, most: int) -> list[int]:
        prompt = loaded.prompt([{"role": "user", "content": question}], None)
        made = loaded.submit(prompt, max_new_tokens=most, sampling=Sampling(temperature=0))
        made.text()
        return made.sequence.output

    return tokens


@pytest.mark.parametrize("number", range(5))
def test_the_documents_examples_run_as_written(
    number: int, engine: Engines, several: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    line = document_examples.INFER[number]
    _, *arguments = document_examples.ours(line)
    name = Path(arguments[1]).name
    (tmp_path / "path_to").mkdir()
    made = several if ENGINES[name] == "several" else engine(ENGINES[name])
    (tmp_path / "path_to" / name).symlink_to(made)
    printed = infer(*arguments)
    rows = 8 if "--static-batch-size 8" in line else 1
    assert printed.count("Response:\n") == rows and printed.startswith("Question 1:\n[Round 1]\n\n问：")
    assert re.search(document_examples.BLOCK, printed), printed[-600:]
    if "--constant-output" in line:
        # To the end of the total length, where that comes before --max-new-tokens.
        total = 8192 if "--total-len 8192" in line else 2048
        tokens = int(re.search(r"infer tokens: (\d+)", printed)[1])
        assert tokens == min(4096, total - told(*arguments, "--max-new-tokens", 1)["answers"][0]["prompt_tokens"])


@pytest.mark.parametrize("rows", [1, 3])
def test_answers_are_those_of_the_engineless_run(rows: int, engine: Engines, alone) -> None:
    """One prompt goes in three rounds; in groups the rows end at different times, and the last one is not full."""
    asked = [part for question in QUESTIONS for part in ("--question", question)]
    found = told("--engine", engine("usual"), *asked, "--static-batch-size", rows, "--max-new-tokens", 24)
    answers = found["answers"]
    assert len(answers) == (4 if rows == 1 else 6) and found["dynamic_batch_size"] == len(answers) // rows
    assert answers[2]["prompt_tokens"] > 2 * 256 and found["base_length"] == 256
    for made, question in zip(answers, [*QUESTIONS, *QUESTIONS], strict=False):
        assert made["question"] == question and made["tokens"] == alone(question, 24)
    throughput = found["throughput"]
    ended = sum(made["finish_reason"] == "stop" for made in answers)
    assert throughput["tokens"] == ended + sum(len(made["tokens"]) for made in answers)
    assert throughput["prompt_tokens"] == sum(made["prompt_tokens"] for made in answers)


def test_constant_output_goes_on_past_the_end_token(engine: Engines, alone) -> None:
    opened = open_engine(engine("usual"))
    prompt = glmcore.tokenizers.load_tokenizer(engine("usual"), opened.config).apply_chat_template(
        [{"role": "user", "content": "?"}]
    )
    whole = alone("?", 12)
    stop = whole[4]
    asked = Request(1, Sampling(temperature=0), 12, frozenset({stop}))
    ended = answer(opened, [prompt], asked)
    assert ended.rows[0].output == whole[: whole.index(stop)] and ended.rows[0].finish_reason == "stop"
    assert ended.throughput.tokens == whole.index(stop) + 1
    constant = answer(opened, [prompt], Request(1, Sampling(temperature=0), 12, frozenset({stop}), constant=True))
    assert constant.rows[0].output == whole and constant.throughput.tokens == 12


def test_engines_of_other_prefill_lengths_dump_the_same(engine: Engines, several: Path, tmp_path: Path) -> None:
    asked = ("--question-index", 1, "--max-new-tokens", 5, "--constant-output")
    rounds = told("--engine", engine("usual"), *asked, "--dump-golden", tmp_path / "rounds")
    once = told("--engine", several, *asked, "--dump-golden", tmp_path / "once")
    assert (rounds["throughput"]["rounds"], once["throughput"]["rounds"], once["base_length"]) == (3, 1, 1024)
    assert len(list((tmp_path / "rounds").iterdir())) == 3 + 4 and len(list((tmp_path / "once").iterdir())) == 1 + 4
    found = compare_dumps(tmp_path / "rounds", tmp_path / "once")
    assert found.equal and found.stages == 5 and found.tensors == 5 * (3 + 2), found.text()
    other = told("--engine", several, *asked, "--question-from", 2, "--dump-golden", tmp_path / "other")
    assert other["dump"] == str(tmp_path / "other")
    assert compare_dumps(tmp_path / "rounds", tmp_path / "other").first.tensor == "ids"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (("--base-length", 128), "--base-length asks for 128, the engine was compiled for 256"),
        (("--static-batch-size", 9), "--static-batch-size asks for 9, the engine was compiled for 1 to 8"),
        (("--total-len", 4096), "--total-len asks for 4096, the engine was compiled for 2048"),
        (("--device", "0,1"), "--device asks for cuda:0,cuda:1, the engine was compiled for cpu"),
        (("--multi-dev-dram-limit", "8,8"), "asks for 2 limits, the engine was compiled for 1 devices"),
        (("--multi-dev-dram-limit", "0.001"), "asks for 0.001 GiB, the engine was compiled for"),
        (("--question-index", 2), "--question-index 2 is beyond the 2 questions"),
        (("--dynamic-batch-size", 4, "--max-batch-size", 3), "4 groups of 1 are more than the 3"),
        (("--question", "?", "--question-from", 2), "--question-from 2 takes built-in ones"),
        (("--do-sample", "--top-p", 1.5), "top-p is a probability"),
        (("--split-strategy", "3"), "'3' is not one of 'greedy', 'equal', 'loose'"),
        (("--constant-output", "perhaps"), "'perhaps' is neither True nor False"),
    ],
)
def test_what_contradicts_the_engine_is_refused_with_both_values(wish: tuple, words: str, engine: Engines) -> None:
    with pytest.raises((GlmError, click.BadParameter)) as caught:
        infer("--engine", engine("usual"), *wish)
    assert words in str(caught.value) and told_as(caught.value).exit_status == 2


def test_what_is_no_whole_engine_is_refused_before_anything_is_read(engine: Engines, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    without = shutil.copytree(engine("usual"), tmp_path / "without")
    (without / "tokenizer.model").unlink()
    for folder, code in (
        (engine("wide"), "usage"),
        (without, "engine-damaged"),
        (without / "engine.pt2", "model-path"),
        (tmp_path / "folder", "engine-invalid"),
        (tmp_path / "no", "model-path"),
    ):
        with pytest.raises(GlmError) as caught:
            infer("--engine", folder, "--question", "?")
        assert caught.value.code == code
        if code == "usage":
            assert "the engine has no decode graph" in caught.value.what


def test_values_that_are_the_engines_own_are_taken(engine: Engines) -> None:
    said = ("--base-length", 256, "--static-batch-size", 1, "--dynamic-batch-size", 2, "--max-batch-size", 2)
    where = ("--device", "cpu", "--multi-dev-dram-limit", "1", "--split-stragety", 0, "--total-len", 2048)
    found = told("--engine", engine("usual"), *said, *where, "--question-from", 2, "--max-new-tokens", 2)
    assert [each["question"] for each in found["answers"]] == [*SELF_TEST[:2]]


def test_a_split_engine_keeps_the_strategy_that_it_was_compiled_by(engine: Engines) -> None:
    from dataclasses import replace

    manifest = read_manifest(engine("usual"))
    share = manifest.plan["devices"][0]
    devices = [share | {"name": f"cuda:{number}", "total_bytes": 3 << 30} for number in range(2)]
    split = replace(manifest, plan={**manifest.plan, "devices": devices, "strategy": "equal"})
    assert rows_of(split, Wishes(devices=device_names("0,1"), limits=(3, 3), strategy="1")) == 1
    for wishes, words in (
        (Wishes(strategy="0"), "--split-strategy asks for greedy, the engine was compiled for equal"),
        (Wishes(limits=(4, 2.5)), "asks for 2.5 GiB, the engine was compiled for 3.00 GiB on cuda:1"),
        (Wishes(devices=("cuda:1", "cuda:0")), "--device asks for cuda:1,cuda:0"),
    ):
        with pytest.raises(GlmError, match=words):
            rows_of(split, wishes)


def test_a_prompt_beyond_the_total_length_is_refused_before_anything_is_computed(engine: Engines) -> None:
    with pytest.raises(GlmError, match="the engine's total length is 2048"):
        infer("--engine", engine("usual"), "--question", "问题" * 4000)


def test_questions_go_round_from_the_index_on() -> None:
    chosen = questions_for(
        4, dynamic_batch_size=3, max_batch_size=None, questions=(), question_from=2, question_index=8
    )
    assert chosen == [*SELF_TEST[8:], *SELF_TEST]
    own = {"dynamic_batch_size": None, "max_batch_size": None, "questions": ("a", "b", "c"), "question_from": 1}
    assert questions_for(2, **own, question_index=0) == ["a", "b", "c", "a"]
    assert questions_for(1, **own, question_index=1) == ["b", "c", "a"]
