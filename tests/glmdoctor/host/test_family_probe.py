"""Folders of transformers' own layout, as the doctor reads them: whole ones fit, mixed and damaged ones do not."""

from __future__ import annotations

import family_tokenizer
import pytest
from family_cases import CASES, copied

from glmdoctor.checks import shapes
from glmdoctor.findings import Status
from glmdoctor.host.host import Host


def examined(folder):
    host = Host(model=str(folder))
    return host.checkpoint, [finding.status for check in (shapes.config, shapes.fits) for finding in check(host)]


@pytest.mark.parametrize("case", CASES)
def test_a_whole_folder_fits(tmp_path, case):
    checkpoint, found = examined(family_tokenizer.write(copied(case, tmp_path)))
    assert checkpoint.generation and checkpoint.misfit is None and checkpoint.tensors
    assert found == [Status.OK, Status.OK]


def drop(tensors, name):
    del tensors[name]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (lambda t: drop(t, "model.layers.1.self_attn.k_proj.weight"), "k_proj.weight is not in the files"),
        (lambda t: t.update({"model.norm.weight": t["model.norm.weight"][:4].clone()}), "model.norm.weight is [4]"),
        (lambda t: [t.update({f"transformer.{k}": t.pop(k)}) for k in list(t)], "model.embed_tokens.weight is not in"),
    ],
)
def test_a_mixed_or_damaged_folder_does_not(tmp_path, weights, said):
    checkpoint, found = examined(copied("glm4-0414", tmp_path, weights=weights))
    assert said in checkpoint.misfit and found == [Status.OK, Status.FAIL]


def test_more_layers_in_config_than_in_the_files(tmp_path):
    _, found = examined(copied("glm4-hf", tmp_path, config=lambda raw: raw.update(num_hidden_layers=3)))
    assert found == [Status.OK, Status.FAIL]
