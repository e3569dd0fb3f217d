"""Embedding and head of a checkpoint that is quantised while loading: int8, counted as such, and shared where tied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from golden_cases import GOLDEN

from glmcore.bench.measure import weight_bytes
from glmcore.bench.workloads import random_model
from glmcore.checkpoint import open_checkpoint
from glmcore.config import ModelConfig, find_config
from glmcore.errors import GlmError
from glmcore.place import load_model, quantize_checkpoint
from glmcore.plan import Precision, pieces
from glmcore.quant.linear import QuantEmbedding, QuantLinear
from glmcore.quant.schemes import quantize_rows

GENERATIONS = ("v1", "v2", "v3", "glm4")


@pytest.mark.parametrize("quantize", ["int4", "int8"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_quantising_on_the_way_packs_embedding_and_head_in_int8(generation: str, quantize: str):
    model = load_model(GOLDEN / generation / "base", quantize=quantize)
    original = load_model(GOLDEN / generation / "base", dtype="float32")
    assert isinstance(model.embedding, QuantEmbedding) and isinstance(model.lm_head, QuantLinear)
    assert model.embedding.bits == model.lm_head.bits == 8
    ids = torch.arange(model.config.vocab_size)
    error = (model.embedding(ids) - original.embedding(ids)).abs().amax(-1)
    # Half a step of 127, and the rounding of the scale to float16.
    assert (error <= original.embedding(ids).abs().amax(-1) / 220).all()
    if generation == "v1":
        assert model.lm_head.weight.data_ptr() == model.embedding.weight.data_ptr()
        assert torch.equal(model.embedding.weight, quantize_rows(original.embedding.weight.half().float(), 8)[0])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_what_is_stored_keeps_its_tables(generation: str):
    model = load_model(GOLDEN / generation / "int4")
    assert model.embedding.weight.dtype == getattr(torch, model.config.dtype) and model.config.embedding_bits == 0
    asked_for_too = load_model(GOLDEN / generation / "int4", quantize="int4")
    assert asked_for_too.config == model.config


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_written_checkpoint_says_what_it_is_and_loads_again(generation: str, tmp_path: Path):
    with open_checkpoint(GOLDEN / generation / "base") as source:
        written = quantize_checkpoint(source, tmp_path / "out", "int4")
    model = load_model(tmp_path / "out")
    assert (model.config.quantization_bit, model.config.embedding_bits) == (4, 0)
    assert (written.quantization_bit, written.embedding_bits) == (4, 0)


@pytest.mark.parametrize("quantize", ["int4", "int8"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_tables_that_are_written_in_int8_are_those_of_quantising_on_the_way(generation, quantize, tmp_path: Path):
    with open_checkpoint(GOLDEN / generation / "base") as source:
        quantize_checkpoint(source, tmp_path / "out", quantize, tables="int8")
    written, direct = load_model(tmp_path / "out"), load_model(GOLDEN / generation / "base", quantize=quantize)
    assert written.config.embedding_bits == 8 and written.config == direct.config
    expected = direct.state_dict()
    assert written.state_dict().keys() == expected.keys()
    for name, tensor in written.state_dict().items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name
    # The original's code would take the integers for values.
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())


@pytest.mark.parametrize("generation", GENERATIONS)
def test_tables_can_be_written_in_int4(generation, tmp_path: Path):
    with open_checkpoint(GOLDEN / generation / "base") as source:
        quantize_checkpoint(source, tmp_path / "out", "int4", tables="int4")
        table = source.tensor(next(name for name in source.names if "word_embeddings" in name)).float()
    model = load_model(tmp_path / "out")
    assert model.embedding.bits == model.lm_head.bits == 4
    assert torch.equal(model.embedding.weight, quantize_rows(table, 4)[0])


def test_what_no_file_has_is_refused(tmp_path: Path):
    with open_checkpoint(GOLDEN / "v2" / "base") as source:
        with pytest.raises(GlmError, match="'int3' is nothing for embedding and head"):
            quantize_checkpoint(source, tmp_path / "out", "int4", tables="int3")
        raw = {**source.config.raw, "quantization_bit": 4, "glmcore_table_bits": 5}
    with pytest.raises(GlmError, match="glmcore_table_bits"):
        ModelConfig.from_dict(raw)


@pytest.mark.parametrize("quantize", ["int4", "int8"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_planned_bytes_are_those_of_the_loaded_model(generation: str, quantize: str):
    loaded = load_model(GOLDEN / generation / "base", quantize=quantize)
    with open_checkpoint(GOLDEN / generation / "base") as checkpoint:
        precision = Precision.of(checkpoint.config, "float32", int(quantize[3:]))
        planned = sum(piece.weights for piece in pieces(checkpoint.config, precision, "cpu"))
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in [*loaded.parameters(), *loaded.buffers()]}
    # Biases of quantised layers and prefix tables aside, which are some bytes of these tiny models.
    assert sum(tensors.values()) == pytest.approx(planned, rel=0.02)


def test_random_weights_have_the_types_of_quantising_on_the_way():
    config = find_config("chatglm2-6b")
    small = type(config)(**{**vars(config), "num_layers": 1, "vocab_size": 2048}).quantised(4)
    model = random_model(small, torch.float32)
    assert model.lm_head.weight.shape == (2048, 4096) and model.lm_head.weight.dtype == torch.int8
    planned = sum(piece.weights for piece in pieces(small, Precision.of(small, "float32"), "cpu"))
    assert weight_bytes(model) == pytest.approx(planned, rel=0.01)
