"""Effects in another system that happen once, whatever is lost between it and here.

A refund is asked for at a payment provider, and no answer comes: was it made? To ask again under a
new number may pay twice, not to ask again may never pay. So the intention is written down first,
under a key that belongs to the *intention* and not to the attempt; the same key goes to the other
system with each attempt, which keeps to it (an idempotency key). A crash or a time-out leaves an
intention that is open, and :meth:`Once.recover` asks again.

What this needs of the other system: that it answers a key that it has seen with what it did then.
Without that, one can have "at most once" or "at least once", and not both.

Examples
--------
>>> paid = {}
>>> def pay(key, request):
...     paid.setdefault(key, request["cents"])
...     if len(paid) == 1 and not tried.append(key) and len(tried) == 1:
...         raise TimeoutError("no answer")
...     return {"paid": paid[key]}
>>> tried = []
>>> once = Once(sqlite3.connect(":memory:", isolation_level=None), pay)
>>> once.begin("refund 7", {"cents": 500})
True
>>> try:
...     once.settle("refund 7")
... except Unknown as error:
...     print(error)
refund 7: no answer
>>> once.recover(), once.answer("refund 7"), paid
(['refund 7'], {'paid': 500}, {'refund 7': 500})
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS effects "
    "(key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT, attempts INTEGER NOT NULL) STRICT"
)


class Unknown(RuntimeError):
    """The other system did not answer: the effect may have happened or not."""


class Conflict(ValueError):
    """A key was used again for something else."""


class Once:
    """Intentions and what came of them, in a table of SQLite.

    Parameters
    ----------
    db : sqlite3.Connection
        In autocommit (``isolation_level=None``), so that its owner may put :meth:`begin` into one
        transaction with the decision behind it.
    call : callable
        Takes the key and the request, asks the other system, and returns its answer, a JSON object.
        An ``OSError`` (such as ``TimeoutError``) means that nothing is known.
    passed : callable, optional
        Called with ``"begun"``, ``"asking"``, ``"sent"``, ``"answered"``: where a drill kills.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        call: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
        passed: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._db, self._call, self._passed = db, call, passed
        db.execute(SCHEMA)

    def begin(self, key: str, request: Mapping[str, Any]) -> bool:
        """Write an intention down; say whether it is a new one.

        Raises
        ------
        Conflict
            If the key stands for another request.
        """
        told = json.dumps(dict(request), sort_keys=True)
        made = self._db.execute(
            "INSERT OR IGNORE INTO effects VALUES (?, ?, NULL, 0)", (key, told)
        ).rowcount
        (kept,) = self._db.execute("SELECT request FROM effects WHERE key = ?", (key,)).fetchone()
        if kept != told:
            raise Conflict(f"{key} stands for {kept}, not for {told}: take another key.")
        self._passed("begun")
        return made == 1

    def answer(self, key: str) -> dict[str, Any] | None:
        """Return what the other system answered; None if that is not known.

        Raises
        ------
        KeyError
            If there is no such intention.
        """
        row = self._db.execute("SELECT answer FROM effects WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return None if row[0] is None else json.loads(row[0])

    def settle(self, key: str) -> dict[str, Any]:
        """Ask the other system, unless its answer is known, and return the answer.

        Raises
        ------
        Unknown
            Without an answer; the intention stays open.
        """
        if (known := self.answer(key)) is not None:
            return known
        self._db.execute("UPDATE effects SET attempts = attempts + 1 WHERE key = ?", (key,))
        (told,) = self._db.execute("SELECT request FROM effects WHERE key = ?", (key,)).fetchone()
        self._passed("asking")
        try:
            answer = dict(self._call(key, json.loads(told)))
        except OSError as error:
            raise Unknown(f"{key}: {error}") from error
        self._passed("sent")
        self._db.execute("UPDATE effects SET answer = ? WHERE key = ?", (json.dumps(answer), key))
        self._passed("answered")
        return answer

    def open(self) -> list[str]:
        """Return the keys of intentions whose answer is not known, the oldest first."""
        query = "SELECT key FROM effects WHERE answer IS NULL ORDER BY rowid"
        return [key for (key,) in self._db.execute(query)]

    def recover(self) -> list[str]:
        """Ask about every open intention again; return the keys that are settled now."""
        settled = []
        for key in self.open():
            try:
                self.settle(key)
            except Unknown:
                continue
            settled.append(key)
        return settled
