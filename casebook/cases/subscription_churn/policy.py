"""Whom to call: the one decision that the page, the studies and the nightly list share.

Every list is chosen by :func:`choose`, and none calls whom :func:`blocked` spares.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.cases.subscription_churn.features import QUARTER
from casebook.cases.subscription_churn.records import Tables, date
from casebook.evaluate import uplift
from casebook.evaluate.capacity import Terms

#: Days for which nobody is called again: three months, as the team itself has it.
REST = QUARTER
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
