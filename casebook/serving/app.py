"""What the services share: errors that say what was wrong and what to do, and bodies with a limit.

Examples
--------
>>> error = Problem(404, "unknown parcel", "Nothing is known of parcel 7.", "Check the number.")
>>> error.told()
{'error': 'unknown parcel', 'what': 'Nothing is known of parcel 7.', 'do': 'Check the number.'}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from casebook.strict_json import parse

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)
Call, Taken = Callable[..., Mapping[str, Any]], TypeVar("Taken")


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


def _value(raw: bytes, do: str) -> Any:
    """Return the value of a JSON body; refuse what no other reader would take for the same."""
    try:
        return parse(raw)
    except ValueError as error:
        raise Problem(400, "not JSON", f"The body is no JSON: {error}.", do) from None


def json_object(raw: bytes) -> dict[str, Any]:
    """Return the object of a JSON body.

    Raises
    ------
    Problem
        400 if it is no JSON, or says a field twice; 422 if it is no object.
    """
    given = _value(raw, "Send one JSON object, each field once.")
    if not isinstance(given, dict):
        raise Problem(422, "wrong form", "The body is no object.", "Send one JSON object.")
    return given


def json_list(raw: bytes, of: str, most_bytes: int, most: int) -> list[Any]:
    """Return the list of a JSON body.

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
        413 if it is too long, 400 if it is no JSON, says a field twice, or is no list.
    """
    if len(raw) > most_bytes:
        raise too_large(f"The body has {len(raw):,} bytes, more than {most_bytes:,}.")
    sent = _value(raw, f"Send a list of {of}, each field once.")
    if not isinstance(sent, list):
        what = f"The body is a {type(sent).__name__}."
        raise Problem(400, "not a list", what, f"Send a list of {of}, also for a single one.")
    if len(sent) > most:
        raise too_large(f"The list has {len(sent):,} {of}, more than {most:,}.")
    return sent


def one_by_one(
    sent: Iterable[Any], take: Callable[[Any], Taken]
) -> tuple[list[Taken], list[dict[str, Any]]]:
    """Take the entries of a list, each for itself: a bad one spoils no other.

    Parameters
    ----------
    sent : iterable
    take : callable
        Returns what is made of an entry; a ``TypeError`` or ``ValueError`` refuses it.

    Returns
    -------
    taken : list
    refused : list of dict
        ``position`` in the list, and ``what`` was wrong.

    Examples
    --------
    >>> one_by_one(["1", "x"], int)[1][0]["what"]
    "invalid literal for int() with base 10: 'x'"
    """
    taken, refused = [], []
    for position, entry in enumerate(sent):
        try:
            taken.append(take(entry))
        except (TypeError, ValueError) as error:
            refused.append({"position": position, "what": str(error)[:300]})
    return taken, refused


def whole_number(text: str, most: int, of: str, do: str) -> int:
    """Return the whole number, from 1, that a part of an address is.

    Parameters
    ----------
    text : str
    most : int
    of, do : str
        What it should be ("a parcel's number"), and what to do about another one.

    Raises
    ------
    Problem
        400 for anything else, such as digits of another script.
    """
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    number = int(text) if digits else 0
    if not 1 <= number <= most:
        raise Problem(400, "no number", f"{text[:40]!r} is not {of}.", do)
    return number


def query_of(query: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    """Return the parameters of an address by name.

    Raises
    ------
    Problem
        422 for a name that is unknown, or there twice.

    Examples
    --------
    >>> query_of([("count", "5")], ["count"])
    {'count': '5'}
    """
    given = dict(query)
    if unknown := sorted({*given} - {*names}):
        what = f"{unknown[0][:40]!r} is no parameter."
        raise Problem(422, "unknown parameter", what, f"Send {', '.join(names)}.")
    if len(query) > len(given):
        raise Problem(422, "twice", "A parameter is there twice.", "Send each one once.")
    return given


def query_number(
    given: Mapping[str, str], name: str, low: int, high: int, default: int, outside: int = 422
) -> int:
    """Return a parameter as a whole number, or its default where it was not sent.

    Raises
    ------
    Problem
        422 for what is none; ``outside`` for one that is not from ``low`` to ``high``.

    Examples
    --------
    >>> query_number({"count": "5"}, "count", 1, 20, 10), query_number({}, "count", 1, 20, 10)
    (5, 10)
    """
    if name not in given:
        return default
    text = given[name]
    if not (text.isascii() and text.isdigit() and len(text) < 11):
        what = f"{name} is {text[:40]!r}, not a whole number."
        raise Problem(422, name, what, f"Send digits, from {low} to {high:,}.")
    if not low <= int(text) <= high:
        what = f"{name} is {int(text):,}, not from {low} to {high:,}."
        raise Problem(outside, name, what, f"Send another {name}.")
    return int(text)


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
