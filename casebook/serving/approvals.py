"""A queue for approvals: what a person has to allow, bound to exactly what was asked.

Four things go wrong with approvals: what is done is not what was shown, one approval serves twice,
it is used long after, and whoever asks allows it himself. So an approval belongs to the hash of its
content, is spent once, expires, and is given by a known person other than the one who asked. Names
do not tell that alone: somebody of the staff may ask under another name, as a customer. Whoever
knows both names gives ``may``.

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
    may : callable, optional
        Takes a member of the staff, who asked, and what for: whether the one may decide about the
        other's wish. By default the two names must differ.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        staff: Collection[str],
        clock: Callable[[], float],
        may: Callable[[str, str, Mapping[str, Any]], bool] = lambda who, by, what: who != by,
    ) -> None:
        self._db, self._staff, self._clock, self._may = db, frozenset(staff), clock, may
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

    def waiting(self, who: str = "") -> list[dict[str, Any]]:
        """Return what waits and has not expired, the oldest first: ``id``, ``what``, ``by``.

        Parameters
        ----------
        who : str
            Only what this person may decide about; by default all.
        """
        rows = self._db.execute(
            "SELECT id, what, asked_by FROM approvals WHERE state = 'waits' AND until > ? "
            "ORDER BY rowid",
            (self._clock(),),
        ).fetchall()
        told = [{"id": i, "what": json.loads(what), "by": by} for i, what, by in rows]
        return [one for one in told if not who or self._may(who, one["by"], one["what"])]

    def decide(self, ident: str, who: str, yes: bool) -> None:
        """Allow or refuse.

        Raises
        ------
        NotAllowed
            If ``who`` may not decide (about this), or nothing of this number waits any more.
        """
        if who not in self._staff:
            raise NotAllowed(f"{who!r} may not decide: ask {', '.join(sorted(self._staff))}.")
        query = "SELECT what, asked_by FROM approvals WHERE id = ?"
        row = self._db.execute(query, (ident,)).fetchone()
        if (state := self.state(ident)) != "waits":
            raise NotAllowed(f"{ident}: {state or 'there is no such number'}.")
        if not self._may(who, row[1], json.loads(row[0])):
            raise NotAllowed(f"{ident}: {who!r} may not decide about this one: ask a colleague.")
        self._db.execute(
            "UPDATE approvals SET state = ?, who = ? WHERE id = ? AND state = 'waits'",
            ("allowed" if yes else "refused", who, ident),
        )

    def state(self, ident: str) -> str:
        """Return ``waits``, ``allowed``, ``refused``, ``spent``, ``expired``, or empty."""
        query = "SELECT state, until FROM approvals WHERE id = ?"
        row = self._db.execute(query, (ident,)).fetchone()
        if row is None:
            return ""
        late = row[0] in ("waits", "allowed") and row[1] <= self._clock()
        return self._over(ident) if late else row[0]

    def _over(self, ident: str) -> str:
        """Write down that one has expired, so that no clock that goes back revives it."""
        self._db.execute("UPDATE approvals SET state = 'expired' WHERE id = ?", (ident,))
        return "expired"

    def spend(self, ident: str, what: Mapping[str, Any]) -> bool:
        """Use an approval up; say whether it was one, of exactly this, and still holds."""
        query = (
            "UPDATE approvals SET state = 'spent' "
            "WHERE id = ? AND state = 'allowed' AND hash = ? AND until > ?"
        )
        self.state(ident)
        told = (ident, content_hash(what), self._clock())
        return self._db.execute(query, told).rowcount == 1
