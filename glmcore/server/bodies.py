"""A request's body as a value that every part of the server can work with."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException


class Body(Request):
    """A request whose JSON is read here."""

    async def json(self) -> Any:
        """Errors: HTTPException(400)."""
        try:
            return parse(await self.body())
        except ValueError as error:
            raise HTTPException(400, str(error)) from None


class BodyRoute(APIRoute):
    """A route that is given a `Body`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await answer(Body(request.scope, request.receive))

        return handler


def parse(body: bytes) -> Any:
    """The value of a JSON text: finite numbers alone, and half characters, which no reply could carry, replaced.

    Errors: ValueError that says what is wrong, and nothing of what was sent.
    """
    try:
        value = json.loads(body, parse_constant=_no_number, parse_float=_finite)
        return _whole(value) if b"\\ud" in body.lower() else value
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the body is not UTF-8: byte {error.start} is none of a character") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"the body is not valid JSON: {error.msg} at character {error.pos}") from None
    except ValueError:  # of thousands of digits, of `_no_number`, of `_finite`
        raise ValueError("the body is not valid JSON: a number in it is none, or too large") from None


def _no_number(name: str) -> float:
    raise ValueError(name)


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(digits)
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_whole(key): _whole(inner) for key, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value
