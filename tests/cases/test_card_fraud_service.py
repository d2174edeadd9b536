"""Case 12, the decision service: what it takes in, in which order, and what it says."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from card_fraud_fakes import (
    NOW,
    TOKENS,
    CountingStore,
    ask,
    parts,
    payment,
    post,
    score,
    stamped,
)
from pace import patience

from casebook.cases.card_fraud import decisions, schema
from casebook.cases.card_fraud.audit import Audit, Conflict
from casebook.cases.card_fraud.decisions import Service
from casebook.cases.card_fraud.parts import rebuild
from casebook.cases.card_fraud.schema import Limits, payload
from casebook.cases.card_fraud.service import bare_app, create_app
from casebook.cases.card_fraud.world import CHAPTER
from casebook.data import snapshot
from casebook.serving.breaker import Breaker
from casebook.serving.load import crashing, fault_drill, slow
from casebook.serving.strict import Problem, parse
from casebook.serving.tokens import Tokens


@pytest.fixture
def make(tmp_path):
    """Return a maker of apps, on one file after the other."""
    audits = []

    def make(again: bool = False, **changes):
        if audits and not again:
            path = tmp_path / f"audit{len(audits)}.sqlite"
        else:
            path = audits[-1].path if audits else tmp_path / "audit.sqlite"
        if again:
            audits[-1].close()
        made = parts(path, **changes)
        audits.append(made["audit"])
        return create_app(**made)

    yield make
    for audit in audits:
        audit.close()


def service_of(app) -> Service:
    return app.state.service


def kept_of(app, request: int) -> dict:
    """Return what the audit holds of a decision, and what became of it."""
    audit = service_of(app).audit
    outcomes = [vars(outcome) for outcome in audit.outcomes(request)]
    return vars(audit.decision(request)) | {"outcomes": outcomes}


def state(app) -> tuple:
    """Return everything that a request might change."""
    service = service_of(app)
    tables = [service.audit.count(t) for t in ("decisions", "outcomes", "conflicts")]
    breaker = service.breaker.snapshot()
    return (
        *tables,
        service.audit.anchor(),
        list(service.store.seen),
        breaker["asked"],
        service._latest,
    )


# A decision ------------------------------------------------------------------------------------


def test_a_decision_and_what_the_audit_keeps_of_it(make):
    app = make()
    for request in range(1, 8):
        reply = post(app, payment(request))
    assert reply.status_code == 200
    body = reply.json()
    assert body.pop("decided_ms") > 0
    assert body == {
        "request": 7,
        "tier": "confirm",
        "probability": pytest.approx(0.3),
        "reasons": ["6 purchases"],
        "source": "model",
        "why": "",
        "clock": "",
        "model": "m1",
    }
    kept = kept_of(app, 7)
    assert kept["features"] == {"seen": 6.0, "card": 6.0}
    assert kept["input"] == payment(7, card=TOKENS(70))
    assert (kept["tier"], kept["rules"], kept["transaction"]) == ("confirm", "r1", 6)
    assert kept["hash"] == service_of(app).audit.anchor().hash


def test_the_store_gets_the_event_with_the_keys_and_types_of_the_world(make):
    app = make()
    post(app, payment(1, device=5, time="2025-07-01T13:59:58.123+02:00"))
    ((_, *event, outcome),) = service_of(app).store.seen
    columns = set(snapshot(CHAPTER, "transactions.parquet").columns)
    added = {"holdback", "advised", "tier", "outcome", "case_code"}
    assert set(dict(event)) == columns - added
    event = dict(event)
    assert event["time"] == pd.Timestamp("2025-07-01T11:59:58.123")
    assert event["received"] == pd.Timestamp(NOW)
    assert (event["device"], event["ip"], outcome) == (5, None, "approved")


def test_a_hard_rule_decides_without_the_model(make):
    asked = []
    app = make(score=lambda features: asked.append(features))
    body = post(app, payment(amount=5000.01)).json()
    assert (body["tier"], body["source"], body["why"]) == ("block", "rules", "rule")
    assert body["reasons"] == ["more than 5,000 euro"]
    assert not asked
    assert service_of(app).store.seen[0][-1] == "declined"


ONLINE = {"channel": "online", "entry": "typed"}


@pytest.mark.parametrize(
    ("changes", "tier", "why"),
    [
        ({"message": "verification", "amount": 0.0}, "block", "no such answer"),
        ({"message": "recurring"}, "block", "no such answer"),
        ({"message": "offline", "amount": 5000.01}, "allow", "rule"),
        ({"message": "reversal", "amount": -20.0, "refund": True}, "allow", "no such answer"),
        ({"message": "unauthenticated", **ONLINE}, "confirm", ""),
        ({"message": "authenticated", **ONLINE}, "allow", "confirmed before"),
    ],
)
def test_a_message_gets_only_an_answer_that_it_leaves(make, changes, tier, why):
    """The fake policy confirms the seventh; where nobody can be asked that is a harder answer."""
    app = make()
    for request in range(1, 7):
        post(app, payment(request))
    body = post(app, payment(7, **changes)).json()
    assert (body["tier"], body["why"]) == (tier, why)
    kept = kept_of(app, 7)
    assert kept["input"]["message"] == changes["message"]
    assert "message" not in dict(service_of(app).store.seen[-1][1:-1])


def test_the_model_is_asked_with_what_the_audit_keeps(make):
    asked = []

    def watches(features):
        asked.append(dict(features))
        return score(features)

    app = make(score=watches)
    for request in (1, 2):
        post(app, payment(request))
    assert [row.features for row in service_of(app).audit.records()] == asked


def test_transactions_are_numbered_from_the_first_on(make):
    app = make(first=500)
    for request in (11, 12):
        post(app, payment(request))
    app = make(again=True, first=500)
    post(app, payment(13))
    assert [row.transaction for row in service_of(app).audit.records()] == [500, 501, 502]


# Bad input -------------------------------------------------------------------------------------

NUMBERS = ("request", "time", "customer", "card", "terminal", "amount")


def without(field: str) -> dict:
    return {name: value for name, value in payment().items() if name != field}


def text(**changes) -> str:
    """Return the good transaction with raw JSON in some fields."""
    body = json.dumps(payment() | dict.fromkeys(changes, "@@"))
    for raw in changes.values():
        body = body.replace('"@@"', raw, 1)
    return body


WRONG = "invalid transaction"
BAD = {
    "half an object": (b'{"request": 1', 400, "malformed JSON", "line 1"),
    "an array": (b"[1]", 400, "malformed JSON", "array"),
    "a field twice": (b'{"amount": 1, "amount": 9000}', 400, "malformed JSON", "'amount' stands"),
    "nan": (text(amount="NaN"), 400, "malformed JSON", "NaN"),
    "an overflow": (text(amount="1e999"), 422, WRONG, "amount"),
    "a huge integer": (text(request="9" * 5000), 400, "malformed JSON", "5000 digits"),
    "a lone surrogate": (text(ip='1, "\\ud800": 1'), 400, "malformed JSON", "hex escape"),
    "a huge body": (json.dumps(payment()) + " " * 8192, 413, "too large", "8192"),
    "nothing in it": ({}, 422, WRONG, "request is missing"),
    **{f"no {n}": (without(n), 422, WRONG, f"{n} is missing") for n in NUMBERS},
    "an unknown field": (payment(tier="allow"), 422, WRONG, '"tier" is no field'),
    "a strange field": (payment(**{"\u2028\x00é": 1}), 422, WRONG, "u2028"),
    "a long field": (payment(**{"x" * 5000: 1}), 422, WRONG, "xxx..."),
    "own stamps": (payment(received="2025-07-01T11:00:00Z"), 422, WRONG, "receive"),
    "negative": (payment(amount=-5.0), 422, WRONG, "negative and refund is not"),
    "no refund": (payment(refund=True), 422, WRONG, "amount is positive"),
    "no amount": (payment(amount=0.0), 422, WRONG, "amount of 0, and"),
    "a paid verification": (payment(message="verification"), 422, WRONG, "amount of 0, and"),
    "a reversal that takes": (payment(message="reversal"), 422, WRONG, "refund is not true"),
    "an unknown message": (payment(message="cheque"), 422, WRONG, "cheque"),
    "a chip online": (payment(channel="online"), 422, WRONG, "Entry is chip"),
    "typed at a till": (payment(entry="typed"), 422, WRONG, "Entry is typed"),
    "offline online": (payment(message="offline", **ONLINE), 422, WRONG, "Message is offline"),
    "a challenge at a till": (payment(message="3-D Secure"), 422, WRONG, "Message is 3-D Secure"),
    "absurd": (payment(amount=1e6), 422, WRONG, "1,000,000.00 euro, beyond"),
    "an absurd refund": (payment(amount=-1e6, refund=True), 422, WRONG, "beyond"),
    "tenths of a cent": (payment(amount=1.005), 422, WRONG, "two decimals"),
    "amount in a text": (payment(amount="5"), 422, WRONG, 'amount is "5"'),
    "amount true": (payment(amount=True), 422, WRONG, "amount is true"),
    "amount null": (payment(amount=None), 422, WRONG, "amount is null"),
    "id with decimals": (payment(request=1.0), 422, WRONG, "request is 1.0"),
    "negative id": (payment(-1), 422, WRONG, "request is -1"),
    "id too large": (payment(2**53), 422, WRONG, "request is [number]"),
    "device in a text": (payment(device="x"), 422, WRONG, 'device is "x"'),
    "unknown entry": (payment(entry="CHIP"), 422, WRONG, 'entry is "CHIP"'),
    "unknown category": (payment(category=""), 422, WRONG, 'category is ""'),
    "refund as 1": (payment(refund=1), 422, WRONG, "refund is 1"),
    "time without offset": (payment(time="2025-07-01T11:59:58"), 422, WRONG, "off"),
    "time as a number": (payment(time=1751371198), 422, WRONG, "time is 1751371198"),
    "time by week": (payment(time="2025-W27-2T11:59Z"), 422, WRONG, "no date"),
    "time without a T": (payment(time="2025-07-01 11:59:58Z"), 422, WRONG, "no date"),
    "no such day": (payment(time="2025-02-30T00:00:00Z"), 422, WRONG, "time is"),
    "year 1": (payment(time="0001-01-01T00:00:00+14:00"), 422, WRONG, "year 1"),
    "year 9999": (payment(time="9999-12-31T23:59:59-14:00"), 422, WRONG, "9999"),
    "from the future": (payment(time="2025-07-01T15:00:01Z"), 422, "event from the future", "3:00"),
    "from the past": (payment(time="2025-06-30T11:59:59Z"), 422, "event too late", "1 day"),
}


def check_is_refused(app, body, status: int, error: str, words: str) -> None:
    """A bad input gets its error, and changes nothing."""
    before = state(app)
    reply = post(app, body)
    problem = reply.json()
    assert (reply.status_code, problem.get("error")) == (status, error), problem
    assert set(problem) == {"error", "what", "do"} and all(problem.values())
    assert words in problem["what"]
    assert state(app) == before


@pytest.mark.parametrize(("body", "status", "error", "words"), BAD.values(), ids=BAD)
def test_bad_input_gets_a_clear_error_and_changes_nothing(make, body, status, error, words):
    app = make()
    check_is_refused(app, body, status, error, words)
    assert post(app, payment()).status_code == 200


def test_a_service_that_counts_before_it_checks_is_found(make, monkeypatch):
    """Planted: the store is told of an event before its time was checked."""
    app = make()
    service = service_of(app)

    def late_check(time, received, limits):
        service.store.observe({"card": 1, "terminal": 1})
        return schema.check_time(time, received, limits)

    monkeypatch.setattr(decisions, "check_time", late_check)
    with pytest.raises(AssertionError):
        check_is_refused(app, *BAD["from the past"])


def test_each_error_is_told_once_and_says_what_to_send(make):
    problem = post(make(), payment(category="x", time="y", card=-1)).json()
    assert "time" in problem["what"] and "category" in problem["what"]
    assert "one of grocery, restaurant" in problem["do"]
    assert "2025-07-01T08:00:00.000Z" in problem["do"]
    assert "-1" not in problem["what"]  # what stands in the card's field is not repeated


def test_the_limits_of_time_and_amount_themselves_are_accepted(make):
    app = make()
    edges = [
        payment(1, time="2025-07-01T15:00:00Z"),
        payment(2, time="2025-06-30T12:00:00Z"),
        payment(3, amount=100_000.0),
        payment(4, amount=-100_000, refund=True),
        payment(5, request=2**53 - 1),
    ]
    assert [post(app, edge).status_code for edge in edges] == [200] * 5


# The same request again ------------------------------------------------------------------------


def check_replays(app) -> None:
    """The same payment gets the same answer; another one under its id is a conflict."""
    first = post(app, payment())
    post(app, payment(2))
    before = state(app)
    again = post(app, json.dumps(payment(time="2025-07-01T13:59:58.500+02:00"), indent=3))
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert state(app) == before
    for change in ({"amount": 23.31}, {"card": 71}, {"device": 1}, {"refund": 1 > 2, "ip": 0}):
        reply = post(app, payment(**change))
        assert (reply.status_code, reply.json().get("error")) == (409, "conflict"), change
    service = service_of(app)
    assert service.audit.count("conflicts") == 4
    assert (service.audit.count(), service.store.seen) == (before[0], before[4])
    assert post(app, payment()).json() == first.json()


def test_a_request_is_decided_once(make):
    check_replays(make())


@pytest.mark.parametrize(
    ("owner", "name", "planted"),
    [
        (decisions, "fingerprint", lambda sent: str(sent["request"])),
        (Audit, "settled", lambda *_: None),
    ],
    ids=["ignores the payload", "forgets"],
)
def test_a_service_that_decides_twice_is_found(make, monkeypatch, owner, name, planted):
    monkeypatch.setattr(owner, name, planted)
    with pytest.raises(AssertionError):
        check_replays(make())


def test_a_retry_is_answered_however_late(make):
    now = [NOW]
    app = make(clock=lambda: now[0])
    first = post(app, payment()).json()
    now[0] += timedelta(days=30)
    assert post(app, payment()).json() == first
    assert post(app, payment(2)).json()["error"] == "event too late"


# Order -----------------------------------------------------------------------------------------


class SlowStore(CountingStore):
    """Let others in between features and observation, if the service does."""

    def features(self, event):
        features = super().features(event)
        time.sleep(0.002)
        return features


def check_concurrency(service: Service) -> None:
    """However many ask at once, each decision sees exactly those before it."""
    with ThreadPoolExecutor(8) as pool:
        bodies = [json.dumps(payment(i % 60)).encode() for i in range(120)]
        replies = list(pool.map(service.decide, bodies))
    rows = list(service.audit.records())
    assert [row.features["seen"] for row in rows] == list(range(60))
    assert len({(r.body["request"], json.dumps(r.body)) for r in replies}) == 60
    assert len(service.store.seen) == 60
    assert service.audit.verify().rows == 60


def test_concurrent_decisions_see_each_other(make):
    check_concurrency(service_of(make(store=SlowStore())))


def test_a_service_without_its_lock_is_found(make):
    service = service_of(make(store=SlowStore()))

    class NoLock:
        def acquire(self, timeout=0):
            return True

        def release(self):
            pass

    service._lock = NoLock()
    with pytest.raises((AssertionError, Conflict)):
        check_concurrency(service)


def check_order(make, bug: str = "") -> None:
    """The audit is written before the store is told, and the store before the reply."""
    steps = []
    app = make(hook=steps.append)
    service = service_of(app)
    service.audit._hook = steps.append
    observe, write = service.store.observe, service.audit.write
    service.store.observe = lambda *event: (steps.append("store"), observe(*event))

    def early(decision):
        service.store.observe(decisions.event_of(decision))
        return write(decision)

    service.audit.write = early if bug else write
    post(app, payment())
    steps.append("reply")
    assert steps == ["before commit", "after commit", "store", "observed", "reply"]


def test_the_audit_is_written_before_the_store_and_the_reply(make):
    check_order(make)
    with pytest.raises(AssertionError):
        check_order(make, bug="store first")


def test_without_a_record_there_is_no_decision(make, caplog):
    app = make()
    audit = service_of(app).audit
    pages = audit._db.execute("PRAGMA page_count").fetchone()[0]
    audit._db.execute(f"PRAGMA max_page_count = {pages}")
    for request in range(1, 100):
        reply = post(app, payment(request))
        if reply.status_code != 200:
            break
    assert (reply.status_code, reply.json().get("error")) == (503, "no record")
    assert reply.headers["Retry-After"] == "1"
    assert len(service_of(app).store.seen) == audit.count() == request - 1
    audit._db.execute("PRAGMA max_page_count = 1000000")
    assert post(app, payment(request)).status_code == 200
    assert audit.verify()


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_row_that_is_written_and_not_anchored_reaches_the_store(make, tmp_path, caplog):
    """The disk of the anchor is full: no reply, yet the row counts, live as after a restart."""
    anchored = {"anchor": tmp_path / "anchor", "sign": TOKENS}
    app = make(audit=Audit(tmp_path / "a.sqlite", **anchored))
    service = service_of(app)
    post(app, payment(1))
    kept, service.audit._kept = service.audit._kept, os.open(FULL, os.O_RDWR)
    for body, path in ((payment(2), "/decisions"), (report(1, "chargeback"), "/outcomes")):
        assert post(app, body, path).json()["error"] == "no record"
    assert ask(app, "GET", "/health").json()["status"] == "degraded"
    os.close(service.audit._kept)
    service.audit._kept = kept
    again = post(app, payment(2))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert [entry[0] for entry in service.store.seen] == ["observe", "observe", "learn"]
    assert post(app, payment(3)).status_code == 200
    assert kept_of(app, 3)["features"] == {"seen": 2.0, "card": 2.0}
    assert ask(app, "GET", "/health").json()["status"] == "ok"
    assert post(app, report(1, "chargeback"), "/outcomes").headers["Idempotent-Replayed"]
    app = make(again=True, audit=Audit(tmp_path / "other.sqlite"))
    fresh = CountingStore()
    service.audit.close()
    with Audit(tmp_path / "a.sqlite", **anchored) as audit:
        rebuild(fresh, audit)
    assert fresh.seen == service.store.seen


def test_a_snapshot_that_fails_is_no_failure_of_a_payment(make, tmp_path, caplog):
    app = make(state=tmp_path / "no" / "such", every=2)
    assert [post(app, payment(n)).status_code for n in (1, 2, 3, 4, 5)] == [200] * 5
    health = ask(app, "GET", "/health").json()
    assert (health["failed_snapshots"], health["status"]) == (2, "ok")


def test_nobody_waits_for_ever(make):
    app = make(patience=0.02)
    with service_of(app)._lock:
        reply = post(app, payment())
    assert (reply.status_code, reply.json().get("error")) == (503, "busy")
    assert post(app, payment()).status_code == 200


# More than the service can take ----------------------------------------------------------------


def check_overload(make, **options) -> None:
    """Of 200 requests of 40 clients at once nobody is turned away; the rules take the backlog."""
    service = service_of(make(score=slow(score, 20), **options))
    bodies = [json.dumps(payment(number)).encode() for number in range(1, 201)]
    with ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(service.decide, bodies))
    by_rules = [r.body for r in replies if r.body["source"] == "rules"]
    assert len(by_rules) > 20 and {body["why"] for body in by_rules} == {"overload"}
    assert any(r.body["source"] == "model" for r in replies)
    assert service.audit.verify().rows == 200 and service.breaker.state == "closed"
    bodies = [json.dumps(payment(number)).encode() for number in (301, 302)]
    assert {service.decide(body).body["source"] for body in bodies} == {"model"}


def test_overload_is_shed_to_the_rules(make):
    check_overload(make, patience=patience(20))


def test_a_service_that_sheds_nothing_is_found(make):
    with pytest.raises(Problem, match="busy"):
        check_overload(make, shed=1e9, patience=0.2)


# Card numbers ----------------------------------------------------------------------------------

CARD = 4111111111111111


def check_cards(app, folder) -> None:
    """A card's number is in no file and no reply, wherever a client puts it."""
    service = service_of(app)
    replies = [post(app, payment(1, card=CARD))]
    assert replies[0].status_code == 200
    assert service.store.seen[0][1] == ("amount", 23.3)
    for wrong in (
        payment(2, customer=CARD),
        payment(3, terminal=CARD),
        payment(4, **{str(CARD): 1}),
    ):
        replies.append(post(app, wrong))
        assert replies[-1].status_code == 422
    replies.append(ask(app, "GET", f"/decisions/{CARD}"))
    replies.append(ask(app, "GET", f"/cards/{CARD}"))
    replies.append(post(app, f'{{"{CARD}": 1, "{CARD}": 2}}'))
    service.save()
    told = "".join(reply.text for reply in replies) + json.dumps(kept_of(app, 1))
    kept = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert str(CARD) not in told and str(CARD).encode() not in kept
    assert str(TOKENS(CARD)).encode() in kept


def test_a_cards_number_is_nowhere(make, tmp_path):
    check_cards(make(), tmp_path)


def test_a_service_that_keeps_the_number_is_found(make, tmp_path):
    class Clear(Tokens):
        def __call__(self, card):
            return card

    with pytest.raises(AssertionError):
        check_cards(make(tokens=Clear(b"the key of the tests")), tmp_path)


# The model fails -------------------------------------------------------------------------------

FAULTS = {
    "timeout": slow(score, 1500),
    "error": crashing(score),
    "nonsense": lambda features: (float("nan"), []),
    "absent": None,
}


@pytest.mark.parametrize("why", FAULTS)
def test_the_rules_answer_when_the_model_does_not(make, why):
    app = make(score=FAULTS[why], breaker=Breaker(budget_ms=20, failures=2, window=2))
    bodies = [post(app, payment(request)).json() for request in (1, 2, 3)]
    assert [body["why"] for body in bodies] == [why, why, "breaker open"]
    assert {(b["source"], b["tier"], b["probability"]) for b in bodies} == {
        ("rules", "allow", None)
    }
    assert bodies[0]["decided_ms"] < 1000
    assert service_of(app).audit.count() == 3
    health = ask(app, "GET", "/health").json()
    assert (health["status"], health["breaker"]["state"]) == ("degraded", "open")


def test_a_stricter_fallback_may_stand_in(make):
    def strict(features, event):
        return ("call", "above 20 euro without a model") if event["amount"] > 20 else ("pass", "")

    app = make(score=None, fallback=strict)
    assert post(app, payment(1)).json()["tier"] == "call"
    assert post(app, payment(2, amount=5.0)).json()["tier"] == "allow"


def broken(*_):
    raise RuntimeError("planted")


def check_stand_in(app, card_test) -> None:
    """Without a model small amounts pass, larger ones are asked, a card test never passes."""
    told = [post(app, payment(n, amount=a)).json() for n, a in ((1, 149.0), (2, 151.0))]
    assert [body["tier"] for body in told] == ["allow", "confirm"]
    confirmed = payment(4, message="authenticated", amount=400.0, **ONLINE)
    assert post(app, confirmed).json()["tier"] == "allow"  # its owner was asked
    assert told[1]["reasons"] == ["stand-in: over 150 euro without a model"]
    assert post(app, card_test).json()["tier"] == "block"


CARD_TEST = payment(3, message="verification", amount=0.0)


def suspects(features, event):
    """A rule that asks about each card test."""
    return ("confirm", "a known fraud") if event["amount"] == 0 else ("allow", "no rule holds")


def test_who_slows_the_service_down_does_not_walk_in(make):
    check_stand_in(make(score=None, fallback=suspects), CARD_TEST)


def test_a_service_without_a_stand_in_or_that_allows_what_it_cannot_ask_is_found(make, monkeypatch):
    with pytest.raises(AssertionError):
        check_stand_in(make(score=None, fallback=suspects, stand_in=1e9), CARD_TEST)
    allowed = {"tier": "allow"}
    monkeypatch.setattr(
        decisions,
        "permitted",
        lambda made, kind: made | (allowed if kind == "verification" else {}),
    )
    with pytest.raises(AssertionError):
        check_stand_in(make(score=None, fallback=suspects), CARD_TEST)


def test_what_is_left_when_parts_fail(make, caplog):
    replies = {
        "rules": post(make(rules=broken), payment()).json(),
        "nonsense": post(make(rules=lambda f, e: ("deny", "")), payment()).json(),
        "both": post(make(rules=broken, score=None), payment()).json(),
        "tiers": post(make(policy=SimpleNamespace(one=broken)), payment()).json(),
        "tier": post(make(policy=SimpleNamespace(one=lambda *_: 2 * ("deny",))), payment()).json(),
    }
    told = {name: (r["source"], r["tier"], r["why"]) for name, r in replies.items()}
    assert told == {
        "rules": ("model", "allow", ""),
        "nonsense": ("model", "allow", ""),
        "both": ("rules", "allow", "absent, no rules"),
        "tiers": ("rules", "allow", "no tier"),
        "tier": ("rules", "allow", "no tier"),
    }


@pytest.mark.parametrize(
    ("parts_", "fault"),
    [
        ({"policy": SimpleNamespace(one=broken)}, "no model"),
        ({"rules": broken}, "rules failed"),
        ({"gateway": True, "clock": lambda: NOW - timedelta(hours=2)}, "clock"),
    ],
    ids=["policy", "rules", "clock"],
)
def test_health_alarms_when_a_part_fails_again_and_again(make, caplog, parts_, fault):
    app, body = make(**parts_), stamped if "gateway" in parts_ else payment
    states = []
    for number in range(1, 13):
        assert post(app, body(number)).status_code == 200
        states.append(ask(app, "GET", "/health").json())
    assert [s["status"] for s in states] == ["ok"] * 10 + ["degraded"] * 2
    assert states[-1]["recent"] == {fault: 12} and states[-1]["breaker"]["state"] == "closed"


def test_an_unknown_customer_is_asked_and_does_not_alarm(make):
    app = make(customers={7})
    body = post(app, payment(1, customer=8)).json()
    assert (body["tier"], body["source"], body["why"]) == ("confirm", "rules", "unknown customer")
    assert post(app, report(1, "denied"), "/outcomes").status_code == 200
    assert post(app, payment(2)).json()["source"] == "model"
    for again in (False, True):
        app = make(again=True, customers={7}) if again else app
        health = ask(app, "GET", "/health").json()
        assert (health["status"], health["unknown_customers"]) == ("ok", 1)
        assert [entry[0] for entry in service_of(app).store.seen] == ["observe"]
    # A deployment that knows the customer takes in what happened before.
    seen = service_of(make(again=True, customers={7, 8})).store.seen
    assert [entry[0] for entry in seen] == ["observe", "settle", "learn", "observe"]


def test_at_an_unknown_terminal_the_policy_is_strict(make):
    """The fake asks from .2 on, strictly from .1 on; the fourth payment of a card has .15."""
    app = make(terminals={3})
    known = [post(app, payment(n)).json() for n in (1, 2, 3)][-1]
    new = post(app, payment(4, terminal=4)).json()
    assert (known["source"], known["why"], known["tier"]) == ("model", "", "allow")
    assert (new["source"], new["why"], new["tier"]) == ("model", "unknown terminal", "confirm")
    assert len(service_of(app).store.seen) == 4  # the customer's velocity counts it


def test_a_store_that_refuses_an_event_does_not_stop_the_service(make, caplog):
    app = make()
    body = post(app, payment(1, terminal=999)).json()
    assert (body["source"], body["why"]) == ("rules", "no features")
    assert ask(app, "GET", "/health").json()["refused_by_store"] == 1
    post(app, payment(2))
    # Nor does it keep the service from starting again.
    app = make(again=True)
    assert len(service_of(app).store.seen) == 1
    assert ask(app, "GET", "/health").json()["status"] == "degraded"


def test_a_model_is_swapped_between_decisions(make):
    app = make(score=None)
    assert ask(app, "GET", "/health").json()["model"] is None
    service_of(app).swap(score, "m2")
    assert post(app, payment()).json()["model"] == "m2"
    assert ask(app, "GET", "/health").json()["model"] == "m2"


# What became of it -----------------------------------------------------------------------------


def asked_and_told(app) -> list[tuple]:
    """Decide seven payments, the last two with a confirmation, and report on some."""
    for request in range(1, 9):
        post(app, payment(request))
    reports = [(1, "chargeback"), (6, "denied"), (7, "confirmed"), (7, "chargeback")]
    return [(r, post(app, report(r, outcome), "/outcomes")) for r, outcome in reports]


def report(request: int, outcome: str, at: str = "2025-07-01T12:00:00Z") -> dict:
    return {"request": request, "outcome": outcome, "at": at}


def test_outcomes_reach_the_store(make):
    app = make()
    for _, reply in asked_and_told(app):
        assert reply.status_code == 200, reply.text
    told = [entry for entry in service_of(app).store.seen if entry[0] != "observe"]
    now = pd.Timestamp(NOW) + pd.Timedelta("1ms")  # behind all that was decided before
    assert told == [
        ("learn", 0, now),
        ("settle", 5, "denied", now),
        ("learn", 5, now),
        ("settle", 6, "confirmed", now),
        ("learn", 6, now),
    ]
    kept = kept_of(app, 7)
    assert [outcome["outcome"] for outcome in kept["outcomes"]] == ["confirmed", "chargeback"]


BAD_REPORTS = {
    "unknown": (report(99, "chargeback"), 404, "unknown request"),
    "never asked": (report(1, "confirmed"), 409, "outcome does not fit"),
    "not through yet": (report(6, "chargeback"), 409, "outcome does not fit"),
    "the future": (report(1, "chargeback", "2025-07-01T12:00:01Z"), 422, "invalid report"),
    "before": (report(1, "chargeback", "2025-07-01T11:59:59Z"), 422, "invalid report"),
    "no such outcome": (report(1, "approved"), 422, "invalid report"),
    "a number for a time": (report(1, "chargeback", 5), 422, "invalid report"),
    "too much": (report(1, "chargeback") | {"amount": 1}, 422, "invalid report"),
    "no JSON": ("x", 400, "malformed JSON"),
    "huge": (" " * 9000, 413, "too large"),
}


@pytest.mark.parametrize(("body", "status", "error"), BAD_REPORTS.values(), ids=BAD_REPORTS)
def test_a_report_that_does_not_fit_changes_nothing(make, body, status, error):
    app = make()
    for request in range(1, 8):
        post(app, payment(request))
    before = state(app)
    reply = post(app, body, "/outcomes")
    assert (reply.status_code, reply.json().get("error")) == (status, error), reply.text
    assert state(app) == before


def test_a_report_is_taken_once(make):
    app = make()
    replies = asked_and_told(app)
    before = state(app)
    again = post(app, report(6, "denied"), "/outcomes")
    assert again.json() == replies[1][1].json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert post(app, report(6, "confirmed"), "/outcomes").status_code == 409
    assert state(app) == before


def test_a_store_is_rebuilt_from_the_audit(make):
    app = make()
    asked_and_told(app)
    before = service_of(app)
    app = make(again=True)
    assert service_of(app).store.seen == before.store.seen
    assert service_of(app)._latest == before._latest
    fresh = CountingStore()
    done = rebuild(fresh, service_of(app).audit)
    assert (done.decisions, done.outcomes, done.refused) == (8, 4, 0)
    assert fresh.seen == before.store.seen
    assert make(again=True, restore=False).state.service.store.seen == []


# Behind a gateway ------------------------------------------------------------------------------


def test_a_gateway_stamps_each_attempt(make):
    app = make(gateway=True)
    first = post(app, stamped(10)).json()
    retry = post(app, stamped(10, transaction=11, received="2025-07-01T11:30:00Z"))
    assert retry.json() == first
    post(app, stamped(12))
    rows = list(service_of(app).audit.records())
    assert [row.transaction for row in rows] == [10, 12]
    assert [row.received for row in rows] == [
        "2025-07-01T11:00:10.000Z",
        "2025-07-01T11:00:12.000Z",
    ]


def test_disorder_is_straightened_and_a_wrong_clock_is_put_aside(make):
    app = make(gateway=True, limits=Limits(jump=timedelta(minutes=30)))  # it is a replay
    late = {"time": "2025-07-01T11:00:00Z"}
    for number in (100, 40, 40 - 1):
        reply = post(app, stamped(number, **late)).json()
    assert reply["clock"] == "0:01:01 behind a transaction that was decided"
    ahead = post(app, stamped(3700, **late)).json()
    assert ahead["clock"] == "0:01:40 ahead of the service's clock"
    assert post(app, stamped(101, **late)).json()["clock"] == ""
    rows = list(service_of(app).audit.records())
    assert [row.received[-13:] for row in rows] == [*["11:01:40.000Z"] * 4, "11:01:41.000Z"]
    check_is_refused(app, payment(5), 422, "invalid transaction", "transaction is missing")


def test_a_gateway_that_is_ahead_does_not_stop_the_time(make):
    now = [NOW]
    app = make(gateway=True, clock=lambda: now[0])
    for number in range(1, 51):
        now[0] = NOW + timedelta(minutes=5 * number)
        ahead = (now[0] + timedelta(seconds=90)).isoformat() + "Z"
        body = post(app, stamped(number, received=ahead, time=ahead)).json()
        assert body["clock"] == "0:01:30 ahead of the service's clock"
        assert service_of(app)._latest == now[0]
    assert ask(app, "GET", "/health").json()["status"] == "degraded"


def test_a_number_that_is_taken_is_a_conflict(make):
    app = make(gateway=True)
    post(app, stamped(1))
    check_is_refused(app, stamped(2, transaction=1), 409, "conflict", "belongs to request 1")


def test_the_worlds_rows_are_accepted_and_its_retries_recognised(make):
    rows = snapshot(CHAPTER, "transactions.parquet")
    retried = rows[rows["request"].duplicated(keep=False)].head(20)
    some = pd.concat([rows.head(300), retried]).drop_duplicates("transaction")
    some = some.sort_values("transaction")
    limits = Limits(jump=timedelta(days=9))  # rows of many days are left out
    app = make(gateway=True, clock=lambda: datetime(2026, 1, 1), limits=limits)
    service = service_of(app)
    replies = [
        service.decide(json.dumps(payload(row, stamped=True)).encode())
        for row in some.to_dict("records")
    ]
    assert service.audit.count() == some["request"].nunique() < len(some)
    assert [r.replayed for r in replies] == some["request"].duplicated().tolist()
    event = dict(service.store.seen[-1][1:-1])
    last = some.drop_duplicates("request").iloc[-1]
    for name in ("time", "received", "transaction", "request", "terminal", "amount", "country"):
        assert event[name] == last[name], name


def test_every_row_of_the_snapshot_is_a_valid_payment():
    rows = snapshot(CHAPTER, "transactions.parquet")
    rows = rows[(rows["amount"] < 0) | (rows.index % 25 == 0)]
    for row in rows.to_dict("records"):
        sent = parse(json.dumps(payload(row)).encode(), schema.Payment)
        assert sent.amount == row["amount"] and sent.time == row["time"]


# Nonsense --------------------------------------------------------------------------------------

NONSENSE = {
    "nan": (float("nan"), []),
    "below 0": (-1e-9, []),
    "above 1": (1.0000001, []),
    "a huge int": (10**400, []),
    "no pair": 0.5,
    "nothing": None,
    "a number in a text": ("0.9", []),
    "true": (True, []),
    "three values": (0.5, [], 1),
    "reasons that are one text": (0.5, "high amount"),
    "reasons that are numbers": (0.5, [1, 2]),
}


@pytest.mark.parametrize("value", NONSENSE.values(), ids=NONSENSE)
def test_a_model_that_talks_nonsense_does_not_decide(make, value):
    body = post(make(score=lambda features: value), payment()).json()
    assert (body["source"], body["why"]) == ("rules", "nonsense")
    assert decisions.sane((1, ("a reason",))) == (1.0, ["a reason"])  # the ends are probabilities


# Another process, load, faults -----------------------------------------------------------------


def test_the_bare_app_validates_and_allows():
    app = bare_app()
    reply = post(app, payment())
    assert reply.json() | {"tier": "allow", "why": "bare"} == reply.json()
    full = {"request", "tier", "probability", "reasons", "source", "why", "model", "decided_ms"}
    assert set(reply.json()) == full
    assert post(app, payment(amount=-1.0)).status_code == 422
    assert post(app, payment(amount=1e6)).status_code == 422
    assert post(app, " " * 9000).status_code == 413


def test_a_drill_shows_the_breaker_at_work(make):
    breaker = Breaker(budget_ms=150, failures=3, window=6, cool_off=0.1)
    app = make(breaker=breaker)
    frame = fault_drill(app, [payment(i) for i in range(1, 81)], slow_ms=250)
    assert frame["phase"].tolist() == ["healthy", "slow", "crashed", "recovered"]
    assert frame["requests"].tolist() == [20] * 4
    assert frame["model"].tolist() == [20, 0, 0, 20]
    assert frame["rules"].tolist() == [0, 20, 20, 0]
    assert frame["breaker"].tolist() == ["closed", "open", "open", "closed"]
    assert frame.loc[1, "why"].startswith("breaker open") and "timeout" in frame.loc[1, "why"]
    assert service_of(app).score is score
    assert service_of(app).audit.verify().rows == 80
