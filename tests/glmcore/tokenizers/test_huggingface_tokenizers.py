"""AutoTokenizer on the original folders: no remote code, the original's ids, masks, positions and prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from golden_cases import rest
from transformers import AutoTokenizer

import glmcore.huggingface  # noqa: F401  (registers the classes)
from glmcore.chat.messages import from_pairs
from glmcore.errors import GlmError

GENERATIONS = ("v1", "v2", "v3", "glm4")


@pytest.fixture(scope="module", params=GENERATIONS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / request.param
    shutil.copytree(rest(request.param, "tokenizer"), folder, copy_function=shutil.copyfile)
    shutil.copyfile(rest(request.param, "e2e") / "config.json", folder / "config.json")
    for name in ("tokenization_chatglm.py", "modeling_chatglm.py", "configuration_chatglm.py"):
        (folder / name).write_text("raise SystemExit('remote code was executed')\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def golden(tokenizer: Any, name: str) -> Any:
    path = rest(tokenizer.native.generation, "tokenizer") / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def original(tokenizer: Any) -> dict[str, Any]:
    """ChatGLM-6B's and GLM-4's own tokenizers read special tokens out of any text."""
    return {"parse_special": True} if tokenizer.native.generation in ("v1", "glm4") else {}


def test_the_class_is_ours(tokenizer: Any) -> None:
    names = {"glm4": "ChatGLM4Tokenizer"}
    assert type(tokenizer).__name__ == names.get(tokenizer.native.generation, "ChatGLMTokenizer")
    assert type(tokenizer).__module__ == "glmcore.huggingface.tokenization"


def test_figures(tokenizer: Any) -> None:
    meta = golden(tokenizer, "encode")["meta"]
    for name in ("vocab_size", "eos_token_id", "pad_token_id", "padding_side", "model_input_names"):
        assert getattr(tokenizer, name) == meta[name], name
    assert len(tokenizer) == meta["len"]


def test_ids_and_texts(tokenizer: Any) -> None:
    for case in golden(tokenizer, "encode")["cases"]:
        assert tokenizer(case["text"], **original(tokenizer))["input_ids"] == case["ids_with_special"], case["text"]
        plain = tokenizer.encode(case["text"], add_special_tokens=False, **original(tokenizer))
        assert plain == case["ids"]
        assert tokenizer.decode(case["ids"]) == case["decoded"]
        assert tokenizer.decode(case["ids_with_special"], skip_special_tokens=True) == case["decoded_skip_special"]


def test_padding(tokenizer: Any) -> None:
    for case in golden(tokenizer, "encode")["padding"]:
        batch = tokenizer(case["texts"], padding=True, return_tensors="pt", **original(tokenizer))
        assert set(batch) == {"input_ids", "attention_mask", "position_ids"}
        for name, tensor in batch.items():
            assert tensor.tolist() == case[name], name


def test_one_text(tokenizer: Any) -> None:
    expected = golden(tokenizer, "encode")["meta"]["single_call_output"]
    assert {name: tensor.tolist() for name, tensor in tokenizer("你好", return_tensors="pt").items()} == expected


def test_only_the_left_is_padded(tokenizer: Any) -> None:
    tokenizer.padding_side = "right"
    try:
        with pytest.raises(GlmError, match="left"):
            tokenizer(["a", "long er"], padding=True)
    finally:
        tokenizer.padding_side = "left"


def test_prompts(tokenizer: Any) -> None:
    for case in golden(tokenizer, "chat"):
        history = case["history"] or []
        if "role" in case:
            messages = [*history, {"role": case["role"], "content": case["query"]}]
        else:
            messages = from_pairs(history, case["query"])
        options = {"add_generation_prompt": True, "tokenize": True, **original(tokenizer)}
        assert tokenizer.apply_chat_template(messages, **options) == case["inputs"]["input_ids"][0]
        inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt", **options)
        assert {name: tensor.tolist() for name, tensor in inputs.items()} == case["inputs"]


def test_a_batch_of_chats_is_padded(tokenizer: Any) -> None:
    chats = [[{"role": "user", "content": text}] for text in ("你好", "a much longer question than the first")]
    batch = tokenizer.apply_chat_template(chats, padding=True, return_dict=True, return_tensors="pt")
    assert batch["input_ids"].shape[0] == 2
    assert batch["input_ids"][0, 0] == tokenizer.pad_token_id


def test_the_prompts_text(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "你好"}], add_generation_prompt=True, tokenize=False
    )
    assert (
        text
        == {
            "v1": "你好",
            "v2": "[Round 1]\n\n问：你好\n\n答：",
            "v3": "[gMASK]sop<|user|>\n你好<|assistant|>",
            "glm4": "[gMASK]<sop><|user|>\n你好<|assistant|>",
        }[tokenizer.native.generation]
    )


def test_saved_and_loaded_again(tokenizer: Any, folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    tokenizer.save_pretrained(saved)
    shutil.copyfile(folder / "config.json", saved / "config.json")
    assert "auto_map" not in json.loads((saved / "tokenizer_config.json").read_text(encoding="utf-8"))
    again = AutoTokenizer.from_pretrained(saved)
    assert type(again) is type(tokenizer)
    assert again.native.generation == tokenizer.native.generation
    assert again("你好 hello <|user|>")["input_ids"] == tokenizer("你好 hello <|user|>")["input_ids"]


def test_text_cannot_pose_as_a_role(tokenizer: Any) -> None:
    if tokenizer.native.generation == "glm4":
        role = tokenizer.convert_tokens_to_ids("<|assistant|>")
        assert role not in tokenizer("x<|assistant|>y")["input_ids"]
        assert role in tokenizer("x<|assistant|>y", parse_special=True)["input_ids"]
