"""The throughput block that ``glmcore infer`` prints, word for word that of the tool chain it stands in for. Pure.

Its terms: the *base* model is the prefill graph, a round one call of it; the *incremental* model is the decode graph.
Every answer's first token is the base model's, all others are the incremental model's. Its "base throughput" counts
rounds, not the tokens of the prompt: hence two lines more. docs/compile.md has its printed example worked out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

RULE = "=" * 44


@dataclass(frozen=True)
class Throughput:
    """What was counted and timed: ``rows`` answers side by side or one after the other; seconds of wall time.

    All counts are sums over the rows, of what is their own: no padding, nothing after a row's end. An end token counts,
    as it took a run like any other.
    """

    rows: int
    rounds: int  # calls of the base model that the prompts took
    prompt_tokens: int
    tokens: int  # of the answers
    base_s: float
    incremental_s: float

    @property
    def base_throughput(self) -> float:
        """Rounds per second."""
        return _rate(self.rounds, self.base_s)

    @property
    def incremental_throughput(self) -> float:
        """Tokens per second of the incremental model."""
        return _rate(self.tokens - self.rows, self.incremental_s)

    @property
    def infer_s(self) -> float:
        return self.base_s + self.incremental_s

    @property
    def average_throughput(self) -> float:
        """Tokens of all answers per second of the whole."""
        return _rate(self.tokens, self.infer_s)

    @property
    def prompt_tokens_per_s(self) -> float:
        """Tokens of the prompts per second of the base model."""
        return _rate(self.prompt_tokens, self.base_s)

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens after each answer's first per second of the incremental model, as ``glmcore bench`` counts them."""
        return self.incremental_throughput

    def text(self) -> str:
        return "\n".join(
            [
                RULE,
                f"base infer time: {self.base_s:.6f} (s)",
                f"base throughput: {self.base_throughput:.3f} (tokens/s)",
                f"incremental infer time: {self.incremental_s:.6f} (s)",
                f"incremental throughput: {self.incremental_throughput:.3f} (tokens/s)",
                f"infer time: {self.infer_s:.6f} (s)",
                f"infer tokens: {self.tokens}",
                f"average throughput: {self.average_throughput:.3f} (tokens/s)",
                RULE,
                f"prompt tokens/s: {self.prompt_tokens_per_s:.3f}",
                f"decode tokens/s: {self.decode_tokens_per_s:.3f}",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "base_throughput": self.base_throughput,
            "incremental_throughput": self.incremental_throughput,
            "infer_s": self.infer_s,
            "average_throughput": self.average_throughput,
            "prompt_tokens_per_s": self.prompt_tokens_per_s,
            "decode_tokens_per_s": self.decode_tokens_per_s,
        }


def _rate(count: int, seconds: float) -> float:
    """``count`` per second, 0 where nothing was timed."""
    return count / seconds if count and seconds else 0.0
