"""What exercise 12 shows: two other banks, a world, its scores, a quarter, a table of events.

A function of a seed takes the student's by default (``CASEBOOK_STUDENT_SEED``, or the chapter's)
and makes what one question needs, no more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial, wraps

import numpy as np
import pandas as pd

from casebook.cases.card_fraud import bank, models
from casebook.cases.card_fraud.world import World, simulate, visible_labels
from casebook.cases.card_fraud.world.constants import SEED, SNAPSHOT
from casebook.evaluate import fraud_costs as costs
from casebook.evaluate import rare
from casebook.exercises.asked import Exercise
from casebook.exercises.code import run
from casebook.exercises.grading import student_seed
from casebook.features import card_payments as features
from casebook.features.windows import trailing

DAY = pd.Timedelta(days=1)
#: Customers and days of the world of the questions 2, 3, 5 and 6; first and last day of its test.
CUSTOMERS, DAYS, BEGIN, STOP = 1500, 150, 84, 110
#: Share of genuine rows that one colleague kept; frauds for each genuine row that SMOTE made.
KEPT, MADE = 0.05, 0.25
#: Fewer trees and thresholds than in the chapter: quicker, and enough for these questions.
QUICK = {**models.FAMILIES["LightGBM"].trials[0], "rounds": 40, "max_bin": 63}
#: Payments of the quarter, share held back, cut-off of the policy.
PAYMENTS, HELD, CUT = 2_000_000, 0.01, 0.05
#: Lines of question 1; run on both sides, and to draw a bank.
LINES = """
from scipy.optimize import brentq
def line(name, a):
    fixed, share, lost, of_loss = prices.loc[name]
    return fixed + share * a, lost + of_loss * (a + 20)
def meet(one, other, a=payment):
    (g, f), (h, e) = line(one, a), line(other, a)
    return (h - g) / (h - g + f - e)
def gap(a):
    return meet("call", "block", a) - meet("confirm", "call", a)
call_from = brentq(gap, 1, 1e5, xtol=1e-10)
"""
#: Load of question 7; run on both sides, and to draw a bank.
LOAD = """
f = facts["value"]
def busy_cores(rate=f["peak"], repeat_ms=f["repeat_ms"]):
    return rate * ((1 - f["repeats"]) * f["first_ms"] + f["repeats"] * repeat_ms) / 1000
def machines_for(cores, allowed=f["busy"], of=f["cores"]):
    return int(np.ceil(cores / (of * allowed)))
needed = machines_for(busy_cores())
confused = {
    "mean": machines_for(busy_cores(rate=f["mean"])) + 1,
    "again": machines_for(busy_cores(repeat_ms=f["first_ms"])) + 1,
    "all busy": machines_for(busy_cores(), allowed=1) + 1,
    "cores": machines_for(busy_cores(), of=1) + 1,
}
"""
FACTS = {
    "mean": ("requests a second, mean over the day", 80),
    "peak": ("requests a second at the peak", 320),
    "repeats": ("share of requests that repeat one that has been answered", 0.10),
    "first_ms": ("processor time of a first request (ms)", 40),
    "repeat_ms": ("processor time of a repeat, answered from the audit (ms)", 2),
    "cores": ("cores of a machine", 4),
    "busy": ("share of its cores that may be busy at the peak", 0.5),
    "row": ("bytes of a payment's row in the audit", 1_500),
    "copies": ("copies of the audit", 3),
    "kept": ("days for which the audit is kept", 400),
    "fraud": ("share of fraud among payments", 0.0005),
    "held": ("share of payments held back", HELD),
    "recall": ("recall that is expected", 0.6),
}


def _copied(made: object) -> object:
    if isinstance(made, tuple):
        return tuple(map(_copied, made))
    return made.copy() if isinstance(made, (pd.DataFrame, pd.Series)) else made


def _drawn(function: Callable) -> Callable:
    """Let a function of a seed take the student's by default, run once, and give copies."""
    once = lru_cache(maxsize=1)(function)

    @wraps(once)
    def drawn(seed: int | None = None) -> object:
        return _copied(once(student_seed(SEED) if seed is None else seed))

    return drawn


@_drawn
def tariff(seed: int) -> tuple[pd.DataFrame, float]:
    """Return what each answer of a bank costs, and a payment for which no call pays."""

    def priced(confirm: float, block: float) -> pd.DataFrame:
        rows = {
            "allow": (0, 0, 0, 1),
            "confirm": (confirm, 0.001, 0.10, 0.20),
            "call": (block, 0.002, 3.00, 0.05),
            "block": (block, 0.012, 0, 0),
        }
        columns = ("genuine", "genuine, share of a", "fraud", "fraud, share of a + 20")
        return pd.DataFrame.from_dict(rows, "index", float, columns).rename_axis("answer")

    rng, prices, payment = np.random.default_rng(seed), priced(0.40, 3.40), 60.0
    while seed != SEED:
        prices = priced(
            rng.choice(np.arange(0.30, 0.56, 0.05)), rng.choice(np.arange(2.8, 4.1, 0.2))
        )
        payment = float(rng.choice(np.arange(40, 85, 5)))
        if run(LINES + "call_from", {"prices": prices, "payment": payment}) > 1.2 * payment:
            break
    return prices, payment


@_drawn
def setting(seed: int) -> bank.Setting:
    """Return the exercise's world, with half of the chapter's customers, cut at day 84.

    It trains on days 14 to 62 with the labels known on day 84, and tests on days 84 to 109.
    """
    return bank.setting(simulate(seed=seed, n_customers=CUSTOMERS, days=DAYS), BEGIN, STOP)


@_drawn
def colleagues(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return probabilities of two models for the test weeks, and the rows they learned from.

    One kept every fraud and 5 % of the genuine rows, drawn at random. The other kept all rows and
    had SMOTE make more frauds, between those there are, until there was one for four genuine rows.
    """
    week = setting(seed)
    X, y = week.X.loc[week.labels.index], week.labels.to_numpy()
    kept = (y == 1) | (np.random.default_rng(0).random(len(y)) < KEPT)
    more = {**QUICK, "frauds_per_genuine": MADE, "neighbours": 5}
    trained = {
        "under-sampled": models.FAMILIES["LightGBM"].fit(X[kept], y[kept], QUICK),
        "SMOTE": models.FAMILIES["LightGBM SMOTE"].fit(X, y, more),
    }
    test = week.X.loc[week.test.index]
    raw = pd.DataFrame({name: model.score(test) for name, model in trained.items()}, test.index)
    genuine, fraud = int((y == 0).sum()), int((y == 1).sum())
    counts = {
        "as it was": (genuine, fraud),
        "under-sampled": (int((y[kept] == 0).sum()), fraud),
        "SMOTE": (genuine, int(MADE * genuine)),
    }
    rows = pd.DataFrame(counts, index=["genuine", "fraud"]).T
    return raw, rows.rename_axis("training rows")


def friction(seed: int, p: pd.Series) -> int:
    """Return how many payments of the test weeks meet friction by probabilities."""
    return int((costs.tiers(p, setting(seed).test["amount"]) != "allow").sum())


@_drawn
def _scored(seed: int) -> pd.DataFrame:
    week = setting(seed)
    p = week.train().score(week.X.loc[week.test.index])
    return pd.DataFrame({"p": p, "amount": week.test["amount"], "fraud": week.test["y"] == 1})


@_drawn
def _decided(seed: int) -> pd.DataFrame:
    scored, rng = _scored(seed), np.random.default_rng(5)
    drawn = rng.integers(0, len(scored), PAYMENTS)
    blocked = (scored["p"] >= CUT).to_numpy()[drawn]
    return pd.DataFrame(
        {
            "amount": scored["amount"].clip(lower=0).to_numpy()[drawn],
            "advised": pd.Categorical.from_codes(blocked.astype(int), ["allow", "block"]),
            "held_back": rng.random(PAYMENTS) < HELD,
            "fraud": scored["fraud"].to_numpy(float)[drawn],
        }
    )


def quarter(seed: int | None = None, *, truth: bool = False) -> pd.DataFrame:
    """Return payments of the test weeks, drawn and scored, at a bank that allows or blocks.

    ``fraud`` is missing where a payment was stopped, unless the truth is asked for: nobody at the
    bank knows it. One payment in a hundred was held back: let through whatever was advised.
    """
    table = _decided(seed)
    stopped = (table["advised"] == "block") & ~table["held_back"]
    return table if truth else table.assign(fraud=table["fraud"].mask(stopped))


def true_recall(seed: int) -> float:
    """Return the share of all frauds of the quarter that it was advised to block."""
    table = _decided(seed)
    return float((table.loc[table["fraud"] == 1, "advised"] == "block").mean())


@_drawn
def small(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, World]:
    """Return a small world's table of today with three rows more, its known frauds, and itself."""
    drawn = simulate(seed=seed, n_customers=SNAPSHOT[0], days=SNAPSHOT[1])
    known = features.evidence(drawn.transactions, drawn.labels)
    return *_with_edges(drawn.transactions, known), drawn


def _with_edges(events: pd.DataFrame, known: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add three payments that lie on an edge of the terminal's risk, and number all again.

    At the terminal of a fraud that was known in time, one arrives exactly 7 and one exactly 14
    days after it; at that of another, one in the millisecond in which the fraud becomes known.
    """
    first = ~events["request"].duplicated() & (events["amount"] >= 0)
    frauds = known.merge(events[first], on="transaction")
    lag = (frauds["known"] - frauds["received"]) / DAY
    early, late = (frauds[(lag >= a) & (lag < b)].iloc[[0]] for a, b in ((1, 7), (8, 13)))
    moments = (early["received"] + 7 * DAY, early["received"] + 14 * DAY, late["known"])
    rows = [
        row[events.columns].assign(received=moment, time=moment, request=-number)
        for number, (row, moment) in enumerate(zip((early, early, late), moments, strict=True), 1)
    ]
    added = pd.concat([events, *rows]).astype(events.dtypes.to_dict())
    added["transaction"] = [*events["transaction"], *range(-len(rows), 0)]
    added = added.sort_values("received", kind="stable", ignore_index=True)
    numbers = pd.Series(added.index, added["transaction"])
    known = known.assign(transaction=numbers.loc[known["transaction"]].to_numpy())
    return added.assign(transaction=added.index), known


def events(seed: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of today of a small world, in order, and when each fraud became known."""
    return small(seed)[:2]


def candidates(events: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return five features that are proposed for the store, by transaction.

    ``events`` is the table of today, in order of arrival; ``known`` has ``transaction`` and
    ``known`` of each fraud.
    """
    customer, terminal = events["customer"], events["terminal"]
    at, amount = events["received"], events["amount"].clip(lower=0)
    opened = events.groupby("terminal")["received"].transform("min")

    fraud = events["transaction"].isin(known["transaction"])
    one = np.ones(len(events), int)
    rate = trailing(terminal, at, fraud, 7, include_current=True)
    rate /= trailing(terminal, at, one, 7, include_current=True)

    used = events[["transaction", "received", "device"]].dropna()
    frauds = known.merge(used[["transaction", "device"]], on="transaction")
    pairs = used.merge(frauds[["device", "known"]], on="device")
    found = pairs[pairs["known"] <= pairs["received"]].groupby("transaction").size()

    columns = {
        "spent_24h": trailing(customer, at, amount, 1, include_current=True),
        "terminal_age": (at - opened) / DAY,
        "amount_record": amount.groupby(customer).cummax(),
        "terminal_fraud_rate_7d": rate,
        "device_frauds": events["transaction"].map(found).fillna(0),
    }
    return pd.DataFrame(columns).set_index(events["transaction"])


def weeks(seed: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ``p``, ``amount`` and ``fraud`` of two weeks to choose on and of twelve days after."""
    scored, week = _scored(seed), setting(seed)
    later = (week.test["time"] >= week.start + 14 * DAY).to_numpy()
    return scored[~later].copy(), scored[later].copy()


def by_truth(table: pd.DataFrame, chosen: np.ndarray) -> dict[str, float]:
    """Return what answers to payments as of :func:`weeks` came to: shares (%), euro for 1,000."""
    fraud, asked = table["fraud"].to_numpy(), chosen != "allow"
    paid = costs.expected_costs(fraud.astype(float), table["amount"])
    each = paid.to_numpy()[np.arange(len(table)), paid.columns.get_indexer(chosen)]
    return {
        "friction (%)": 100 * float(asked[~fraud].mean()),
        "frauds not allowed (%)": 100 * float(asked[fraud].mean()),
        "cost": 1000 * float(each.mean()),
    }


@_drawn
def labels_today(seed: int) -> tuple[pd.Series, pd.Series]:
    """Return the labels known at the end of the world, and each transaction's day."""
    world = setting(seed).world
    labels = visible_labels(world, world.end, bank.WAIT).set_index("transaction")["chargeback"]
    received = world.transactions.set_index("transaction")["received"]
    return labels.astype(int), (received - world.start) / DAY


_scores: dict[int, np.ndarray] = {}


def fit_and_score(training: pd.Series, test: pd.Series, seed: int | None = None) -> np.ndarray:
    """Train LightGBM on labels by transaction, in any order, and score the rows of another Series.

    The same payments and labels again are looked up.
    """
    seed, training = student_seed(SEED) if seed is None else seed, training.sort_index()
    given = (training.index.to_numpy(int), training.to_numpy(int), test.index.to_numpy(int))
    key = hash((seed, *(values.tobytes() for values in given)))
    if key not in _scores:
        X = setting(seed).X
        model = models.FAMILIES["LightGBM"].fit(X.loc[training.index], given[1], QUICK)
        _scores[key] = model.score(X.loc[test.index])
    return _scores[key]


def average_precision(training: pd.Series, test: pd.Series, seed: int | None = None) -> float:
    """Return the average precision of :func:`fit_and_score` by the labels of the test.

    Raises
    ------
    TypeError, ValueError
        If one of the two is no Series, or has positions where it should have transactions.
    """
    for name, labels in (("training", training), ("test", test)):
        wanted = f"`{name}` should be a Series of labels by transaction, as `today` is"
        if not isinstance(labels, pd.Series):
            raise TypeError(f"{wanted}; it is a {type(labels).__name__}")
        if np.array_equal(labels.index, np.arange(len(labels))):
            raise ValueError(f"{wanted}; its index counts from 0, as after `reset_index`")
    return rare.average_precision(test, fit_and_score(training, test, seed))


def ap_random(seed: int) -> float:
    """Return it for days 14 to 109 with the labels of today, 70 % drawn for training."""
    labels, day = labels_today(seed)
    both = labels[day[labels.index].between(bank.WARM_UP, STOP, inclusive="left")]
    drawn = np.random.default_rng(0).random(len(both)) < 0.7
    return average_precision(both[drawn], both[~drawn], seed)


@_drawn
def facts(seed: int) -> pd.DataFrame:
    """Return the facts of question 7's bank: what each is, and its value."""
    table = pd.DataFrame(FACTS, index=["fact", "value"]).T.astype({"value": float})
    rng = np.random.default_rng(seed)
    while seed != SEED:
        table.loc["mean", "value"] = mean = 10 * rng.integers(5, 12)
        table.loc["peak", "value"] = mean * rng.integers(3, 6)
        table.loc["repeats", "value"] = rng.integers(8, 16) / 100
        table.loc["first_ms", "value"] = 5 * rng.integers(7, 13)
        table.loc["recall", "value"] = 0.05 * rng.integers(11, 15)
        scope: dict = {"facts": table, "np": np}
        counts = [run(LOAD + "needed", scope), scope["needed"] + 1, *scope["confused"].values()]
        if len(set(counts)) == len(counts):  # no two mistakes give the same
            break
    return table


exercise = Exercise(
    "12_card_fraud",
    SEED,
    given={
        "prices": lambda seed: tariff(seed)[0],
        "payment": lambda seed: tariff(seed)[1],
        "raw": lambda seed: colleagues(seed)[0],
        "counts": lambda seed: colleagues(seed)[1],
        "friction_of": lambda seed: partial(friction, seed),
        "decisions": quarter,
        "true_recall": true_recall,
        "events": lambda seed: events(seed)[0],
        "known": lambda seed: events(seed)[1],
        "proposed": lambda seed: candidates(*events(seed)),
        "trailing": lambda seed: trailing,
        "validation": lambda seed: weeks(seed)[0],
        "after": lambda seed: weeks(seed)[1],
        "costs": lambda seed: costs,
        "world": lambda seed: setting(seed).world,
        "today": lambda seed: labels_today(seed)[0],
        "day": lambda seed: labels_today(seed)[1],
        "ap_of": lambda seed: partial(average_precision, seed=seed),
        "ap_random": ap_random,
        "visible_labels": lambda seed: visible_labels,
        "facts": facts,
    },
)
