"""scripts/check_schemas.py: what models of random numbers say by some of its schemas is valid."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import jsonschema
import pytest
from golden_cases import rest

import glmcore
from glmcore.engine.engine import Engine

pytest.importorskip("llguidance")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import check_schemas

COUNT = 200


@pytest.fixture(scope="module", params=["v1", "v2", "v3", "glm4"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp(request.param)
    for part in ("e2e", "tokenizer"):
        shutil.copytree(rest(request.param, part), folder, dirs_exist_ok=True)
    yield glmcore.load(folder, dtype="float32", threads=1)


def test_a_sample_is_valid(engine: Engine) -> None:
    """One in 40, from another place for each generation; ChatGLM-6B's vocabulary lacks characters of some."""
    first = ["v1", "v2", "v3", "glm4"].index(engine.config.generation) * 6
    counts: Counter[str] = Counter()
    for schema in islice(check_schemas.schemas(COUNT), first, None, 40):
        found = check_schemas.verdict(engine, schema, 1, 400)
        counts[found.partition(":")[0]] += 1
        assert found in ("valid", "cut") or "vocabulary" in found, (found, schema)
    assert counts["valid"] >= 4, counts


def test_the_schemas_are_many_and_schemas() -> None:
    made = list(check_schemas.schemas(COUNT))
    assert len({json.dumps(schema, sort_keys=True) for schema in made}) == COUNT
    for schema in made:
        jsonschema.Draft202012Validator.check_schema(schema)
    used = json.dumps(made)
    for keyword in ("anyOf", "oneOf", "allOf", "$ref", "pattern", "format", "multipleOf", "prefixItems"):
        assert f'"{keyword}"' in used
