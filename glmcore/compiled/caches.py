"""The rows that an engine computes: their keys and values, and what each of them holds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glmcore.compiled.manifest import Manifest
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.models.inputs import PositionState


class Caches:
    """Keys and values of every layer, [rows, kv heads, total length + 1, head size], by their names in the manifest.

    ``held`` are the tokens of each row, whose keys and values lie in the slots of their indices; the last slot takes
    what padding writes and is never read. ``positions`` are ChatGLM-6B's alone, which depend on a row's prompt.
    """

    def __init__(self, manifest: Manifest, rows: int) -> None:
        config = manifest.config
        shape = (rows, config.num_kv_heads, manifest.total_len + 1, config.head_dim)
        self.total, self.rows = manifest.total_len, rows
        self.tensors: dict[str, Tensor] = {
            name: torch.zeros(shape, dtype=getattr(torch, stage.cache), device=torch.device(stage.device))
            for stage in manifest.stages
            for name in stage.caches
        }
        self.held: list[list[int]] = [[] for _ in range(rows)]
        self.positions: list[PositionState | None] = [None] * rows

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def forget(self) -> None:
        """Every row is empty again."""
        self.held = [[] for _ in range(self.rows)]
        self.positions = [None] * self.rows

    def begin(self, config: ModelConfig, prompts: Sequence[Sequence[int]]) -> None:
        """Each row is about to read its prompt, which may be empty."""
        if not config.traits.causal:
            self.positions = [PositionState(config, torch.tensor([list(row)])) if row else None for row in prompts]

    def following(self, row: int, tokens: Sequence[int], places: Tensor) -> Tensor:
        """The positions [S], or [2, S], of a row's next tokens, which go to the slots ``places`` [S]."""
        state = self.positions[row]
        if state is None:
            return places
        if not self.held[row]:
            return state.prompt()["position_ids"][0]
        return state.step(torch.tensor([list(tokens)]))["position_ids"][0]

    def context(self, row: int) -> int:
        """How many slots all tokens of a row see at least: what of ChatGLM-6B's prompt sees itself both ways."""
        state = self.positions[row]
        return 0 if state is None else state.context[0]

    def hold(self, pieces: Sequence[Sequence[int]]) -> None:
        """The rows hold these tokens, too."""
        for held, piece in zip(self.held, pieces, strict=True):
            held.extend(piece)

    def check_room(self, tokens: Sequence[Sequence[int]]) -> None:
        """GlmError("context-full") where a row cannot take its tokens."""
        longest = max(len(held) + len(new) for held, new in zip(self.held, tokens, strict=True))
        if longest > self.total:
            raise GlmError(
                "context-full", f"{longest} tokens do not fit into the engine's total length of {self.total}",
                hint="ask for fewer, or compile with a larger --total-len",
            )  # fmt: skip
