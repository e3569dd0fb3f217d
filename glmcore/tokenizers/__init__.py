"""The original tokenizers of the generations, without remote code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glmcore.errors import GlmError
from glmcore.tokenizers.base import Tokenizer
from glmcore.tokenizers.files import NAMES, RANKED, tokenizer_file

if TYPE_CHECKING:
    from glmcore.config import ModelConfig

__all__ = ["Tokenizer", "load_tokenizer"]


def load_tokenizer(folder: str | Path, config: ModelConfig | str) -> Tokenizer:
    """The tokenizer in ``folder`` for a model's configuration, or for a generation by its name."""
    generation = config if isinstance(config, str) else config.generation
    path = tokenizer_file(Path(folder), generation)
    tokenizer = _open(path, generation, 0 if isinstance(config, str) else config.vocab_size)
    if not isinstance(config, str):
        _compare(tokenizer, config, path)
    return tokenizer


def _compare(tokenizer: Tokenizer, config: ModelConfig, path: Path) -> None:
    stated = config.raw.get("eos_token_id")
    ends = [stated] if isinstance(stated, int) else stated or []
    if len(tokenizer) > config.vocab_size:
        what = f"the tokenizer has {len(tokenizer)} tokens, the model only {config.vocab_size}"
    elif ends and tokenizer.eos_token_ids[0] not in ends:
        what = f"the tokenizer ends answers with token {tokenizer.eos_token_ids[0]}, the model with {stated}"
    else:
        return
    hint = "take the tokenizer file that was published with this checkpoint"
    raise GlmError("tokenizer-mismatch", what, where=str(path), hint=hint)


def _open(path: Path, generation: str, vocab_size: int) -> Tokenizer:
    # Each library is imported only for the generations that need it.
    if generation in RANKED:
        from glmcore.tokenizers.glm4 import Glm4Tokenizer

        return Glm4Tokenizer(path)
    if NAMES[generation].endswith(".json"):
        from glmcore.tokenizers.hf import HfTokenizer

        return HfTokenizer(path, generation)
    from glmcore.tokenizers.glm1 import Glm1Tokenizer, image_tokens
    from glmcore.tokenizers.glm2 import Glm2Tokenizer, Glm3Tokenizer

    if generation == Glm1Tokenizer.generation:
        return Glm1Tokenizer(path, image_tokens(path.parent, vocab_size))
    return {"v2": Glm2Tokenizer, "v3": Glm3Tokenizer}[generation](path)
