"""One function decides: :func:`recommend` makes the lists of page, mail, service and benchmark."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from casebook.cases.recommendations import candidates, rankers
from casebook.cases.recommendations.catalogue import SURFACES
from casebook.cases.recommendations.nights import PAGES, Known, features
from casebook.cases.recommendations.rankers import Asked, Nights, Score, asked, of_lists
from casebook.cases.recommendations.rules import Rules, reranked, wanted

#: Days of the log on which the ranker is fitted.
FITTED = 14


@dataclass(frozen=True)
class Parts:
    """What the night has fitted; it can be pickled.

    Attributes
    ----------
    taste : Taste
    rank : callable
        From features to log-odds.
    rules : Rules
    """

    taste: candidates.Taste
    rank: Score
    rules: Rules


@dataclass(frozen=True)
class Lists:
    """Lists of a request each.

    Attributes
    ----------
    items : ndarray of int, shape (n, count)
        Best first; −1: an empty place.
    scores : ndarray, shape (n, count)
        Log-odds of a click, with the weights of the rules.
    proposed : dict of str to ndarray of int, shape (n, k)
        Items by source.
    """

    items: np.ndarray
    scores: np.ndarray
    proposed: dict[str, np.ndarray]

    def sources(self, row: int = 0) -> list[list[str]]:
        """Return which sources proposed each item of a list."""
        return [
            [name for name, lists in self.proposed.items() if item in lists[row]]
            for item in self.items[row].tolist()
        ]


def fitted(
    nights: Nights, day: int, rules: Rules | None = None, learner: str = "logistic"
) -> Parts:
    """Fit the parts on what a midnight knows.

    Parameters
    ----------
    nights : Nights
    day : int
        The ranker learns from the two weeks before it.
    rules : Rules, optional
    learner : str
        Of :data:`.rankers.LEARNERS`, with its chosen settings.
    """
    some = asked(nights.log.shown, range(max(day - FITTED, 7), day))
    if not some.clicked.any():
        raise ValueError(f"no click in the two weeks before day {day}: there is nothing to learn.")
    rank = rankers.LEARNERS[learner](of_lists(nights, some), some, rankers.CHOSEN[learner])
    taste = nights.taste(day)
    _ = taste.ease, taste.together  # made now, not while somebody waits
    return Parts(taste, rank, rules or Rules())


def _checked(night: Known, users, pages, surfaces, stock, recent) -> tuple[np.ndarray, ...]:
    """Return the arguments as arrays, or raise a ``ValueError`` that says what is wrong."""
    users, pages, surfaces = (np.atleast_1d(np.asarray(a)) for a in (users, pages, surfaces))
    n, people, size = len(users), len(night.heard) - 1, len(night.goods.category)
    if recent is None:
        recent = np.full((n, PAGES), -1)
    elif not isinstance(recent, np.ndarray):
        padded = [[*row[:PAGES], *[-1] * (PAGES - len(row[:PAGES]))] for row in recent]
        recent = np.array(padded, int).reshape(n, PAGES)
    for what, given, low, high in (
        ("user", users, -1, people),
        ("page", pages, -1, size),
        ("recent item", recent, -1, size),
        ("surface", surfaces, 0, len(SURFACES)),
    ):
        if given.dtype.kind not in "iu" or len(given) != n:
            raise ValueError(f"{what}: whole numbers are expected, one row for each request.")
        if given.size and (given.min() < low or given.max() >= high):
            raise ValueError(f"a {what} is outside of {low} … {high - 1}: is it of a newer night?")
    stock = np.asarray(stock)
    if stock.shape != (size,) or stock.dtype != bool:
        raise ValueError(f"stock of {stock.dtype}, shape {stock.shape}: a flag for each item.")
    return users, pages, surfaces, stock, recent


def recommend(
    parts: Parts,
    night: Known,
    users: np.ndarray,
    pages: np.ndarray,
    surfaces: np.ndarray,
    stock: np.ndarray,
    recent: np.ndarray | list[tuple[int, ...]] | None = None,
    count: int = 10,
    stage: Callable[[str], AbstractContextManager] = nullcontext,
) -> Lists:
    """Return the lists of some requests.

    Parameters
    ----------
    parts : Parts
    night : Known
    users, pages, surfaces : array_like of int, shape (n,)
        −1 as user: nobody is known; −1 as page: a mail. Surfaces are positions in ``SURFACES``.
    stock : ndarray of bool, shape (items,)
    recent : list of tuples, or ndarray of int, shape (n, 5), optional
        Items opened since the midnight, newest first (an array is filled up with −1).
    count : int
    stage : callable
        A context manager by name around each stage: ``candidates``, ``ranking``, ``rules``.

    Returns
    -------
    Lists

    Raises
    ------
    ValueError
        If a number is unknown to the night, or an argument has another shape.
    """
    users, pages, surfaces, stock, recent = _checked(night, users, pages, surfaces, stock, recent)
    if not parts.rules.stock:
        stock = np.ones_like(stock)
    with stage("candidates"):
        every = candidates.scored(night, parts.taste, users, pages)
        proposed = candidates.proposed(night, every, users, pages, stock)
        items = candidates.merged(proposed, least=count)
    with stage("ranking"):
        at = np.maximum(items, 0)
        scores = {name: np.take_along_axis(s, at, axis=1) for name, s in every.items()}
        odds = parts.rank(features(night, users, at, pages, surfaces, scores, recent))
    with stage("rules"):
        odds = wanted(parts.rules, night, users, items, odds, recent)
        best = reranked(parts.rules, night, items, odds, count)
    items, odds = (np.take_along_axis(values, best, axis=1) for values in (items, odds))
    # Where candidates run out the same place is chosen again: it stays empty.
    twice = np.tril(items[:, :, None] == items[:, None, :], -1).any(axis=2)
    return Lists(np.where(twice, -1, items), np.where(twice, 0.0, odds), proposed)


def for_days(
    nights: Nights,
    parts: Parts,
    some: Asked,
    stock: np.ndarray,
    changed: Callable[[Known], Known] = lambda night: night,
) -> np.ndarray:
    """Return lists of requests on several days, each as of its own midnight, shape (n, slots).

    ``stock`` has a row for each day; ``changed`` may alter what a midnight knows. Many requests of
    a day are taken in parts.
    """
    made = np.empty((len(some.user), 10), int)
    for day in np.unique(some.day):
        rows, night = np.flatnonzero(some.day == day), changed(nights.known(day))
        for part in np.array_split(rows, max(1, len(rows) // 500)):
            own = some.where(part)
            given = own.user, own.page, own.surface, stock[day], own.recent
            made[part] = recommend(parts, night, *given).items
    return made
