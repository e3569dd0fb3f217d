"""What an answer cost. Prefill and decode are measured apart; every figure says what it counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Stats:
    """Of one answer; seconds of wall time.

    ``prefill_s`` runs until the first token is known, ``decode_s`` covers the tokens after it.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0  # of the prompt, already in the cache
    generated_tokens: int = 0  # without the stop token
    decode_steps: int = 0  # forward passes after the prefill, the one that gave the stop token too
    accepted_drafts: int = 0  # tokens that were drafted, from the text itself or by a grammar, and are the model's own
    rejected_drafts: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    backend: str = ""

    @property
    def prefill_tokens_per_s(self) -> float:
        fresh = self.prompt_tokens - self.reused_tokens
        return fresh / self.prefill_s if self.prefill_s else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens after the first one, which belongs to the prefill, per second: one a forward pass, and those that were
        drafted rightly."""
        return (self.decode_steps + self.accepted_drafts) / self.decode_s if self.decode_s else 0.0

    @property
    def time_to_first_token_s(self) -> float:
        return self.prefill_s

    def to_json(self) -> dict[str, float | int | str]:
        return {
            **asdict(self),
            "prefill_tokens_per_s": self.prefill_tokens_per_s,
            "decode_tokens_per_s": self.decode_tokens_per_s,
            "time_to_first_token_s": self.time_to_first_token_s,
        }
