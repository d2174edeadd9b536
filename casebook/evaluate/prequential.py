"""The protocol: weeks that train, wait and test, and the metrics that a week is judged by.

A label arrives late. So a model of the test week may learn only from a training week that ended one
waiting time before, and everything steps back week by week ("prequential"). This is the protocol of
the Fraud Detection Handbook, which also takes cards out of the test that are known to be
compromised by then: they have been cancelled, and finding them again is worth nothing.

Examples
--------
>>> [week.name for week in weeks("2018-07-18", "2018-08-15")]
['2018-08-01', '2018-08-08']

References
----------
Le Borgne, Siblini, Lebichot & Bontempi (2022), *Reproducible Machine Learning for Credit Card Fraud
Detection: Practical Handbook*, Université Libre de Bruxelles, chapters 3 to 5.
https://fraud-detection-handbook.github.io/fraud-detection-handbook/
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.columns import need_columns

DAY = pd.Timedelta(days=1)


# Weeks --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Week:
    """One step of the protocol. Each span holds its first moment and not its last.

    Attributes
    ----------
    name : str
        Day on which the test begins.
    train_from, train_to : Timestamp
        Transactions to learn from.
    known_at : Timestamp
        Labels are those that the bank knows at this moment: when the test begins.
    test_from, test_to : Timestamp
        Transactions to judge by.
    """

    name: str
    train_from: pd.Timestamp
    train_to: pd.Timestamp
    known_at: pd.Timestamp
    test_from: pd.Timestamp
    test_to: pd.Timestamp


def weeks(
    start: pd.Timestamp | str,
    end: pd.Timestamp | str,
    train: float = 7,
    wait: float = 7,
    test: float = 7,
    step: float = 7,
) -> list[Week]:
    """Return as many steps as fit, the last of which tests up to the end.

    Parameters
    ----------
    start, end : Timestamp or str
        The data: the first moment, and the midnight after the last day.
    train, wait, test, step : float
        Days to learn from, until labels are known, to judge by, from one test to the next.

    Returns
    -------
    list of Week
        In time order.

    Raises
    ------
    ValueError
        When a length is out of range, or not one step fits.

    """
    lengths = {"train": train, "test": test, "step": step}
    for name, days in lengths.items():
        if not days > 0:
            raise ValueError(f"{name} is {days} days: more than 0 are due")
    if not wait >= 0:
        raise ValueError(f"wait is {wait} days: 0 or more are due")
    start, end = pd.Timestamp(start), pd.Timestamp(end)
    if start + (train + wait + test) * DAY > end:
        raise ValueError(
            f"{train} + {wait} + {test} days do not fit between {start:%Y-%m-%d} and "
            f"{end:%Y-%m-%d}: shorten them or take more data."
        )
    found = []
    test_to = end
    while (train_from := test_to - (train + wait + test) * DAY) >= start:
        test_from = test_to - test * DAY
        train_to = train_from + train * DAY
        found.append(
            Week(f"{test_from:%Y-%m-%d}", train_from, train_to, test_from, test_from, test_to)
        )
        test_to = test_to - step * DAY
    return found[::-1]


def known_cards_split(frame: pd.DataFrame, week: Week) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows train and which test in a week, without cards that are known by then.

    A fraud is known a waiting time after the end of its day. From a test day those customers are
    taken out whose first fraud since the training began is known by then; later days lose more.
    Frauds before the training are forgotten, as in the Handbook.

    Parameters
    ----------
    frame : DataFrame
        ``time``, ``customer``, ``is_fraud``.
    week : Week
        Its waiting time is a whole number of days.

    Returns
    -------
    train, test : ndarray of bool, shape (n,)

    Raises
    ------
    ValueError
        When a column is missing, the waiting time is not of whole days, or a span has no rows.
    """
    need_columns(frame, ("time", "customer", "is_fraud"), "the frame")
    wait = (week.test_from - week.train_to) / DAY
    if wait != int(wait):
        raise ValueError(f"{week.name} waits {wait} days: labels come day by day here")
    time = frame["time"]
    train = ((time >= week.train_from) & (time < week.train_to)).to_numpy()
    test = ((time >= week.test_from) & (time < week.test_to)).to_numpy()
    for name, rows in (("train", train), ("test", test)):
        if not rows.any():
            raise ValueError(f"no row of the frame is in the {name} span of {week.name}")
    day = np.floor((time - week.train_from) / DAY).to_numpy()
    fraud = (frame["is_fraud"] == 1).to_numpy() & (day >= 0)
    first = pd.Series(day[fraud]).groupby(frame["customer"].to_numpy()[fraud]).min()
    found = frame["customer"].map(first).fillna(np.inf).to_numpy()
    return train, test & (found + wait + 1 > day)
