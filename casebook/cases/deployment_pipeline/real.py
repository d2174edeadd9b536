"""The same monitors and policies on public data: bike hires and electricity prices.

Hires grow from 2011 to 2012 and follow the season; the price of electricity changes all the time,
and "as half an hour ago" is hard to beat, so that models meet rules that know as much as they do:
labels at once, or the next day. Trainings take labels of the day before. Neither set says what
truly changed: that alarms are right cannot be judged here, only what retraining on them earns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline.retraining import PARAMS
from casebook.data import real
from casebook.data.tables import bike_hours, elec2
from casebook.recorded.real import from_real
from casebook.serving.retrain import POLICIES, by_block, serve

BIKE = ("hour", "weekday", "workingday", "holiday", "weather", "temperature", "humidity", "wind")
ELEC = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
ROUNDS = 100


def fit(rows: pd.DataFrame, columns: Sequence[str], label: str, objective: str) -> Any:
    """Train LightGBM on rows; the settings are those of the fraud model, fixed beforehand."""
    import lightgbm

    data = lightgbm.Dataset(rows[list(columns)], label=rows[label])
    return lightgbm.train({**PARAMS, "objective": objective}, data, num_boost_round=ROUNDS)


def _far(part: pd.DataFrame, said: np.ndarray) -> np.ndarray:
    return np.abs(said - part["hires"].to_numpy())


def _wrong(part: pd.DataFrame, said: np.ndarray) -> np.ndarray:
    return ((said > 0.5) != part["up"].to_numpy()) * 1.0


def _rule(later: pd.DataFrame, error: np.ndarray) -> dict[str, float]:
    """Return the result of a rule without a model, as :func:`by_block` of a policy's."""
    by_day = later.assign(error=error).groupby("day")["error"].agg(loss="mean", n="size")
    return by_block(by_day.reset_index().assign(alarm=False, trained=False))


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
    later = rows[rows["day"] >= first]
    keyed = rows.set_index(["day", "hour"])["hires"]
    keys = pd.MultiIndex.from_arrays([later["day"] - 7, later["hour"]])
    lag = keyed.reindex(keys).fillna(rows.loc[rows["day"] < first, "hires"].mean()).to_numpy()
    bias = float((lag - later["hires"]).mean())
    out = [{"policy": "same hour last week", **_rule(later, _far(later, lag)), "bias": bias}]
    train = partial(fit, columns=BIKE, label="hires", objective="regression")
    for policy in policies:
        made = serve(rows, first, 365, policy, train, BIKE, _far)
        total = np.average(made["said"], weights=made["n"]) - later["hires"].mean()
        out.append({"policy": policy, **by_block(made), "bias": float(total)})
    return from_real(pd.DataFrame(out), "bike_hours")


def real_elec(policies: Sequence[str] = POLICIES, window: int = 90) -> pd.DataFrame:
    """Serve the days after the first ``window`` of the electricity market.

    Returns
    -------
    DataFrame
        As of :func:`real_bike`, with ``loss`` the share of wrong half hours, and ``labels``: known
        "at once" (``no change`` says what the last half hour was, and the models have it as an
        input) or the "next day" (``same as yesterday``, and no such input).
    """
    rows = elec2(real("elec2"))
    rows = rows.assign(before=rows["up"].shift(1).eq(True) * 1.0)
    later, out = rows[rows["day"] >= window], []
    for labels, rule, back in (("at once", "no change", 1), ("next day", "same as yesterday", 48)):
        wrong = (rows["up"].shift(back) != rows["up"])[later.index] * 1.0
        out.append({"labels": labels, "policy": rule, **_rule(later, wrong), "bias": 0.0})
        inputs = (*ELEC, "before") if labels == "at once" else ELEC
        train = partial(fit, columns=inputs, label="up", objective="binary")
        for policy in policies:
            made = serve(rows, window, window, policy, train, inputs, _wrong)
            total = np.average(made["said"], weights=made["n"]) - later["up"].mean()
            told = {"labels": labels, "policy": policy, **by_block(made)}
            out.append({**told, "bias": float(total)})
    return from_real(pd.DataFrame(out), "elec2")
