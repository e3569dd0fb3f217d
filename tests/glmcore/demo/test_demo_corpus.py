"""The demo model's texts: complete, distinct, and with the held-out wordings kept out of the training."""

import json
import random

import pytest
from demo_corpus import LANGUAGES, Corpus, evaluation_sets, training_example, vary_error

from glmdoctor import knowledge

# Problems that came into the catalogue after the demo model was trained.
LATER = {
    "auto-map-points-to-hub", "clang-march-native", "compiler-32bit", "cpm-kernels-arch-unsupported",
    "cpm-path-entry-is-file", "cpu-no-avx2", "device-map-incomplete", "docker-shm-too-small", "engine-damaged",
    "engine-foreign", "engine-invalid", "finetune-on-quantised-checkpoint", "flash-attn-abi", "gpu-ecc-errors",
    "gpu-exclusive-compute-mode", "gpu-throttled", "hf-rope-theta-lost", "localhost-through-proxy", "nan-logits",
    "openmp-runtime-duplicated", "p2p-hang", "pcie-link-narrow", "pydantic-version", "tf-generation-internals",
    "torch-unsafe-pickle", "unsafe-pickle", "uvm-hmm-cuinit-fails", "windows-symlink-privilege", "wsl-libcuda-shadowed",
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus():
    return Corpus()


def test_every_problem_of_the_catalogue_has_questions_and_answers(corpus):
    assert set(corpus.problems) == set(knowledge.problems()) - LATER
    for topic in corpus.problems:
        for language in LANGUAGES:
            assert len(corpus.phrases(topic, language)["error"]) >= 3
            assert len(corpus.phrases(topic, language)["about"]) >= 3


def test_no_two_answers_are_the_same(corpus):
    assert len(set(corpus.answers)) == len(corpus.answers)


def test_no_phrase_belongs_to_two_problems(corpus):
    owners = {}
    for topic in corpus.problems:
        for phrase in (p for lang in LANGUAGES for ps in corpus.phrases(topic, lang).values() for p in ps):
            assert owners.setdefault(phrase.lower(), topic) == topic, phrase


def test_held_out_wordings_are_not_trained(corpus):
    trained, held_out = corpus.templates["train"], corpus.templates["held_out"]
    for language in LANGUAGES:
        for kind, templates in held_out[language].items():
            assert not set(templates) & set(trained[language][kind])
        follow = corpus.templates["follow_up"][language]
        assert not set(follow["train"]) & set(follow["held_out"])
    asked = {q.lower() for topic in corpus.general for lang in LANGUAGES for q in corpus.asks(topic, lang)}
    asked |= {text.lower() for text in corpus.texts()}
    for questions in (qs for by_language in corpus.held_out.values() for qs in by_language.values()):
        assert not {q.lower() for q in questions} & asked


def test_training_examples_are_reproducible_and_carry_the_history(corpus):
    first = [training_example(corpus, random.Random(n)) for n in range(300)]
    assert first == [training_example(corpus, random.Random(n)) for n in range(300)]
    assert {len(e.history) for e in first} == {0, 1, 2}
    turns = max(first, key=lambda e: len(e.history)).messages
    assert [m["role"] for m in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert {e.answer for e in first} <= set(corpus.answers)


def test_a_cut_error_line_still_tells_its_problem(corpus):
    topic = "libcuda-not-in-cuda-path"
    line = "RuntimeError: Library cuda is not initialized"
    for seed in range(200):
        varied = vary_error(line, lambda part: corpus.telling(part, topic), random.Random(seed))
        assert corpus.telling(varied, topic)
    assert not corpus.telling("is not initialized", topic)


def test_evaluation_covers_every_problem_in_both_languages(corpus):
    sets = evaluation_sets(corpus)
    for name in ("exact", "paraphrased", "free", "follow-up"):
        assert {(e.topic, e.language) for e in sets[name]} >= {(t, lang) for t in corpus.problems for lang in LANGUAGES}
    assert json.dumps([e.question for e in sets["exact"]]) == json.dumps(
        [e.question for e in evaluation_sets(corpus)["exact"]]
    )
