"""The same monitors and policies on public data: bike hires and electricity prices.

Hires grow from 2011 to 2012 and follow the season; the price of electricity changes all the time,
and "as half an hour ago" is hard to beat. Labels are known the next day. Neither set says
what truly changed: that alarms are right cannot be judged here, only what retraining on them earns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline.retraining import PARAMS, REST
from casebook.data import real
from casebook.data.tables import bike_hours, elec2
from casebook.recorded.real import from_real
from casebook.serving import drift

BIKE = ("hour", "weekday", "workingday", "holiday", "weather", "temperature", "humidity", "wind")
ELEC = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
POLICIES = ("frozen", "monthly", "weekly", "PSI alarm", "error alarm")
ROUNDS = 100


def fit(rows: pd.DataFrame, columns: Sequence[str], label: str, objective: str) -> Any:
    """Train LightGBM on rows; the settings are those of the fraud model, fixed beforehand."""
    import lightgbm

    data = lightgbm.Dataset(rows[list(columns)], label=rows[label])
    return lightgbm.train({**PARAMS, "objective": objective}, data, num_boost_round=ROUNDS)


def serve(
    rows: pd.DataFrame,
    first: int,
    window: int,
    policy: str,
    train: Callable[[pd.DataFrame], Any],
    columns: Sequence[str],
    loss: Callable[[pd.DataFrame, np.ndarray], np.ndarray],
) -> pd.DataFrame:
    """Let a policy serve day by day from ``first`` on; labels of a day are known the next morning.

    Parameters
    ----------
    rows : DataFrame
        ``day``, the columns and the label.
    first, window : int
        First day of service, days that a training takes.
    policy : str
        One of :data:`POLICIES`.
    train : callable
        Rows to a booster.
    columns : sequence of str
    loss : callable
        Rows and predictions to the loss of each row.

    Returns
    -------
    DataFrame
        ``day``, ``n``, ``loss`` and ``said`` (means of the day), ``alarm`` (of the distributions)
        and ``trained``.
    """
    if policy not in POLICIES:
        raise ValueError(f"no policy is called {policy!r}; there: {', '.join(POLICIES)}")
    cut = first - window // 3
    ref = drift.reference(rows, columns, (first - window, cut), (cut, first))
    seen = drift.daily(rows[rows["day"] >= first], ref)
    loud = drift.DETECTORS["PSI, quiet days"](seen, ref)
    past = rows["day"].between(first - window, first - 1)
    held = rows["day"].between(cut, first - 1)
    early = train(rows[past & ~held])
    errors = loss(rows[held], early.predict(rows.loc[held, list(columns)]))
    usual = pd.Series(errors).groupby(rows.loc[held, "day"].to_numpy()).mean()
    model, last, out, recent = train(rows[past]), first, [], []
    for day, own in rows[rows["day"] >= first].groupby("day"):
        since = pd.Series([line[2] for line in recent])
        sick = bool(len(since)) and drift.cusum(since, usual.mean(), usual.std()).any()
        due = {
            "monthly": day - last >= 28,
            "weekly": day - last >= 7,
            "PSI alarm": bool(loud.loc[last : day - 1].any()) and day - last >= REST,
            "error alarm": sick and day - last >= REST,
        }.get(policy, False)
        if due:
            model, last, recent = train(rows[rows["day"].between(day - window, day - 1)]), day, []
        said = model.predict(own[list(columns)])
        line = (day, len(own), loss(own, said).mean(), said.mean(), bool(loud.loc[day]), due)
        recent.append(line)
        out.append(line)
    return pd.DataFrame(out, columns=["day", "n", "loss", "said", "alarm", "trained"])


def _row(policy: str, made: pd.DataFrame, others: dict[str, float]) -> dict:
    """Return a policy's results over all days, with a t interval over blocks of four weeks."""
    from casebook.evaluate.intervals import mean_interval

    block = (made["day"] - made["day"].min()) // 28
    by = (made["loss"] * made["n"]).groupby(block).sum() / made["n"].groupby(block).sum()
    mean = float(np.average(made["loss"], weights=made["n"]))
    low, high = mean_interval(by)[1:]
    line = {"policy": policy, "loss": mean, "low": low, "high": high, **others}
    return line | {"trained": int(made["trained"].sum()), "alarms": float(made["alarm"].mean())}


def real_bike(policies: Sequence[str] = POLICIES) -> pd.DataFrame:
    """Serve 2012 with what was learned from 2011.

    Returns
    -------
    DataFrame
        ``policy``, ``loss`` (mean absolute error, hires an hour), ``low``, ``high`` (t interval
        over blocks of four weeks), ``bias`` (forecast minus hires), ``trained`` (times), ``alarms``
        (share of days on which a distribution alarms). ``same hour last week`` is the rule.
    """
    rows = bike_hours(real("bike_hours"))
    first = int(rows.loc[rows["date"] == "2012-01-01", "day"].iloc[0])
    out, later = [], rows[rows["day"] >= first]
    keyed = rows.set_index(["day", "hour"])["hires"]
    keys = pd.MultiIndex.from_arrays([later["day"] - 7, later["hour"]])
    lag = keyed.reindex(keys).fillna(rows.loc[rows["day"] < first, "hires"].mean()).to_numpy()
    naive = later.assign(error=np.abs(lag - later["hires"])).groupby("day")["error"]
    table = naive.agg(loss="mean", n="size").reset_index().assign(alarm=False, trained=False)
    bias = {"bias": float((lag - later["hires"]).mean())}
    out.append(_row("same hour last week", table, bias))
    for policy in policies:
        made = serve(
            rows,
            first,
            365,
            policy,
            lambda part: fit(part, BIKE, "hires", "regression"),
            BIKE,
            lambda part, said: np.abs(said - part["hires"].to_numpy()),
        )
        total = np.average(made["said"], weights=made["n"]) - later["hires"].mean()
        out.append(_row(policy, made, {"bias": float(total)}))
    return from_real(pd.DataFrame(out), "bike_hours")


def real_elec(policies: Sequence[str] = POLICIES, window: int = 90) -> pd.DataFrame:
    """Serve the days after the first ``window`` of the electricity market.

    Returns
    -------
    DataFrame
        As of :func:`real_bike`, with ``loss`` the share of wrong half hours; ``no change`` says
        what the last half hour was.
    """
    rows = elec2(real("elec2"))
    later = rows[rows["day"] >= window]
    wrong = (rows["up"].shift(1) != rows["up"])[later.index]
    naive = later.assign(error=wrong * 1.0).groupby("day")["error"]
    table = naive.agg(loss="mean", n="size").reset_index().assign(alarm=False, trained=False)
    out = [_row("no change", table, {"bias": 0.0})]
    for policy in policies:
        made = serve(
            rows,
            window,
            window,
            policy,
            lambda part: fit(part, ELEC, "up", "binary"),
            ELEC,
            lambda part, said: ((said > 0.5) != part["up"].to_numpy()) * 1.0,
        )
        total = np.average(made["said"], weights=made["n"]) - later["up"].mean()
        out.append(_row(policy, made, {"bias": float(total)}))
    return from_real(pd.DataFrame(out), "elec2")
