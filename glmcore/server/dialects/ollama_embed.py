"""Ollama's embeddings: those of OpenAI's route, each of length 1."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from glmcore.server.answers import Answers
from glmcore.server.dialects.embeddings import all_read
from glmcore.server.dialects.reading import validated
from glmcore.server.schemas import EmbeddingRequest
from glmcore.server.streams import unless_gone


class Embed(BaseModel):
    """Options say how a model is run, or how tokens are chosen: nothing of an embedding."""

    model: str
    input: str | list[str]
    dimensions: int | None = None


def add_ollama_embed(app: FastAPI, answers: Answers) -> None:
    """``POST /api/embed``."""

    @app.post("/api/embed")
    async def embed(asked: Embed, request: Request) -> JSONResponse:
        began = time.perf_counter_ns()
        if asked.input == []:
            return JSONResponse({"model": asked.model, "embeddings": []})
        core = {"model": asked.model.removesuffix(":latest"), "input": asked.input, "dimensions": asked.dimensions}
        job, means = await answers.embeddings(validated(EmbeddingRequest, core, {}))
        await unless_gone(request, job, all_read(job))
        return JSONResponse({
            "model": asked.model,
            "embeddings": [unit(mean.vector.numpy()) for mean in means],
            "total_duration": time.perf_counter_ns() - began, "load_duration": 0,
            "prompt_eval_count": sum(answer.stats.prompt_tokens for answer in job.answers),
        })  # fmt: skip


def unit(vector: np.ndarray) -> list[float]:
    """The vector at length 1."""
    length = float(np.linalg.norm(vector))
    numbers: Any = (vector / length if length else vector).tolist()
    return list(numbers)
