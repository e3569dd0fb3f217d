"""Some layers of a model with their rows of the cache: hidden states in, hidden states or logits out.

A stage decides nothing: which rows there are, what they hold and where a token goes is said by each call.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from glmcore.engine.backend import describe_backend
from glmcore.engine.native import SHORT_PROMPT, Pass, native_model
from glmcore.engine.runner import CACHE_BLOCK, bytes_of, cache_dtypes, layer_devices
from glmcore.engine.stages.calls import (
    Answered,
    Call,
    Copy,
    Describe,
    Drop,
    Facts,
    Failed,
    Forget,
    Holdings,
    Put,
    Report,
    Reshape,
    Settle,
    Take,
    Work,
)
from glmcore.engine.ways.module import module_habits
from glmcore.engine.ways.native import native_habits
from glmcore.errors import GlmError
from glmcore.kernels import abi
from glmcore.models.cache import KVCache, Taken
from glmcore.place.loader import out_of_memory
from glmcore.place.part import Part

log = logging.getLogger("glmcore")


class Stage:
    """The layers of ``part``, which ``model`` has. ``run`` is all that a leader needs; one thread may call it.

    kept: the type of keys and values on the CPU. room: tokens that all rows together have memory for. adapted: whether
    the model has an adapter, be it on layers elsewhere: then all of it runs through its modules, as in one piece.
    """

    def __init__(
        self, name: str, model: nn.Module, part: Part, kept: str | None, room: int, *, adapted: bool = False
    ) -> None:
        self.name, self.model, self.part, self.kept, self.room = name, model, part, kept, room
        self.native = None if adapted else native_model(model, part.own_config)
        habits = module_habits(model) if self.native is None else native_habits(self.native)
        # A piece is one pass here: it is the leader who has several under way.
        self.habits = habits if habits.grid == 1 else replace(habits, piece=habits.grid)
        self._forget(min(CACHE_BLOCK, part.config.max_length))

    def run(self, call: Call, before: np.ndarray | Failed | None = None) -> Answered:
        """Do what is asked. before: what the stage before this one answered to the same call.

        Nothing is raised: what goes wrong is a ``Failed``, which says at which stage.
        """
        if isinstance(before, Failed):
            return before
        try:
            with torch.inference_mode():
                return self._do(call, before)
        except GlmError as error:
            return Failed(error.code, error.what, f"stage {self.name}: {error.where}".removesuffix(": "), error.hint)
        except Exception as error:
            if out_of_memory(error):
                what = "no memory is left for more tokens"
                return Failed("memory-short", what, f"stage {self.name}", "ask for less at once: --parallel, --context")
            log.error("a stage failed: %s", type(error).__name__, exc_info=error)
            return Failed("internal", f"{type(error).__name__}: {error}", f"stage {self.name}", "see the log there")

    def _do(self, call: Call, before: np.ndarray | None) -> Answered:
        match call:
            case Work():
                return self._work(call, before)
            case Reshape(rows, capacity, kept):
                self.ready = copy.copy(self.cache)
                self.ready.reshape(rows, capacity, kept)
            case Settle(use):
                self.cache, self.ready = (self.ready if use and self.ready else self.cache), None
            case Copy(source, target, count):
                self.cache.copy_row(source, target, count)
            case Take(number, row, count):
                self.taken[number] = self.cache.take(row, count)
            case Put(number, row, count):
                self.cache.put(row, self.taken[number], count)
            case Drop(numbers):
                for number in numbers:
                    self.taken.pop(number, None)
                    self.going.pop(number, None)
            case Forget(capacity):
                self._forget(capacity)
            case Describe():
                return self.facts
            case Report():
                return Holdings(self.cache.batch, self.cache.capacity, len(self.taken))
        return None

    def _forget(self, capacity: int) -> None:
        self.taken: dict[int, Taken] = {}
        self.going: dict[int, Pass] = {}  # between two of its stretches
        self.cache = self._new_cache(1, capacity)
        self.ready: KVCache | None = None  # of another shape
        self.spare: KVCache | None = None  # of trials

    def _new_cache(self, rows: int, capacity: int) -> KVCache:
        dtypes, devices = cache_dtypes(self.model, self.kept), layer_devices(self.model)
        return KVCache(self.part.own_config, rows, capacity, dtypes, devices)

    def _work(self, work: Work, before: np.ndarray | None) -> np.ndarray:
        """Hidden states [S, hidden size], or after the model's last layer logits [wanted, V]; float32.

        Of stretches before the last one here nothing: [0, hidden size].
        """
        if work.number not in self.going and (before is None) != (self.part.first == 0):
            raise GlmError("internal", "hidden states are given to the first layer alone")
        cache = self._spare(len(work.ids)) if work.trial else self.cache
        hidden = None if before is None else torch.tensor(before)  # in memory of its own: it is written to
        native = self.native is not None and (not work.prompt or self.native.takes(work.prompt))
        found = self._natively(work, cache, hidden) if native else self._by_modules(work, cache, hidden)
        return found.float().cpu().numpy()

    def _spare(self, rows: int) -> KVCache:
        if self.spare is None or self.spare.batch < rows:
            self.spare = self._new_cache(rows, 1)
        return self.spare

    def _natively(self, work: Work, cache: KVCache, hidden: Tensor | None) -> Tensor:
        """All rows in one call of the kernel, or a stretch at a time."""
        going = self.going.pop(work.number, None) or self._begun(work, cache, hidden)
        going.cache = cache  # which may have grown since
        if not work.stretches:
            going.run()
            return going.logits if self.part.is_last else going.hidden
        for stretch in work.stretches:
            going.run_some(stretch._replace(layer=stretch.layer - self.part.first))
        if stretch != (self.part.last - 1, abi.SEEING, stretch.first, len(going.hidden)):
            self.going[work.number] = going
            return going.hidden[:0]
        return going.finish() if self.part.is_last else going.hidden

    def _begun(self, work: Work, cache: KVCache, hidden: Tensor | None) -> Pass:
        assert self.native is not None
        ids, rows, places, positions = map(torch.tensor, (work.ids, work.rows, work.places, work.positions))
        return Pass(
            self.native, cache, ids, rows, places, (places + 1).clamp_min(work.context), positions,
            wanted=work.wanted if self.part.is_last else 0,
            answers=0 if work.prompt > SHORT_PROMPT else len(ids), hidden=hidden,
        )  # fmt: skip

    def _by_modules(self, work: Work, cache: KVCache, hidden: Tensor | None) -> Tensor:
        """Pass by pass, of the shapes that each would have in a model on one machine."""
        if work.stretches:
            raise GlmError("internal", "a stage that runs through its modules is not interrupted")
        found = torch.cat([self._pass(work, span, cache, hidden) for span in self._spans(work)])
        return found[len(found) - work.wanted :] if self.part.is_last else found

    def _spans(self, work: Work) -> Iterator[slice]:
        """Of a prompt a chunk each, of answers a row each; ChatGLM-6B's prompt is one."""
        count = len(work.ids)
        if not work.prompt:
            edges = [0, *(np.flatnonzero(np.diff(work.rows)) + 1), count]
        else:
            edges = [*range(0, count, self.habits.grid if self.part.config.traits.causal else count), count]
        return (slice(first, last) for first, last in pairwise(edges))

    def _pass(self, work: Work, span: slice, cache: KVCache, hidden: Tensor | None) -> Tensor:
        """[S, hidden size] or [S or 1, V] of the tokens of one row."""
        device, dtype = layer_devices(self.model)[0], self.model.layers[0].input_layernorm.weight.dtype
        row, place = int(work.rows[span][0]), int(work.places[span][0])
        # On an empty row the model finds the positions and the mask of a prompt by itself.
        positions = torch.tensor(work.positions[..., span], device=device) if place else None
        given = None if hidden is None else hidden[span].to(device, dtype)[None]
        ids = torch.tensor(work.ids[span], device=device)[None]
        last_only = bool(work.prompt) and self.part.is_last
        return self.model(ids, positions, cache=cache.view(row, place), last_only=last_only, embeddings=given)[0]

    @property
    def facts(self) -> Facts:
        part, whole, devices = self.part, self.part.config, {}
        for number, device in enumerate(layer_devices(self.model), part.first):
            devices.setdefault(str(device), []).append(number)
        return Facts(
            name=self.name, first=part.first, last=part.last, layers=whole.num_layers, model=whole.name,
            generation=whole.generation, bits=whole.quantization_bit, devices=devices,
            backend=describe_backend(self.model), habits=self.habits,
            interruptible=self.native is not None and self.native.quantised,
            weights_bytes=bytes_of(self.model),
            row_bytes=self.cache.nbytes // (self.cache.batch * self.cache.capacity), room=self.room,
        )  # fmt: skip
