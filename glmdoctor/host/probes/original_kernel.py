"""The original code's CPU kernel: what a checkpoint's quantization.py names and finds. Parsed, never run.

transformers copies the Python files of a checkpoint into its modules cache and imports them there; C files stay behind.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator

from glmdoctor.host.facts import Checkpoint, OriginalKernel, Unknown
from glmdoctor.host.io import IO

CODE = "quantization.py"
SOURCE = re.compile(r"[\w-]+\.c")
EMBEDDED = "default_cpu_kernel_code"  # the C text, packed into the Python file by later releases


def original_kernels(io: IO, checkpoint: Checkpoint | Unknown) -> tuple[OriginalKernel, ...] | Unknown:
    if isinstance(checkpoint, Unknown):
        return checkpoint
    cache = modules_cache(io)
    io = io.bound(checkpoint.path, *([cache] if cache else []))
    folders = [(checkpoint.path, False), *((folder, True) for folder in _copies(io, cache, checkpoint.path))]
    found = (_examined(io, folder, in_cache) for folder, in_cache in folders)
    return tuple(kernel for kernel in found if kernel)


def modules_cache(io: IO) -> str | None:
    """The folder of transformers' dynamic modules."""
    env = io.env()
    home = env.get("HF_HOME") or (f"{env['HOME']}/.cache/huggingface" if env.get("HOME") else None)
    named = env.get("HF_MODULES_CACHE") or (f"{home}/modules" if home else None)
    return f"{named}/transformers_modules" if named else None


def _copies(io: IO, cache: str | None, model: str) -> Iterator[str]:
    """Folders of the cache that carry the model's name, and their revisions (newer releases write - and . in words)."""
    wanted = _plain(posixpath.basename(model))
    for name in io.names(cache) if cache else []:
        if _plain(name.replace("_hyphen_", "-").replace("_dot_", ".")) == wanted:
            yield f"{cache}/{name}"
            yield from (f"{cache}/{name}/{revision}" for revision in io.names(f"{cache}/{name}"))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _examined(io: IO, folder: str, in_cache: bool) -> OriginalKernel | None:
    path = posixpath.join(folder, CODE)
    text = io.text_or_none(path)
    if not text or "kernel" not in text:
        return None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    sources = tuple(sorted(name for name in strings if SOURCE.fullmatch(name)))
    if not sources:
        return None
    inside = any(isinstance(n, ast.Name) and n.id == EMBEDDED and isinstance(n.ctx, ast.Store) for n in ast.walk(tree))
    beside = io.names(folder)
    return OriginalKernel(
        path=path,
        in_cache=in_cache,
        sources=sources,
        missing=() if inside else tuple(name for name in sources if name not in beside),
        compiled=tuple(name for name in beside if name.endswith((".so", ".dll"))),
        kernel_file=_passed(tree),
    )


def _passed(tree: ast.AST) -> str | None:
    """The kernel_file with which the code itself calls load_cpu_kernel or makes a CPUKernel."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    named = (call for call in calls if getattr(call.func, "id", "") in ("load_cpu_kernel", "CPUKernel"))
    return next((str(value) for call in named for value in _kernel_files(call) if value), None)


def _kernel_files(call: ast.Call) -> Iterator[object]:
    """Constants given as ``kernel_file=…`` or, as `glmdoctor fix --kernel` writes it, in ``**{"kernel_file": …}``."""
    for keyword in call.keywords:
        if keyword.arg == "kernel_file":
            yield getattr(keyword.value, "value", None)
        elif keyword.arg is None and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                if getattr(key, "value", None) == "kernel_file":
                    yield getattr(value, "value", None)
