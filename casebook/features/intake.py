"""What a service gives to its feature store while it answers: one writer, and nothing lost unsaid.

Events are taken at once, or the sender is told to send them again. What the service itself notes
with each answer waits for the next *beat*, so that no answer waits for the store; while the store
takes nothing (a locked or deleted file, a server out of reach) it goes on waiting.

Examples
--------
>>> from casebook.features.definition import DAY, Feature
>>> from casebook.features.store import Online
>>> online = Online([Feature("views", ("user",), "count", DAY)])
>>> def frame(rows):
...     return pd.DataFrame(rows, columns=["event", "at", "user"])
>>> now = pd.Timestamp("2025-03-01 12:00")
>>> intake = Intake(online, frame, lambda: now)
>>> intake.take([(1, now, 7)]).new, intake.later((2, now, 7))
(1, None)
>>> intake.beat()
>>> online.read({"user": [7]}, intake.now())["views"].tolist()
[2.0]
>>> online.close()
>>> intake.later((3, now, 7)), intake.beat(), intake.waiting, intake.trouble
(None, None, 1, 'store: ProgrammingError: Cannot operate on a closed database.')
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd

from casebook.features.store import Online, Taken

#: A clock may be set back by so much at once; by more, the store takes nothing.
STEP, TICK = pd.Timedelta(seconds=60), pd.Timedelta(microseconds=1)


class Unavailable(RuntimeError):
    """The store takes nothing now: send it again."""


class Intake:
    """A queue and a lock before a store.

    Parameters
    ----------
    online : Online
    frame : callable
        From rows to the columns of their features, ``event`` and ``at``; ``known_at`` is now.
    clock : callable
        Now, in UTC without a zone.
    patience : float
        Seconds for which :meth:`take` waits for another writer.
    most : int
        Rows that may wait; more are counted in ``lost``.

    Attributes
    ----------
    trouble : str
        Why the store took nothing when it was last asked, or what it refused; "" when all is well.
    lost : int
        Rows of :meth:`later` that did not get in.
    """

    def __init__(
        self,
        online: Online,
        frame: Callable[[Sequence[tuple]], pd.DataFrame],
        clock: Callable[[], pd.Timestamp],
        patience: float = 2.0,
        most: int = 100_000,
    ) -> None:
        self._online, self._frame, self._clock = online, frame, clock
        self._patience, self._most, self._lock = patience, most, threading.RLock()
        self._rows: deque[tuple] = deque()
        self.trouble, self.lost, self._until = "", 0, pd.Timestamp(0)

    def now(self) -> pd.Timestamp:
        """Return the clock's time; after a small step back, that of what was taken in last."""
        now = self._clock()
        return self._until if TICK <= self._until - now <= STEP else now

    @property
    def waiting(self) -> int:
        """Rows that wait for a beat."""
        return len(self._rows)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let one write at a time.

        Raises
        ------
        Unavailable
            For who would wait long, as while the file is locked.
        """
        if not self._lock.acquire(timeout=self._patience):
            raise Unavailable("store: another one writes")
        try:
            yield
        finally:
            self._lock.release()

    def take(self, rows: Sequence[tuple]) -> Taken:
        """Give rows to the store, which learns of them now.

        Raises
        ------
        Unavailable
            If it cannot take them.
        """
        with self.writing():
            return self._take(self._frame(rows))

    def _take(self, frame: pd.DataFrame, own: bool = False) -> Taken:
        now = self.now()
        frame = frame.astype({"at": "M8[us]"})
        frame["known_at"] = pd.Series(now, frame.index, dtype="M8[us]")
        if own:  # between the answer and now the clock may have been set back a little
            frame["at"] = frame["at"].clip(upper=now)
        try:
            taken = self._online.ingest(frame, now + TICK)
        except Exception as error:
            self.trouble = f"store: {type(error).__name__}: {error}"[:200]
            raise Unavailable(self.trouble) from None
        self.trouble, self._until = "", now + TICK
        return taken

    def later(self, row: tuple) -> None:
        """Leave a row for the next beat."""
        if len(self._rows) < self._most:
            self._rows.append(row)
        else:
            self.lost += 1

    def beat(self) -> None:
        """Take in what waits; to be called each second, also of a quiet one."""
        try:
            with self.writing():
                rows = [self._rows.popleft() for _ in range(len(self._rows))]
                try:
                    refused = self._take(self._frame(rows), own=True).refused
                except BaseException:  # the next beat tries again
                    self._rows.extendleft(reversed(rows))
                    raise
        except Exception as error:
            self.trouble = str(error)
            return
        if refused:
            self.lost += len(refused)
            self.trouble = f"store: {refused[0]}"
