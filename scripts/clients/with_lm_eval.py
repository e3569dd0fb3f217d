"""lm-evaluation-harness by OpenAI's completions: https://github.com/EleutherAI/lm-evaluation-harness

Tasks of its own are written, so that no data set is fetched: which of four continuations is likeliest, and what comes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import requests
from calls import KEY, MODEL, URL, call, main

os.environ.update(OPENAI_API_KEY=KEY, HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1")

import lm_eval
from lm_eval.tasks import TaskManager

DOCS = [
    {"text": "One, two, three,", "choices": [" four", " seven", " blue", " and"], "label": 0},
    {"text": "A cat is an animal, and so is a", "choices": [" dog", " stone", " one", "的"], "label": 0},
    {"text": "libcuda is part of the", "choices": [" driver", " sea", " compiler", " 显存"], "label": 0},
]
CHOOSE = """
task: choose
dataset_path: json
dataset_kwargs: {data_files: {test: docs.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{text}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
CONTINUE = """
task: continue
dataset_path: json
dataset_kwargs: {data_files: {test: docs.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{text}}"
doc_to_target: "{{choices[label]}}"
generation_kwargs: {until: ["\n"], max_gen_toks: 8}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def evaluated(task: str, batch_size: int = 1, **settings: Any) -> dict[str, Any]:
    """What the harness found, by the server's own tokenizer."""
    Path("docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in DOCS), encoding="utf-8")
    for name, text in (("choose", CHOOSE), ("continue", CONTINUE)):
        Path(f"{name}.yaml").write_text(text, encoding="utf-8")
    arguments = {"model": MODEL, "base_url": f"{URL}/v1/completions", "auth_token": KEY, **settings}
    found: dict[str, Any] = lm_eval.simple_evaluate(
        "local-completions", model_args=arguments, tasks=[task], batch_size=batch_size, bootstrap_iters=0,
        task_manager=TaskManager(include_path=".", include_defaults=False),
    )  # fmt: skip
    return found


def asked(path: str, **body: Any) -> dict[str, Any]:
    return requests.post(f"{URL}{path}", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=60).json()


def score(text: str, continuation: str) -> float:
    """The logprob of a continuation, asked for in another way: each token as the next one behind those before it."""
    ids, more = (asked("/tokenize", prompt=part, add_special_tokens=False)["tokens"] for part in
                 (text, text + continuation))  # fmt: skip
    total = 0.0
    for place in range(len(ids), len(more)):
        bias = {str(more[place]): 100}
        reply = asked("/v1/completions", prompt=more[:place], max_tokens=1, temperature=0, logprobs=0, logit_bias=bias)
        total += reply["choices"][0]["logprobs"]["token_logprobs"][0]
    return total


@call
def loglikelihoods_are_the_models() -> None:
    found = evaluated("choose")
    assert 0 <= found["results"]["choose"]["acc,none"] <= 1
    for sample in found["samples"]["choose"]:
        doc = sample["doc"]
        for (value, _), choice in zip(sample["filtered_resps"], doc["choices"], strict=True):
            assert abs(value - score(doc["text"], choice)) < 0.05 * max(1, abs(value)), (value, choice)


@call
def loglikelihoods_of_batches_and_side_by_side() -> None:
    one, many, side = (evaluated("choose", **more) for more in ({}, {"batch_size": 8}, {"num_concurrent": 4}))
    scores = [[sample["filtered_resps"] for sample in found["samples"]["choose"]] for found in (one, many, side)]
    assert scores[0] == scores[1] == scores[2]


@call
def answers_until_a_stop_text() -> None:
    found = evaluated("continue")
    assert len(found["samples"]["continue"]) == len(DOCS)
    assert all("\n" not in sample["filtered_resps"][0] for sample in found["samples"]["continue"])


if __name__ == "__main__":
    main()
