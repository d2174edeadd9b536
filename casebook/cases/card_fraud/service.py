"""The decision service over HTTP.

``POST /decisions`` decides a transaction, ``POST /outcomes`` takes in what became of it, ``GET
/health`` says whether the model decides. Every error is a JSON object ``{"error", "what", "do"}``.

It has no users and no encryption: a bank runs it behind its gateway. To start one::

    python -m casebook.serving.load --factory module:function
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from casebook.cases.card_fraud.audit import Audit
from casebook.cases.card_fraud.decisions import Service
from casebook.cases.card_fraud.parts import Policy, Rules, Score, Store
from casebook.cases.card_fraud.schema import Limits, Payment, Report, Stamped, check_amount
from casebook.serving.breaker import Breaker
from casebook.serving.strict import Reply, parse
from casebook.serving.strict_app import body_schema, read, response, strict_app
from casebook.serving.tokens import Tokens

#: The bare service, for :class:`~casebook.serving.load.Server`.
BARE = "casebook.cases.card_fraud.service:bare_app"


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
    app = strict_app("Card fraud decisions", service.save)
    app.state.service = service

    @app.post("/decisions", openapi_extra=body_schema(Stamped if service.gateway else Payment))
    async def decide(request: Request) -> Response:
        raw = await read(request, service.limits.body, service.limits.reading)
        start = time.perf_counter()
        return response(await run_in_threadpool(service.decide, raw, start))

    @app.post("/outcomes", openapi_extra=body_schema(Report))
    async def report(request: Request) -> Response:
        raw = await read(request, service.limits.body, service.limits.reading)
        return response(await run_in_threadpool(service.report, raw))

    @app.get("/health")
    async def health() -> Response:
        return response(await run_in_threadpool(service.health))

    return app


def bare_app(*, gateway: bool = False, limits: Limits | None = None) -> FastAPI:
    """Return a service that reads and validates a transaction and always allows it.

    What the web server, HTTP and the validation cost: the measure for the latency of the full
    service.
    """
    app, limits = strict_app("Card fraud decisions, bare"), limits or Limits()

    @app.post("/decisions")
    async def decide(request: Request) -> Response:
        payment = parse(
            await read(request, limits.body, limits.reading), Stamped if gateway else Payment
        )
        check_amount(payment, limits)
        body = {"request": payment.request, "tier": "allow", "probability": None, "reasons": []}
        rest = {"source": "none", "why": "bare", "model": "none", "decided_ms": 0.0}
        return response(Reply(200, body | rest))

    return app
