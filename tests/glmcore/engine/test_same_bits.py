"""The bits of a row's logits: what they must not depend on. Batches and drafted tokens stand on this."""

import itertools
import random
from dataclasses import replace

import pytest
import torch

from glmcore.bench.workloads import prompt_ids, random_model
from glmcore.config import NAMED
from glmcore.engine.native import CHUNK, NativeModel
from glmcore.kernels.build import ensure_kernel
from glmcore.kernels.isa import usable_isas
from glmcore.kernels.load import PRECISIONS, Kernel
from glmcore.models.cache import KVCache

# Precision, and the type of keys and values.
KEPT = (*((precision, torch.float32) for precision in PRECISIONS), ("fast", torch.bfloat16), ("light", torch.bfloat16))
NAMES = ("chatglm-6b", "chatglm2-6b", "glm-4-9b")
# Tokens before the row: within a part of the keys that is merged, across its border, and several parts on.
LENGTHS = (3, 255, 256, 300, 700)
MOST_ROWS = 16
CAPACITY = 800


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return ensure_kernel(isa=usable_isas()[0].name, cache=tmp_path_factory.mktemp("kernels"))


def native(library, name, bits, precision):
    config = replace(
        NAMED[name], num_layers=2, hidden_size=256, num_heads=8, head_dim=32, vocab_size=400, ffn_hidden_size=700,
        num_kv_heads=8 if name == "chatglm-6b" else 2, quantization_bit=bits, gmask_token_id=390, bos_token_id=391,
        mask_token_id=389,
    )  # fmt: skip
    model = random_model(config, torch.float32, kernel=Kernel(library, threads=1, precision=precision))
    return NativeModel(model, config)


def step_together(model, cache, rows):
    """Logits [rows, V] of one pass over ``rows``, each (sequence, place, token), whose keys are stored on the way."""
    sequence, places, tokens = (torch.tensor(column) for column in zip(*rows, strict=True))
    positions = torch.stack([places, torch.ones_like(places)]) if model.config.position_2d else places
    return model.together(tokens, sequence, places, cache, positions[None])


def filled_cache(config, sequences, kept=torch.float32):
    """Keys and values as if every sequence had gone through."""
    cache, generator = KVCache(config, sequences, CAPACITY, kept), torch.Generator().manual_seed(3)
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_(generator=generator)
    return cache


@pytest.mark.parametrize(("precision", "kept"), KEPT)
@pytest.mark.parametrize(("name", "bits"), [(NAMES[0], 8), (NAMES[1], 4), (NAMES[1], 8), (NAMES[2], 4)])
def test_a_row_is_the_same_whatever_rows_go_with_it_and_on_however_many_threads(library, name, bits, precision, kept):
    model, chance = native(library, name, bits, precision), random.Random(5)
    cache = filled_cache(model.config, MOST_ROWS, kept)
    for length in LENGTHS:
        row = (chance.randrange(MOST_ROWS), length, 17)
        alone = step_together(model, cache, [row])[0]
        for count, model.kernel.threads in zip((2, 3, 4, 5, 8, 11, MOST_ROWS), itertools.cycle((1, 2, 3))):
            others = [i for i in range(MOST_ROWS) if i != row[0]]
            rows = [(i, chance.randrange(CAPACITY), chance.randrange(380)) for i in chance.sample(others, count - 1)]
            at = chance.randrange(count)
            together = step_together(model, cache, [*rows[:at], row, *rows[at:]])[at]
            assert torch.equal(together, alone), (length, count, model.kernel.threads)


@pytest.mark.parametrize(("precision", "kept"), KEPT)
@pytest.mark.parametrize("name", [NAMES[1], NAMES[2]])
def test_drafted_tokens_in_one_pass_are_what_they_are_one_by_one(library, name, precision, kept):
    """Rows of one sequence, each of which sees those before it."""
    model = native(library, name, 4, precision)
    drafted = [(0, 250 + i, 30 + i) for i in range(MOST_ROWS)]
    cache = filled_cache(model.config, 1, kept)
    singly = torch.cat([step_together(model, cache, [row]) for row in drafted])
    for count, model.kernel.threads in ((2, 1), (5, 2), (MOST_ROWS, 3)):
        together = step_together(model, filled_cache(model.config, 1, kept), drafted[:count])
        assert torch.equal(together, singly[:count])


@pytest.mark.parametrize(("precision", "kept"), KEPT)
@pytest.mark.parametrize("length", [14, 300])  # of which `fast` keeps what it keeps of answers, and less
@pytest.mark.parametrize(("name", "bits"), [(NAMES[1], 4), (NAMES[1], 8), (NAMES[2], 4)])
def test_a_prompt_is_the_same_however_it_is_cut(library, name, bits, length, precision, kept):
    model, chance = native(library, name, bits, precision), random.Random(7)
    prompt = torch.tensor([prompt_ids(model.config, length)])

    def read(sizes):
        """Logits after the prompt and after one more token, and all keys and values."""
        cache = KVCache(model.config, 1, CAPACITY, kept)
        for chunk in prompt.split(sizes, dim=1):
            logits = model(chunk, cache, prompt=length)
        after = model(torch.tensor([[7]]), cache)
        return logits, after, *(each[:, :, : length + 1] for each in cache.keys + cache.values)

    whole = read([CHUNK] * (length // CHUNK) + [length % CHUNK])
    for threads, most in ((1, 40), (2, 9), (3, 130)):
        sizes, model.kernel.threads = [], threads
        while sum(sizes) < length:
            sizes.append(min(chance.randint(1, most), length - sum(sizes)))
        for mine, other in zip(whole, read(sizes), strict=True):
            assert torch.equal(mine, other), sizes


@pytest.mark.parametrize("precision", ["fast", "light"])  # of which one keeps more of answers than of prompts
@pytest.mark.parametrize(("name", "bits"), [(NAMES[1], 4), (NAMES[1], 8), (NAMES[2], 4)])
def test_answers_and_a_prompt_in_one_pass_are_what_they_are_apart(library, name, bits, precision):
    """Few rows of both, which share the reading of weights, and many; logits, keys and values."""
    model, chance = native(library, name, bits, precision), random.Random(11)
    own = MOST_ROWS  # the prompt's row of the cache
    for answers, count, model.kernel.threads in ((1, 1, 1), (1, 6, 2), (3, 4, 3), (7, 16, 2), (16, 16, 1), (2, 30, 2)):
        piece, start = torch.tensor(prompt_ids(model.config, count)), chance.choice((0, 250))
        rows = [(row, chance.randrange(CAPACITY), chance.randrange(380)) for row in range(answers)]
        ids, sequence, places = (torch.tensor(column) for column in zip(*((t, r, p) for r, p, t in rows), strict=True))
        apart, together = filled_cache(model.config, own + 1), filled_cache(model.config, own + 1)
        alone = step_together(model, apart, rows)
        reading = model.reading(piece[None], apart, own, start, prompt=300)
        reading.run()
        both = model.both(ids, sequence, places, together, piece, own, start, prompt=300, last=True)
        for mine, other in zip(both, (alone, reading.logits[0]), strict=True):
            assert torch.equal(mine, other), (answers, count)
        for mine, other in zip(together.keys + together.values, apart.keys + apart.values, strict=True):
            assert torch.equal(mine, other), (answers, count)
