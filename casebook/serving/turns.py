"""One after the other: lists that a process makes at once are all late, in turn most are in time.

Python runs one thread at a time. Ten requests of 6 ms that are worked on together all end after
60 ms, in turn they end after 6, 12, 18 …; and each time one of many threads waits for a disk it
queues behind the others again. So a request waits for its turn, but not for ever: who holds it for
longer than the patience hangs, and those behind go on without it.

Examples
--------
>>> import time
>>> turns = Turns(patience=0.05)
>>> with turns:
...     pass
>>> hung, over = threading.Event(), threading.Event()
>>> def hangs():
...     with turns:
...         hung.set(), over.wait(20)
>>> thread = threading.Thread(target=hangs)
>>> thread.start(), hung.wait(20)
(None, True)
>>> for request in range(2):
...     begin = time.monotonic()
...     with turns:
...         print(time.monotonic() - begin >= 0.05)
True
False
>>> over.set(), thread.join()
(None, None)
"""

from __future__ import annotations

import threading


class Turns:
    """A turn, for a ``with`` block; not to be taken again inside of it.

    Parameters
    ----------
    patience : float
        Seconds that one waits for the turn of another one at most.

    Raises
    ------
    ValueError
        If the patience is not above 0.
    """

    def __init__(self, patience: float) -> None:
        if not 0 < patience < threading.TIMEOUT_MAX:
            raise ValueError(f"patience is {patience}: give seconds above 0.")
        self.patience, self._lock, self._own = patience, threading.Lock(), threading.local()

    def __enter__(self) -> None:
        lock = self._lock
        if not lock.acquire(timeout=self.patience):
            # Whoever has it hangs, or is too slow: those who come now wait for this one instead.
            lock = threading.Lock()
            lock.acquire()
            self._lock = lock
        self._own.lock = lock

    def __exit__(self, *_: object) -> None:
        self._own.lock.release()
