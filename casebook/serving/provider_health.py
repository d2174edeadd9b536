"""Whether a provider may be asked: a breaker by failure rate, and a budget for repeats.

:class:`ProviderHealth` opens when at least half of the calls of the last ten seconds failed, and
there were at least twenty. A number of failures among the last hundred calls, whatever their time,
opens it for healthy providers too: at 2 % of failures, five of a hundred come every 730 calls,
every six seconds at 120 calls a second. By rate it seldom errs, most often where calls are few: at
2 a second and 10 % of failures once in a million simulated calls, at 20 % once in 4,700; at 120 a
second and 40 %, once in 300,000. Well below 2 calls a second it does not open: few callers wait for
their time-outs then, and no crowd asks a provider that is down.

:class:`RetryBudget` bounds what is asked again: a tenth of the calls. Without it, repeats multiply
the load of a provider that is down already.

Examples
--------
>>> health = ProviderHealth(clock=lambda: 0.0)
>>> for failed in [False] * 10 + [True] * 9:
...     health.record(health.admit(), "failed" if failed else "")
>>> health.state
'closed'
>>> health.record(health.admit(), "failed")
>>> health.state
'open'
>>> budget = RetryBudget(share=0.1, least=1)
>>> [budget.take() for _ in range(2)]
[True, False]
>>> for _ in range(10):
...     budget.earn()
>>> budget.take()
True
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from casebook.llm.adapters import ProviderError
from casebook.serving.breaker import Breaker

#: Share of failed calls that opens a breaker, among so many at least, within so many seconds; and
#: seconds until it is tried again.
SHARE, VOLUME, WINDOW, COOL_OFF = 0.5, 20, 10.0, 5.0
#: What says something about a provider's health.
UNWELL = ("failed", "unreachable", "timeout", "malformed", "cut")


class RetryBudget:
    """Repeats that may be made: a share of the calls, and a few at the start."""

    def __init__(self, share: float = 0.1, least: float = 10.0) -> None:
        self.share, self.most, self.left = share, max(least, 100 * share), least

    def earn(self) -> None:
        """Count a call."""
        self.left = min(self.most, self.left + self.share)

    def take(self) -> bool:
        """Take a repeat, if there is one."""
        if self.left < 1 - 1e-9:
            return False
        self.left -= 1
        return True


class ProviderHealth(Breaker):
    """The breaker of the toolbox, by failure rate, for calls that an event loop waits for.

    Parameters
    ----------
    share : float
        Of failed calls, from which on it opens.
    volume : int
        Calls of the window below which it does not.
    seconds : float
        Length of the window.
    cool_off : float
        Seconds from opening to the first probe.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        share: float = SHARE,
        volume: int = VOLUME,
        seconds: float = WINDOW,
        cool_off: float = COOL_OFF,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(cool_off=cool_off, clock=clock)
        self.share, self.volume, self.seconds = share, volume, seconds
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0

    def admit(self) -> int:
        """Return the generation of a call that may be made.

        Raises
        ------
        ProviderError
            ``open``, with the seconds until a probe.
        """
        generation = self._admit()
        if generation is None:
            left = self.cool_off - (self._clock() - self._since)
            raise ProviderError("open", "", max(1.0, left))
        return generation

    def record(self, generation: int, why: str) -> None:
        """Count a call that has ended."""
        if self._state != "closed" or generation != self._generation:
            return self._record(generation, why, why)
        with self._lock:
            now = self._clock()
            self._calls.append((now, bool(why)))
            self._failed += bool(why)
            while self._calls[0][0] <= now - self.seconds:
                self._failed -= self._calls.popleft()[1]
            if len(self._calls) >= self.volume and self._failed >= self.share * len(self._calls):
                self._last = why
                self._turn("open")
        return None

    def _turn(self, state: str) -> None:
        super()._turn(state)
        self._calls.clear()
        self._failed = 0

    def forget(self, generation: int) -> None:
        """Let a call count for nothing: its client went away."""
        with self._lock:
            if generation == self._generation:
                self._probing = False


class Probe:
    """One call, as its breaker hears of it.

    Raises
    ------
    ProviderError
        ``open`` if the breaker lets no call through.
    """

    def __init__(self, health: ProviderHealth) -> None:
        self._health, self._generation = health, health.admit()
        self.begun = self._told = False

    def lives(self) -> None:
        """Tell of the first piece: a long answer is no longer a probe."""
        if not self._told:
            self._health.record(self._generation, "")
        self.begun = self._told = True

    def failed(self, kind: str) -> None:
        """Tell of a failure; a provider that refuses is well."""
        if kind in UNWELL or not self._told:
            self._health.record(self._generation, kind if kind in UNWELL else "")
        self._told = True

    def forget(self) -> None:
        """Tell of the end: a call of which nothing was told has lost its client."""
        if not self._told:
            self._health.forget(self._generation)
