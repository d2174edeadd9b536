"""Case 12, the audit: each decision and outcome once, and there after a SIGKILL."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import httpx
import pytest
from card_fraud_fakes import TOKENS, life, payment

from casebook.cases.card_fraud.audit import CONFLICTS, Audit, Conflict, Decision, Outcome
from casebook.cases.card_fraud.schema import fingerprint
from casebook.serving.anchored import LogCut
from casebook.serving.drills import kill_drill
from casebook.serving.load import Server
from casebook.serving.log import GENESIS


def decision(request: int = 1, **changes) -> Decision:
    sent = payment(request)
    made = Decision(
        request=request,
        transaction=1000 + request,
        received="2025-07-01T12:00:00.000Z",
        decided="2025-07-01T12:00:00.004Z",
        clock="",
        fingerprint=fingerprint(sent),
        input=sent,
        features={"amount": 23.3, "speed": float("nan")},
        probability=0.1 + 0.2,
        advised="allow",
        tier="allow",
        holdback=0,
        source="model",
        why="",
        reasons=["11 purchases"],
        model="m1",
        rules="r1",
        ms=1.5,
    )
    return replace(made, **changes)


def another(request: int = 1, **changes) -> Decision:
    """Return a decision of another payment with the same request id."""
    sent = payment(request, amount=99.0)
    return decision(request, input=sent, fingerprint=fingerprint(sent), **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.sqlite"


@pytest.fixture
def audit(path):
    with Audit(path) as audit:
        yield audit


# Once ------------------------------------------------------------------------------------------


def test_a_decision_is_found_as_it_was_written(path):
    with Audit(path, anchor=f"{path}.anchor", sign=TOKENS) as audit:
        written = audit.write(decision())
        assert audit.decision(1) == written and audit.decision(2) is None
    empty = {"features": {"amount": 23.3, "speed": None}, "previous": GENESIS}
    assert written == decision(sequence=1, hash=written.hash, **empty)
    with Audit(path, anchor=f"{path}.anchor", sign=TOKENS) as audit:
        assert audit.decision(1) == written and audit.anchor() == (1, written.hash)
        assert audit.write(decision(2)).previous == written.hash
    with Audit(path) as cut:  # its anchor knows of two rows
        cut._db.execute("DROP TRIGGER decisions_no_delete")
        cut._db.execute("DELETE FROM decisions WHERE sequence = 2")
    with pytest.raises(LogCut, match="Rows 2 to 2 of"):
        Audit(path, anchor=f"{path}.anchor", sign=TOKENS)


def test_the_same_payment_again_returns_the_first_decision(audit):
    first = audit.write(decision())
    assert audit.write(decision(tier="block", transaction=5, probability=0.9)) == first
    assert audit.count() == 1


def check_another_payment_is_a_conflict(audit: Audit) -> None:
    audit.write(decision())
    for _ in range(3):
        with pytest.raises(Conflict, match="request 1"):
            audit.write(another())
    assert audit.count() == 1
    assert audit.decision(1).input["amount"] == 23.3
    assert audit.count("conflicts") == 1  # each other payment is logged once
    assert audit.verify()


def test_a_client_cannot_fill_the_disk_with_conflicts(audit):
    audit.write(decision())
    for cents in range(1, 51):
        sent = payment(1, amount=cents / 100)
        with pytest.raises(Conflict):
            audit.write(decision(input=sent, fingerprint=fingerprint(sent)))
    assert audit.count("conflicts") == CONFLICTS < 50


def test_another_payment_with_the_same_request_is_a_conflict(audit):
    check_another_payment_is_a_conflict(audit)


def test_an_audit_that_ignores_the_payload_is_found(path):
    class Blind(Audit):
        def settled(self, request, fingerprint, sent, received):
            return self.decision(request)

    with Blind(path) as audit, pytest.raises(pytest.fail.Exception):
        check_another_payment_is_a_conflict(audit)


def test_a_number_belongs_to_one_request(audit):
    audit.write(decision(1, transaction=5))
    with pytest.raises(Conflict, match="transaction 5 belongs to request 1"):
        audit.write(decision(2, transaction=5))
    assert audit.count() == 1


def test_concurrent_writers_of_one_audit_write_each_decision_once(audit):
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda i: audit.write(decision(i % 50)), range(400)))
    assert audit.count() == 50
    assert len({d.hash for d in written}) == 50
    assert audit.verify().rows == 50


# Outcomes --------------------------------------------------------------------------------------


def test_each_stage_is_reported_once(audit):
    audit.write(decision())
    report = Outcome(1, 1001, "denied", *["2025-07-01T12:01:00.000Z"] * 3)
    first = audit.report(report)
    assert audit.report(replace(report, noted="later")) == first
    with pytest.raises(Conflict, match="denied at"):
        audit.report(replace(report, outcome="confirmed"))
    audit.report(replace(report, outcome="chargeback"))
    assert [o.outcome for o in audit.outcomes(1)] == ["denied", "chargeback"]
    assert audit.verify().rows == 3


def test_the_log_is_in_order_across_the_tables(audit):
    audit.write(decision(1))
    audit.report(Outcome(1, 1001, "chargeback", *["2025-07-20T00:00:00.000Z"] * 3))
    audit.write(decision(2))
    assert [(type(row).__name__, row.sequence) for row in audit.records()] == [
        ("Decision", 1),
        ("Outcome", 2),
        ("Decision", 3),
    ]


# SIGKILL ---------------------------------------------------------------------------------------

POINTS = ("before commit", "after commit", "observed")
FACTORY = "card_fraud_fakes:factory"


def post_until_killed(url: str, requests: list[int], clients: int) -> dict[int, dict]:
    """Post from several clients; return the replies that came before the server was killed."""
    replies: dict[int, dict] = {}

    def client(mine: list[int]) -> None:
        with httpx.Client(trust_env=False, timeout=20) as http:
            for request in mine:
                try:
                    reply = http.post(url + "/decisions", json=payment(request))
                except httpx.TransportError:
                    return
                assert reply.status_code == 200, reply.text
                replies[request] = reply.json()

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, [requests[i::clients] for i in range(clients)]))
    return replies


class Told:
    """What clients were told over the lives of a file, held against the file."""

    def __init__(self, path, requests: list[int]) -> None:
        self.path, self.requests = path, requests
        self.replies: dict[int, dict] = {}

    def add(self, replies: dict[int, dict]) -> None:
        for request, reply in replies.items():
            assert self.replies.setdefault(request, reply) == reply, "a retry got another decision"

    def rows(self) -> list[Decision]:
        """Check the file and return its decisions."""
        with Audit(self.path, read_only=True) as audit:
            rows = list(audit.records())
            assert audit.verify().rows == len(rows)
        assert set(self.replies) <= {row.request for row in rows}, "told, and not in the file"
        assert len({row.request for row in rows}) == len(rows)
        # Every decision saw exactly those before it: the store came back as it was.
        assert [row.features["seen"] for row in rows] == list(range(len(rows)))
        return rows

    def all_there(self) -> None:
        assert len(self.rows()) == len(self.replies) == len(self.requests)


def live(told: Told, clients: int, **given) -> None:
    """Let clients retry everything, at a served app that is killed on its way."""
    with Server(FACTORY, {"path": str(told.path), **given}) as server:
        told.add(post_until_killed(server.url, told.requests, clients))
        assert server.process.wait(20) == -9
    told.rows()


def test_a_service_that_is_killed_loses_and_doubles_nothing(path):
    """Between decision and reply, at three points: before and after the commit, and later."""
    told = Told(path, list(range(1, 41)))
    for point in POINTS:
        rows = len(told.rows()) if path.exists() else 0
        live(told, 4, kill_at=point, kill_on=7)
        assert len(told.rows()) - rows == (6 if point == "before commit" else 7)
    with Server(FACTORY, {"path": str(path)}) as server:
        told.add(post_until_killed(server.url, told.requests, 4))
        told.add(post_until_killed(server.url, told.requests, 4))
    told.all_there()


def test_a_service_that_replies_first_is_found(path):
    told = Told(path, list(range(1, 41)))
    with pytest.raises(AssertionError, match="told, and not in the file"):
        live(told, 1, kill_on=7, bug="reply first")


def test_killed_thirty_times_with_concurrent_clients(path, tmp_path):
    """The same without HTTP, which is quick: lives of a few decisions, four clients in each."""
    told, notes = Told(path, list(range(1, 131))), tmp_path / "told"
    work = partial(life, told.requests, str(notes))
    points = [(POINTS[n % 3], 2 + n % 4) for n in range(30)]
    kills = kill_drill(partial(str, path), work, rows_in, [*points, None])
    assert [kill.killed for kill in kills] == [True] * 30 + [False]
    assert all(kill.left > 0 for kill in kills[1:])
    for line in notes.read_text().splitlines():
        reply = json.loads(line)
        told.add({reply["request"]: reply})
    told.all_there()


def rows_in(path: str) -> int:
    """Return how many rows a sound audit holds."""
    with Audit(path, read_only=True) as audit:
        return audit.verify().rows
