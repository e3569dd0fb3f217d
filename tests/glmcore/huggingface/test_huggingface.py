"""transformers' Auto classes on the original checkpoints, by the interface that the contract names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from golden_cases import CASES, GOLDEN, rest
from safetensors.torch import load_file

pytest.importorskip("transformers")
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, DynamicCache, StaticCache, pipeline

import glmcore.huggingface  # noqa: F401  (registers the classes)

BASES = [case for case in CASES if case.endswith("/base")]
GENERATIONS = ["v1", "v2", "v3", "glm4"]


def load(folder: Path, **kwargs):
    return AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, **kwargs).eval()


def golden(case: str):
    return load_file(GOLDEN / case / "golden.safetensors")


def prompt_arguments(case: str, data) -> dict[str, torch.Tensor]:
    """ChatGLM-6B's tokenizer returns the ids of one text alone."""
    ids = {"inputs": data["prompt.input_ids"]}
    return ids if case.startswith("v1/") else ids | {"attention_mask": data["prompt.attention_mask"]}


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=5e-4)


@pytest.mark.parametrize("case", CASES)
def test_forward_takes_the_originals_masks_and_positions(case: str) -> None:
    model, data = load(GOLDEN / case), golden(case)
    with torch.no_grad():
        one = model(
            input_ids=data["prompt.input_ids"],
            attention_mask=data["prompt.attention_mask"],
            position_ids=data["prompt.position_ids"],
        )
        plain = model(data["prompt.input_ids"])
        batch = model(
            input_ids=data["batch.input_ids"],
            attention_mask=data["batch.attention_mask"],
            position_ids=data["batch.position_ids"],
        )
    close(one.logits, data["prompt.logits"])
    close(plain.logits, data["prompt.logits"])
    assert one.past_key_values.get_seq_length() == data["prompt.input_ids"].shape[1]
    for row, length in enumerate(data["batch.lengths"].tolist()):
        close(batch.logits[row, -length:], data["batch.logits"][row, -length:])


@pytest.mark.parametrize("case", CASES)
def test_greedy_generation(case: str) -> None:
    model, data = load(GOLDEN / case), golden(case)
    wanted = data["greedy.tokens"]
    out = model.generate(
        **prompt_arguments(case, data), do_sample=False, max_new_tokens=wanted.shape[1], eos_token_id=None
    )
    assert torch.equal(out[:, -wanted.shape[1] :], wanted)


@pytest.mark.parametrize("case", BASES)
def test_greedy_generation_of_a_padded_batch(case: str) -> None:
    model, data = load(GOLDEN / case), golden(case)
    wanted = data["batch_greedy.tokens"]
    out = model.generate(
        data["batch.input_ids"],
        attention_mask=data["batch.attention_mask"],
        position_ids=data["batch.position_ids"],
        do_sample=False,
        max_new_tokens=wanted.shape[1],
        eos_token_id=None,
    )
    assert torch.equal(out[:, -wanted.shape[1] :], wanted)


@pytest.mark.skipif("v1/base" not in CASES, reason="no such case")
def test_a_mask_token_that_the_model_writes_moves_its_position() -> None:
    data = golden("v1/base")
    wanted = data["mask_greedy.tokens"]
    out = load(GOLDEN / "v1/base").generate(
        data["mask.input_ids"], do_sample=False, max_new_tokens=wanted.shape[1], eos_token_id=None
    )
    assert torch.equal(out[:, -wanted.shape[1] :], wanted)


@pytest.mark.parametrize("case", BASES)
def test_ways_to_generate_agree_with_greedy(case: str) -> None:
    model, data = load(GOLDEN / case), golden(case)
    wanted = data["greedy.tokens"][:, :8]
    arguments = prompt_arguments(case, data) | {"do_sample": False, "max_new_tokens": 8, "eos_token_id": None}
    without_cache = model.generate(**arguments, use_cache=False)
    static = model.generate(**arguments, cache_implementation="static")
    assisted = model.generate(**arguments, assistant_model=load(GOLDEN / case))
    for out in (without_cache, static, assisted):
        assert torch.equal(out[:, -8:], wanted)


@pytest.mark.parametrize("case", BASES)
def test_beam_search_finds_nothing_worse_than_greedy(case: str) -> None:
    model, data = load(GOLDEN / case), golden(case)
    arguments = prompt_arguments(case, data) | {"do_sample": False, "max_new_tokens": 5, "eos_token_id": None}
    size = data["prompt.input_ids"].shape[1]

    def score(ids: torch.Tensor) -> float:
        with torch.no_grad():
            logits = model(ids).logits.log_softmax(-1) if not case.startswith("v1/") else None
            if logits is None:  # the prompt's own way of seeing itself needs it as a prompt
                logits = torch.cat([model(ids[:, :end]).logits[:, -1:] for end in range(1, ids.shape[1] + 1)], 1)
                logits = logits.log_softmax(-1)
        return logits[0, size - 1 : -1].gather(-1, ids[0, size:, None]).sum().item()

    assert score(model.generate(**arguments, num_beams=4)) >= score(model.generate(**arguments)) - 1e-3
    torch.manual_seed(0)
    sampled = model.generate(**arguments | {"do_sample": True, "top_p": 0.8, "temperature": 0.8})
    assert sampled.shape[1] == size + 5


@pytest.mark.parametrize("case", BASES)
def test_caches_hold_what_the_originals_held(case: str) -> None:
    model, data = load(GOLDEN / case), golden(case)
    cache = DynamicCache()
    with torch.no_grad():
        model(data["prompt.input_ids"], past_key_values=cache)
    for layer in range(model.config.num_hidden_layers):
        keys = cache.layers[layer].keys if hasattr(cache, "layers") else cache.key_cache[layer]
        close(keys, data[f"prompt.layer{layer}.key"])


OLD_HABIT = pytest.param(
    {"trust_remote_code": True},
    marks=pytest.mark.skipif(transformers.__version__.startswith("4.4"), reason="runs remote code where it is trusted"),
)


@pytest.mark.parametrize("trust", [{}, OLD_HABIT])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_nothing_in_the_folder_is_executed(chat_folder, generation: str, trust: dict) -> None:
    folder = chat_folder(generation)
    config = AutoConfig.from_pretrained(folder, **trust)
    assert config.native.generation == generation
    tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
    model = AutoModel.from_pretrained(folder, **trust)
    ids = tokenizer("你好", return_tensors="pt")
    assert torch.isfinite(model(**ids).logits).all()
    model.generate(**ids, max_new_tokens=2, do_sample=False)
    assert not (folder / "poisoned").exists()
    assert not any("chatglm" in name and "transformers_modules" in name for name in sys.modules)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_from_text_to_text_as_the_original_chat(chat_folder, generation: str) -> None:
    folder = chat_folder(generation)
    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    rows = json.loads((rest(generation, "e2e") / "chat_greedy.json").read_text())
    for row in rows["cases"] if isinstance(rows, dict) else rows:
        ids = torch.tensor(row["input_ids"]).reshape(1, -1)
        wanted = torch.tensor(row["output_ids"]).reshape(1, -1)
        ends = list(model.config.native.eos_token_ids)
        ends += [64795, 64797] if generation == "v3" else []
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_length=row["max_length"],
                             eos_token_id=ends)  # fmt: skip
        assert torch.equal(out, wanted)
        assert isinstance(tokenizer.decode(out[0]), str)


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith(("/base", "/int4", "/int4-qe"))])
def test_saved_models_come_back_the_same(case: str, tmp_path: Path) -> None:
    model, data = load(GOLDEN / case), golden(case)
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.config.native.generation == case.split("/")[0]
    with torch.no_grad():
        assert torch.equal(again(data["prompt.input_ids"]).logits, model(data["prompt.input_ids"]).logits)
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["model_type"] == "chatglm" and "auto_map" not in saved


@pytest.mark.parametrize("case", BASES)
def test_gradients_reach_every_weight(case: str) -> None:
    model, data = load(GOLDEN / case).train(), golden(case)
    ids = data["prompt.input_ids"]
    loss = model(ids, labels=ids).loss
    loss.backward()
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_static_cache_of_ones_own() -> None:
    case = next(case for case in BASES if not case.startswith("v1/"))
    model, data = load(GOLDEN / case), golden(case)
    cache = StaticCache(config=model.config, max_cache_len=32, **old_arguments())
    with torch.no_grad():
        out = model(data["prompt.input_ids"], past_key_values=cache)
        close(out.logits, data["prompt.logits"])
        more = model(data["append.input_ids"], past_key_values=cache, position_ids=data["append.position_ids"])
        close(more.logits, data["append.logits"])


def old_arguments() -> dict:
    """What transformers 4 wants besides."""
    if transformers.__version__.startswith("4"):
        return {"max_batch_size": 1, "device": "cpu", "dtype": torch.float32}
    return {}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_text_generation_pipeline(chat_folder, generation: str) -> None:
    folder = chat_folder(generation)
    generate = pipeline("text-generation", model=load(folder), tokenizer=AutoTokenizer.from_pretrained(folder))
    (answer,) = generate("你好", max_new_tokens=3, do_sample=False, return_full_text=False)
    assert isinstance(answer["generated_text"], str)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_padded_calls_feed_the_model(chat_folder, generation: str) -> None:
    folder = chat_folder(generation)
    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    texts = ["你好", "How are you today, my friend?"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    out = model.generate(**batch, max_new_tokens=4, do_sample=False, eos_token_id=None)
    for row, text in enumerate(texts):
        ids = tokenizer(text, return_tensors="pt")
        alone = model.generate(**ids, max_new_tokens=4, do_sample=False, eos_token_id=None)
        assert torch.equal(out[row, -4:], alone[0, -4:])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_tokenizers_without_their_own_configuration(chat_folder, generation: str) -> None:
    folder = chat_folder(generation)
    wanted = AutoTokenizer.from_pretrained(folder)("你好")["input_ids"]
    (folder / "tokenizer_config.json").unlink()
    assert AutoTokenizer.from_pretrained(folder)("你好")["input_ids"] == wanted


@pytest.mark.parametrize("generation, mark", [("v1", "<eop>"), ("glm4", "<|user|>")])
def test_parse_special_of_the_tokenizer_acts_in_its_calls(chat_folder, generation: str, mark: str) -> None:
    folder = chat_folder(generation)
    parsing = AutoTokenizer.from_pretrained(folder, parse_special=True)
    wanted = parsing.native.special[mark]
    plain = AutoTokenizer.from_pretrained(folder)
    for call in (lambda t, **k: t(mark, **k)["input_ids"], lambda t, **k: t([mark, mark], **k)["input_ids"][1],
                 lambda t, **k: t.encode(mark, **k)):  # fmt: skip
        assert wanted in call(parsing) and wanted not in call(plain)
        assert wanted in call(plain, parse_special=True) and wanted not in call(parsing, parse_special=False)
    chat = [{"role": "user", "content": f"a{mark}b"}]
    counts = [t.apply_chat_template(chat).count(wanted) for t in (parsing, plain)]
    assert counts[0] == counts[1] + 1


def test_lora_adapters_train() -> None:
    peft = pytest.importorskip("peft")
    case = BASES[0]
    model, data = load(GOLDEN / case), golden(case)
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["query_key_value"], task_type="CAUSAL_LM")
    )
    ids = data["prompt.input_ids"]
    before = adapted(input_ids=ids, labels=ids).loss
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        adapted(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    assert adapted(input_ids=ids, labels=ids).loss < before


@pytest.mark.parametrize("case", BASES)
def test_device_map_places_the_model(case: str) -> None:
    pytest.importorskip("accelerate")
    data = golden(case)
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / case, device_map="auto", torch_dtype=torch.float32)
    with torch.inference_mode():
        logits = model(input_ids=data["prompt.input_ids"].to(model.device)).logits.cpu()
    assert (logits - data["prompt.logits"]).abs().max() < 2e-4
