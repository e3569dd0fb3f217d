"""Text to tokens and back, as clients of vLLM and of llama.cpp ask for it."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI

from glmcore.server.answers import Answers, check_model
from glmcore.server.dialects.logprobs import spelled
from glmcore.server.errors import ApiError
from glmcore.server.schemas import DetokenizeRequest, TokenizeRequest


def add_tokens(app: FastAPI, answers: Answers) -> None:
    """``POST /tokenize``, ``POST /detokenize`` and ``GET /tokenizer_info``. Their errors: ApiError(400)."""
    engine, tokenizer = answers.engine, answers.engine.tokenizer

    @app.post("/tokenize")
    async def tokenize(asked: TokenizeRequest) -> dict[str, Any]:
        check_model(engine, asked.model)
        asked.check()
        return await asyncio.to_thread(told, asked)

    def told(asked: TokenizeRequest) -> dict[str, Any]:
        ids = read(asked)
        texts = [spelled(tokenizer.bytes_of(token)) for token in ids] if asked.wants_texts else []
        pieces = [{"id": token, "piece": text} for token, text in zip(ids, texts, strict=False)]
        return {
            "count": len(ids),
            "max_model_len": engine.context,
            "tokens": pieces if asked.with_pieces else ids,
            "token_strs": texts if asked.return_token_strs else None,
        }

    def read(asked: TokenizeRequest) -> list[int]:
        if asked.messages is not None:
            begins = asked.add_generation_prompt is not False
            return tokenizer.apply_chat_template(asked.messages, tools=asked.tools, add_generation_prompt=begins)
        return tokenizer.encode(asked.text, asked.framed, parse_special=bool(asked.parse_special))

    @app.post("/detokenize")
    async def detokenize(asked: DetokenizeRequest) -> dict[str, str]:
        check_model(engine, asked.model)
        if not all(token < engine.config.vocab_size for token in asked.tokens):
            raise ApiError(400, f"a token id is not below {engine.config.vocab_size}", param="tokens")
        text = await asyncio.to_thread(tokenizer.decode, asked.tokens, skip_special_tokens=False)
        return {"prompt": text, "content": text}

    @app.get("/tokenizer_info")
    async def info() -> dict[str, Any]:
        """As far as lm-evaluation-harness asks: no template, for prompts are made here and not by one."""
        ends, pads = (tokenizer.bytes_of(token) for token in (tokenizer.eos_token_ids[0], tokenizer.pad_token_id))
        return {
            "tokenizer_class": type(tokenizer).__name__,
            "eos_token": spelled(ends),
            "pad_token": spelled(pads),
            "model_max_length": engine.context,
        }
