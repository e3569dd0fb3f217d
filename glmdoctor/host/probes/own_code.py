"""What a checkpoint's own Python files define, so that loading them by an Auto class can be foretold."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterable, Iterator

from glmdoctor.host.facts import Checkpoint, OwnCode, Unknown
from glmdoctor.host.io import IO

# Methods of the ChatGLM tokenizers that their base class does not have; which ones, depends on the revision.
PROMPTS = ("build_prompt", "build_chat_input", "build_single_message")
TALKS = ("chat", "stream_chat", "generate", "stream_generate")
MAX_FILES = 32


def own_code(io: IO, checkpoint: Checkpoint | Unknown) -> OwnCode | Unknown:
    if isinstance(checkpoint, Unknown):
        return checkpoint
    names = [file.name for file in checkpoint.files if file.name.endswith(".py")][:MAX_FILES]
    if not names:
        return Unknown("the checkpoint brings no code of its own")
    io = io.bound(checkpoint.path)
    trees = {name: _tree(io.text_or_none(posixpath.join(checkpoint.path, name)) or "") for name in names}
    models = [cls for tree in trees.values() for cls in _classes(tree, "Generation")]
    tokenizers = [cls for tree in trees.values() for cls in _classes(tree, "Tokenizer")]
    offered = {name for cls in tokenizers for name in _methods([cls])}
    asked = sorted({name for tree in trees.values() for name in _called_on_tokenizer(tree)})
    return OwnCode(
        {name: tuple(cls.name for cls in _classes(tree)) for name, tree in trees.items()},
        tuple(name for name in TALKS if name in set(_methods(models))),
        tuple(asked) if tokenizers else (),
        tuple(name for name in asked if name in offered),
    )


def _tree(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def _classes(tree: ast.Module, ending: str = "") -> Iterator[ast.ClassDef]:
    return (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith(ending))


def _methods(classes: Iterable[ast.ClassDef]) -> Iterator[str]:
    for cls in classes:
        yield from (node.name for node in cls.body if isinstance(node, ast.FunctionDef))


def _called_on_tokenizer(tree: ast.Module) -> Iterator[str]:
    """``tokenizer.build_prompt(…)``: calls on the tokenizer that a function is handed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "tokenizer" and node.func.attr in PROMPTS:
                yield node.func.attr
