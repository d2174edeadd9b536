"""Case 12, the audit: once, in order, never changed, and there after a SIGKILL."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from card_fraud_fakes import payment

from casebook.cases.card_fraud.audit import (
    GENESIS,
    Audit,
    AuditBusy,
    AuditFailed,
    Conflict,
    Decision,
    Outcome,
    chained,
)
from casebook.cases.card_fraud.schema import fingerprint
from casebook.serving.load import Server


def decision(request: int = 1, **changes) -> Decision:
    sent = payment(request)
    made = Decision(
        request=request,
        transaction=1000 + request,
        received="2025-07-01T12:00:00.000Z",
        decided="2025-07-01T12:00:00.004Z",
        fingerprint=fingerprint(sent),
        input=sent,
        features={"amount": 23.3, "speed": float("nan")},
        probability=0.1 + 0.2,
        tier="allow",
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


def raw(path, *statements: str) -> None:
    """Change the file behind the audit's back, as someone with the file could."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in statements:
            db.execute(statement)
    finally:
        db.close()


# Once ------------------------------------------------------------------------------------------


def test_a_decision_is_found_as_it_was_written(audit):
    written = audit.write(decision())
    assert audit.find(1) == written
    assert written == decision(
        features={"amount": 23.3, "speed": None}, sequence=1, previous=GENESIS, hash=written.hash
    )
    assert audit.find(2) is None


def test_it_outlives_the_process(path):
    with Audit(path) as audit:
        written = audit.write(decision())
    with Audit(path) as audit:
        assert audit.find(1) == written
        assert audit.head == (1, written.hash)
        assert audit.write(decision(2)).previous == written.hash
        assert audit.verify()


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
    assert audit.find(1).input["amount"] == 23.3
    assert audit.count("conflicts") == 1  # each other payment is logged once
    assert audit.verify()


def test_another_payment_with_the_same_request_is_a_conflict(audit):
    check_another_payment_is_a_conflict(audit)


def test_an_audit_that_ignores_the_payload_is_found(path):
    class Blind(Audit):
        def settled(self, request, fingerprint, sent, received):
            return self.find(request)

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


# Append-only -----------------------------------------------------------------------------------

REFUSED = {
    "update": "UPDATE decisions SET tier = 'block'",
    "delete": "DELETE FROM decisions",
    "replace": "INSERT OR REPLACE INTO decisions SELECT * FROM decisions",
    "update or replace": "UPDATE OR REPLACE decisions SET request = 2 WHERE request = 1",
    "upsert": "INSERT INTO decisions SELECT * FROM decisions WHERE true "
    "ON CONFLICT (request) DO UPDATE SET tier = 'block'",
    "outcome": "UPDATE outcomes SET outcome = 'confirmed'",
    "outcome away": "DELETE FROM outcomes",
    "outcome replaced": "INSERT OR REPLACE INTO outcomes SELECT * FROM outcomes",
    "conflict": "UPDATE conflicts SET input = '{}'",
    "conflict away": "DELETE FROM conflicts",
    "conflict replaced": "INSERT OR REPLACE INTO conflicts SELECT * FROM conflicts",
}


def fill(audit: Audit) -> None:
    """Write five rows into three tables."""
    for request in (1, 2, 3):
        audit.write(decision(request))
    audit.report(Outcome(1, 1001, "chargeback", "2025-07-20T00:00:00.000Z", "now"))
    with pytest.raises(Conflict):
        audit.write(another(2))


def check_is_refused(path, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw(path, statement)
    with Audit(path, read_only=True) as audit:
        assert audit.verify().rows == 5


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_rows_are_neither_changed_nor_replaced(path, audit, statement):
    fill(audit)
    check_is_refused(path, statement)


@pytest.mark.parametrize("name", ["update", "delete", "replace"])
def test_a_missing_guard_is_found(path, audit, name):
    """Without its trigger the statement goes through, the check sees it, and so does verify."""
    fill(audit)
    trigger = {"replace": "decisions_once_%"}.get(name, f"decisions_no_{name}")
    db = sqlite3.connect(path)
    found = db.execute("SELECT name FROM sqlite_master WHERE name LIKE ?", (trigger,)).fetchall()
    db.close()
    assert found
    raw(path, *[f"DROP TRIGGER {row[0]}" for row in found])
    with pytest.raises(pytest.fail.Exception):
        check_is_refused(path, REFUSED[name])
    assert "guard" in audit.verify().fault


def test_a_guard_that_was_made_harmless_is_found(path, audit):
    harmless = "CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions BEGIN SELECT 1; END"
    raw(path, "DROP TRIGGER decisions_no_update", harmless)
    assert "decisions_no_update" in audit.verify().fault


TAMPERED = {
    "tier": ("decisions", "UPDATE decisions SET tier = 'block' WHERE request = 2", "row 2"),
    "probability": ("decisions", "UPDATE decisions SET probability = 0.3", "row 1"),
    "reasons": ("decisions", "UPDATE decisions SET reasons = '[]' WHERE request = 3", "row 3"),
    "a row out": ("decisions", "DELETE FROM decisions WHERE request = 2", "row 2 is missing"),
    "the first row out": ("decisions", "DELETE FROM decisions WHERE request = 1", "row 1 is miss"),
    "outcome": ("outcomes", "UPDATE outcomes SET outcome = 'confirmed'", "row 4"),
    "conflict out": ("conflicts", "DELETE FROM conflicts", ""),
    "new hash": ("decisions", "UPDATE decisions SET hash = upper(hash) WHERE request = 1", "row 1"),
    "order": (
        "decisions",
        "UPDATE decisions SET sequence = 9 - sequence WHERE request IN (1, 2)",
        "missing",
    ),
}


@pytest.mark.parametrize(("table", "statement", "where"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_past_the_guards_is_found(path, table, statement, where):
    """Someone takes the guards off, changes a row and puts the guards back."""
    with Audit(path) as audit:
        fill(audit)
        anchor = audit.head
        assert audit.verify() and audit.verify(anchor)
    db = sqlite3.connect(path, isolation_level=None)
    kind = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
    guards = db.execute(kind, (table,)).fetchall()
    db.close()
    off, on = [f"DROP TRIGGER {name}" for name, _ in guards], [sql for _, sql in guards]
    raw(path, *off, statement, *on)
    with Audit(path, read_only=True) as audit:
        found = audit.verify(anchor)
        assert not found and where in found.fault, found
        # The end that was cut off is what the chain alone cannot show.
        assert bool(audit.verify()) == (where == "")


def test_a_row_with_a_hash_computed_anew_is_found(path):
    """Someone changes a row and its hash to match: the next row does not follow it."""
    with Audit(path) as audit:
        fill(audit)
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    row = dict(db.execute("SELECT * FROM decisions WHERE sequence = 2").fetchone())
    guard = db.execute("SELECT sql FROM sqlite_master WHERE name = 'decisions_no_update'")
    (guard,) = guard.fetchone()
    db.close()
    row["tier"] = "block"
    digest = chained("decisions", {name: row[name] for name in row if name != "hash"})
    change = f"UPDATE decisions SET tier = 'block', hash = '{digest}' WHERE sequence = 2"
    raw(path, "DROP TRIGGER decisions_no_update", change, guard)
    with Audit(path, read_only=True) as audit:
        assert audit.verify().fault == "row 3 does not follow the row before it"


def test_a_file_written_anew_is_found_by_its_anchor(path, tmp_path):
    with Audit(path) as audit:
        fill(audit)
        anchor = audit.head
    with Audit(tmp_path / "forged.sqlite") as forged:
        for request in range(1, 6):
            forged.write(decision(request, tier="allow", probability=0.01))
        assert forged.verify() and not forged.verify(anchor)


def test_an_empty_audit_is_right(audit):
    assert audit.verify().rows == 0 and audit.head == (0, GENESIS)


# On disk ---------------------------------------------------------------------------------------


def test_a_commit_waits_for_the_disk(audit):
    pragmas = {"journal_mode": "wal", "synchronous": 2}
    found = {name: audit._db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas}
    assert found == pragmas


def test_what_cannot_be_written_is_not_claimed(path):
    def fails(point):
        if point == "before commit":
            raise sqlite3.OperationalError("database or disk is full")

    with Audit(path, hook=fails) as audit:
        with pytest.raises(AuditFailed, match="disk is full"):
            audit.write(decision())
        assert audit.find(1) is None and audit.head == (0, GENESIS)
        audit._hook = lambda point: None
        assert audit.write(decision()).sequence == 1
        assert audit.verify()


def test_a_file_that_is_really_full_takes_no_row(path):
    with Audit(path) as audit:
        pages = audit._db.execute("PRAGMA page_count").fetchone()[0]
        audit._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(AuditFailed, match="full"):
            for request in range(100):
                audit.write(decision(request))
        written = audit.count()
        audit._db.execute("PRAGMA max_page_count = 1000000")
        audit.write(decision(500))
        assert audit.verify().rows == written + 1


def test_a_second_writer_is_kept_out(path, audit):
    with pytest.raises(AuditBusy, match="read_only=True"):
        Audit(path)
    code = "import sys; from casebook.cases.card_fraud.audit import Audit; Audit(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "AuditBusy" in run.stderr


def test_a_reader_looks_while_another_writes(path, audit):
    stop = threading.Event()

    def write():
        for request in range(10_000):
            if stop.is_set():
                return
            audit.write(decision(request))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with Audit(path, read_only=True) as reader:
            assert all(reader.verify() for _ in range(10))
            with pytest.raises(AuditFailed, match="readonly"):
                reader.write(decision(20_000))
    finally:
        stop.set()
        writer.join(10)


def test_there_is_nothing_to_look_at(path):
    with pytest.raises(FileNotFoundError):
        Audit(path, read_only=True)
    assert not path.exists()


def test_a_file_of_another_version_is_refused(path):
    Audit(path).close()
    raw(path, "PRAGMA user_version = 99")
    with pytest.raises(ValueError, match="version 99"):
        Audit(path)


# Outcomes --------------------------------------------------------------------------------------


def test_each_stage_is_reported_once(audit):
    audit.write(decision())
    report = Outcome(1, 1001, "denied", "2025-07-01T12:01:00.000Z", "2025-07-01T12:01:01.000Z")
    first = audit.report(report)
    assert audit.report(replace(report, noted="later")) == first
    with pytest.raises(Conflict, match="denied at"):
        audit.report(replace(report, outcome="confirmed"))
    audit.report(replace(report, outcome="chargeback"))
    assert [o.outcome for o in audit.outcomes(1)] == ["denied", "chargeback"]
    assert audit.verify().rows == 3


def test_the_log_is_in_order_across_the_tables(audit):
    audit.write(decision(1))
    audit.report(Outcome(1, 1001, "chargeback", "2025-07-20T00:00:00.000Z", "now"))
    audit.write(decision(2))
    assert [(type(row).__name__, row.sequence) for row in audit.log()] == [
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
            rows = list(audit.log())
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


@pytest.mark.parametrize("clients", [1, 4])
def test_a_service_that_is_killed_loses_and_doubles_nothing(path, clients):
    """Between decision and reply, at three points: before and after the commit, and later."""
    told = Told(path, list(range(1, 41)))
    for point in POINTS:
        rows = len(told.rows()) if path.exists() else 0
        live(told, clients, kill_at=point, kill_on=7)
        assert len(told.rows()) - rows == (6 if point == "before commit" else 7)
    with Server(FACTORY, {"path": str(path)}) as server:
        told.add(post_until_killed(server.url, told.requests, clients))
        told.add(post_until_killed(server.url, told.requests, clients))
    told.all_there()


def test_a_service_that_replies_first_is_found(path):
    told = Told(path, list(range(1, 41)))
    with pytest.raises(AssertionError, match="told, and not in the file"):
        live(told, 1, kill_on=7, bug="reply first")


def test_killed_thirty_times_with_concurrent_clients(path):
    """The same without HTTP, which is quick: lives of a few decisions, four clients in each."""
    told = Told(path, list(range(1, 131)))
    lives = [{"kill_at": POINTS[life % 3], "kill_on": 2 + life % 4} for life in range(30)] + [{}]
    code = "import card_fraud_fakes, sys; card_fraud_fakes.lives(*sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(path), json.dumps(lives), json.dumps(told.requests)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert run.returncode == 0, run.stderr
    ends = [line for line in run.stdout.splitlines() if line.startswith("end")]
    assert ends == ["end 9"] * 30 + ["end 0"]
    for line in run.stdout.splitlines():
        if line.startswith("{"):
            reply = json.loads(line)
            told.add({reply["request"]: reply})
    told.all_there()
