"""An agent that talks over HTTP: tickets, turns as a stream, buttons, a queue for people.

Who asks is proved by a token (:mod:`casebook.serving.bearer`); a ticket of somebody else and one
that never was are the same. A turn comes as server-sent events, word by word, and only after it was
reviewed as a whole: what is shown cannot be taken back. People decide about what waits under
another token. Conversations live in memory and are handed to a person after a restart.

:class:`Tickets` knows nothing of HTTP; a page and a test call it as the routes do.

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
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from casebook.serving.agent import Conversation, Said, Turn
from casebook.serving.approvals import NotAllowed
from casebook.serving.bearer import Bearer, Refused
from casebook.serving.proposals import Proposals
from casebook.serving.strict import Problem, Reply, Strict, parse
from casebook.serving.strict_app import body_schema, read, response, strict_app

#: Bytes and seconds of a body; characters of a message; open tickets of one customer.
BODY, BODY_SECONDS, LONGEST, OPEN = 16_384, 5.0, 2_000, 5
#: Conversations that are kept; of more, those at their end are forgotten.
KEPT = 10_000
Ident = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="1 to 64 letters, digits, - or _")
]
Text = Annotated[str, Field(max_length=LONGEST, description=f"at most {LONGEST:,} characters")]


class Message(Strict):
    """A message of a ticket, or a button under the last turn."""

    invalid, hidden = "invalid message", frozenset({"text"})
    ticket: Ident
    text: Text
    button: Annotated[bool | None, Field(description="true, false or null")] = None
    proposal: Annotated[str, Field(max_length=64, description="as it was shown, or empty")] = ""


class Decision(Strict):
    """What one of the staff says of something that waits."""

    invalid = "invalid decision"
    proposal: Ident
    allow: Annotated[bool, Field(description="true or false")]


class Tickets:
    """The conversations of all customers.

    Parameters
    ----------
    talk : callable
        User → a new conversation of that user.
    books : Proposals
        What waits for people.
    log : callable
        Takes what happens as keywords.
    """

    def __init__(
        self,
        talk: Callable[[str], Conversation],
        books: Proposals,
        log: Callable[..., object] = lambda **row: None,
    ) -> None:
        self._talk, self.books, self._log = talk, books, log
        self._open: dict[tuple[str, str], Conversation] = {}
        self._locks = [threading.Lock() for _ in range(64)]
        self.counts = {"tickets": 0, "closed": 0, "people": 0}

    def say(self, user: str, sent: Message) -> dict[str, Any]:
        """Take a message or a button, and return the turn.

        Raises
        ------
        Problem
            409 for a ticket that is at its end, 429 for too many open ones.
        """
        key = (user, sent.ticket)
        with self._locks[hash(user) % len(self._locks)]:
            turn = self._turn(key, sent)
            talk = self._open[key]
            self.counts["closed"] += talk.state == "closed"
            self.counts["people"] += talk.state == "person"
            self._log(what="turn", ticket=sent.ticket, state=talk.state, why=talk.why)
        if turn is None:
            return {"act": "closed", "text": ""}
        told = {"act": turn.act, "text": turn.text}
        return told | (
            {"proposal": turn.proposal, "content": dict(turn.content)} if turn.proposal else {}
        )

    def _turn(self, key: tuple[str, str], sent: Message) -> Turn | None:
        talk = self._open.get(key)
        if talk is not None and _open(talk):
            return talk.hear(Said(sent.text, sent.button, sent.proposal))
        if talk is not None:
            what = "This ticket is closed, or a person has it."
            raise Problem(409, "at its end", what, "Open another one.")
        mine = [t for (who, _), t in list(self._open.items()) if who == key[0] and _open(t)]
        if len(mine) >= OPEN:
            what = f"{OPEN} tickets of yours are open."
            raise Problem(429, "too many tickets", what, "Finish one of them first.")
        for old, done in list(self._open.items())[: max(0, len(self._open) - KEPT)]:
            if not _open(done):
                self._open.pop(old, None)
        self._open[key] = talk = self._talk(key[0])
        self.counts["tickets"] += 1
        return talk.open(sent.text)

    def transcript(self, user: str, ticket: str) -> dict[str, Any]:
        """Return what was said on a ticket of this user, and why a person has it.

        Raises
        ------
        Problem
            404 for a ticket that is not there, or not theirs.
        """
        talk = self._open.get((user, ticket))
        if talk is None:
            raise Problem(404, "not found", "There is no such ticket here.", "Check its name.")
        return {"state": talk.state, "why": talk.why, "turns": [list(t) for t in talk.transcript]}

    def handed_over(self) -> list[dict[str, Any]]:
        """Return the tickets that people have, with all that was said: the oldest first."""
        people = [(k, t) for k, t in list(self._open.items()) if t.state == "person"]
        return [{"user": u, "ticket": n} | self.transcript(u, n) for (u, n), _ in people]

    def decide(self, who: str, sent: Decision) -> dict[str, Any]:
        """Take a person's decision; 409 for one that does not count."""
        try:
            return {"state": self.books.allow(sent.proposal, who, sent.allow)}
        except NotAllowed as refused:
            raise Problem(409, "not allowed", str(refused), "Look at the queue again.") from None


def _open(talk: Conversation) -> bool:
    return talk.state not in ("closed", "person")


def written(told: dict[str, Any]) -> Iterator[str]:
    """Write a turn as server-sent events: its words, then all of it."""
    for piece in re.findall(r"\s*\S+", told["text"]):
        yield f"event: piece\ndata: {json.dumps({'text': piece})}\n\n"
    yield f"event: turn\ndata: {json.dumps(told)}\n\n"


def app_of(tickets: Tickets, bearer: Bearer, staff: Callable[[str], str]) -> FastAPI:
    """Return the service as an application.

    Parameters
    ----------
    tickets : Tickets
    bearer : Bearer
    staff : callable
        User → the name of one of the people who decide and may see counts; empty for all others.
    """
    app = strict_app("Support agent", tickets.books.close)

    async def who(request: Request) -> str:
        try:
            return await run_in_threadpool(bearer.user, request.headers.get("authorization"))
        except Refused:
            do = "Sign in again."
            raise Problem(401, "not signed in", "You are not signed in.", do) from None

    async def person(request: Request) -> str:
        if not (name := staff(await who(request))):
            raise Problem(404, "not found", "There is no such page.", "See /openapi.json.")
        return name

    @app.post("/v1/messages", openapi_extra=body_schema(Message))
    async def messages(request: Request) -> Response:
        user = await who(request)
        sent = parse(await read(request, BODY, BODY_SECONDS), Message)
        told = await run_in_threadpool(tickets.say, user, sent)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(written(told), 200, headers, "text/event-stream")

    @app.get("/v1/tickets/{name}")
    async def ticket(name: str, request: Request) -> Response:
        return response(Reply(200, tickets.transcript(await who(request), name)))

    @app.get("/ready")
    async def ready() -> Response:
        return response(Reply(200, {"ready": True}))

    _for_people(app, tickets, person)
    return app


def _for_people(
    app: FastAPI, tickets: Tickets, person: Callable[[Request], Awaitable[str]]
) -> None:
    """Add the routes of those who decide."""

    @app.get("/v1/queue")
    async def queue(request: Request) -> Response:
        await person(request)
        waiting = tickets.books.approvals.waiting()
        return response(Reply(200, {"waiting": waiting, "handed_over": tickets.handed_over()}))

    @app.post("/v1/decisions", openapi_extra=body_schema(Decision))
    async def decisions(request: Request) -> Response:
        name = await person(request)
        sent = parse(await read(request, BODY, BODY_SECONDS), Decision)
        return response(Reply(200, await run_in_threadpool(tickets.decide, name, sent)))

    @app.get("/v1/state")
    async def state(request: Request) -> Response:
        await person(request)
        return response(Reply(200, dict(tickets.counts) | {"unsettled": tickets.books.once.open()}))
