"""Token buckets: how often a client may ask, and how long it waits when it may not.

A bucket holds at most ``burst`` tokens and fills evenly. A request takes one; an empty bucket says
when the next token is there, which becomes ``Retry-After``. Over any span, what passes is at most
the burst and what has flowed in.

Examples
--------
>>> bucket = Bucket(per_minute=60, burst=2, now=0.0)
>>> [bucket.take(0.0), bucket.take(0.0), bucket.take(0.25), bucket.take(1.0)]
[0.0, 0.0, 0.75, 0.0]
"""

from __future__ import annotations

import math


class Bucket:
    """A bucket that is full at the start.

    Parameters
    ----------
    per_minute, burst : float
    now : float
        Seconds of a clock; where it goes back, nothing flows.
    """

    __slots__ = ("at", "burst", "level", "rate")

    def __init__(self, per_minute: float, burst: float, now: float) -> None:
        self.rate, self.burst, self.level, self.at = per_minute / 60, burst, float(burst), now

    def take(self, now: float) -> float:
        """Take a token; return 0, or the seconds after which there is one."""
        self.level = min(self.burst, self.level + max(0.0, now - self.at) * self.rate)
        self.at = max(self.at, now)
        if self.level >= 1 - 1e-9:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.rate

    def change(self, per_minute: float, burst: float) -> None:
        """Let another limit hold: what was used stays used."""
        self.rate, self.burst, self.level = per_minute / 60, burst, min(self.level, burst)


def retry_after(seconds: float) -> str:
    """Return a wait as the header has it: whole seconds, at least one.

    >>> retry_after(0.2), retry_after(1.01)
    ('1', '2')
    """
    return str(max(1, math.ceil(seconds - 1e-6)))
