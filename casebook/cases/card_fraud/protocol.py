"""The protocol: weeks that train, wait and test, and the metrics that a week is judged by.

A label arrives late. So a model of the test week may learn only from a training week that ended one
waiting time before, and everything steps back week by week ("prequential"). This is the protocol of
the Fraud Detection Handbook, which also takes cards out of the test that are known to be
compromised by then: they have been cancelled, and finding them again is worth nothing.

The metrics are those of a bank that can look at so many cards a day: average precision over the
transactions, card precision@k over cards and days, recall at a false-positive rate, and for
probabilities their skill against a constant. A constant is perfectly calibrated: calibration
alone shows nothing, skill does.

References
----------
Le Borgne, Siblini, Lebichot & Bontempi (2022), *Reproducible Machine Learning for Credit Card Fraud
Detection: Practical Handbook*, Université Libre de Bruxelles, chapters 3 to 5.
https://fraud-detection-handbook.github.io/fraud-detection-handbook/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.cases.card_fraud.world import World, visible_labels
from casebook.data.contracts import need_columns

DAY = pd.Timedelta(days=1)


# Weeks --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Week:
    """One step of the protocol. Each span holds its first moment and not its last.

    Attributes
    ----------
    name : str
        Day on which the test begins.
    train_from, train_to : Timestamp
        Transactions to learn from.
    known_at : Timestamp
        Labels are those that the bank knows at this moment: when the test begins.
    test_from, test_to : Timestamp
        Transactions to judge by.
    """

    name: str
    train_from: pd.Timestamp
    train_to: pd.Timestamp
    known_at: pd.Timestamp
    test_from: pd.Timestamp
    test_to: pd.Timestamp


def weeks(
    start: pd.Timestamp | str,
    end: pd.Timestamp | str,
    train: float = 7,
    wait: float = 7,
    test: float = 7,
    step: float = 7,
) -> list[Week]:
    """Return as many steps as fit, the last of which tests up to the end.

    Parameters
    ----------
    start, end : Timestamp or str
        The data: the first moment, and the midnight after the last day.
    train, wait, test, step : float
        Days to learn from, until labels are known, to judge by, from one test to the next.

    Returns
    -------
    list of Week
        In time order.

    Raises
    ------
    ValueError
        When a length is out of range, or not one step fits.

    Examples
    --------
    >>> [week.name for week in weeks("2018-07-18", "2018-08-15")]
    ['2018-08-01', '2018-08-08']
    """
    lengths = {"train": train, "test": test, "step": step}
    for name, days in lengths.items():
        if not days > 0:
            raise ValueError(f"{name} is {days} days: more than 0 are due")
    if not wait >= 0:
        raise ValueError(f"wait is {wait} days: 0 or more are due")
    start, end = pd.Timestamp(start), pd.Timestamp(end)
    if start + (train + wait + test) * DAY > end:
        raise ValueError(
            f"{train} + {wait} + {test} days do not fit between {start:%Y-%m-%d} and "
            f"{end:%Y-%m-%d}: shorten them or take more data."
        )
    found = []
    test_to = end
    while (train_from := test_to - (train + wait + test) * DAY) >= start:
        test_from = test_to - test * DAY
        train_to = train_from + train * DAY
        found.append(
            Week(f"{test_from:%Y-%m-%d}", train_from, train_to, test_from, test_from, test_to)
        )
        test_to = test_to - step * DAY
    return found[::-1]


def handbook_split(frame: pd.DataFrame, week: Week) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows of the Handbook's data train and which test in a week.

    A fraud is known a waiting time after the end of its day. From a test day those customers are
    taken out whose first fraud since the training began is known by then; later days lose more.
    Frauds before the training are forgotten, as in the Handbook.

    Parameters
    ----------
    frame : DataFrame
        ``time``, ``customer``, ``is_fraud``.
    week : Week
        Its waiting time is a whole number of days.

    Returns
    -------
    train, test : ndarray of bool, shape (n,)

    Raises
    ------
    ValueError
        When a column is missing, the waiting time is not of whole days, or a span has no rows.
    """
    need_columns(frame, ("time", "customer", "is_fraud"), "the frame")
    wait = (week.test_from - week.train_to) / DAY
    if wait != int(wait):
        raise ValueError(f"{week.name} waits {wait} days: labels come day by day here")
    time = frame["time"]
    train = ((time >= week.train_from) & (time < week.train_to)).to_numpy()
    test = ((time >= week.test_from) & (time < week.test_to)).to_numpy()
    for name, rows in (("train", train), ("test", test)):
        if not rows.any():
            raise ValueError(f"no row of the frame is in the {name} span of {week.name}")
    day = np.floor((time - week.train_from) / DAY).to_numpy()
    fraud = (frame["is_fraud"] == 1).to_numpy() & (day >= 0)
    first = pd.Series(day[fraud]).groupby(frame["customer"].to_numpy()[fraud]).min()
    found = frame["customer"].map(first).fillna(np.inf).to_numpy()
    return train, test & (found + wait + 1 > day)


def world_split(
    world: World, week: Week, wait: float | None = None
) -> tuple[pd.Series, pd.DataFrame]:
    """Return the labels to learn from, as known when the test begins, and the test with its truth.

    The bank cancels cards of its own when it learns of a fraud, so none are taken out here.

    Parameters
    ----------
    world : World
    week : Week
    wait : float, optional
        Days after which a transaction without a chargeback counts as genuine; those from the end
        of the training to the test by default.

    Returns
    -------
    labels : Series of int
        Index ``transaction``: what went through in the training span and is labelled at
        ``known_at``. What was stopped has no label.
    test : DataFrame
        Index ``transaction``: ``time`` (of arrival), ``card``, ``customer``, ``amount``,
        ``y`` (the truth), ``scenario``. Retries of a request are left out.

    Raises
    ------
    ValueError
        When a span has no rows.
    """
    table = world.transactions
    wait = (week.known_at - week.train_to) / DAY if wait is None else wait
    received = table.set_index("transaction")["received"]
    labels = visible_labels(world, week.known_at, wait).set_index("transaction")["chargeback"]
    at = received.reindex(labels.index)
    labels = labels[(at >= week.train_from) & (at < week.train_to)].astype(int)
    rows = (table["received"] >= week.test_from) & (table["received"] < week.test_to)
    rows &= ~table["request"].duplicated()
    test = table.loc[rows, ["transaction", "received", "card", "customer", "amount"]]
    test = test.rename(columns={"received": "time"}).set_index("transaction")
    truth = world.truth.set_index("transaction").loc[test.index]
    test = test.assign(y=truth["is_fraud"].astype(int), scenario=truth["scenario"])
    for name, part in (("train", labels), ("test", test)):
        if part.empty:
            raise ValueError(
                f"no row of the world is in the {name} span of {week.name}, or none has a label "
                "by then"
            )
    return labels, test


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


def calibration_error(y: ArrayLike, p: ArrayLike, bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal width.

    Parameters
    ----------
    y : array_like of 0 and 1, shape (n,)
    p : array_like of float, shape (n,)
    bins : int

    Returns
    -------
    float
        Mean over rows of the distance between predicted and observed share of their bin. With rare
        fraud nearly all rows are in the first bin: a constant passes.

    Raises
    ------
    ValueError
        As :func:`average_precision`, and when probabilities leave 0 to 1.
    """
    y, p = _pair(y, p)
    _probabilities(p)
    bin_of = np.minimum((p * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(bin_of, p - y)).sum() / len(y))


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
