"""Drift: errors of the shipped model on days that it was not trained on.

:func:`live_errors` replays the nights of the model that ships, each by a model that was trained
before it; :func:`casebook.serving.monitor.daily_errors` scores them.
:class:`casebook.serving.monitor.DriftAlarm` watches the errors and asks for a retraining.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd

from casebook.data.reports import morning
from casebook.forecasting.direct import fit_direct, predict_at
from casebook.forecasting.origins import block_lifts, past_origins, to_table
from casebook.forecasting.walk import HORIZON
from casebook.serving.monitor import daily_errors


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
        yet (:func:`~casebook.forecasting.direct.lightgbm_direct`) does not count.

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
