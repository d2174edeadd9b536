"""A queue for approvals: what a person has to allow, bound to exactly what was asked.

Four things go wrong with approvals: what is done is not what was shown, one approval serves twice,
it is used long after, and whoever asks allows it himself. So an approval belongs to the hash of its
content, is spent once, expires, and is given by a known person other than the one who asked.

Examples
--------
>>> import sqlite3
>>> queue = Approvals(sqlite3.connect(":memory:", isolation_level=None), {"pat"}, lambda: 0.0)
>>> queue.ask("r1", {"order": "7", "cents": 9000}, by="C1", seconds=60)
>>> queue.decide("r1", "pat", True)
>>> [queue.spend("r1", {"order": "7", "cents": cents}) for cents in (9001, 9000, 9000)]
[False, True, False]
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Mapping
from typing import Any

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS approvals (id TEXT PRIMARY KEY, what TEXT NOT NULL, "
    "hash TEXT NOT NULL, asked_by TEXT NOT NULL, until REAL NOT NULL, "
    "state TEXT NOT NULL, who TEXT) STRICT"
)


class NotAllowed(PermissionError):
    """A decision that does not count: of the wrong person, too late, or made already."""


def content_hash(what: Mapping[str, Any]) -> str:
    """Return the hash of what is asked for; the order of its fields does not matter."""
    return hashlib.sha256(json.dumps(dict(what), sort_keys=True).encode()).hexdigest()


class Approvals:
    """What waits for a person, in a table of SQLite.

    Parameters
    ----------
    db : sqlite3.Connection
        In autocommit.
    staff : collection of str
        Who may decide.
    clock : callable
        Seconds.
    """

    def __init__(
        self, db: sqlite3.Connection, staff: Collection[str], clock: Callable[[], float]
    ) -> None:
        self._db, self._staff, self._clock = db, frozenset(staff), clock
        db.execute(SCHEMA)

    def ask(self, ident: str, what: Mapping[str, Any], by: str, seconds: float) -> None:
        """Put something into the queue.

        Raises
        ------
        sqlite3.IntegrityError
            If the number is taken.
        """
        told = (ident, json.dumps(dict(what), sort_keys=True), content_hash(what), by)
        self._db.execute(
            "INSERT INTO approvals VALUES (?, ?, ?, ?, ?, 'waits', NULL)",
            (*told, self._clock() + seconds),
        )

    def waiting(self) -> list[dict[str, Any]]:
        """Return what waits and has not expired, the oldest first: ``id``, ``what``, ``by``."""
        rows = self._db.execute(
            "SELECT id, what, asked_by FROM approvals WHERE state = 'waits' AND until > ? "
            "ORDER BY rowid",
            (self._clock(),),
        )
        return [{"id": i, "what": json.loads(what), "by": by} for i, what, by in rows]

    def decide(self, ident: str, who: str, yes: bool) -> None:
        """Allow or refuse.

        Raises
        ------
        NotAllowed
            If ``who`` may not decide, has asked, or nothing of this number waits any more.
        """
        if who not in self._staff:
            raise NotAllowed(f"{who!r} may not decide: ask {', '.join(sorted(self._staff))}.")
        made = self._db.execute(
            "UPDATE approvals SET state = ?, who = ? "
            "WHERE id = ? AND state = 'waits' AND until > ? AND asked_by <> ?",
            ("allowed" if yes else "refused", who, ident, self._clock(), who),
        ).rowcount
        if not made:
            raise NotAllowed(f"{ident}: nothing waits for {who!r} under this number.")

    def state(self, ident: str) -> str:
        """Return ``waits``, ``allowed``, ``refused``, ``spent``, ``expired``, or empty."""
        query = "SELECT state, until FROM approvals WHERE id = ?"
        row = self._db.execute(query, (ident,)).fetchone()
        if row is None:
            return ""
        late = row[0] in ("waits", "allowed") and row[1] <= self._clock()
        return "expired" if late else row[0]

    def spend(self, ident: str, what: Mapping[str, Any]) -> bool:
        """Use an approval up; say whether it was one, of exactly this, and still holds."""
        query = (
            "UPDATE approvals SET state = 'spent' "
            "WHERE id = ? AND state = 'allowed' AND hash = ? AND until > ?"
        )
        told = (ident, content_hash(what), self._clock())
        return self._db.execute(query, told).rowcount == 1
