"""Likes split by time and at random, and recommenders scored by what each user likes next.

A rating of four stars or more is a like. *By time*: models are fitted on the likes before one
moment; of the later likes of a user the earlier half is known when the list is made, the later half
is to be found. *At random*: the same users, and as many likes of each to be found, drawn by chance
from all of his; the models see as many likes as before, many of them later than what is to be
found, which flatters them.

Examples
--------
Four users like nine films, one after the other; the last of the later likes are to be found:

>>> import numpy as np
>>> days = pd.date_range("2026-01-01", periods=36)
>>> user, item = np.arange(36) % 4, np.arange(36) // 4
>>> table = pd.DataFrame({"user": user, "item": item, "at": days})
>>> moment, wanted = later_halves(table, cut=0.5)
>>> str(moment.date()), np.flatnonzero(wanted).tolist()
('2026-01-18', [28, 29, 30, 31, 32, 33, 34, 35])

References
----------
Ji, Sun, Zhang & Li (2023), *A critical study on data leakage in recommender system offline
evaluation*, ACM TOIS 41.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from casebook.evaluate.ranking import ndcg_at, recall_at, relevant
from casebook.retrieval.factors import ease, ials, interactions, item_item, top

#: Stars of a like; likes that a film needs before the moment to be in the catalogue.
LIKED, FEWEST = 4.0, 5
#: Shares of the likes before the moment of the test, and before that of the validation within.
CUT, CUT_WITHIN = 0.7, 0.7
#: Places of a list; splits by chance whose mean counts.
PLACES, DRAWS = 20, 3

Settings = Mapping[str, float]


@dataclass(frozen=True)
class Split:
    """What models are fitted on, what is known of the users of the test, what is to be found.

    Attributes
    ----------
    train : csr_matrix, shape (users, items)
    known, wanted : csr_matrix, shape (n, items)
        Of the users of the test.
    lost : ndarray of int, shape (n,)
        Likes to be found of films that the catalogue lacks: nobody finds them, and they count.
    """

    train: sp.csr_matrix
    known: sp.csr_matrix
    wanted: sp.csr_matrix
    lost: np.ndarray


def likes(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return the likes: ``user``, ``item``, ``at``, in order of time."""
    return ratings.loc[ratings["rating"] >= LIKED, ["user", "item", "at"]].reset_index(drop=True)


def later_halves(table: pd.DataFrame, cut: float) -> tuple[pd.Timestamp, np.ndarray]:
    """Return the moment of the cut, and of which rows the list is to find the film."""
    moment = table["at"].quantile(cut, interpolation="lower")
    after = (table["at"] >= moment).to_numpy()
    own = table[after].groupby("user")["at"]
    place, of = own.cumcount(), own.transform("size")
    wanted = after.copy()
    wanted[after] = (place >= of - of // 2).to_numpy()
    return moment, wanted


def _split(table: pd.DataFrame, train: np.ndarray, wanted: np.ndarray, known: np.ndarray) -> Split:
    """Lay out three choices of rows as matrices; the catalogue is that of the training."""
    count = table.loc[train, "item"].value_counts()
    items = pd.Index(np.sort(count.index[count >= FEWEST]))
    users = pd.Index(np.sort(table.loc[wanted, "user"].unique()))
    row, column = users.get_indexer(table["user"]), items.get_indexer(table["item"])
    every = pd.factorize(table["user"])[0]
    inside = column >= 0
    shape = (len(users), len(items))
    keep = known & inside & (row >= 0)
    found, fit = wanted & inside, train & inside
    return Split(
        interactions(every[fit], column[fit], (every.max() + 1, len(items))),
        interactions(row[keep], column[keep], shape),
        relevant(row[found], column[found], shape),
        np.bincount(row[wanted & ~inside], minlength=len(users)),
    )


def by_time(table: pd.DataFrame, cut: float = CUT) -> Split:
    """Split likes at one moment.

    Parameters
    ----------
    table : DataFrame
        Of :func:`likes`.
    cut : float
        Share of the likes before the moment.
    """
    moment, wanted = later_halves(table, cut)
    before = (table["at"] < moment).to_numpy()
    return _split(table, before, wanted, ~wanted)


def at_random(table: pd.DataFrame, cut: float = CUT, seed: int = 0) -> Split:
    """Split the likes of the same users by chance, as many as :func:`by_time` holds out of each.

    Parameters
    ----------
    table, cut
        As of :func:`by_time`.
    seed : int
    """
    rng = np.random.default_rng(seed)
    moment, wanted = later_halves(table, cut)
    many = table.loc[wanted, "user"].value_counts()
    order = pd.Series(rng.random(len(table))).groupby(table["user"].to_numpy()).rank()
    drawn = (order <= table["user"].map(many).fillna(0)).to_numpy()
    rest = np.flatnonzero(~drawn)
    train = np.zeros(len(table), bool)
    train[rng.choice(rest, int((table["at"] < moment).sum()), replace=False)] = True
    return _split(table, train, drawn, ~drawn)


def scorer(
    name: str, train: sp.csr_matrix, settings: Settings
) -> Callable[[sp.csr_matrix], np.ndarray]:
    """Return how a model scores all items for users by what is known of them."""
    if name == "popularity":
        count = np.asarray(train.sum(axis=0)).ravel()
        return lambda known: np.tile(count, (known.shape[0], 1))
    if name == "iALS":
        fitted = ials(train, **settings)
        return lambda known: fitted.fold_in(known) @ fitted.items.T
    weights = item_item(train, **settings) if name == "item-item" else ease(train, **settings)
    return lambda known: known @ weights


def by_user(split: Split, name: str, settings: Settings) -> pd.DataFrame:
    """Return recall and gain of a model's lists for each user of the test."""
    lists = top(scorer(name, split.train, settings)(split.known), PLACES, without=split.known)
    # A film that the catalogue lacks is one more column that no list holds.
    most = int(split.lost.max(initial=0))
    extra = relevant(
        np.repeat(np.arange(len(lists)), split.lost),
        np.concatenate([np.arange(n) for n in split.lost]).astype(int),
        (len(lists), max(most, 1)),
    )
    wanted = sp.hstack([split.wanted, extra], format="csr")
    return pd.DataFrame(
        {"recall": recall_at(lists, wanted, PLACES), "ndcg": ndcg_at(lists, wanted, PLACES)}
    )
