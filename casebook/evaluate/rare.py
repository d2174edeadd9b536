"""Metrics of what is rare, such as fraud: ranks at a capacity, and probabilities by their skill.

They are those of people who can look at so many cards a day: average precision over the
transactions, card precision@k over cards and days, recall at a false-positive rate, and for
probabilities their skill against a constant. A constant is perfectly calibrated: calibration
alone shows nothing, skill does.

Examples
--------
>>> y, score = [0, 0, 1, 0, 1], [0.1, 0.2, 0.9, 0.3, 0.2]
>>> average_precision(y, score), recall_at_fpr(y, score, 0.5)
(0.75, 0.75)
>>> skill(y, np.full(5, 0.4), prevalence=0.4)
0.0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.columns import need_columns
from casebook.evaluate.intervals import Interval

DAY = pd.Timedelta(days=1)


# Ranking ------------------------------------------------------------------------------


def average_precision(y: ArrayLike, score: ArrayLike) -> float:
    """Return the average precision, by scikit-learn, refusing what it would not notice.

    Parameters
    ----------
    y : array_like of 0 and 1, shape (n,)
    score : array_like of float, shape (n,)

    Returns
    -------
    float
        The share of fraud for a score without information, 1 for a perfect one.

    Raises
    ------
    ValueError
        On different shapes, missing values, other labels, or labels of one kind only.
    """
    from sklearn.metrics import average_precision_score

    y, score = _pair(y, score)
    return float(average_precision_score(y, score))


def ap_at_prevalence(y: ArrayLike, score: ArrayLike, prevalence: float) -> float:
    r"""Return the average precision that a test with another share of fraud would give.

    Drawing frauds or genuine rows at random leaves recall and false-positive rate as they are; only
    precision changes: :math:`\pi R / (\pi R + (1 - \pi) F)` at recall R and false-positive rate F.
    It is the average precision with a weight for each genuine row.

    Parameters
    ----------
    y : array_like of 0 and 1, shape (n,)
        A test whose genuine rows are a random part of all.
    score : array_like of float, shape (n,)
    prevalence : float
        Share of fraud to answer for.

    Returns
    -------
    float
        An estimate with the noise of the genuine rows that are there: each stands for many.

    Raises
    ------
    ValueError
        As :func:`average_precision`, and when the share is not between 0 and 1.
    """
    from sklearn.metrics import average_precision_score

    y, score = _pair(y, score)
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence is {prevalence}: a share between 0 and 1 is due")
    share = y.mean()
    weight = np.where(y == 1, 1.0, (1 - prevalence) / prevalence * share / (1 - share))
    return float(average_precision_score(y, score, sample_weight=weight))


def precision_of_weights(y: ArrayLike, score: ArrayLike) -> Callable[[np.ndarray], float]:
    """Return the average precision as a function of the rows' weights; it sorts once.

    Parameters
    ----------
    y, score : array_like, shape (n,)
        As of :func:`average_precision`.
    """
    y, score = _pair(y, score)
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=np.nan) != 0)  # of equal scores

    def of(weight: np.ndarray) -> float:
        found = np.cumsum((weight * y)[order])[ends]
        asked = np.cumsum(weight[order])[ends]
        precision = np.divide(found, asked, out=np.zeros(len(ends)), where=asked > 0)
        return float(np.diff(found, prepend=0) @ precision / found[-1])

    return of


def precision_gain(
    y: ArrayLike, new: ArrayLike, old: ArrayLike, groups: ArrayLike, draws: int = 500, seed: int = 0
) -> Interval:
    """Compare the average precision of two scores of the same rows, with a 95 % interval.

    Parameters
    ----------
    y, new, old : array_like, shape (n,)
        As of :func:`average_precision`.
    groups : array_like, shape (n,)
        What is resampled, such as days; those without a positive among them are drawn again.
    draws, seed : int

    Raises
    ------
    ValueError
        As :func:`average_precision`.
    """
    first, second = (precision_of_weights(y, score) for score in (new, old))
    codes, names = pd.factorize(np.asarray(groups))
    y, rng, gains = np.asarray(y, float), np.random.default_rng(seed), []
    while len(gains) < draws:
        weight = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))[codes]
        if y @ weight:
            gains.append(first(weight) - second(weight))
    whole = np.ones(len(codes))
    return Interval(first(whole) - second(whole), *np.quantile(gains, [0.025, 0.975]).tolist())


def card_precision_by_day(frame: pd.DataFrame, k: int = 100) -> pd.Series:
    """Return for each day the share of compromised cards among the k cards of highest score.

    A card counts once a day, by its highest score, and is compromised when one of its transactions
    of the day is fraud. A compromised card that was found leaves all later days. Of cards with
    equal scores the lower number comes first, so that a constant score earns what it deserves.

    Parameters
    ----------
    frame : DataFrame
        ``time``, ``card``, ``y`` (0 or 1), ``score``.
    k : int
        Cards that can be looked at in a day.

    Returns
    -------
    Series
        Index day.

    Raises
    ------
    ValueError
        When a column or value is missing, k is not positive, or a day has fewer than k cards.
    """
    need_columns(frame, ("time", "card", "y", "score"), "the frame")
    if not (isinstance(k, int | np.integer) and k > 0):
        raise ValueError(f"k is {k}: a positive number of cards is due")
    _pair(frame["y"], frame["score"])
    keys = [frame["time"].dt.normalize().rename("day"), "card"]
    cards = frame.groupby(keys, sort=True)[["score", "y"]].max().reset_index()
    cards = cards.sort_values(["day", "score", "card"], ascending=[True, False, True])
    found: set = set()
    precision = {}
    for day, rows in cards.groupby("day"):
        left = rows[~rows["card"].isin(found)]
        if len(left) < k:
            raise ValueError(
                f"{day:%Y-%m-%d} has {len(left)} cards left to look at, fewer than k = {k}: take a "
                "smaller k."
            )
        hits = left.head(k).loc[lambda top: top["y"] == 1, "card"]
        precision[day] = len(hits) / k
        found.update(hits)
    return pd.Series(precision, name="card precision").rename_axis("day")


def card_precision(frame: pd.DataFrame, k: int = 100) -> float:
    """Return card precision@k: the mean over days of :func:`card_precision_by_day`.

    Parameters
    ----------
    frame : DataFrame
        ``time``, ``card``, ``y`` (0 or 1), ``score``.
    k : int
        Cards that can be looked at in a day.

    Returns
    -------
    float
        Where fewer than k cards a day are compromised even a perfect score stays below 1: score
        the truth itself (``frame.assign(score=frame["y"])``) to see how far one can get.

    Raises
    ------
    ValueError
        As :func:`card_precision_by_day`.
    """
    return float(card_precision_by_day(frame, k).mean())


def recall_at_fpr(y: ArrayLike, score: ArrayLike, fpr: float = 0.01) -> float:
    """Return the recall at a false-positive rate, between thresholds by a straight line.

    The line between two neighbouring points of the ROC curve is what one gets by letting chance
    decide among rows of equal score. Of points with the same rate the highest recall counts.

    Parameters
    ----------
    y : array_like of 0 and 1, shape (n,)
    score : array_like of float, shape (n,)
    fpr : float
        Share of genuine rows that may be flagged.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As :func:`average_precision`, and when the rate is not a share.
    """
    from sklearn.metrics import roc_curve

    y, score = _pair(y, score)
    if not 0 <= fpr <= 1:
        raise ValueError(f"fpr is {fpr}: a share from 0 to 1 is due")
    false, true, _ = roc_curve(y, score, drop_intermediate=False)
    last = int(np.searchsorted(false, fpr, side="right")) - 1
    if last == len(false) - 1:
        return float(true[last])
    part = (fpr - false[last]) / (false[last + 1] - false[last])
    return float(true[last] + part * (true[last + 1] - true[last]))


# Probabilities ------------------------------------------------------------------------

#: Least distance of a probability from 0 and 1 in the log loss.
CLIP = 1e-6


def skill(y: ArrayLike, p: ArrayLike, kind: str = "brier", *, prevalence: float) -> float:
    """Return the share of a constant's loss that probabilities save.

    Parameters
    ----------
    y : array_like of 0 and 1, shape (n,)
    p : array_like of float, shape (n,)
        Probabilities of fraud.
    kind : {"brier", "log"}
        Squared error or log loss; for the latter probabilities stay ``CLIP`` away from 0 and 1.
    prevalence : float
        The constant: the share of fraud *of the training*. That of the test is not known when the
        model is used, and would make the constant too good.

    Returns
    -------
    float
        1 is perfect, 0 as good as the constant, negative worse.

    Raises
    ------
    ValueError
        As :func:`average_precision`, when probabilities leave 0 to 1, the share is not between
        them, or the kind is unknown.
    """
    y, p = _pair(y, p)
    _probabilities(p)
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence is {prevalence}: a share between 0 and 1 is due")
    if kind not in _LOSSES:
        raise ValueError(f"kind is {kind!r}: one of {list(_LOSSES)} is due")
    loss = _LOSSES[kind]
    return float(1 - loss(y, p).mean() / loss(y, np.full(len(y), prevalence)).mean())


def _log_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    p = np.clip(p, CLIP, 1 - CLIP)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


_LOSSES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "brier": lambda y, p: (y - p) ** 2,
    "log": _log_loss,
}


def top_calibration(
    y: ArrayLike, p: ArrayLike, shares: Sequence[float] = (0.0005, 0.001, 0.005, 0.01)
) -> pd.DataFrame:
    """Compare predicted with observed fraud where decisions are made: among the highest scores.

    Parameters
    ----------
    y : array_like of 0 and 1, shape (n,)
    p : array_like of float, shape (n,)
    shares : sequence of float
        Rising: each bin goes from the share of rows before it to its own, counted from the top.

    Returns
    -------
    DataFrame
        A row for each bin and one for the rest: ``top`` (share of rows up to here), ``rows``,
        ``predicted`` (mean), ``observed`` (share of fraud), ``low`` and ``high`` (95 % Wilson
        interval of the observed share), ``frauds``. Rows of equal score share their frauds, so
        that their order does not matter. A constant shows the same share in every bin:
        calibrated, and of no use.

    Raises
    ------
    ValueError
        As :func:`average_precision`, when probabilities leave 0 to 1, the shares do not rise
        between 0 and 1, or a bin has no rows.
    """
    y, p = _pair(y, p)
    _probabilities(p)
    edges = np.asarray(shares, float)
    if edges.size == 0 or (np.diff(edges, prepend=0) <= 0).any() or edges[-1] >= 1:
        raise ValueError(f"shares are {list(shares)}: they must rise between 0 and 1")
    ends = np.append(np.round(edges * len(y)).astype(int), len(y))
    starts = np.append(0, ends[:-1])
    if (ends == starts).any():
        raise ValueError(
            f"{len(y)} rows are too few for shares {list(shares)}: a bin would have no rows"
        )
    order = np.argsort(-p, kind="stable")
    shared = pd.Series(y).groupby(p).transform("mean").to_numpy()[order]
    frauds = np.add.reduceat(shared, starts)
    rows = ends - starts
    low, high = _wilson(frauds, rows)
    return pd.DataFrame(
        {
            "top": [*edges, 1.0],
            "rows": rows,
            "predicted": np.add.reduceat(p[order], starts) / rows,
            "observed": frauds / rows,
            "low": low,
            "high": high,
            "frauds": frauds,
        }
    )


def _wilson(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % Wilson score interval of a share."""
    z = 1.959963984540054
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / 4 / trials**2)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


# A week's scores ----------------------------------------------------------------------


def scores(
    test: pd.DataFrame,
    *,
    prevalence: float | None = None,
    k: int = 100,
    fpr: float = 0.01,
    cost: Callable[[pd.DataFrame], ArrayLike] | None = None,
) -> dict[str, float]:
    """Return all metrics of one test.

    Parameters
    ----------
    test : DataFrame
        ``time``, ``card``, ``y``, ``score`` and what ``cost`` needs.
    prevalence : float, optional
        Share of fraud of the training, when the score is a probability. Without it there is no
        skill.
    k : int
        Cards a day.
    fpr : float
        False-positive rate.
    cost : callable, optional
        ``cost(test)`` gives what each row costs under the decisions that follow from its score.

    Returns
    -------
    dict
        ``AP``, ``card precision``, ``recall``, ``brier skill``, ``log skill`` (NaN without
        a probability) and ``cost`` (mean of a row; NaN without a function).

    Raises
    ------
    ValueError
        As the metrics do, and when ``cost`` does not give one value for each row.
    """
    y, p = test["y"], test["score"]
    each = np.nan if cost is None else np.asarray(cost(test), float)
    if cost is not None and np.shape(each) != (len(test),):
        raise ValueError(f"cost gave {np.shape(each)} values for {len(test)} rows: one each is due")
    known = prevalence is not None
    return {
        "AP": average_precision(y, p),
        "card precision": card_precision(test, k),
        "recall": recall_at_fpr(y, p, fpr),
        "brier skill": skill(y, p, "brier", prevalence=prevalence) if known else np.nan,
        "log skill": skill(y, p, "log", prevalence=prevalence) if known else np.nan,
        "cost": float(np.mean(each)),
    }


# A test that was thinned --------------------------------------------------------------


def thinned_test(
    y: np.ndarray,
    score: np.ndarray,
    keeps: Sequence[float] = (1.0, 0.3, 0.1, 0.03, 0.01),
    draws: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Thin out the genuine rows of a test and look at its average precision.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n,)
    score : ndarray of float, shape (n,)
        Of one model: nothing about it changes.
    keeps : sequence of float
        Shares of genuine rows to keep.
    draws : int
        Random draws for each.
    seed : int

    Returns
    -------
    DataFrame
        ``keep``, ``fraud`` (share), ``AP`` as it would be reported, ``corrected`` (by
        :func:`ap_at_prevalence`) with ``low`` and ``high``
        (95 % of the draws), ``full`` (of the whole test).

    Raises
    ------
    ValueError
        When a share is not above 0 and at most 1.
    """
    y, score = np.asarray(y), np.asarray(score, float)
    if bad := [keep for keep in keeps if not 0 < keep <= 1]:
        raise ValueError(f"shares to keep must be above 0 and at most 1: {bad}")
    rng, rows, prevalence = np.random.default_rng(seed), [], y.mean()
    full = average_precision(y, score)
    genuine = np.flatnonzero(y == 0)
    frauds = np.flatnonzero(y == 1)
    for keep in keeps:
        size = max(1, round(keep * len(genuine)))
        found = []
        for _ in range(1 if keep == 1 else draws):
            part = np.append(frauds, rng.choice(genuine, size, replace=False))
            found.append(
                (
                    average_precision(y[part], score[part]),
                    ap_at_prevalence(y[part], score[part], prevalence),
                )
            )
        seen, corrected = np.array(found).T
        low, high = np.quantile(corrected, [0.025, 0.975])
        share = len(frauds) / (len(frauds) + size)
        rows.append((keep, share, seen.mean(), corrected.mean(), low, high, full))
    columns = ["keep", "fraud", "AP", "corrected", "low", "high", "full"]
    return pd.DataFrame(rows, columns=columns)


# Checks -------------------------------------------------------------------------------


def _pair(y: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, score = np.asarray(y, float), np.asarray(score, float)
    if y.ndim != 1 or y.shape != score.shape:
        raise ValueError(
            f"labels have shape {y.shape} and scores {score.shape}: one of each for a row is due"
        )
    for name, values in (("labels", y), ("scores", score)):
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(f"{bad} of {values.size} {name} are missing or not finite")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels other than 0 and 1: 1 is fraud, 0 is genuine")
    if np.unique(y).size < 2:
        raise ValueError(
            f"all {y.size} labels are the same: the metric needs fraud and genuine rows"
        )
    return y, score


def _probabilities(p: np.ndarray) -> None:
    if p.min() < 0 or p.max() > 1:
        raise ValueError(
            f"scores from {p.min():.3g} to {p.max():.3g} are no probabilities: calibrate first"
        )
