"""An agent that talks over HTTP: tickets, turns as a stream, buttons, a queue for people.

Who asks is proved by a token (:mod:`casebook.serving.bearer`); a ticket of somebody else and one
that never was are the same. A turn comes as server-sent events, word by word, and only after it was
reviewed as a whole: what is shown cannot be taken back. Customers are not told why a person took
over: the reason names the guard that spoke, or is a model's words. People see it, marked as whose
words it is; their pages answer everybody else as a page that is not there.

:mod:`casebook.serving.tickets` has what the routes call, and knows nothing of HTTP.

Examples
--------
>>> for line in written({"act": "tell", "text": "It is shipped."}):
...     print(line.splitlines()[1])
data: {"text": "It"}
data: {"text": " is"}
data: {"text": " shipped."}
data: {"act": "tell", "text": "It is shipped."}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from casebook.serving.bearer import Bearer, Refused
from casebook.serving.strict import Problem, Reply, Strict, parse
from casebook.serving.strict_app import body_schema, read, response, strict_app
from casebook.serving.tickets import OPEN, Answer, Decision, Message, Tickets

__all__ = ["OPEN", "Answer", "Decision", "Message", "Tickets", "app_of", "written"]

#: Bytes and seconds of a body.
BODY, BODY_SECONDS = 16_384, 5.0
Sent = TypeVar("Sent", bound=Strict)


def written(told: dict[str, Any]) -> Iterator[str]:
    """Write a turn as server-sent events: its words, then all of it."""
    for piece in re.findall(r"\s*\S+", told["text"]):
        yield f"event: piece\ndata: {json.dumps({'text': piece})}\n\n"
    yield f"event: turn\ndata: {json.dumps(told)}\n\n"


async def _body(request: Request, model: type[Sent]) -> Sent:
    return parse(await read(request, BODY, BODY_SECONDS), model)


def app_of(
    tickets: Tickets,
    bearer: Bearer,
    staff: Callable[[str], str],
    at_end: Callable[[], None] | None = None,
) -> FastAPI:
    """Return the service as an application.

    Parameters
    ----------
    tickets : Tickets
    bearer : Bearer
    staff : callable
        User → the name of one of the people who decide and may see counts; empty for all others.
    at_end : callable, optional
        Closes what the service has opened; by default tickets and books.
    """

    def close() -> None:
        tickets.close()
        tickets.books.close()

    app = strict_app("Support agent", at_end or close)

    def who(request: Request) -> str:
        try:  # microseconds: no thread is needed, and none is waited for
            return bearer.user(request.headers.get("authorization"))
        except Refused:
            do = "Sign in again."
            raise Problem(401, "not signed in", "You are not signed in.", do) from None

    @app.post("/v1/messages", openapi_extra=body_schema(Message))
    async def messages(request: Request) -> Response:
        user = who(request)
        told = await run_in_threadpool(tickets.say, user, await _body(request, Message))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(written(told), 200, headers, "text/event-stream")

    @app.get("/v1/tickets")
    async def mine(request: Request) -> Response:
        own = await run_in_threadpool(tickets.own, who(request))
        return response(Reply(200, {"tickets": own}))

    @app.get("/v1/tickets/{name}")
    async def ticket(name: str, request: Request) -> Response:
        return response(Reply(200, await run_in_threadpool(tickets.transcript, who(request), name)))

    @app.get("/ready")
    async def ready() -> Response:
        return response(Reply(200, {"ready": True}))

    def person(request: Request) -> str:
        try:
            name = staff(bearer.user(request.headers.get("authorization")))
        except Refused:
            name = ""
        if not name:
            raise HTTPException(404)
        return name

    _for_people(app, tickets, person)
    return app


def _for_people(app: FastAPI, tickets: Tickets, person: Callable[[Request], str]) -> None:
    """Add the routes of those who decide; the documentation does not list them."""

    @app.get("/v1/queue", include_in_schema=False)
    async def queue(request: Request, after: int = 0) -> Response:
        name = person(request)
        waiting = await run_in_threadpool(tickets.books.waiting, name)
        people = await run_in_threadpool(tickets.handed_over, name, max(0, after))
        return response(Reply(200, {"waiting": waiting, "handed_over": people}))

    @app.post("/v1/decisions", include_in_schema=False)
    async def decisions(request: Request) -> Response:
        name = person(request)
        sent = await _body(request, Decision)
        return response(Reply(200, await run_in_threadpool(tickets.decide, name, sent)))

    @app.post("/v1/answers", include_in_schema=False)
    async def answers(request: Request) -> Response:
        name = person(request)
        sent = await _body(request, Answer)
        return response(Reply(200, await run_in_threadpool(tickets.answer, name, sent)))

    @app.post("/v1/sweep", include_in_schema=False)
    async def sweep(request: Request) -> Response:
        person(request)
        return response(Reply(200, await run_in_threadpool(tickets.sweep)))

    @app.get("/v1/state", include_in_schema=False)
    async def state(request: Request) -> Response:
        person(request)
        stuck = await run_in_threadpool(tickets.books.stuck)
        unsettled = await run_in_threadpool(tickets.books.once.open)
        told = {"unsettled": unsettled, "stuck": [one["id"] for one in stuck]}
        return response(Reply(200, dict(tickets.counts) | told))
