"""The assistant over HTTP: who asks is proved by a token, what is shown is asked about each time.

A request says who asks (:mod:`casebook.serving.bearer`), what, and in which conversation. The
answer comes as server-sent events, piece by piece; before each piece the store of rights is asked
about every document that the answer was made from, so that a user who is removed in mid-stream
sees no further piece. Errors say what to do, and are the same for what is hidden and what is not
there. Beside it lie thumbs, budgets, and alarms: a source whose texts lag by two hours or whose
rights lag by a minute, what the copy of the sources has trouble with, answers that fail, a p95
over eight seconds.

Whoever hangs up ends the stream: tokens are settled and what was shown is kept, by a thread that
may wait for a lock (:mod:`casebook.serving.closing`). What is too old is overwritten while requests
come; a probe of ``/ready`` is one.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from casebook.cases.knowledge_assistant.desk import LONGEST_ANCHOR, Citation, Desk, NotFound
from casebook.cases.knowledge_assistant.records import RESOURCE
from casebook.llm import estimate_tokens
from casebook.serving.allowance import Allowance
from casebook.serving.bearer import Bearer, Refused
from casebook.serving.closing import Closing, finish
from casebook.serving.pulse import Pulse, Thumbs, known, lagging
from casebook.serving.strict import Problem, Reply, Strict, parse
from casebook.serving.strict_app import body_schema, read, response, strict_app

#: Bytes and seconds of a body; characters of a question; tokens that an answer may take.
BODY, BODY_SECONDS, LONGEST, ANSWER = 16_384, 5.0, 2_000, 4_000
#: Seconds from which an alarm rings: lag of texts, lag of rights, the 95th percentile.
LAG, RIGHTS, P95 = 7_200.0, 60.0, 8.0
#: Answers in a row that fail until the service calls itself not ready, and seconds from the last
#: of them until it tries again; seconds between two times of tidying up.
BROKEN, AGAIN, TIDY = 5, 30.0, 600.0
#: The largest version: numbers of JSON reach no further.
VERSIONS = 2**53
_log = logging.getLogger(__name__)
_CITED = "the citation has it"
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
    turn: Annotated[int, Field(ge=0, le=2**53, description="the turn's number, from 0")]
    up: Annotated[bool, Field(description="true or false")]


class Cited(Strict):
    """A citation, as an answer has it."""

    invalid, hidden = "invalid citation", frozenset({"anchor"})
    document: Annotated[str, Field(pattern=f"^{RESOURCE.pattern}$", description=_CITED)]
    version: Annotated[int, Field(ge=1, le=VERSIONS, description=_CITED)]
    anchor: Annotated[str, Field(min_length=1, max_length=LONGEST_ANCHOR, description=_CITED)]
    start: Annotated[int, Field(ge=0, le=200_000, description=_CITED)]
    title: Annotated[str, Field(max_length=400, description=_CITED)] = ""
    told: Annotated[int, Field(ge=0, le=VERSIONS, description=_CITED)] = 0


class Service:
    """What the routes call; it knows nothing of HTTP.

    Parameters
    ----------
    desk : Desk
    bearer : Bearer
    lags, rights : callable, optional
        Seconds since each source's texts and rights were last read to their end, None where they
        never were; as the library was told by default.
    budget : Allowance
    path : str
        File of thumbs.
    troubles : callable, optional
        What somebody has to look at, by source: :meth:`.Mirror.troubles`.
    """

    def __init__(
        self,
        desk: Desk,
        bearer: Bearer,
        lags: Callable[[], Mapping[str, float | None]] | None = None,
        budget: Allowance | None = None,
        path: str = ":memory:",
        rights: Callable[[], Mapping[str, float | None]] | None = None,
        troubles: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.desk, self.bearer, self.clock = desk, bearer, desk.access.clock
        self.lags = lags or desk.library.lags.seconds
        self.rights = rights or desk.library.rights_lags.seconds
        self.troubles = troubles
        self.budget = budget or Allowance(":memory:", tokens=200_000)
        self.pulse, self.thumbs = Pulse(), Thumbs(path)
        self._left: deque[Callable[[], None]] = deque()
        self._tidied = self._failed = float("-inf")

    def user(self, header: str | None) -> str:
        """Return who asks.

        Raises
        ------
        Problem
            401 without a token that holds, and for somebody who has left or never was there.
        """
        what, do = "You are not signed in.", "Sign in again."
        try:
            user = self.bearer.user(header)
        except Refused as why:
            if str(why) == "expired":
                what = "Your sign-in has expired."
            elif str(why) == "issued in the future":
                what = "Your sign-in is dated later than this service's clock."
                do = "Wait a minute and try again; if that does not help, have the clocks compared."
            raise Problem(401, "not signed in", what, do) from None
        if not self.active(user):
            raise Problem(401, "not signed in", what, do)
        return user

    def active(self, user: str) -> bool:
        """Say whether somebody is there now, by the store of rights."""
        return self.desk.access.active(user)

    def ask(self, user: str, sent: Question, timer: Callable[[], float]) -> Closing:
        """Yield an answer: how the question was understood, pieces, citations at its end.

        Who does not read it to the end closes it; then the tokens are settled.

        Raises
        ------
        Problem
            429, before anything is yielded, if the day's budget does not reach.
        """
        begin, now = timer(), self.clock()
        finish(self._left)
        if not self.budget.reserve(user, ANSWER, now):
            what = f"Your budget of {self.budget.tokens:,} tokens a day is used up."
            raise Problem(429, "budget", what, "Ask again after midnight UTC.")
        used, took = list[int](), list[float]()
        stream = self.desk.ask(user, sent.conversation, sent.question, used.append)

        def end() -> None:
            try:
                getattr(stream, "close", lambda: None)()
            finally:
                self.budget.settle(user, ANSWER, sum(used), now)
            if took and took[-1] >= 0:
                self.pulse.beat(took[0], timer() - begin)

        told = self._answered(stream, sent, lambda: timer() - begin, used, took)
        return Closing(told, end, self._left)

    def _answered(self, stream, sent: Question, passed, used: list, took: list) -> Iterator:
        """Yield the events; note the tokens, and the seconds to the first piece.

        What fails is no answer, whatever time it took: its seconds end with -1.
        """
        used.append(estimate_tokens(sent.question))
        try:
            for told in stream:
                if told["event"] == "piece":
                    took.extend([] if took else [passed()])
                    used.append(estimate_tokens(told["text"]))
                yield told
            took.extend([] if took else [passed()])
        except Exception as error:
            took.append(-1.0)
            self.failed(error)
            raise

    def failed(self, error: Exception) -> None:
        """Count a failure and log where it happened, without its text: that may be a document's."""
        self.pulse.fail()
        self._failed = self.clock()
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames))
        _log.error("%s at %s", type(error).__name__, where)

    def ready(self) -> bool:
        """Say whether answers can be expected: the rights can be read, the last ones did not fail.

        After :data:`AGAIN` seconds without a failure it is worth a try.
        """
        self.tidy()
        try:
            self.desk.access.sight("")
        except Exception as error:
            _log.error("the rights cannot be read: %s", type(error).__name__)
            return False
        return self.pulse.broken() < BROKEN or self.clock() - self._failed > AGAIN

    def tidy(self) -> None:
        """Settle streams that were thrown away and, now and then, overwrite what is too old."""
        finish(self._left)
        now = self.clock()
        if abs(now - self._tidied) >= TIDY:
            self._tidied = now
            self.desk.purge()

    def history(self, user: str, conversation: str) -> dict[str, Any]:
        """Return a conversation as its user may see it now; NotFound for any other."""
        turns = self.desk.history(user, conversation)
        if not turns:
            raise self.desk.refusal(conversation)
        told = [
            {"turn": t.number, "question": t.question, "answer": [p.text for p in t.pieces]}
            for t in turns
        ]
        return {"turns": told}

    def open(self, user: str, document: str) -> dict[str, Any]:
        """Return a document; NotFound for what is hidden, gone, or was never there."""
        page = self.desk.open(user, document)
        shown = page.as_told()  # the version as its source counts, not our edition
        return {name: str(getattr(shown, name)) for name in ("title", "path", "body", "version")}

    def resolve(self, user: str, sent: Cited) -> dict[str, Any]:
        """Return where a citation leads; NotFound as :meth:`open`."""
        return self.desk.resolve(user, Citation(**sent.model_dump(exclude={"title", "told"})))

    def thumb(self, user: str, sent: Thumb) -> dict[str, Any]:
        """Keep the last thumb of a user and turn; NotFound for a turn that is not the user's."""
        if all(turn.number != sent.turn for turn in self.desk.history(user, sent.conversation)):
            raise self.desk.refusal(sent.conversation)
        self.thumbs.put(user, sent.conversation, sent.turn, sent.up, self.clock())
        return {"kept": True}

    def state(self) -> dict[str, Any]:
        """Return counts, times, lags and alarms; no name of a user, a document or a group."""
        up, rated = self.thumbs.count()
        lags, rights = self.lags(), self.rights()
        told = self.pulse.told() | {"up": up, "thumbs": rated}
        told |= {"lags": known(lags), "rights_lags": known(rights)}
        late = [*lagging(rights, RIGHTS, " (rights)"), *lagging(lags, LAG)]
        do = "See the copy of the sources: what it has put aside, and why."
        feeds = [
            {"error": "feed", "what": f"{name}: {what}.", "do": do}
            for name, what in sorted(self.troubles().items())
        ]
        return told | {"alarms": [*late, *feeds, *self.pulse.alarms(P95)]}


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
        except Problem:
            raise
        except Exception as error:
            service.failed(error)
            raise

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
        well = await run_in_threadpool(service.ready)
        return response(Reply(200 if well else 503, {"ready": well}))

    return app


def _posts(app: FastAPI, service: Service, timer: Callable, who: Callable, made: Callable) -> None:
    """Add the routes that take a body."""

    async def posted(request: Request, model: type[Strict]) -> tuple[str, Any]:
        return await who(request), parse(await read(request, BODY, BODY_SECONDS), model)

    @app.post("/v1/ask", openapi_extra=body_schema(Question))
    async def ask(request: Request) -> Response:
        user, sent = await posted(request, Question)
        await run_in_threadpool(service.tidy)
        try:
            events = await run_in_threadpool(service.ask, user, sent, timer)
        except Problem as problem:
            wait = str(service.budget.renewed(service.clock()))
            return response(Reply(problem.status, problem.body), {"Retry-After": wait})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Streamed(events, headers)

    @app.post("/v1/citations", openapi_extra=body_schema(Cited))
    async def citations(request: Request) -> Response:
        return await made(service.resolve, *await posted(request, Cited))

    @app.post("/v1/thumbs", openapi_extra=body_schema(Thumb))
    async def thumbs(request: Request) -> Response:
        return await made(service.thumb, *await posted(request, Thumb))


class _Streamed(StreamingResponse):
    """A stream of events that is closed whatever becomes of the client, by a thread that may wait.

    Nobody else closes it: a client that hangs up leaves the iterator half read, or never started.
    """

    def __init__(self, events: Closing, headers: Mapping[str, str]) -> None:
        super().__init__(written(events), 200, headers, "text/event-stream")
        self._events = events

    async def __call__(self, *asgi: Any) -> None:
        try:
            await super().__call__(*asgi)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._events.close)


def written(events: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Write events as a stream; a failure is an event of its own, which tells no reason."""
    try:
        for told in events:
            yield f"event: {told['event']}\ndata: {json.dumps(told)}\n\n"
    except Exception:  # it was logged and counted where it happened
        what = {"event": "failed", "what": "The answer broke off.", "do": "Ask again."}
        yield f"event: failed\ndata: {json.dumps(what)}\n\n"
