"""Days against a reference: how far each column has moved, and limits that quiet days keep.

A day compares many columns: at 1 % each, one day in five would alarm. And days differ by more than
the noise of sampling, so that a p-value, corrected for the number of columns or not, alarms too
often. :func:`reference` therefore learns its limits from quiet days that are no part of the
reference. The statistic of a day is the largest over the columns, and the limit the largest of the
quiet days: if days are exchangeable, one day of ``quiet + 1`` passes it. It holds for days of about
as many rows. :func:`ratio` divides each index by what it is on a quiet day of that size (its
expectation from sampling and what the quiet days add to it): that holds for any size, and sees less
where a quiet column has next to nothing.

A day without rows is a day too (all is missing): it alarms, as does a day on which a column has no
value. A column that has one value only, where the reference makes that next to impossible, is dead:
no index of distance says that.

Examples
--------
>>> rng = np.random.default_rng(0)
>>> rows = pd.DataFrame({"day": np.repeat(np.arange(41), 300), "x": rng.normal(size=41 * 300)})
>>> rows.loc[rows["day"] == 40, "x"] += 0.5
>>> ref = reference(rows, ["x"], fit=(0, 20), quiet=(20, 39))
>>> DETECTORS["PSI, one limit"](daily(rows[rows["day"] >= 39], ref), ref).tolist()
[False, True]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from casebook.data.contracts import need_columns
from casebook.evaluate.psi import Bins

#: A level of false alarms for a day, over all columns, where p-values are used.
LEVEL = 0.05
#: CUSUM of daily means: slack and limit in standard deviations of a quiet day.
SLACK, LIMIT = 0.5, 5.0
#: A column of one value is dead if chance would bring that so seldom.
NEVER = 1e-6


@dataclass(frozen=True)
class Reference:
    """What days are compared with.

    Attributes
    ----------
    columns : tuple of str
    continuous : frozenset of str
        Columns of which a value seldom occurs twice.
    bins : mapping of str to Bins
    values : mapping of str to ndarray
        Sorted, for Kolmogorov-Smirnov.
    medians : mapping of str to float
        Of positive values.
    usual : DataFrame
        Over quiet days, by column: ``between`` (what the PSI has beyond its expectation from
        sampling), ``ks`` (mean), ``mean`` and ``sd`` of the daily means.
    limits : mapping of str to float
        Largest value of each of :data:`STATISTICS` on a quiet day.
    """

    columns: tuple[str, ...]
    continuous: frozenset[str]
    bins: Mapping[str, Bins]
    values: Mapping[str, np.ndarray]
    medians: Mapping[str, float]
    usual: pd.DataFrame
    limits: Mapping[str, float]


def reference(
    rows: pd.DataFrame,
    columns: Sequence[str],
    fit: tuple[int, int],
    quiet: tuple[int, int],
    bins: int = 10,
    continuous: Sequence[str] = (),
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
    continuous : sequence of str
        Columns of which a value seldom occurs twice: their median and repeats are watched.

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
    blank = Reference(
        tuple(columns), frozenset(continuous), binned, values, medians, pd.DataFrame(), {}
    )
    seen = daily(parts[1], blank, ks=True)
    usual = seen.groupby("column").agg(ks=("ks", "mean"), mean=("mean", "mean"), sd=("mean", "std"))
    excess = (seen["psi"] - seen["expected"]).groupby(seen["column"]).mean()
    usual["between"] = excess.clip(lower=0)
    own = Reference(tuple(columns), frozenset(continuous), binned, values, medians, usual, {})
    limits = {name: float(of(seen, own).max()) for name, of in STATISTICS.items()}
    return Reference(tuple(columns), frozenset(continuous), binned, values, medians, usual, limits)


def daily(
    rows: pd.DataFrame, ref: Reference, ks: bool = False, until: int | None = None
) -> pd.DataFrame:
    """Return how each column of each day compares with the reference.

    Parameters
    ----------
    rows : DataFrame
        ``day`` (whole numbers) and the columns of the reference; the first day has nothing before
        it.
    ref : Reference
    ks : bool
        With the Kolmogorov-Smirnov distance, which takes most of the time.
    until : int, optional
        Last day that should have rows, by the clock; the last that has some by default, so that a
        feed that has stopped is not seen.

    Returns
    -------
    DataFrame
        ``day`` (those without rows too), ``column``, ``n``, ``missing`` (share), ``dead``,
        ``psi``, ``expected`` and ``p`` (of the PSI, from sampling alone), ``mean``; of continuous
        columns ``level`` (log of the median of positive values against the reference's) and
        ``repeats`` (share of positive values that stood there the day before), else 0; and
        ``ks``, ``p_ks``.

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
    day = rows["day"].to_numpy().astype(int)
    last = day[-1] if until is None else max(day[-1], until)
    of, group = np.arange(day[0], last + 1), day - day[0]
    parts = [_column(rows[c].to_numpy(float), group, of, ref, c, ks) for c in ref.columns]
    return pd.concat(parts, ignore_index=True).sort_values(["day", "column"], ignore_index=True)


def _column(x: np.ndarray, group: np.ndarray, of: np.ndarray, ref, name: str, ks: bool):
    """Return the statistics of one column for all days."""
    bins, there = ref.bins[name], ~np.isnan(x)
    counts = bins.counts(x, group, len(of))
    n, rows = counts.sum(axis=1), np.bincount(group, minlength=len(of))
    some = np.maximum(n, 1)
    value = np.where(n > 0, bins.psi(counts), np.nan)
    total = np.bincount(group[there], x[there], minlength=len(of))
    frame = {
        **{"day": of, "column": name, "n": n},
        "missing": np.where(rows > 0, 1 - n / np.maximum(rows, 1), 1.0),
        **{"psi": value, "expected": bins.expected(some)},
        **{"p": np.where(n > 0, bins.p_value(value, some), np.nan)},
        "mean": np.where(n > 0, total / some, np.nan),
    }
    days = [x[a:b] for a, b in pairwise(np.searchsorted(group, range(len(of) + 1)))]
    frame["dead"] = [_dead(one, ref.values[name]) for one in days]
    frame |= {"level": 0.0, "repeats": 0.0}
    if name in ref.continuous:
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


def _dead(day: np.ndarray, usual: np.ndarray) -> bool:
    """Say whether a day has one value only, and chance would not have brought that."""
    there = day[~np.isnan(day)]
    if not len(there) or there.min() < there.max():
        return False
    ends = [np.searchsorted(usual, there[0], side) for side in ("left", "right")]
    share = max(ends[1] - ends[0], 1) / (len(usual) + 1)
    return bool(len(there) * np.log(share) < np.log(NEVER))


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
    """Say of each day whether a column alarms; without a value it does."""
    return (hit | (frame["n"] == 0)).groupby(frame["day"]).any()


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
        By day. A day without one alarms.
    usual, sd : float
        Mean and standard deviation of quiet days.
    slack, limit : float
        In standard deviations; after an alarm the sums begin again.

    Raises
    ------
    ValueError
        If ``usual`` or ``sd`` is no finite number, as of a single quiet day: nothing would alarm.
    """
    if not (np.isfinite(usual) and np.isfinite(sd)):
        raise ValueError(f"usual {usual} with sd {sd}: learn them from at least two quiet days")
    up = down = 0.0
    fires = []
    for z, there in zip(np.nan_to_num((mean - usual) / sd), mean.notna(), strict=True):
        up, down = max(0.0, up + z - slack), max(0.0, down - z - slack)
        fires.append(bool(max(up, down) > limit or not there))
        if fires[-1]:
            up = down = 0.0
    return pd.Series(fires, mean.index)


def _largest(values: pd.Series, frame: pd.DataFrame) -> pd.Series:
    return values.groupby(frame["day"]).max()


#: How far a day is, over its columns, from days (with ``ks``) and the reference: PSI and KS as they
#: are, by their chance (decimal logarithm, larger is rarer), and against what a quiet day has.
STATISTICS: dict[str, Callable[[pd.DataFrame, Reference], pd.Series]] = {
    "raw": lambda f, ref: _largest(f["psi"], f),
    "p": lambda f, ref: _largest(-np.log10(f["p"].clip(lower=1e-300)), f),
    "psi": lambda f, ref: _largest(ratio(f, ref, "psi"), f),
    "p_ks": lambda f, ref: _largest(-np.log10(f["p_ks"].clip(lower=1e-300)), f),
    "ks": lambda f, ref: _largest(ratio(f, ref, "ks"), f),
}

#: Statistics of days (with ``ks``) and the reference → whether each day alarms.
DETECTORS: dict[str, Callable[[pd.DataFrame, Reference], pd.Series]] = {
    "PSI > .10": lambda f, ref: _any(f, f["psi"] > 0.10),
    "PSI > .25": lambda f, ref: _any(f, f["psi"] > 0.25),
    "PSI, one limit": lambda f, ref: _any(f, f["psi"] > ref.limits["raw"]),
    "PSI, null and columns": lambda f, ref: _any(f, f["p"] < LEVEL / len(ref.columns)),
    "PSI, quiet days": lambda f, ref: _any(f, ratio(f, ref, "psi") > ref.limits["psi"]),
    "KS, Bonferroni": lambda f, ref: _any(f, f["p_ks"] < LEVEL / len(ref.columns)),
    "KS, quiet days": lambda f, ref: _any(f, ratio(f, ref, "ks") > ref.limits["ks"]),
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

    X = pd.concat([usual, now])[list(columns)].fillna(0).to_numpy(float)
    X = np.sign(X) * np.log1p(np.abs(X))
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    y = np.repeat([0, 1], [len(usual), len(now)])
    half = np.random.default_rng(seed).random(len(y)) < 0.5
    fit = LogisticRegression(C=0.1, max_iter=100).fit(X[half], y[half])
    return float(roc_auc_score(y[~half], fit.decision_function(X[~half])))
