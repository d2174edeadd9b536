"""The assistant over HTTP: who asks is proved by a token, what is shown is asked about each time.

A request says who asks (:mod:`casebook.serving.bearer`), what, and in which conversation. The
answer comes as server-sent events, piece by piece; before each piece the store of rights is asked
about every document that the answer was made from, so that a user who is removed in mid-stream
sees no further piece. Errors say what to do, and are the same for what is hidden and what is not
there. Beside it lie thumbs, budgets, and two alarms: a source that lags by two hours, a p95 over
eight seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from casebook.cases.knowledge_assistant.desk import Citation, Desk, NotFound
from casebook.cases.knowledge_assistant.records import RESOURCE
from casebook.llm import estimate_tokens
from casebook.serving.allowance import Allowance
from casebook.serving.bearer import Bearer, Refused
from casebook.serving.pulse import Pulse, Thumbs, lagging
from casebook.serving.strict import Problem, Reply, Strict, parse
from casebook.serving.strict_app import body_schema, read, response, strict_app

#: Bytes and seconds of a body; characters of a question; tokens that an answer may take.
BODY, BODY_SECONDS, LONGEST, ANSWER = 16_384, 5.0, 2_000, 4_000
#: Seconds of lag and of the 95th percentile from which an alarm rings.
LAG, P95 = 7_200.0, 8.0
_NAME = "1 to 64 letters, digits, - or _"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description=_NAME)]
Text = Annotated[
    str, Field(min_length=1, max_length=LONGEST, description=f"1 to {LONGEST:,} characters")
]
DO = "Check the link; ask the owner of the space for access."


class Question(Strict):
    """A turn of a conversation."""

    invalid, hidden = "invalid question", frozenset({"question"})
    conversation: Name
    question: Text


class Thumb(Strict):
    """What a user thinks of an answer."""

    invalid = "invalid thumb"
    conversation: Name
    turn: Annotated[int, Field(ge=0, le=49, description="the turn's number, from 0 to 49")]
    up: Annotated[bool, Field(description="true or false")]


class Cited(Strict):
    """A citation, as an answer has it."""

    invalid, hidden = "invalid citation", frozenset({"anchor"})
    document: Annotated[
        str, Field(pattern=f"^{RESOURCE.pattern}$", description="as in the citation")
    ]
    version: Annotated[int, Field(ge=1, le=2**31, description="as in the citation")]
    anchor: Annotated[str, Field(min_length=1, max_length=2_000, description="as in the citation")]
    start: Annotated[int, Field(ge=0, le=200_000, description="as in the citation")]
    title: Annotated[str, Field(max_length=400, description="as in the citation")] = ""


class Service:
    """What the routes call; it knows nothing of HTTP.

    Parameters
    ----------
    desk : Desk
    bearer : Bearer
    lags : callable
        Seconds since each source was last read to its end.
    budget : Allowance
    path : str
        File of thumbs.
    """

    def __init__(
        self,
        desk: Desk,
        bearer: Bearer,
        lags: Callable[[], Mapping[str, float]] = dict,
        budget: Allowance | None = None,
        path: str = ":memory:",
    ) -> None:
        self.desk, self.bearer, self.lags, self.clock = desk, bearer, lags, desk.access.clock
        self.budget = budget or Allowance(":memory:", tokens=200_000)
        self.pulse, self.thumbs = Pulse(), Thumbs(path)

    def user(self, header: str | None) -> str:
        """Return who asks.

        Raises
        ------
        Problem
            401 without a token that holds.
        """
        try:
            return self.bearer.user(header)
        except Refused as why:
            what = (
                "Your sign-in has expired." if str(why) == "expired" else "You are not signed in."
            )
            raise Problem(401, "not signed in", what, "Sign in again.") from None

    def ask(
        self, user: str, sent: Question, timer: Callable[[], float]
    ) -> Iterator[dict[str, Any]]:
        """Yield an answer: how the question was understood, pieces, citations at its end.

        Raises
        ------
        Problem
            429, before anything is yielded, if the day's budget does not reach.
        """
        begin, now = timer(), self.clock()
        if not self.budget.reserve(user, ANSWER, now):
            what = f"Your budget of {self.budget.tokens:,} tokens a day is used up."
            raise Problem(429, "budget", what, "Ask again after midnight UTC.")
        return self._answered(user, sent, timer, begin, now)

    def _answered(self, user: str, sent: Question, timer, begin: float, now: float) -> Iterator:
        """Yield the events; whatever ends them, the tokens are booked."""
        used, first = [estimate_tokens(sent.question)], None
        try:
            for told in self.desk.ask(user, sent.conversation, sent.question, used.append):
                if told["event"] == "piece":
                    first = timer() - begin if first is None else first
                    used.append(estimate_tokens(told["text"]))
                yield told
        finally:
            self.budget.settle(user, ANSWER, sum(used), now)
            whole = timer() - begin
            self.pulse.beat(whole if first is None else first, whole)

    def history(self, user: str, conversation: str) -> dict[str, Any]:
        """Return a conversation as its user may see it now; NotFound for any other."""
        turns = self.desk.history(user, conversation)
        if not turns:
            raise self.desk.refusal(conversation)
        told = [{"question": t.question, "answer": [p.text for p in t.pieces]} for t in turns]
        return {"turns": told}

    def open(self, user: str, document: str) -> dict[str, Any]:
        """Return a document; NotFound for what is hidden, gone, or was never there."""
        page = self.desk.open(user, document)
        return {name: str(getattr(page, name)) for name in ("title", "path", "body", "version")}

    def resolve(self, user: str, sent: Cited) -> dict[str, Any]:
        """Return where a citation leads; NotFound as :meth:`open`."""
        return self.desk.resolve(user, Citation(**sent.model_dump(exclude={"title"})))

    def thumb(self, user: str, sent: Thumb) -> dict[str, Any]:
        """Keep the last thumb of a user and turn; NotFound for a turn that is not the user's."""
        if sent.turn >= len(self.desk.history(user, sent.conversation)):
            raise self.desk.refusal(sent.conversation)
        self.thumbs.put(user, sent.conversation, sent.turn, sent.up, self.clock())
        return {"kept": True}

    def state(self) -> dict[str, Any]:
        """Return counts, times and alarms; no name of a user, a document or a group."""
        up, rated = self.thumbs.count()
        told = self.pulse.told() | {"up": up, "thumbs": rated}
        return told | {"alarms": [*lagging(self.lags(), LAG), *self.pulse.alarms(P95)]}


def app_of(service: Service, timer: Callable[[], float], operator: str) -> FastAPI:
    """Return the service as an application.

    Parameters
    ----------
    service : Service
    timer : callable
        Seconds of a clock that never goes back.
    operator : str
        The user who may read metrics and alarms: what they tell concerns everybody.
    """
    app = strict_app("Knowledge assistant")

    async def who(request: Request) -> str:
        return await run_in_threadpool(service.user, request.headers.get("authorization"))

    async def made(call: Callable, *given: Any) -> Response:
        """Answer with what a call returns; what it does not find is one refusal, for all."""
        try:
            return response(Reply(200, await run_in_threadpool(call, *given)))
        except NotFound as refused:
            raise Problem(404, "not found", str(refused), DO) from None

    _posts(app, service, timer, who, made)

    @app.get("/v1/documents/{name}")
    async def document(name: str, request: Request) -> Response:
        return await made(service.open, await who(request), name)

    @app.get("/v1/conversations/{name}")
    async def history(name: str, request: Request) -> Response:
        return await made(service.history, await who(request), name)

    @app.get("/v1/state")
    async def state(request: Request) -> Response:
        if await who(request) != operator:
            raise Problem(404, "not found", str(service.desk.refusal("state")), DO)
        return await made(service.state)

    @app.get("/ready")
    async def ready() -> Response:
        return response(Reply(200, {"ready": True}))

    return app


def _posts(app: FastAPI, service: Service, timer: Callable, who: Callable, made: Callable) -> None:
    """Add the routes that take a body."""

    async def posted(request: Request, model: type[Strict]) -> tuple[str, Any]:
        return await who(request), parse(await read(request, BODY, BODY_SECONDS), model)

    @app.post("/v1/ask", openapi_extra=body_schema(Question))
    async def ask(request: Request) -> Response:
        user, sent = await posted(request, Question)
        try:
            events = await run_in_threadpool(service.ask, user, sent, timer)
        except Problem as problem:
            wait = str(service.budget.renewed(service.clock()))
            return response(Reply(problem.status, problem.body), {"Retry-After": wait})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(written(events), 200, headers, "text/event-stream")

    @app.post("/v1/citations", openapi_extra=body_schema(Cited))
    async def citations(request: Request) -> Response:
        return await made(service.resolve, *await posted(request, Cited))

    @app.post("/v1/thumbs", openapi_extra=body_schema(Thumb))
    async def thumbs(request: Request) -> Response:
        return await made(service.thumb, *await posted(request, Thumb))


def written(events: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Write events as a stream; a failure is an event of its own, which tells no reason."""
    try:
        for told in events:
            yield f"event: {told['event']}\ndata: {json.dumps(told)}\n\n"
    except Exception:
        what = {"event": "failed", "what": "The answer broke off.", "do": "Ask again."}
        yield f"event: failed\ndata: {json.dumps(what)}\n\n"
