"""What reports of fraud and the decisions say about the model in service: the slow layers.

Reports come days to weeks after the payments. What can be read from them soonest is the *capture*:
of the frauds reported this week, the share that the model had put among its highest scores. When a
fraud is reported does not depend on its score, so that the first reports tell as much as the last.
Whether there are more or fewer frauds than expected needs payments that are old enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline.world import START, Year, cost

#: Share of payments above the score that counts as "the model saw it"; reports in an audit.
TOP, AUDIT = 0.01, 30


@dataclass(frozen=True)
class Promise:
    """What a model caught when it was released, on payments that it had not seen.

    Attributes
    ----------
    threshold : float
        Score that :data:`TOP` of the payments exceed.
    caught, reports : int
        Reported frauds above it, and all.
    rate : float
        Frauds reported for each that the model expected, on payments old enough.
    """

    threshold: float
    caught: int
    reports: int
    rate: float


def promise(year: Year, probability: np.ndarray, first: int, day: int, wait: int = 30) -> Promise:
    """Return the promise of a model, from payments since ``first`` as known on ``day``.

    Parameters
    ----------
    year : Year
    probability : ndarray, shape (rows,)
        Of all rows of the year, by the model.
    first, day : int
    wait : int
        Age from which the rate counts.

    Raises
    ------
    ValueError
        If no fraud is reported by then.
    """
    of = year.rows["day"].to_numpy()
    span = (of >= first) & (of < day)
    now = START + pd.Timedelta(days=day)
    told = (year.labels["fraud"] & (year.labels["known_at"] <= now)).to_numpy()
    if not (told & span).any():
        raise ValueError(
            f"no fraud of the days {first} to {day} is reported by then: wait for some"
        )
    threshold = float(np.quantile(probability[span], 1 - TOP))
    old = span & (of < day - wait)
    rate = told[old].sum() / max(probability[old].sum(), 1e-9) if old.any() else np.nan
    caught = int((probability[told & span] > threshold).sum())
    return Promise(threshold, caught, int((told & span).sum()), float(rate))


def weekly(year: Year, probability: np.ndarray, kept: Promise, first: int = 0) -> pd.DataFrame:
    """Compare each week's reports of fraud with the promise.

    Parameters
    ----------
    year : Year
    probability : ndarray, shape (rows,)
        Of the model that was in service.
    kept : Promise
    first : int
        First day of the first week; reports about payments since 30 days before it count.

    Returns
    -------
    DataFrame
        ``week``, ``day`` (the morning after it), ``reports``, ``caught``, ``p_capture`` (of so few
        caught or fewer, Fisher's test against the promise), ``expected`` and ``observed`` frauds of
        the week of payments that has just become old enough, and ``p_rate`` (two-sided).
    """
    from scipy.stats import hypergeom, poisson

    of = year.rows["day"].to_numpy()
    known = ((year.labels["known_at"] - START) / pd.Timedelta(days=1)).to_numpy()
    told = year.labels["fraud"].to_numpy() & (of >= first - 30)
    rows = []
    for week, start in enumerate(range(first, int(of.max()) - 5, 7)):
        end = start + 7
        new = told & (known >= start) & (known < end)
        n, caught = int(new.sum()), int((probability[new] > kept.threshold).sum())
        total = kept.reports + n
        p = hypergeom.cdf(caught, total, kept.caught + caught, n) if n else 1.0
        old = (of >= start - 30) & (of < end - 30)
        expected = probability[old].sum() * kept.rate
        observed = int((year.labels["fraud"].to_numpy() & old & (known < end)).sum())
        tail = min(poisson.cdf(observed, expected), poisson.sf(observed - 1, expected))
        rows.append((week, end, n, caught, p, expected, observed, min(1.0, 2 * tail)))
    names = ["week", "day", "reports", "caught", "p_capture", "expected", "observed", "p_rate"]
    return pd.DataFrame(rows, columns=names)


def refuted(year: Year, day: int, seed: int = 0, span: int = 7, n: int = AUDIT) -> float:
    """Call the customers of some reports of the last days; return the share that was no fraud.

    Parameters
    ----------
    year : Year
    day : int
        The morning of the audit.
    seed : int
        Of the sample.
    span, n : int
        Days of reports, and calls: the only use of the truth that a team can buy.
    """
    known = ((year.labels["known_at"] - START) / pd.Timedelta(days=1)).to_numpy()
    new = np.flatnonzero(year.labels["fraud"] & (known >= day - span) & (known < day))
    if not len(new):
        return 0.0
    drawn = np.random.default_rng([seed, day + 1_000]).permutation(new)[:n]
    return float(1 - year.truth["fraud"].to_numpy()[drawn].mean())


def business(year: Year, probability: np.ndarray) -> pd.DataFrame:
    """Return what the decisions of a model mean, day by day.

    Returns
    -------
    DataFrame
        ``day``, ``asked`` (share above the model's cut-off for a payment of 60 euro, 1.5 %),
        ``reported`` (euro of the day's frauds that were reported at last, per payment) and
        ``euros`` (expected cost per payment by the true chances, which no team sees).
    """
    of = year.rows["day"]
    truth = year.truth
    amount = truth["amount"].to_numpy()
    table = pd.DataFrame(
        {
            "day": of,
            "asked": np.asarray(probability) > 0.015,
            "reported": np.where(year.labels["fraud"], amount, 0.0),
            "euros": cost(probability, amount, truth["chance"].to_numpy()),
        }
    )
    return table.groupby("day", as_index=False).mean()
