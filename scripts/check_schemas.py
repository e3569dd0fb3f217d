"""Answers by schemas, counted: how many of a set of 200 are valid, by ``jsonschema``, from any model.

    python scripts/check_schemas.py [--model DIR] [--seeds 1] [--sample N]

The schemas are made here, of every keyword that holds, alone and within each other, with a fixed seed. A model of
random weights closes no text and no list of its own, so quotation marks and brackets are made likelier; what the
grammar allows stays what it is. An answer that ``--tokens`` cut is no valid one, and is counted apart.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema

import glmcore
from glmcore.engine.engine import Engine
from glmcore.engine.sampling import Sampling
from glmcore.errors import GlmError
from glmcore.grammar.forms import json_schema

Schema = dict[str, Any]
WORDS = ("name", "city", "days", "城市", "is_sure", "a b", "x-y", "quote\"", "päth", "n0", "tags", "kind")
FORMATS = ("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
PATTERNS = ("^[A-Z]{2}-\\d{3}$", "^(yes|no)$", "^[a-f0-9]{8}$", "^\\d{4}-(0[1-9]|1[0-2])$", "^[一-龥]{1,4}$", "[aeiou]")


class Schemas:
    """Random schemas, as deep as they are asked for."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def made(self, depth: int) -> Schema:
        leaf: tuple[Callable[[], Schema], ...] = (self.text, self.number, self.choice, self.plain)
        inner = (self.record, self.array, self.mapping, self.either, self.both, self.named)
        if depth == 0 or self.random.random() < 0.2:
            return self.random.choice(leaf)()
        return self.random.choice(inner)(depth - 1)

    def text(self) -> Schema:
        low = self.random.randrange(4)
        return {
            "type": "string",
            **self.random.choice([
                {"minLength": low, "maxLength": low + self.random.randrange(12)},
                {"pattern": self.random.choice(PATTERNS)},
                {"format": self.random.choice(FORMATS)},
                {"maxLength": 6},
            ]),
        }  # fmt: skip

    def number(self) -> Schema:
        low = self.random.randrange(-100, 100)
        return self.random.choice([
            {"type": "integer", "minimum": low, "maximum": low + self.random.randrange(1000)},
            {"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": low + 50},
            {"type": "integer", "multipleOf": self.random.choice([2, 5, 60]), "minimum": 0, "maximum": 6000},
            {"type": "number", "minimum": low / 8, "maximum": low / 8 + 3.5},
            {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 90},
        ])  # fmt: skip

    def choice(self) -> Schema:
        values = [self.random.choice([*WORDS, 1, 2.5, None, True, ["x", 1], {"k": "v"}]) for _ in range(3)]
        return self.random.choice([{"enum": values}, {"const": values[0]}])

    def plain(self) -> Schema:
        return {"type": self.random.choice(["boolean", "null", ["boolean", "null"]])}

    def record(self, depth: int) -> Schema:
        names = self.random.sample(WORDS, self.random.randrange(1, 5))
        required = [name for name in names if self.random.random() < 0.6]
        closed = self.random.choice([{"additionalProperties": False}, {"additionalProperties": False}, {}])
        properties = {name: self.made(depth) for name in names}
        return {"type": "object", "properties": properties, "required": required, **closed}

    def array(self, depth: int) -> Schema:
        low = self.random.randrange(3)
        bounds = {"minItems": low, "maxItems": low + self.random.randrange(3)}
        first = {"prefixItems": [self.made(depth), self.made(0)]} if self.random.random() < 0.3 else {}
        return {"type": "array", "items": self.made(depth), **first, **bounds}

    def mapping(self, depth: int) -> Schema:
        low = self.random.randrange(2)
        keys = self.random.choice([
            {"additionalProperties": self.made(depth)},
            {"patternProperties": {"^[a-z]{1,5}$": self.made(depth)}, "additionalProperties": False},
        ])  # fmt: skip
        return {"type": "object", **keys, "minProperties": low, "maxProperties": low + 2}

    def either(self, depth: int) -> Schema:
        cases = [self.made(depth) for _ in range(self.random.randrange(2, 4))]
        kinds = [
            {"type": "object", "properties": {"kind": {"const": kind}, "it": case}, "required": ["kind", "it"]}
            for kind, case in zip("abc", cases, strict=False)
        ]
        return self.random.choice([{"anyOf": cases}, {"oneOf": kinds}])

    def both(self, depth: int) -> Schema:
        one, two = ({"properties": {name: self.made(depth)}, "required": [name]} for name in ("left", "right"))
        return {"allOf": [{"type": "object"}, one, two]}

    def named(self, depth: int) -> Schema:
        """A tree that needs itself, in a way that ends."""
        tree = {
            "type": "object",
            "properties": {"it": self.made(0), "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
            "required": ["it", "next"], "additionalProperties": False,
        }  # fmt: skip
        return {"$defs": {"tree": tree}, "tree": True}


def hoisted(schema: Any, tree: list[Any]) -> Any:
    """References within a schema lead to its root: definitions go there."""
    if isinstance(schema, list):
        return [hoisted(each, tree) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("tree") is True:
        tree.append(schema["$defs"]["tree"])
        return {"$ref": "#/$defs/tree"}
    return {name: hoisted(value, tree) for name, value in schema.items()}


def schemas(count: int) -> Iterator[Schema]:
    """``count`` of them, no two alike, simple and deep ones in turn."""
    made, seen = Schemas(1), set[str]()
    while len(seen) < count:
        found: list[Any] = []
        schema = hoisted(made.made(len(seen) % 4), found)
        schema = {**schema, "$defs": {"tree": found[0]}} if found else schema
        text = json.dumps(schema, sort_keys=True)
        if text not in seen:
            seen.add(text)
            yield schema


def likelier(engine: Engine, ends: float) -> tuple[tuple[int, float], ...]:
    """A bias for what ends texts, lists and objects."""
    texts = ('"', "]", "}", "]}", "}}", '":', '",', '"}', '"]', "null", ":")
    ids = (engine.tokenizer.encode_within(text) for text in texts)
    return tuple({token: ends for found in ids if len(found) == 1 for token in found}.items())


def verdict(engine: Engine, schema: Schema, seed: int, tokens: int) -> str:
    """valid, invalid, cut, or in which words it was refused."""
    sampling = Sampling(temperature=1, top_p=1, seed=seed, logit_bias=likelier(engine, 14))
    try:
        grammar = json_schema(schema, engine.config.generation, where="schema")
        answer = engine.submit("Answer: ", max_new_tokens=tokens, sampling=sampling, grammar=grammar)
        text = answer.text()
    except GlmError as error:
        return f"refused: {error.what}"
    if answer.ending is None or answer.ending.finish_reason != "stop":
        return "cut"
    try:
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError) as error:
        return f"invalid: {str(error).splitlines()[0]} of {text[:200]}"
    return "valid"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder; the demo model where it is left out")
    parser.add_argument("--seeds", type=int, default=1, help="answers to each schema")
    parser.add_argument("--schemas", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=1500)
    asked = parser.parse_args()
    engine = glmcore.load(asked.model)
    started, counts = time.perf_counter(), Counter[str]()
    for schema in schemas(asked.schemas):
        for seed in range(asked.seeds):
            found = verdict(engine, schema, seed, asked.tokens)
            counts[found.partition(":")[0]] += 1
            if found != "valid":
                print(found, json.dumps(schema, ensure_ascii=False), sep="\n  ", flush=True)
    print(f"{engine.describe()}: {dict(counts)} in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
