"""Rankers: logistic regression, LambdaMART, trees with log-loss; same features, rows and trials.

A row is an impression of the log, with the features of the midnight before. The slot is a feature
too, for who does not look cannot click; when lists are made it is the first for all. Rows of the
random slice may count more than those that the shop's own policy chose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from casebook.cases.recommendations import candidates
from casebook.cases.recommendations.nights import NAMES, PAGES, Known, Log, features, known

#: Days between two fits of EASE and item–item.
WEEK = 7
Settings = Mapping[str, float]
Score = Callable[[np.ndarray], np.ndarray]
#: With two leaves a tree asks one question, and the trees add up as a regression does.
_TREES = tuple(
    {"num_leaves": k, "n_estimators": n, "random": r}
    for k, n, r in (
        *((2, 300, 1.0), (2, 600, 1.0), (2, 1_200, 1.0), (3, 300, 1.0), (3, 600, 1.0)),
        *((4, 300, 1.0), (7, 120, 1.0), (2, 600, 5.0), (2, 600, 20.0)),
    )
)
#: Nine trials for each.
TRIALS: Mapping[str, tuple[Settings, ...]] = {
    "logistic": tuple({"C": c, "random": r} for c in (3e-4, 3e-3, 0.1) for r in (1.0, 5.0, 20.0)),
    "trees": _TREES,
    "pointwise": _TREES,
}


@dataclass(frozen=True)
class Asked:
    """Lists that were asked for, and what was shown, a row each.

    Attributes
    ----------
    user, day, page, surface : ndarray of int, shape (n,)
    recent : ndarray of int, shape (n, k)
        Items of the pages that the user opened before on the day, newest first; −1: none.
    lists : ndarray of int, shape (n, slots)
    clicked, bought : ndarray of bool, shape (n, slots)
    random : ndarray of bool, shape (n,)
    chance : ndarray, shape (n,)
        Of each item that chance might have shown, to stand in a given slot; NaN where the shop's
        policy chose.
    """

    user: np.ndarray
    day: np.ndarray
    page: np.ndarray
    surface: np.ndarray
    recent: np.ndarray
    lists: np.ndarray
    clicked: np.ndarray
    bought: np.ndarray
    random: np.ndarray
    chance: np.ndarray

    def where(self, rows: np.ndarray) -> Asked:
        """Return some of the rows."""
        return Asked(**{name: values[rows] for name, values in vars(self).items()})


def opened_before(user: np.ndarray, day: np.ndarray, page: np.ndarray) -> np.ndarray:
    """Return the pages that each user opened before on the same day; rows are in order of time."""
    made = np.full((len(user), PAGES), -1)
    rows = np.flatnonzero(page >= 0)
    of = pd.factorize(user * 1_000 + day)[0]
    order = np.lexsort((np.arange(len(user)), of))
    place = pd.Series(page >= 0).astype(int).groupby(of).cumsum().to_numpy() - (page >= 0)
    first = np.zeros(of.max(initial=0) + 2, int)
    kept = order[np.isin(order, rows)]
    first[1:] = np.bincount(of[kept], minlength=of.max(initial=0) + 1).cumsum()
    for back in range(PAGES):
        there = place > back
        made[there, back] = page[kept[(first[of] + place - 1 - back)[there]]]
    return made


def asked(shown: pd.DataFrame, days: Sequence[int], slots: int = 10) -> Asked:
    """Return the lists of some days."""
    part = shown[shown["day"].isin([*days])]
    first = part.iloc[::slots]
    wide = {name: part[name].to_numpy().reshape(-1, slots) for name in ("clicked", "bought")}
    user, day, page = (first[name].to_numpy(int) for name in ("user", "day", "seed_item"))
    return Asked(
        *(user, day, page, first["surface"].cat.codes.to_numpy(int)),
        opened_before(user, day, page),
        part["item"].to_numpy(int).reshape(-1, slots),
        **wide,
        random=first["random"].to_numpy(),
        chance=first["chance"].to_numpy(),
    )


class Nights:
    """The midnights of a shop and the weekly fits, each made once.

    Parameters
    ----------
    log : Log
    """

    def __init__(self, log: Log) -> None:
        self.log, self._known, self._taste = log, {}, {}

    def known(self, day: int) -> Known:
        """Return what a midnight knows."""
        if day not in self._known:
            self._known[day] = known(self.log, day)
        return self._known[day]

    def taste(self, day: int) -> candidates.Taste:
        """Return the models of the last Monday that is not after a day."""
        week = day // WEEK * WEEK
        if week not in self._taste:
            self._taste[week] = candidates.Taste(self.known(week).taken)
        return self._taste[week]


def of_lists(nights: Nights, some: Asked, lists: np.ndarray | None = None) -> np.ndarray:
    """Return features of the items of lists as of the midnight before, shape (n, m, features)."""
    lists = some.lists if lists is None else lists
    made = np.empty((*lists.shape, len(NAMES)), "f4")
    for day in np.unique(some.day):
        rows = np.flatnonzero(some.day == day)
        night, taste = nights.known(day), nights.taste(day)
        part = some.where(rows)
        every = candidates.scored(night, taste, part.user, part.page)
        here = np.maximum(lists[rows], 0)
        scores = {name: np.take_along_axis(s, here, axis=1) for name, s in every.items()}
        made[rows] = features(night, part.user, here, part.page, part.surface, scores, part.recent)
    return made


@dataclass(frozen=True)
class Linear:
    """Log-odds of a click in the first slot.

    Attributes
    ----------
    slope : ndarray, shape (features,)
    level : float
    """

    slope: np.ndarray
    level: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return scores of features, shape (..., features)."""
        return x @ self.slope + self.level


def _with_slot(x: np.ndarray) -> np.ndarray:
    """Return features with the slot as the last one."""
    slot = np.broadcast_to(np.arange(x.shape[1], dtype="f4")[:, None], (*x.shape[:2], 1))
    return np.concatenate([x, slot], axis=2)


def _weights(random: np.ndarray, slots: int, times: float) -> np.ndarray:
    return np.repeat(np.where(random, times, 1.0), slots)


def logistic(x: np.ndarray, some: Asked, settings: Settings, label: str = "clicked") -> Score:
    """Fit a logistic regression on standardised features; see :func:`of_lists`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows = _with_slot(x).reshape(-1, x.shape[2] + 1)
    weight = _weights(some.random, x.shape[1], settings["random"])
    scaler = StandardScaler().fit(rows)
    model = LogisticRegression(C=settings["C"], max_iter=300)
    model.fit(scaler.transform(rows), getattr(some, label).ravel(), weight)
    slope = model.coef_[0] / scaler.scale_
    level = float(model.intercept_[0] - scaler.mean_ @ slope)
    return Linear(slope[:-1].astype("f4"), level)


def _boosted(x: np.ndarray, some: Asked, settings: Settings, ranks: bool) -> Score:
    """Fit LightGBM to impressions: to the order within their lists, or to each click."""
    import lightgbm

    rows = _with_slot(x).reshape(-1, x.shape[2] + 1)
    given = {k: int(settings[k]) for k in ("num_leaves", "n_estimators")}
    fixed = {"learning_rate": 0.05, "min_child_samples": 50, "n_jobs": 1, "verbose": -1}
    fixed |= {"random_state": 0, "deterministic": True, "force_row_wise": True}
    if ranks:
        model = lightgbm.LGBMRanker(**given, **fixed, lambdarank_truncation_level=10)
        more = {"group": np.full(len(x), x.shape[1])}
    else:
        model, more = lightgbm.LGBMRegressor(objective="binary", **given, **fixed), {}
    weight = _weights(some.random, x.shape[1], settings["random"])
    model.fit(rows, some.clicked.ravel().astype(int), sample_weight=weight, **more)

    def score(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(-1, x.shape[-1])
        rows = np.c_[flat, np.zeros(len(flat))]
        return model.predict(rows, raw_score=True).reshape(x.shape[:-1])

    return score


#: ``trees`` is LambdaMART, ``pointwise`` the same trees with log-loss; see :func:`of_lists`.
LEARNERS: Mapping[str, Callable[[np.ndarray, Asked, Settings], Score]] = {
    "logistic": logistic,
    "trees": partial(_boosted, ranks=True),
    "pointwise": partial(_boosted, ranks=False),
}
#: What did best of the trials in the worlds of the choice.
CHOSEN: Mapping[str, Settings] = {
    "logistic": {"C": 0.003, "random": 1.0},
    "trees": {"num_leaves": 2, "n_estimators": 1_200, "random": 1.0},
    "pointwise": {"num_leaves": 2, "n_estimators": 1_200, "random": 1.0},
}
