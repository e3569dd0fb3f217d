"""How old a checkpoint's own Python code is, by its text; it is parsed and never run."""

from __future__ import annotations

import ast
import json
import posixpath
from collections.abc import Iterator

from glmdoctor.host.io import IO

MODEL, TOKENIZER, CONFIGURATION = "modeling_chatglm.py", "tokenization_chatglm.py", "configuration_chatglm.py"
VOCABULARIES = ("sp_tokenizer", "tokenizer", "mergeable_ranks")
TOKEN_NAMES = ("eos_token", "pad_token", "unk_token", "bos_token")
# Names that transformers' base configuration had until version 5.
GENERATION_NAMES = ("max_length", "use_cache")


def marks(io: IO, folder: str) -> tuple[str, ...]:
    """What the code shows about the transformers it was written for; () where the folder brings none."""
    sources = {name: io.text_or_none(posixpath.join(folder, name)) for name in (MODEL, TOKENIZER, CONFIGURATION)}
    if not sources[MODEL] and not sources[TOKENIZER]:
        return ()
    saved = io.text_or_none(posixpath.join(folder, "tokenizer_config.json")) or ""
    tokenizer = _tokenizer_marks(sources[TOKENIZER] or "", saved)
    return ("present", *tokenizer, *_model_marks(sources[MODEL] or "", sources[CONFIGURATION] or ""))


def _tokenizer_marks(source: str, saved: str) -> Iterator[str]:
    for cls in _classes(source, "Tokenizer"):
        methods = {node.name: node for node in cls.body if isinstance(node, ast.FunctionDef)}
        if "__init__" in methods and _vocabulary_after_super(methods["__init__"]):
            yield "tokenizer-init-early"
        pad = methods.get("_pad")
        if pad and not pad.args.kwarg and "padding_side" not in [a.arg for a in (*pad.args.args, *pad.args.kwonlyargs)]:
            yield "pad-without-padding-side"
        if any(name in methods and name in _keys(saved) for name in TOKEN_NAMES):
            yield "token-names-saved"


def _classes(source: str, ending: str) -> list[ast.ClassDef]:
    """Classes that transformers would load: by their names' ending, helpers like SPTokenizer left out."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith(ending)]
    return [cls for cls in classes if cls.name.startswith("ChatGLM")]


def _vocabulary_after_super(init: ast.FunctionDef) -> bool:
    """Does __init__ call its base class before it sets the vocabulary that the base class asks for?"""
    calls = [node.lineno for node in ast.walk(init) if isinstance(node, ast.Call) and _is_super_init(node)]
    sets = [
        node.lineno
        for node in ast.walk(init)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in VOCABULARIES
    ]
    return bool(calls and sets) and min(calls) < min(sets)


def _is_super_init(node: ast.Call) -> bool:
    function = node.func
    if not isinstance(function, ast.Attribute) or function.attr != "__init__":
        return False
    return isinstance(function.value, ast.Call) and getattr(function.value.func, "id", "") == "super"


def _keys(saved: str) -> set[str]:
    try:
        value = json.loads(saved)
    except (ValueError, RecursionError):
        return set()
    return set(value) if isinstance(value, dict) else set()


def _model_marks(source: str, configuration: str) -> Iterator[str]:
    if not source:
        return
    if any(f"config.{name}" in source and f"self.{name}" not in configuration for name in GENERATION_NAMES):
        yield "config-generation-names"
    if "post_init()" not in source:
        yield "model-without-post-init"
    if "GenerationMixin" not in source:
        yield "model-without-generation-mixin"
    # The argument went when caches became objects.
    if "standardize_cache_format" in source:
        yield "cache-as-tuples"
