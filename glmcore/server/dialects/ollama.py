"""Ollama's API: https://docs.ollama.com/api. Answers come as lines of JSON."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

import glmcore
from glmcore.server.answers import Answers, Telling, check_model
from glmcore.server.dialects.blocks import Block, Step, blocks, steps
from glmcore.server.dialects.failures import ollama as failure
from glmcore.server.dialects.logprobs import chat_logprob
from glmcore.server.dialects.ollama_request import Chat, Generate
from glmcore.server.dialects.reading import begun
from glmcore.server.streams import Event, LineStream, as_json, told, unless_gone
from glmcore.tokenizers import Tokenizer


class Show(BaseModel):
    model: str | None = None
    name: str | None = None  # as older clients say it


def add_ollama(app: FastAPI, answers: Answers) -> None:
    """``/api/chat``, ``/api/generate``, and what clients ask of the model before."""
    engine, since = answers.engine, now()

    async def answered(asked: Chat | Generate, request: Request) -> Response:
        asked.check(engine.config.traits.thinks, engine.context)
        told_as = ChatForm(asked.model) if isinstance(asked, Chat) else TextForm(asked.model)
        if asked.asks_nothing:  # clients load a model so
            check_model(engine, asked.model.removesuffix(":latest"))
            return JSONResponse({**told_as.chunk(), "done": True, "done_reason": "load"})
        telling = await begun(answers, asked)
        scores = Scores(telling, engine.tokenizer)
        if asked.stream is False:
            return JSONResponse(await unless_gone(request, telling.job, whole(telling, told_as, scores)))
        return LineStream(telling.job, written(events(telling, told_as, scores)))

    @app.post("/api/chat")
    async def chat(asked: Chat, request: Request) -> Response:
        return await answered(asked, request)

    @app.post("/api/generate")
    async def generate(asked: Generate, request: Request) -> Response:
        return await answered(asked, request)

    @app.get("/api/tags")
    async def tags() -> dict[str, Any]:
        return {"models": [{**model(answers), "modified_at": since}]}

    @app.get("/api/ps")
    async def running() -> dict[str, Any]:
        """The model is loaded as long as the server runs."""
        loaded = {"expires_at": "9999-12-31T23:59:59Z", "size_vram": 0, "context_length": engine.context}
        return {"models": [{**model(answers), **loaded}]}

    @app.post("/api/show")
    async def show(asked: Show) -> dict[str, Any]:
        check_model(engine, (asked.model or asked.name or "").removesuffix(":latest"))
        return {**shown(answers), "modified_at": since}

    @app.get("/api/version")
    async def version() -> dict[str, str]:
        return {"version": glmcore.__version__}


class Form(ABC):
    """How an answer is told: each line as it comes, and what the whole of it is."""

    def __init__(self, model: str) -> None:
        self.model = model

    def chunk(self, text: str = "", **more: Any) -> Event:
        """more: ``thinking`` and ``tool_calls``, left out where there are none."""
        said = self.said(text, **{name: value for name, value in more.items() if value})
        return {"model": self.model, "created_at": now(), **said, "done": False}

    @abstractmethod
    def said(self, text: str, **more: Any) -> Event:
        """What a line says beside the model and the time."""


class ChatForm(Form):
    def said(self, text: str, **more: Any) -> Event:
        return {"message": {"role": "assistant", "content": text, **more}}


class TextForm(Form):
    def said(self, text: str, **more: Any) -> Event:
        return {"response": text, **more}


class Scores:
    """The logprobs of the tokens since they were told last, as a field of a line; no field where there are none."""

    def __init__(self, telling: Telling, tokenizer: Tokenizer) -> None:
        self.telling, self.tokenizer = telling, tokenizer

    def field(self) -> Event:
        found = [chat_logprob(self.tokenizer, each) for each in self.telling.logprobs()]
        return {"logprobs": found} if found else {}


async def events(telling: Telling, form: Form, scores: Scores) -> AsyncIterator[Event]:
    async for step, block, text in steps(telling):
        if block.kind == "call":
            if step is Step.END and block.arguments is not None:  # who is told of a call makes it, cut or not
                yield {**form.chunk(tool_calls=[call(block)]), **scores.field()}
        elif step is Step.PART:
            chunk = form.chunk(text) if block.kind == "text" else form.chunk(thinking=text)
            yield {**chunk, **scores.field()}
    yield {**form.chunk(), **scores.field(), **ended(telling)}


async def whole(telling: Telling, form: Form, scores: Scores) -> Event:
    parts = await blocks(telling)
    texts = {kind: "".join(block.text for block in parts if block.kind == kind) for kind in ("text", "thought")}
    calls = [call(block) for block in parts if block.kind == "call" and block.arguments is not None]
    return {
        **form.chunk(texts["text"], thinking=texts["thought"], tool_calls=calls),
        **scores.field(),
        **ended(telling),
    }


async def written(events: AsyncIterator[Event]) -> AsyncIterator[str]:
    async for event in told(events, failure):
        yield as_json(event) + "\n"


def call(block: Block) -> Event:
    return {"function": {"name": block.name, "arguments": block.arguments}}


def ended(telling: Telling) -> Event:
    """Why, and what it cost; durations in nanoseconds. The model was loaded before anybody asked."""
    ending = telling.ending
    seconds = {
        "total_duration": ending.waited_s + ending.took_s, "load_duration": 0.0,
        "prompt_eval_duration": ending.stats.prefill_s, "eval_duration": ending.stats.decode_s,
    }  # fmt: skip
    return {
        "done": True, "done_reason": "length" if ending.finish_reason == "length" else "stop",
        **{name: round(value * 1e9) for name, value in seconds.items()},
        "prompt_eval_count": ending.stats.prompt_tokens, "eval_count": ending.stats.generated_tokens,
    }  # fmt: skip


def model(answers: Answers) -> Event:
    """The one model, as /api/tags lists it. Its digest is that of what is known of it, for it is no file."""
    known = json.dumps({"name": answers.model, **details(answers)}, sort_keys=True)
    return {
        "name": answers.model, "model": answers.model, "details": details(answers),
        "size": answers.engine.weights_bytes,
        "digest": hashlib.sha256(known.encode()).hexdigest(),
    }  # fmt: skip


def details(answers: Answers) -> Event:
    config = answers.engine.config
    level = f"int{config.quantization_bit}" if config.quantization_bit else "none"
    return {"parent_model": "", "format": "safetensors", "family": config.generation, "families": [config.generation],
            "parameter_size": "", "quantization_level": level}  # fmt: skip


def shown(answers: Answers) -> Event:
    engine = answers.engine
    traits, family = engine.config.traits, engine.config.generation
    capabilities = ["completion", "tools", *(["thinking"] if traits.thinks else [])]
    facts = {"general.architecture": family, f"{family}.context_length": engine.context,
             f"{family}.block_count": engine.config.num_layers}  # fmt: skip
    return {"modelfile": "", "parameters": "", "template": "", "details": details(answers), "model_info": facts,
            "capabilities": capabilities}  # fmt: skip


def now() -> str:
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
