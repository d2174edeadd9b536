"""Effects in another system that happen once, whatever is lost between it and here.

A refund is asked for at a payment provider, and no answer comes: was it made? To ask again under a
new number may pay twice, not to ask again may never pay. So the intention is written down first,
under a key that belongs to the *intention* and not to the attempt; the same key goes to the other
system with each attempt, which keeps to it (an idempotency key). A crash or a time-out leaves an
intention that is open, and :meth:`Once.recover` asks again.

What this needs of the other system: that it answers a key that it has seen with what it did then.
Without that, one can have "at most once" or "at least once", and not both. Providers forget keys
after a day or so: an older intention is never sent again, but looked up, by the key that was stored
with the effect. An answer is read: only a ``state`` of ``done`` means that something was done,
``failed`` that nothing was and nothing will be under this key; all else leaves the intention open.

Examples
--------
>>> paid = {}
>>> def pay(key, request):
...     paid.setdefault(key, request["cents"])
...     if len(paid) == 1 and not tried.append(key) and len(tried) == 1:
...         raise TimeoutError("no answer")
...     return {"state": "done", "paid": paid[key]}
>>> tried = []
>>> once = Once(sqlite3.connect(":memory:", isolation_level=None), pay)
>>> once.begin("refund 7", {"cents": 500})
True
>>> try:
...     once.settle("refund 7")
... except Unknown as error:
...     print(error)
refund 7: TimeoutError: no answer
>>> once.recover(), once.answer("refund 7")["paid"], paid
(['refund 7'], 500, {'refund 7': 500})
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

#: States of an answer after which nothing more will happen.
FINAL = ("done", "failed")
#: Seconds after its first attempt in which a key may be sent again: an hour less than a day.
KEPT = 23 * 3_600.0
#: Seconds by which a clock may go back; then nothing is known of an age.
SKEW = 60.0
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS effects (key TEXT PRIMARY KEY, request TEXT NOT NULL, "
    "answer TEXT, attempts INTEGER NOT NULL, first REAL, error TEXT NOT NULL DEFAULT '') STRICT"
)


class Unknown(RuntimeError):
    """No final answer: the effect may have happened or not."""


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
        Takes the key and the request, asks the other system, and returns its answer, a JSON object
        with ``state``. Whatever it raises means that nothing is known.
    passed : callable, optional
        Called with ``"begun"``, ``"asking"``, ``"sent"``, ``"answered"``: where a drill kills.
    clock : callable
        Seconds.
    look : callable, optional
        Takes a key, returns the answer that the other system has stored with the effect, or None
        where it has none. Without it an intention that is too old to be sent stays open.
    writing : callable, optional
        Returns a context for each access to the table: the owner's lock and transaction. It is not
        held while the other system is asked.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        call: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
        passed: Callable[[str], None] = lambda point: None,
        clock: Callable[[], float] = time.time,
        look: Callable[[str], Mapping[str, Any] | None] | None = None,
        writing: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self._db, self._call, self._passed = db, call, passed
        self._clock, self._look, self._writing = clock, look, writing
        db.execute(SCHEMA)

    def begin(self, key: str, request: Mapping[str, Any]) -> bool:
        """Write an intention down; say whether it is a new one.

        Raises
        ------
        Conflict
            If the key stands for another request.
        """
        told = json.dumps(dict(request), sort_keys=True)
        query = "INSERT OR IGNORE INTO effects (key, request, attempts) VALUES (?, ?, 0)"
        with self._writing():
            made = self._db.execute(query, (key, told)).rowcount
            kept = self._of(key, "request")
        if kept != told:
            raise Conflict(f"{key} stands for {kept}, not for {told}: take another key.")
        self._passed("begun")
        return made == 1

    def answer(self, key: str) -> dict[str, Any] | None:
        """Return what the other system answered in the end; None if that is not known.

        Raises
        ------
        KeyError
            If there is no such intention.
        """
        with self._writing():
            kept = self._of(key, "answer")
        return None if kept is None else json.loads(kept)

    def settle(
        self, key: str, then: Callable[[dict[str, Any]], None] = lambda answer: None
    ) -> dict[str, Any]:
        """Ask the other system, unless its answer is known, and return the answer.

        Parameters
        ----------
        key : str
        then : callable
            Takes the answer, in the transaction that keeps it; also one that was known.

        Raises
        ------
        Unknown
            Without a final answer, or if it cannot be written; the intention stays open.
        """
        answer = self.answer(key)
        if answer is None:
            answer = self._asked(key)
        try:
            with self._writing():
                told = json.dumps(answer), key
                self._db.execute("UPDATE effects SET answer = ?, error = '' WHERE key = ?", told)
                then(answer)
        except Exception as error:  # it happened, and could not be written: it is asked for again
            self._failed(key, f"{type(error).__name__}: {error}")
            raise Unknown(f"{key}: {type(error).__name__}: {error}") from error
        self._passed("answered")
        return answer

    def _asked(self, key: str) -> dict[str, Any]:
        """Send a young intention, look an old one up, and return a final answer."""
        with self._writing():
            query = "UPDATE effects SET attempts = attempts + 1, first = ifnull(first, ?)"
            self._db.execute(f"{query} WHERE key = ?", (self._clock(), key))
            request, first = json.loads(self._of(key, "request")), self._of(key, "first")
        self._passed("asking")
        try:
            answer = self._sent(key, request) if self._young(first) else self._found(key)
        except Exception as error:
            self._failed(key, f"{type(error).__name__}: {error}")
            raise Unknown(f"{key}: {type(error).__name__}: {error}") from error
        self._passed("sent")
        if answer.get("state") not in FINAL:
            self._failed(key, f"state {answer.get('state')!r}")
            raise Unknown(f"{key}: its state is {answer.get('state')!r}")
        return answer

    def _young(self, first: float) -> bool:
        return -SKEW <= self._clock() - first < KEPT

    def _sent(self, key: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._call(key, request))

    def _found(self, key: str) -> dict[str, Any]:
        """Look an effect up; what is not there after so long has failed."""
        if self._look is None:
            raise LookupError("the key may be forgotten, and nothing can look it up")
        found = self._look(key)
        return {"state": "failed", "why": "it never arrived"} if found is None else dict(found)

    def _failed(self, key: str, why: str) -> None:
        with self._writing():
            self._db.execute("UPDATE effects SET error = ? WHERE key = ?", (why[:300], key))

    def _of(self, key: str, column: str) -> Any:
        row = self._db.execute(f"SELECT {column} FROM effects WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return row[0]

    def open(self) -> list[str]:
        """Return the keys of intentions whose answer is not known, the oldest first."""
        return list(self.errors())

    def errors(self) -> dict[str, str]:
        """Return the keys of those intentions with what went wrong last."""
        query = "SELECT key, error FROM effects WHERE answer IS NULL ORDER BY rowid"
        with self._writing():
            return dict(self._db.execute(query).fetchall())

    def recover(self) -> list[str]:
        """Ask about every open intention again; return the keys that have an answer now."""
        settled = []
        for key in self.open():
            try:
                self.settle(key)
            except Unknown:
                continue
            settled.append(key)
        return settled
