"""The audit: every decision once, in a file that is only ever added to.

One SQLite file holds three tables, ``decisions``, ``outcomes`` and ``conflicts``. Their rows share
one count, ``sequence``, and one chain: each row carries the SHA-256 of its own values and of the
hash before it, so that a row that was changed, taken out or put in is found by
:meth:`Audit.verify`. Triggers refuse UPDATE, DELETE and REPLACE to everyone who has not removed
them.

A write is on disk when it returns (write-ahead log, ``synchronous=FULL``: SQLite, *PRAGMA
synchronous*). The service replies after that, so what a client was told stands in the file.
What the chain cannot show: rows cut off at the end, or a file written anew by someone who
computes all hashes again. Keep ``head`` elsewhere from time to time and give it to ``verify``.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from heapq import merge
from pathlib import Path
from typing import Any

from casebook.cases.card_fraud.schema import CONFIRMATIONS, canonical, sha256

#: Version of the tables, in SQLite's ``user_version``.
VERSION = 1
#: The hash before the first row.
GENESIS = "0" * 64


class AuditFailed(RuntimeError):
    """A row could not be written: nothing may be replied as decided."""


class AuditBusy(RuntimeError):
    """Another process writes to the same file."""


class Conflict(ValueError):
    """The same name was used for something else: a request id, a number, an outcome.

    Parameters
    ----------
    what : str
        What stands there already.
    """


@dataclass(frozen=True)
class Decision:
    """A decision as it is kept.

    Attributes
    ----------
    request, transaction : int
        Of the payment, and the bank's number in order of arrival.
    received, decided : str
        When it arrived and when it was decided, UTC, ISO 8601.
    fingerprint : str
        Of what was sent, without the stamps of the attempt.
    input, features : dict
        What was sent and what was computed from it (None: nan).
    probability : float or None
        The model's; none when it did not answer.
    tier, source, why : str
        What was decided; ``"model"`` or ``"rules"``; why it was not the model.
    reasons : list of str
        For the analyst.
    model, rules : str
        Versions.
    ms : float
        Milliseconds from arrival to just before the row was written.
    sequence, previous, hash : int, str, str
        Set by the audit.
    """

    request: int
    transaction: int
    received: str
    decided: str
    fingerprint: str
    input: dict[str, Any] = field(repr=False)
    features: dict[str, float | None] = field(repr=False)
    probability: float | None
    tier: str
    source: str
    why: str
    reasons: list[str]
    model: str
    rules: str
    ms: float
    sequence: int = 0
    previous: str = ""
    hash: str = ""


@dataclass(frozen=True)
class Outcome:
    """A confirmation's outcome or a chargeback; ``at`` when it came, ``noted`` when written."""

    request: int
    transaction: int
    outcome: str
    at: str
    noted: str
    stage: str = ""
    sequence: int = 0
    previous: str = ""
    hash: str = ""


@dataclass(frozen=True)
class Verified:
    """What :meth:`Audit.verify` found; true when nothing is wrong.

    Attributes
    ----------
    rows : int
        Rows that were checked before the first fault.
    fault : str
        Empty, or what is wrong and where.
    """

    rows: int
    fault: str = ""

    def __bool__(self) -> bool:
        return not self.fault


_TAIL = "sequence INTEGER NOT NULL UNIQUE, previous TEXT NOT NULL, hash TEXT NOT NULL"
_TABLES = {
    "decisions": """request INTEGER PRIMARY KEY, "transaction" INTEGER NOT NULL UNIQUE,
        received TEXT NOT NULL, decided TEXT NOT NULL, fingerprint TEXT NOT NULL,
        input TEXT NOT NULL, features TEXT NOT NULL, probability REAL, tier TEXT NOT NULL,
        source TEXT NOT NULL, why TEXT NOT NULL, reasons TEXT NOT NULL, model TEXT NOT NULL,
        rules TEXT NOT NULL, ms REAL NOT NULL""",
    "outcomes": """request INTEGER NOT NULL REFERENCES decisions (request),
        "transaction" INTEGER NOT NULL, outcome TEXT NOT NULL, at TEXT NOT NULL,
        noted TEXT NOT NULL, stage TEXT NOT NULL""",
    "conflicts": """request INTEGER NOT NULL, received TEXT NOT NULL, fingerprint TEXT NOT NULL,
        input TEXT NOT NULL""",
}
#: What may stand in a table once; a trigger checks it because REPLACE deletes without one.
_ONCE = {
    "decisions": ("sequence", "request", '"transaction"'),
    "outcomes": ("sequence", "request, stage"),
    "conflicts": ("sequence", "request, fingerprint"),
}
_JSON = ("input", "features", "reasons")


def _ddl() -> dict[str, str]:
    """Return the statements that make the tables and their guards, by name."""
    made = {}
    for table, columns in _TABLES.items():
        made[table] = f"CREATE TABLE {table} ({columns}, {_TAIL}) STRICT"
        for verb in ("UPDATE", "DELETE"):
            made[f"{table}_no_{verb.lower()}"] = (
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'the audit is append-only: no {verb}'); END"
            )
        for i, key in enumerate(_ONCE[table]):
            names = key.split(", ")
            same = " AND ".join(f"{name} = NEW.{name}" for name in names)
            made[f"{table}_once_{i}"] = (
                f"CREATE TRIGGER {table}_once_{i} BEFORE INSERT ON {table} "
                f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) "
                "BEGIN SELECT RAISE(ABORT, 'the audit is append-only: it stands there'); END"
            )
            if len(names) > 1:
                made[f"{table}_key_{i}"] = f"CREATE INDEX {table}_key_{i} ON {table} ({key})"
    return made


class Audit:
    """Write decisions to a file, find them again, and check that nobody changed them.

    Parameters
    ----------
    path : str or Path
        The file; it is made when it is not there. Next to it stand SQLite's write-ahead log and
        ``<path>.lock``, which keeps a second writer out; the system frees it when a process ends.
    read_only : bool
        Only look: also while a service writes.
    hook : callable, optional
        Called with ``"before commit"`` and ``"after commit"``: where a test plants a crash.

    Raises
    ------
    FileNotFoundError
        When there is nothing to look at.
    AuditBusy
        When another process, or another :class:`Audit` of this one, writes to the file.
    ValueError
        When the file is of another version.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        read_only: bool = False,
        hook: Callable[[str], None] | None = None,
    ) -> None:
        self.path = Path(path)
        if read_only and not self.path.exists():
            raise FileNotFoundError(f"There is no audit at {self.path}.")
        self._hook = hook or (lambda point: None)
        self._lock = threading.RLock()
        self._guard = None if read_only else _only_writer(self.path)
        self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        try:
            self._open(read_only)
        except BaseException:
            self.close()
            raise

    def _open(self, read_only: bool) -> None:
        self._db.execute("PRAGMA busy_timeout = 2000")
        if read_only:
            self._db.execute("PRAGMA query_only = ON")
        else:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not read_only:
            with _transaction(self._db):
                for statement in _ddl().values():
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise ValueError(
                f"{self.path} has version {version} of the audit's tables, this code writes "
                f"{VERSION}. Start a new file, and keep the old one."
            )
        self._head = self._last()

    def close(self) -> None:
        """Close the file and let another writer in."""
        with self._lock:
            self._db.close()
            if self._guard is not None:
                os.close(self._guard)
                self._guard = None

    def __enter__(self) -> Audit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Decisions --------------------------------------------------------------------------------

    def settled(self, request: int, fingerprint: str, sent: dict, received: str) -> Decision | None:
        """Return the decision of a request that came before, None when it is new.

        Parameters
        ----------
        request : int
        fingerprint : str
            Of what is sent now.
        sent : dict
            For the log, if it differs from what came before.
        received : str

        Raises
        ------
        Conflict
            When the request id was used for another payment. It is logged, each other payment
            once.
        """
        with self._lock:
            before = self.find(request)
            if before is None or before.fingerprint == fingerprint:
                return before
            key = (request, fingerprint)
            seen = "SELECT 1 FROM conflicts WHERE request = ? AND fingerprint = ?"
            if self._db.execute(seen, key).fetchone() is None:
                row = {"request": request, "received": received, "fingerprint": fingerprint}
                self._append("conflicts", {**row, "input": canonical(sent)})
            raise Conflict(f"request {request} was decided at {before.decided} for other values")

    def write(self, decision: Decision) -> Decision:
        """Write a decision, once: on disk when this returns.

        Returns
        -------
        Decision
            As it stands in the file: of a request that came before, the one from then.

        Raises
        ------
        Conflict
            When the request id stands there with another payment, or the transaction's number
            with another request.
        AuditFailed
            When it could not be written.
        """
        with self._lock:
            d = decision
            before = self.settled(d.request, d.fingerprint, d.input, d.received)
            if before is not None:
                return before
            self.free(d.transaction)
            values = {name: getattr(d, name) for name in _names(Decision)}
            values |= {name: canonical(values[name]) for name in _JSON}
            values |= {"ms": float(d.ms), "probability": _float(d.probability)}
            return _decision(self._append("decisions", values))

    def free(self, transaction: int) -> None:
        """Raise :class:`Conflict` when a transaction's number is taken."""
        with self._lock:
            query = 'SELECT request FROM decisions WHERE "transaction" = ?'
            row = self._db.execute(query, (transaction,)).fetchone()
        if row is not None:
            raise Conflict(f"transaction {transaction} belongs to request {row['request']}")

    def find(self, request: int) -> Decision | None:
        """Return the decision of a request, if there is one."""
        with self._lock:
            query = "SELECT * FROM decisions WHERE request = ?"
            row = self._db.execute(query, (request,)).fetchone()
        return None if row is None else _decision(dict(row))

    def report(self, outcome: Outcome) -> Outcome:
        """Write what became of a decision: one confirmation and one chargeback at most.

        Returns
        -------
        Outcome
            The same report again returns the one that stands there.

        Raises
        ------
        Conflict
            When another one stands there.
        AuditFailed
            When it could not be written.
        """
        stage = "confirmation" if outcome.outcome in CONFIRMATIONS else "chargeback"
        with self._lock:
            for before in self.outcomes(outcome.request):
                if before.stage == stage:
                    if (before.outcome, before.at) == (outcome.outcome, outcome.at):
                        return before
                    raise Conflict(f"{before.outcome} at {before.at} stands there")
            values = {n: getattr(outcome, n) for n in _names(Outcome)} | {"stage": stage}
            return Outcome(**self._append("outcomes", values))

    def outcomes(self, request: int) -> list[Outcome]:
        """Return the reports of a request, in order."""
        with self._lock:
            query = "SELECT * FROM outcomes WHERE request = ? ORDER BY sequence"
            return [Outcome(**dict(row)) for row in self._db.execute(query, (request,))]

    # The whole file ---------------------------------------------------------------------------

    @property
    def head(self) -> tuple[int, str]:
        """The last sequence and its hash: (0, 64 zeros) when there is none."""
        with self._lock:
            return self._last()

    def count(self, table: str = "decisions") -> int:
        """Return the number of rows of ``decisions``, ``outcomes`` or ``conflicts``."""
        if table not in _TABLES:
            raise ValueError(f"There is no table {table!r}: {', '.join(_TABLES)}.")
        with self._lock:
            return self._db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]

    def next_transaction(self, first: int) -> int:
        """Return the number after the largest one, at least ``first``."""
        with self._lock:
            largest = self._db.execute('SELECT MAX("transaction") FROM decisions').fetchone()[0]
        return first if largest is None else max(first, largest + 1)

    def last_received(self) -> str | None:
        """Return when the last decided transaction arrived."""
        with self._lock:
            query = "SELECT received FROM decisions ORDER BY sequence DESC LIMIT 1"
            row = self._db.execute(query).fetchone()
        return None if row is None else row["received"]

    def log(self) -> Iterator[Decision | Outcome]:
        """Yield decisions and outcomes in the order in which they were written.

        Nothing can be written until the last one was taken.
        """
        for table, row in self._rows():
            if table == "decisions":
                yield _decision(row)
            elif table == "outcomes":
                yield Outcome(**row)

    def verify(self, anchor: tuple[int, str] | None = None) -> Verified:
        """Check every row, the chain between them and the guards.

        Beside a running service, check through an ``Audit`` of its own with ``read_only=True``:
        this one writes nothing while it reads.

        Parameters
        ----------
        anchor : tuple of int and str, optional
            A ``head`` that was kept elsewhere: rows up to it must be as they were then.
        """
        guards = _ddl()
        found = dict(self._db.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"))
        for name, statement in guards.items():
            if found.get(name) != statement:
                return Verified(0, f"table or guard {name} is missing or was changed")
        previous, rows = GENESIS, 0
        for table, row in self._rows():
            sequence = row["sequence"]
            if sequence != rows + 1:
                return Verified(rows, f"row {rows + 1} is missing before row {sequence}")
            if row["previous"] != previous:
                return Verified(rows, f"row {sequence} does not follow the row before it")
            previous = row.pop("hash")
            if previous != chained(table, row):
                return Verified(rows, f"row {sequence} ({table}) was changed")
            rows = sequence
            if anchor is not None and sequence == anchor[0] and previous != anchor[1]:
                return Verified(rows - 1, f"row {sequence} is not what it was when it was kept")
        if anchor is not None and rows < anchor[0]:
            return Verified(rows, f"rows {rows + 1} to {anchor[0]} were cut off")
        return Verified(rows)

    def _rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield table and row by sequence, from one state of the file."""

        def read(table: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
            for row in self._db.execute(f"SELECT * FROM {table} ORDER BY sequence"):
                yield row["sequence"], table, dict(row)

        with self._lock:
            self._db.execute("BEGIN")
            try:
                for _, table, row in merge(*map(read, _TABLES), key=lambda item: item[0]):
                    yield table, row
            finally:
                self._db.execute("ROLLBACK")

    # Writing ----------------------------------------------------------------------------------

    def _append(self, table: str, values: dict[str, Any]) -> dict[str, Any]:
        sequence, previous = self._head
        row = {**values, "sequence": sequence + 1, "previous": previous}
        row["hash"] = chained(table, row)
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" * len(row))
        try:
            with _transaction(self._db):
                insert = f"INSERT INTO {table} ({names}) VALUES ({marks})"
                self._db.execute(insert, [*row.values()])
                self._hook("before commit")
        except AuditFailed:
            with suppress(sqlite3.Error):
                self._head = self._last()  # a COMMIT that failed may have come through
            raise
        self._head = row["sequence"], row["hash"]
        self._hook("after commit")
        return row

    def _last(self) -> tuple[int, str]:
        heads = [
            self._db.execute(
                f"SELECT sequence, hash FROM {table} ORDER BY sequence DESC LIMIT 1"
            ).fetchone()
            for table in _TABLES
        ]
        return max([(row["sequence"], row["hash"]) for row in heads if row], default=(0, GENESIS))


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """BEGIN, COMMIT, and ROLLBACK when anything fails; SQLite's errors become AuditFailed."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException as error:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise AuditFailed(f"The audit takes no row: {error}.") from error
        raise


def _only_writer(path: Path) -> int | None:
    """Take the lock of a file's writer; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    guard = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(guard)
        raise AuditBusy(
            f"Another service writes to {path}. Its store would miss what this one decides: run "
            "one, or look with read_only=True."
        ) from None
    return guard


def chained(table: str, row: dict[str, Any]) -> str:
    """Return the hash of a row: of its table, its values and the hash before it."""
    return sha256(canonical([table, row]))


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _names(kind: type) -> list[str]:
    return [f.name for f in fields(kind) if f.name not in ("sequence", "previous", "hash")]


def _decision(row: dict[str, Any]) -> Decision:
    return Decision(**row | {name: json.loads(row[name]) for name in _JSON})
