"""A tokenizer as llguidance reads it: the bytes of every id, and how text that is forced is tokenised."""

from __future__ import annotations

from glmcore.chat.incremental import Utf8
from glmcore.tokenizers import Tokenizer


class Vocabulary:
    """The ids of a model, in the form that ``llguidance.TokenizerWrapper`` asks for.

    size: the width of the logits, which may be more than the tokenizer has ids.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.tokenizer, self.eos_token_id = tokenizer, tokenizer.stop_ids[0]
        self.special_token_ids = sorted(tokenizer.control_ids)
        self.tokens = [tokenizer.bytes_of(index) for index in range(len(tokenizer))]
        self.tokens += [b""] * (size - len(self.tokens))

    def __call__(self, text: str) -> list[int]:
        return self.tokenizer.encode_within(text)


class Verbatim:
    """Ids to text, to the byte what the grammar has read: nothing is mended, so that what is valid stays so."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._bytes_of, self._silent = tokenizer.bytes_of, tokenizer.control_ids
        self._bytes = Utf8("replace")

    def push(self, token: int) -> str:
        return "" if token in self._silent else self._bytes.push(self._bytes_of(token))

    def flush(self) -> str:
        return self._bytes.flush()
