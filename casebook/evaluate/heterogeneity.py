"""Who gains and who loses: segments, a forest with honest intervals, and the winner's curse.

Honest means that the users who decide where a tree splits are not those whose outcomes are averaged
in its leaves. The forest is small and written out; `econml` and `grf` have it for production.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.evaluate import variance
from casebook.evaluate.experiments import welch


def segment_effects(
    table: pd.DataFrame,
    metric: ArrayLike,
    treated: ArrayLike,
    by: Sequence[str],
    adjusted: ArrayLike | None = None,
    least: int = 30,
) -> pd.DataFrame:
    """Return the effect within each segment by Welch's test, relative to its own control.

    A metric that was adjusted over all users no longer has the level of the segment: the past of
    light users lifts them to the mean of all. Its differences are those of the metric, its means
    are not, so the base of each relative effect is the control mean of the metric as it was
    measured.

    Parameters
    ----------
    table : DataFrame
        The columns of ``by``, a row for each user.
    metric : array_like, shape (n,)
        As it was measured.
    treated : array_like of bool, shape (n,)
    by : sequence of str
        Their combinations are the segments.
    adjusted : array_like, shape (n,), optional
        The same metric after :func:`~casebook.evaluate.variance.cuped`.
    least : int
        Users of an arm; smaller segments are left out.

    Returns
    -------
    DataFrame
        ``segment``, ``users``, ``relative``, ``se`` (relative), ``low``, ``high``, ``p``.
    """
    rows, metric, treated = [], np.asarray(metric, float), np.asarray(treated, bool)
    values = metric if adjusted is None else np.asarray(adjusted, float)
    for name, places in table.groupby(list(by), observed=True).indices.items():
        t = treated[places]
        if min(t.sum(), (~t).sum()) < least:
            continue
        own, usual = welch(values[places][~t], values[places][t]), metric[places][~t].mean()
        label = " · ".join(map(str, name)) if isinstance(name, tuple) else str(name)
        ends = np.array([own.effect, own.se, own.low, own.high]) / usual
        rows.append((label, len(places), *ends, own.p))
    return pd.DataFrame(rows, columns=["segment", "users", "relative", "se", "low", "high", "p"])


class Shrunk(NamedTuple):
    """Effects of many segments or launches, pulled to their mean.

    Attributes
    ----------
    effect, se : ndarray, shape (n,)
        Posterior means and standard deviations.
    mean, sd : float
        Of the true effects, as estimated from all of them.
    """

    effect: np.ndarray
    se: np.ndarray
    mean: float
    sd: float


def shrink(effects: ArrayLike, ses: ArrayLike) -> Shrunk:
    """Shrink noisy effects by empirical Bayes: the less, the more they differ beyond their noise.

    Parameters
    ----------
    effects, ses : array_like, shape (n,)
        Estimates with their standard errors, three at least.

    References
    ----------
    Lee & Shen (2018), *Winner's curse: bias estimation for total effects of features in online
    controlled experiments*, KDD; DerSimonian & Laird (1986), *Meta-analysis in clinical trials*.

    Examples
    --------
    >>> made = shrink([-0.04, 0.01, 0.06, 0.01], [0.02] * 4)
    >>> made.effect.round(3).tolist(), round(made.sd, 3)
    ([-0.028, 0.01, 0.048, 0.01], 0.036)
    """
    effects, variance = np.asarray(effects, float), np.square(np.asarray(ses, float))
    if len(effects) < 3 or len(effects) != len(variance) or (variance <= 0).any():
        raise ValueError("Give three effects at least, each with a standard error above zero.")
    weight = 1 / variance
    mean = np.average(effects, weights=weight)
    spread = weight @ np.square(effects - mean) - (len(effects) - 1)
    between = max(0.0, spread / (weight.sum() - np.square(weight).sum() / weight.sum()))
    mean = np.average(effects, weights=1 / (variance + between))
    keep = between / (between + variance)
    return Shrunk(
        mean + keep * (effects - mean), np.sqrt(keep * variance), float(mean), float(between**0.5)
    )


def shrunk(effect: float, se: float, mean: float = 0.005, sd: float = 0.02) -> tuple[float, float]:
    """Return effect and standard error after a normal prior: what earlier launches looked like.

    Parameters
    ----------
    effect, se : float
        Of this test.
    mean, sd : float
        Of the true effects of earlier launches.
    """
    weight = sd**2 / (sd**2 + se**2)
    return mean + weight * (effect - mean), float(np.sqrt(weight)) * se


class HonestForest:
    """A forest of causal trees with honest leaves and intervals from little bags.

    Each group of trees gets one random half of the users. Within it, each tree takes a half to find
    its splits (regression on ``y`` times ±2, whose mean is the effect) and the rest to average the
    difference of the arms in its leaves. Groups differ as experiments of half the size do: that,
    less the part that is due to few trees, is the variance. The intervals hold the noise and not
    the bias: leaves mix unlike users, so a forest pulls effects to their mean. It ranks users well;
    what a group gains is measured on users that the forest has not seen (:func:`by_rank`).

    Parameters
    ----------
    groups, trees : int
        Groups, and trees in each.
    leaf : int
        Fewest users in a leaf, on either side.
    seed : int

    References
    ----------
    Wager & Athey (2018), *Estimation and inference of heterogeneous treatment effects using random
    forests*, JASA 113; Athey, Tibshirani & Wager (2019), *Generalized random forests*.
    """

    def __init__(self, groups: int = 30, trees: int = 2, leaf: int = 300, seed: int = 0) -> None:
        self.groups, self.trees, self.leaf, self.seed = groups, trees, leaf, seed

    def fit(self, X: pd.DataFrame | np.ndarray, y: ArrayLike, treated: ArrayLike) -> HonestForest:
        """Fit on users of an experiment with arms of equal size.

        Parameters
        ----------
        X : array_like, shape (n, k)
            Known before the test.
        y : array_like, shape (n,)
            The metric; adjusted (CUPED) it has less noise.
        treated : array_like of bool, shape (n,)
        """
        X, y = np.asarray(X, np.float32), np.asarray(y, float)
        treated, rng = np.asarray(treated, bool), np.random.default_rng(self.seed)
        gain = np.where(treated, 2.0, -2.0) * (y - y.mean())
        self._overall = y[treated].mean() - y[~treated].mean()
        self._bags = [
            [self._tree(X, y, treated, gain, half, rng) for _ in range(self.trees)]
            for half in (rng.permutation(len(y))[: len(y) // 2] for _ in range(self.groups))
        ]
        return self

    def _tree(self, X, y, treated, gain, half, rng):
        """Return a tree and the effect in each of its nodes, from users that did not shape it."""
        from sklearn.tree import DecisionTreeRegressor

        shape, rest = self._halves(half, rng)
        tree = DecisionTreeRegressor(
            max_leaf_nodes=8,
            min_samples_leaf=self.leaf,
            max_features=0.7,
            random_state=int(rng.integers(2**31)),
        ).fit(X[shape], gain[shape])
        leaf, t = tree.apply(X[rest]), treated[rest]
        size = tree.tree_.node_count
        counts = [np.bincount(leaf[arm], minlength=size) for arm in (t, ~t)]
        sums = [np.bincount(leaf[arm], y[rest][arm], size) for arm in (t, ~t)]
        means = [total / np.maximum(n, 1) for total, n in zip(sums, counts, strict=True)]
        seen = counts[0] * counts[1] > 0
        return tree, np.where(seen, means[0] - means[1], self._overall)

    def _halves(self, half, rng):
        """Return the users that shape a tree and those that are averaged in it: never the same."""
        mixed = rng.permutation(half)
        return mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]

    def predict(self, X: pd.DataFrame | np.ndarray, level: float = 0.95) -> pd.DataFrame:
        """Return the effect on users of given features.

        Returns
        -------
        DataFrame
            ``effect`` (in the metric's unit), ``se``, ``low``, ``high``.
        """
        return self.average(X, np.arange(len(X)), level)

    def average(
        self, X: pd.DataFrame | np.ndarray, group: ArrayLike, level: float = 0.95
    ) -> pd.DataFrame:
        """Return the mean effect on groups of users, with the interval of that mean.

        Parameters
        ----------
        X : array_like, shape (n, k)
        group : array_like, shape (n,)
            Codes 0, 1, …; one row of the result for each.
        level : float
        """
        from scipy.stats import norm

        X, group = np.asarray(X, np.float32), np.asarray(group)
        size = np.bincount(group)
        found = np.array(
            [
                [np.bincount(group, values[tree.apply(X)]) / size for tree, values in bag]
                for bag in self._bags
            ]
        )  # groups, trees, rows
        bags = found.mean(axis=1)
        between = bags.var(axis=0, ddof=1)
        within = found.var(axis=1, ddof=1).mean(axis=0) / self.trees
        # Leaves hold a quarter of the users each: of the difference between bags, so much at most
        # is due to few trees.
        least = between * self.trees / (self.trees + 2)
        effect, se = bags.mean(axis=0), np.sqrt(np.maximum(between - within, least))
        z = norm.ppf((1 + level) / 2)
        return pd.DataFrame(
            {"effect": effect, "se": se, "low": effect - z * se, "high": effect + z * se}
        )


def relative_to_usual(
    people: pd.DataFrame, values: ArrayLike, covariates: Sequence[str], least: float = 5.0
) -> np.ndarray:
    """Return the metric over what was to be expected of each user, by a model of the past.

    Its effect is the relative one, and its noise is the same for light and heavy users; a forest on
    the metric itself mostly sees the few heavy ones.

    Parameters
    ----------
    people : DataFrame
    values : array_like, shape (n,)
    covariates : sequence of str
        Known before the test.
    least : float
        Fewest that is expected of anybody.
    """
    usual = variance.predicted(variance.features(people, covariates), values)
    return np.asarray(values, float) / np.maximum(usual, least)


def by_rank(
    X: pd.DataFrame, y: ArrayLike, treated: ArrayLike, groups: int = 4, seed: int = 0
) -> pd.DataFrame:
    """Group users by the effect that a forest of the other half predicts; measure it in each group.

    Parameters
    ----------
    X, y, treated
        As for :meth:`HonestForest.fit`.
    groups : int
        Of equal size, from the lowest predicted effect to the highest.
    seed : int

    Returns
    -------
    DataFrame
        ``group`` (0 is lowest), ``users``, ``predicted`` (mean), ``effect``, ``low``, ``high``.
    """
    y, treated = np.asarray(y, float), np.asarray(treated, bool)
    score, rank = ranked(X, y, treated, groups, seed)
    rows = []
    for g in range(groups):
        own = rank == g
        found = welch(y[own & ~treated], y[own & treated])
        rows.append((g, own.sum(), score[own].mean(), found.effect, found.low, found.high))
    columns = ["group", "users", "predicted", "effect", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def ranked(
    X: pd.DataFrame, y: np.ndarray, treated: np.ndarray, groups: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the effect that the other half's forest predicts for each user, and its group."""
    X = np.asarray(X, np.float32)
    fold = np.random.default_rng(seed).permutation(len(y)) % 2
    score, rank = np.empty(len(y)), np.empty(len(y), int)
    for k in (0, 1):
        own = fold == k
        forest = HonestForest(seed=seed + k).fit(X[~own], y[~own], treated[~own])
        score[own] = forest.predict(X[own])["effect"]
        rank[own] = np.argsort(np.argsort(score[own], kind="stable")) * groups // own.sum()
    return score, rank


def replicated(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return what the best segment of one experiment claims, shrunk, and measured in another.

    Parameters
    ----------
    first, second : DataFrame
        Of :func:`segment_effects`, on different users.

    Returns
    -------
    DataFrame
        One row: ``segment``, ``claimed``, ``shrunk``, ``replicated``.
    """
    made = shrink(first["relative"], first["se"])
    best = int(first["relative"].to_numpy().argmax())
    name = first["segment"].iloc[best]
    again = second.set_index("segment")["relative"].get(name, np.nan)
    row = (name, first["relative"].iloc[best], made.effect[best], again)
    return pd.DataFrame([row], columns=["segment", "claimed", "shrunk", "replicated"])
