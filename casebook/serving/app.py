"""What the services share: errors that say what was wrong and what to do, and bodies with a limit.

Examples
--------
>>> error = Problem(404, "unknown parcel", "Nothing is known of parcel 7.", "Check the number.")
>>> error.told()
{'error': 'unknown parcel', 'what': 'Nothing is known of parcel 7.', 'do': 'Check the number.'}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response


@dataclass
class Problem(Exception):
    """A request that is answered with an error."""

    status: int
    error: str
    what: str
    do: str

    def told(self) -> dict[str, str]:
        """Return what the sender is told."""
        return {"error": self.error, "what": self.what, "do": self.do}


def too_large(what: str) -> Problem:
    """Return the problem of a body that is too large."""
    return Problem(413, "too large", what, "Send it in parts.")


def reply(body: Mapping[str, Any], status: int = 200) -> Response:
    """Return a JSON object; a number that is none raises here and not at the reader's."""
    from fastapi import Response

    return Response(json.dumps(body, allow_nan=False), status, media_type="application/json")


async def body_of(request: Request, most: int) -> bytes:
    """Read a body of at most ``most`` bytes.

    Raises
    ------
    Problem
        413 as soon as it goes on after that.
    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > most:
            raise too_large(f"The body goes on after {most:,} bytes.")
    return bytes(raw)


def bare_app(title: str) -> FastAPI:
    """Return an application without pages of documentation, which fetch scripts from other hosts.

    Every error is a JSON object ``{"error", "what", "do"}``, also of an unknown path and of a
    crash, whose reason stays in the log.
    """
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException

    app = FastAPI(title=title, docs_url=None, redoc_url=None)

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return reply(error.told(), error.status)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.url.path[:60]}: {error.detail}."
        told = Problem(error.status_code, str(error.detail).lower(), what, "See /openapi.json.")
        return reply(told.told(), error.status_code)

    @app.exception_handler(Exception)
    async def crash(_: Request, error: Exception) -> Response:
        what = "The service failed; its log has the reason."
        return reply(Problem(500, "internal error", what, "Try again.").told(), 500)

    return app
