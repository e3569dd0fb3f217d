"""What a compilation has finished: kept beside the engine until that is whole, and used again by the next try.

``DIR.unfinished`` holds the lock, the weights that were written and each graph's files, with what made them; the engine
is put together in it too and takes its place in one step.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glmcore.checkpoint.lock import alone
from glmcore.compiled.digest import sum_of
from glmcore.errors import GlmError
from glmcore.output import PART, write_text
from glmcore.reading import JSON_LIMIT, parse_json, read_bytes

SUFFIX = ".unfinished"
DONE = "done.json"


class Work:
    """The folder of one engine's compilation, which this run alone writes into."""

    def __init__(self, output: Path, folder: Path) -> None:
        self.output, self.folder = output, folder

    def finished(self, name: str, made_by: Mapping[str, Any]) -> Path | None:
        """The folder of a part that an earlier run finished, made by the same, its files as they were."""
        part = self.folder / name
        try:
            done = parse_json(read_bytes(part / DONE, JSON_LIMIT))
            same = done["key"] == key_of(made_by) and done["files"] == sums(part)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return part if same else None

    def make(self, name: str, made_by: Mapping[str, Any], fill: Callable[[Path], None]) -> Path:
        """The same, or else the folder that ``fill`` puts its files into; it is there whole or not at all."""
        found = self.finished(name, made_by)
        if found is not None:
            return found
        part, scratch = self.folder / name, self.folder / PART.format(name)
        for old in (part, scratch):
            shutil.rmtree(old, ignore_errors=True)
        scratch.mkdir(parents=True)
        fill(scratch)
        write_text(scratch / DONE, json.dumps({"key": key_of(made_by), "files": sums(scratch)}))
        os.replace(scratch, part)
        return part

    @contextmanager
    def engine(self) -> Iterator[Path]:
        """A folder that becomes the engine where the block ends well."""
        folder = self.folder / PART.format("engine")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
        with suppress(FileNotFoundError):
            self.output.rmdir()  # an empty folder may stand there
        os.rename(folder, self.output)


@contextmanager
def working(output: Path) -> Iterator[Work]:
    """The work of the engine at ``output``; its folder is gone where the block ends well.

    Errors: GlmError("write-failed") where something else is there, another run writes, or nothing can be written.
    """
    folder = output.with_name(output.name + SUFFIX)
    try:
        check_free(output)
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            check_free(output)  # another run may have ended just now
            yield Work(output, folder)
        shutil.rmtree(folder)
    except OSError as error:
        what = f"could not write: {error.strerror or error}"
        hint = "what is finished is kept; make room and run the same again"
        raise GlmError("write-failed", what, where=str(error.filename or output), hint=hint) from error


def check_free(output: Path) -> None:
    """GlmError("write-failed") where the engine's place is taken."""
    if os.path.lexists(output) and not (output.is_dir() and not os.listdir(output)):
        hint = "choose another folder, or take that one away"
        raise GlmError("write-failed", "the engine's folder is not empty", where=str(output), hint=hint)


def key_of(made_by: Mapping[str, Any]) -> str:
    """A hash of all that something is made of and by."""
    return hashlib.sha256(json.dumps(made_by, sort_keys=True, default=str).encode()).hexdigest()


def sums(folder: Path) -> dict[str, str]:
    """The hash of each file of a folder but its own record."""
    return {name: sum_of(folder / name).sha256 for name in sorted(os.listdir(folder)) if name != DONE}
