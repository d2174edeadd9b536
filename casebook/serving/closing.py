"""A stream with an end that is done once, in a thread that may wait, also where nobody closes it.

A generator with a ``finally`` that takes a lock is a trap: one that is left half read is closed by
the collector of garbage, in whatever thread it runs, perhaps one that holds this very lock and now
waits for itself. And a generator that was never started does not run its ``finally`` at all.

Examples
--------
>>> done, left = [], deque()
>>> stream = Closing(iter("abc"), lambda: done.append("end"), left)
>>> next(stream), stream.close(), [*stream], done
('a', None, [], ['end'])
>>> del stream
>>> forgotten = Closing(iter("abc"), lambda: done.append("late"), left)
>>> del forgotten
>>> [*done], finish(left), done
(['end'], 1, ['end', 'late'])
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any


class Closing(Iterator[Any]):
    """An iterator whose end is done when it is exhausted, fails or is closed.

    Parameters
    ----------
    events : iterator
        Holds no lock while it waits to be asked for the next one.
    end : callable
        Called once.
    left : deque
        Where the end is laid down if the stream is thrown away: the collector of garbage does
        nothing but that, and whoever comes next calls :func:`finish`.
    """

    def __init__(
        self, events: Iterator[Any], end: Callable[[], None], left: deque[Callable[[], None]]
    ) -> None:
        self._events, self._left = events, left
        self._ends = [end]  # list.pop is atomic: of two that close, one does it

    def __next__(self) -> Any:
        if not self._ends:
            raise StopIteration
        try:
            return next(self._events)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it, if that was not done."""
        try:
            end = self._ends.pop()
        except IndexError:
            return
        end()

    def __del__(self) -> None:
        self._left.extend(self._ends)


def finish(left: deque[Callable[[], None]]) -> int:
    """Do the ends of streams that were thrown away; return how many."""
    done = 0
    while True:
        try:
            end = left.popleft()
        except IndexError:
            return done
        end()
        done += 1
