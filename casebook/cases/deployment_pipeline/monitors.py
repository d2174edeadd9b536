"""Three layers of monitoring, and what an alarm should lead to.

*Requests*: what arrives is complete, within bounds and new (:func:`daily`: ``missing``, ``level``,
``repeats``). *ML health*: each day the distribution of each feature and of the score is compared
with a reference (PSI, Kolmogorov-Smirnov), and each week the reports of fraud with what the model
had said. *Business*: what the decisions ask of customers and cost (both in
:mod:`~casebook.cases.deployment_pipeline.reports`).

Distributions say that something moved, not whether the model is wrong: prices rise, a season
comes, and the model still knows. What fraud looks like can change while no distribution moves. So
:data:`ADVICE` retrains on evidence of labels alone, after an audit of a few reports, and repairs
what the requests show.

Limits
------
A day compares 23 columns: at 1 % each, one day in five would alarm. And days differ by more than
the noise of sampling, so that a p-value, corrected for the number of columns or not, alarms too
often. :class:`Reference` therefore learns its limits from quiet days that are no part of the
reference. Each index is divided by what it is on a quiet day of that size: its expectation from
sampling and what the quiet days add to it. The statistic of a day is the largest over the columns,
and the limit the largest of 56 quiet days: if days are exchangeable, one day of 57 (1.8 %) passes
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline.chances import CONTINUOUS, FEATURES
from casebook.cases.deployment_pipeline.reports import refuted
from casebook.cases.deployment_pipeline.world import Year
from casebook.data.contracts import need_columns
from casebook.evaluate.psi import Bins

#: Days of the reference, and quiet days after it from which limits are learned.
FIT, QUIET = (-126, -56), (-56, 0)
#: A column of a day is broken: share of missing values; factor of the median; share of its positive
#: values that stood there the day before.
MISSING, FACTOR, REPEATS = 0.02, 8.0, 0.2
#: A level of false alarms for a day, over all columns, where p-values are used.
LEVEL = 0.05
#: CUSUM on the daily mean of the score: slack and limit in standard deviations of a quiet day.
SLACK, LIMIT = 0.5, 5.0
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


# Distributions, day by day ------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What days are compared with.

    Attributes
    ----------
    columns : tuple of str
        Features, and ``score`` where one was given.
    bins : mapping of str to Bins
    values : mapping of str to ndarray
        Sorted, for Kolmogorov-Smirnov.
    medians : mapping of str to float
        Of positive values.
    usual : DataFrame
        Over quiet days, by column: ``between`` (what the PSI has beyond its expectation from
        sampling), ``ks`` (mean), ``mean`` and ``sd`` of the daily means.
    limits : mapping of str to float
        Largest ratio to the usual on a quiet day, for ``psi`` and ``ks``.
    """

    columns: tuple[str, ...]
    bins: Mapping[str, Bins]
    values: Mapping[str, np.ndarray]
    medians: Mapping[str, float]
    usual: pd.DataFrame
    limits: Mapping[str, float]


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
    bins: int = 10,
) -> Reference:
    """Learn a reference from days of which one believes that they are quiet.

    Parameters
    ----------
    rows : DataFrame
        ``day`` and the columns.
    columns : sequence of str
    fit, quiet : tuple of int
        First day and the day after the last one, of the reference and of the limits.
    bins : int
        Of the PSI.

    Raises
    ------
    ValueError
        If a column is missing, the two spans share days, or one has no rows.
    """
    need_columns(rows, ("day", *columns), "the rows")
    parts = [rows[rows["day"].between(a, b - 1)] for a, b in (fit, quiet)]
    if any(part.empty for part in parts) or max(fit[0], quiet[0]) < min(fit[1], quiet[1]):
        raise ValueError(
            f"days {fit} and {quiet}: two spans that share no day and have rows are due"
        )
    values = {c: np.sort(parts[0][c].dropna().to_numpy(float)) for c in columns}
    medians = {
        c: float(np.median(v[v > 0])) if (v > 0).any() else np.nan for c, v in values.items()
    }
    binned = {c: Bins.of(v, bins) for c, v in values.items()}
    blank = Reference(tuple(columns), binned, values, medians, pd.DataFrame(), {})
    seen = daily(parts[1], blank, ks=True)
    usual = seen.groupby("column").agg(ks=("ks", "mean"), mean=("mean", "mean"), sd=("mean", "std"))
    excess = (seen["psi"] - seen["expected"]).groupby(seen["column"]).mean()
    usual["between"] = excess.clip(lower=0)
    own = Reference(tuple(columns), binned, values, medians, usual, {})
    limits = {
        name: float(ratio(seen, own, name).groupby(seen["day"]).max().max())
        for name in ("psi", "ks")
    }
    return Reference(tuple(columns), binned, values, medians, usual, limits)


def daily(rows: pd.DataFrame, ref: Reference, ks: bool = False) -> pd.DataFrame:
    """Return what the first two layers see of each day and column.

    Parameters
    ----------
    rows : DataFrame
        ``day`` and the columns of the reference; the first day has nothing before it.
    ref : Reference
    ks : bool
        With the Kolmogorov-Smirnov distance, which takes most of the time.

    Returns
    -------
    DataFrame
        ``day``, ``column``, ``n``, ``missing`` (share), ``psi``, ``expected`` and ``p`` (of
        the PSI, from sampling alone), ``mean``; of continuous features ``level`` (log of the
        median of positive values against the reference's) and ``repeats`` (share of positive
        values that stood there the day before), else 0; and ``ks``, ``p_ks``.

    Raises
    ------
    ValueError
        If a column is missing or there are no rows.
    """
    need_columns(rows, ("day", *ref.columns), "the rows")
    if rows.empty:
        raise ValueError("no rows: give at least one day")
    if not rows["day"].is_monotonic_increasing:
        rows = rows.sort_values("day", kind="stable")
    of, group = np.unique(rows["day"].to_numpy(), return_inverse=True)
    parts = [_column(rows[c].to_numpy(float), group, of, ref, c, ks) for c in ref.columns]
    return pd.concat(parts, ignore_index=True).sort_values(["day", "column"], ignore_index=True)


def _column(x: np.ndarray, group: np.ndarray, of: np.ndarray, ref, name: str, ks: bool):
    """Return the statistics of one column for all days."""
    bins, there = ref.bins[name], ~np.isnan(x)
    counts = bins.counts(x, group, len(of))
    n, rows = counts.sum(axis=1), np.bincount(group)
    some = np.maximum(n, 1)
    value = np.where(n > 0, bins.psi(counts), np.nan)
    total = np.bincount(group[there], x[there], minlength=len(of))
    frame = {
        **{"day": of, "column": name, "n": n, "missing": 1 - n / rows},
        **{"psi": value, "expected": bins.expected(some)},
        **{"p": np.where(n > 0, bins.p_value(value, some), np.nan)},
        "mean": np.where(n > 0, total / some, np.nan),
    }
    days = [x[a:b] for a, b in pairwise(np.searchsorted(group, range(len(of) + 1)))]
    frame |= {"level": 0.0, "repeats": 0.0}
    if name in CONTINUOUS:
        frame["level"] = [_level(one, ref.medians[name]) for one in days]
        frame["repeats"] = [0.0, *(_again(a, b) for a, b in pairwise(days))]
    if ks:
        found = [_distance(ref.values[name], day[~np.isnan(day)]) for day in days]
        frame["ks"], frame["p_ks"] = zip(*found, strict=True)
    return pd.DataFrame(frame)


def _level(day: np.ndarray, usual: float) -> float:
    """Return the log of the median of positive values against the usual one."""
    positive = day[day > 0]
    return float(np.log(np.median(positive) / usual)) if len(positive) else 0.0


def _again(before: np.ndarray, now: np.ndarray) -> float:
    """Return the share of positive values that stood there the day before."""
    positive = now[now > 0]
    return float(np.isin(positive, before).mean()) if len(positive) else 0.0


def _distance(usual: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    """Return the two-sample Kolmogorov-Smirnov distance and its p-value for large samples."""
    from scipy.special import kolmogorov

    if not len(now):
        return np.nan, np.nan
    now, n, m = np.sort(now), len(now), len(usual)
    points = np.unique(now)
    ours = np.searchsorted(now, points, side="right") / n
    below = np.searchsorted(now, points, side="left") / n
    gap = np.abs(ours - np.searchsorted(usual, points, side="right") / m).max()
    gap = max(gap, np.abs(below - np.searchsorted(usual, points, side="left") / m).max())
    return float(gap), float(kolmogorov(gap * np.sqrt(n * m / (n + m))))


# Detectors ----------------------------------------------------------------------------


def _any(frame: pd.DataFrame, hit: pd.Series) -> pd.Series:
    return hit.groupby(frame["day"]).any()


def ratio(frame: pd.DataFrame, ref: Reference, name: str = "psi") -> pd.Series:
    """Return an index of :func:`daily` (``psi`` or ``ks``) divided by what a quiet day has."""
    if name == "ks":
        return frame["ks"] / frame["column"].map(ref.usual["ks"])
    return frame["psi"] / (frame["expected"] + frame["column"].map(ref.usual["between"]))


def cusum(mean: pd.Series, usual: float, sd: float, slack=SLACK, limit=LIMIT) -> pd.Series:
    """Return on which days a two-sided CUSUM of daily means is beyond its limit.

    Parameters
    ----------
    mean : Series
        By day.
    usual, sd : float
        Mean and standard deviation of quiet days.
    slack, limit : float
        In standard deviations; after an alarm the sums begin again.
    """
    up = down = 0.0
    fires = []
    for z in (mean - usual) / sd:
        z = np.nan_to_num(z)
        up, down = max(0.0, up + z - slack), max(0.0, down - z - slack)
        fires.append(max(up, down) > limit)
        if fires[-1]:
            up = down = 0.0
    return pd.Series(fires, mean.index)


def _score_cusum(frame: pd.DataFrame, ref: Reference) -> pd.Series:
    own = frame[frame["column"] == "score"].set_index("day")["mean"]
    return cusum(own, *ref.usual.loc["score", ["mean", "sd"]])


#: Statistics of days (with ``ks`` and a score) and the reference → whether each day alarms.
DETECTORS: dict[str, Callable[[pd.DataFrame, Reference], pd.Series]] = {
    "PSI > .10": lambda f, ref: _any(f, f["psi"] > 0.10),
    "PSI > .25": lambda f, ref: _any(f, f["psi"] > 0.25),
    "PSI, p < .05": lambda f, ref: _any(f, f["p"] < LEVEL),
    "PSI, null and columns": lambda f, ref: _any(f, f["p"] < LEVEL / len(ref.columns)),
    "PSI, quiet days": lambda f, ref: _any(f, ratio(f, ref, "psi") > ref.limits["psi"]),
    "KS, p < .05": lambda f, ref: _any(f, f["p_ks"] < LEVEL),
    "KS, Bonferroni": lambda f, ref: _any(f, f["p_ks"] < LEVEL / len(ref.columns)),
    "KS, quiet days": lambda f, ref: _any(f, ratio(f, ref, "ks") > ref.limits["ks"]),
    "score CUSUM": _score_cusum,
}


def separability(
    usual: pd.DataFrame, now: pd.DataFrame, columns: Sequence[str], seed: int
) -> float:
    """Return the AUC at which a classifier tells a day from the reference, out of sample.

    Parameters
    ----------
    usual, now : DataFrame
        Rows of the reference and of a day, about as many; half of each is learned from.
    columns : sequence of str
    seed : int
        Of the halves.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    X = np.log1p(np.abs(pd.concat([usual, now])[list(columns)].fillna(0).to_numpy(float)))
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    y = np.repeat([0, 1], [len(usual), len(now)])
    half = np.random.default_rng(seed).random(len(y)) < 0.5
    fit = LogisticRegression(C=0.1, max_iter=100).fit(X[half], y[half])
    return float(roc_auc_score(y[~half], fit.decision_function(X[~half])))


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
