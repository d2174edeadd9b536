"""A service over HTTP whose calls take bytes and return a dictionary, or refuse with a reason.

The calls know nothing of HTTP, so that page, tests and service use the same ones. Bodies are read
up to a limit; what is refused says what was wrong and what to do.

Examples
--------
>>> json_object(b"[1]")
Traceback (most recent call last):
...
casebook.serving.http.Refused: 422 wrong form: The body is no object. Send one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from casebook.serving.log import LogFailed

if TYPE_CHECKING:
    from fastapi import FastAPI

Model = TypeVar("Model", bound=BaseModel)
Call = Callable[..., dict[str, Any]]


class Refused(Exception):
    """A request that is answered with an error; nothing was written."""

    def __init__(self, status: int, error: str, what: str, do: str) -> None:
        super().__init__(f"{status} {error}: {what} {do}")
        self.status, self.body = status, {"error": error, "what": what, "do": do}


def json_object(raw: bytes) -> dict[str, Any]:
    """Return the object of a JSON body, or refuse."""
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError):
        what = "The body is no JSON."
        raise Refused(400, "not JSON", what, "Send one JSON object.") from None
    if not isinstance(given, dict):
        raise Refused(422, "wrong form", "The body is no object.", "Send one JSON object.")
    return given


def parsed(model: type[Model], raw: bytes) -> Model:
    """Return a body as a model, or refuse with each field that is wrong."""
    given = json_object(raw)
    try:
        return model.model_validate_json(json.dumps(given))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        what = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults)
        raise Refused(422, "wrong form", what, "Correct the fields that are named.") from None


def http_app(
    title: str, posts: Mapping[str, Call], gets: Mapping[str, Call], largest: int
) -> FastAPI:
    """Return an application.

    Parameters
    ----------
    title : str
    posts : mapping of str to callable
        Route → call of the body's bytes.
    gets : mapping of str to callable
        Route → call without arguments, or of the route's ``{name}``.
    largest : int
        Bytes of a body that are read; a longer one is answered with 413.
    """
    from fastapi import FastAPI, Request, Response
    from starlette.concurrency import run_in_threadpool

    made = FastAPI(title=title, docs_url=None, redoc_url=None)

    async def answer(call: Call, *given: Any) -> Response:
        try:
            body, status = await run_in_threadpool(call, *given), 200
        except Refused as refused:
            body, status = refused.body, refused.status
        except LogFailed as failed:
            body = {"error": "log not written", "what": str(failed), "do": "Send it again."}
            status = 503
        return Response(json.dumps(body), status, media_type="application/json")

    def too_large() -> dict[str, Any]:
        what = f"The body has more than {largest:,} bytes."
        raise Refused(413, "too large", what, "Send less in one request.")

    def post(route: str, call: Call) -> None:
        async def handle(request: Request) -> Response:
            raw = bytearray()
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > largest:
                    return await answer(too_large)
            return await answer(call, bytes(raw))

        made.add_route(route, handle, methods=["POST"])

    def get(route: str, call: Call) -> None:
        async def handle(request: Request) -> Response:
            return await answer(call, *request.path_params.values())

        made.add_route(route, handle, methods=["GET"])

    for route, call in posts.items():
        post(route, call)
    for route, call in gets.items():
        get(route, call)
    return made
