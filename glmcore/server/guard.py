"""What stands before every route: the API key, the Host header, the kind and the size of the body."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmcore.server.address import is_loopback
from glmcore.server.dialects.failures import refused
from glmcore.server.errors import ApiError

# Far more text than any of the contexts holds, little enough to be parsed at once.
MAX_BODY_BYTES = 8 * 2**20
# The page asks for the key itself: a browser sends none with an address that is typed.
OPEN_PATHS = ("/", "/health")
TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES // 2**20} MiB"


class Guard:
    """An ASGI middleware. With a key every path but OPEN_PATHS asks for it, as ``Authorization: Bearer KEY`` or, as
    Anthropic's clients send it, ``x-api-key: KEY``.

    Without one the Host header must name this machine, or be one of ``hosts``: no web page can reach the server under a
    name of its own.
    """

    def __init__(self, app: ASGIApp, api_key: str | None, hosts: Collection[str]) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)
        self.key = api_key.encode() if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        error = self.refusal(scope)
        if error is not None:
            await refused(scope["path"], error)(scope, receive, send)
            return
        await self.app(as_get(scope), limited(receive), send)

    def refusal(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        if self.key is None:
            host = host_name(headers.get("host", "localhost"))
            if not (is_loopback(host) or host.lower() in self.hosts):
                what = f"this server answers to names of this machine only; --allowed-host {host} allows this one"
                return ApiError(403, what, code="wrong_host")
        elif scope["path"] not in OPEN_PATHS and not self.has_key(headers):
            bearer = {"WWW-Authenticate": "Bearer"}
            return ApiError(401, "the API key is missing or wrong", code="invalid_api_key", headers=bearer)
        if scope["method"] == "POST":
            return refused_body(headers)
        return None

    def has_key(self, headers: Headers) -> bool:
        """Compared in constant time."""
        key = self.key or b""
        pairs = (("authorization", b"Bearer " + key), ("x-api-key", key))
        return any(secrets.compare_digest(headers.get(name, "").encode("latin-1"), whole) for name, whole in pairs)


def as_get(scope: Scope) -> Scope:
    """HEAD, by which clients ask whether the server is there, is GET whose body is not sent."""
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope


def host_name(header: str) -> str:
    """A Host header without its port."""
    name, colon, port = header.rpartition(":")
    return name if colon and port.isdigit() else header


def refused_body(headers: Headers) -> ApiError | None:
    """A web page can send other kinds of body to any server without asking it first."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return ApiError(415, "the body must be sent as Content-Type: application/json")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        return ApiError(415, "the body must be sent as it is, without a Content-Encoding")
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        return ApiError(413, TOO_LARGE)
    return None


def limited(receive: Receive) -> Receive:
    """``receive`` that counts: a body need not say its length. Errors: HTTPException(413), as it is read."""
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise HTTPException(413, TOO_LARGE)
        return message

    return counting
