"""Whom to call: the one decision that the page, the studies and the nightly list share.

Every list is chosen by :func:`choose`, and none calls whom :func:`blocked` spares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.cases.subscription_churn.features import QUARTER
from casebook.cases.subscription_churn.records import Tables, date
from casebook.evaluate import uplift

#: Days for which nobody is called again: three months, as the team itself has it.
REST = QUARTER


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


TERMS = Terms()


def gain(effect: ArrayLike, value: ArrayLike, cost: float = TERMS.cost) -> np.ndarray:
    """Return the euro that a call is expected to bring: effect times value, less its cost."""
    return np.asarray(effect, float) * np.asarray(value, float) - cost


def blocked(tables: Tables, rows: np.ndarray, night: int) -> np.ndarray:
    """Return who must not be called: who was called, or complained, within three months.

    Parameters
    ----------
    tables : Tables
        May reach beyond the night.
    rows : ndarray of int
    night : int
    """
    calls, end = tables.calls, date(night)
    lately = calls["at"].between(end - pd.Timedelta(days=REST), end, inclusive="left")
    return np.isin(rows, calls.loc[lately & (calls["called"] | calls["complains"]), "row"])


def choose(
    gains: ArrayLike,
    capacity: int = TERMS.capacity,
    blocked: ArrayLike | None = None,
    least: float = 0.0,
) -> np.ndarray:
    """Return the positions of those to be called: :func:`casebook.evaluate.uplift.choose`."""
    return uplift.choose(gains, capacity, blocked, least)
