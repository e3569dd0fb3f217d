"""What users call: messages in, text out, on one model, one tokenizer and one cache."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import torch

from glmcore.chat.begun import check_begun
from glmcore.chat.calls import Arguments, Calling
from glmcore.chat.deltas import NEXT_MESSAGE, Deltas, calls_of
from glmcore.chat.reasoning import Thought
from glmcore.config import ModelConfig
from glmcore.engine.batch.answer import Answer
from glmcore.engine.batch.loop import MAX_STALL, Loop
from glmcore.engine.batch.prefixes import USUAL
from glmcore.engine.batch.room import Room
from glmcore.engine.batch.scheduler import Scheduler
from glmcore.engine.observers import MeanState, Observer, PromptLogprobs
from glmcore.engine.runner import Runner
from glmcore.engine.sampling import Sampler, Sampling
from glmcore.engine.sequence import Sequence as TokenSequence
from glmcore.engine.sequence import budget
from glmcore.engine.stats import Stats
from glmcore.engine.text import AnswerText
from glmcore.engine.ways import Showing
from glmcore.errors import GlmError
from glmcore.grammar.forms import Grammar
from glmcore.grammar.matcher import Grammars
from glmcore.grammar.shape import Shape, shaped
from glmcore.plan import Plan
from glmcore.tokenizers import Tokenizer

Message = Mapping[str, Any]


class Engine:
    """A loaded model that answers, from any thread and any number of questions at once.

    ``stats`` are those of the answer that was asked for last.
    """

    cluster: Any = None  # what tells of its nodes (``glmcore.cluster.figures``), where it has any

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer, runner: Runner, backend: str, *, parallel: int | None = None,
        context: int | None = None, max_stall: float = MAX_STALL, room: Room | None = None,
        prefix_bytes: int = USUAL, lookup: bool = True, plan: Plan | None = None,
    ) -> None:  # fmt: skip
        self.understand(config, tokenizer)
        self.runner, self.backend = runner, backend
        room = room or Room()
        self.context = min(config.max_length, context or sys.maxsize, room.tokens)
        self.plan = plan  # by which the model was loaded, until it is moved
        self.stats = Stats(backend=backend)
        self.loop = Loop(
            runner, Scheduler(parallel or runner.way.together, room.fits), max_stall=max_stall,
            prefix_bytes=prefix_bytes, lookup=lookup,
        )  # fmt: skip

    def understand(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        """Make ready what requests are read by, for which no weights are needed."""
        self.config, self.tokenizer = config, tokenizer
        self.stop_ids = frozenset({*tokenizer.stop_ids, *config.eos_token_ids})
        self.grammars = Grammars(tokenizer, config.vocab_size, sorted(self.stop_ids))

    def placed(self) -> None:
        """To be called when the model has been moved: what the cache held is forgotten."""
        self.loop.forget()
        self.plan = None
        self.backend = self.runner.describe_backend()

    @property
    def parallel(self) -> int:
        """Answers that are made at once."""
        return self.loop.scheduler.parallel

    def together(self) -> AbstractContextManager[object]:
        """What is submitted within it begins in the same turn."""
        return self.loop.together()

    @property
    def tells_states(self) -> bool:
        """Whether it can show what a prompt leaves: for logprobs of its tokens, and for embeddings."""
        return isinstance(self.runner.way, Showing)

    @property
    def weights_bytes(self) -> int:
        """Of the model, as it is kept."""
        return self.runner.weights_bytes

    def idle_within(self, seconds: float) -> bool:
        """Whether all that was submitted ends in that time."""
        return self.loop.idle_within(seconds)

    def placement(self) -> dict[str, list[int]]:
        """Device → its layers, counted from 0, as they lie now."""
        devices: dict[str, list[int]] = {}
        for layer, device in enumerate(self.runner.layer_devices):
            devices.setdefault(device, []).append(layer)
        return devices

    def prefix_cache(self) -> dict[str, int]:
        """What earlier prompts left, in the rows of the cache and beside them."""
        seats = self.loop.seats
        return {
            "bytes": seats.prefixes.nbytes,
            "limit_bytes": seats.prefixes.most_bytes,
            "entries": len(seats.prefixes.kept),
            "found_tokens": seats.reused,
        }

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
        **asked: Any,
    ) -> str | dict[str, Any]:
        """The answer to OpenAI-shaped ``messages``: text, or a message where there are tool calls. No thoughts.

        ``temperature`` 0 is greedy; None for it and ``top_p`` means the generation's own. ``messages`` are not changed.
        asked: ``tools``, ``tool_choice``, ``parallel_tool_calls``, ``response_format`` as for `shaped`: calls and JSON
        are then valid, if ``max_new_tokens`` suffice.
        """
        shape = self.shaped(messages, **asked)
        answer = self._shaped_answer(shape, max_new_tokens=max_new_tokens, stop=stop,
                                     sampling=self.sampling(temperature, top_p, seed))  # fmt: skip
        deltas = self._deltas(shape)
        said = [*deltas.push(answer.text()), *deltas.finish()]
        text = "".join(part for part in said if isinstance(part, str))
        calls = [{"type": "function", "function": call} for call in calls_of(said)]
        return {"role": "assistant", "content": text or None, "tool_calls": calls} if calls else text

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
        tool_choice: Any = None,
        parallel_tool_calls: bool | None = None,
        response_format: Mapping[str, Any] | None = None,
        think: Callable[[str], None] = lambda thought: None,
        call: Callable[[Calling | Arguments], None] = lambda part: None,
        **more: Any,
    ) -> Iterator[str]:
        """The answer in pieces whose join is the answer; no piece ends within a character.

        ``think`` is told the thoughts that come before it, where the model has any, ``call`` that a tool call begins
        and then the pieces of its arguments' JSON; ``more`` as for `sampling`.
        """
        shape = self.shaped(messages, tools=tools, tool_choice=tool_choice, parallel_tool_calls=parallel_tool_calls,
                            response_format=response_format)  # fmt: skip
        answer = self._shaped_answer(shape, max_new_tokens=max_new_tokens, stop=stop,
                                     sampling=self.sampling(temperature, top_p, seed, **more))  # fmt: skip
        deltas = self._deltas(shape)
        pieces = chain((deltas.push(piece.text) for piece in answer), (deltas.finish() for _ in range(1)))
        for delta in chain.from_iterable(pieces):
            if isinstance(delta, str):
                yield delta
            elif isinstance(delta, Thought):
                think(delta.text)
            else:
                call(delta)

    def _shaped_answer(self, shape: Shape, **settings: Any) -> Answer:
        shown = (NEXT_MESSAGE,) if shape.names else ()
        return self.submit(self.prompt(shape.messages, shape.tools), shown=shown, grammar=shape.grammar, **settings)

    def _deltas(self, shape: Shape) -> Deltas:
        return Deltas(self.config.generation, shape.names, verbatim=shape.held)

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, *, begun: bool = False
    ) -> list[int]:
        """The ids that an answer follows. begun: the last message is its beginning, from which the model goes on.

        Errors: GlmError("usage").
        """
        if begun:
            check_begun(messages, self.config.generation)
        return self.tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=not begun)

    def shaped(self, messages: Sequence[Message], **asked: Any) -> Shape:
        """What the model is told, and the compiled grammar that holds its answer to what is ``asked``, in OpenAI's
        words: ``tools``, ``tool_choice``, ``parallel_tool_calls``, ``response_format``.

        Errors: GlmError("usage") for what makes no sense, cannot be satisfied, is not supported or takes too much.
        """
        next_message = self.tokenizer.special.get(NEXT_MESSAGE)
        shape = shaped(messages, self.config.generation, next_message, **asked)
        if shape.grammar:
            self.grammars.matcher(shape.grammar)
        return shape

    def prompt_ids(self, prompt: str | Sequence[int]) -> list[int]:
        """A text as the model reads it, or the ids themselves. Errors: GlmError("usage") for ids that it lacks."""
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, add_special_tokens=True)
        if not prompt:
            raise GlmError("usage", "a prompt of no tokens cannot be gone on with", where="prompt")
        if not all(0 <= token < self.config.vocab_size for token in prompt):
            raise GlmError("usage", f"a token id is not below {self.config.vocab_size}", where="prompt")
        return list(prompt)

    def prompt_logprobs(self, prompt: Sequence[int], top: int = 0) -> PromptLogprobs:
        """To be given to ``submit`` with the ids ``prompt``: it will have found the logprob of each, with the ``top``
        likeliest tokens at its place. Errors: GlmError("usage") where there are none."""
        observer = PromptLogprobs(self.config, prompt, top)
        self._check_states("echo")
        if not observer.tells:
            raise GlmError(
                "usage", "a prompt of ChatGLM-6B sees itself both ways up to <sop>: its tokens have no logprobs",
                where="echo", hint="only token ids that follow [gMASK] <sop> in the prompt do",
            )  # fmt: skip
        return observer

    def mean_state(self, prompt: str | Sequence[int]) -> tuple[list[int], MeanState]:
        """A text, or its token ids, as the model reads it, and what will be the mean over the text's own tokens.

        Both are for ``submit``. Errors: GlmError("usage") for a text of no tokens.
        """
        self._check_states("input")
        own = self.tokenizer.encode(prompt) if isinstance(prompt, str) else self.prompt_ids(prompt)
        if not own:
            raise GlmError("usage", "a text of no tokens has no embedding", where="input")
        ids = self.tokenizer.frame(own)
        begin = len(ids) - len(own) if self.config.traits.causal else 0  # ChatGLM-6B's [gMASK] <sop> comes last
        return ids, MeanState(range(begin, begin + len(own)))

    def _check_states(self, where: str) -> None:
        if not self.tells_states:
            raise GlmError("usage", "a model on several machines shows no states of a prompt", where=where,
                           hint="ask a server that has the whole model")  # fmt: skip

    def embed(self, texts: Sequence[str | Sequence[int]]) -> torch.Tensor:
        """[texts, hidden size] in float32 on the CPU: of each text, or its token ids, the mean of the last layer's
        states after the last norm, of length 1. Errors: GlmError("context-full", "usage", "not-finite")."""
        several(texts, "texts")
        observers = []
        for text in texts:
            ids, observer = self.mean_state(text)
            self.submit(ids, max_new_tokens=0, observer=observer).text()
            observers.append(observer)
        return torch.stack([observer.vector for observer in observers])

    def sampling(self, temperature: float | None, top_p: float | None, seed: int | None, **more: Any) -> Sampling:
        """The generation's own settings where None is given; ``more`` are Sampling's other fields.

        Errors: GlmError("usage"), also for the bias of a token that the model does not have.
        """
        own_temperature, own_top_p = self.config.traits.sampling
        made = Sampling(
            own_temperature if temperature is None else temperature, own_top_p if top_p is None else top_p, seed, **more
        )
        if not all(0 <= token < self.config.vocab_size for token, _ in made.logit_bias):
            what = f"logit_bias names a token that is not below {self.config.vocab_size}"
            raise GlmError("usage", what, where="logit_bias")
        return made

    def sequence(self, prompt: Sequence[int], max_new_tokens: int, stop_ids: Collection[int] = ()) -> TokenSequence:
        """What is to follow the ids ``prompt``, within the context. Errors: GlmError("context-full")."""
        allowed = budget(len(prompt), max_new_tokens, self.context)
        return TokenSequence(tuple(prompt), allowed, self.stop_ids.union(stop_ids))

    def submit(
        self,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int = 512,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        stop_ids: Collection[int] = (),
        keeps_stop: bool = False,
        shown: Collection[str] = (),
        logprobs: int | None = None,
        grammar: Grammar | None = None,
        observer: Observer | None = None,
        begun: bool = False,
    ) -> Answer:
        """Ask for the continuation of a text or of token ids, and do not wait for it: any number may be under way.

        The answer gives its pieces by iterating, ``for`` or ``async for``, and its text whole by ``text()``; ``cancel``
        gives it up. What it says does not depend on what else is under way. sampling: the generation's own where None.
        stop: texts that end it. stop_ids: tokens that do, too. keeps_stop: whether the text ends behind such a text,
        and not before. shown: special tokens that stand in the text by their names. logprobs: how many of the likeliest
        tokens are told with the logprob of each, by the model before sampling; None: none, and no logprobs either.
        grammar: what it may be; its text is then what the tokens write, to the byte.
        observer: is shown the prompt's states: ``prompt_logprobs`` and ``mean_state`` make one. With max_new_tokens 0
        the prompt is only read. begun: the text goes on from that of the prompt, with the blanks it begins with.
        Errors: GlmError("context-full"), GlmError("usage") for a grammar that nothing satisfies; what the model raises
        comes with the pieces.
        """
        ids = self.prompt_ids(prompt)
        matcher = self.grammars.matcher(grammar) if grammar else None
        sampler = Sampler(sampling or self.sampling(None, None, None), ids, matcher)
        stream = self.grammars.text_stream() if grammar or begun else None
        text = AnswerText(self.tokenizer, stop, shown, keeps_stop, stream)
        answer = Answer(self.sequence(ids, max_new_tokens, stop_ids), sampler, text, self.backend, logprobs, observer)
        self.stats = answer.stats
        self.loop.submit(answer)
        return answer

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int = 512, n: int = 1, grammar: Grammar | None = None,
        **settings: Any,
    ) -> list[str]:  # fmt: skip
        """Plain continuations of each text, without a chat template; all of them are made side by side.

        n: of each so many, one after the other; with a seed the second is that of the next seed, and so on. grammar:
        what each may be.
        """
        several(prompts, "prompts")
        sampling = Sampling(**settings)
        with self.loop.together():
            answers = [
                self.submit(text, max_new_tokens=max_new_tokens, sampling=sampling.of_choice(number), grammar=grammar)
                for text in prompts for number in range(n)
            ]  # fmt: skip
        return [answer.text() for answer in answers]


def several(texts: object, where: str) -> None:
    """Errors: GlmError("usage") for one text, whose characters would be taken for texts."""
    if isinstance(texts, str):
        raise GlmError("usage", "a list of texts is needed, not one text", where=where, hint=f"give [{where[:-1]}]")
