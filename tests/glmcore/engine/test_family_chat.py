"""The family from a folder to an answer: the same greedy tokens as transformers' generate on the same prompt."""

from __future__ import annotations

import json

import family_tokenizer
import pytest
import torch
from family_cases import copied
from family_templates import TEMPLATES
from transformers import AutoModelForCausalLM, AutoTokenizer

import glmcore
from glmcore.errors import GlmError

CASES = {"glm-edge": "glm-edge", "glm4-0414": "glm4-0414", "glm-z1-yarn": "glm-z1"}
QUESTION = [{"role": "user", "content": "北京 Hello"}]


def folder_of(case, tmp_path):
    """A checkpoint with a vocabulary as large as the tokenizer's."""
    names = ("model.embed_tokens.weight", "lm_head.weight")

    def wider(tensors):
        for name in tensors.keys() & set(names):
            tensors[name] = tensors[name].repeat(3, 1)[:400].contiguous()

    folder = family_tokenizer.write(copied(case, tmp_path, weights=wider), framed=case != "glm-edge")
    (folder / "chat_template.jinja").write_text(TEMPLATES[CASES[case]])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>", "<|observation|>"])
    path = folder / "config.json"
    raw = json.loads(path.read_text()) | {"vocab_size": 400, "eos_token_id": ends}
    path.write_text(json.dumps(raw | {"pad_token_id": ends[0]}))
    return folder, tokenizer


@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_of_transformers(tmp_path, case):
    folder, tokenizer = folder_of(case, tmp_path)
    engine = glmcore.load(folder, dtype="bfloat16")
    assert engine.config.generation == CASES[case]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    assert engine.prompt(QUESTION, None) == ids
    settings = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones(1, len(ids))}
    theirs = model.generate(torch.tensor([ids]), **settings)[0, len(ids) :].tolist()
    answer = engine.submit(ids, max_new_tokens=12, sampling=engine.sampling(0.0, None, None))
    assert answer.text() == tokenizer.decode(theirs, skip_special_tokens=True)
    assert isinstance(engine.chat(QUESTION, max_new_tokens=5, temperature=0), str)


def test_another_tokenizer_is_one_line(tmp_path):
    folder, _ = folder_of("glm4-0414", tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"eos_token_id": 5}))
    with pytest.raises(GlmError) as caught:
        glmcore.load(folder)
    assert caught.value.code == "tokenizer-mismatch"
