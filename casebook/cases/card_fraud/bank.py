"""The bank's model: trained on what is known on a day, scored on what comes after.

The model is the mean, in log odds, of a logistic regression and LightGBM. Settings were chosen on
worlds of other seeds (``TUNING``); the studies of this module draw fresh ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.card_fraud.world import World, simulate, visible_labels
from casebook.evaluate.delays import Arrivals, label_weights, still_to_come

from . import channels, features, models, protocol
from .costs import Economics, cheapest, expected_costs, price_within

#: Worlds on which settings were chosen; never scored again.
TUNING = (1, 2, 3)
#: Days at the start in which features fill up, and days until labels are trusted.
WARM_UP, WAIT = 14, 21
#: Days until a payment without a label trains as genuine, where each fraud is weighted.
LEAST_AGE = 3
#: Share of the genuine rows that LightGBM learns from; its probability is repaired.
KEEP = 0.25
#: Largest share of payments that may meet friction, and the share that is let through whatever the
#: policy says, so that its labels are seen.
GUARDRAIL, HOLDBACK = 0.01, 0.01
#: Payments that are fraud with a smaller probability are taken for genuine when training again.
LEAST_PART = 0.002
#: A share of the requests is a whole number of these.
BUCKETS = 10_000
#: Rounds, rate, leaves and the least hessian of a leaf: with few frauds the last one matters.
SETTINGS: Mapping[str, Any] = {
    **models.FAMILIES["LightGBM"].trials[5],
    "num_leaves": 15,
    "min_data_in_leaf": 50,
}

DAY = pd.Timedelta(days=1)


def log_odds(p: np.ndarray) -> np.ndarray:
    """Return the log odds of probabilities, kept away from certainty by a billionth."""
    p = np.clip(np.asarray(p, float), 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p))


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return the probability of log odds."""
    return 1 / (1 + np.exp(-np.asarray(z, float)))


def fit_trees(
    X: pd.DataFrame, y: np.ndarray, seed: int = 0, weight: np.ndarray | None = None
) -> models.Model:
    """Fit LightGBM on all frauds and a quarter of the genuine rows; repair its probability.

    Parameters
    ----------
    X : DataFrame, shape (n, features)
    y : array of 0 and 1, shape (n,)
    seed : int
    weight : ndarray, shape (n,), optional
        How many rows each stands for.

    Returns
    -------
    Model
    """
    y = np.asarray(y)
    keep = (y == 1) | (np.random.default_rng(seed).random(len(y)) < KEEP)
    kept = None if weight is None else np.asarray(weight)[keep]
    inner = models.FAMILIES["LightGBM"].fit(X[keep], y[keep], SETTINGS, seed, kept)
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


def fit_line(
    X: pd.DataFrame, y: np.ndarray, seed: int = 0, weight: np.ndarray | None = None
) -> models.Model:
    """Fit the bank's logistic regression, on logarithms of the features."""
    return models.FAMILIES["logistic regression, logs"].fit(X, y, seed=seed, weight=weight)


def fit(
    X: pd.DataFrame, y: np.ndarray, seed: int = 0, weight: np.ndarray | None = None
) -> models.Model:
    """Fit the bank's model: logistic regression and LightGBM, averaged in log odds.

    The first reacts to amounts of a feature that no training row had, the second to combinations.
    """
    return blend(fit_line(X, y, seed, weight), fit_trees(X, y, seed, weight))


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
    week: protocol.Week
    labels: pd.Series
    test: pd.DataFrame

    @property
    def start(self) -> pd.Timestamp:
        return self.week.test_from

    def train(self, fitter: Callable[..., models.Model] = fit, **options: Any) -> models.Model:
        """Fit a model on the known labels."""
        return fitter(self.X.loc[self.labels.index], self.labels.to_numpy(), **options)

    def recent(self) -> pd.DataFrame:
        """Return the features of the last three weeks before the start, not yet labelled."""
        received = self.world.transactions["received"].to_numpy()
        rows = (received >= self.week.train_to) & (received < self.start)
        return self.X[rows]


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
    week = protocol.Week(
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
    labels, test = protocol.world_split(world, week, wait)
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


def amounts(world: World, index: pd.Index) -> np.ndarray:
    """Return the amounts of transactions."""
    return world.transactions.set_index("transaction")["amount"].loc[index].to_numpy()


def single_threshold(
    probability: np.ndarray, amount: np.ndarray, tier: str, economics: Economics | None = None
) -> float:
    """Return the cut-off at which one tier in place of allow costs least in expectation.

    Parameters
    ----------
    probability, amount : ndarray, shape (n,)
        Of recent payments: no labels are needed, the model's probability stands for them.
    tier : str
        ``confirm``, ``call`` or ``block``.
    economics : Economics, optional

    Returns
    -------
    float
        Best among the probabilities themselves; what is equal to it is let through.
    """
    frame = expected_costs(probability, amount, economics)
    order = np.argsort(-probability, kind="stable")
    gain = np.cumsum((frame["allow"] - frame[tier]).to_numpy()[order])
    if gain.max() <= 0:
        return 1.0
    stop = int(gain.argmax())
    ordered = probability[order]
    below = ordered[stop + 1] if stop + 1 < len(ordered) else 0.0
    return float((ordered[stop] + below) / 2)


@dataclass(frozen=True)
class Answers:
    """The bank's policy: the cheapest of three answers under the guardrail, but for the hold-back.

    The page, the benchmark and the service decide with it.

    Attributes
    ----------
    price : float
        Euro of friction at which the guardrail is met: see :func:`~.costs.price_within`.
    holdback : float
        Share of the requests that are let through whatever the policy advises.
    economics : Economics, optional

    Examples
    --------
    >>> free, strict = Answers(), Answers(price=2.0)
    >>> free([0.03, 0.9], 60.0).tolist(), strict([0.03, 0.9], 60.0).tolist()
    (['confirm', 'block'], ['allow', 'block'])
    >>> float(Answers(holdback=0.01).held(np.arange(100_000)).mean())
    0.0102
    """

    price: float = 0.0
    holdback: float = 0.0
    economics: Economics | None = None

    def __call__(self, probability: Any, amount: Any, bears: Any = 1.0) -> np.ndarray:
        """Return the tier that is advised for each payment, shape (n,).

        ``bears`` is the share of an undetected fraud that the bank pays: see ``cheapest``.
        """
        return cheapest(probability, amount, self.economics, self.price, bears=bears)

    def held(self, request: Any) -> np.ndarray:
        """Return which requests are held back, shape (n,): by their number, the same at a retry."""
        number = np.atleast_1d(np.asarray(request)).astype(np.uint64)
        # A multiplication by an odd number and the upper bits: SplitMix64's mixing of a counter.
        with np.errstate(over="ignore"):
            mixed = (number + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
        return (mixed >> np.uint64(33)) % np.uint64(BUCKETS) < round(self.holdback * BUCKETS)

    def one(
        self, probability: float, amount: float, request: int, message: str = "purchase"
    ) -> tuple[str, str]:
        """Return what is advised for one message, and what is done."""
        advised = channels.answer(probability, amount, message, self.economics, self.price)[0]
        return advised, "allow" if self.held(request)[0] else advised


def answers(
    here: Setting, score: Callable, limit: float = GUARDRAIL, holdback: float = 0.0
) -> Answers:
    """Return the policy whose guardrail is met on the three weeks before the setting's start.

    No label is needed: the payments' probabilities say how many would be asked.
    """
    recent = here.recent()
    p, amount = score(recent), amounts(here.world, recent.index)
    return Answers(price_within(limit, lambda price: Answers(price)(p, amount)), holdback)


def contributions(model: models.Model, row: pd.DataFrame, usual: pd.Series) -> np.ndarray:
    """Return what each feature of a payment adds to the log odds of the bank's model.

    Parameters
    ----------
    model : Model
        Of :func:`fit`: the mean in log odds of logistic regression and LightGBM.
    row : DataFrame, shape (1, features)
    usual : Series
        The usual value of each feature.

    Returns
    -------
    ndarray, shape (features,)
        The mean of the trees' contributions (``pred_contrib``, SHAP) and the line's, which is what
        its log odds lose when the feature becomes usual. Their sum differs from the model's log
        odds by the same number for every payment.
    """
    logistic, trees = model.inner
    names, n = list(model.columns), len(model.columns)
    table = pd.concat([row[names]] * (n + 1), ignore_index=True).to_numpy(float)
    table[np.arange(n), np.arange(n)] = usual[names].to_numpy(float)
    odds = log_odds(logistic.score(pd.DataFrame(table, columns=names)))
    return (odds[-1] - odds[:-1] + trees.inner.predict(row[names], pred_contrib=True)[0, :-1]) / 2
