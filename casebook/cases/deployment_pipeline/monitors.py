"""Three layers of monitoring, and what an alarm should lead to.

*Requests*: what arrives is complete, within bounds and new (``missing``: values, or all payments of
a day; ``dead``: a column with one value only; ``level``, ``repeats``).
*ML health*: each day the distribution of each feature and of the score is compared with a reference
(:mod:`casebook.serving.drift`), and each week the reports of fraud with what the model had said
(:mod:`~casebook.cases.deployment_pipeline.reports`). *Business*: whether the feed of reports lives
(``silent``) and holds in an audit (``refuted``); fewer reports than the scores expect say that
reports are lost before they say that fraud has fallen.

Distributions say that something moved, not whether the model is wrong: prices rise, a season
comes, and the model still knows. What fraud looks like can change while no distribution moves. So
:data:`ADVICE` retrains on evidence of labels alone, after an audit of a few reports, and repairs
what the requests show. "Wait" is no "never": what moved for good is learned by the next scheduled
training, which the study of retraining prices; it is no emergency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline.chances import CONTINUOUS, FEATURES
from casebook.cases.deployment_pipeline.reports import refuted
from casebook.cases.deployment_pipeline.world import Year
from casebook.serving import drift
from casebook.serving.drift import DETECTORS, Reference, daily

__all__ = ["ADVICE", "DETECTORS", "Reference", "advice", "alarms", "daily", "reference"]

#: Days of the reference, and quiet days after it from which limits are learned.
FIT, QUIET = (-126, -56), (-56, 0)
#: A column of a day is broken: share of missing values; factor of the median; share of its positive
#: values that stood there the day before.
MISSING, FACTOR, REPEATS = 0.02, 8.0, 0.2
#: Share of values beside zero from which a day of zeros alone is no chance, whatever the day's mix.
VARIED = 0.05
#: Level of a weekly test of reports, and of a doubt; share refuted that stops a training.
WEEKLY, DOUBT, REFUTED = 0.001, 0.05, 0.3
ADVICE = {
    **dict.fromkeys(("missing", "dead", "level", "repeats"), "repair the feed"),
    **dict.fromkeys(("silent", "refuted"), "repair the feed"),
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
    far = days["psi"] > ref.limits["raw"]
    varied = [name for name, values in ref.values.items() if (values != 0).mean() > VARIED]
    seen = {
        "missing": days["missing"] > MISSING,
        "dead": days["dead"] & days["column"].isin(varied),
        "level": days["level"].abs() > np.log(FACTOR),
        "repeats": days["repeats"] > REPEATS,
        "distribution": far & (days["column"] != "score"),
        "score": far & (days["column"] == "score"),
    }
    parts = [days.loc[hit, ["day", "column"]].assign(what=what) for what, hit in seen.items()]
    for found in [] if weeks is None else weeks.to_dict("records"):
        audit = partial(refuted, year, found["day"]) if year is not None else float
        told = of_reports(found, audit)
        parts.append(pd.DataFrame({"day": found["day"], "column": "labels", "what": told}))
    return pd.concat(parts, ignore_index=True).sort_values("day", ignore_index=True)


def of_reports(found: Mapping[str, float], audit: Callable[[], float]) -> list[str]:
    """Return the alarms of a week of reports: one rule for the monitors and for retraining.

    Parameters
    ----------
    found : mapping
        Of :func:`casebook.cases.deployment_pipeline.reports.week`.
    audit : callable
        Returns the share of some reports that calls refute; asked only if an alarm needs it.
    """
    few = found["p_rate"] < WEEKLY and found["observed"] < found["expected"]
    if found["p_silent"] < (DOUBT if few else WEEKLY):
        return ["silent"]
    loud = [what for what in ("capture", "rate") if found[f"p_{what}"] < WEEKLY]
    return ["refuted"] if loud and audit() > REFUTED else loud


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
