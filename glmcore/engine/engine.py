"""What users call: messages in, text out, on one model, one tokenizer and one cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glmcore.chat import process_response
from glmcore.chat.incremental import Detokenizer
from glmcore.chat.stops import StopMatcher
from glmcore.config import ModelConfig
from glmcore.engine.runner import Runner
from glmcore.engine.sampling import Sampler, Sampling
from glmcore.engine.sequence import Sequence as TokenSequence
from glmcore.engine.sequence import budget
from glmcore.engine.stats import Stats
from glmcore.tokenizers import Tokenizer

Message = Mapping[str, Any]

# (temperature, top_p) of the original chat() of each generation.
DEFAULTS = {"v1": (0.95, 0.7), "v2": (0.8, 0.8), "v3": (0.8, 0.8), "glm4": (0.8, 0.8)}


class Engine:
    """A loaded model that answers. Not for several threads at once: there is one cache."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer, runner: Runner, backend: str) -> None:
        self.config, self.tokenizer, self.runner, self.backend = config, tokenizer, runner, backend
        self.stats = Stats(backend=backend)

    def describe(self) -> str:
        """One line: what is loaded and how it runs."""
        config = self.config
        return f"{config.name} ({config.generation}, {config.num_layers} layers); {self.backend}"

    def chat(
        self,
        messages: Sequence[Message],
        *,
        max_new_tokens: int = 512,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str | dict[str, Any]:
        """The answer to OpenAI-shaped ``messages``: text, or with ``tools`` a message with tool calls.

        ``temperature`` 0 is greedy; None for it and ``top_p`` means the generation's own. ``messages`` are not changed.
        """
        settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
        answer = "".join(self.stream(messages, stop=stop, tools=tools, **settings))
        parsed = process_response(answer, self.config.generation) if tools else answer
        if not isinstance(parsed, Mapping):
            return answer
        call = {"type": "function", "function": {"name": parsed["name"], "arguments": parsed["parameters"]}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    def stream(
        self,
        messages: Sequence[Message],
        *,
        max_new_tokens: int = 512,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> Iterator[str]:
        """The answer in pieces whose join is the answer; no piece ends within a character."""
        prompt = self.tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True)
        own_temperature, own_top_p = DEFAULTS[self.config.generation]
        sampling = Sampling(
            own_temperature if temperature is None else temperature, own_top_p if top_p is None else top_p, seed
        )
        yield from self.stream_ids(prompt, max_new_tokens, sampling, stop)

    def stream_ids(
        self, prompt: Sequence[int], max_new_tokens: int, sampling: Sampling, stop: Sequence[str]
    ) -> Iterator[str]:
        """The text that follows the ids ``prompt``, until a stop token, a stop text or the budget ends it."""
        detokenizer, matcher = Detokenizer(self.tokenizer), StopMatcher(stop)
        for token in self.tokens(prompt, max_new_tokens, sampling):
            piece = matcher.push(detokenizer.push(token))
            if piece:
                yield piece
            if matcher.stopped:
                return
        rest = matcher.push(detokenizer.flush()) + matcher.flush()
        if rest:
            yield rest

    def tokens(self, prompt: Sequence[int], max_new_tokens: int, sampling: Sampling) -> Iterator[int]:
        """The token ids of the answer, one by one; the figures of the answer are in ``stats``."""
        allowed = budget(len(prompt), max_new_tokens, self.config.max_length)
        sequence = TokenSequence(tuple(prompt), allowed, frozenset(self.tokenizer.stop_ids))
        sampler = Sampler(sampling)
        self.stats = Stats(prompt_tokens=len(prompt), backend=self.backend)
        started = time.perf_counter()
        logits = self.runner.prefill(sequence.prompt, allowed)
        self.stats.reused_tokens = self.runner.reused
        token = sampler(logits)
        first_known = time.perf_counter()
        self.stats.prefill_s = first_known - started
        while sequence.push(token):
            self.stats.generated_tokens = len(sequence.output)
            yield token
            if sequence.finish_reason:
                break
            token = sampler(self.runner.decode(token))
            self.stats.decode_steps += 1
            self.stats.decode_s = time.perf_counter() - first_known

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int = 512, **settings: Any) -> list[str]:
        """Plain continuation of each text, without a chat template."""
        sampling = Sampling(**settings)
        return ["".join(self.stream_ids(self.encode(text), max_new_tokens, sampling, ())) for text in prompts]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=True)
