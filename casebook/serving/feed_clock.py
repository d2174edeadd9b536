"""A clock that is wrong does not move a feed's time: messages from the future are refused.

Examples
--------
Where a feed is played again, the time of its messages is all that there is. One that is days ahead
of all others is refused, until another key says the same: then the feed was silent.

>>> clock = FeedClock(jump=100)
>>> clock.latest(None, [("a", 10), ("b", 20)])
20
>>> clock.latest(20, [("a", 900)])
Traceback (most recent call last):
...
casebook.serving.consumer.Refused: came 0.0 days after all before it: set its clock
>>> clock.latest(20, [("b", 910)])
910
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from casebook.serving.consumer import Refused


@dataclass
class FeedClock:
    """When messages became known, as far as that can be believed.

    Attributes
    ----------
    now : callable or None
        Seconds, where the service runs on its own time.
    ahead : float
        Seconds that a message may be ahead of ``now``.
    jump : float
        Seconds that one may be ahead of all before it, without ``now``.
    """

    now: Callable[[], float] | None = None
    ahead: float = 3600
    jump: float = 7 * 24 * 3600
    _doubted: tuple[str, float] | None = field(default=None, init=False)

    def latest(self, before: int | None, messages: Iterable[tuple[str, int]]) -> int | None:
        """Return when the last message became known.

        Parameters
        ----------
        before : int or None
            The last of those before.
        messages : iterable of (str, int)
            The key and the second of each.

        Raises
        ------
        Refused
            If one is ahead of the clock, or far ahead of all others.
        """
        latest, clock = before, self.now and self.now()
        for key, came in messages:
            if clock is not None and came > clock + self.ahead:
                raise Refused(f"came {(came - clock) / 3600:.1f} hours from now: set its clock")
            if clock is None and latest is not None and came > latest + self.jump:
                doubted, self._doubted = self._doubted, (key, came)
                agreed = doubted is not None and doubted[0] != key
                if not agreed or abs(came - doubted[1]) > self.jump:
                    days = (came - latest) / 86400
                    raise Refused(f"came {days:.1f} days after all before it: set its clock")
            latest = came if latest is None else max(latest, came)
        return latest
