"""Strict bodies over HTTP: what is read, how long one waits for it, and errors that look alike.

Every error is a JSON object ``{"error", "what", "do"}``. What a client sent is told back without
what may be a card number.

Examples
--------
>>> response(Reply(200, {"sum": 3}, replayed=True)).headers["idempotent-replayed"]
'true'
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from casebook.serving.strict import Problem, Reply
from casebook.serving.tokens import without_numbers


async def read(request: Request, most: int, seconds: float) -> bytes:
    """Read the body of a request: at most so many bytes, in at most so many seconds.

    Raises
    ------
    Problem
        413 when the announced or the actual length is beyond the limit, 415 when it is not
        JSON, 408 when it does not come.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        what = f"The content type is {kind[:60]!r}." if kind else "There is no content type."
        raise Problem(415, "not JSON", what, "Send application/json.")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced[:20]) > most:
        raise _too_large(f"The body is announced with {announced[:20]} bytes", most)
    raw = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > most:
                    raise _too_large(f"The body has {len(raw)} bytes and goes on", most)
    except TimeoutError:
        what = f"The body did not come within {seconds:g} s."
        raise Problem(408, "too slow", what, "Send it again, in one piece.") from None
    except ClientDisconnect:
        raise Problem(400, "cut off", "The connection ended.", "Send it again.") from None
    return bytes(raw)


def _too_large(what: str, most: int) -> Problem:
    return Problem(413, "too large", f"{what}; at most {most} are read.", "Send less at a time.")


def strict_app(title: str, at_end: Callable[[], None] = lambda: None) -> FastAPI:
    """Return an app without routes whose errors all look alike.

    Parameters
    ----------
    title : str
    at_end : callable
        Called when it stops.
    """

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(at_end)

    # The pages of documentation would fetch scripts from other hosts.
    app = FastAPI(title=title, docs_url=None, redoc_url=None, lifespan=life)

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        headers = {"Retry-After": "1"} if error.status == 503 else {}
        if error.status in (408, 413):
            headers["Connection"] = "close"  # the rest of the body is not read
        return response(Reply(error.status, error.body), headers)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        what = without_numbers(f"{request.method} {request.url.path[:60]}: {error.detail}.")
        do = "See /openapi.json for what there is."
        body = {"error": str(error.detail).lower(), "what": what, "do": do}
        return response(Reply(error.status_code, body), error.headers)

    @app.exception_handler(Exception)
    async def crash(_: Request, error: Exception) -> Response:
        what = "The service failed; the log has the reason."
        body = {"error": "internal error", "what": what, "do": "Try again with the same id."}
        return response(Reply(500, body))

    return app


def response(reply: Reply, headers: dict[str, str] | None = None) -> Response:
    """Return a reply as JSON in ASCII, so that what a client sent can always be told back."""
    headers = dict(headers or {})
    if reply.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(
        json.dumps(reply.body, allow_nan=False), reply.status, headers, "application/json"
    )


def body_schema(model: type) -> dict[str, Any]:
    """Return what the documentation of a route says of its body."""
    schema = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": schema}}
