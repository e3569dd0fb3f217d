"""A request in a dialect's own words, brought into the core's, which are those of OpenAI's chat."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from glmcore.errors import GlmError
from glmcore.server.answers import Answers, Telling
from glmcore.server.errors import ApiError, from_glm_error, from_validation
from glmcore.server.fields import FIELDS, Fate, only, refuse_unless_neutral
from glmcore.server.schemas import ChatRequest, CompletionRequest

# What clients may add to a request of any dialect, as it is called in the core.
SAMPLING = frozenset({
    "temperature", "top_p", "top_k", "min_p", "seed", "stop", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "logit_bias", "stop_token_ids", "include_stop_str_in_output",
})  # fmt: skip
# A dialect tells of one answer alone.
ONE_ANSWER: dict[str, Fate] = {"n": only(1), "best_of": only(1), "logprobs": only(False), "top_logprobs": only(0)}

Core = TypeVar("Core", bound=BaseModel)


class Asked(BaseModel):
    """What a dialect reads of a request. Its other fields are the core's own, or what ``fields`` says of them."""

    model_config = ConfigDict(extra="allow")

    # Fields that this dialect has another word for: the core's → its own.
    words: ClassVar[Mapping[str, str]] = {}
    # What becomes of those that only this dialect has, and those that mean something else in it.
    fates: ClassVar[Mapping[str, Fate]] = {}

    @abstractmethod
    def in_core(self) -> dict[str, Any]:
        """The fields that were read, as those of a ChatRequest, or with a ``prompt`` of a CompletionRequest.

        None is not asked for. Errors: ApiError(400).
        """


async def begun(answers: Answers, asked: Asked) -> Telling:
    """Its answer, in the line. Errors: ApiError, in the dialect's words."""
    core = understood(asked)
    with in_words_of(asked):
        return await (answers.chat(core) if isinstance(core, ChatRequest) else answers.complete(core))


async def prompt_of(answers: Answers, asked: Asked) -> list[int]:
    """The ids that its answer would follow. Errors: as ``begun``, but for a context that is full."""
    core = understood(asked)
    assert isinstance(core, ChatRequest)
    with in_words_of(asked):
        return await answers.prompt(core)


def understood(asked: Asked) -> ChatRequest | CompletionRequest:
    """Errors: ApiError(400), in the dialect's words."""
    core = {name: value for name, value in asked.in_core().items() if value is not None}
    for name, value in (asked.model_extra or {}).items():
        if name in SAMPLING and name not in core:
            core[name] = value
        elif value is not None:
            refuse_unless_neutral(name, value, {**FIELDS, **ONE_ANSWER, **asked.fates})
    if "prompt" in core:
        return validated(CompletionRequest, core, asked.words)
    return validated(ChatRequest, core, asked.words)


def validated(kind: type[Core], core: Mapping[str, Any], words: Mapping[str, str]) -> Core:
    """A request of the core's. Errors: ApiError(400), in the dialect's ``words``."""
    try:
        return kind.model_validate(core)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise from_validation(found, core).renamed(words) from None


@contextmanager
def in_words_of(asked: Asked) -> Iterator[None]:
    try:
        yield
    except GlmError as error:
        raise from_glm_error(error).renamed(asked.words) from error
    except ApiError as error:
        raise error.renamed(asked.words) from error
