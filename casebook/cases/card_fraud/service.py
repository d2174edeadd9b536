"""The decision service over HTTP.

``POST /decisions`` decides a transaction, ``GET /decisions/{request}`` shows what the audit holds
of it, ``POST /outcomes`` takes in what became of it, ``GET /health`` says whether the model
decides. Every error is a JSON object ``{"error", "what", "do"}``.

It has no users and no encryption: a bank runs it behind its gateway. To start one::

    python -m casebook.serving.load --factory module:function
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from casebook.cases.card_fraud.audit import Audit
from casebook.cases.card_fraud.decisions import Service
from casebook.cases.card_fraud.parts import Policy, Reply, Rules, Score, Store, rebuild
from casebook.cases.card_fraud.schema import (
    Limits,
    Payment,
    Problem,
    Report,
    Stamped,
    check_amount,
    parse,
    payload,
)
from casebook.serving.breaker import Breaker
from casebook.serving.reasons import top_reasons
from casebook.serving.tokens import Tokens, without_numbers

#: The bare service, for :class:`~casebook.serving.load.Server`.
BARE = "casebook.cases.card_fraud.service:bare_app"

__all__ = [
    "BARE",
    "Limits",
    "Problem",
    "Service",
    "bare_app",
    "create_app",
    "payload",
    "rebuild",
    "top_reasons",
]


def create_app(
    *,
    store: Store,
    score: Score | None,
    rules: Rules,
    policy: Policy,
    audit: Audit,
    breaker: Breaker,
    tokens: Tokens,
    **options: Any,
) -> FastAPI:
    """Return the decision service.

    Parameters
    ----------
    store, score, rules, policy, audit, breaker, tokens, **options
        As of :class:`~casebook.cases.card_fraud.decisions.Service`, which does the work and
        stands at ``app.state.service``.

    Returns
    -------
    FastAPI
    """
    service = Service(
        store=store,
        score=score,
        rules=rules,
        policy=policy,
        audit=audit,
        breaker=breaker,
        tokens=tokens,
        **options,
    )
    app = _app("Card fraud decisions", service.save)
    app.state.service = service

    @app.post("/decisions", openapi_extra=_body(Stamped if service.gateway else Payment))
    async def decide(request: Request) -> Response:
        raw = await read(request, service.limits)
        start = time.perf_counter()
        return _response(await run_in_threadpool(service.decide, raw, start))

    @app.get("/decisions/{request_id}")
    async def find(request_id: str) -> Response:
        return _response(await run_in_threadpool(service.find, request_id))

    @app.post("/outcomes", openapi_extra=_body(Report))
    async def report(request: Request) -> Response:
        raw = await read(request, service.limits)
        return _response(await run_in_threadpool(service.report, raw))

    @app.get("/health")
    async def health() -> Response:
        return _response(await run_in_threadpool(service.health))

    return app


def bare_app(*, gateway: bool = False, limits: Limits | None = None) -> FastAPI:
    """Return a service that reads and validates a transaction and always allows it.

    What the web server, HTTP and the validation cost: the measure for the latency of the full
    service.
    """
    app, limits = _app("Card fraud decisions, bare"), limits or Limits()

    @app.post("/decisions")
    async def decide(request: Request) -> Response:
        payment = parse(await read(request, limits), Stamped if gateway else Payment)
        check_amount(payment, limits)
        body = {"request": payment.request, "tier": "allow", "probability": None, "reasons": []}
        rest = {"source": "none", "why": "bare", "model": "none", "decided_ms": 0.0}
        return _response(Reply(200, body | rest))

    return app


async def read(request: Request, limits: Limits) -> bytes:
    """Read the body of a request, and no more than may be.

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
    if announced.isdigit() and int(announced[:20]) > limits.body:
        raise _too_large(f"The body is announced with {announced[:20]} bytes", limits)
    raw = bytearray()
    try:
        async with asyncio.timeout(limits.reading):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > limits.body:
                    raise _too_large(f"The body has {len(raw)} bytes and goes on", limits)
    except TimeoutError:
        what = f"The body did not come within {limits.reading:g} s."
        raise Problem(408, "too slow", what, "Send it again, in one piece.") from None
    except ClientDisconnect:
        raise Problem(400, "cut off", "The connection ended.", "Send it again.") from None
    return bytes(raw)


def _too_large(what: str, limits: Limits) -> Problem:
    do = "Send one transaction; it has less than 1,000 bytes."
    return Problem(413, "too large", f"{what}; at most {limits.body} are read.", do)


def _app(title: str, at_end: Callable[[], None] = lambda: None) -> FastAPI:
    """Return an empty app whose errors all look alike; ``at_end`` is called when it stops."""

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
        return _response(Reply(error.status, error.body), headers)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        what = without_numbers(f"{request.method} {request.url.path[:60]}: {error.detail}.")
        do = "See /openapi.json for what there is."
        body = {"error": str(error.detail).lower(), "what": what, "do": do}
        return _response(Reply(error.status_code, body), error.headers)

    @app.exception_handler(Exception)
    async def crash(_: Request, error: Exception) -> Response:
        what = "The service failed; the log has the reason."
        body = {"error": "internal error", "what": what, "do": "Try again with the same id."}
        return _response(Reply(500, body))

    return app


def _response(reply: Reply, headers: dict[str, str] | None = None) -> Response:
    """Return a reply as JSON in ASCII, so that what a client sent can always be told back."""
    headers = dict(headers or {})
    if reply.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(
        json.dumps(reply.body, allow_nan=False), reply.status, headers, "application/json"
    )


def _body(model: type) -> dict[str, Any]:
    schema = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": schema}}
