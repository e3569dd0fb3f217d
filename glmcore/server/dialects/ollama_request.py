"""What Ollama's clients ask, in the core's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from glmcore.chat.messages import short
from glmcore.server.dialects.reading import SAMPLING, Asked
from glmcore.server.errors import ApiError
from glmcore.server.fields import HARMLESS, Fate, only, refuse_unless_neutral

Given = dict[str, Any]

# An option's name here → in the core, where they differ.
OPTIONS = {"num_predict": "max_tokens", "repeat_penalty": "repetition_penalty"}
OPTION_FATES: dict[str, Fate] = {
    # How the model is run, which no request decides, and how much of what is refused.
    **dict.fromkeys(
        ("num_thread", "num_gpu", "main_gpu", "num_batch", "use_mmap", "use_mlock", "low_vram", "numa", "f16_kv",
         "num_keep", "draft_num_predict", "mirostat_tau", "mirostat_eta", "num_ctx", "repeat_last_n"), HARMLESS),
    "mirostat": only(0), "tfs_z": only(1), "typical_p": only(1), "penalize_newline": only(True),
    "vocab_only": only(False), "logits_all": only(False), "embedding_only": only(False),
}  # fmt: skip
NO_LIMIT = -1


class AskedOfOllama(Asked):
    """What a chat and a text have in common."""

    words: ClassVar[Mapping[str, str]] = {
        "response_format": "format", "continue_final_message": "messages",
        **{name: f"options.{name}" for name in SAMPLING},
        **{core: f"options.{own}" for own, core in OPTIONS.items()},
    }  # fmt: skip
    fates: ClassVar[Mapping[str, Fate]] = {
        "context": only([]), "images": only([]), "template": only(""), "suffix": only(""), "truncate": HARMLESS,
        "shift": HARMLESS, "stream_options": HARMLESS, "keep_alive": HARMLESS,
    }  # fmt: skip

    model: str
    stream: bool | None = None  # as if true
    options: Given | None = None
    format: str | Given | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def in_core(self) -> Given:
        own_name = self.model.removesuffix(":latest")
        scored = {"logprobs": self.logprobs, "top_logprobs": self.top_logprobs}
        return {"model": own_name, **scored, **of_format(self.format), **of_options(self.options or {})}

    def check(self, thinks: bool, context: int) -> None:
        """Errors: ApiError(400) for what the model cannot do, or has no room for."""
        if self.think is not None and bool(self.think) is not thinks:
            message = f"think: this model {'always' if thinks else 'never'} thinks before it answers"
            raise ApiError(400, message, param="think", code="unsupported_parameter")
        wanted = (self.options or {}).get("num_ctx")
        if wanted is not None and not (isinstance(wanted, int) and wanted <= context):
            message = f"options.num_ctx is {short(wanted)}, the server's context {context} tokens; it has a --context"
            raise ApiError(400, message, param="options.num_ctx", code="unsupported_parameter")


class Chat(AskedOfOllama):
    messages: list[Given] | None = None
    tools: list[Given] | None = None

    def in_core(self) -> Given:
        said = [of_message(message, f"messages.{number}") for number, message in enumerate(self.messages or ())]
        begun = bool(said) and said[-1]["role"] == "assistant" and not said[-1].get("tool_calls")
        return {**super().in_core(), "messages": said, "tools": self.tools, "continue_final_message": begun or None}

    @property
    def asks_nothing(self) -> bool:
        return not self.messages


class Generate(AskedOfOllama):
    words: ClassVar[Mapping[str, str]] = {**AskedOfOllama.words, "messages": "prompt"}

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None

    def in_core(self) -> Given:
        """Errors: ApiError(400) for what these models cannot do."""
        if self.raw:
            if self.system:
                raise ApiError(400, "raw and system do not go together", param="system")
            scored = {"logprobs": self.top_logprobs or 0 if self.logprobs else None, "top_logprobs": None}
            return {**super().in_core(), **scored, "prompt": self.prompt}
        system = [{"role": "system", "content": self.system}] if self.system else []
        return {**super().in_core(), "messages": [*system, {"role": "user", "content": self.prompt}]}

    @property
    def asks_nothing(self) -> bool:
        return not self.prompt


def of_message(message: Given, where: str) -> Given:
    """Thoughts are not fed back, and a result's ``tool_name`` has no place in the prompts. Errors: ApiError(400)."""
    if message.get("images"):
        raise ApiError(400, f"{where}: images are not supported; these models read text", param=f"{where}.images")
    said = {"role": message.get("role"), "content": message.get("content")}
    return {**said, "tool_calls": message["tool_calls"]} if message.get("tool_calls") is not None else said


def of_format(form: str | Given | None) -> Given:
    """``response_format``. Errors: ApiError(400)."""
    if not form:
        return {}
    if isinstance(form, dict):
        named = {"name": "answer", "schema": form, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if form != "json":
        raise ApiError(400, 'format is "json" or a JSON schema', param="format")
    return {"response_format": {"type": "json_object"}}


def of_options(options: Given) -> Given:
    """What is asked of drawing and of length. Errors: ApiError(400)."""
    core: Given = {}
    for name, value in options.items():
        own = OPTIONS.get(name, name)
        if value is None:
            continue
        if own in SAMPLING or own == "max_tokens":
            core[own] = value
        else:
            refuse_option(name, value)
    if core.get("max_tokens", -2) == -2:  # until the context is full, which is what no limit means here
        core["max_tokens"] = NO_LIMIT
    if "repetition_penalty" in core and options.get("repeat_last_n") not in (None, -1):
        message = "options.repeat_last_n is not supported; only -1 is taken: the penalty looks at all tokens"
        raise ApiError(400, message, param="options.repeat_last_n", code="unsupported_parameter")
    return core


def refuse_option(name: str, value: object) -> None:
    """Errors: ApiError(400) for an option that would change the answer, by the name that it has in the request."""
    try:
        refuse_unless_neutral(name, value, OPTION_FATES)
    except ApiError as error:
        raise error.renamed({name: f"options.{name}"}) from None
