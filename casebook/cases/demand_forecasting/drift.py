"""Drift: errors of the shipped model on days that it was not trained on.

:func:`daily_errors` scores what the nights had forecast, and :func:`live_errors` replays the nights
of the model that ships, each by a model that was trained before it.
:class:`casebook.serving.monitor.DriftAlarm` watches the errors and asks for a retraining.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.demand_forecasting.contract import KEYS, morning
from casebook.cases.demand_forecasting.direct import fit_direct, predict_at
from casebook.cases.demand_forecasting.features import HORIZON, block_lifts, past_origins, to_table


def daily_errors(
    forecasts: pd.DataFrame,
    panel: pd.DataFrame,
    routes: pd.DataFrame,
    calendar: pd.DataFrame,
    leads: int = 7,
) -> pd.DataFrame:
    """Score, day by day, what earlier nights had forecast for each country.

    Parameters
    ----------
    forecasts : DataFrame
        ``origin`` (morning of the run), ``unique_id``, ``ds``, ``y_hat`` of many runs.
    panel : DataFrame
        ``unique_id``, ``ds``, ``y``: what came.
    routes : DataFrame
        ``unique_id``, ``country``.
    calendar : DataFrame
        ``country``, ``ds`` of public holidays. They are left out: a tenth of the parcels makes
        any error large.
    leads : int
        Forecasts of 1 to so many days ahead are pooled. The first week holds less of the
        shocks that nobody can foresee than all 28 days, so that a break stands out sooner.

    Returns
    -------
    DataFrame
        Index ``ds`` (days), one column for each country: WAPE of the country's total over the
        runs that had forecast the day; infinite where parcels were forecast and none came
        (the alarm caps it); NaN on holidays and where no run had.

    Raises
    ------
    ValueError
        If there is no day with both a forecast and its parcels.
    """
    lead = (forecasts["ds"] - forecasts["origin"]).dt.days + 1
    both = forecasts[lead.between(1, leads)].merge(panel[[*KEYS, "y"]], on=KEYS)
    if both.empty:
        raise ValueError(
            f"no parcels are known yet for forecasts of 1 to {leads} days ahead: wait for them"
        )
    both["country"] = both["unique_id"].map(routes.set_index("unique_id")["country"])
    totals = both.groupby(["country", "origin", "ds"])[["y", "y_hat"]].sum()
    totals["error"] = (totals["y"] - totals["y_hat"]).abs()
    sums = totals.groupby(level=["ds", "country"])[["error", "y"]].sum()
    error = sums["error"] / sums["y"].where(sums["y"] > 0)
    none_came = (sums["y"] == 0) & (sums["error"] > 0)
    wape = error.mask(none_came, np.inf).unstack("country").asfreq("D")
    closed = pd.crosstab(calendar["ds"], calendar["country"])
    return wape.mask(closed.reindex(index=wape.index, columns=wape.columns, fill_value=0) > 0)


def live_errors(
    panel: pd.DataFrame,
    calendar: pd.DataFrame,
    trainings: Sequence[pd.Timestamp],
    last: pd.Timestamp,
    leads: int = 7,
    parameters: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    """Replay the shipped model night by night: errors of days that its training has not seen.

    Parameters
    ----------
    panel : DataFrame
        Routes (``country/depot/route``): ``unique_id``, ``ds``, ``y`` and the known features.
    calendar : DataFrame
        ``country``, ``ds`` of public holidays; they are left out.
    trainings : sequence of Timestamp
        Mornings; a model sees the days before its own. Each night asks the newest one.
    last : Timestamp
        Last day that is scored.
    leads : int
        Days ahead, as for :func:`daily_errors`.
    parameters : mapping, optional
        Of LightGBM.

    Returns
    -------
    DataFrame
        As of :func:`daily_errors`: from the first training to ``last``. A route without a level
        yet (:func:`~.direct.lightgbm_direct`) does not count.

    Raises
    ------
    ValueError
        Without a training, if ``last`` is before the first or not in the panel, or if a night is
        asked for more days ahead than the model forecasts.
    """
    trainings, last = sorted(morning(day) for day in trainings), morning(last)
    if not trainings or not trainings[0] <= last <= panel["ds"].max():
        raise ValueError(
            f"the last day {last:%Y-%m-%d} must lie between the first training and the end of the "
            f"panel, {panel['ds'].max():%Y-%m-%d}: give trainings before it"
        )
    if not 1 <= leads <= HORIZON:
        raise ValueError(f"{leads} days ahead: the model forecasts 1 to {HORIZON}")
    seen = panel[panel["ds"] <= last]
    table = to_table(seen, seen.head(0))
    block = cache(lambda origin: block_lifts(table, origin))
    models = [fit_direct(seen[seen["ds"] < day], parameters=parameters) for day in trainings]
    runs = []
    for start in range(table.days.get_loc(trainings[0]), len(table.days)):
        origin = table.days[start]
        model = models[np.searchsorted(trainings, origin, side="right") - 1]
        lifts = sum(block(before) for before in past_origins(start))
        values = predict_at(model, table, start, lifts, leads)
        made = pd.DataFrame(values, table.days[start : start + leads], table.ids)
        made = made.rename_axis(index="ds", columns="unique_id").stack().rename("y_hat")
        runs.append(made.reset_index().assign(origin=origin))
    names = pd.DataFrame({"unique_id": table.ids})
    names["country"] = names["unique_id"].str.split("/").str[0]
    return daily_errors(pd.concat(runs), seen, names, calendar, leads)
