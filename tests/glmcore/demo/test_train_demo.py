"""The training: what is learned of an example, int4 in the loop, and going on after an interruption."""

import random

import pytest
import torch
import train_demo
from demo_corpus import Corpus

from glmcore.config import ModelConfig
from glmcore.engine.load import load
from glmcore.models import build
from glmcore.packing import dequantize
from glmcore.quant.schemes import quantize_rows
from glmcore.tokenizers import load_tokenizer


@pytest.fixture(scope="module")
def corpus():
    return Corpus()


@pytest.fixture(scope="module")
def work(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    train_demo.train_tokenizer(corpus, folder)
    return folder


@pytest.fixture
def small(monkeypatch):
    """A model and a training of a few seconds."""
    shape = {"hidden_size": 32, "ffn_hidden_size": 32, "num_attention_heads": 2, "kv_channels": 16, "num_layers": 1}
    monkeypatch.setattr(train_demo, "CONFIG", train_demo.CONFIG | shape)
    monkeypatch.setattr(train_demo, "BLOCKS", 4)
    monkeypatch.setattr(train_demo, "BLOCK_EXAMPLES", 24)


def make_trainer(corpus, work):
    config = ModelConfig.from_dict(train_demo.CONFIG)
    return train_demo.Trainer(corpus, load_tokenizer(work, config), config, minutes=10, seed=3)


def test_the_tokenizer_keeps_every_answer_and_names_no_path(corpus, work):
    tokenizer = load_tokenizer(work, ModelConfig.from_dict(train_demo.CONFIG))
    for answer in corpus.answers:
        assert tokenizer.decode(tokenizer.encode(answer)) == answer
    assert tokenizer.decode(tokenizer.encode("🙂 Ω")) == "🙂 Ω"
    assert b"/" + work.name.encode() not in (work / "tokenizer.model").read_bytes()


def test_only_the_answer_and_its_end_are_learned(corpus, work):
    tokenizer = load_tokenizer(work, ModelConfig.from_dict(train_demo.CONFIG))
    for batch in train_demo.batches(corpus, tokenizer, random.Random(5)):
        for ids, labels in zip(batch.ids.tolist(), batch.labels.tolist(), strict=True):
            learned = [label for label in labels if label != train_demo.IGNORED]
            assert learned[-1] == tokenizer.eos_token_ids[0]
            assert tokenizer.decode(learned[:-1]) in corpus.answers
            first = labels.index(learned[0])
            assert ids[first + 1 : first + 1 + len(learned)] == learned


def test_int4_in_the_loop_leaves_the_full_weights(small):
    model = build(ModelConfig.from_dict(train_demo.CONFIG))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    name = "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight"
    with train_demo.quantised(model, 4):
        inside = model.state_dict()[name].clone()
        model(torch.tensor([[5, 6, 7]])).sum().backward()
    assert torch.equal(inside, dequantize(*quantize_rows(before[name].half(), 4), 4))
    assert not torch.equal(inside, before[name])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.layers[0].mlp.dense_4h_to_h.weight.grad.abs().sum() > 0


def test_an_interrupted_training_goes_on_to_the_same_model(small, corpus, work, tmp_path):
    straight = make_trainer(corpus, work)
    losses = [straight.train_block() for _ in range(train_demo.BLOCKS)]
    assert losses[-1] < losses[0]
    halted = make_trainer(corpus, work)
    for _ in range(2):
        halted.train_block()
    halted.save(tmp_path / "state.pt")
    resumed = make_trainer(corpus, work)
    train_demo.run(resumed, tmp_path)
    for one, other in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_written_model_loads_as_any_checkpoint(small, corpus, work, tmp_path):
    model = make_trainer(corpus, work).model
    train_demo.write_model(model, train_demo.CONFIG, work, tmp_path)
    engine = load(tmp_path)
    assert engine.config.generation == "v2"
    assert isinstance(engine.chat([{"role": "user", "content": "hello"}], max_new_tokens=3, temperature=0), str)
