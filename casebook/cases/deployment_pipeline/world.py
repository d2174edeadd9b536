"""World of case 21: a year of payments before a served model, with changes that are known.

Chapter 12's world gives 25,000 payments with 22 of its features (:func:`payments`) and six ways of
fraud. Each way becomes a *rule*: a logistic function of the standardised signed logarithms of the
features, fitted once on 12's truth and kept in ``rule.parquet``. From here on the rules are the
truth: every label of this case is drawn from them.

Mechanisms
----------
*A day* holds ``n`` payments, drawn from the 25,000 with replacement; continuous values are blurred
by a few per cent, so that none occurs twice. The mix of a day is tilted at random (``wobble``):
days differ by more than the noise of sampling. The mix does not depend on the weekday.

*Labels.* A payment is fraud with probability ``1 - prod(1 - p_s)``, over five ways of fraud. The
label is drawn anew at every draw: that a row of the base comes back on another day tells a model
the chance of such a row and not its label.

*Shifts* (:class:`Shift`): ``covariate`` moves features by ``size`` standard deviations of the
logarithm of their positive values, the rules stay; ``season`` draws more online and expensive
payments; ``label`` multiplies the odds that a payment is fraud at the same look of fraud and of
genuine payments; ``concept`` lets a share ``size`` of all fraud happen in a sixth way (cards put
into phones), while the features and the rate of fraud stay as they are.

*Faults* (:class:`Fault`): ``schema`` (columns arrive empty), ``unit`` (values times 100), ``stale``
(columns hold values of the day before the fault, of other payments: the distribution of the column
stays) and ``poisoned`` (``SPARED`` of the frauds are reported as genuine, and ``ACCUSED`` of the
genuine online payments above the median amount as fraud). The first three change what the model
sees, never the label; the last changes reports only.

*Reports.* A genuine payment counts as such after ``WAIT`` days. A fraud is reported after a
lognormal delay, median ``DELAY`` days; ``NEVER`` of them are never. Until a payment is ``WAIT``
days old, the known ones among its day are nearly all frauds.

*Truth* stands apart: :attr:`Year.events` (what changed when, and whether one should retrain, repair
or wait) and :attr:`Year.truth` (the chance of fraud and the label of each payment). A decision is
made with the amount that was served and priced by the true one and by the chance, not by the label
(:func:`cost`), which takes the noise of labels out.

The two most arbitrary constants are ``wobble`` and how unlike the sixth way is to the others
(``foreign``); a study of sensitivity varies both. Frozen before any detector or policy was
compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline.chances import (
    CHAPTER,
    CONTINUOUS,
    FEATURES,
    NEW_WAY,
    WAYS,
    Constants,
    base,
    chance,
    clipped,
    logs,
    payments,
    sigma,
    spread,
)
from casebook.evaluate import fraud_costs as costs

SEED = 2026
START = pd.Timestamp("2026-01-05")  # a Monday
#: Customers and days of chapter 12's world; days from which the base and the rules are taken.
SOURCE, TAKEN, ROWS = (2_500, 140), (60, 140), 25_000
#: Days after which silence means genuine; of a report: median delay (days), log sd, never.
WAIT, DELAY, DELAY_SD, NEVER = 30, 12.0, 0.6, 0.06
#: Days before the first day of the year.
HISTORY = 126
UNIT, SPARED, ACCUSED = 100.0, 0.9, 0.06
__all__ = ["CHAPTER", "FEATURES", "Constants", "Fault", "Shift", "Year", "chance", "cost"]
__all__ += ["payments", "plan", "simulate", "snapshots"]

SHIFTS = ("covariate", "season", "label", "concept")
FAULTS = ("schema", "unit", "stale", "poisoned")
ADVICE = {
    **{"covariate": "wait", "season": "wait", "label": "retrain", "concept": "retrain"},
    **dict.fromkeys(FAULTS, "repair the feed"),
}
#: Share of a day's payments in each hour.
HOURS = np.array([1, 1, 1, 1, 1, 2, 3, 5, 6, 6, 6, 7, 8, 7, 6, 6, 7, 8, 8, 7, 5, 4, 3, 2], float)


@dataclass(frozen=True)
class Shift:
    """A change of the world itself, from day ``start`` on, at full size after ``ramp`` days.

    ``size``: standard deviations (covariate, season), a factor of the odds (label), a share of the
    fraud (concept). ``days`` is its length; None lasts until the end.
    """

    kind: str
    start: int
    size: float
    features: tuple[str, ...] = ()
    days: int | None = None
    ramp: int = 0

    def __post_init__(self):
        if self.kind not in SHIFTS:
            raise ValueError(f"no shift is called {self.kind!r}; there: {', '.join(SHIFTS)}")
        if self.kind == "covariate" and not {*self.features} & {*CONTINUOUS}:
            raise ValueError(f"a covariate shift moves some of: {', '.join(CONTINUOUS)}")
        if wrong := [name for name in self.features if name not in CONTINUOUS]:
            raise ValueError(f"{wrong} cannot be moved; these can: {', '.join(CONTINUOUS)}")
        if self.kind == "concept" and not 0 <= self.size <= 1:
            raise ValueError(f"size is {self.size}: a share of the fraud from 0 to 1 is due")
        if self.kind == "label" and not self.size > 0:
            raise ValueError(f"size is {self.size}: a positive factor of the odds is due")

    def at(self, day: int) -> float:
        """Return how much of the shift there is on a day, from 0 to 1."""
        last = np.inf if self.days is None else self.start + self.days
        if not self.start <= day < last:
            return 0.0
        return min(1.0, (day - self.start + 1) / (self.ramp + 1))


@dataclass(frozen=True)
class Fault:
    """A fault of the plumbing: what the model or the trainer is told is wrong for some days."""

    kind: str
    start: int
    days: int
    features: tuple[str, ...] = ("amount",)

    def __post_init__(self):
        if self.kind not in FAULTS:
            raise ValueError(f"no fault is called {self.kind!r}; there: {', '.join(FAULTS)}")
        if wrong := [name for name in self.features if name not in FEATURES]:
            raise ValueError(f"{wrong} are no features; these are: {', '.join(FEATURES)}")
        if self.days < 1:
            raise ValueError(f"days is {self.days}: a fault lasts a day or more")

    def on(self, day: int) -> bool:
        """Say whether the fault is there on a day."""
        return self.start <= day < self.start + self.days


@dataclass(frozen=True)
class Year:
    """What a team sees of a year, and the truth apart.

    Attributes
    ----------
    rows : DataFrame
        ``day`` (negative before the first one), ``at`` and the features as the service gets them.
    labels : DataFrame
        ``row`` (index of ``rows``), ``known_at`` (when; never is NaT), ``fraud`` (as reported).
    truth : DataFrame
        Of each row ``chance``, ``fraud`` and ``amount`` (euro); nobody sees it.
    events : DataFrame
        ``kind``, ``start``, ``end``, ``size``, ``features``, ``advice``; nobody sees it.
    """

    rows: pd.DataFrame
    labels: pd.DataFrame
    truth: pd.DataFrame = field(repr=False)
    events: pd.DataFrame = field(repr=False)


# The year -----------------------------------------------------------------------------


def simulate(
    seed: int = SEED,
    days: int = 364,
    shifts: tuple[Shift, ...] = (),
    faults: tuple[Fault, ...] = (),
    constants: Constants | None = None,
    *,
    history: int = HISTORY,
) -> Year:
    """Simulate a year of daily blocks after some quiet months.

    Parameters
    ----------
    seed : int
    days, history : int
        Days from 0 on, and before it; nothing is planted before day 0.
    shifts : tuple of Shift
    faults : tuple of Fault
    constants : Constants, optional

    Returns
    -------
    Year
        Without shifts and faults nothing happens in it.

    Raises
    ------
    ValueError
        When there are no days, or something begins before day 0.
    """
    if days < 1 or history < 0:
        raise ValueError(f"{days} days after {history}: at least 1 after 0 or more are due")
    if early := [event for event in (*shifts, *faults) if event.start < 0]:
        raise ValueError(f"{early[0]} begins before day 0")
    own = constants or Constants()
    streams = np.random.default_rng(seed).spawn(days + history)
    made = [
        _day(rng, day, shifts, own) for rng, day in zip(streams, range(-history, days), strict=True)
    ]
    X, p, fraud = (np.concatenate([part[i] for part in made]) for i in range(3))
    day = np.repeat(np.arange(-history, days), own.n)
    minute = np.concatenate([part[3] for part in made])
    at = START + pd.to_timedelta(day * 1440 + minute, unit="min")
    truth = pd.DataFrame({"chance": p, "fraud": fraud, "amount": X[:, 0]})
    labels = _reports(np.random.default_rng([seed, 1]), X, day, at, fraud, faults)
    X = _broken(np.random.default_rng([seed, 2]), X, day, faults)
    rows = pd.DataFrame(X.astype(np.float32), columns=list(FEATURES))
    rows.insert(0, "at", at)
    rows.insert(0, "day", day)
    return Year(rows, labels, truth, _events(shifts, faults, days))


def _day(rng: np.random.Generator, day: int, shifts: tuple[Shift, ...], own: Constants) -> tuple:
    """Return the payments of a day, their chance, their labels and the minute of each."""
    rows, Z = base(), clipped()
    tilt = Z @ (own.wobble * rng.normal(size=Z.shape[1]) / np.sqrt(spread()))
    sizes = dict.fromkeys(SHIFTS, 0.0) | {"label": 1.0}
    for shift in shifts:
        part = shift.at(day)
        if shift.kind == "label":
            sizes["label"] *= shift.size**part
        elif shift.kind != "covariate":
            sizes[shift.kind] += part * shift.size
    tilt = tilt + sizes["season"] / 2 * (Z[:, FEATURES.index("online")] + Z[:, 0])
    weight = np.exp(tilt - tilt.max())
    odds, concept = sizes["label"], min(1.0, sizes["concept"])
    if odds != 1:
        weight *= 1 + (odds - 1) * chance(rows, concept, own)
    # one uniform number for each payment: worlds that differ in a shift stay alike elsewhere
    cut = np.cumsum(weight / weight.sum())
    X = rows[np.minimum(np.searchsorted(cut, rng.random(own.n)), len(rows) - 1)]
    noise = np.exp(own.blur * rng.normal(size=(own.n, len(CONTINUOUS))))
    X[:, : len(CONTINUOUS)] *= noise
    for shift in shifts:
        if shift.kind == "covariate" and (part := shift.at(day)):
            _move(X, shift.features, part * shift.size)
    p = chance(X, concept, own)
    p = odds * p / (1 - p + odds * p)
    profile = np.repeat(HOURS / HOURS.sum() / 60, 60)
    minute = np.sort(rng.choice(1440, own.n, p=profile))
    return X, p, rng.random(own.n) < p, minute


def _move(X: np.ndarray, features: tuple[str, ...], size: float) -> None:
    """Move positive values of features by standard deviations of their logarithms, in place."""
    for name in features:
        i = FEATURES.index(name)
        there = X[:, i] > 0
        X[there, i] = np.expm1(np.maximum(np.log1p(X[there, i]) + size * sigma()[i], 1e-3))


def _broken(rng, X: np.ndarray, day: np.ndarray, faults: tuple[Fault, ...]) -> np.ndarray:
    """Return what the service gets of the features."""
    X = X.copy()
    for fault in faults:
        rows = (day >= fault.start) & (day < fault.start + fault.days)
        before = np.flatnonzero(day == fault.start - 1)
        for name in fault.features:
            i = FEATURES.index(name)
            if fault.kind == "schema":
                X[rows, i] = np.nan
            elif fault.kind == "unit":
                X[rows, i] *= UNIT
            elif fault.kind == "stale" and len(before):
                X[rows, i] = X[rng.choice(before, rows.sum()), i]
    return X


def _reports(rng, X, day, at, fraud: np.ndarray, faults: tuple[Fault, ...]) -> pd.DataFrame:
    """Return of each payment what is reported, and when it is known."""
    delay = np.exp(np.log(DELAY) + DELAY_SD * rng.normal(size=len(X)))
    accused, spared, never = (rng.random(len(X)) for _ in range(3))
    said = fraud & (never >= NEVER)
    large = X[:, 0] > np.median(base()[:, 0])
    target = large & (X[:, FEATURES.index("online")] > 0)
    for fault in faults:
        if fault.kind == "poisoned":
            week = (day >= fault.start) & (day < fault.start + fault.days)
            said = np.where(week & (spared < SPARED), False, said)
            said |= week & target & ~fraud & (accused < ACCUSED)
    days = np.where(said, delay, WAIT)
    known = at + pd.to_timedelta(days * 86_400, unit="s").round("s")
    return pd.DataFrame({"row": np.arange(len(X)), "known_at": known, "fraud": said})


def _events(shifts: tuple[Shift, ...], faults: tuple[Fault, ...], days: int) -> pd.DataFrame:
    rows = []
    for event in sorted((*shifts, *faults), key=lambda one: one.start):
        end = days if event.days is None else min(days, event.start + event.days)
        size = event.size if isinstance(event, Shift) else np.nan
        features = "" if event.kind in ("poisoned", "concept", "label") else event.features
        rows.append((event.kind, event.start, end, size, " ".join(features), ADVICE[event.kind]))
    columns = ["kind", "start", "end", "size", "features", "advice"]
    return pd.DataFrame(rows, columns=columns)


def plan(seed: int) -> tuple[tuple[Shift, ...], tuple[Fault, ...]]:
    """Draw what happens in an eventful year: one of each kind, at random times and sizes.

    Parameters
    ----------
    seed : int

    Returns
    -------
    shifts, faults : tuple
        For :func:`simulate`.
    """
    rng = np.random.default_rng([seed, 21])
    whole = lambda low, high: int(rng.integers(low, high))  # noqa: E731
    moved = tuple(rng.choice(CONTINUOUS, 2, replace=False).tolist())
    shifts = (
        Shift("covariate", whole(20, 90), float(rng.uniform(0.3, 0.8)), moved),
        Shift("concept", whole(90, 210), float(rng.uniform(0.5, 0.9)), ramp=whole(0, 15)),
        Shift("label", whole(230, 290), float(rng.uniform(1.3, 2.0))),
        Shift("season", 320, float(rng.uniform(0.3, 0.6)), days=35),
    )
    faults = (
        Fault("schema", whole(10, 340), 2, ("device_age",)),
        Fault("unit", whole(10, 340), whole(3, 8), ("amount",)),
        Fault("stale", whole(10, 340), whole(5, 15), ("customer_sum_24h", "customer_count_24h")),
        Fault("poisoned", whole(30, 300), 7),
    )
    return shifts, faults


def cost(
    probability: np.ndarray, served: np.ndarray, amount: np.ndarray, true: np.ndarray
) -> np.ndarray:
    """Return the expected cost of chapter 12's decision on each payment, euro.

    Parameters
    ----------
    probability : ndarray, shape (n,)
        What the model says.
    served : ndarray, shape (n,)
        The amount that the service was told: it takes the tier that is cheapest at this probability
        and this amount. A missing one counts as nothing.
    amount : ndarray, shape (n,)
        Euro, as it truly is: what the decision costs.
    true : ndarray, shape (n,)
        Chance of fraud, by which the decision is priced.
    """
    tier = costs.expected_costs(probability, np.nan_to_num(served)).to_numpy().argmin(axis=1)
    return costs.expected_costs(true, amount).to_numpy()[np.arange(len(tier)), tier]


# Snapshots ----------------------------------------------------------------------------


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what stands in ``data/21_deployment_pipeline``, by file name."""
    table, scenario = _source()
    rules = _fitted(table, scenario)
    kept = table.sample(ROWS, random_state=SEED).sort_values("at").reset_index(drop=True)
    kept[list(FEATURES)] = kept[list(FEATURES)].astype(np.float32)
    return {"payments.parquet": kept, "rule.parquet": rules}


def _source() -> tuple[pd.DataFrame, pd.Series]:
    """Return payments of chapter 12's world when all is allowed, with features and way of fraud."""
    from casebook.cases.card_fraud.world import simulate as bank
    from casebook.features import card_payments as features
    from casebook.features.card_payments.words import ENTRIES

    world = bank(n_customers=SOURCE[0], days=SOURCE[1])
    known = features.evidence(world.transactions, world.labels)
    X = features.batch(world.transactions, world.terminals, world.customers, known)
    table = world.transactions.set_index("transaction")
    for name in ("wallet", "magstripe"):
        X[name] = (X["entry"] == ENTRIES.index(name)).astype(np.float32)
    start = table["received"].min().normalize()
    age = (table["received"] - start).dt.days
    keep = age.between(TAKEN[0], TAKEN[1] - 1) & ~table["request"].duplicated()
    keep &= table["amount"] > 0
    truth = world.truth.set_index("transaction")[keep]
    labels = world.labels.set_index("transaction").reindex(table.index[keep])
    made = X.loc[keep, list(FEATURES)].round(3)
    made.insert(0, "at", table.loc[keep, "received"].dt.floor("s"))
    made["fraud"], made["known_at"] = truth["is_fraud"], labels["known"].dt.floor("s")
    return made.reset_index(drop=True), truth["scenario"].reset_index(drop=True)


def _fitted(table: pd.DataFrame, scenario: pd.Series) -> pd.DataFrame:
    """Return mean and sd of the logarithms and the six rules, rounded."""
    from sklearn.linear_model import LogisticRegression

    values = logs(table[list(FEATURES)].to_numpy(float))
    mean, sd = values.mean(axis=0).round(4), values.std(axis=0).round(4)
    rows = [("mean", *mean, 0.0), ("sd", *sd, 0.0)]
    for way in (*WAYS, NEW_WAY):
        fit = LogisticRegression(C=1.0, max_iter=1000)
        fit.fit((values - mean) / sd, (scenario == way).to_numpy())
        rows.append((way, *fit.coef_[0].round(3), fit.intercept_[0].round(3)))
    return pd.DataFrame(rows, columns=["of", *FEATURES, "intercept"])
