"""When to train again: policies over a year, in euro per thousand payments.

All policies train the same LightGBM by the same recipe, on the same payments and the labels known
on the morning of the training; they differ in *when* they train and *whether* what was trained goes
into service:

``frozen``
    the champion of before the year;
``monthly``
    every four weeks, always released;
``PSI alarm``
    when the distribution of a feature or of the score alarms, always released;
``label alarm``
    when the weekly reports alarm and an audit of 30 of them holds, always released;
``champion/challenger``
    every four weeks, released if it wins :func:`trial`;
``challenger + alarm``
    every four weeks and when the reports alarm, released if it wins the trial;
``labels at once``
    every four weeks from true labels up to the day itself: what late and wrong reports cost;
``true chances``
    decides by the chances themselves: the floor, which nobody reaches.

Young payments whose fraud is not reported yet would teach that they are genuine. A fraud that is
known at the age of ``d`` days therefore counts ``1 / F(d)`` times, where ``F`` is the share of
reports that have come by then, learned from history; in the training and in the trial. Days on
which the requests layer wants the feed repaired are left out of every training, and of no bill.

The trial is simpler than the gates of a release (:mod:`.gates`): the challenger must be no more
expensive on the latest three weeks. Money is what chapter 12's decision costs in expectation: made
with the amount that was served, priced by the true amount and the true chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline import monitors
from casebook.cases.deployment_pipeline.chances import FEATURES
from casebook.cases.deployment_pipeline.reports import (
    TOP,
    Promise,
    known_on,
    promise,
    refuted,
    week,
)
from casebook.cases.deployment_pipeline.world import Year, cost

#: Day as of which the first champion was trained; the promise is made by day 0.
LAUNCH, REST = -60, 21
POLICIES = ("frozen", "monthly", "PSI alarm", "label alarm", "champion/challenger")
POLICIES += ("challenger + alarm",)
CEILINGS = ("labels at once", "true chances")
#: Genuine rows that are kept, each counting for the others.
THIN = 0.25
PARAMS: dict[str, Any] = {
    **{"objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20},
    **{"num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1},
    "max_bin": 127,
}
ROUNDS = 60
#: A challenger may ask so many times as many customers as the champion.
ASKED = 5.0


@dataclass(frozen=True)
class Recipe:
    """How every policy trains.

    Attributes
    ----------
    window : int
        Days of payments.
    wait : int
        Age of the youngest payment, days.
    """

    window: int = 60
    wait: int = 20

    def __post_init__(self):
        if self.window < 7 or self.wait < 1:
            raise ValueError(f"{self}: at least a week of payments and a day of waiting are due")


@dataclass(frozen=True)
class Shop:
    """A year with what its policies share: trained models, days that are broken, alarms.

    Attributes
    ----------
    year : Year
    recipe : Recipe
    seed : int
    """

    year: Year
    recipe: Recipe = Recipe()
    seed: int = 0
    _models: dict = field(default_factory=dict, repr=False)
    _said: dict = field(default_factory=dict, repr=False)

    @cached_property
    def day(self) -> np.ndarray:
        return self.year.rows["day"].to_numpy()

    @cached_property
    def known(self) -> np.ndarray:
        return known_on(self.year)

    @cached_property
    def X(self) -> np.ndarray:
        return np.ascontiguousarray(self.year.rows[list(FEATURES)].to_numpy(np.float32))

    @cached_property
    def fraud(self) -> np.ndarray:
        return self.year.truth["fraud"].to_numpy(float)

    @cached_property
    def fine(self) -> np.ndarray:
        """Return which rows are of days whose feed needs no repair."""
        return ~np.isin(self.day, self.broken)

    def span(self, first: int, last: int) -> slice:
        """Return the rows of the days from ``first`` to before ``last``."""
        return slice(*np.searchsorted(self.day, (first, last)))

    @cached_property
    def served(self) -> np.ndarray:
        """Return the amounts as the service got them."""
        return self.year.rows["amount"].to_numpy(float)

    @cached_property
    def delays(self) -> np.ndarray:
        """Return the sorted delays of the reports of old payments, known before the year."""
        old = self.year.labels["fraud"].to_numpy() & (self.day < LAUNCH) & (self.known < 0)
        return np.sort((self.known - self.day)[old])

    @cached_property
    def champion(self) -> Any:
        return self.candidate(LAUNCH)

    @cached_property
    def scores(self) -> np.ndarray:
        """Return the champion's probabilities of all rows since its launch, NaN before."""
        rows = self.span(LAUNCH, int(self.day[-1]) + 1)
        return np.append(np.full(rows.start, np.nan), self.champion.predict(self.X[rows]))

    @cached_property
    def promise(self) -> Promise:
        return promise(self.year, self.scores, LAUNCH, 0)

    @cached_property
    def alarms(self) -> pd.DataFrame:
        """Return alarms of features and of the champion's score, by day."""
        rows = monitors.with_score(self.year.rows, self.scores)
        fit, quiet = (LAUNCH, LAUNCH // 2), (LAUNCH // 2, 0)
        ref = monitors.reference(rows, (*FEATURES, "score"), fit, quiet)
        return monitors.alarms(monitors.daily(rows[self.day >= 0], ref), ref)

    @cached_property
    def broken(self) -> np.ndarray:
        """Return the days whose feed is to be repaired."""
        repair = self.alarms["what"].map(monitors.ADVICE) == "repair the feed"
        return self.alarms.loc[repair, "day"].unique()

    def reported(self, day: int) -> np.ndarray:
        """Return how much each payment counts as a fraud on the morning of a day: 0, or 1 / F."""
        told = self.year.labels["fraud"].to_numpy() & (self.known < day)
        age = np.maximum(day - self.day, 1)
        share = np.searchsorted(self.delays, age) / max(1, len(self.delays))
        return np.where(told, 1 / np.maximum(share, 0.05), 0.0)

    def candidate(self, day: int, at_once: bool = False) -> Any:
        """Train as of the morning of a day; the same day gives the same booster.

        Parameters
        ----------
        day : int
        at_once : bool
            From true labels up to the day itself.
        """
        if (day, at_once) not in self._models:
            last = day if at_once else day - self.recipe.wait
            rows = self.span(last - self.recipe.window, last)
            weight = (self.fraud if at_once else self.reported(day))[rows]
            kept = self.fine[rows] if day > 0 else np.ones(len(weight), bool)
            self._models[day, at_once] = train(self.X[rows][kept], weight[kept], self.seed)
        return self._models[day, at_once]

    def predict(self, model: Any, first: int, last: int) -> np.ndarray:
        """Return the probabilities of the payments from day ``first`` to before day ``last``."""
        key = id(model), first, last  # policies share models; the model is kept with what it said
        if key not in self._said:
            self._said[key] = model, model.predict(self.X[self.span(first, last)])
        return self._said[key][1]


def regret(probability: np.ndarray, year: Year) -> np.ndarray:
    """Return what decisions cost above those by true chances and amounts, euro per payment."""
    amount, chance = (year.truth[name].to_numpy() for name in ("amount", "chance"))
    served = year.rows["amount"].to_numpy(float)
    return cost(probability, served, amount, chance) - cost(chance, amount, amount, chance)


def train(X: np.ndarray, weight: np.ndarray, seed: int = 0) -> Any:
    """Train LightGBM on payments whose frauds have weights.

    Parameters
    ----------
    X : ndarray of float, shape (n, features)
        Columns in the order of :data:`FEATURES`.
    weight : ndarray, shape (n,)
        0 for genuine; how much a fraud counts.
    seed : int
        Of the genuine rows that are kept.

    Raises
    ------
    ValueError
        If there are fewer than ten frauds.
    """
    import lightgbm

    fraud = np.asarray(weight) > 0
    if fraud.sum() < 10:
        raise ValueError(f"{fraud.sum()} reported frauds among {len(X)} payments: wait for ten")
    keep = fraud | (np.random.default_rng([seed, len(X)]).random(len(X)) < THIN)
    count = np.where(fraud, weight, 1 / THIN)[keep]
    data = lightgbm.Dataset(X[keep], label=fraud[keep] * 1.0, weight=count)
    return lightgbm.train({**PARAMS, "seed": seed}, data, num_boost_round=ROUNDS)


def trial(shop: Shop, challenger: Any, champion: Any, day: int) -> dict[str, float]:
    """Compare a challenger with the champion on payments that neither has learned from.

    Parameters
    ----------
    shop : Shop
    challenger, champion : boosters
    day : int
        The morning; the payments since the challenger's youngest, by the reports known now.

    Returns
    -------
    dict
        ``saved`` (euro per thousand payments, positive if the challenger is cheaper), ``asked``
        (share of payments that it would not allow over the champion's share) and ``passed``.
    """
    first = day - shop.recipe.wait
    rows = shop.span(first, day)
    kept = shop.fine[rows]
    if not kept.any():
        return {"saved": np.nan, "asked": np.nan, "passed": False}
    amount, fraud = shop.served[rows][kept], shop.reported(day)[rows][kept]
    money, asked = [], []
    for model in (challenger, champion):
        p = shop.predict(model, first, day)[kept]
        if_genuine, if_fraud = (cost(p, amount, amount, np.full(len(p), one)) for one in (0.0, 1.0))
        money.append(float(((1 - fraud) * if_genuine + fraud * if_fraud).mean()))
        asked.append(float((if_genuine > 0).mean()))
    saved, ratio = 1000 * (money[1] - money[0]), asked[0] / max(asked[1], 1e-6)
    return {"saved": saved, "asked": ratio, "passed": bool(saved >= 0 and ratio <= ASKED)}


def _label_alarm(shop: Shop, served: np.ndarray, above: np.ndarray, day: int) -> bool:
    """Say whether last week's reports ask for a training, and an audit of them holds."""
    found = week(shop.year, served, above, shop.promise, day, shop.broken)
    told = monitors.of_reports(found, lambda: refuted(shop.year, day, shop.seed))
    return any(monitors.ADVICE[one] == "retrain" for one in told)


def _reason(shop: Shop, policy: str, day: int, rest: int, served, above) -> str:
    """Return why a policy trains on the morning of a day: "month", "alarm", or "" if it does not.

    An alarm rests for three weeks after the last training by an alarm; one by the calendar does not
    renew the rest.
    """
    calendar = ("monthly", "champion/challenger", "labels at once", "challenger + alarm")
    if day > 0 and rest >= REST:
        if policy == "PSI alarm":
            moved = shop.alarms["what"].isin(("distribution", "score"))
            if (moved & shop.alarms["day"].between(day - 7, day - 1)).any():
                return "alarm"
        if policy in ("label alarm", "challenger + alarm") and _label_alarm(
            shop, served, above, day
        ):
            return "alarm"
    return "month" if policy in calendar and day % 28 == 0 and day > 0 else ""


def run(shop: Shop, policy: str) -> pd.DataFrame:
    """Let a policy serve a year, week by week.

    Parameters
    ----------
    shop : Shop
    policy : str
        One of :data:`POLICIES` or :data:`CEILINGS`.

    Returns
    -------
    DataFrame
        ``week``, ``euros`` (per thousand payments), ``asked`` (share of payments not simply
        allowed), ``trained`` and ``released`` (whether, on its first morning).

    Raises
    ------
    ValueError
        If no policy is called so.
    """
    if policy not in (*POLICIES, *CEILINGS):
        raise ValueError(f"no policy is called {policy!r}; there: {', '.join(POLICIES + CEILINGS)}")
    model, rows, trained_on = shop.champion, [], -REST
    served = shop.scores.copy()
    above = served > shop.promise.threshold
    threshold = shop.promise.threshold
    amount, chance = (shop.year.truth[name].to_numpy() for name in ("amount", "chance"))
    told = amount if policy == "true chances" else shop.served
    for day in range(0, int(shop.day[-1]) + 1, 7):
        reason = _reason(shop, policy, day, day - trained_on, served, above)
        released = False
        if reason:
            fresh = shop.candidate(day, policy == "labels at once")
            tried = policy in ("champion/challenger", "challenger + alarm")
            released = not tried or trial(shop, fresh, model, day)["passed"]
            trained_on = day if reason == "alarm" else trained_on
        if released:
            model = fresh
            threshold = float(np.quantile(shop.predict(model, day - 30, day), 1 - TOP))
        now = shop.span(day, day + 7)
        if model is not shop.champion:
            served[now] = shop.predict(model, day, day + 7)
        above[now] = served[now] > threshold
        p = chance[now] if policy == "true chances" else served[now]
        euros = 1000 * cost(p, told[now], amount[now], chance[now]).mean()
        asked = float((cost(p, told[now], amount[now], np.zeros(len(p))) > 0).mean())
        rows.append((day // 7, euros, asked, bool(reason), released))
    return pd.DataFrame(rows, columns=["week", "euros", "asked", "trained", "released"])


def compare(
    year: Year,
    policies: Sequence[str] = POLICIES + CEILINGS,
    recipe: Recipe | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Run several policies over one year.

    Returns
    -------
    DataFrame
        The columns of :func:`run` with ``policy``.
    """
    shop = Shop(year, recipe or Recipe(), seed)
    return pd.concat([run(shop, one).assign(policy=one) for one in policies], ignore_index=True)
