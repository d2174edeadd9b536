"""Budgets of tokens for each user and day, kept in SQLite so that a restart forgives nothing.

Tokens are reserved before they are spent and settled afterwards: requests that run at the same time
cannot pass a budget together, and one that fails costs what it had used.

Examples
--------
>>> budget = Allowance(":memory:", tokens=100)
>>> noon = 12 * 3600.0
>>> budget.reserve("user:17", 80, noon), budget.reserve("user:17", 30, noon)
(True, False)
>>> budget.settle("user:17", 80, 20, noon)
>>> budget.reserve("user:17", 30, noon), budget.left("user:17", noon), budget.renewed(noon)
(True, 50, 43200)
"""

from __future__ import annotations

import math
import sqlite3
import threading

from casebook.data.private import private

DAY = 86_400
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS spent "
    "(user TEXT, day INTEGER, tokens INTEGER, PRIMARY KEY (user, day))"
)


class Allowance:
    """What each user may spend between two midnights of UTC.

    Parameters
    ----------
    path : str
        Of a file of SQLite; ``":memory:"`` for none.
    tokens : int
        A user's budget of a day.
    """

    def __init__(self, path: str, tokens: int) -> None:
        if tokens < 1:
            raise ValueError(f"a budget of {tokens} tokens: give 1 or more.")
        self.tokens, self._lock = tokens, threading.Lock()
        self._db = sqlite3.connect(private(path), isolation_level=None, check_same_thread=False)
        self._db.execute(SCHEMA)

    def left(self, user: str, now: float) -> int:
        """Return the tokens that a user may still spend today."""
        query = "SELECT tokens FROM spent WHERE user = ? AND day = ?"
        with self._lock:
            row = self._db.execute(query, (user, int(now // DAY))).fetchone()
        return max(0, self.tokens - (row[0] if row else 0))

    def reserve(self, user: str, tokens: int, now: float) -> bool:
        """Take tokens from a budget, all or none; say whether they were there."""
        query = (
            "INSERT INTO spent VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET tokens = tokens + ?3 "
            "WHERE tokens + ?3 <= ?4"
        )
        if tokens > self.tokens:
            return False
        with self._lock:
            told = user, int(now // DAY), max(0, tokens), self.tokens
            return self._db.execute(query, told).rowcount == 1

    def settle(self, user: str, reserved: int, used: int, then: float) -> None:
        """Give back what was reserved at a time and not used; what was used beyond it counts."""
        query = "UPDATE spent SET tokens = max(0, tokens - ? + ?) WHERE user = ? AND day = ?"
        with self._lock:
            self._db.execute(query, (reserved, used, user, int(then // DAY)))

    def renewed(self, now: float) -> int:
        """Return the seconds until the next midnight."""
        return math.ceil(DAY - now % DAY)
