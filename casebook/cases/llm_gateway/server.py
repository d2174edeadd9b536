"""The gateway over HTTP: the Chat Completions API for tenants, as the official client speaks it.

``POST /v1/chat/completions`` (JSON and server-sent events), ``GET /v1/models``, ``GET /metrics``
(a tenant sees its own), ``GET /health``. Whatever goes wrong is an object that says what to do;
after the first byte of a stream it comes as the stream's last event, and ``[DONE]`` does not. Send
an ``Idempotency-Key`` with each request: a repeat then gets the same answer, and pays nothing.

A body that does not come, and a client that does not read, are given up after ten seconds, and no
tenant holds more than half of the places. Headers that do not come and connections that say nothing
are a load balancer's to end: this process does not see them.

The log has one line a request: who, which model, how long, what it cost, what was flagged. What
anybody said is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from casebook.cases.llm_gateway.admin import add_admin
from casebook.cases.llm_gateway.config import Tenant, dedicated
from casebook.cases.llm_gateway.config import read as read_config
from casebook.cases.llm_gateway.gateway import LOG, Done, Gateway, Job
from casebook.cases.llm_gateway.pages import add_pages
from casebook.cases.llm_gateway.store import Store, get_config, put_config
from casebook.serving.api_keys import Key
from casebook.serving.chat_requests import ChatRequest
from casebook.serving.rate_limits import RedisLimits
from casebook.serving.refusals import Refusal, error, told
from casebook.serving.stream_writer import StreamWriter
from casebook.serving.strict import Problem, parse
from casebook.serving.strict_app import read

#: Bytes of a body, seconds until it is there, and requests that are answered at a time.
LARGEST, PATIENCE, MOST = 1_000_000, 10.0, 2_000
#: Seconds without the store after which a gateway calls itself degraded.
BEHIND = 5.0


class Chat(Response):
    """The answer to one job, which ends when its client goes away.

    Parameters
    ----------
    gateway : Gateway
    job : Job
    usage : bool
        Whether a stream ends with its usage.
    at_end : callable
    """

    def __init__(self, gateway: Gateway, job: Job, usage: bool, at_end: Callable[[], None]) -> None:
        self.gateway, self.job, self.usage, self.at_end = gateway, job, usage, at_end
        self.begun = False
        self.status_code, self.background = 200, None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer; a client that leaves cancels this, and its request is settled."""
        task, left, self.out = asyncio.current_task(), [], StreamWriter(send)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            left.append(True)
            task.cancel()

        stream = self.job.asked.stream
        answer, status, done = self.gateway.run(self.job), 200, None
        watcher = asyncio.create_task(watch()) if stream else None
        try:
            try:
                done = await (self._stream if stream else self._whole)(answer)
            finally:
                if watcher:
                    watcher.cancel()
                await answer.aclose()
        except Problem as problem:
            status = problem.status
            await self._failed(problem, scope, receive)
        except (asyncio.CancelledError, TimeoutError) as reason:  # it left, or does not read
            status = 499
            self.out.leave()
            await answer.aclose()
            if isinstance(reason, asyncio.CancelledError):
                if not left:
                    raise
                task.uncancel()
        except Exception:
            status = 500
            LOG.exception("request %s", self.job.request)
            await self._failed(_crashed(), scope, receive)
        finally:
            self.at_end()
            logged(self.gateway, self.job, status, done)

    async def _failed(self, problem: Problem, scope: Any, receive: Any) -> None:
        """Tell what went wrong, as far as the client still reads."""
        with suppress(TimeoutError):
            if not self.begun:
                await error(problem, self.job.request)(scope, receive, self.out.send)
            elif self.job.asked.stream:
                await self.out.end(_data(told(problem)))

    async def _whole(self, answer: AsyncIterator[str | Done]) -> Done:
        """Send one object."""
        *texts, done = [piece async for piece in answer]
        said = "".join(texts)
        message = {"role": "assistant", "content": said or (None if done.calls else "")}
        message |= {"refusal": None} | ({"tool_calls": done.calls} if done.calls else {})
        choice = {"index": 0, "message": message, "finish_reason": done.finish, "logprobs": None}
        made = self._envelope("chat.completion", done.model)
        raw = json.dumps(made | {"choices": [choice], "usage": usage_of(done)}).encode()
        await self._start("application/json", len(raw))
        await self.out.end(raw)
        return done

    async def _stream(self, answer: AsyncIterator[str | Done]) -> Done:
        """Send events as the pieces come; nothing before the first of them."""
        before = b""
        async for piece in answer:
            if not self.begun:
                await self._start("text/event-stream; charset=utf-8")
                made = json.dumps(self._envelope("chat.completion.chunk", self.job.served))
                self._head = f'data: {made[:-1]}, "choices": [{{"index": 0, "delta": '
                before = self._event({"role": "assistant", "content": ""})
            if isinstance(piece, Done):
                break
            await self.out.put(before + self._event({"content": piece}))
            before = b""
        last = before
        if piece.calls:
            numbered = [{"index": at, **call} for at, call in enumerate(piece.calls)]
            last += self._event({"tool_calls": numbered})
        last += self._event({}, piece.finish)
        if self.usage:
            made = self._envelope("chat.completion.chunk", piece.model)
            last += _data(made | {"choices": [], "usage": usage_of(piece)})
        await self.out.end(last + b"data: [DONE]\n\n")
        return piece

    def _event(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        """Return one event; what all have in common was written once."""
        rest = f', "finish_reason": {json.dumps(finish)}, "logprobs": null}}]'
        usage = ', "usage": null}' if self.usage else "}"
        return f"{self._head}{json.dumps(delta)}{rest}{usage}\n\n".encode()

    async def _start(self, kind: str, length: int | None = None) -> None:
        self.begun = True
        headers = {"content-type": kind, "x-request-id": self.job.request}
        headers |= {"cache-control": "no-store"} if length is None else {}
        headers |= {} if length is None else {"content-length": str(length)}
        headers |= {"x-gateway-warning": "over budget"} if "over budget" in self.job.flags else {}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.out.send({"type": "http.response.start", "status": 200, "headers": raw})

    def _envelope(self, kind: str, model: str) -> dict[str, Any]:
        made = {"id": f"chatcmpl-{self.job.request}", "object": kind}
        return made | {"created": int(self.gateway.clock()), "model": model}


def _data(body: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def usage_of(done: Done) -> dict[str, int]:
    """Return the tokens of an answer as clients know them."""
    counted = {"prompt_tokens": done.tokens_in, "completion_tokens": done.tokens_out}
    return counted | {"total_tokens": done.tokens_in + done.tokens_out}


def logged(gateway: Gateway, job: Job, status: int, done: Done | None) -> None:
    """Write the line of a request, and count it."""
    seconds = time.perf_counter() - job.began
    who = {"tenant": job.tenant.name, "model": job.model.name}
    line = {"request": job.request, **who, "status": status, "ms": round(1000 * seconds, 1)}
    line |= {"prompt": job.prompt, "flags": job.flags, "tried": job.tried}
    if done:  # nothing of what was said: the calls are left out
        line |= {"served": done.model, "finish": done.finish, "how": done.how}
        line |= {"tokens_in": done.tokens_in, "tokens_out": done.tokens_out}
    LOG.info(json.dumps(line))
    gateway.metrics.count("requests_total", **who, status=status)
    gateway.metrics.time("request_seconds", seconds, **who)
    for flag in job.flags:
        gateway.metrics.count("flags_total", tenant=who["tenant"], flag=flag.partition(":")[0])
    for model, kind in job.tried:
        gateway.metrics.count("attempts_failed_total", tenant=who["tenant"], model=model, kind=kind)
    if done and done.how != "replayed":  # that one was counted when it was billed
        for side, n in (("in", done.tokens_in), ("out", done.tokens_out)):
            gateway.metrics.count("tokens_total", n, **who, side=side)


# Routes --------------------------------------------------------------------------------


class Api:
    """The routes of a gateway.

    Parameters
    ----------
    gateway : Gateway
    most : int
        Requests that are answered at a time, for a tenant half of them; one more gets 503 before
        its body is read.
    """

    def __init__(self, gateway: Gateway, most: int) -> None:
        self.gateway, self.most, self.busy = gateway, most, Counter()
        self._alive: asyncio.Task | None = None

    async def ready(self) -> None:
        """Begin to follow the store; some servers run no lifespan, so requests ask for it too."""
        if self._alive is None or self._alive.done():
            self._alive = asyncio.create_task(self.gateway.live())
        if not self.gateway.knows:
            await self.gateway.refresh()

    @asynccontextmanager
    async def life(self, _: FastAPI) -> AsyncIterator[None]:
        """Follow the store while the app lives."""
        await self.ready()
        yield
        self._alive.cancel()
        await asyncio.wait([self._alive])
        await self.gateway.caller.close()
        await self.gateway.limits.close()

    async def who(self, request: Request) -> tuple[Tenant, Key]:
        """Return tenant and key of a request."""
        await self.ready()
        address = request.client.host if request.client else ""
        return self.gateway.who(request.headers.get("authorization", ""), address)

    def refused(self, problem: Problem) -> Response:
        """Return an error, and count it."""
        self.gateway.metrics.count("refused_total", status=problem.status, code=problem.error)
        return error(problem)

    def _place(self, tenant: str) -> Callable[[], None]:
        """Take a place; return what gives it back. 503 if there is none for this tenant."""
        if self.busy.total() >= self.most or self.busy[tenant] >= max(1, self.most // 2):
            what = f"{self.busy[tenant]} requests of yours are being answered, or too many in all."
            raise Refusal(503, "too many requests", what, "Send it again.", 1.0)
        self.busy[tenant] += 1

        def leave() -> None:
            self.busy[tenant] -= 1

        return leave

    async def chat(self, request: Request) -> Response:
        """Answer ``POST /v1/chat/completions``."""
        leave = None
        try:
            tenant, _ = await self.who(request)
            leave = self._place(tenant.name)
            asked = parse(await read(request, LARGEST, PATIENCE), ChatRequest)
            once = request.headers.get("idempotency-key", "")
            job = await self.gateway.admit(tenant, asked, once)
            options = asked.stream_options
            usage = bool(options and options.include_usage)
            return Chat(self.gateway, job, usage, leave)
        except BaseException as raised:
            if leave:
                leave()
            if isinstance(raised, Problem):
                return self.refused(raised)
            raise

    async def models(self, request: Request) -> Response:
        """Answer ``GET /v1/models`` and ``GET /v1/models/{name}``."""
        try:
            tenant, _ = await self.who(request)
            name = request.path_params.get("name")
            names = [self.gateway.model_of(tenant, name)] if name else tenant.models
        except Problem as problem:
            return self.refused(problem)
        fixed = {"object": "model", "created": 0, "owned_by": "gateway"}
        made = [{"id": one, **fixed} for one in names]
        return _json(made[0] if name else {"object": "list", "data": made})

    async def metrics(self, request: Request) -> Response:
        """Answer ``GET /metrics``."""
        try:
            tenant, key = await self.who(request)
        except Problem as problem:
            return self.refused(problem)
        lines = self.gateway.metrics.text(None if key.role == "platform" else tenant.name)
        return Response(lines, media_type="text/plain; version=0.0.4")

    async def health(self, _: Request) -> Response:
        """Answer ``GET /health``."""
        n = sum(one.state == "open" for one in self.gateway.caller.health.values())
        behind = round(self.gateway.behind, 1)
        status = "degraded" if n or behind > BEHIND else "ok"
        return _json({"status": status, "breakers_open": n, "store_behind_s": behind})


def _json(body: Any) -> Response:
    return Response(json.dumps(body), media_type="application/json")


def create_app(gateway: Gateway, most: int = MOST) -> FastAPI:
    """Return a gateway as an app, which closes its connections and leaves its store open."""
    api = Api(gateway, most)
    app = FastAPI(title="LLM gateway", docs_url=None, redoc_url=None, lifespan=api.life)
    app.add_route("/v1/chat/completions", api.chat, methods=["POST"])
    for path, call in (
        ("/v1/models", api.models),
        ("/v1/models/{name}", api.models),
        ("/metrics", api.metrics),
        ("/health", api.health),
    ):
        app.add_route(path, call, methods=["GET"])
    add_pages(app, gateway, add_admin(app, gateway, api.who, api.refused), api.ready)
    _errors(app)
    return app


def _errors(app: FastAPI) -> None:
    """Let the other errors of the app look like its own."""

    @app.exception_handler(HTTPException)
    async def http(request: Request, raised: HTTPException) -> Response:
        what = f"{request.method} {request.url.path[:60]}: {raised.detail}."
        do = "Send POST /v1/chat/completions or GET /v1/models."
        return error(Problem(raised.status_code, str(raised.detail).lower(), what, do))

    @app.exception_handler(Exception)
    async def crash(_: Request, raised: Exception) -> Response:
        return error(_crashed())


def _crashed() -> Refusal:
    what = "The gateway failed; its log has the reason."
    return Refusal(500, "internal error", what, "Report it with the number of the request.")


def app(path: str, config: str = "", only: str = "", durable: bool = False) -> FastAPI:
    """Return a gateway for a process of its own.

    Parameters
    ----------
    path : str
        File of the database, or the URL of a PostgreSQL server. Limits are shared with other
        gateways in Redis if ``CASEBOOK_REDIS_URL`` is set.
    config : str
        JSON of the configuration of a database that has none yet; afterwards what tenants have set
        holds, and the platform changes it over the admin API.
    only : str
        The one tenant of the configuration that this gateway serves, alone.
    durable : bool
        Whether bills in a file survive a power cut as well as a kill.
    """
    logging.basicConfig(format="%(message)s")
    LOG.setLevel(logging.INFO)
    store = Store(path, durable)
    if config and not store.submit(get_config).result().tenants:
        made = read_config(config)
        store.submit(put_config, dedicated(made, only) if only else made).result()
    return create_app(Gateway(store, limits=shared_limits(os.environ.get("CASEBOOK_REDIS_URL"))))


def shared_limits(url: str | None, prefix: str = "limit") -> RedisLimits | None:
    """Return limits in Redis, or None without a URL."""
    if not url:
        return None
    from redis.asyncio import Redis

    client = Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)
    return RedisLimits(client, prefix)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a gateway until the process is told to end."""
    import uvicorn

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--db", required=True, help="file, or URL of PostgreSQL")
    parser.add_argument(
        "--config", type=Path, help="JSON file for a database without configuration"
    )
    parser.add_argument("--only", default="", help="the one tenant of that file to serve, alone")
    parser.add_argument("--durable", action="store_true", help="bills survive a power cut too")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8643)
    given = parser.parse_args(arguments)
    made = app(
        given.db, given.config.read_text() if given.config else "", given.only, given.durable
    )
    uvicorn.run(made, host=given.host, port=given.port, access_log=False)


if __name__ == "__main__":
    main()
