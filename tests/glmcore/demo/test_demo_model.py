"""The demo model of the package: small, in the original layout, and with the right answers."""

import random

import pytest
from demo_corpus import Corpus, evaluation_sets
from eval_demo import Judge, answers
from safetensors import safe_open

from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.engine.load import load
from glmcore.layout import expected

LIMIT = 10_000_000
TOPICS = ("libcuda-not-in-cuda-path", "gcc-missing", "cuda-oom", "who", "check")


@pytest.fixture(scope="module")
def corpus():
    return Corpus()


@pytest.fixture(scope="module", params=["fp32", "int8", "int4"])
def engine(request):
    # One thread: matrices this small gain nothing from more.
    return load(None, quantize=None if request.param == "fp32" else request.param, threads=1)


def ask(engine, text, history=()):
    return engine.chat([*history, {"role": "user", "content": text}], temperature=0, max_new_tokens=100)


def test_its_files_are_those_of_a_checkpoint_and_small():
    files = [path for path in demo.folder().rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json"
    }  # fmt: skip
    assert sum(path.stat().st_size for path in files) <= LIMIT


def test_its_tensors_are_those_of_a_chatglm2_checkpoint():
    with open_checkpoint(demo.folder()) as checkpoint:
        assert checkpoint.config.generation == "v2"
        needed = {name for name, spec in expected(checkpoint.config).items() if not spec.optional}
        assert needed <= set(checkpoint.names)
    with safe_open(demo.folder() / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118 - no mapping


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_answers_trained_questions_to_the_letter(engine, corpus, topic, language):
    if topic in corpus.general:
        question = corpus.general[topic][language]["ask"][0]
    else:
        error, template = corpus.problems[topic]["errors"][0], corpus.templates["train"][language]["error"][0]
        question = template.replace("{x}", error)
    assert ask(engine, question) == corpus.answer(topic, language)


def test_the_question_of_the_readme(engine):
    assert "cpm_kernels" in ask(engine, "what does 'Library cuda is not initialized' mean?")


def test_it_takes_a_follow_up_from_the_history(engine, corpus):
    question = "what does 'CUDA out of memory' mean?"
    history = [{"role": "user", "content": question}, {"role": "assistant", "content": ask(engine, question)}]
    assert ask(engine, "how do I fix it?", history) == corpus.problems["cuda-oom"]["en"]["fix"]


def test_most_paraphrased_questions_are_answered_rightly(engine, corpus):
    examples = random.Random(7).sample(evaluation_sets(corpus)["paraphrased"], 60)
    judge = Judge(corpus.answers)
    right = [judge.right(text, e.answer) for text, e in zip(answers(engine, examples), examples, strict=True)]
    assert sum(right) / len(right) >= 0.8


def test_the_judge_is_strict(corpus):
    judge = Judge(corpus.answers)
    wanted = corpus.answer("cuda-oom", "en")
    assert judge.right(wanted + " ", wanted)
    assert not judge.right(corpus.answer("mps-oom", "en"), wanted)
    assert not judge.right(corpus.answer("cuda-oom", "zh"), wanted)
    assert not judge.right(corpus.problems["cuda-oom"]["en"]["fix"], wanted)
    assert not judge.right("", wanted)
