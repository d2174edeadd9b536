"""What a team of people can do, and what each action costs.

Examples
--------
Two people call ten customers a day, ten days a month; an hour costs 40 euro:

>>> team = Terms(people=2, calls_a_day=10, days=10)
>>> team.capacity, team.cost
(200, 32.0)
>>> team.break_even(3_200, saved=0.5)
0.02
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Terms:
    """What binds and what costs.

    Attributes
    ----------
    people, calls_a_day, days : int
        Of the team; working days of a month (four weeks).
    hourly : float
        Euro for an hour of a person. A call takes its share of a day of eight hours, with
        preparation and notes, and not the ten minutes on the phone.
    """

    people: int = 20
    calls_a_day: int = 10
    days: int = 20
    hourly: float = 40.0

    def __post_init__(self) -> None:
        sound = self.people >= 0 and self.calls_a_day >= 1 and self.days >= 1
        if not (sound and 0 <= self.hourly < np.inf):
            raise ValueError(f"{self}: a team cannot have these terms.")

    @property
    def daily(self) -> int:
        """Calls a day."""
        return self.people * self.calls_a_day

    @property
    def capacity(self) -> int:
        """Calls a month."""
        return self.daily * self.days

    @property
    def cost(self) -> float:
        """Euro for a call."""
        return 8 * self.hourly / self.calls_a_day

    def break_even(self, value: float, saved: float = 1.0) -> float:
        """Return the risk above which a call pays that saves a share of those who would cancel."""
        return self.cost / (value * saved)
