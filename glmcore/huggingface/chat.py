"""``chat``, ``stream_chat`` and ``quantize`` as the original classes have them: same arguments, same results.

Three things differ on purpose: a caller's history is never changed, text never poses as a special token, and a token
that is forbidden (-inf) does not count as a broken model.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from glmcore.chat.messages import from_pairs
from glmcore.chat.responses import process_response
from glmcore.chat.stops import drop_stop
from glmcore.engine.sequence import common_prefix
from glmcore.errors import GlmError
from glmcore.huggingface.caches import CACHE_NAME
from glmcore.quant.convert import quantize_model
from glmcore.tokenizers import Tokenizer
from glmcore.traits import TRAITS

# What may follow ``history`` without its name.
AFTER_HISTORY = {
    "v1": ("max_length", "num_beams", "do_sample", "top_p", "temperature", "logits_processor"),
    "v2": ("max_length", "num_beams", "do_sample", "top_p", "temperature", "logits_processor"),
    "v3": ("role", "max_length", "num_beams", "do_sample", "top_p", "temperature", "logits_processor"),
    "glm4": ("role", "max_length", "num_beams", "do_sample", "top_p", "temperature", "logits_processor"),
}
MAX_LENGTH = {"v1": 2048, "v2": 8192, "v3": 8192, "glm4": 8192}  # the prompt's tokens included
# Drawn where logits are NaN or infinite: InvalidScoreLogitsProcessor of each generation's modeling_chatglm.py.
FALLBACK = {"v1": 5, "v2": 5, "v3": 5, "glm4": 198}
HELD = "_glmcore_ids"
INCOMPLETE = "\ufffd"


class ChatMixin:
    """What users of the original classes call besides ``generate``."""

    def chat(
        self, tokenizer: Any, query: str, history: Sequence[Any] | None = None, *more: Any, **settings: Any
    ) -> tuple[Any, list[Any]]:
        """(answer, history with this round) to ``query``; ``more`` and ``settings`` are the original's and generate's.

        history: (query, answer) pairs for ChatGLM-6B and ChatGLM2-6B, messages for ChatGLM3-6B and GLM-4, whose answer
        may be a tool call (a dict). As in the original, an answer of theirs that max_length cuts lacks its last token.
        """
        generation = self.native.config.generation
        settings |= _named(AFTER_HISTORY[generation], more)
        role = _role(generation, settings)
        ids, settings = self._prompt_and_settings(tokenizer, query, history, role, settings)
        made = self.generate(torch.tensor([ids], device=self.device), **settings)
        answer = made[0, len(ids) :].tolist()
        answer = drop_stop(answer, settings["eos_token_id"]) if _of_pairs(generation) else answer[:-1]
        return _answered(generation, _text(tokenizer, answer), query, history, role)

    def stream_chat(
        self, tokenizer: Any, query: str, history: Sequence[Any] | None = None, *more: Any, **settings: Any
    ) -> Iterator[tuple[Any, ...]]:
        """(answer so far, history) again and again, with the cache as a third where return_past_key_values is true.

        past_key_values: a cache that an earlier call returned; what it holds of the prompt is not computed again.
        Errors: GlmError("usage") for a cache with ChatGLM-6B, or for another tokenizer than ours.
        """
        generation, causal = self.native.config.generation, self.native.config.traits.causal
        names = [name for name in AFTER_HISTORY[generation] if name != "num_beams"]
        if causal:
            names.insert(names.index("max_length"), "past_key_values")
        settings |= _named(names, more)
        role, cache = _role(generation, settings), settings.pop("past_key_values", None)
        returned = settings.pop("return_past_key_values", False)
        if not causal and (cache is not None or returned):
            raise GlmError("usage", "ChatGLM-6B reads every prompt anew: a cache is of no use for the next round")
        ids, settings = self._prompt_and_settings(tokenizer, query, history, role, settings)
        cache = DynamicCache() if cache is None else _cut(cache, ids)
        for answer, last in self._steps(ids, settings | {CACHE_NAME: cache}):
            setattr(cache, HELD, ids + answer[: int(cache.get_seq_length()) - len(ids)])
            if generation == "v1" and last:
                return  # the original stops before it shows the last token
            text = _text(tokenizer, answer if _of_pairs(generation) else answer[:-1])
            if _of_pairs(generation) or (text and not text.endswith(INCOMPLETE)):
                told = _answered(generation, text, query, history, role)
                yield (*told, cache) if returned else told

    def quantize(self, bits: int, empty_init: bool = False, **_: Any) -> Any:
        """This model with the linears of its layers in int8 or int4, in place; 0 leaves it as it is.

        ``empty_init`` and others that the original takes make no difference. Errors: GlmError("usage") for other bits.
        """
        if bits not in (0, 4, 8):
            raise GlmError("usage", f"quantize takes 4 or 8 bits, not {bits!r}")
        if not bits or self.native.config.quantization_bit:
            return self
        quantize_model(self, bits, in_float32=self.native.config.traits.scales_in_float32)
        self.config.quantization_bit = bits
        self.native.config = self.config.native
        self.use_kernel()
        return self

    def _prompt_and_settings(
        self, tokenizer: Any, query: str, history: Sequence[Any] | None, role: str, settings: dict[str, Any]
    ) -> tuple[list[int], dict[str, Any]]:
        """The prompt's ids, and what ``generate`` is given."""
        native = getattr(tokenizer, "native", None)
        if not isinstance(native, Tokenizer):
            raise GlmError("usage", "chat needs the tokenizer of AutoTokenizer.from_pretrained", hint="after importing "
                           "glmcore.huggingface")  # fmt: skip
        generation = self.native.config.generation
        if _of_pairs(generation):
            messages = from_pairs(history or (), query)
        else:
            messages = [*(history or ()), {"role": role, "content": query}]
        temperature, top_p = TRAITS[generation].sampling
        given = {"max_length": MAX_LENGTH[generation], "num_beams": 1, "do_sample": True, "top_p": top_p,
                 "temperature": temperature, **settings}  # fmt: skip
        if not given["do_sample"]:
            given = {name: value for name, value in given.items() if name not in ("top_p", "temperature")}
        if "max_new_tokens" in settings and "max_length" not in settings:
            del given["max_length"]
        given["logits_processor"] = LogitsProcessorList([*(given.get("logits_processor") or ()), _Finite(generation)])
        given.setdefault("eos_token_id", sorted({*native.stop_ids, *self.native.config.eos_token_ids}))
        ids = native.apply_chat_template(messages, add_generation_prompt=True)
        return ids, given | {"attention_mask": torch.ones(1, len(ids), dtype=torch.long, device=self.device)}

    def _steps(self, ids: list[int], settings: dict[str, Any]) -> Iterator[tuple[list[int], bool]]:
        """(the ids so far, whether they are all), token by token, out of a ``generate`` in a thread of its own."""
        tokens, leaving, failures = _Tokens(), threading.Event(), []

        def work() -> None:
            criteria = StoppingCriteriaList([*(settings.pop("stopping_criteria", None) or ()), _Left(leaving)])
            try:
                prompt = torch.tensor([ids], device=self.device)
                self.generate(prompt, **settings, streamer=tokens, stopping_criteria=criteria)
            except BaseException as error:  # it is raised where the answer is read
                failures.append(error)
            finally:
                tokens.end()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            answer: list[int] = []
            coming = tokens.queue.get()
            while coming is not None:
                answer.append(coming)
                coming = tokens.queue.get()
                yield list(answer), coming is None
        finally:
            leaving.set()
            thread.join()
        if failures:
            raise failures[0]


class _Tokens(BaseStreamer):
    """The tokens that ``generate`` makes, after those of the prompt; None at the end."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        for token in value.flatten().tolist() if self._prompt_seen else ():
            self.queue.put(token)
        self._prompt_seen = True

    def end(self) -> None:
        self.queue.put(None)


class _Finite(LogitsProcessor):
    """Lets an answer go on where the model gave NaN or infinity, as the originals do: with a token of their choice."""

    def __init__(self, generation: str) -> None:
        self.token = FALLBACK[generation]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores [B, V]; -inf is what others forbid tokens with, and bad only where nothing is left."""
        broken = ~torch.isfinite(scores.amax(-1, keepdim=True))  # the largest of NaN is NaN
        chosen = torch.zeros_like(scores)
        chosen[:, self.token] = 5e4
        return torch.where(broken, chosen, scores)


class _Left(StoppingCriteria):
    """Ends a generation whose answer nobody reads any more."""

    def __init__(self, leaving: threading.Event) -> None:
        self.leaving = leaving

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return torch.full((len(input_ids),), self.leaving.is_set(), dtype=torch.bool, device=input_ids.device)


def _of_pairs(generation: str) -> bool:
    """Whether its history is of (question, answer) pairs, else of messages."""
    return TRAITS[generation].rounds is not None


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    if len(values) > len(names):
        raise GlmError("usage", f"after history come at most {', '.join(names)}")
    return dict(zip(names, values, strict=False))


def _role(generation: str, settings: dict[str, Any]) -> str:
    """Of the query; ChatGLM-6B and ChatGLM2-6B know but one."""
    return "user" if _of_pairs(generation) else settings.pop("role", "user")


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.native.decode(ids, skip_special_tokens=True))


def _answered(
    generation: str, text: str, query: str, history: Sequence[Any] | None, role: str
) -> tuple[Any, list[Any]]:
    if _of_pairs(generation):
        answer = process_response(text, generation)
        return answer, [*(history or ()), (query, answer)]
    answer, grown = process_response(text, generation, [*(history or ()), {"role": role, "content": query}])
    return answer, grown


def _cut(cache: Any, ids: Sequence[int]) -> Any:
    """The cache with no more than it holds of ``ids``, of which one at least is left to compute."""
    held = getattr(cache, HELD, None)
    if held is None:
        raise GlmError("usage", "past_key_values is no cache that stream_chat returned")
    keep = min(common_prefix(held, ids), len(ids) - 1)
    surplus = int(cache.get_seq_length()) - keep
    if surplus:
        cache.crop(-surplus)
    return cache
