"""OpenAI's embeddings: of each text the mean of what the last layer makes of its tokens."""

from __future__ import annotations

import base64

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from glmcore.server import replies
from glmcore.server.answers import Answers
from glmcore.server.line import Job
from glmcore.server.schemas import EmbeddingRequest
from glmcore.server.streams import unless_gone


def add_embeddings(app: FastAPI, answers: Answers) -> None:
    """``POST /v1/embeddings``."""

    @app.post("/v1/embeddings")
    async def embed(asked: EmbeddingRequest, request: Request) -> JSONResponse:
        job, means = await answers.embeddings(asked)
        await unless_gone(request, job, all_read(job))
        numbers = [as_numbers(mean.vector.numpy(), asked.encoding_format) for mean in means]
        return JSONResponse(replies.embeddings(answers.model, numbers, [answer.stats for answer in job.answers]))


async def all_read(job: Job) -> None:
    async for _ in job.items():
        pass


def as_numbers(vector: np.ndarray, form: str | None) -> list[float] | str:
    """An embedding as JSON carries it, or its float32 in base64, of each the lowest byte first."""
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    numbers: list[float] = vector.tolist()
    return numbers
