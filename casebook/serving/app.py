"""What the services share: errors that say what was wrong and what to do, and bodies with a limit.

Examples
--------
>>> error = Problem(404, "unknown parcel", "Nothing is known of parcel 7.", "Check the number.")
>>> error.told()
{'error': 'unknown parcel', 'what': 'Nothing is known of parcel 7.', 'do': 'Check the number.'}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)
Call = Callable[..., Mapping[str, Any]]


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


def json_object(raw: bytes) -> dict[str, Any]:
    """Return the object of a JSON body.

    Raises
    ------
    Problem
        400 if it is no JSON, 422 if it is no object.
    """
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError):
        what = "The body is no JSON."
        raise Problem(400, "not JSON", what, "Send one JSON object.") from None
    if not isinstance(given, dict):
        raise Problem(422, "wrong form", "The body is no object.", "Send one JSON object.")
    return given


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON (``object_pairs_hook``); refuse one that says a field twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        what = f"An object has the field {twice[:40]!r} twice."
        raise Problem(400, "not JSON", what, "Say each field once.")
    return made


def json_list(raw: bytes, of: str, most_bytes: int, most: int) -> list[Any]:
    """Return the list of a JSON body, whose objects say each field once.

    Parameters
    ----------
    raw : bytes
    of : str
        What is listed, for the messages.
    most_bytes, most : int
        Of the body, and of entries.

    Raises
    ------
    Problem
        413 if it is too long, 400 if it is no JSON, or no list.
    """
    if len(raw) > most_bytes:
        raise too_large(f"The body has {len(raw):,} bytes, more than {most_bytes:,}.")
    try:
        sent = json.loads(raw, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise Problem(400, "not JSON", "The body is no JSON.", f"Send a list of {of}.") from None
    if not isinstance(sent, list):
        what = f"The body is a {type(sent).__name__}."
        raise Problem(400, "not a list", what, f"Send a list of {of}, also for a single one.")
    if len(sent) > most:
        raise too_large(f"The list has {len(sent):,} {of}, more than {most:,}.")
    return sent


def parsed(model: type[Model], raw: bytes) -> Model:
    """Return a body as a pydantic model.

    Raises
    ------
    Problem
        As :func:`json_object`; 422 with each field that is wrong.
    """
    from pydantic import ValidationError

    given = json_object(raw)
    try:
        return model.model_validate_json(json.dumps(given))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        what = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults)
        raise Problem(422, "wrong form", what, "Correct the fields that are named.") from None


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


def serve_calls(
    app: FastAPI, posts: Mapping[str, Call], gets: Mapping[str, Call], most: int
) -> None:
    """Answer routes by calls that know nothing of HTTP, so that pages and tests use the same ones.

    Parameters
    ----------
    app : FastAPI
        Of :func:`bare_app`.
    posts : mapping of str to callable
        Route → call of the body's bytes; it returns an object or raises :class:`Problem`.
    gets : mapping of str to callable
        Route → call without arguments, or of the route's ``{name}``.
    most : int
        Bytes of a body that are read.
    """
    from starlette.concurrency import run_in_threadpool

    from casebook.serving.log import LogFailed

    async def answer(call: Call, *given: Any) -> Response:
        try:
            return reply(await run_in_threadpool(call, *given))
        except LogFailed as failed:
            raise Problem(503, "log not written", str(failed), "Send it again.") from None

    def post(call: Call) -> Callable:
        async def handle(request: Request) -> Response:
            return await answer(call, await body_of(request, most))

        return handle

    def get(call: Call) -> Callable:
        async def handle(request: Request) -> Response:
            return await answer(call, *request.path_params.values())

        return handle

    for method, made, calls in (("POST", post, posts), ("GET", get, gets)):
        for route, call in calls.items():
            app.add_route(route, made(call), methods=[method])
