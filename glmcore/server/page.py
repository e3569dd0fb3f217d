"""The page at ``/``: one static file that talks to this server alone, and the doctor's report that it shows."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from functools import cache
from importlib import resources
from typing import Any, Literal

from fastapi import FastAPI, Response

from glmcore import programs
from glmcore.server.errors import ApiError

# Seconds; an examination takes less than one where the kernel has been built, some more where it is built first.
EXAMINATION_S = 120


def add_page(app: FastAPI) -> None:
    """``GET /`` and ``GET /doctor``."""
    one_at_a_time = asyncio.Lock()

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(source(), media_type="text/html; charset=utf-8", headers=headers())

    @app.get("/doctor")
    async def doctor(language: Literal["en", "zh"] = "en") -> dict[str, Any]:
        async with one_at_a_time:
            return await asyncio.to_thread(examination, language)


def examination(language: str) -> dict[str, Any]:
    """What ``glmdoctor check --json`` says of this machine. Errors: ApiError(500) where it says nothing."""
    arguments = ("-m", "glmdoctor", "check", "--json", "--lang", language)
    done = programs.run(programs.with_packages(programs.own_python(), *arguments), EXAMINATION_S)
    try:
        return json.loads(done.out)
    except json.JSONDecodeError:
        why = f"exit status {done.code}" if done.code >= 0 else f"signal {-done.code}"
        message = f"the doctor gave no report ({why}): run `glmdoctor check` here"
        raise ApiError(500, message, code="no_report") from None


@cache
def source() -> str:
    return resources.files("glmcore.server").joinpath("page.html").read_text(encoding="utf-8")


@cache
def headers() -> dict[str, str]:
    """Only the page's own script and style run, and only this server is talked to: what a model writes stays text."""
    policy = (
        f"default-src 'none'; script-src {hash_of('script')}; style-src {hash_of('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


def hash_of(element: str) -> str:
    """The sources of the only ``element`` of the page, as a content security policy names them."""
    [inside] = re.findall(rf"<{element}>(.*?)</{element}>", source(), re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
