"""What a compilation has finished: kept beside the engine until that is whole, and used again by the next try.

``DIR.unfinished`` holds the lock, the weights that were written and each graph's files, with what made them; the engine
is put together in it too and takes its place in one step.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glmcore.checkpoint.lock import LOCK, alone
from glmcore.digest import sum_of
from glmcore.errors import GlmError
from glmcore.output import PART, remedy, write_text, written_at
from glmcore.reading import JSON_LIMIT, parse_json, read_bytes

SUFFIX = ".unfinished"
DONE = "done.json"


class Work:
    """The folder of one compilation, which this run alone writes into, and the engines that come of it."""

    def __init__(self, outputs: Sequence[Path], folder: Path) -> None:
        self.outputs, self.folder = outputs, folder

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
        with gone_on_failure(scratch):
            scratch.mkdir(parents=True)
            fill(scratch)
            write_text(scratch / DONE, json.dumps({"key": key_of(made_by), "files": sums(scratch)}))
            os.replace(scratch, part)
        return part

    @contextmanager
    def engines(self) -> Iterator[list[Path]]:
        """A folder for each engine, which takes its place where the block ends well."""
        folders = [self.folder / PART.format(f"engine.{number}") for number in range(len(self.outputs))]
        with gone_on_failure(*folders):
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            yield folders
            for folder, output in zip(folders, self.outputs, strict=True):
                with suppress(FileNotFoundError):
                    output.rmdir()  # an empty folder may stand there
                os.rename(folder, output)


@contextmanager
def gone_on_failure(*folders: Path) -> Iterator[None]:
    """What is half-done takes no room that the next try needs."""
    try:
        yield
    except BaseException:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def working(*outputs: Path) -> Iterator[Work]:
    """The work of the engines at ``outputs``, beside the first; its folder is gone where the block ends well, and where
    nothing in it is worth keeping.

    Errors: GlmError("write-failed") where something else is there, another run writes, or nothing can be written.
    """
    folder = outputs[0].with_name(outputs[0].name + SUFFIX)
    try:
        check_free(outputs)
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            check_free(outputs)  # another run may have ended just now
            try:
                yield Work(outputs, folder)
            except BaseException:
                if os.listdir(folder) == [LOCK]:
                    shutil.rmtree(folder)
                raise
        shutil.rmtree(folder)
    except OSError as error:
        what = f"could not write: {error.strerror or error}"
        hint = remedy(error) + ("; what is finished is kept: run the same again" if folder.is_dir() else "")
        raise GlmError("write-failed", what, where=written_at(error) or str(outputs[0]), hint=hint) from error


def check_free(outputs: Sequence[Path]) -> None:
    """GlmError("write-failed") where an engine's place is taken."""
    for output in outputs:
        if os.path.lexists(output) and not (output.is_dir() and not os.listdir(output)):
            what = "the engine's folder is not empty" if output.is_dir() else "a file lies where the engine is to be"
            raise GlmError("write-failed", what, where=str(output), hint="choose another folder, or take that away")


def key_of(made_by: Mapping[str, Any]) -> str:
    """A hash of all that something is made of and by."""
    return hashlib.sha256(json.dumps(made_by, sort_keys=True, default=str).encode()).hexdigest()


def sums(folder: Path) -> dict[str, str]:
    """The hash of each file of a folder but its own record."""
    return {name: sum_of(folder / name).sha256 for name in sorted(os.listdir(folder)) if name != DONE}
