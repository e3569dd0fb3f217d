"""Failures as the API tells them: a status and OpenAI's error object. Never a traceback, never what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glmcore.errors import GlmError

# Characters of a message.
LONGEST = 300
# Of glmcore's codes, those that the request is to blame for, with OpenAI's own code where there is one.
REQUEST_CODES = {"usage": None, "context-full": "context_length_exceeded"}
# Those that another try may not meet, with the seconds after which it is worth one.
AGAIN_CODES = {"replica-lost": 2, "stage-lost": 2}


class ApiError(Exception):
    """A request that gets no answer. ``param`` names the field that is wrong, ``code`` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    def renamed(self, words: Mapping[str, str]) -> ApiError:
        """The same to clients that have other words for fields."""
        if self.param not in words:
            return self
        own = words[self.param]
        message = self.message.replace(self.param, own)
        return ApiError(self.status, message, param=own, code=self.code, headers=self.headers)

    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        param = None if self.param is None else printable(self.param)
        return {"error": {"message": printable(self.message), "type": kind, "param": param, "code": self.code}}


def printable(text: str) -> str:
    """``text`` short, and without the lone surrogates that no response can carry: names of fields come from clients."""
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return short.encode("utf-8", "backslashreplace").decode("utf-8")


def from_glm_error(error: GlmError) -> ApiError:
    """400 where the request is to blame, 503 where it may be asked again, else 500."""
    if error.code in AGAIN_CODES:
        headers = {"Retry-After": str(AGAIN_CODES[error.code])}
        return ApiError(503, error.what, code=error.code, headers=headers)
    if error.code not in REQUEST_CODES:
        return ApiError(500, error.what, code=error.code)
    message = ": ".join(part for part in (error.what, error.hint) if part)
    return ApiError(400, message, param=error.where or None, code=REQUEST_CODES[error.code])


def from_validation(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """What pydantic says of the first field that is wrong; what was sent is left out of it.

    A field that may be of several kinds is wrong in as many ways: of these the one that comes nearest to what was sent,
    which is right in kind or wrong the deepest.
    """
    first = errors[0]
    if first["loc"] == ("body",) and body is None:
        return ApiError(400, "the body is empty or null; it is to be a JSON object")
    if first["loc"] == ("body",):
        return ApiError(400, "the body is to be a JSON object")
    ways = [error for error in errors if error["loc"][:2] == first["loc"][:2]]
    places = [_place(error["loc"][1:], body) for error in ways]

    def nearness(number: int) -> tuple[bool, int]:
        return not ways[number]["type"].endswith("_type"), len(places[number])

    nearest = max(range(len(ways)), key=nearness)
    param = ".".join(map(str, places[nearest]))
    message = str(ways[nearest]["msg"])
    return ApiError(400, f"{param}: {message}" if param else message, param=param or None)


def _place(loc: Sequence[str | int], body: Any) -> list[str | int]:
    """Where in the body: ``loc`` without the names of kinds that pydantic puts between. A missing field is its end."""
    place: list[str | int] = []
    for number, part in enumerate(loc):
        inside = isinstance(body, dict) and part in body
        inside = inside or (isinstance(body, list) and isinstance(part, int) and part < len(body))
        if inside:
            body = body[part]
        elif number < len(loc) - 1 or not isinstance(body, dict):
            continue
        place.append(part)
    return place
