"""What a list of ten is worth, from what another policy showed: logged clicks, and a random slice.

A *slate* is a list whose slots are looked at less and less often. Logged clicks say which of them a
candidate names too: recall, NDCG. They can only be clicks on what was shown. Where some slates were
drawn by chance, with the chance logged, :func:`random_slice` gives each impression the weight with
which it tells about a candidate, and the estimators of :mod:`.off_policy` do the rest. Their click
model is :func:`fit_appeal`: a click is a look times an appeal.

Examples
--------
Slates of two out of four items, as likely each; the second slot is looked at half as often:

>>> shown = np.array([[0, 1], [1, 2], [3, 0], [2, 3]])
>>> clicked = np.array([[1, 0], [0, 0], [0, 0], [0, 1]])
>>> candidate = np.tile([0, 3], (4, 1))
>>> part = random_slice(shown, candidate, look=[1.0, 0.5], chance=np.full(4, 0.25))
>>> part.target.round(2).tolist()
[0.67, 0.0, 0.0, 0.0, 0.33, 0.67, 0.0, 0.33]
>>> round(slate_value(part, clicked, "ips").value, 2)
1.0

References
----------
Craswell, Zoeter, Taylor & Ramsey (2008), *An experimental comparison of click position-bias
models*, WSDM; Li, Kim & Zitouni (2015), *Toward predicting the outcome of an A/B experiment for
search relevance*, WSDM; Yang, Cui, Xuan, Wang, Belongie & Estrin (2018), *Unbiased offline
recommender evaluation for missing-not-at-random implicit feedback*, RecSys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.evaluate.experiments import ratio_with_se
from casebook.evaluate.off_policy import Estimate, Z, dr, ips, snips


def mean_over(values: ArrayLike, clusters: ArrayLike, weights: ArrayLike | float = 1.0) -> Estimate:
    """Return a (weighted) mean of rows with an interval over their clusters.

    Parameters
    ----------
    values : array_like, shape (n,)
    clusters : array_like, shape (n,)
        What would be new next time, such as users.
    weights : array_like, shape (n,), or float

    Raises
    ------
    ValueError
        With fewer than two clusters.
    """
    values = np.asarray(values, float)
    weights = np.broadcast_to(np.asarray(weights, float), values.shape)
    _, code = np.unique(np.asarray(clusters), return_inverse=True)
    value, se = ratio_with_se(np.bincount(code, values * weights), np.bincount(code, weights))
    return Estimate(value, se, value - Z * se, value + Z * se, float(code.max() + 1))


def places(shown: ArrayLike, lists: ArrayLike) -> np.ndarray:
    """Return where in the candidate's list each item stands that was shown; −1 for nowhere.

    Parameters
    ----------
    shown : array_like of int, shape (n, m)
    lists : array_like of int, shape (n, k)
        Row for row.

    Returns
    -------
    ndarray of int, shape (n, m)

    Raises
    ------
    ValueError
        If there are not as many lists as slates.
    """
    shown, lists = np.asarray(shown), np.asarray(lists)
    if shown.ndim != 2 or lists.ndim != 2 or len(shown) != len(lists):
        raise ValueError(f"slates {shown.shape}, lists {lists.shape}: give a list for each slate.")
    found = np.full(shown.shape, -1)
    for slot in range(lists.shape[1]):
        found[shown == lists[:, [slot]]] = slot
    return found


# Logged clicks ------------------------------------------------------------------------


def logged_recall(
    shown: ArrayLike,
    clicked: ArrayLike,
    lists: ArrayLike,
    clusters: ArrayLike,
    share: ArrayLike | None = None,
) -> Estimate:
    """Return the share of the clicks that are on items which the candidate names.

    Parameters
    ----------
    shown, lists
        As for :func:`places`.
    clicked : array_like of bool, shape (n, m)
    clusters : array_like, shape (n,)
    share : array_like, shape (items,), optional
        How often each item was shown; a click then counts one over it. That is a mean over all
        slates, and the right chance for none.

    Examples
    --------
    >>> shown, clicked = [[5, 1], [7, 1]], [[1, 1], [0, 1]]
    >>> logged_recall(shown, clicked, [[1, 2], [3, 4]], [0, 1]).value
    0.3333333333333333
    """
    row, slot = np.nonzero(np.asarray(clicked))
    hit = places(shown, lists)[row, slot] >= 0
    weight = 1.0 if share is None else 1 / np.asarray(share)[np.asarray(shown)[row, slot]]
    return mean_over(hit, np.asarray(clusters)[row], weight)


def logged_ndcg(
    shown: ArrayLike, clicked: ArrayLike, lists: ArrayLike, clusters: ArrayLike
) -> Estimate:
    """Return the mean NDCG of the candidate's lists, over slates with a click.

    Parameters
    ----------
    shown, clicked, lists, clusters
        As for :func:`logged_recall`.

    Examples
    --------
    >>> round(logged_ndcg([[5, 1], [7, 1]], [[1, 0], [0, 1]], [[5, 2], [3, 1]], [0, 1]).value, 3)
    0.815
    """
    clicked, place = np.asarray(clicked, bool), places(shown, lists)
    hit = clicked & (place >= 0)
    gain = np.where(hit, 1 / np.log2(np.maximum(place, 0) + 2.0), 0.0).sum(axis=1)
    count = np.minimum(clicked.sum(axis=1), np.shape(lists)[1])
    best = np.r_[1.0, (1 / np.log2(np.arange(np.shape(lists)[1]) + 2.0)).cumsum()]
    some = count > 0
    return mean_over((gain / best[count])[some], np.asarray(clusters)[some])


# The random slice ---------------------------------------------------------------------


def by_chance(
    rng: np.random.Generator, stock: np.ndarray, seed_item: np.ndarray, slots: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw lists evenly among the items in stock, without the page's own item.

    Parameters
    ----------
    rng : Generator
    stock : ndarray of bool, shape (items,)
    seed_item : ndarray of int, shape (n,)
        −1 for none.
    slots : int

    Returns
    -------
    lists : ndarray of int, shape (n, slots)
        No item twice.
    chance : ndarray, shape (n,)
        Of each item that may be drawn, to stand in a given slot: one over the items in stock, of
        which the page's own does not count.
    """
    among = np.flatnonzero(stock)
    lists = np.empty((len(seed_item), slots), int)
    again = np.arange(len(seed_item))
    while len(again):
        # A list with a repeated item is drawn anew as a whole: that leaves every list as likely.
        drawn = among[rng.integers(len(among), size=(len(again), slots))]
        lists[again] = drawn
        ordered = np.sort(drawn, axis=1)
        wrong = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        wrong |= (drawn == seed_item[again][:, None]).any(axis=1)
        again = again[wrong]
    own = (seed_item >= 0) & stock[seed_item]
    return lists, 1 / (len(among) - own)


class Appeal(NamedTuple):
    """Chances of a click by somebody who looks: a logistic function of features.

    Attributes
    ----------
    slope : ndarray, shape (features,)
    level : float
    """

    slope: np.ndarray
    level: float

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Return chances for features of shape (..., features)."""
        return 1 / (1 + np.exp(-(np.asarray(x, float) @ self.slope + self.level)))


def fit_appeal(x: ArrayLike, clicked: ArrayLike, look: ArrayLike, penalty: float = 10.0) -> Appeal:
    """Fit clicks as looks times an appeal, which is logistic in the features.

    A slot in the log-odds, as a feature, would tie looks to how appealing an item is; here they
    multiply, as they do if an item is clicked where it is looked at and appeals.

    Parameters
    ----------
    x : array_like, shape (n, slots, features)
    clicked : array_like of bool, shape (n, slots)
        Best on slates that were drawn by chance: there a slot says nothing about its item.
    look : array_like, shape (slots,)
        As :func:`look_curve` gives it.
    penalty : float
        On half the squares of the slopes of standardised features.

    Raises
    ------
    ValueError
        If shapes do not fit, or nothing or everything was clicked.

    Examples
    --------
    One in two looks at the second slot; of those who look, one in five clicks:

    >>> clicked = np.repeat([[1, 0], [0, 1], [0, 0]], [20, 10, 70], axis=0)
    >>> fit_appeal(np.zeros((100, 2, 1)), clicked, [1.0, 0.5])([[0.0]]).round(2)
    array([0.2])
    """
    from scipy.optimize import minimize

    x, y, look = np.asarray(x, float), np.asarray(clicked, float), np.asarray(look, float)
    if x.ndim != 3 or x.shape[:2] != y.shape or look.shape != y.shape[1:]:
        raise ValueError(
            f"features {x.shape}, clicks {y.shape}, looks {look.shape}: give features for each "
            "slot of each slate, and a look for each slot."
        )
    if not 0 < y.mean() < 1:
        raise ValueError(f"{y.sum():.0f} of {y.size} were clicked: there is nothing to learn.")
    mean, scale = x.mean(axis=(0, 1)), x.std(axis=(0, 1))
    scale = np.where(scale > 0, scale, 1.0)
    z, y, seen = ((x - mean) / scale).reshape(-1, x.shape[2]), y.ravel(), np.tile(look, len(x))

    def loss(given: np.ndarray) -> tuple[float, np.ndarray]:
        own = Appeal(given[1:], given[0])(z)
        p = np.clip(seen * own, 1e-12, 1 - 1e-9)
        value = -(y * np.log(p) + (1 - y) * np.log1p(-p)).sum()
        pull = ((1 - y) / (1 - p) - y / p) * seen * own * (1 - own)
        slope = given[1:]
        return value + penalty / 2 * slope @ slope, np.r_[pull.sum(), pull @ z + penalty * slope]

    start = np.zeros(z.shape[1] + 1)
    start[0] = np.log(y.mean())
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x
    slope = found[1:] / scale
    return Appeal(slope, float(found[0] - mean @ slope))


def look_curve(clicked: ArrayLike) -> np.ndarray:
    """Estimate how often each slot is looked at, as a share of the first, from random slates.

    There all slots hold the same items on average, so that clicks differ by looks alone: a
    geometric curve with the largest likelihood, to the nearest 0.0005.

    Parameters
    ----------
    clicked : array_like of bool, shape (n, slots)
        Of slates drawn by chance.

    Returns
    -------
    ndarray, shape (slots,)

    Raises
    ------
    ValueError
        With fewer than 20 clicks.

    Examples
    --------
    >>> look_curve(np.repeat([[1, 0], [0, 1], [0, 0]], [40, 20, 7], axis=0)).tolist()
    [1.0, 0.5]
    """
    clicks = np.asarray(clicked, float).sum(axis=0)
    if clicks.sum() < 20:
        raise ValueError(
            f"{clicks.sum():.0f} clicks on random slates: a curve needs 20; take more days."
        )
    slot, ratio = np.arange(len(clicks)), np.linspace(0.0005, 1, 2_000)
    curves = ratio[:, None] ** slot
    likely = np.log(np.maximum(curves / curves.sum(axis=1, keepdims=True), 1e-300)) @ clicks
    return curves[likely.argmax()].round(12)


class Slice(NamedTuple):
    """Random slates as a candidate sees them, an entry for each impression, slate by slate.

    Attributes
    ----------
    chance : ndarray
        Of the item, to stand in the slot.
    target : ndarray
        The share of the candidate's looks that falls on the item; 0 if it does not name it.
    look : ndarray, shape (slots,)
    """

    chance: np.ndarray
    target: np.ndarray
    look: np.ndarray


def random_slice(shown: ArrayLike, lists: ArrayLike, look: ArrayLike, chance: ArrayLike) -> Slice:
    """Return with which weights random slates tell about a candidate.

    An item tells what it is worth in whatever slot chance put it, for a look is a look: with looks
    that sum to E, an impression of an item that the candidate puts in slot t stands for
    ``look[t] / E`` over its chance. That makes more of few matches than to count those in the same
    slot alone.

    Parameters
    ----------
    shown : array_like of int, shape (n, slots)
        Slates that were drawn by chance.
    lists : array_like of int, shape (n, slots)
        Of the candidate, for the same requests. It may name only what might have been drawn.
    look : array_like, shape (slots,)
        As :func:`look_curve` gives it.
    chance : array_like, shape (n,)
        Of each item that might be drawn, to stand in a given slot.

    Raises
    ------
    ValueError
        Without slates, or if weights are off by far: their mean is one if chances are right.
    """
    look, chance = np.asarray(look, float), np.asarray(chance, float)
    if not len(np.asarray(shown)):
        raise ValueError("no slate is random: a slice needs some.")
    place = places(shown, lists)
    target = np.where(place >= 0, look[place] / look.sum(), 0.0).ravel()
    each = np.repeat(chance, place.shape[1])
    weight = target / each
    # Matches are a Poisson number. Beyond five standard errors and by half, the chance is wrong.
    se = np.sqrt(np.square(weight).sum()) / len(weight)
    if abs(weight.mean() - 1) > max(5 * se, 0.5):
        raise ValueError(
            f"the weights have the mean {weight.mean():.2f}, which is 1 for right chances: give "
            "the chance of an item to stand in one slot."
        )
    return Slice(each, target, look)


def slate_value(
    part: Slice,
    clicked: ArrayLike,
    how: str = "snips",
    clusters: ArrayLike | None = None,
    *,
    expected: ArrayLike | None = None,
    named: ArrayLike | None = None,
    most: float = np.inf,
) -> Estimate:
    """Return the clicks a slate of the candidate.

    Parameters
    ----------
    part : Slice
    clicked : array_like, shape (n, slots)
        On the slates that were shown.
    how : str
        ``"ips"``, ``"snips"``, or ``"dr"`` (doubly robust).
    clusters : array_like, shape (n,), optional
        By default the slates.
    expected, named : array_like, shape (n, slots)
        For ``"dr"``: chances of a click by somebody who looks, by a model fitted on other slates,
        such as those of the weeks before, on the items that were shown and on those that the
        candidate names.
    most : float
        Weights are cut to it: the smaller, the less noise, and the more the model decides alone.

    Raises
    ------
    ValueError
        If there is no such estimator, or the model of ``"dr"`` is missing.
    """
    clicked = np.asarray(clicked, float)
    n, slots = clicked.shape
    clusters = np.repeat(np.arange(n) if clusters is None else np.asarray(clusters), slots)
    log = (clicked.ravel(), part.chance, part.target)
    if how in ("ips", "snips"):
        found = {"ips": ips, "snips": snips}[how](*log, clusters, most)
    elif how == "dr" and expected is not None and named is not None:
        under = np.repeat(np.asarray(named) @ part.look / slots, slots)
        found = dr(*log, (np.asarray(expected) * part.look).ravel(), under, clusters, most)
    else:
        raise ValueError(f"{how!r}: choose ips, snips or dr; dr needs expected and named.")
    return Estimate(*(slots * value for value in found[:4]), found.effective)


# Judges -------------------------------------------------------------------------------


def verdicts(table: pd.DataFrame, always: Sequence[str]) -> pd.DataFrame:
    """Return whom each judge names, and what is lost by it; with judges who name the same always.

    Parameters
    ----------
    table : DataFrame
        ``candidate``, ``judge``, ``value``: what each judge says; one of them is ``truth``.
    always : sequence of str
        The candidates that the controls name without looking.

    Returns
    -------
    DataFrame
        By judge: ``named``, ``right``, ``truth`` (of who is named), ``loss`` (to the best one).

    Raises
    ------
    ValueError
        Without the truth, or one of those who are always named.

    Examples
    --------
    >>> rows = [("a", "truth", 1.0), ("b", "truth", 2.0), ("a", "clicks", 9.0), ("b", "clicks", 5)]
    >>> table = pd.DataFrame(rows, columns=["candidate", "judge", "value"])
    >>> verdicts(table, always=["b"])["loss"].to_dict()
    {'clicks': 1.0, 'truth': 0.0, 'always b': 0.0}
    """
    wide = table.pivot(index="candidate", columns="judge", values="value")
    if not {*always} <= {*wide.index} or "truth" not in wide:
        raise ValueError(f"the table needs the truth and the candidates {always}.")
    truth = wide["truth"]
    named = {judge: wide[judge].idxmax() for judge in wide} | {f"always {a}": a for a in always}
    held = truth.loc[[*named.values()]].to_numpy()
    columns = {"named": [*named.values()], "right": held >= truth.max(), "truth": held}
    made = pd.DataFrame(columns, index=pd.Index([*named], name="judge"))
    return made.assign(loss=truth.max() - made["truth"])
