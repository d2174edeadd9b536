"""What a list was worth, four weeks later: precision, drift of the risk, drift of the effect.

The hold-out makes both readable. Of those who would have been on the list and were left in peace,
the share that cancels is the risk as it is; less the share among the called, it is the effect as
it is. A drift of the risk (a competitor, a price) shows in the first number, a drift of the effect
(new agents, a worn-out script) in the second alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.cases.subscription_churn.features import cancels
from casebook.cases.subscription_churn.population import MONTH
from casebook.cases.subscription_churn.records import Tables
from casebook.evaluate.assign import BUCKETS, buckets
from casebook.evaluate.intervals import Interval, wilson

#: Standard errors from which a month's number counts as a drift.
ALARM = 3.0


def held_out(rows: np.ndarray, month: int, share: float) -> np.ndarray:
    """Return who is left in peace in a month, by a hash: the same on every night and machine.

    Raises
    ------
    ValueError
        If the share is not within 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of {share} cannot be held out: give one from 0 to 1.")
    return buckets(map(str, rows.tolist()), f"hold-out {month}") < share * BUCKETS


@dataclass(frozen=True)
class Listed:
    """One month's list, with those who would have been on it and were held out.

    Attributes
    ----------
    night : int
    held : ndarray of bool, shape (n,)
    risk, effect : ndarray, shape (n,)
        As predicted on the night.
    """

    night: int
    held: np.ndarray
    risk: np.ndarray
    effect: np.ndarray


@dataclass(frozen=True)
class Reading:
    """What a month's list says once its outcome is known.

    Attributes
    ----------
    night : int
    precision : Interval
        Share of the held-out that cancelled: what the list would have lost.
    called : Interval
        Share of the called that cancelled.
    risk_z, effect_z : float
        Standard errors between what came and what was predicted.
    """

    night: int
    precision: Interval
    called: Interval
    risk_z: float
    effect_z: float

    @property
    def effect(self) -> float:
        """Cancellations prevented, per called subscriber."""
        return self.precision.mean - self.called.mean


def read(listed: Listed, cancelled: ArrayLike, today: int) -> Reading:
    """Read a list whose month is over.

    Parameters
    ----------
    listed : Listed
    cancelled : array_like of bool, shape (n,)
    today : int

    Raises
    ------
    ValueError
        Before the month is over, or without a hold-out.
    """
    if today < listed.night + MONTH:
        raise ValueError(
            f"the list of day {listed.night} is known on day {listed.night + MONTH}, not on day "
            f"{today}: who will cancel yet would count as saved."
        )
    y, held = np.asarray(cancelled, bool), listed.held
    if held.sum() < 2 or (~held).sum() < 2:
        raise ValueError(f"{held.sum()} held out of {len(held)}: nothing to compare with.")
    stay, called = y[held].mean(), y[~held].mean()
    own = listed.risk[held].mean()
    se_risk = np.sqrt(max(own * (1 - own), 1e-9) / held.sum())
    expected = called + listed.effect[~held].mean()
    se = np.sqrt((stay * (1 - stay) + 1e-9) / held.sum() + called * (1 - called) / (~held).sum())
    return Reading(
        listed.night,
        wilson(y[held]),
        wilson(y[~held]),
        float((stay - own) / se_risk),
        float((stay - expected) / se),
    )


def of_month(lists: list, tables: Tables, today: int) -> Reading:
    """Read the lists of one month together, once the last one's 28 days are over.

    Who stands on several lists counts once, from the first. They are compared as drawn, whether or
    not an agent came to call them.

    Parameters
    ----------
    lists : list of nightly.List
        Made by the model, of one month.
    tables : Tables
    today : int

    Raises
    ------
    ValueError
        If a list is too young, they are of several months, or there is none.
    """
    if len({made.night // MONTH for made in lists}) != 1:
        raise ValueError("give the lists of one month: the hold-out changes with the month.")
    parts, seen = [], set()
    for made in sorted(lists, key=lambda made: made.night):
        rows = np.array([*made.rows, *made.held], int)
        new = ~np.isin(rows, [*seen])
        seen |= {*rows.tolist()}
        held = np.arange(len(rows)) >= len(made.rows)
        y = cancels(tables, rows, made.night, today)
        columns = (held, np.array(made.risks), np.array(made.effects), y)
        parts.append([column[new] for column in columns])
    held, risk, effect, y = (np.concatenate(column) for column in zip(*parts, strict=True))
    return read(Listed(max(made.night for made in lists), held, risk, effect), y, today)


def verdict(readings: list[Reading], months: int = 3) -> str:
    """Return what has drifted, of the last months together: ``risk``, ``effect``, both, nothing.

    Each month's distances are added up and divided by the root of their number, so that a small
    hold-out speaks after some months.
    """
    last = readings[-months:]
    if not last:
        return "nothing"
    total = {
        name: sum(getattr(reading, name) for reading in last) / np.sqrt(len(last))
        for name in ("risk_z", "effect_z")
    }
    found = [
        name for name, z in zip(("risk", "effect"), total.values(), strict=True) if abs(z) > ALARM
    ]
    return " and ".join(found) or "nothing"


def table(readings: list[Reading]) -> pd.DataFrame:
    """Return the readings as the team's page shows them, in per cent."""
    rows = [
        {
            "night": reading.night,
            "would cancel": 100 * reading.precision.mean,
            "low": 100 * reading.precision.low,
            "high": 100 * reading.precision.high,
            "called cancel": 100 * reading.called.mean,
            "prevented": 100 * reading.effect,
            "risk z": reading.risk_z,
            "effect z": reading.effect_z,
        }
        for reading in readings
    ]
    return pd.DataFrame(rows)
