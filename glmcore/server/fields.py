"""What becomes of each field that a request may carry: OpenAI's own, and those that vLLM, llama.cpp, Ollama, SGLang and
others add. One table decides, so that nothing that would change an answer is ignored in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glmcore.server.errors import ApiError

DONE = "done"
HARMLESS = "harmless"  # the answer is the same with it and without it


@dataclass(frozen=True)
class Only:
    """Not carried out: refused with any value but these, which ask for nothing."""

    values: tuple[Any, ...] = ()

    def takes(self, value: Any) -> bool:
        return any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in self.values)


def only(*values: Any) -> Only:
    return Only(values)


Fate = str | Only

OPENAI: dict[str, Fate] = {
    "messages": DONE, "prompt": DONE, "model": DONE, "stream": DONE, "stream_options": DONE, "temperature": DONE,
    "top_p": DONE, "seed": DONE, "stop": DONE, "max_tokens": DONE, "max_completion_tokens": DONE, "tools": DONE,
    "tool_choice": DONE, "stream_options.include_usage": DONE, "stream_options.include_obfuscation": HARMLESS,
    "user": HARMLESS, "metadata": HARMLESS, "store": HARMLESS, "service_tier": HARMLESS, "prediction": HARMLESS,
    "safety_identifier": HARMLESS, "prompt_cache_key": HARMLESS, "prompt_cache_retention": HARMLESS,
    "n": DONE, "best_of": DONE, "echo": DONE, "suffix": only(""), "logprobs": DONE,
    "top_logprobs": DONE, "logit_bias": DONE, "frequency_penalty": DONE, "presence_penalty": DONE,
    "response_format": DONE, "functions": DONE, "function_call": DONE,
    "parallel_tool_calls": DONE, "modalities": only(["text"]), "audio": only(), "web_search_options": only(),
    "reasoning_effort": only("none"), "verbosity": only("medium"),
}  # fmt: skip
VLLM: dict[str, Fate] = {
    "top_k": DONE, "min_p": DONE, "repetition_penalty": DONE, "length_penalty": only(1),
    "use_beam_search": only(False), "early_stopping": only(False), "min_tokens": only(0), "ignore_eos": only(False),
    "stop_token_ids": DONE, "include_stop_str_in_output": DONE, "skip_special_tokens": only(True),
    "spaces_between_special_tokens": HARMLESS, "truncate_prompt_tokens": only(), "prompt_logprobs": only(),
    "allowed_token_ids": only([]), "bad_words": only([]), "add_generation_prompt": DONE,
    "continue_final_message": DONE, "add_special_tokens": only(), "documents": only([]), "chat_template": only(),
    "chat_template_kwargs": only({}), "mm_processor_kwargs": only({}), "structured_outputs": only(),
    "structural_tag": only(), "guided_json": only(), "guided_regex": only(), "guided_choice": only(),
    "guided_grammar": only(), "guided_whitespace_pattern": HARMLESS, "guided_decoding_backend": HARMLESS,
    "logits_processors": only([]), "return_tokens_as_token_ids": only(False), "return_token_ids": only(False),
    "prompt_embeds": only(), "kv_transfer_params": only(), "vllm_xargs": only({}), "thinking_token_budget": only(),
    "include_reasoning": HARMLESS, "priority": HARMLESS, "request_id": HARMLESS, "cache_salt": HARMLESS,
    "stream_options.continuous_usage_stats": only(False),
}  # fmt: skip
LLAMA_CPP: dict[str, Fate] = {
    "n_predict": only(), "repeat_penalty": only(1), "grammar": only(""), "json_schema": only(), "samplers": only(),
    "typical_p": only(1), "xtc_probability": only(0), "dry_multiplier": only(0), "mirostat": only(0),
    "dynatemp_range": only(0), "n_probs": only(0), "min_keep": only(0), "n_indent": only(0),
    "t_max_predict_ms": only(0), "penalize_nl": only(False), "lora": only([]), "image_data": only([]),
    "response_fields": only([]), "timings_per_token": only(False), "return_progress": only(False),
    "return_tokens": only(False), "post_sampling_probs": only(False), "parse_tool_calls": only(True),
    # These say how much of what is refused above, or how to keep a cache that we keep anyway.
    "grammar_lazy": HARMLESS, "repeat_last_n": HARMLESS, "xtc_threshold": HARMLESS, "dry_base": HARMLESS,
    "dry_allowed_length": HARMLESS, "dry_penalty_last_n": HARMLESS, "dry_sequence_breakers": HARMLESS,
    "mirostat_tau": HARMLESS,
    "mirostat_eta": HARMLESS, "dynatemp_exponent": HARMLESS, "cache_prompt": HARMLESS, "id_slot": HARMLESS,
    "n_keep": HARMLESS, "n_discard": HARMLESS, "reasoning_format": HARMLESS,
}  # fmt: skip
OTHERS: dict[str, Fate] = {
    # Ollama
    "options": only({}), "format": only(""), "think": only(False), "raw": only(False), "template": only(""),
    "system": only(""), "images": only([]), "context": only([]), "num_predict": only(), "num_ctx": only(),
    "tfs_z": only(1), "keep_alive": HARMLESS,
    # SGLang, TGI, OpenRouter, Zhipu
    "regex": only(), "ebnf": only(), "stop_regex": only(), "no_stop_trim": only(False), "lora_path": only(),
    "separate_reasoning": HARMLESS, "stream_reasoning": HARMLESS, "truncate": only(), "watermark": only(False),
    "return_full_text": only(False), "do_sample": only(True), "reasoning": only(),
    "thinking": only({"type": "disabled"}), "enable_thinking": only(False), "top_a": only(0), "transforms": only([]),
    "plugins": only([]), "models": only([]), "provider": HARMLESS, "route": HARMLESS, "user_id": HARMLESS,
    "tool_stream": only(False),
}  # fmt: skip
FIELDS = OPENAI | VLLM | LLAMA_CPP | OTHERS


def refuse_what_is_not_done(extra: Mapping[str, Any], within: str = "") -> None:
    """ApiError(400) for the first of a request's fields that is not carried out; null asks for nothing."""
    for name, value in extra.items():
        if value is not None:
            refuse_unless_neutral(within + name, value)


def refuse_unless_neutral(name: str, value: Any, fates: Mapping[str, Fate] = FIELDS) -> None:
    """Errors: ApiError(400) for a field that is not carried out, unless its value asks for nothing."""
    fate = fates.get(name, HARMLESS)  # clients add fields of their own, which nobody here could carry out
    if fate == HARMLESS or (isinstance(fate, Only) and fate.takes(value)):
        return
    values = " or ".join(map(json.dumps, fate.values)) if isinstance(fate, Only) else ""
    taken = f"; only {values} is taken" if values else ""
    raise ApiError(400, f"{name} is not supported{taken}", param=name, code="unsupported_parameter")
