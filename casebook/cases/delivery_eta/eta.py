"""One function decides the delivery date, on the page, in the studies and in the service.

The model answers where it can; where it cannot, the routes' history does, and where there is none,
the carrier's window. Each answer says whose it is and why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.features import LATE_REPORT, OLDEST_REPORT
from casebook.cases.delivery_eta.ladder import routes as learn_routes
from casebook.cases.delivery_eta.ladder import window
from casebook.cases.delivery_eta.promise import Costs, day_after
from casebook.cases.delivery_eta.quantiles import fit
from casebook.evaluate.conformal import Adaptive
from casebook.evaluate.ranges import NAMES, follower, sane, usable
from casebook.forecasting.back_off import History
from casebook.forecasting.quantile_trees import Quantiles
from casebook.serving.breaker import Breaker, guarded

#: A forecast beyond this is nonsense: the service does not promise it.
LONGEST_HOURS = 24.0 * 45
#: Changes of P50 that are worth a word, in hours; a queue that explains them.
MOVED, QUEUED = 2.0, 6.0


@dataclass(frozen=True)
class Models:
    """What the service answers with; any part may be missing.

    ``promises`` has the one quantile that costs least to promise, ``zones`` those that the training
    saw, ``scores`` those of the calibration weeks in order of time: there the correction starts.
    """

    model: Quantiles | None = None
    promises: Quantiles | None = None
    routes: History | None = None
    zones: frozenset[str] = frozenset()
    scores: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def follower(self) -> Adaptive:
        """Return a correction that has learned the calibration weeks and nothing since."""
        return Adaptive(self.scores)


def train(ripe_rows: pd.DataFrame, calibration: pd.DataFrame, **settings: object) -> Models:
    """Fit all that the service needs to ripe moments; ``settings`` replace those of LightGBM."""
    model = fit(ripe_rows, **settings)
    promises = fit(ripe_rows, levels=(Costs().quantile,), **settings)
    zones = frozenset(ripe_rows["origin"]) | frozenset(ripe_rows["destination"])
    recent = np.array(follower(model, calibration).recent)
    return Models(model, promises, learn_routes(ripe_rows), zones, recent)


def decide(rows: pd.DataFrame, models: Models, breaker: Breaker | None = None) -> pd.DataFrame:
    """Return the forecast of moments, and whose it is.

    Parameters
    ----------
    rows : DataFrame
        Prepared moments.
    models : Models
    breaker : Breaker, optional
        Asks the model, and not at all while it fails.

    Returns
    -------
    DataFrame
        ``p10``, ``p50``, ``p90`` (hours; without a correction), ``source`` (model, routes,
        window) and ``why``: "", or what kept the model from answering, or what it had to do
        without ("new route", "late load report").
    """
    age = pd.to_timedelta(rows["load_age"], unit="h")
    current = (age <= OLDEST_REPORT).to_numpy()
    seen = rows["origin"].isin(models.zones) & rows["destination"].isin(models.zones)
    why = np.where(seen, "", "new route").astype(object)
    why[(age > LATE_REPORT).to_numpy()] = "late load report"
    why[~current] = "no load report"
    source = np.where(current, "model", "routes").astype(object)
    values = np.full((len(rows), len(NAMES)), np.nan)
    if current.any():
        made, failed = _asked(rows[current], models, breaker)
        if failed:
            source[current], why[current] = "routes", failed
        else:
            values[current] = made
            wrong = np.flatnonzero(current)[~sane(made, LONGEST_HOURS)]  # spoils no other row
            source[wrong], why[wrong] = "routes", "model: nonsense"
    rest = source == "routes"
    values[rest] = np.nan
    if rest.any() and models.routes is not None:
        values[rest] = models.routes.predict(rows[rest])
    unknown = np.isnan(values).any(axis=1)
    if unknown.any():
        source[unknown] = "window"
        values[unknown] = window(rows[unknown])
    return pd.DataFrame(values, rows.index, NAMES).assign(source=source, why=why)


def _asked(
    rows: pd.DataFrame, models: Models, breaker: Breaker | None
) -> tuple[np.ndarray | None, str]:
    """Return the model's forecast, or why there is none."""
    if models.model is None:
        return None, "no model"
    accept = partial(usable, most=LONGEST_HOURS)
    answer = guarded(breaker, lambda x: models.model.predict(x).to_numpy(), rows, accept)
    return answer.value, f"model: {answer.why}" if answer.why else ""


def promise_day(
    rows: pd.DataFrame, made: pd.DataFrame, models: Models, breaker: Breaker | None = None
) -> np.ndarray:
    """Return the day that is promised at each moment, in days since the start of the world.

    It is the day of the quantile that costs least where the model decided (``made``, of
    :func:`decide`), else that of P90; also where the promises' model fails.
    """
    hours = made["p90"].to_numpy(float).copy()
    own = (made["source"] == "model").to_numpy()
    if own.any() and models.promises is not None:
        answer = guarded(breaker, lambda x: models.promises.raw(x)[:, 0], rows[own], np.asarray)
        if not answer.why:
            asked = np.clip(answer.value, 0, LONGEST_HOURS)
            hours[own] = np.where(np.isfinite(answer.value), asked, hours[own])
    return day_after(rows, hours)


# Why it changed ----------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """A forecast as it was given: its P50 in seconds since 1970, and the hours of queue ahead."""

    due: float
    load: float


def queue_ahead(step: int, origin_load: float, destination_load: float) -> float:
    """Return the hours of queue that a parcel has before it, as the hubs report them."""
    parts = [origin_load if step < 2 else 0.0, destination_load if step < 4 else 0.0]
    return float(np.nan_to_num(parts).sum())


def reason(stage: str, before: Said | None, now: Said) -> str:
    """Return in words why a forecast differs from the one before, at the scan of a stage.

    Examples
    --------
    >>> reason("departed", Said(1.76e9, 2.0), Said(1.76e9 + 24 * 3600, 30.0))
    'later by 24 hours: 30 hours of queue ahead'
    """
    if before is None:
        return "first forecast"
    if stage == "attempted":
        return "delivery failed: the next van takes it again"
    moved = (now.due - before.due) / 3600
    if abs(moved) < MOVED:
        return "as expected"
    text = f"{'later' if moved > 0 else 'earlier'} by {abs(moved):.0f} hours"
    if moved > 0 and now.load - before.load > QUEUED:
        return f"{text}: {now.load:.0f} hours of queue ahead"
    if moved < 0 and before.load - now.load > QUEUED:
        return f"{text}: the queue is shorter"
    return f"{text}: {stage.replace('_', ' ')} {'later' if moved > 0 else 'earlier'} than planned"
