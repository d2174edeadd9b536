"""Serve day by day, and train again by the calendar, when inputs move, or when errors grow.

Labels of a day are known the next morning. All policies train by one function, on the same number
of days; they differ in when. Limits are learned before the first day of service: of the inputs
(:mod:`casebook.serving.drift`) from the last third of the window, of the errors from a model that
has not seen that third.

Examples
--------
>>> rows = pd.DataFrame({"day": np.repeat(np.arange(90), 20), "x": np.arange(1800) % 7.0})
>>> rows["y"] = rows["x"] + (rows["day"] >= 60) * 5.0  # on day 60 what is to be said moves
>>> class Mean:
...     def __init__(self, part):
...         self.more = (part["y"] - part["x"]).mean()
...     def predict(self, part):
...         return part["x"].to_numpy() + self.more
>>> def far(part, said):
...     return np.abs(said - part["y"].to_numpy())
>>> for policy in ("frozen", "weekly"):
...     made = serve(rows, 30, 30, policy, Mean, ["x"], far)
...     print(policy, made["trained"].sum(), round(made["loss"].mean(), 1))
frozen 0 2.5
weekly 8 1.5
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from casebook.serving import drift

#: Days between two trainings by the calendar; by an alarm a policy rests for so long.
EVERY, REST = {"monthly": 28, "weekly": 7}, 21
POLICIES = ("frozen", *EVERY, "PSI alarm", "error alarm")


def serve(
    rows: pd.DataFrame,
    first: int,
    window: int,
    policy: str,
    train: Callable[[pd.DataFrame], Any],
    columns: Sequence[str],
    loss: Callable[[pd.DataFrame, np.ndarray], np.ndarray],
) -> pd.DataFrame:
    """Let a policy serve from a day on.

    Parameters
    ----------
    rows : DataFrame
        ``day``, the columns and the label.
    first, window : int
        First day of service, days that a training takes.
    policy : str
        One of :data:`POLICIES`.
    train : callable
        Rows to a model with ``predict``.
    columns : sequence of str
    loss : callable
        Rows and predictions to the loss of each row.

    Returns
    -------
    DataFrame
        ``day``, ``n``, ``loss`` and ``said`` (means of the day), ``alarm`` (of the distributions)
        and ``trained``.

    Raises
    ------
    ValueError
        If no policy is called so.
    """
    if policy not in POLICIES:
        raise ValueError(f"no policy is called {policy!r}; there: {', '.join(POLICIES)}")
    cut = first - window // 3
    ref = drift.reference(rows, columns, (first - window, cut), (cut, first))
    loud = drift.DETECTORS["PSI, one limit"](drift.daily(rows[rows["day"] >= first], ref), ref)
    usual = _errors(rows, cut, first, window, train, columns, loss)
    model = train(rows[rows["day"].between(first - window, first - 1)])
    last, out, recent = first, [], []
    for day, own in rows[rows["day"] >= first].groupby("day"):
        since = pd.Series([line[2] for line in recent])
        rested = day - last >= REST
        due = {
            "PSI alarm": bool(loud.loc[last : day - 1].any()) and rested,
            "error alarm": policy == "error alarm"
            and rested
            and bool(len(since))
            and drift.cusum(since, usual.mean(), usual.std()).any(),
        }.get(policy, policy in EVERY and day - last >= EVERY[policy])
        if due:
            model, last, recent = train(rows[rows["day"].between(day - window, day - 1)]), day, []
        said = model.predict(own[list(columns)])
        line = (day, len(own), loss(own, said).mean(), said.mean(), bool(loud.loc[day]), due)
        recent.append(line)
        out.append(line)
    return pd.DataFrame(out, columns=["day", "n", "loss", "said", "alarm", "trained"])


def _errors(rows, cut: int, first: int, window: int, train, columns, loss) -> pd.Series:
    """Return the usual losses by day, of a model that has not seen these days."""
    held = rows[rows["day"].between(cut, first - 1)]
    early = train(rows[rows["day"].between(first - window, cut - 1)])
    return (
        pd.Series(loss(held, early.predict(held[list(columns)])))
        .groupby(held["day"].to_numpy())
        .mean()
    )


def by_block(made: pd.DataFrame, days: int = 28) -> dict[str, float]:
    """Return the mean loss of :func:`serve`, with a t interval over blocks of days.

    Returns
    -------
    dict
        ``loss``, ``low``, ``high``, ``trained`` (times) and ``alarms`` (share of the days).
    """
    from casebook.evaluate.intervals import mean_interval

    block = (made["day"] - made["day"].min()) // days
    by = (made["loss"] * made["n"]).groupby(block).sum() / made["n"].groupby(block).sum()
    low, high = mean_interval(by)[1:]
    mean = float(np.average(made["loss"], weights=made["n"]))
    told = {"trained": int(made["trained"].sum()), "alarms": float(made["alarm"].mean())}
    return {"loss": mean, "low": low, "high": high, **told}
