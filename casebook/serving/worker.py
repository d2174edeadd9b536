"""A consumer that a service runs: it notes its trouble, goes on after it, and says how far it is.

Examples
--------
>>> import tempfile, pathlib
>>> from casebook.serving.consumer import Consumer, Store
>>> from casebook.serving.eventlog import EventLog
>>> folder = tempfile.TemporaryDirectory()
>>> log = EventLog(pathlib.Path(folder.name) / "log.db")
>>> store = Store(pathlib.Path(folder.name) / "state.db")
>>> consumer = Consumer(log, store, decode=float, apply=lambda db, events: None)
>>> worker = Worker(consumer, store, known_at=lambda second: second)
>>> log.append([("a", "100"), ("a", "160")])
'2'
>>> worker.lag(now=190.0)
(2, 90.0, '')
>>> worker.step(), worker.lag(now=190.0)
(2, (0, 0.0, ''))
>>> worker.condition(now=190.0)["consumer"]
'well'
>>> store.close(), log.close(), folder.cleanup()
(None, None, None)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from casebook.serving.consumer import Consumer, Store


class Worker:
    """A consumer with its trouble and its lag.

    Parameters
    ----------
    consumer : Consumer
    reader : Store
        The consumer's store, or the same file opened once more: who asks then waits for no batch.
    known_at : callable
        From a decoded event to the second at which it became known.
    """

    def __init__(self, consumer: Consumer, reader: Store, known_at: Callable[[Any], float]) -> None:
        self.consumer, self.asked = consumer, replace(consumer, store=reader)
        self.trouble, self._known_at = "", known_at

    def step(self) -> int:
        """Consume what is there and return how many events; note the trouble, if there is any."""
        try:
            done = self.consumer.run().events
        except Exception as error:  # a full disk, a bug, a log out of reach: all may pass
            self.trouble = f"{type(error).__name__}: {error}"[:300]
            return 0
        self.trouble = ""
        return done

    def forever(self, pause: float = 0.05) -> None:
        """Consume, and try again after trouble; for a thread of its own."""
        wait = threading.Event()
        while True:
            if not self.step():
                wait.wait(2.0 if self.trouble else pause)

    def condition(self, now: float) -> dict[str, Any]:
        """Return how the consumer is, for a health check.

        Parameters
        ----------
        now : float
            As of :meth:`lag`.

        Returns
        -------
        dict
            ``consumer`` (well, or its trouble), ``behind`` and ``lag_seconds`` (unread events, and
            the age of the oldest; None while that is not known), ``consumed``, ``quarantined``.
        """
        behind, lag, trouble = self.lag(now)
        aside = self.asked.store.all("SELECT count(*) FROM quarantine")[0][0]
        told = {"consumer": self.trouble or trouble or "well", "behind": behind}
        return told | {"lag_seconds": lag, "consumed": self.asked.consumed, "quarantined": aside}

    def lag(self, now: float) -> tuple[int | None, float | None, str]:
        """Return how many events are unread, the oldest's age, and why that is not known.

        Parameters
        ----------
        now : float
            In seconds, as ``known_at`` counts.
        """
        try:
            behind = self.asked.behind
            oldest = self.asked.log.read(self.asked.offset, 1) if behind else []
        except Exception as error:  # the log was replaced, or is out of reach
            return None, None, f"{type(error).__name__}: {error}"[:300]
        if not oldest:
            return behind, 0.0, ""
        try:
            since = self._known_at(self.asked.decode(oldest[0].body))
        except ValueError:
            return behind, None, ""  # it will be put aside
        return behind, max(now - since, 0.0), ""
