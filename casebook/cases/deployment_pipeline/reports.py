"""What reports of fraud and the decisions say about the model in service: the slow layers.

Reports come days to weeks after the payments. What can be read from them soonest is the *capture*:
of the frauds reported this week, the share that the model had put among its highest scores. When a
fraud is reported does not depend on its score, so that the first reports tell as much as the last.
Whether there are more or fewer frauds than expected needs payments that are old enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline.world import START, Year

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
        If no fraud is reported by then, none of the payments is ``wait`` days old, or some have no
        probability.
    """
    of = year.rows["day"].to_numpy()
    span = (of >= first) & (of < day)
    now = START + pd.Timedelta(days=day)
    told = (year.labels["fraud"] & (year.labels["known_at"] <= now)).to_numpy()
    if not (told & span).any():
        raise ValueError(
            f"no fraud of the days {first} to {day} is reported by then: wait for some"
        )
    old = span & (of < day - wait)
    if not old.any() or not np.isfinite(probability[span]).all():
        raise ValueError(
            f"the days {first} to {day} need a probability each, and some days before {day - wait}"
        )
    threshold = float(np.quantile(probability[span], 1 - TOP))
    rate = told[old].sum() / max(probability[old].sum(), 1e-9)
    caught = int((probability[told & span] > threshold).sum())
    return Promise(threshold, caught, int((told & span).sum()), float(rate))


def weekly(
    year: Year,
    probability: np.ndarray,
    kept: Promise,
    first: int = 0,
    last: int | None = None,
    broken: Sequence[int] = (),
) -> pd.DataFrame:
    """Compare each week's reports of fraud with the promise.

    Parameters
    ----------
    year : Year
    probability : ndarray, shape (rows,)
        Of the model that was in service.
    kept : Promise
    first, last : int
        First day of the first week, and the day before which the last one ends (the year's end by
        default).
    broken : sequence of int
        Days whose payments are left out, since their scores were made from a broken feed.

    Returns
    -------
    DataFrame
        A row a week, see :func:`week`.
    """
    above = np.asarray(probability) > kept.threshold
    last = int(year.rows["day"].max()) + 1 if last is None else last
    days = range(first + 7, last + 1, 7)
    return pd.DataFrame([week(year, probability, above, kept, day, broken) for day in days])


def week(
    year: Year,
    probability: np.ndarray,
    above: np.ndarray,
    kept: Promise,
    day: int,
    broken: Sequence[int] = (),
) -> dict[str, float]:
    """Compare the reports of the seven days before a morning with the promise.

    Parameters
    ----------
    year : Year
    probability, above : ndarray, shape (rows,)
        Of the model that was in service, and whether it was among its highest scores.
    kept : Promise
    day : int
        The morning; reports that come later are not looked at.
    broken : sequence of int
        Days of payments that are left out.

    Returns
    -------
    dict
        ``day``, ``reports``, ``caught``, ``p_capture`` (of so few caught or fewer, Fisher's test
        against the promise), ``expected`` and ``observed`` frauds of the week of payments that has
        just become 30 days old, ``p_rate`` (two-sided), and ``p_silent``: of so few reports this
        week, or these two weeks, if the last six weeks' payments bring the usual share.
    """
    from scipy.stats import hypergeom, poisson

    of, said = year.rows["day"].to_numpy(), year.labels["fraud"].to_numpy()
    known, fine = known_on(year), ~np.isin(of, broken)
    said = said & fine
    new = said & (known >= day - 7) & (known < day) & (of >= day - 90)
    n, caught = int(new.sum()), int(above[new].sum())
    p = hypergeom.cdf(caught, kept.reports + n, kept.caught + caught, n) if n else 1.0
    old = fine & (of >= day - 37) & (of < day - 30)
    expected = float(probability[old].sum() * kept.rate)
    observed = int((said & old & (known < day)).sum())
    tail = min(poisson.cdf(observed, expected), poisson.sf(observed - 1, expected))
    lately = fine & (of >= day - 42) & (of < day)
    usual = float(probability[lately].sum() * kept.rate) / 6
    both = int((said & (known >= day - 14) & (known < day)).sum())
    silent = min(poisson.cdf(n, usual), poisson.cdf(both, 2 * usual))
    names = ("day", "reports", "caught", "p_capture", "expected", "observed", "p_rate", "p_silent")
    values = (day, n, caught, p, expected, observed, min(1.0, 2 * tail), silent)
    return dict(zip(names, (day, n, caught, *map(float, values[3:])), strict=True))


def known_on(year: Year) -> np.ndarray:
    """Return the day, as a fraction, on which what is reported of each payment is known."""
    return ((year.labels["known_at"] - START) / pd.Timedelta(days=1)).to_numpy()


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
    known = known_on(year)
    new = np.flatnonzero(year.labels["fraud"] & (known >= day - span) & (known < day))
    if not len(new):
        return 0.0
    drawn = np.random.default_rng([seed, day + 1_000]).permutation(new)[:n]
    return float(1 - year.truth["fraud"].to_numpy()[drawn].mean())
