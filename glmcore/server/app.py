"""The routes of the server, and its failures."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Route

from glmcore.engine.engine import Engine
from glmcore.errors import GlmError
from glmcore.server.answers import Answers, check_model
from glmcore.server.bodies import BodyRoute
from glmcore.server.dialects.anthropic import add_anthropic
from glmcore.server.dialects.embeddings import add_embeddings
from glmcore.server.dialects.failures import refused
from glmcore.server.dialects.ollama import add_ollama
from glmcore.server.dialects.ollama_embed import add_ollama_embed
from glmcore.server.dialects.openai import add_openai
from glmcore.server.dialects.responses import add_responses
from glmcore.server.dialects.tokens import add_tokens
from glmcore.server.errors import ApiError, from_glm_error, from_validation
from glmcore.server.figures import Figures, LiveMetrics, stats_report
from glmcore.server.guard import Guard
from glmcore.server.line import Line
from glmcore.server.nearest import nearest
from glmcore.server.page import add_page
from glmcore.server.waits import WAITING


def create_app(
    engine: Engine, api_key: str | None = None, *, queue: int = WAITING, hosts: Collection[str] = ()
) -> FastAPI:
    """The server for one engine, which belongs to it from now on. ``app.state.line`` is its queue.

    queue: answers that may wait. hosts: names beside this machine's own that the Host header may have without a key.
    """
    figures = Figures()
    line = Line(engine, figures.ended, queue)
    figures.registry.register(LiveMetrics(figures, line))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        line.close()

    app = FastAPI(title="glmcore", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.line = line
    app.router.route_class = BodyRoute
    app.add_middleware(Guard, api_key=api_key, hosts=hosts)
    add_error_handlers(app)
    answers = Answers(engine, line)
    add_openai(app, answers)
    add_responses(app, answers)
    add_embeddings(app, answers)
    add_tokens(app, answers)
    add_anthropic(app, answers)
    add_ollama(app, answers)
    add_ollama_embed(app, answers)
    add_reports(app, engine, figures, line)
    add_page(app)
    return app


def add_error_handlers(app: FastAPI) -> None:
    """Every failure in the form of the dialect that was spoken."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return refused(request.url.path, error)

    @app.exception_handler(GlmError)
    async def glm_error(request: Request, error: GlmError) -> JSONResponse:
        return refused(request.url.path, from_glm_error(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return refused(request.url.path, from_validation(error.errors(), error.body))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        what = no_route(app, request) if error.status_code in (404, 405) else error.detail
        return refused(request.url.path, ApiError(error.status_code, what, headers=error.headers))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        return refused(request.url.path, ApiError(500, f"internal error: {type(error).__name__}", code="internal"))


def no_route(app: FastAPI, request: Request) -> str:
    """What is not there, and the nearest that is."""
    routes = {route.path: route.methods for route in app.routes if isinstance(route, Route) and "{" not in route.path}
    path = nearest(request.url.path, routes)
    methods = "/".join(sorted(set(routes[path] or ()) - {"HEAD"}))
    return f"there is no {request.method} {request.url.path[:100]} here; the nearest is {methods} {path}"


def add_reports(app: FastAPI, engine: Engine, figures: Figures, line: Line) -> None:
    model = {
        "id": engine.config.name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "glmcore",
        "max_model_len": engine.context,
    }

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        check_model(engine, name)
        return model

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return stats_report(engine, figures, line)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)
