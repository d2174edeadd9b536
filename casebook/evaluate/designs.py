"""Designs for users who affect each other: communities as units, and switching back and forth.

Where users share friends, whole communities get one arm and the analysis counts by community. Where
all users share one stock (the day's advertising budgets), no split of the users is clean: the whole
market gets one arm for some hours, then the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from casebook.evaluate.experiments import Effect, effect_of, ratio_effect


def cluster_effect(values: ArrayLike, treated: ArrayLike, cluster: ArrayLike) -> Effect:
    """Return the difference of two means where clusters were randomised, not users.

    Parameters
    ----------
    values : array_like, shape (n,)
        One for each user.
    treated : array_like of bool, shape (n,)
    cluster : array_like, shape (n,)
        The unit that was randomised.

    Raises
    ------
    ValueError
        If a cluster holds users of both arms.
    """
    frame = pd.DataFrame({"value": values, "treated": treated, "cluster": cluster})
    sums = frame.groupby("cluster").agg(
        total=("value", "sum"), n=("value", "size"), arm=("treated", "mean")
    )
    if mixed := int(((sums["arm"] > 0) & (sums["arm"] < 1)).sum()):
        raise ValueError(f"{mixed} clusters hold users of both arms: they were not the unit.")
    arms = [sums[sums["arm"] == arm] for arm in (0, 1)]
    return ratio_effect(*((own["total"], own["n"]) for own in arms))


def design_effect(values: ArrayLike, cluster: ArrayLike) -> float:
    """Return by which factor clusters as units inflate the variance of a mean."""
    values, (_, codes) = np.asarray(values, float), np.unique(cluster, return_inverse=True)
    rest = np.bincount(codes, values - values.mean())
    return float(np.square(rest).sum() / np.square(values - values.mean()).sum())


# Switchback ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Market:
    """A market whose users share the day's advertising budgets.

    Attributes
    ----------
    days : int
    effect : float
        Relative effect on revenue once everybody has the new feed.
    taken : float
        What treated users take from the others while only half of them are treated: a split of the
        users shows ``effect + taken``.
    carry : float
        Share of an hour's state that is still that of the hour before.
    noise, memory : float
        Of the logarithm of revenue: standard deviation, and share of it that lasts an hour.
    """

    days: int = 28
    effect: float = 0.03
    taken: float = 0.04
    carry: float = 0.6
    noise: float = 0.04
    memory: float = 0.7


def switchback(seed: int, block: int, market: Market | None = None) -> pd.DataFrame:
    """Simulate a market that is switched at random at the start of each block of hours.

    Parameters
    ----------
    seed : int
    block : int
        Hours of a block.
    market : Market, optional

    Returns
    -------
    DataFrame
        ``hour`` (from 0), ``of_day``, ``weekday``, ``block``, ``since`` (hours since the last
        change of arm; a large number before the first one), ``treated`` and ``revenue``.
    """
    m, rng = market or Market(), np.random.default_rng(seed)
    hour = np.arange(m.days * 24)
    number = hour // block
    treated = (rng.random(number[-1] + 1) < 0.5)[number]
    state, shock = np.empty(len(hour)), np.empty(len(hour))
    before, noise = float(treated[0]), 0.0
    fresh = rng.normal(0, m.noise * np.sqrt(1 - m.memory**2), len(hour))
    for i in hour:
        before = state[i] = m.carry * before + (1 - m.carry) * treated[i]
        noise = shock[i] = m.memory * noise + fresh[i]
    of_day, weekday = hour % 24, hour // 24 % 7
    usual = 6 + 0.6 * np.sin((of_day - 9) / 24 * 2 * np.pi) + 0.1 * (weekday >= 5)
    changed = np.r_[False, treated[1:] != treated[:-1]]
    last = np.maximum.accumulate(np.where(changed, hour, -(10**6)))
    return pd.DataFrame(
        {
            "hour": hour,
            "of_day": of_day,
            "weekday": weekday,
            "block": number,
            "since": hour - last,
            "treated": treated,
            "revenue": np.exp(usual + np.log1p(m.effect) * state + shock),
        }
    )


def switchback_effect(frame: pd.DataFrame, burn: int = 0, by: str = "block") -> Effect:
    """Return the relative effect from a switchback, by regression on the logarithm.

    Hour of the day and weekday are taken out; errors are clustered, and the interval is that of
    Student's t with one degree of freedom less than there are clusters.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`switchback`.
    burn : int
        Hours after each change that are left out: the market still remembers the other arm.
    by : str
        Column of the clusters: ``block`` is what was randomised, ``hour`` counts each hour as if it
        were.
    """
    import statsmodels.api as sm

    kept = frame[frame["since"] >= burn]
    dummies = pd.get_dummies(kept[["of_day", "weekday"]].astype("category"), drop_first=True)
    design = sm.add_constant(
        np.column_stack([kept["treated"].to_numpy(float), dummies.to_numpy(float)])
    )
    fit = sm.OLS(np.log(kept["revenue"].to_numpy()), design).fit(
        cov_type="cluster", cov_kwds={"groups": kept[by].to_numpy()}
    )
    gain, se = float(np.expm1(fit.params[1])), float(fit.bse[1])
    return effect_of(1.0, 0.0, 1.0 + gain, se * (1 + gain), df=kept[by].nunique() - 1)


def user_split(seed: int, users: int = 20_000, market: Market | None = None) -> Effect:
    """Return what a split of the users shows in such a market: half of the gain is taken.

    Parameters
    ----------
    seed : int
    users : int
        Of both arms together.
    market : Market, optional
    """
    from casebook.evaluate.experiments import welch

    m, rng = market or Market(), np.random.default_rng(seed)
    own = np.exp(rng.normal(-0.5, 1.0, users))
    treated = rng.random(users) < 0.5
    factor = np.where(treated, 1 + m.effect + m.taken / 2, 1 - m.taken / 2)
    return welch((own * factor)[~treated], (own * factor)[treated])


def switchbacks(
    seeds: Sequence[int] = range(300), blocks: Sequence[int] = (1, 3, 6, 12, 24)
) -> pd.DataFrame:
    """Estimate a market's effect by switchbacks of different blocks, and by a split of its users.

    Returns
    -------
    DataFrame
        ``design``, ``block`` (hours), ``burn`` (hours left out), ``runs``, ``bias``, ``sd``,
        ``rmse`` and ``covered``; by blocks, and with each hour counted as a unit.
    """
    settings = {("users split", 0, 0): user_split}
    for block in blocks:
        for burn in {0, min(3, block - 1)}:
            for by in ("block", "hour"):
                name = f"switchback, by {by}"
                settings[name, block, burn] = partial(_switched, block=block, burn=burn, by=by)
    rows, market = [], Market()
    for (design, block, burn), make in settings.items():
        found = [make(seed) for seed in seeds]
        error = np.array([one.relative for one in found]) - market.effect
        low, high = (
            np.array([getattr(one, f"relative_{end}") for one in found]) for end in ("low", "high")
        )
        covered = np.mean((low <= market.effect) & (market.effect <= high))
        spread = (error.mean(), error.std(ddof=1), np.sqrt(np.mean(error**2)), covered)
        rows.append((design, block, burn, len(error), *spread))
    names = ["design", "block", "burn", "runs", "bias", "sd", "rmse", "covered"]
    return pd.DataFrame(rows, columns=names)


def _switched(seed: int, block: int, burn: int, by: str):
    return switchback_effect(switchback(seed, block), burn, by)
