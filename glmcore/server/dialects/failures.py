"""Failures in the form of the dialect whose route was asked."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from glmcore.server.errors import ApiError, printable

# https://docs.claude.com/en/api/errors
ANTHROPIC_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    503: "overloaded_error",
}  # fmt: skip


def refused(path: str, error: ApiError) -> JSONResponse:
    """The response of a request that gets no answer."""
    return JSONResponse(form_of(path)(error), error.status, error.headers)


def form_of(path: str) -> Any:
    """ApiError → the body that clients of the route understand."""
    if path.startswith("/v1/messages"):
        return anthropic
    return ollama if path.startswith("/api/") else ApiError.body


def anthropic(error: ApiError) -> dict[str, Any]:
    kind = ANTHROPIC_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": with_field(error)}, "request_id": None}


def ollama(error: ApiError) -> dict[str, Any]:
    return {"error": with_field(error)}


def with_field(error: ApiError) -> str:
    """The message, which names the field that is wrong where the form has no other place for it."""
    named = error.param is None or error.param in error.message
    return printable(error.message if named else f"{error.param}: {error.message}")
