"""OpenAI's embeddings: of each text the mean of what the last layer makes of its tokens."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from glmcore.server import replies
from glmcore.server.answers import Answers
from glmcore.server.line import Job
from glmcore.server.schemas import EmbeddingRequest
from glmcore.server.streams import Event, as_json, unless_gone


def add_embeddings(app: FastAPI, answers: Answers) -> None:
    """``POST /v1/embeddings``."""

    @app.post("/v1/embeddings")
    async def embed(asked: EmbeddingRequest, request: Request) -> Response:
        job, means = await answers.embeddings(asked)
        await unless_gone(request, job, all_read(job))
        vectors = [mean.vector.numpy() for mean in means]
        head = replies.embeddings(answers.model, [answer.stats for answer in job.answers])
        return StreamingResponse(written(head, vectors, asked.encoding_format), media_type="application/json")


async def written(head: Event, vectors: Sequence[np.ndarray], form: str | None) -> AsyncIterator[str]:
    """The reply, a vector at a time: all at once they would hold everybody else up."""
    yield as_json(head)[:-1] + ',"data":['
    for index, vector in enumerate(vectors):
        data = {"object": "embedding", "index": index, "embedding": as_numbers(vector, form)}
        yield "," * (index > 0) + as_json(data)
        await asyncio.sleep(0)
    yield "]}"


async def all_read(job: Job) -> None:
    async for _ in job.items():
        pass


def as_numbers(vector: np.ndarray, form: str | None) -> list[float] | str:
    """An embedding as JSON carries it, or its float32 in base64, of each the lowest byte first."""
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    numbers: list[float] = vector.tolist()
    return numbers
