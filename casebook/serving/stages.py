"""What a request spends its time on, stage by stage; the parts add up to the whole.

Examples
--------
>>> stages = Stages(clock=iter([0.0, 0.002, 0.009, 0.01]).__next__)
>>> stages.end("check")
>>> inner = stages.inner()
>>> with inner("ranking"):
...     pass
>>> stages.take(inner)
>>> stages.end("log")
>>> stages.ms()
{'check': 2.0, 'ranking': 7.0, 'log': 1.0}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stages:
    """A stop watch that is read at the end of each stage.

    Parameters
    ----------
    clock : callable
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._begin = clock, clock()
        self._ends: list[tuple[str, float]] = []

    def end(self, name: str) -> None:
        """Note that a stage ends now; the next one begins."""
        self._ends.append((name, self._clock()))

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Note the end of a stage after a block."""
        yield
        self.end(name)

    def inner(self) -> Stages:
        """Return a watch for a call that may be abandoned: it spoils nothing until it is taken."""
        made = Stages.__new__(Stages)
        made._clock, made._begin, made._ends = self._clock, self._begin, []
        return made

    def take(self, inner: Stages) -> None:
        """Take over the stages of a call that was waited for."""
        self._ends += inner._ends

    def ms(self) -> dict[str, float]:
        """Return the milliseconds of each stage, in order."""
        told, before = {}, self._begin
        for name, after in self._ends:
            told[name], before = round(1000 * (after - before), 3), after
        return told
