"""Small stand-ins for the decision service of case 12: store, rules, model, tiers, client.

``factory`` is what a subprocess serves: the same parts, and a crash planted where it is told.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

import httpx
import pandas as pd

from casebook.cases.card_fraud.audit import EVIDENCE, OUTCOME, Audit, Decision, event_of
from casebook.cases.card_fraud.schema import CONFIRMATIONS
from casebook.cases.card_fraud.service import create_app
from casebook.serving.breaker import Breaker
from casebook.serving.drills import Passed
from casebook.serving.strict import unstamp
from casebook.serving.tokens import Tokens

#: The service's clock stands still here.
NOW = datetime(2025, 7, 1, 12, 0)


class CountingStore:
    """Remember what it was told; its features count what it has seen of a card, and of all."""

    now = None

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.observed, self.cards = 0, {}

    def features(self, event):
        if event["terminal"] == 999:
            raise KeyError("no such terminal")
        return {"seen": float(self.observed), "card": float(self.cards.get(event["card"], 0))}

    def observe(self, event, outcome=None):
        if event["terminal"] == 999:
            raise KeyError("no such terminal")
        self.seen.append(("observe", *sorted(event.items(), key=str), outcome))
        self.observed += 1
        self.cards[event["card"]] = self.cards.get(event["card"], 0) + 1

    def settle(self, transaction, outcome, known):
        self.seen.append(("settle", transaction, outcome, known))

    def learn(self, transaction, known):
        self.seen.append(("learn", transaction, known))


def score(features):
    """A probability that rises with the card's purchases."""
    count = features.get("card", 0.0)
    return min(0.05 * count, 1.0), [f"{count:.0f} purchases"]


def busy_score(ms: float):
    """Return a model that keeps the processor busy, as LightGBM does."""

    def busy(features):
        end = time.perf_counter() + ms / 1000
        while time.perf_counter() < end:
            pass
        return score(features)

    return busy


def rules(features, event):
    if event["amount"] > 5000:
        return "block", "more than 5,000 euro"
    return "pass", ""


class Policy:
    """Three tiers, and every tenth request held back."""

    def one(self, probability, amount, number, message="purchase", strict=False):
        asks = 0.1 if strict else 0.2
        tier = "block" if probability > 0.5 else "confirm" if probability > asks else "allow"
        return tier, "allow" if number % 10 == 9 else tier


TOKENS = Tokens(b"the key of the tests")


def parts(path, **changes):
    """Return the keywords of ``create_app``."""
    made = {
        "store": CountingStore(),
        "score": score,
        "rules": rules,
        "policy": Policy(),
        "tokens": TOKENS,
        "breaker": Breaker(budget_ms=2000),
        "model": "m1",
        "rules_version": "r1",
        "clock": lambda: NOW,
    }
    made |= changes
    return made if "audit" in made else {**made, "audit": Audit(path)}


def payment(request: int = 1, /, **changes: Any) -> dict[str, Any]:
    """Return a good transaction as a client sends it."""
    return {
        "request": request,
        "time": "2025-07-01T11:59:58.500Z",
        "customer": 7,
        "card": 70,
        "terminal": 3,
        "category": "grocery",
        "channel": "in person",
        "entry": "chip",
        "amount": 23.3,
        "message": "purchase",
        "refund": False,
        "country": "home",
        "device": None,
        "ip": None,
    } | changes


def stamped(number: int, **changes: Any) -> dict[str, Any]:
    """Return a good transaction as a gateway sends it: a second after the one before."""
    at = NOW - timedelta(hours=1) + timedelta(seconds=number)
    stamps = {"transaction": number, "received": at.isoformat() + "Z"}
    return payment(number) | stamps | {"time": stamps["received"]} | changes


def ask(app, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
    """Send one request to an app of this process."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            content = json.dumps(body) if isinstance(body, dict) else body
            headers = {"Content-Type": "application/json"} | more.get("headers", {})
            return await client.request(method, path, content=content, headers=headers)

    return asyncio.run(send())


def post(app, body: Any, path: str = "/decisions", **more: Any) -> httpx.Response:
    return ask(app, "POST", path, body, **more)


def history(audit: Audit) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return transactions and evidence as training reads them, in the audit's order."""
    events: dict[int, dict[str, Any]] = {}
    told: list[tuple[int, pd.Timestamp]] = []
    for record in audit.records():
        if isinstance(record, Decision):
            event = event_of(record) | {"outcome": OUTCOME.get(record.tier), "outcome_known": None}
            events[record.transaction] = event
            continue
        known = pd.Timestamp(unstamp(record.known))
        if record.outcome in CONFIRMATIONS:
            events[record.transaction] |= {"outcome": record.outcome, "outcome_known": known}
        if record.outcome in EVIDENCE:
            told.append((record.transaction, known))
    made = pd.DataFrame(events.values())
    if len(made):
        made = made.astype(dict.fromkeys(("device", "ip"), "Int64"))
        made["outcome_known"] = pd.to_datetime(made["outcome_known"])
    frauds = pd.DataFrame(told, columns=["transaction", "known"])
    return made, frauds.sort_values("known", kind="stable", ignore_index=True)


def causal(policy, every: int = 10):
    """Return a policy that is asked again for the first half of each so-manieth batch.

    One that decides from what came before gives the same tiers again.
    """
    asked = 0

    @wraps(policy)
    def checked(batch, history):
        nonlocal asked
        tiers = list(policy(batch, history))
        half = len(batch) // 2
        if asked % every == 0 and half and len(tiers) == len(batch):
            before = list(policy(batch.iloc[:half], history))
            changed = [i for i, (a, b) in enumerate(zip(tiers, before, strict=False)) if a != b]
            if changed:
                raise ValueError(
                    f"the policy looks ahead in the batch of {history.now:%Y-%m-%d %H:%M}: "
                    f"{len(changed)} of {half} tiers change, the first at row {changed[0]}, when "
                    "the second half of the batch is taken away; use earlier rows only"
                )
        asked += 1
        return tiers

    return checked


# Served by a subprocess --------------------------------------------------------------------------


def factory(path: str, kill_at: str = "", kill_on: int = 1, score_ms: float = 0.0, bug: str = ""):
    """Return an app that kills its process when it passes a point for the so-manieth time.

    ``bug="reply first"`` plants the error that the audit is written after the reply.
    """
    passed = {"count": 0}

    def hook(point: str) -> None:
        passed["count"] += point == kill_at
        if point == kill_at and passed["count"] == kill_on:
            os.kill(os.getpid(), signal.SIGKILL)

    model = busy_score(score_ms) if score_ms else score
    audit = Audit(path, hook=hook)
    app = create_app(**parts(path, audit=audit, score=model, hook=hook))
    if bug == "reply first":
        _write_later(app.state.service, kill_on)
    return app


def life(requests: list[int], told: str, path: str, passed: Passed) -> None:
    """Ask a service from four threads; note each reply once its client has it.

    Each note is one write, as a socket would carry it.
    """
    audit = Audit(path, hook=passed)
    service = create_app(**parts(path, audit=audit, hook=passed)).state.service
    notes = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def client(mine: list[int]) -> None:
        for request in mine:
            reply = service.decide(json.dumps(payment(request)).encode())
            os.write(notes, (json.dumps(reply.body) + "\n").encode())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, [requests[i::4] for i in range(4)]))


def _write_later(service, kill_on: int) -> None:
    """Keep decisions in memory and write them when the process would have been killed."""
    kept: list[Any] = []

    def write(decision):
        kept.append(decision)
        if len(kept) > kill_on:
            os.kill(os.getpid(), signal.SIGKILL)
        return decision

    service.audit.write = write
