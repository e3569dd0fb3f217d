"""Which tokens may come next: grammars compiled for one model's vocabulary, and one answer's way through its own."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from glmcore import programs
from glmcore.chat.messages import short
from glmcore.errors import GlmError
from glmcore.extras import install_hint
from glmcore.grammar.forms import Grammar
from glmcore.grammar.trial import BYTES, SECONDS
from glmcore.grammar.vocabulary import Verbatim, Vocabulary
from glmcore.tokenizers import Tokenizer

if TYPE_CHECKING:
    import llguidance

KEPT = 32  # compiled grammars, those used last
TRIAL = Path(__file__).with_name("trial.py")
PATIENCE_S = 30  # of wall time for a trial, on a busy machine
# What llguidance says before it says what is wrong.
BEFORE = ("failed to compile JSON schema: ", "error: ")
# How it says that one of its own limits was reached.
LIMITS = ("fuel", "Unable to determine", "schema too large", "TooComplex")
TOO_MUCH = f"it takes more than {SECONDS} s of computing or {BYTES >> 30} GiB to prepare; make it smaller"
UNSPELLED = "the model's vocabulary has no token for what must come next"

log = logging.getLogger("glmcore")


class Grammars:
    """Compiles grammars for one tokenizer, from any thread. size: the width of the model's logits.

    What llguidance needs to know of the vocabulary is made with the first grammar (0.1 to 0.5 s).
    """

    def __init__(self, tokenizer: Tokenizer, size: int, stop_ids: Sequence[int]) -> None:
        self.tokenizer, self.size, self.stop_ids = tokenizer, size, tuple(stop_ids)
        self._kept: OrderedDict[Grammar, llguidance.LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, grammar: Grammar) -> Matcher:
        """A fresh one, at its beginning.

        Errors: GlmError("usage") for a grammar that is wrong, takes too much, or allows nothing;
        GlmError("packages-missing").
        """
        with self._lock:
            known = self._kept.pop(grammar, None) or self._compiled(grammar)
            self._kept[grammar] = known
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return Matcher(known.deep_copy(), self.stop_ids)

    def text_stream(self) -> Verbatim:
        """What the text of an answer by a grammar is decoded with."""
        return Verbatim(self.tokenizer)

    def _compiled(self, grammar: Grammar) -> llguidance.LLMatcher:
        library = _library()
        if error := tried(grammar.lark, self.size):
            raise refused(error, grammar.where)
        text, limits = library.LLMatcher.grammar_from_lark(grammar.lark), library.LLParserLimits(verbose_errors=False)
        made = library.LLMatcher(self._vocabulary, text, log_level=0, limits=limits)
        if not any(made.compute_bitmask()) and not made.is_accepting():
            raise refused(made.get_error() or UNSPELLED, grammar.where)
        return made

    @cached_property
    def _vocabulary(self) -> llguidance.LLTokenizer:
        library = _library()
        wrapper = library.TokenizerWrapper(Vocabulary(self.tokenizer, self.size))
        return library.LLTokenizer(wrapper, n_vocab=self.size)


class Matcher:
    """What an answer may still become. ``allowed`` before each token, ``note`` after it."""

    def __init__(self, matcher: llguidance.LLMatcher, stop_ids: Sequence[int]) -> None:
        self._matcher, self._stop_ids = matcher, frozenset(stop_ids)

    def allowed(self) -> bytearray:
        """One byte for each token [V]: 0 where it may not come next. An end may where the grammar is satisfied.

        Errors: GlmError("usage") where the grammar takes more than is allowed.
        """
        mask = bytearray(self._matcher.compute_logit_bias())
        end = self._matcher.is_accepting()
        if self._matcher.is_error() and not end:
            raise refused(self._matcher.get_error(), "")
        for token in self._stop_ids:
            mask[token] = end
        return mask

    def forced(self) -> list[int]:
        """The tokens that must come next, as far as there is no choice: before each of them only it is allowed.

        Nothing moves on by asking.
        """
        return self._matcher.compute_ff_tokens()

    def note(self, token: int) -> None:
        """Errors: as ``allowed``, and where the vocabulary spells what must come next in no way."""
        if token not in self._stop_ids and not self._matcher.consume_token(token):
            error = self._matcher.get_error()
            raise refused(UNSPELLED if "forced bytes" in error else error, "")


def tried(lark: str, tokens: int) -> str:
    """What is wrong with a grammar, "" where nothing is: compiled in a process that may take so much and no more."""
    child = programs.with_packages(programs.own_python(), str(TRIAL), str(tokens))
    done = programs.run(child, PATIENCE_S, stdin=lark)
    if done.code == 0:
        return done.out
    log.debug("the trial of a grammar ended with %s: %s", done.code, done.err)
    return TOO_MUCH


def refused(error: str, where: str) -> GlmError:
    """llguidance's own words, without the places in a grammar that the asker has never seen."""
    lines = error.splitlines()
    reason = next((line for line in lines if line.startswith("error: ")), lines[0])
    for line, pattern in pairwise(lines):
        if line.endswith("regex parse error:"):
            return GlmError("usage", f"pattern {short(pattern.strip())}: {reason.removeprefix('error: ')}", where=where)
    if any(word in reason for word in LIMITS):
        reason = TOO_MUCH
    for before in BEFORE:
        reason = reason.rpartition(before)[2]
    return GlmError("usage", reason.partition(". Enable")[0], where=where)


def _library() -> llguidance:
    try:
        import llguidance
    except ModuleNotFoundError:
        hint = install_hint("llguidance")
        raise GlmError("packages-missing", "answers by a grammar need llguidance", hint=hint) from None
    return llguidance
