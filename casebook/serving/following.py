"""An adaptive correction that a consumer keeps: it asks at each forecast, and learns at each end.

A case may be forecast several times before it ends; its end says of each of them whether it held.

Examples
--------
>>> db = sqlite3.connect(":memory:")
>>> _ = db.executescript(TABLE)
>>> follower = recalled(db, Adaptive([-1.0, 0.0, 1.0, 2.0], level=0.8))
>>> follows = Following(follower, given=[])
>>> follows.ask("parcel 7", at=0, low=10.0, high=20.0)
2.0
>>> follows.ended("parcel 7", at=25 * 3600)
>>> keep(db, follower)
>>> recalled(db, Adaptive([0.0], level=0.8)).recent[-1]
5.0
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Hashable, Iterable

from casebook.evaluate.conformal import Adaptive

TABLE = "CREATE TABLE IF NOT EXISTS follower (one INTEGER PRIMARY KEY, alpha, recent);"


def recalled(db: sqlite3.Connection, fresh: Adaptive) -> Adaptive:
    """Return the correction as it was kept, or a fresh one where none was."""
    found = db.execute("SELECT alpha, recent FROM follower").fetchone()
    if found is None:
        return fresh
    made = Adaptive(json.loads(found[1]), fresh.level, fresh.gamma, fresh.window)
    made.alpha = found[0]
    return made


def keep(db: sqlite3.Connection, follower: Adaptive) -> None:
    """Write the correction, in the transaction of what it has learned from."""
    db.execute(
        "INSERT INTO follower VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE "
        "SET alpha = excluded.alpha, recent = excluded.recent",
        (follower.alpha, json.dumps(list(follower.recent))),
    )


class Following:
    """Asks and teaches a correction in the order in which forecasts and ends became known.

    Parameters
    ----------
    follower : Adaptive
    given : iterable of tuple
        Earlier forecasts of the cases that end now: case, second of the forecast, its ends before
        the correction (hours from then), the correction.
    """

    def __init__(self, follower: Adaptive, given: Iterable[tuple]) -> None:
        self.follower = follower
        self._given: dict[Hashable, list[tuple]] = {}
        for case, *forecast in given:
            self._given.setdefault(case, []).append(tuple(forecast))

    def ask(self, case: Hashable, at: int, low: float, high: float) -> float:
        """Return the correction of a forecast that is made at a second."""
        correction = self.follower.ask()
        self._given.setdefault(case, []).append((at, low, high, correction))
        return correction

    def ended(self, case: Hashable, at: int) -> None:
        """Learn from the end of a case; forecasts that were made after it count for nothing."""
        for asked, low, high, correction in self._given.get(case, []):
            took = (at - asked) / 3600
            if took > 0:
                self.follower.learn(max(low - took, took - high), correction)
