"""An engine that is open: prompts in, logits out, one token after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from glmcore.compiled.caches import Caches
from glmcore.compiled.inputs import Inputs, fill
from glmcore.compiled.manifest import Manifest
from glmcore.compiled.operators import SHORT_PROMPT
from glmcore.compiled.products import bound
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.place.loader import out_of_memory

# A compiled graph: its inputs and then its caches, in the manifest's order → what it returns.
Runner = Callable[[list[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Call:
    """One call of a role's graphs, for who watches: padding follows each row's own tokens."""

    role: str  # "prefill" or "decode"
    ids: Tensor  # [B, S] int64
    positions: Tensor  # [B, S], of ChatGLM-6B [B, 2, S]
    lengths: list[int]  # of each row's own tokens, 0 for a row that had none
    starts: list[int]  # the slot of each row's first token
    logits: Tensor  # [B, V] float32, after each row's last token
    states: list[Tensor] = field(default_factory=list)  # [B, S, H] of each layer, where a "golden" graph tells them


class Opened:
    """An engine whose files, machine and versions have been checked.

    ``watch`` is called after every call of graphs; while it is there, prompts go through the "golden" graph where the
    engine has one. One thread at a time may use it.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, runners: Mapping[str, Runner], weights: Mapping[str, int]
    ) -> None:
        """weights: bytes of the weights on each device."""
        self.folder, self.manifest = folder, manifest
        self.watch: Callable[[Call, Caches], None] | None = None
        self._runners, self._weights = runners, weights
        self._order = {stage.device: torch.arange(manifest.total_len, device=stage.device) for stage in manifest.stages}

    @property
    def config(self) -> ModelConfig:
        """Of the model as the graphs compute it."""
        return self.manifest.config

    def caches(self, rows: int | None = None) -> Caches:
        """Empty caches for so many rows, the least that the engine takes where None is given.

        Errors: GlmError("usage") for more or fewer rows than its graphs take, GlmError("memory-short").
        """
        least, most = self.manifest.batch
        rows = least if rows is None else rows
        if not least <= rows <= most:
            taken = str(least) if least == most else f"{least} to {most}"
            raise GlmError("usage", f"the engine takes {taken} rows at a time, not {rows}", hint="--static-batch-size")
        try:
            return Caches(self.manifest, rows)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            what = f"no memory is left for the keys and values of {rows} rows of {self.manifest.total_len} tokens"
            hint = "fewer rows (--static-batch-size), or an engine of a smaller --total-len"
            raise GlmError("memory-short", what, hint=hint) from error

    def length_for(self, longest: int) -> int:
        """The prefill length for prompts of up to ``longest`` tokens: the shortest that fits, else the longest.

        Errors: GlmError("usage") for an engine that only decodes, GlmError("context-full") where a prompt has to fit
        and does not.
        """
        lengths = self.manifest.lengths("prefill")
        if not lengths:
            raise GlmError("usage", "the engine has no prefill graph", where=str(self.folder), hint="glmcore combine")
        found = next((length for length in lengths if length >= longest), lengths[-1])
        if longest > found and not self.config.traits.causal:
            raise GlmError(
                "context-full",
                f"a prompt of {longest} tokens sees itself both ways and does not fit one round of {found}",
                hint=f"shorten it, or compile with --pre-len {longest} or more",
            )
        return found

    def rounds(self, prompts: Sequence[Sequence[int]], length: int | None = None) -> int:
        """How many calls the prompts take by graphs of that length (None: as ``length_for`` chooses)."""
        longest = max(map(len, prompts))
        return -(-longest // (length or self.length_for(longest)))

    def prefill(self, prompts: Sequence[Sequence[int]], caches: Caches, length: int | None = None) -> Tensor:
        """Logits [prompts, V] float32 after each prompt; the caches begin anew. Rows without a prompt stay empty.

        Longer prompts than ``length`` (None: as ``length_for`` chooses) go in rounds. Errors: GlmError("usage") for no
        prompt, an empty one, more than rows, or a length that no graph has; GlmError("context-full").
        """
        self._check_prompts(prompts, caches)
        longest = max(map(len, prompts))
        length = self._checked(length, longest)
        caches.forget()
        rows = [*map(list, prompts), *[[] for _ in range(caches.rows - len(prompts))]]
        caches.check_room(rows)
        caches.begin(self.config, rows)
        logits = torch.empty(len(prompts), self.config.vocab_size)
        bound.read(longest > SHORT_PROMPT)
        for start in range(0, longest, length):
            pieces = [row[start : start + length] for row in rows]
            after = self._call("prefill", length, pieces, caches)
            for number, piece in enumerate(pieces[: len(prompts)]):
                if piece:
                    logits[number] = after[number]
        return logits

    def decode(self, tokens: Sequence[int | None], caches: Caches) -> Tensor:
        """Logits [rows, V] float32 after one more token of each row; None for a row that has ended.

        Errors: GlmError("usage") for another number of rows, or an engine that only reads prompts;
        GlmError("context-full").
        """
        if len(tokens) != caches.rows:
            raise GlmError("usage", f"{len(tokens)} tokens are given for {caches.rows} rows")
        if "decode" not in self.manifest.roles:
            raise GlmError("usage", "the engine has no decode graph", where=str(self.folder), hint="glmcore combine")
        pieces = [[] if token is None else [token] for token in tokens]
        caches.check_room(pieces)
        bound.read(False)
        return self._call("decode", 1, pieces, caches)

    def bytes_taken(self, caches: Caches) -> dict[str, dict[str, int]]:
        """Device → bytes of "weights" and "kv_cache" that lie there now, to be held against the plan's."""
        found = {device: {"weights": size, "kv_cache": 0} for device, size in self._weights.items()}
        for stage in self.manifest.stages:
            found[stage.device]["kv_cache"] += sum(caches.tensors[name].nbytes for name in stage.caches)
        return found

    def _check_prompts(self, prompts: Sequence[Sequence[int]], caches: Caches) -> None:
        if not prompts or not all(prompts):
            raise GlmError("usage", "a prompt is empty", hint="give at least one token")
        if len(prompts) > caches.rows:
            raise GlmError("usage", f"{len(prompts)} prompts do not fit into {caches.rows} rows")

    def _checked(self, length: int | None, longest: int) -> int:
        fitting = self.length_for(longest)
        lengths = self.manifest.lengths("prefill")
        if length is None:
            return fitting
        if length not in lengths:
            known = ", ".join(map(str, lengths))
            raise GlmError("usage", f"the engine has no prefill of {length} tokens", hint=f"it has {known}")
        if longest > length and not self.config.traits.causal:
            raise GlmError(
                "context-full",
                f"a prompt of {longest} tokens sees itself both ways and does not fit one round of {length}",
                hint=f"take the prefill of {fitting}" if fitting >= longest else "shorten it",
            )  # fmt: skip
        return length

    def _call(self, role: str, length: int, pieces: list[list[int]], caches: Caches) -> Tensor:
        """Logits [rows, V] after one call of a role's graphs, whose tokens the rows hold from then on."""
        inputs = fill(self.config, length, pieces, caches)
        shown = "golden" if self.watch and role == "prefill" and length in self.manifest.lengths("golden") else role
        starts = [len(held) for held in caches.held]
        logits, states = self._through(shown, length, inputs, caches)
        caches.hold(pieces)
        if self.watch is not None:
            lengths = list(map(len, pieces))
            self.watch(Call(role, inputs.ids, inputs.positions, lengths, starts, logits, states), caches)
        return logits

    def _through(self, role: str, length: int, inputs: Inputs, caches: Caches) -> tuple[Tensor, list[Tensor]]:
        """One stage after the other, each on its device: logits and what else the last calls return."""
        taken, states = inputs.ids, []
        for graph in self.manifest.stages_of(role, length):
            stage = self.manifest.stages[graph.stage]
            device = torch.device(stage.device)
            moved = taken.to(device) if graph.stage == 0 else taken.to(device, getattr(torch, stage.computing))
            shared = (tensor.to(device) for tensor in inputs.shared)
            order = self._order[stage.device][: inputs.extent]
            taken, *shown = self._runners[graph.name](
                [moved, *shared, order, *(caches.tensors[n] for n in stage.caches)]
            )
            states += shown
        return taken.float().cpu(), states
