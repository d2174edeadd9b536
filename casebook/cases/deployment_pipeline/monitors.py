"""Three layers of monitoring, and what an alarm should lead to.

*Requests*: what arrives is complete, within bounds and new (``missing``, ``level``, ``repeats``).
*ML health*: each day the distribution of each feature and of the score is compared with a reference
(:mod:`casebook.serving.drift`), and each week the reports of fraud with what the model had said.
*Business*: what the decisions ask of customers and cost (both in
:mod:`~casebook.cases.deployment_pipeline.reports`).

Distributions say that something moved, not whether the model is wrong: prices rise, a season
comes, and the model still knows. What fraud looks like can change while no distribution moves. So
:data:`ADVICE` retrains on evidence of labels alone, after an audit of a few reports, and repairs
what the requests show. "Wait" is no "never": what moved for good is learned by the next scheduled
training, which the study of retraining prices; it is no emergency.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline.chances import CONTINUOUS, FEATURES
from casebook.cases.deployment_pipeline.reports import refuted
from casebook.cases.deployment_pipeline.world import Year
from casebook.serving import drift
from casebook.serving.drift import DETECTORS, Reference, daily, ratio

__all__ = ["ADVICE", "DETECTORS", "Reference", "advice", "alarms", "daily", "reference"]

#: Days of the reference, and quiet days after it from which limits are learned.
FIT, QUIET = (-126, -56), (-56, 0)
#: A column of a day is broken: share of missing values; factor of the median; share of its positive
#: values that stood there the day before.
MISSING, FACTOR, REPEATS = 0.02, 8.0, 0.2
#: Level of a weekly test of reports; share refuted in an audit that stops a training.
WEEKLY, REFUTED = 0.001, 0.3
ADVICE = {
    **dict.fromkeys(("missing", "level", "repeats", "refuted"), "repair the feed"),
    "asked": "roll back",
    **dict.fromkeys(("capture", "rate"), "retrain"),
    **dict.fromkeys(("distribution", "score"), "wait"),
}
#: Of several alarms of an incident the first of these decides.
ORDER = ("repair the feed", "roll back", "retrain", "wait")


def with_score(rows: pd.DataFrame, probability: np.ndarray | None) -> pd.DataFrame:
    """Return rows with the log odds of a score as a column."""
    if probability is None:
        return rows
    p = np.clip(np.asarray(probability, float), 1e-6, 1 - 1e-6)
    return rows.assign(score=np.log(p / (1 - p)))


def reference(
    rows: pd.DataFrame,
    columns: Sequence[str] = FEATURES,
    fit: tuple[int, int] = FIT,
    quiet: tuple[int, int] = QUIET,
) -> Reference:
    """Learn a reference of payments, as :func:`casebook.serving.drift.reference` does."""
    return drift.reference(rows, columns, fit, quiet, continuous=CONTINUOUS)


# Alarms and advice --------------------------------------------------------------------


def alarms(
    days: pd.DataFrame, ref: Reference, weeks: pd.DataFrame | None = None, year: Year | None = None
) -> pd.DataFrame:
    """Return all alarms of the layers.

    Parameters
    ----------
    days : DataFrame
        Of :func:`daily`.
    ref : Reference
    weeks : DataFrame, optional
        Of :func:`weekly`; with ``year`` each of its alarms is audited.
    year : Year, optional

    Returns
    -------
    DataFrame
        ``day``, ``what`` (a key of :data:`ADVICE`) and ``column``.
    """
    far = ratio(days, ref, "psi") > ref.limits["psi"]
    seen = {
        "missing": days["missing"] > MISSING,
        "level": days["level"].abs() > np.log(FACTOR),
        "repeats": days["repeats"] > REPEATS,
        "distribution": far & (days["column"] != "score"),
        "score": far & (days["column"] == "score"),
    }
    parts = [days.loc[hit, ["day", "column"]].assign(what=what) for what, hit in seen.items()]
    if weeks is not None:
        for what in ("capture", "rate"):
            found = weeks.loc[weeks[f"p_{what}"] < WEEKLY, ["day"]]
            wrong = [year is not None and refuted(year, day) > REFUTED for day in found["day"]]
            parts.append(found.assign(column="labels", what=np.where(wrong, "refuted", what)))
    return pd.concat(parts, ignore_index=True).sort_values("day", ignore_index=True)


def advice(alarm: str | pd.DataFrame) -> str:
    """Return what to do about an alarm, or about all alarms of an incident.

    Parameters
    ----------
    alarm : str or DataFrame
        A key of :data:`ADVICE`, or alarms with ``what``.

    Returns
    -------
    str
        ``"retrain"``, ``"repair the feed"``, ``"roll back"`` or ``"wait"``; ``"nothing"`` without
        an alarm.

    Raises
    ------
    KeyError
        If no alarm is called so.
    """
    names = [alarm] if isinstance(alarm, str) else list(alarm["what"])
    if wrong := [name for name in names if name not in ADVICE]:
        raise KeyError(f"no alarm is called {wrong[0]!r}; there: {', '.join(ADVICE)}")
    wanted = {ADVICE[name] for name in names}
    return next((one for one in ORDER if one in wanted), "nothing")
