"""The bank's model: trained on what is known on a day, scored on what comes after.

The model is the mean, in log odds, of a logistic regression and LightGBM. Each family has the
setting that was the best of its six on worlds of other seeds (``TUNING``, the table ``trials``);
the studies of this module draw fresh ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.card_fraud.world import World, simulate, visible_labels
from casebook.evaluate.delays import Arrivals, label_weights, still_to_come
from casebook.evaluate.prequential import Week
from casebook.features import card_payments as features

from . import models

#: Worlds on which settings were chosen; never scored again.
TUNING = (1, 2, 3)
#: Days at the start in which features fill up, and days until labels are trusted.
WARM_UP, WAIT = 14, 21
#: Days until a payment without a label trains as genuine, where each fraud is weighted.
LEAST_AGE = 3
#: Share of the genuine rows that the bank's LightGBM learns from, to be quicker; its probability is
#: repaired.
KEEP = 0.25
#: Number of the setting of each family, as ``trials`` chose it.
CHOSEN: Mapping[str, int] = {
    "logistic regression": 5,
    "logistic regression, logs": 4,
    "XGBoost": 3,
    "LightGBM": 2,
}
#: Payments that are fraud with a smaller probability are taken for genuine when training again.
LEAST_PART = 0.002

DAY = pd.Timedelta(days=1)


def log_odds(p: np.ndarray) -> np.ndarray:
    """Return the log odds of probabilities, kept away from certainty by a billionth."""
    p = np.clip(np.asarray(p, float), 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p))


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return the probability of log odds."""
    return 1 / (1 + np.exp(-np.asarray(z, float)))


def fit_family(
    name: str, X: pd.DataFrame, y: np.ndarray, seed: int = 0, weight: np.ndarray | None = None
) -> models.Model:
    """Fit a family with the setting that was chosen for it.

    Parameters
    ----------
    name : str
        In :data:`CHOSEN`.
    X : DataFrame, shape (n, features)
    y : array of 0 and 1, shape (n,)
    seed : int
    weight : ndarray, shape (n,), optional
        How many rows each stands for.
    """
    family = models.FAMILIES[name]
    return family.fit(X, y, family.trials[CHOSEN[name]], seed, weight)


#: The bank's logistic regression, on logarithms of the features; and peers of the bank's model.
fit_line = partial(fit_family, "logistic regression, logs")
fit_plain = partial(fit_family, "logistic regression")
fit_xgboost = partial(fit_family, "XGBoost")


def fit_trees(
    X: pd.DataFrame, y: np.ndarray, seed: int = 0, weight: np.ndarray | None = None
) -> models.Model:
    """Fit LightGBM on all frauds and a quarter of the genuine rows; repair its probability."""
    y = np.asarray(y)
    keep = (y == 1) | (np.random.default_rng(seed).random(len(y)) < KEEP)
    kept = None if weight is None else np.asarray(weight)[keep]
    inner = fit_family("LightGBM", X[keep], y[keep], seed, kept)
    return models.Model(
        inner.columns,
        True,
        inner.inner,
        lambda table: models.repair_probability(inner.score(table), KEEP),
    )


def blend(*parts: models.Model) -> models.Model:
    """Return the mean of models in log odds.

    Raises
    ------
    ValueError
        When a part gives no probability.
    """
    if not parts or not all(part.probability for part in parts):
        raise ValueError("only probabilities can be averaged in log odds: calibrate first")
    return models.Model(
        parts[0].columns,
        True,
        parts,
        lambda table: sigmoid(np.mean([log_odds(part.score(table)) for part in parts], axis=0)),
    )


def fit(
    X: pd.DataFrame,
    y: np.ndarray,
    seed: int = 0,
    weight: np.ndarray | None = None,
    parts: Sequence[Callable[..., models.Model]] = (fit_line, fit_trees),
) -> models.Model:
    """Fit the bank's model: logistic regression and LightGBM, averaged in log odds.

    The first reacts to amounts of a feature that no training row had, the second to combinations.
    """
    return blend(*(part(X, y, seed, weight) for part in parts))


@dataclass(frozen=True)
class Setting:
    """A world with everything allowed, cut at the day on which a policy begins.

    Attributes
    ----------
    world : World
    X : DataFrame
        Features of all its transactions.
    week : Week
        Training, labels and test.
    labels : Series
        Index ``transaction``: what is known of the training rows when the test begins.
    test : DataFrame
        Index ``transaction``: the test with its truth.
    """

    world: World
    X: pd.DataFrame
    week: Week
    labels: pd.Series
    test: pd.DataFrame

    @property
    def start(self) -> pd.Timestamp:
        return self.week.test_from

    def train(self, fitter: Callable[..., models.Model] = fit, **options: Any) -> models.Model:
        """Fit a model on the known labels."""
        return fitter(self.X.loc[self.labels.index], self.labels.to_numpy(), **options)

    def recent(self) -> pd.DataFrame:
        """Return the features of the last three weeks before the start, whatever is labelled."""
        received = self.world.transactions["received"].to_numpy()
        rows = (received >= self.start - WAIT * DAY) & (received < self.start)
        return self.X[rows]

    def expected(self, score: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return probability, amount and channel of those payments: what a policy is set on."""
        recent = self.recent()
        rows = self.world.transactions.set_index("transaction").loc[recent.index]
        return score(recent), rows["amount"].to_numpy(), rows["channel"].astype(str).to_numpy()


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


def setting(
    world: World, start: int, end: int | None = None, wait: float = WAIT, warm_up: int = WARM_UP
) -> Setting:
    """Return a world cut at a day.

    Parameters
    ----------
    world : World
        With everything allowed.
    start, end : int
        Days between which is tested; to the end by default.
    wait : float
        Days from the end of the training to the start.
    warm_up : int
        First day of the training.

    Raises
    ------
    ValueError
        When the training has no day.
    """
    begin = world.start + start * DAY
    week = Week(
        f"{begin:%Y-%m-%d}",
        world.start + warm_up * DAY,
        begin - wait * DAY,
        begin,
        begin,
        world.end if end is None else world.start + end * DAY,
    )
    if week.train_to <= week.train_from:
        raise ValueError(
            f"a test from day {start} after {wait} days of waiting leaves no training from day "
            f"{warm_up} on: begin later"
        )
    known = features.evidence(world.transactions, world.labels)
    X = features.batch(world.transactions, world.terminals, world.customers, known)
    labels, test = world_split(world, week, wait)
    return Setting(world, X, week, labels, test)


def drawn(seed: int, customers: int, days: int, start: int, **options: Any) -> Setting:
    """Return :func:`setting` of a fresh world."""
    return setting(simulate(seed=seed, n_customers=customers, days=days), start, **options)


@dataclass(frozen=True)
class Morning:
    """What is known on the morning on which a policy starts.

    Attributes
    ----------
    labels : Series
        Index ``transaction``: 1 where a chargeback has come.
    age : Series
        Days since each payment.
    arrived : Arrivals
        The share of the chargebacks that come within an age.
    """

    labels: pd.Series
    age: pd.Series
    arrived: Arrivals

    @property
    def weight(self) -> np.ndarray:
        """Return how many rows each row stands for: 1 over the share that comes by its age."""
        return label_weights(self.labels, self.age, self.arrived)


def of_morning(here: Setting, least_age: float = LEAST_AGE) -> Morning:
    """Return the labels of the morning on which a policy starts.

    Parameters
    ----------
    here : Setting
    least_age : float
        Days: younger payments do not train.
    """
    world, now = here.world, here.start
    labels = visible_labels(world, now, least_age).set_index("transaction")["chargeback"]
    received = world.transactions.set_index("transaction")["received"].loc[labels.index]
    labels = labels[(received >= here.week.train_from) & (received < now)].astype(int)
    known = world.labels.set_index("transaction")["known"].loc[labels.index]
    age, delay = ((at - received.loc[labels.index]) / DAY for at in (now, known))
    came = labels == 1
    return Morning(labels, age, Arrivals.fit(delay[came], age[came]))


def train(here: Setting, fitter: Callable[..., models.Model] = fit) -> models.Model:
    """Fit the model that the bank ships: it knows which labels are still on their way.

    A first model is fitted with each fraud counted for its slower ones. By its probabilities a
    payment without a label is part fraud; the second model learns from both parts.
    """
    morning = of_morning(here)
    X, y = here.X.loc[morning.labels.index], morning.labels.to_numpy()
    first = fitter(X, y, weight=morning.weight)
    part = np.where(y == 1, 0, still_to_come(first.score(X), morning.age, morning.arrived))
    some = part > LEAST_PART
    both = pd.concat([X, X[some]])
    weight = np.concatenate([1 - np.where(some, part, 0), part[some]])
    return fitter(both, np.concatenate([y, np.ones(some.sum(), int)]), weight=weight)
