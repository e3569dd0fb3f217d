"""What users call: messages in, text out, on one model, one tokenizer and one cache."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from glmcore.chat.answer import AnswerStream
from glmcore.chat.incremental import Detokenizer
from glmcore.chat.messages import tool_names
from glmcore.chat.responses import clean_text, parse_call
from glmcore.chat.stops import StopMatcher
from glmcore.config import ModelConfig
from glmcore.engine.backend import describe_backend
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

    def placed(self) -> None:
        """To be called when the model has been moved: what the cache held is forgotten."""
        self.runner.forget()
        self.backend = describe_backend(self.runner.model)

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
        sampling = self.sampling(temperature, top_p, seed)
        text = "".join(self.text(self.sequence(self.prompt(messages, tools), max_new_tokens), sampling, stop))
        call = parse_call(text, self.config.generation, tool_names(messages, tools))
        if call is None:
            return clean_text(text, self.config.generation)
        function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
        return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}

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
        answer = AnswerStream(self.config.generation)
        sampling = self.sampling(temperature, top_p, seed)
        sequence = self.sequence(self.prompt(messages, tools), max_new_tokens)
        for text in self.text(sequence, sampling, stop):
            if piece := answer.push(text):
                yield piece
        if rest := answer.flush():
            yield rest

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None) -> list[int]:
        return self.tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True)

    def sampling(self, temperature: float | None, top_p: float | None, seed: int | None) -> Sampling:
        """The generation's own settings where None is given."""
        own_temperature, own_top_p = DEFAULTS[self.config.generation]
        return Sampling(
            own_temperature if temperature is None else temperature, own_top_p if top_p is None else top_p, seed
        )

    def sequence(self, prompt: Sequence[int], max_new_tokens: int) -> TokenSequence:
        """What is to follow the ids ``prompt``, within the context. Errors: GlmError("context-full")."""
        allowed = budget(len(prompt), max_new_tokens, self.config.max_length)
        stop_ids = frozenset({*self.tokenizer.stop_ids, *self.config.eos_token_ids})
        return TokenSequence(tuple(prompt), allowed, stop_ids)

    def text(
        self,
        sequence: TokenSequence,
        sampling: Sampling,
        stop: Sequence[str] = (),
        *,
        shown: Collection[str] = (),
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[str]:
        """The answer's text, uncleaned, piece by piece; then ``sequence`` says why it ended.

        stop: texts that end it. shown: special tokens that stand in the text by their names. cancelled: asked before
        each token; a prefill is not interrupted.
        """
        detokenizer, matcher = Detokenizer(self.tokenizer), StopMatcher(stop)
        special = self.tokenizer.special
        names = {special[name]: name for name in shown if name in special}
        for token in self.tokens(sequence, sampling):
            if cancelled():
                return sequence.end("cancelled")
            name = names.get(token)
            yield matcher.push(detokenizer.push(token) if name is None else detokenizer.flush() + name)
            if matcher.stopped:
                return sequence.end("stop")
        yield matcher.push(detokenizer.flush()) + matcher.flush()
        if matcher.stopped:
            sequence.end("stop")

    def tokens(self, sequence: TokenSequence, sampling: Sampling) -> Iterator[int]:
        """The token ids of the answer, one by one; the figures of the answer are in ``stats``.

        Where the model fails, the cache is emptied: it may hold less than it says, or what are no numbers.
        """
        self.stats = Stats(prompt_tokens=len(sequence.prompt), backend=self.backend)
        try:
            yield from self._made(sequence, Sampler(sampling))
        except Exception:
            self.runner.forget()
            raise

    def _made(self, sequence: TokenSequence, sampler: Sampler) -> Iterator[int]:
        """The tokens that the model makes after the prompt of ``sequence``, which takes them in."""
        started = time.perf_counter()
        logits = self.runner.prefill(sequence.prompt)
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
        encoded = [self.tokenizer.encode(text, add_special_tokens=True) for text in prompts]
        return ["".join(self.text(self.sequence(ids, max_new_tokens), sampling)) for ids in encoded]
