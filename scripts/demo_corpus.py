"""The questions and answers of the demo model, made from the hand-written texts in ``demo_data/``.

``demo_data/problems/`` holds, for each problem of the catalogue, error lines, descriptions and the answer in English
and Chinese; ``general.json`` the talk about the tools themselves; ``templates.json`` the ways to ask, those under
``held_out`` never trained; ``held_out.json`` freely worded questions, never trained either.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "demo_data"
LANGUAGES = ("en", "zh")
KINDS = ("error", "about", "id")  # what a template names: an error line, a description, a problem's id
Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Example:
    """A question after a history of (question, answer), and the right answer."""

    question: str
    answer: str
    topic: str
    language: str
    history: Turns = ()

    @property
    def messages(self) -> list[dict[str, str]]:
        texts = [text for turn in self.history for text in turn] + [self.question]
        return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def _read(name: str) -> dict[str, Any]:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


class Corpus:
    """All texts, and the examples made of them."""

    def __init__(self) -> None:
        files = sorted((DATA / "problems").glob("*.json"))
        self.problems: dict[str, Any] = {id: p for file in files for id, p in _read(f"problems/{file.name}").items()}
        self.general, self.templates, self.held_out = map(_read, ("general.json", "templates.json", "held_out.json"))

    def answer(self, topic: str, language: str) -> str:
        if topic in self.general:
            return self.general[topic][language]["answer"]
        text = self.problems[topic][language]
        return f"{text['cause']}{' ' if language == 'en' else ''}{text['fix']}"

    @cached_property
    def answers(self) -> list[str]:
        """Every text that the model may answer."""
        whole = [self.answer(topic, lang) for topic in (*self.problems, *self.general) for lang in LANGUAGES]
        return whole + [self.problems[topic][lang]["fix"] for topic in self.problems for lang in LANGUAGES]

    def phrases(self, topic: str, language: str) -> dict[str, list[str]]:
        """What a question about a problem can name, by the kind of template that takes it."""
        problem = self.problems[topic]
        return {"error": problem["errors"], "about": problem[language]["about"], "id": [topic]}

    def asks(self, topic: str, language: str) -> list[str]:
        """The questions of a general topic."""
        texts = self.general[topic][language]
        made = (form.replace("{x}", x) for form in texts.get("forms", ()) for x in texts.get("fillers", ()))
        return [*texts["ask"], *made]

    def ask(self, question: str, topic: str, language: str, history: Turns = ()) -> Example:
        return Example(question, self.answer(topic, language), topic, language, history)

    def texts(self) -> Iterator[str]:
        """Each text that is trained, once: what the tokenizer learns its vocabulary from."""
        for topic in self.problems:
            for language in LANGUAGES:
                yield self.answer(topic, language)
                for phrases in self.phrases(topic, language).values():
                    yield from phrases
        for topic in self.general:
            for language in LANGUAGES:
                yield self.answer(topic, language)
                yield from self.asks(topic, language)
        for kinds in self.templates["train"].values():
            for templates in (*(kinds[kind] for kind in KINDS), *kinds["frames"].values()):
                yield from (template.replace("{x}", "") for template in templates if template)
        for groups in self.templates["synonyms"].values():
            yield from (word for group in groups for word in group if word)

    @cached_property
    def _lower(self) -> dict[str, str]:
        """Per problem all its phrases as one lower-case text, to see whether a part of a phrase is its alone."""
        return {
            topic: "\n".join(
                p for lang in LANGUAGES for kind in self.phrases(topic, lang).values() for p in kind
            ).lower()
            for topic in self.problems
        }

    def telling(self, part: str, topic: str) -> bool:
        """Whether ``part`` of a phrase of ``topic`` occurs in no other problem's."""
        return not any(part.lower() in text for other, text in self._lower.items() if other != topic)


# Training


def training_example(corpus: Corpus, rng: random.Random) -> Example:
    """One example: a question alone, one after an unrelated talk, or "how do I fix it?" after an answer."""
    draw = rng.random()
    if draw < 0.12:
        return _follow_up(corpus, rng, "train")
    example = _question(corpus, rng)
    if draw < 0.20:
        earlier = tuple((e.question, e.answer) for e in (_question(corpus, rng) for _ in range(rng.choice((1, 1, 2)))))
        return Example(example.question, example.answer, example.topic, example.language, earlier)
    return example


def _question(corpus: Corpus, rng: random.Random) -> Example:
    language = rng.choice(LANGUAGES)
    if rng.random() < 0.16:
        topic = "unknown" if rng.random() < 0.25 else rng.choice(list(corpus.general))
        asks = corpus.general[topic][language]["ask"] if rng.random() < 0.5 else corpus.asks(topic, language)
        return corpus.ask(vary(rng.choice(asks), language, rng), topic, language)
    topic = rng.choice(list(corpus.problems))
    kind = rng.choices(KINDS, (10, 8, 1))[0]
    phrase = rng.choice(corpus.phrases(topic, language)[kind])
    if kind == "error":
        phrase = vary_error(phrase, lambda part: corpus.telling(part, topic), rng)
    elif kind == "about":
        phrase = reword(phrase, corpus.templates["synonyms"][language], rng)
    question = _template(corpus.templates["train"][language], kind, rng).replace("{x}", phrase)
    if question == phrase and kind != "about":
        language = "en"  # an error line alone says nothing of the reader's language
    return corpus.ask(vary(question, language, rng), topic, language)


def _template(templates: dict[str, Any], kind: str, rng: random.Random) -> str:
    """A whole template, or one put together of an opening, what happens, and a closing."""
    if kind == "id" or rng.random() < 0.5:
        return rng.choice(templates[kind])
    frames = templates["frames"]
    happening = rng.choice(frames["verbs"]) if kind == "error" else "{x}"
    return rng.choice(frames["openings"]) + happening + rng.choice(frames["closings"])


def reword(phrase: str, groups: list[list[str]], rng: random.Random) -> str:
    """The phrase with some of its words replaced by others of their group."""
    for group in groups:
        found = next((word for word in group if word and _stands_in(word, phrase)), None)
        if found and rng.random() < 0.3:
            phrase = phrase.replace(found, rng.choice(group), 1)
    return phrase


def _stands_in(word: str, phrase: str) -> bool:
    """Whether the word is in the phrase; an English one not as a part of another word."""
    return re.search(rf"(?<![a-zA-Z]){re.escape(word)}(?![a-zA-Z])", phrase) is not None


def _follow_up(corpus: Corpus, rng: random.Random, split: str) -> Example:
    first = _question(corpus, rng)
    while first.topic in corpus.general:
        first = _question(corpus, rng)
    question = vary(rng.choice(corpus.templates["follow_up"][first.language][split]), first.language, rng)
    fix = corpus.problems[first.topic][first.language]["fix"]
    return Example(question, fix, first.topic, first.language, ((first.question, first.answer),))


def vary_error(line: str, telling: Callable[[str], bool], rng: random.Random) -> str:
    """The same error as another machine prints it: other numbers, a part of it, its place in a program."""
    line = re.sub(r"\d+\.\d+(?= (?:[MG]i?B))", lambda _: f"{rng.uniform(1, 99):.2f}", line)
    line = re.sub(r"(?<=0000)\d(?=-of|\.)", lambda _: str(rng.randint(1, 7)), line)
    words = line.split(" ")
    if len(words) > 2 and rng.random() < 0.35:
        keep = rng.randint(max(2, len(words) // 3), len(words))
        start = rng.randint(0, len(words) - keep)
        part = " ".join(words[start : start + keep])
        line = part if telling(part) else line
    if rng.random() < 0.08:
        line = f"{rng.choice(('Error', 'RuntimeError', 'error', 'WARNING', 'OSError'))}: {line}"
    if rng.random() < 0.06:
        line = f'File "/home/user/{rng.choice(("chat", "demo", "main", "api"))}.py", line {rng.randint(2, 400)}\n{line}'
    return line


OPENINGS = {
    "en": ("Hi, ", "Hello! ", "please: ", "sorry, ", "so, "),
    "zh": ("你好，", "请问", "您好，", "麻烦问下，", "那个，"),
}
ENDINGS = {"en": (" please", " Thanks!", "!", "...", " ??", " :("), "zh": ("谢谢", "！", "？？", "…", "呢", "啊")}
QUOTES = ('"', "'", "`", "“", "")


def vary(text: str, language: str, rng: random.Random) -> str:
    """The same question as another person types it: greeting, quotes, case, punctuation, a slip of the finger."""
    if rng.random() < 0.4:
        text = re.sub(r"['\"“”]", rng.choice(QUOTES), text)
    if rng.random() < 0.3:
        text = text.rstrip("?？.。!！")
    if rng.random() < 0.1:
        text = rng.choice(OPENINGS[language]) + text
    if rng.random() < 0.1:
        text += rng.choice(ENDINGS[language])
    if rng.random() < 0.12:
        text = text.lower()
    elif rng.random() < 0.3:
        text = text[:1].swapcase() + text[1:]
    if rng.random() < 0.12:
        text = _drop_word(text, language, rng)
    return _slip(text, rng) if rng.random() < 0.12 else text


def _drop_word(text: str, language: str, rng: random.Random) -> str:
    units, joint = (text.split(" "), " ") if language == "en" else (list(text), "")
    if len(units) < 6:
        return text
    del units[rng.randrange(len(units))]
    return joint.join(units)


def _slip(text: str, rng: random.Random) -> str:
    """One letter left out, doubled or swapped with the next."""
    if len(text) < 8:
        return text
    at = rng.randrange(1, len(text) - 2)
    return text[:at] + rng.choice((text[at + 1 :], text[at] + text[at:], text[at + 1] + text[at] + text[at + 2 :]))


# Evaluation


def evaluation_sets(corpus: Corpus, seed: int = 1) -> dict[str, list[Example]]:
    """exact: as trained; paraphrased: known phrases in held-out templates; free: held-out questions; follow-up."""
    rng = random.Random(seed)
    exact = [*_templated(corpus, "train", rng), *_general(corpus)]
    follow = [_held_out_follow_up(corpus, topic, lang, rng) for topic in corpus.problems for lang in LANGUAGES]
    return {
        "exact": exact,
        "paraphrased": list(_templated(corpus, "held_out", rng)),
        "free": [
            corpus.ask(question, topic, lang)
            for topic, by_language in corpus.held_out.items()
            for lang, questions in by_language.items()
            for question in questions
        ],
        "follow-up": follow,
    }


def _templated(corpus: Corpus, split: str, rng: random.Random) -> Iterator[Example]:
    """Every phrase of every problem in one template of ``split``."""
    for topic in corpus.problems:
        for language in LANGUAGES:
            for kind, phrases in corpus.phrases(topic, language).items():
                for phrase in phrases:
                    # A line alone is no question in a language.
                    asking = [t for t in corpus.templates[split][language][kind] if t.strip('"') != "{x}"]
                    yield corpus.ask(rng.choice(asking).replace("{x}", phrase), topic, language)


def _general(corpus: Corpus) -> Iterator[Example]:
    for topic, texts in corpus.general.items():
        for language in LANGUAGES:
            for question in texts[language]["ask"]:
                yield corpus.ask(question, topic, language)


def _held_out_follow_up(corpus: Corpus, topic: str, language: str, rng: random.Random) -> Example:
    phrase = rng.choice(corpus.phrases(topic, language)["about"])
    first = corpus.ask(
        rng.choice(corpus.templates["held_out"][language]["about"]).replace("{x}", phrase), topic, language
    )
    question = rng.choice(corpus.templates["follow_up"][language]["held_out"])
    return Example(
        question, corpus.problems[topic][language]["fix"], topic, language, ((first.question, first.answer),)
    )
