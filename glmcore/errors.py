"""One error type for every failure a user can cause, with a code that ``glmdoctor explain`` knows.

Shown as ``glmcore: error[CODE]: what, where, what to do``; the command line turns it into an exit status.
"""

from __future__ import annotations

import unicodedata
from typing import Any

# Code → what it stands for. A test keeps every code that the package raises in this table.
CODES: dict[str, str] = {
    "usage": "an option or argument that makes no sense",
    "model-path": "the model folder does not exist or is no folder",
    "adapter-invalid": "the adapter does not fit the model or is of a kind that is not read",
    "checkpoint-missing-file": "a file that the checkpoint needs is not there",
    "checkpoint-lfs-pointer": "a Git LFS pointer lies in place of a file",
    "checkpoint-html": "a web page was saved in place of a file",
    "checkpoint-damaged": "a file of the checkpoint is cut or damaged",
    "checkpoint-unsafe": "a pickle in the checkpoint would run code, or an index entry leaves the folder",
    "checkpoint-mismatch": "the tensors do not fit config.json",
    "config-invalid": "config.json is missing a field or holds an absurd value",
    "tokenizer-missing": "the tokenizer's file is not there",
    "tokenizer-damaged": "the tokenizer's file cannot be read",
    "tokenizer-mismatch": "the tokenizer belongs to another generation",
    "memory-short": "the model does not fit into the memory that is free",
    "kernel-build": "the CPU kernel could not be compiled",
    "kernel-file": "the kernel_file given cannot be used on this machine",
    "plan-invalid": "the plan does not fit the model or the devices",
    "stage-lost": "a stage of a model that is spread over processes or machines does not answer any more",
    "device-missing": "a device that was asked for is not there",
    "context-full": "the prompt is longer than the model's context",
    "not-finite": "the model produced NaN or infinite values",
    "packages-missing": "a Python package that this needs is not installed",
    "download-failed": "the hub could not be reached or sent something else",
    "dump-invalid": "what is to be compared is no dump of an engine, or a damaged one",
    "compile-failed": "an engine's graph could not be exported or compiled",
    "engine-invalid": "the folder is no engine, or its manifest cannot be read",
    "engine-damaged": "a file that an engine consists of is missing, cut or changed",
    "engine-foreign": "the engine was compiled for another machine, torch or kernel",
    "write-failed": "a file could not be written",
    "address-unusable": "the address to serve on is taken or not one of this machine",
    "cluster-unreachable": "no Ray cluster answers at the address",
    "cluster-unfit": "no node of the cluster can run the model",
    "replica-lost": "the process or machine of the cluster that made the answer was lost",
    "internal": "a bug in glmcore",
}


LONGEST = 400  # characters of each part of an error
# Control and format characters, surrogates, line and paragraph breaks; joiners belong to scripts and emoji.
UNSAFE, JOINERS = ("Cc", "Cf", "Cs", "Zl", "Zp"), "\u200c\u200d"


def plain(text: str, limit: int = LONGEST) -> str:
    """``text`` as one line that a terminal shows and does not obey: what is no character for reading is escaped.

    What is longer than ``limit`` loses its middle. A byte of a path that is no UTF-8 is shown as that byte.
    """
    text = str(text)
    if len(text) > limit:
        text = text[: limit // 2] + "…" + text[len(text) - limit // 2 + 1 :]
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in UNSAFE or character in JOINERS:
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return " " if character in "\r\n\t" else character.encode("unicode_escape").decode("ascii")


class GlmError(Exception):
    """A failure with a code, what happened, where, and what to do about it (each one line, safe to show)."""

    def __init__(self, code: str, what: str, *, where: str = "", hint: str = "") -> None:
        assert code in CODES, code
        super().__init__(plain(what))
        self.code, self.what, self.where, self.hint = code, plain(what), plain(where), plain(hint)

    def __reduce__(self) -> tuple[Any, ...]:
        """As another process reads it."""
        return _again, (self.code, self.what, self.where, self.hint)

    @property
    def exit_status(self) -> int:
        """2 for wrong usage; for what cannot be compared, too, as 1 says there that two things differ."""
        return 2 if self.code in ("usage", "dump-invalid") else 1

    def __str__(self) -> str:
        return ", ".join(part for part in (self.what, self.where, self.hint) if part)

    def line(self) -> str:
        """The one line that users see."""
        return f"glmcore: error[{self.code}]: {self}"


def _again(code: str, what: str, where: str, hint: str) -> GlmError:
    return GlmError(code, what, where=where, hint=hint)
