"""What may be asked: the request bodies of the API. What becomes of every other field, ``fields`` says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from glmcore.chat.messages import tool_names
from glmcore.server.errors import ApiError
from glmcore.server.fields import refuse_what_is_not_done
from glmcore.server.older import as_tools, check_choice

NO_LIMIT = -1  # as clients of vLLM and llama.cpp say it
# As OpenAI has them: choices, the likeliest tokens at each place, texts of one request for embeddings.
MOST_CHOICES, MOST_LIKELY, MOST_TEXTS = 128, 20, 2048


def _count(tokens: int) -> int:
    """A number of tokens; as much as the context holds where no limit is wanted."""
    if tokens < 1 and tokens != NO_LIMIT:
        raise PydanticCustomError("count", "should be at least 1, or -1 for no limit")
    return sys.maxsize if tokens == NO_LIMIT else tokens


def _count_or_none(tokens: int) -> int:
    """The same, or no token at all."""
    return tokens and _count(tokens)


StopText = Annotated[str, Field(max_length=1000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
TokenId = Annotated[int, Field(ge=0)]
Count = Annotated[int, AfterValidator(_count)]
Choices = Annotated[int, Field(ge=1, le=MOST_CHOICES, strict=True)]
Likeliest = Annotated[int, Field(ge=0, le=MOST_LIKELY, strict=True)]
TokenIds = Annotated[list[Annotated[TokenId, Field(strict=True)]], Field(min_length=1)]

Texts = str | Annotated[list[str], Field(min_length=1)] | TokenIds | Annotated[list[TokenIds], Field(min_length=1)]


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None


class Settings(BaseModel):
    """What chat and completions have in common; other fields are kept to be looked at, not used."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Finite | None = None
    top_p: Finite | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    include_stop_str_in_output: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=1024)] | None = None
    max_tokens: Count | None = None
    n: Choices | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Finite | None = None
    repetition_penalty: Finite | None = None
    presence_penalty: Finite | None = None
    frequency_penalty: Finite | None = None
    logit_bias: Annotated[dict[TokenId, Finite], Field(max_length=1024)] | None = None
    response_format: dict[str, Any] | None = None  # checked where it is understood, in ``glmcore.grammar``

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def held(self) -> bool:
        """Whether a response_format says what an answer may be."""
        return (self.response_format or {}).get("type", "text") != "text"

    @property
    def choices(self) -> int:
        """How many are told of each prompt."""
        return self.n or 1

    @property
    def made(self) -> int:
        """How many answers are made for each prompt."""
        return self.choices

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens go with each one's logprob; None where nobody needs logprobs."""
        return None

    @property
    def scores(self) -> bool:
        """Whether the prompt's own tokens have logprobs."""
        return False

    @property
    def choosing(self) -> dict[str, Any]:
        """What ``Sampling`` knows beside temperature, top_p and seed, as far as it is asked for."""
        names = ("min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        top_k = max(0, self.top_k or 0)  # -1 is all, as vLLM says it
        return {**given, "top_k": top_k, "logit_bias": tuple((self.logit_bias or {}).items())}

    @property
    def begun(self) -> bool:
        """Whether the answer goes on from one that the request has begun."""
        return False

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def check(self) -> None:
        """ApiError for what the schema cannot say."""
        refuse_what_is_not_done(self.model_extra or {})
        if self.stream_options:
            refuse_what_is_not_done(self.stream_options.model_extra or {}, "stream_options.")
        if self.stream_options and not self.stream:
            raise ApiError(400, "stream_options needs stream: true", param="stream_options")


class ChatRequest(Settings):
    """The messages themselves are checked where they are understood, in ``glmcore.chat``."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None  # as response_format
    parallel_tool_calls: bool | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: Any = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Likeliest | None = None

    @property
    def top(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def begun(self) -> bool:
        return bool(self.continue_final_message)

    def check(self) -> None:
        super().check()
        if self.add_generation_prompt not in (None, not self.begun):
            message = "add_generation_prompt is true, and false beside continue_final_message"
            raise ApiError(400, message, param="add_generation_prompt")
        if self.functions and self.tools:
            raise ApiError(400, "functions are the older word for tools: only one of both", param="functions")
        check_choice(self.functions or (), self.function_call)
        if None not in (self.max_tokens, limit := self.max_completion_tokens) and limit != self.max_tokens:
            message = "max_tokens and max_completion_tokens are two words for one limit, and differ"
            raise ApiError(400, message, param="max_completion_tokens")
        if self.top_logprobs and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")

    @property
    def shaping(self) -> dict[str, Any]:
        """What the engine's ``shaped`` asks for beside the messages."""
        names = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
        given = {name: getattr(self, name) for name in names}
        return {**given, **as_tools(self.functions, self.function_call)} if self.functions else given

    @property
    def tool_names(self) -> frozenset[str]:
        """The functions whose calls the answer may hold."""
        asked = self.shaping
        return frozenset() if asked["tool_choice"] == "none" else tool_names(self.messages, asked["tools"])


class CompletionRequest(Settings):
    prompt: Texts
    max_tokens: Annotated[int, AfterValidator(_count_or_none)] | None = None
    best_of: Choices | None = None
    logprobs: Likeliest | None = None
    echo: bool | None = None

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """Each as a text or as token ids."""
        return each_of(self.prompt)

    @property
    def scores(self) -> bool:
        return bool(self.echo) and self.logprobs is not None

    @property
    def made(self) -> int:
        return self.best_of or self.choices

    @property
    def top(self) -> int | None:
        return 0 if self.logprobs is None and self.made > self.choices else self.logprobs

    def check(self) -> None:
        """Errors: ApiError(400) also for a best of fewer than are told, or of those that are told as they come."""
        super().check()
        if self.made < self.choices:
            raise ApiError(400, f"best_of is less than n, {self.choices}", param="best_of")
        if self.stream and self.made > self.choices:
            raise ApiError(400, "which is the best of several is known at the end, not in a stream", param="best_of")


class EmbeddingRequest(BaseModel):
    """Fields of others are ignored: all that would change an embedding are here."""

    model: str | None = None
    input: Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, strict=True)] | None = None

    @property
    def inputs(self) -> Sequence[str | list[int]]:
        """Each as a text or as its token ids."""
        return each_of(self.input)

    def check(self, size: int) -> None:
        """ApiError for a part of an embedding of ``size`` numbers, and for too many of them."""
        if self.dimensions not in (None, size):
            message = f"an embedding has {size} numbers, of which the first alone mean nothing"
            raise ApiError(400, message, param="dimensions", code="unsupported_parameter")
        if len(self.inputs) > MOST_TEXTS:
            raise ApiError(400, f"input has {len(self.inputs)} texts, of which {MOST_TEXTS} are taken", param="input")


class TokenizeRequest(BaseModel):
    """A ``prompt`` or ``messages`` as vLLM asks for it, or llama.cpp's ``content``, with the fields of either."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    prompt: str | None = None
    content: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_generation_prompt: bool | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None

    @property
    def text(self) -> str:
        return self.prompt or self.content or ""

    @property
    def wants_texts(self) -> bool:
        """Whether each token's own text is asked for."""
        return bool(self.with_pieces or self.return_token_strs)

    @property
    def framed(self) -> bool:
        """Whether the text's ids stand between those that frame a prompt: by default in vLLM, not in llama.cpp."""
        given = (self.add_special_tokens, self.add_special, self.content is None)
        return next(bool(each) for each in given if each is not None)

    def check(self) -> None:
        """ApiError for none or several of the three, and for what the schema cannot say."""
        refuse_what_is_not_done(self.model_extra or {})
        given = [name for name in ("prompt", "content", "messages") if getattr(self, name) is not None]
        if len(given) != 1:
            what = "of prompt, content and messages one is needed, and one alone"
            raise ApiError(400, what, param=given[1] if given else "prompt")
        if self.messages is not None and (self.add_special_tokens or self.parse_special):
            raise ApiError(400, "messages bring their special tokens themselves", param="messages")


class DetokenizeRequest(BaseModel):
    model: str | None = None
    tokens: list[TokenId]


def each_of(texts: str | list[str] | list[int] | list[list[int]]) -> Sequence[str | list[int]]:
    """One text, or the ids of one, or several, as several."""
    one = isinstance(texts, str) or isinstance(texts[0], int)
    return cast(Sequence[str | list[int]], [texts] if one else texts)
