"""The original quantization.py: made to pass a verified kernel, which it forgets, to load_cpu_kernel.

``quantize()`` is called without ``kernel_file``, so that the original code compiles one each time, or says "No compiled
kernel found". Of a checkpoint's own copy and of transformers' copies one call is changed and nothing else.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterable, Mapping

from glmdoctor.actions import Action, PlaceLink, WriteFile, digest
from glmdoctor.messages import text
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies import kernel
from glmdoctor.remedies.plan import Options, Plan

CHECK = "kernel.original"
QUANTIZATION = "quantization.py"
SOURCES = ("quantization_kernels.c", "quantization_kernels_parallel.c")
# The call as it was published, or as an earlier repair left it; not the function's own "def".
CALL = re.compile(
    r'^([ \t]+)load_cpu_kernel\((?:\*\*kwargs|\*\*\{"kernel_file": "[^"\n]*", \*\*kwargs\})\)', re.MULTILINE
)


def with_kernel(source: str, path: str) -> str | None:
    """The source with ``kernel_file`` passed, unless the caller gives one; None where it has no such call."""
    literal = path.replace("\\", "\\\\").replace('"', '\\"')
    changed, count = CALL.subn(
        lambda call: f'{call[1]}load_cpu_kernel(**{{"kernel_file": "{literal}", **kwargs}})', source
    )
    return changed if count and _parses(changed) else None


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def patch(files: Mapping[str, str], host: Machine, options: Options, findings: Iterable[str]) -> Plan | None:
    """One plan for all copies, answering ``findings``.

    ``files``: path → text of each quantization.py and of the C sources beside any of them.
    """
    build, path = maybe(host.kernel_build), kernel.placed(options)
    if build is None or not build.ok or build.path is None:
        return None
    found = {file: with_kernel(source, path) for file, source in files.items() if _is(file, QUANTIZATION)}
    changed = {file: content for file, content in found.items() if content is not None}
    if not changed:
        return None
    writes = [WriteFile(file, content, digest(files[file])) for file, content in changed.items()]
    actions: tuple[Action, ...] = (PlaceLink(path, build.path), *writes, *_missing_sources(files, changed))
    title = text("Pass the verified CPU kernel to the model's own code in {names}", names=", ".join(changed))
    return Plan("pass-kernel-file", title, (kernel.CHECK, *findings), actions)


def _missing_sources(files: Mapping[str, str], changed: Mapping[str, str]) -> list[WriteFile]:
    """The C sources for copies that lack them: transformers copies Python files alone."""
    have = {posixpath.basename(file): source for file, source in files.items() if posixpath.basename(file) in SOURCES}
    folders = [posixpath.dirname(file) for file in changed]
    lacking = [(f"{folder}/{name}", source) for folder in folders for name, source in have.items()]
    return [WriteFile(path, source, None) for path, source in lacking if path not in files]


def _is(path: str, name: str) -> bool:
    return posixpath.basename(path) == name
