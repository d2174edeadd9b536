"""Questions of exercise 12: cut-offs, repaired odds, hold-back, a leak, friction, weeks, scale."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pandas as pd

from casebook.cases.card_fraud import bank, costs, features, models, protocol
from casebook.cases.card_fraud.world import World, simulate, visible_labels
from casebook.cases.card_fraud.world.constants import SEED, SNAPSHOT
from casebook.exercises.asked import (
    Column,
    Exercise,
    Labels,
    Number,
    Numbers,
    Part,
    Prediction,
    Slip,
    Word,
    run,
)
from casebook.exercises.grading import student_seed
from casebook.features.windows import trailing

CASE = "12_card_fraud"
DAY = pd.Timedelta(days=1)


def _seed(seed: int | None) -> int:
    return student_seed(SEED) if seed is None else seed


# What the exercise shows. Each function takes the seed of a student (by default
# ``CASEBOOK_STUDENT_SEED``, or the chapter's) and makes what one question needs, no more.


def _drawn_bank(rng: np.random.Generator) -> tuple[pd.DataFrame, float]:
    fixed, block = rng.choice(np.arange(0.30, 0.56, 0.05)), rng.choice(np.arange(2.8, 4.1, 0.2))
    return _tariff(fixed, block), float(rng.choice(np.arange(40, 85, 5)))


def _tariff(confirm: float, block: float) -> pd.DataFrame:
    rows = {
        "allow": (0, 0, 0, 1),
        "confirm": (confirm, 0.001, 0.10, 0.20),
        "call": (block, 0.002, 3.00, 0.05),
        "block": (block, 0.012, 0, 0),
    }
    columns = ("genuine", "genuine, share of a", "fraud", "fraud, share of a + 20")
    return pd.DataFrame.from_dict(rows, "index", float, columns).rename_axis("answer")


def tariff(seed: int | None = None) -> tuple[pd.DataFrame, float]:
    """Return what each answer of question 1's bank costs, and the payment that it asks about.

    Returns
    -------
    prices : DataFrame
        Index ``answer``; euro, and shares of the amount a or of the loss a + 20.
    payment : float
        Euro. At this amount a call is never the cheapest answer.
    """
    if (seed := _seed(seed)) == SEED:
        return _tariff(0.40, 3.40), 60.0
    rng = np.random.default_rng(seed)
    while True:
        prices, payment = _drawn_bank(rng)
        scope: dict = {"prices": prices, "payment": payment}
        run(_LINES, scope)
        if scope["call_from"] > 1.2 * payment:
            return prices, payment


#: Customers and days of the world of the questions 2, 3, 5 and 6; first and last day of its test.
CUSTOMERS, DAYS, BEGIN, STOP = 1500, 150, 84, 110


@cache
def _setting(seed: int) -> bank.Setting:
    drawn = simulate(seed=seed, n_customers=CUSTOMERS, days=DAYS)
    return bank.setting(drawn, BEGIN, STOP)


def setting(seed: int | None = None) -> bank.Setting:
    """Return the exercise's world, cut at day 84: half of the chapter's customers.

    It trains on days 14 to 62 with the labels known on day 84, and tests on days 84 to 109.
    """
    return _setting(_seed(seed))


#: Share of genuine rows that one colleague kept; frauds for each genuine row that SMOTE made.
KEPT, MADE = 0.05, 0.25
#: Fewer trees and thresholds than in the chapter: quicker, and enough for these questions.
QUICK = {**models.FAMILIES["LightGBM"].trials[0], "rounds": 40, "max_bin": 63}


@cache
def _colleagues(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    week = setting(seed)
    X, y = week.X.loc[week.labels.index], week.labels.to_numpy()
    kept = (y == 1) | (np.random.default_rng(0).random(len(y)) < KEPT)
    under = models.FAMILIES["LightGBM"].fit(X[kept], y[kept], QUICK)
    smote = models.FAMILIES["LightGBM SMOTE"].fit(
        X, y, {**QUICK, "frauds_per_genuine": MADE, "neighbours": 5}
    )
    test = week.X.loc[week.test.index]
    raw = {"under-sampled": under.score(test), "SMOTE": smote.score(test)}
    genuine, fraud = int((y == 0).sum()), int((y == 1).sum())
    counts = {
        "as it was": (genuine, fraud),
        "under-sampled": (int((y[kept] == 0).sum()), fraud),
        "SMOTE": (genuine, int(MADE * genuine)),
    }
    rows = pd.DataFrame(counts, index=["genuine", "fraud"]).T
    return pd.DataFrame(raw, test.index), rows.rename_axis("training rows")


def colleagues(seed: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the models of two colleagues say of the test weeks, and what they learned from.

    One kept every fraud and 5 % of the genuine rows, drawn at random. The other kept all rows and
    had SMOTE make more frauds, between those there are, until there was one for four genuine rows.

    Returns
    -------
    raw : DataFrame
        Index ``transaction``, columns ``under-sampled`` and ``SMOTE``: probabilities.
    counts : DataFrame
        Rows of the training, ``genuine`` and ``fraud``: as it was, and for each of the two.
    """
    raw, counts = _colleagues(_seed(seed))
    return raw.copy(), counts.copy()


def _friction(seed: int, p: pd.Series) -> int:
    """Return how many payments of the test weeks meet friction by probabilities."""
    return int((costs.tiers(p, setting(seed).test["amount"]) != "allow").sum())


@cache
def _scored(seed: int) -> pd.DataFrame:
    week = setting(seed)
    p = week.train().score(week.X.loc[week.test.index])
    return pd.DataFrame({"p": p, "amount": week.test["amount"], "fraud": week.test["y"] == 1})


#: Payments of the quarter, share held back, cut-off of the policy.
PAYMENTS, HELD, CUT = 2_000_000, 0.01, 0.05


@cache
def _quarter(seed: int) -> pd.DataFrame:
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
    """Return a quarter of decisions at a bank that allows or blocks.

    Payments are drawn from the test weeks of the exercise's world, scored by the bank's model. One
    in a hundred was held back: let through whatever was advised.

    Parameters
    ----------
    seed : int, optional
    truth : bool
        Whether to tell what became of the blocked payments, too: nobody at the bank knows it.

    Returns
    -------
    DataFrame
        A row for each payment: ``amount`` (euro), ``advised`` (allow or block), ``held_back``,
        ``fraud`` (1, 0, or missing where the payment was stopped).
    """
    table = _quarter(_seed(seed))
    stopped = (table["advised"] == "block") & ~table["held_back"]
    return table.copy() if truth else table.assign(fraud=table["fraud"].mask(stopped))


def _true_recall(seed: int) -> float:
    table = _quarter(seed)
    return float((table.loc[table["fraud"] == 1, "advised"] == "block").mean())


@cache
def _small(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, World]:
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
    """Return the table of today of a small world, and when each fraud became known.

    Returns
    -------
    events : DataFrame
        Transactions in order of arrival, numbered from 0. Three were added that lie on the edges
        of the store's definition.
    known : DataFrame
        ``transaction`` and ``known`` of each fraud.
    """
    table, known, _ = _small(_seed(seed))
    return table.copy(), known.copy()


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
    """Return two weeks to choose on and the twelve days after them, scored by the bank's model.

    Returns
    -------
    validation, test : DataFrame
        Index ``transaction``: ``p`` (probability of fraud), ``amount`` (euro), ``fraud``.
    """
    scored, week = _scored(_seed(seed)), setting(seed)
    later = (week.test["time"] >= week.start + 14 * DAY).to_numpy()
    return scored[~later].copy(), scored[later].copy()


def by_truth(table: pd.DataFrame, chosen: np.ndarray) -> dict[str, float]:
    """Return what the chosen answers to scored payments came to, by the truth.

    Parameters
    ----------
    table : DataFrame, shape (n, 3)
        As of :func:`weeks`.
    chosen : array of str, shape (n,)

    Returns
    -------
    dict
        Friction and frauds not allowed (per cent), and the cost of 1,000 payments (euro).
    """
    fraud = table["fraud"].to_numpy()
    paid = costs.expected_costs(fraud.astype(float), table["amount"])
    each = paid.to_numpy()[np.arange(len(table)), paid.columns.get_indexer(chosen)]
    return {
        "friction (%)": 100 * float((chosen != "allow")[~fraud].mean()),
        "frauds not allowed (%)": 100 * float((chosen != "allow")[fraud].mean()),
        "cost": 1000 * float(each.mean()),
    }


@cache
def _labels_today(seed: int) -> tuple[pd.Series, pd.Series]:
    """Return the labels known at the end of the world, and each transaction's day."""
    world = setting(seed).world
    labels = visible_labels(world, world.end, bank.WAIT).set_index("transaction")["chargeback"]
    received = world.transactions.set_index("transaction")["received"]
    return labels.astype(int), (received - world.start) / DAY


_scores: dict[str, np.ndarray] = {}


def fit_and_score(training: pd.Series, test: pd.Series, seed: int | None = None) -> np.ndarray:
    """Train LightGBM on labelled payments of the exercise's world and score others.

    The same payments and labels again are looked up.

    Parameters
    ----------
    training : Series of 0 and 1
        Index ``transaction``; any order.
    test : Series
        Index ``transaction``; its values are not looked at.

    Returns
    -------
    ndarray, shape (len(test),)
    """
    import joblib

    seed, training = _seed(seed), training.sort_index()
    index = (training.index.to_numpy(int), training.to_numpy(int), test.index.to_numpy(int))
    if (key := joblib.hash((seed, *index))) not in _scores:
        X = setting(seed).X
        model = models.FAMILIES["LightGBM"].fit(X.loc[training.index], index[1], QUICK)
        _scores[key] = model.score(X.loc[test.index])
    return _scores[key]


def average_precision(training: pd.Series, test: pd.Series, seed: int | None = None) -> float:
    """Return the average precision of :func:`fit_and_score` by the labels of the test."""
    return protocol.average_precision(test, fit_and_score(training, test, seed))


def random_split(seed: int | None = None) -> tuple[pd.Series, pd.Series]:
    """Return the labels of today of days 14 to 109, 70 % drawn for training, and the rest."""
    labels, day = _labels_today(_seed(seed))
    both = labels[(day[labels.index] >= bank.WARM_UP) & (day[labels.index] < STOP)]
    drawn = np.random.default_rng(0).random(len(both)) < 0.7
    return both[drawn], both[~drawn]


_FACTS = {
    "mean": ("requests a second, mean over the day", 80),
    "peak": ("requests a second at the peak", 320),
    "repeats": ("share of them that repeat a request that has been answered", 0.10),
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


def facts(seed: int | None = None) -> pd.DataFrame:
    """Return the facts of question 7's bank.

    Returns
    -------
    DataFrame
        Index is a short name; ``fact`` says what it is, ``value`` is the number.
    """
    table = pd.DataFrame(_FACTS, index=["fact", "value"]).T.astype({"value": float})
    if (seed := _seed(seed)) == SEED:
        return table
    rng = np.random.default_rng(seed)
    while True:
        table.loc["mean", "value"] = mean = 10 * rng.integers(5, 12)
        table.loc["peak", "value"] = mean * rng.integers(3, 6)
        table.loc["repeats", "value"] = rng.integers(8, 16) / 100
        table.loc["first_ms", "value"] = 5 * rng.integers(7, 13)
        table.loc["recall", "value"] = 0.05 * rng.integers(11, 15)
        scope: dict = {"facts": table, "np": np}
        run(_LOAD, scope)
        counts = [scope["needed"], scope["needed"] + 1, *scope["confused"].values()]
        if len(set(counts)) == len(counts):  # no two mistakes give the same
            return table


def _given(function: Callable, place: int) -> Callable[[int], object]:
    return lambda seed: function(seed)[place]


#: Lines of question 1; run on both sides, and to draw a bank.
_LINES = """
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
_LOAD = """
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


exercise = Exercise(
    CASE,
    SEED,
    given={
        "prices": _given(tariff, 0),
        "payment": _given(tariff, 1),
        "raw": _given(colleagues, 0),
        "counts": _given(colleagues, 1),
        "friction_of": lambda seed: partial(_friction, seed),
        "decisions": quarter,
        "true_recall": _true_recall,
        "events": _given(events, 0),
        "known": _given(events, 1),
        "proposed": lambda seed: candidates(*events(seed)),
        "trailing": lambda seed: trailing,
        "validation": _given(weeks, 0),
        "after": _given(weeks, 1),
        "costs": lambda seed: costs,
        "world": lambda seed: setting(seed).world,
        "today": lambda seed: _labels_today(seed)[0],
        "day": lambda seed: _labels_today(seed)[1],
        "ap_of": lambda seed: partial(average_precision, seed=seed),
        "ap_random": lambda seed: average_precision(*random_split(seed), seed),
        "visible_labels": lambda seed: visible_labels,
        "facts": facts,
    },
)

# Question 1: cut-offs from costs.

PER_CENT = Slip("100 * right", "That is in per cent. A probability lies between 0 and 1.")
NEAR = Slip(
    "right * 1.01",
    "{value:.6g} is near, off by {abs(value - right):.1g}: either it comes from a grid of "
    "probabilities, or a price was rounded on the way. Two straight lines meet at one point, which "
    "can be computed.",
    when="abs(value / right - 1) < 0.03",
)
q1 = exercise.asked(
    1,
    "`confirm_from` and `block_from`, two probabilities, and `call_amount`, euro",
    setup=_LINES + "(g, f), (_, lost) = line('confirm', payment), line('allow', payment)\n",
    parts=[
        Part(
            "confirm_from",
            "meet('allow', 'confirm')",
            [
                Slip(
                    "g / (lost - f)",
                    "This is the price of a needless question over what the question saves: those "
                    "are *odds*. At a probability p you pay with 1 − p and save with p; solve for "
                    "p.",
                ),
                Slip(
                    "g / (g + lost)",
                    "This forgets what a confirmation lets through: of the loss only the part that "
                    "it stops is saved.",
                ),
                Slip(
                    "g / lost",
                    "This is the price of a needless question over the whole loss. A confirmation "
                    "does not save all of it, and the ratio is one of odds, not a probability.",
                ),
                Slip(
                    "0.01",
                    "This is the number of the textbook table, the same for every amount. Here "
                    "costs are given: set what it costs to allow equal to what it costs to ask.",
                ),
                PER_CENT,
                NEAR,
            ],
            otherwise="At a probability of {value:.4g} and {payment:.0f} euro, to allow costs "
            "{value * lost:.3f} euro and to confirm {(1 - value) * g + value * f:.3f}. They should "
            "be equal.",
            kind=Number(1e-4),
            also=[
                "brentq(lambda p: p * lost - (1 - p) * g - p * f, 0, 1, xtol=1e-12)",
                "1 / (1 + (lost - f) / g)",
            ],
        ),
        Part(
            "block_from",
            "meet('confirm', 'block')",
            [
                Slip(
                    "meet('allow', 'block')",
                    "This compares a block with letting the payment pass. By then nobody would let "
                    "it pass: a confirmation is cheaper. Compare with the best of the others.",
                ),
                Slip(
                    "meet('call', 'block')",
                    "Here a block gets cheaper than a *call*: you gave each answer its turn. Draw "
                    "the four lines: at this probability, is a call the cheapest of the others?",
                ),
                Slip(
                    "meet('confirm', 'call')",
                    "Here a call gets cheaper than a confirmation. Before they meet, a third "
                    "answer has become cheaper than both.",
                ),
                Slip(
                    ("0.9", "0.5"),
                    "This is a number from the textbook. A block of a genuine payment costs little "
                    "here compared with a lost amount, so that it pays much earlier.",
                ),
                PER_CENT,
                NEAR,
            ],
            otherwise="{value:.4g} is no point at which a block begins to be the cheapest. Which "
            "answer is the cheapest just below it?",
            kind=Number(1e-4),
        ),
        Part(
            "call_amount",
            "call_from",
            [
                Slip(
                    "np.inf",
                    "A call is not the loser for ever: its price is fixed, and what a confirmation "
                    "lets through grows with the amount, as does the margin that a block gives "
                    "away. Try a thousand euro.",
                    form="isinstance(value, float) and value == np.inf",
                ),
                Slip(
                    "right + 3",
                    "{value:.2f} is near, within {abs(value - right):.2g} euro: do not step "
                    "through amounts, solve for the one at which three lines meet in one point.",
                    when="abs(value - right) < 8",
                ),
                Slip(
                    "right / 2",
                    "At {value:,.2f} euro a call still has no turn: it beats a confirmation from "
                    "{meet('confirm', 'call', value):.3f} on, and by then a block, which beats a "
                    "call from {meet('call', 'block', value):.3f} on, is cheaper.",
                    when="0 < value < right",
                ),
            ],
            otherwise="At {value:,.2f} euro a call has its turn, from a probability of "
            "{meet('confirm', 'call', value):.3f} to {meet('call', 'block', value):.3f}. You are "
            "asked for the amount at which this stretch begins.",
            kind=Number(1e-4),
        ),
    ],
    prediction=Prediction(
        "all_in_turn",
        ("yes", "no"),
        "'yes' if call_amount <= payment else 'no'",
        "At {payment:.0f} euro the call's line lies above another one everywhere.",
    ),
    shows="At {payment:.0f} euro: confirm from {confirm_from:.4f}, block from {block_from:.3f}. "
    "From {call_amount:.2f} euro on a call is the cheapest for a stretch of probabilities.",
    hints=(
        "Put the payment into the table: each answer has two costs, and its expected cost is a "
        "straight line from the first (at probability 0) to the second (at 1). Draw the four "
        "lines.",
        "The cheapest answer is the lower edge of the drawing. Two lines with costs g₁, f₁ and g₂, "
        "f₂ meet at (g₂ − g₁) / (g₂ − g₁ + f₁ − f₂). Only corners of the lower edge count.",
        "A call has a turn where the point at which it passes the confirmation comes before the "
        "point at which the block passes it. Let the amount grow until the two are equal, with "
        "`scipy.optimize.brentq`.",
    ),
)

# Question 2: probabilities after resampling.


def _undone(name: str, column: str, other: str, *more: Slip, **options: object) -> Part:
    """Return the part that asks for one colleague's probabilities before resampling."""
    return Part(
        name,
        f"undo({column!r}, factor({column!r}))",
        [
            Slip(
                f"raw[{column!r}]",
                "These are the raw probabilities. Trained on other odds, a model tells others.",
            ),
            Slip(
                f"factor({column!r}) * raw[{column!r}]",
                f"The factor is right, but you multiplied the probability by it. A raw 1 would "
                f"become {{factor({column!r}):.3f}}, however certain the model is. Multiply the "
                "odds p / (1 − p).",
            ),
            Slip(
                f"factor({column!r}) * raw[{column!r}] / (1 - raw[{column!r}])",
                "These are the repaired odds, up to {value.max():.3g}. Turn them into a "
                "probability again.",
            ),
            Slip(
                f"share['as it was'] / share[{column!r}] * raw[{column!r}]",
                "You scaled by the two shares of fraud, so that the mean fits. A raw 1 would come "
                f"out as {{share['as it was'] / share[{column!r}]:.3f}}. What resampling "
                "multiplies are the odds.",
            ),
            Slip(
                f"undo({column!r}, 1 / factor({column!r}))",
                "Turned round: resampling raised the odds of fraud, and you raised them once more. "
                "They have to come down.",
            ),
            Slip(
                f"undo({column!r}, factor({other!r}))",
                "This is the factor of the other colleague. The two did not resample alike.",
            ),
            Slip(
                f"undo({column!r}, share['as it was'] / share[{column!r}])",
                "You divided shares of fraud. Odds are frauds for each *genuine* row, not for each "
                "row; where fraud is no longer rare the two differ.",
            ),
            *more,
        ],
        otherwise=f"The mean is {{value.mean():.4f}}, after {{raw[{column!r}].mean():.4f}} before. "
        "Which factor lies between genuine rows for each fraud before and after, and to what is it "
        "applied?",
        kind=Column(0.003),
        **options,
    )


q2 = exercise.asked(
    2,
    "`repaired_under` and `repaired_smote`, a probability for each row of `raw`, and two words, "
    '`ap` and `asked`, such as "same"',
    setup="""
ratio, share = counts["genuine"] / counts["fraud"], counts["fraud"] / counts.sum(axis=1)
def factor(name):
    return ratio[name] / ratio["as it was"]
def undo(name, by):
    return by * raw[name] / (by * raw[name] + 1 - raw[name])
""",
    parts=[
        _undone(
            "repaired_under",
            "under-sampled",
            "SMOTE",
            also=["1 / (1 + (1 / raw['under-sampled'] - 1) / 0.05)", "undo('under-sampled', 0.05)"],
            # The nominal 5 % is as good as the share that the draw gave.
            accepts="np.allclose(value, undo('under-sampled', 0.05), rtol=3e-3, atol=0)",
        ),
        _undone(
            "repaired_smote",
            "SMOTE",
            "under-sampled",
            Slip(
                "undo('SMOTE', 0.25)",
                "0.25 is the ratio *after* SMOTE. By how much the odds were raised depends on the "
                "ratio before, too: compare both rows of the table.",
            ),
        ),
        Part(
            "ap",
            "'same'",
            [
                Slip(
                    ("'up'", "'down'"),
                    "Average precision asks only which payment stands above which, and the repair "
                    "is a rising function of the raw value: nobody changes places.",
                )
            ],
            otherwise="Give one word.",
            kind=Word(("up", "same", "down")),
        ),
        Part(
            "asked",
            "'fewer'",
            [
                Slip(
                    "'same'",
                    "Decisions do not look at ranks: they compare a probability with a cut-off. "
                    "From the raw one of the under-sampled model "
                    "{friction_of(raw['under-sampled']):,} payments meet friction. Count them once "
                    "more.",
                ),
                Slip(
                    "'more'",
                    "The raw probabilities are too high, so the costs ask too often by them: "
                    "{friction_of(raw['under-sampled']):,} payments. Down they come.",
                ),
            ],
            otherwise="Give one word.",
            kind=Word(("more", "same", "fewer")),
        ),
    ],
    shows="The ranks stay, and so does AP. By the same costs "
    "{friction_of(raw['under-sampled']):,} payments met friction by the raw probabilities of the "
    "under-sampled model, and {friction_of(repaired_under):,} do by the repaired ones.",
    hints=(
        "Take a spot where 1 of 201 payments is fraud: odds of 1 to 200. Of the genuine ones, one "
        "in twenty is kept. Which odds does the model see at that spot?",
        "Resampling multiplies the odds p / (1 − p) by one factor, the same everywhere: genuine "
        "rows for each fraud before, over those after. Divide by it, and turn odds into a "
        "probability again, odds / (1 + odds).",
        "With `ratio = counts['genuine'] / counts['fraud']` and "
        "`k = ratio['SMOTE'] / ratio['as it was']` it is `k * s / (k * s + 1 - s)`. It rises with "
        "`s`: what does that mean for ranks, and what for a fixed cut-off?",
    ),
)

# Question 3: a hold-back that gives recall, precision and the amount of fraud.

q3 = exercise.asked(
    3,
    "`precision`, `recall` and `amount`, three numbers, and `interval`, two numbers",
    setup="""
block, held = decisions["advised"] == "block", decisions["held_back"]
N, n = int(block.sum()), int((block & held).sum())  # blocked; of these, held back
total = decisions["amount"][block].sum()
labelled = int(decisions["fraud"].notna().sum())
frauds = decisions[decisions["fraud"] == 1]
caught = frauds["advised"] == "block"
k, missed = int(caught.sum()), int((~caught).sum())
missed_held = int((~caught & frauds["held_back"]).sum())
a, b = frauds["amount"][caught].sum(), frauds["amount"][~caught].sum()
b_held = frauds["amount"][~caught & frauds["held_back"]].sum()
S = N * k / n
R, R_100 = S / (S + missed), 100 * k / (100 * k + missed)
def narrow(r):  # N is known, so k is a count out of n
    return 1.96 * r * (1 - r) * np.sqrt((1 - k / n) / k)
def wide(r):  # the blocked payments are 100 times those held back, so n varies as well
    return 1.96 * r * (1 - r) / np.sqrt(k)
as_many, alone = (1.96 * np.sqrt(R * (1 - R) / m) for m in (S + missed, k + missed_held))
def half(value):
    return (value[1] - value[0]) / 2
def fits(value, recall):
    by_100 = abs(recall - R_100) < abs(recall - R)
    widths = [narrow(R), wide(R)] if by_100 else [narrow(R)]
    middle = min(abs((value[0] + value[1]) / 2 - r) for r in (recall, R, R_100))
    return middle <= 0.4 * half(value) and any(0.88 <= half(value) / w <= 1.12 for w in widths)
def like(value, width):
    return 0.9 <= half(value) / width <= 1.1
""",
    parts=[
        Part(
            "precision",
            "k / n",
            [
                Slip(
                    "k / N",
                    "This divides the frauds of the *held-back* blocked payments by *all* blocked "
                    "payments, so that missing labels count as genuine. Count the same payments "
                    "above and below the line.",
                ),
                Slip(
                    "(k + missed) / labelled",
                    "This is the share of fraud among all labels. Precision asks only of payments "
                    "that were advised to be blocked.",
                ),
                Slip("1.0", "That would mean that no genuine payment was ever blocked."),
            ],
            otherwise="{value:.4g}: of which payments with a known end was a block advised, and "
            "how many of them were fraud?",
            kind=Number(5e-4),
            also=["decisions['fraud'][block].mean()"],
        ),
        Part(
            "recall",
            "R",
            [
                Slip(
                    "k / (k + missed)",
                    "This counts labels as they lie: {k} frauds that were advised to be blocked "
                    "against {missed:,} that were missed. But of the blocked ones only one in a "
                    "hundred has a label, of the others each. The naive recall is always too "
                    "*low*.",
                ),
                Slip(
                    "N / (N + missed)",
                    "This takes every blocked payment for a fraud, as if nobody blocked "
                    "needlessly. It is always too *high*.",
                ),
                Slip(
                    "100 * k / (100 * k + missed + 99 * missed_held)",
                    "This gives the weight 100 to every held-back row and counts the other labels, "
                    "too: the frauds that were allowed go in about twice. An allowed payment has a "
                    "label whether it was held back or not, so its weight is 1.",
                ),
                Slip(
                    "k / (k + missed_held)",
                    "This uses the hold-back alone. That is not wrong on average, but it throws "
                    "away the labels of {missed - missed_held:,} frauds that were allowed, and the "
                    "interval gets much wider. Use every label, each with its own weight.",
                ),
                Slip("1 - right", "This is upside down: the share that was missed."),
            ],
            otherwise="{value:.4g} is none of the usual mix-ups. Estimate how many frauds were "
            "stopped, add those that were missed, and take the share.",
            kind=Number(5e-4),
            also=["precision * N / (precision * N + missed)", "R_100"],
            # Any estimate that the evidence cannot tell from this one, such as one by strata.
            accepts="abs(value - R) <= 0.4 * narrow(R) or abs(value / R_100 - 1) < 1e-3",
        ),
        Part(
            "amount",
            "N / n * a + b",
            [
                Slip(
                    "a + b",
                    "This adds up the frauds that have a label. Of what was blocked, one euro in a "
                    "hundred is among them: too low.",
                ),
                Slip(
                    ("N / n * a", "100 * a"),
                    "This is what was stopped. The question is about all fraud, with what was let "
                    "pass.",
                ),
                Slip(
                    ("100 * (a + b)", "N / n * (a + b)"),
                    "Every label got the weight of a blocked one. Frauds that were allowed are all "
                    "labelled: their weight is 1.",
                ),
                Slip(
                    "100 * (a + b_held)",
                    "This uses the hold-back alone: right on average, and noisier than it need be. "
                    "Frauds that were allowed are all known.",
                ),
            ],
            otherwise="{value:,.0f}: add the amounts of labelled frauds, each with its weight.",
            kind=Number(5e-4),
            also=["100 * a + b", "total * a / decisions['amount'][block & held].sum() + b"],
            accepts="min(abs(value / (w * a + b) - 1) for w in (100, N / n, total / "
            "decisions['amount'][block & held].sum())) < 2e-3",
        ),
        Part(
            "interval",
            "(recall - narrow(recall), recall + narrow(recall))",
            [
                Slip(
                    "(R + narrow(R), R - narrow(R))",
                    "The lower end comes first.",
                    when="value[0] >= value[1]",
                ),
                Slip(
                    "(R - as_many, R + as_many)",
                    "Each held-back fraud was counted as a hundred observations. A weight makes "
                    "one observation speak for many, it does not make many of it: {k} were seen, "
                    "and that is all the evidence there is.",
                    when="like(value, as_many)",
                ),
                Slip(
                    "(R - alone, R + alone)",
                    "This is the interval of a recall that uses the hold-back alone. Yours also "
                    "knows all missed frauds; only the stopped ones are guessed, so it is "
                    "narrower.",
                    when="like(value, alone)",
                ),
                Slip(
                    "(R - narrow(R) / 1.96, R + narrow(R) / 1.96)",
                    "This is one standard error on each side, about 68 %, not 95 %.",
                    when="like(value, narrow(R) / 1.96) or like(value, wide(R) / 1.96)",
                ),
                Slip(
                    "(R - wide(R), R + wide(R))",
                    "This is wider than the evidence: it lets the count vary by √k, as if nobody "
                    "knew that {N:,} payments were blocked and {n:,} of them held back. Given "
                    "these, only the share k / n is uncertain: by √(k (1 − k / n)).",
                    when="like(value, wide(R))",
                ),
                Slip(
                    "(0.0, 1.0)",
                    "From {value[0]:.3f} to {value[1]:.3f} is {100 * half(value):.2f} points on "
                    "each side: this holds the recall, but the evidence says more than that.",
                    when="half(value) > 1.5 * wide(R)",
                ),
            ],
            otherwise="{100 * half(value):.2f} points on each side of "
            "{(value[0] + value[1]) / 2:.3f}. Of all that goes into the recall, which count is "
            "uncertain, and by how much?",
            kind=Numbers((2,), 1e-3),
            accepts="value[0] < value[1] and fits(value, recall)",
        ),
    ],
    prediction=Prediction(
        "naive_is",
        ("too low", "too high"),
        "'too low' if k / (k + missed) < recall else 'too high'",
        "Without weights the recall would be {k / (k + missed):.1%}, and the better a policy "
        "blocks, the fewer of its frauds have a label.",
    ),
    shows="Of {N:,} blocked payments about {S:,.0f} were fraud, and {missed:,} frauds were missed: "
    "recall {R:.1%}, give or take {100 * narrow(R):.1f} points. A weight of 100 for each held-back "
    "fraud gives {R_100:.1%}, give or take {100 * wide(R_100):.1f}. The truth, which the bank will "
    "never see, is {true_recall:.1%}.",
    hints=(
        "For which payments do you know the end? A blocked one only if it was held back: one "
        "chance in a hundred. An allowed one always. So how many does each labelled payment speak "
        "for?",
        "The held-back payments among the blocked show the precision. Times the number of blocked "
        "payments, which the bank knows, it gives the frauds stopped; those missed are counted.",
        "Only the number k of frauds among the n held-back blocked payments is uncertain, by "
        "√(k (1 − k / n)). With S stopped and M missed, recall S / (S + M) varies by recall · "
        "(1 − recall) · √((1 − k / n) / k); take 1.96 times that.",
    ),
)

# Question 4: the feature that leaks.

HARMLESS = {
    "spent_24h": "`spent_24h` counts the payment that is being decided, and may: its amount is in "
    "the request. What must not be in a feature is what nobody knows yet.",
    "terminal_age": "`terminal_age` takes a minimum over the whole table, which looks bad. But the "
    "first purchase at a terminal is never later than the present one: nothing that comes after "
    "can change it.",
    "amount_record": "`amount_record` grows with the table, row by row: `cummax` ends at the "
    "present payment, whose amount is known.",
    "device_frauds": "`device_frauds` uses labels, and uses them rightly: only those with `known` "
    "up to the moment of the payment. Whoever sees labels and cries leak loses the best features.",
}
ROWS = "{int(differ(value, right).sum()):,} rows differ. "
q4 = exercise.asked(
    4,
    "`leaks`, a name in quotes, and `repaired`, a number for each row of `events`",
    setup="""
from functools import cache
ms = pd.Timedelta(milliseconds=1)
columns = ["transaction", "terminal", "received"]
first, paid = ~events["request"].duplicated(), events["amount"] >= 0
counted = {"purchases": first & paid, "first": first, "paid": paid, "all": first | True}
def purchases(rows, delay, span=7):
    return trailing(events["terminal"], events["received"], counted[rows], span, delay)
@cache
def pairs(rows):
    frauds = known.merge(events.loc[counted[rows], columns], on="transaction")
    frauds = frauds.drop(columns="transaction")
    return events[columns].merge(frauds, on="terminal", suffixes=("", "_fraud"))
@cache
def risk(behind=7, by_now="<=", rows="purchases", low=0, high=0, below=None):
    p = pairs(rows)  # low, high: milliseconds by which an edge is moved
    age = (p["received"] - p["received_fraud"]) / ms
    hit = (age >= behind * 864e5 + low) & (age < (behind + 7) * 864e5 + high) & (age > 0)
    late = {"<=": p["known"] > p["received"], "<": p["known"] >= p["received"], "": age < 0}
    hits = p[hit & ~late[by_now]].groupby("transaction").size()
    hits = hits.reindex(events["transaction"], fill_value=0)
    return hits / np.maximum(purchases(rows, behind) if below is None else below(), 1)
def moved(low, high):  # the same edges above and below the line
    span, delay = 7 + (high - low) / 864e5, 7 + low / 864e5
    return risk(low=low, high=high, below=lambda: purchases("purchases", delay, span))
def differ(value, right):
    return (value - right).abs() > 1e-6
def first_row(value, right):
    return differ(value, right).idxmax()
def ap(values):
    from casebook.cases.card_fraud.protocol import average_precision
    return average_precision(events["transaction"].isin(known["transaction"]), values)
""",
    parts=[
        Part(
            "leaks",
            "{'terminal_fraud_rate_7d'}",
            [Slip(f"{{{name!r}}}", reason) for name, reason in HARMLESS.items()],
            otherwise="One of them leaks, and not {names(sorted(value))}.",
            kind=Labels("list(proposed)"),
        ),
        Part(
            "repaired",
            "risk()",
            [
                Slip(
                    "proposed['terminal_fraud_rate_7d']",
                    ROWS + "This is the leaking feature itself, unchanged.",
                ),
                Slip(
                    ("risk(0, '')", "risk(0, '', 'all')"),
                    ROWS + "The present row is out, but the labels are still those of today: a "
                    "fraud of yesterday counts, though its chargeback comes in weeks.",
                ),
                Slip(
                    "risk(0)",
                    ROWS + "Only frauds that are known count: no leak any more. But the window "
                    "ends now, where hardly a chargeback has arrived, so it is nearly always zero. "
                    "The store's window ends a label delay, seven days, ago.",
                ),
                Slip(
                    "risk(7, '')",
                    ROWS + "The window ends seven days ago, and all its frauds count. A delay is "
                    "no knowledge: the median chargeback takes 18 days. A fraud counts if its "
                    "`known` has passed.",
                ),
                Slip(
                    "risk(rows='all')",
                    ROWS + "Retries and refunds are counted as purchases: a *purchase* is the "
                    "first row of its `request`, with an amount of zero or more.",
                ),
                Slip(
                    "risk(rows='paid')",
                    ROWS + "Refunds are out, but a retry still counts as a purchase of its own: "
                    "take only the first row of each `request`.",
                ),
                Slip(
                    "risk(rows='first')",
                    ROWS + "Retries are out, but a refund still counts as a purchase: take only "
                    "amounts of zero or more.",
                ),
                Slip(
                    "risk(below=lambda: purchases('purchases', 0))",
                    ROWS + "Frauds of one week are divided by the purchases of another. Take the "
                    "same seven days above and below the line.",
                ),
                Slip(
                    ("risk(low=1)", "moved(1, 0)"),
                    ROWS + "A purchase exactly 7 days ago is left out: an age of 7 days is within "
                    "the window (≥, not >).",
                ),
                Slip(
                    ("risk(high=1)", "moved(0, 1)"),
                    ROWS + "A purchase exactly 14 days ago is still counted: an age of 14 days is "
                    "not within the window (<, not ≤).",
                ),
                Slip(
                    ("risk(low=1, high=1)", "moved(1, 1)"),
                    ROWS + "Both edges are on the wrong side: an age of exactly 7 days is within, "
                    "of exactly 14 is not.",
                ),
                Slip(
                    "risk(by_now='<')",
                    ROWS + "A fraud that becomes known in the very millisecond of the payment is "
                    "not counted; it is known from then on (≤, not <).",
                ),
            ],
            otherwise=ROWS + "The first is transaction {first_row(value, right)}, where you have "
            "{value[first_row(value, right)]:.4g} and the store "
            "{right[first_row(value, right)]:.4g}. Take the definition word by word.",
            kind=Column(1e-4),
            also=["risk().to_numpy('float32')", "risk().tolist()"],
        ),
    ],
    shows="Equal to the store's in all {len(repaired):,} rows, the three on an edge included. Its "
    "average precision alone falls from {ap(proposed['terminal_fraud_rate_7d']):.2f} to "
    "{ap(repaired):.3f}: the rest was knowledge of the future. (`features.batch` gives the same "
    "numbers; if you called it, read in the solution what it computes.)",
    hints=(
        "Look at one payment and cover every row below it and every label that has not arrived. "
        "Which of the five columns can you no longer fill in?",
        "A fraud is not known when it happens: `known` says when. The store's risk has three "
        "conditions for a fraud that counts: the same terminal, between 7 and 14 days old, and "
        "known by now. Below the line are all purchases of the same seven days.",
        "Below the line: `trailing(terminal, received, purchase, 7, 7)`. Above it: join `known` "
        "with `events` to get each fraud's terminal and time, join that to all rows of the "
        "terminal, keep the pairs that fulfil the conditions and count them by transaction.",
    ),
)

# Question 5: recall within a guardrail.

q5 = exercise.asked(
    5,
    "`price`, euro, and `extra`, euro a thousand payments",
    setup="""
from functools import cache
fine = validation[~validation["fraud"]]
def chosen(price, table=validation):
    price = max(np.ravel(price)[0], 0)
    return costs.tiers(table["p"], table["amount"], price=price)
def friction(price, table=fine):
    return float((chosen(price, table) != "allow").mean())
@cache
def lowest(name, genuine=True):
    table = {"validation": validation, "after": after}[name]
    table = table[~table["fraud"]] if genuine else table
    return costs.price_of_guardrail(table["p"], table["amount"], 0.01)
def bill(price, p=validation["p"]):
    each, tier = costs.expected_costs(p, validation["amount"]), chosen(price)
    return 1000 * sum(each.loc[tier == t, t].sum() for t in each) / len(each)
def let_go(price):
    return (chosen(0, fine) != "allow") & (chosen(price, fine) == "allow")
def still(price):
    return chosen(price, fine) != "allow"
""",
    parts=[
        Part(
            "price",
            "lowest('validation')",
            [
                Slip(
                    ("fine['p'].quantile(0.99)", "validation['p'].quantile(0.99)"),
                    "{value:.4f} is a *probability*: the single threshold above which 1 % of the "
                    "payments lie. It asks for a coffee as it asks for a laptop. You are asked for "
                    "a price in euro, which the tiers weigh against the amount.",
                ),
                Slip(
                    "0.0",
                    "Without a price the costs alone decide, and {friction(0):.2%} of the genuine "
                    "payments meet friction: more than the guardrail allows.",
                ),
                Slip(
                    ("lowest('after')", "lowest('after', False)"),
                    "The test is in this price. It has not happened when the price is set, and a "
                    "guardrail that was tuned on it is met by construction; on the validation "
                    "weeks friction would be {friction(value):.2%}.",
                ),
                Slip(
                    "lowest('validation', False)",
                    "At this price 1 % of *all* payments are asked, frauds among them. Stopping a "
                    "fraud is no friction: of the genuine ones only {friction(value):.2%} are "
                    "asked, so you pay for room that you leave unused.",
                ),
                Slip(
                    "-1.0",
                    "A negative price rewards friction. The guardrail wants less of it, not more.",
                    when="value < 0",
                ),
                Slip(
                    ("right / 2", "right * (1 - 1e-3)"),
                    "At {distinct(value, right, digits=4)} euro {round(friction(value) * "
                    "len(fine)):,} of the {len(fine):,} genuine payments of the validation weeks "
                    "meet friction, {friction(value):.4%}: above the guardrail.",
                    when="friction(value) > 0.01",
                ),
            ],
            otherwise="At {distinct(value, right, digits=4)} euro {friction(value):.3%} of the "
            "genuine payments meet friction: within the guardrail, but it costs more than it need. "
            "The expected cost is {bill(value):.1f} euro a thousand payments; a lower price would "
            "do.",
            kind=Number(1e-7),
            also=["costs.price_of_guardrail(fine['p'], fine['amount'], 0.01)", "right + 0.005"],
            # A step of a cent may let one or two more through: that is near enough.
            accepts="friction(value) <= 0.01 and right - 1e-6 <= value <= right + 0.01",
        ),
        Part(
            "extra",
            "bill(price) - bill(0)",
            [
                Slip(
                    "right + 1000 * price * (chosen(price) != 'allow').mean()",
                    "This has the price in it, as if somebody paid it. It is a shadow price: it "
                    "changes which answer is chosen, and no bill. Take the costs of the chosen "
                    "answers without it.",
                ),
                Slip("bill(price)", "This is the whole cost; the question is how much *more*."),
                Slip("right / 1000", "This is for one payment; give it for a thousand."),
                Slip(
                    "-right",
                    "The sign is turned round: a guardrail that binds can only make the expected "
                    "cost higher.",
                ),
                Slip(
                    "bill(price, validation['fraud'].astype(float)) "
                    "- bill(0, validation['fraud'].astype(float))",
                    "This is by the truth of the two weeks. Take the expected cost, at the model's "
                    "probabilities: a few frauds by chance would decide it otherwise.",
                ),
            ],
            otherwise="{value:.4g}: take the expected cost of the chosen answers at this price, "
            "minus that at price 0, both at the model's probabilities, times 1,000.",
            kind=Number(0.01),
            # Where the guardrail hardly binds, a price that is right by a cent moves this by more.
            accepts="abs(value / (bill(lowest('validation')) - bill(0)) - 1) <= 0.01",
        ),
    ],
    prediction=Prediction(
        "first_let_go",
        ("small", "large"),
        "'small' if fine['amount'][let_go(price)].median() < fine['amount'][still(price)].median() "
        "else 'large'",
        "The genuine payments that it lets go have a median of "
        "{fine['amount'][let_go(price)].median():.0f} euro, those that are still asked "
        "{fine['amount'][still(price)].median():.0f}.",
    ),
    shows="At {price:.2f} euro for each question or block, {friction(price):.2%} of the genuine "
    "payments meet friction, and {friction(price, validation[validation['fraud']]):.0%} of the "
    "frauds are not allowed. In the twelve days after, which had no say: "
    "{friction(price, after[~after['fraud']]):.2%} and "
    "{friction(price, after[after['fraud']]):.0%}.",
    hints=(
        "`costs.tiers(p, amount, price=…)` lets fewer payments meet friction the higher the price "
        "is. Whose friction is limited, and how far must the price rise?",
        "The lowest price that fulfils the guardrail is also the cheapest: whatever is let through "
        "for it is what it was least worth asking for. Look for it by bisection, over the genuine "
        "payments of the validation only.",
        "Halve the interval between a price that asks too many and one that does not, forty times, "
        "and take the upper end. For `extra` add up `costs.expected_costs` (without any price) of "
        "the tiers chosen at `price`, and of those chosen at 0.",
    ),
)

# Question 6: the broken evaluation.


def _split(name: str, labels: str, *more: Slip) -> Part:
    """Return the part that asks for an AP by weeks, with these training labels."""
    return Part(
        name,
        f"ap(part({labels}, 14, 63))",
        [
            *more,
            Slip(
                "ap_random",
                "This is the random split. Its training holds payments of the attacks that its "
                "test holds, and of later days.",
            ),
            Slip(
                (
                    f"ap_of(part({labels}, 14, 63), part(known_on(110, 0), 84, 110))",
                    f"ap_of(part({labels}, 14, 63), part(known_on(110, 21), 84, 110))",
                ),
                "The *test* has immature labels: on day 110 most chargebacks of its weeks are "
                "still to come, and frauds that the model finds count as mistakes. To judge, wait "
                "as long as you can; only the training may know no more than it could.",
            ),
            Slip(
                f"ap(part({labels}, 14, 62 + 1e-9))",
                "`day` has fractions: `between(14, 62)` and `<= 62` end at the midnight with which "
                "day 62 *begins*, and drop it. Take what is below 63.",
            ),
            Slip(
                f"ap_of(part({labels}, 14, 62 + 1e-9), part(today, 84, 109 + 1e-9))",
                "`day` has fractions, and both spans lost their last day: `between(84, 109)` ends "
                "as day 109 begins. Take what is below 63, and below 110.",
            ),
        ],
        otherwise="{value:.4g} is none of the usual mix-ups. Days 14 to 62 train, days 84 to 109 "
        "test, the test has the labels of today, and `ap_of` is the model.",
        kind=Number(5e-4),
        also=[f"ap(part({labels}, 14, 63).sample(frac=1, random_state=0))"],
    )


q6 = exercise.asked(
    6,
    "`ap_weeks` and `ap_then`, two numbers, and `production`, a word",
    setup="""
from functools import cache
def part(labels, first, last):
    when = day.loc[labels.index]
    return labels[(when >= first) & (when < last)]
@cache
def known_on(moment, wait=21):
    table = visible_labels(world, world.start + pd.Timedelta(days=moment), wait)
    return table.set_index("transaction")["chargeback"].astype(int)
def ap(learned):
    return ap_of(learned, part(today, 84, 110))
""",
    parts=[
        _split(
            "ap_weeks",
            "today",
            Slip(
                "ap(part(known_on(84), 14, 63))",
                "These training labels are already those of day 84. Change one thing alone here, "
                "the split, and keep the labels of today.",
            ),
            Slip(
                "ap(part(today, 14, 84))",
                "The training goes up to day 84. The last three weeks before the start have no "
                "labels that could be trusted then: it ends with day 62, as the question says.",
            ),
        ),
        _split(
            "ap_then",
            "known_on(84)",
            Slip(
                "ap(part(today, 14, 63))",
                "The training labels are those of today. On day 84 many of them had not arrived: "
                "ask `visible_labels` for that day.",
            ),
            Slip(
                "ap(part(known_on(110), 14, 63))",
                "The training labels are those of day 110. The model is to decide from day 84 on: "
                "what came in between was not known.",
            ),
            Slip(
                "ap(part(known_on(84, 0), 14, 84))",
                "The training goes up to day 84, and what has no chargeback yet counts as genuine. "
                "Of the last three weeks that is nearly everything, frauds too.",
            ),
        ),
        Part(
            "production",
            "'then'",
            [
                Slip(
                    "'random'",
                    "The random split is the number that production will *not* see: nobody trains "
                    "on payments of next week.",
                ),
                Slip(
                    "'weeks'",
                    "`weeks` has an honest order of days, and labels that came after the training "
                    "day. On day 84 nobody could have trained that model.",
                ),
            ],
            otherwise="Give one word.",
            kind=Word(("random", "weeks", "then")),
        ),
    ],
    prediction=Prediction(
        "matters_more",
        ("days", "labels"),
        "'days' if ap_random - ap_weeks > ap_weeks - ap_then else 'labels'",
        "The order of the days moves the AP by {ap_weeks - ap_random:+.3f}, the labels by "
        "{ap_then - ap_weeks:+.3f}.",
    ),
    shows="{ap_random:.2f} by the random split, {ap_weeks:.2f} by weeks, {ap_then:.2f} with the "
    "labels of the day: production sees the last.",
    hints=(
        "Two things are wrong at once: which payments train, and what is known of them. Change the "
        "first for `ap_weeks`, then the second as well for `ap_then`. The test stays the same.",
        "The test needs the best labels there are, those of today: judging is not deciding. The "
        "training may know only what had arrived when the model was to start.",
        "`visible_labels(world, world.start + pd.Timedelta(days=84), 21)`, kept for days 14 to 62, "
        "are the labels of `ap_then`.",
    ),
)

# Question 7: machines, storage and days.

q7 = exercise.asked(
    7,
    "`machines`, a whole number, `terabytes` and `days`, two numbers",
    setup=_LOAD
    + """
payments = f["mean"] * (1 - f["repeats"]) * 86_400  # in 24 hours
stored = payments * f["row"] * f["copies"] * f["kept"] / 1e12
R = f["recall"]
needed_frauds = 1.96**2 * R * (1 - R) / 0.05**2
wait = needed_frauds / (payments * f["fraud"] * f["held"])
""",
    parts=[
        Part(
            "machines",
            "needed + 1",
            [
                Slip(
                    "needed",
                    "Either there is none to lose, so that when one dies at the peak the others "
                    "are busier than they may be; or the load was rounded down before the spare "
                    "one was added.",
                ),
                Slip(
                    "confused['again']",
                    "This decides repeats once more. A repeat is found in the audit and gets its "
                    "old answer: {f['repeat_ms']:.0f} ms, not {f['first_ms']:.0f}.",
                ),
                Slip(
                    "confused['mean']",
                    "This serves the mean. Machines must carry the peak.",
                ),
                Slip(
                    "confused['all busy']",
                    "This keeps every core busy all the time. Then queues grow without end, and "
                    "the 99th percentile with them; the table allows one half.",
                ),
                Slip("confused['cores']", "This counts cores. Each machine has {f['cores']:.0f}."),
                Slip(
                    "right - 0.4",
                    "{value:.4g} is no whole number. Round up what the load needs, then add the "
                    "spare one.",
                    when="value != round(value)",
                ),
            ],
            otherwise="{value:.0f}: the peak keeps {busy_cores():.2f} cores busy. How many "
            "machines is that if half of their cores may be busy, rounded up, and one to lose?",
            kind=Number(1e-6),
            also=["-int(-busy_cores() // (f['cores'] * f['busy'])) + 1"],
        ),
        Part(
            "terabytes",
            "stored",
            [
                Slip(
                    "stored / (1 - f['repeats'])",
                    "This has a row for each request. A repeat is the same payment, and its row is "
                    "there already.",
                ),
                Slip(
                    "stored * f['peak'] / f['mean']",
                    "This fills up at the peak all day. Machines are bought for the peak, disks "
                    "for the mean.",
                ),
                Slip(
                    "stored / f['copies']",
                    "This keeps one copy; the audit is kept {f['copies']:.0f} times.",
                ),
                Slip(
                    "stored * 1e12 / 1024**4",
                    "This was divided by 1,024 four times: those are tebibytes. A terabyte is 10¹² "
                    "bytes.",
                ),
                Slip("1000 * stored", "This is in gigabytes."),
            ],
            otherwise="{value:.4g}: write the units beside each factor. Payments a second, seconds "
            "a day, bytes a payment, copies, days: all but bytes cancel.",
        ),
        Part(
            "days",
            "wait",
            [
                Slip(
                    "wait * (1 - f['repeats'])",
                    "This counts repeats as payments of their own. A fraud that is sent twice is "
                    "one fraud, and is held back once.",
                ),
                Slip(
                    "wait * f['fraud']",
                    "This waits for {needed_frauds:.0f} *payments* in the hold-back. Recall is a "
                    "share of frauds, and one payment in two thousand is fraud.",
                ),
                Slip("wait * f['held']", "This counts all frauds. Only one in a hundred is held."),
                Slip(
                    "wait / 1.96**2",
                    "This takes five points for the standard error. A 95 % interval reaches 1.96 "
                    "of them to each side.",
                ),
                Slip(
                    "wait * 4 / 1.96**2",
                    "This takes 2 for 1.96 standard errors. That is close enough on the back of an "
                    "envelope; here give it unrounded.",
                ),
                Slip(
                    "wait * 4",
                    "This makes the whole interval five points wide. The question allows five on "
                    "*each* side.",
                ),
                Slip(
                    "wait / 4",
                    "This allows ten points on each side. The question allows five.",
                ),
                Slip(
                    "wait / R",
                    "This waits for so many frauds that would have been *stopped*. All frauds in "
                    "the hold-back count, those that the policy would have missed, too.",
                ),
                Slip(
                    "wait * 0.25 / (R * (1 - R))",
                    "This takes the widest case, a recall of one half. That is a safe answer when "
                    "nothing is known; here about {R:.2f} is.",
                ),
                Slip(
                    "wait * f['mean'] / f['peak']",
                    "This goes on at the peak all day. Over days it is the mean that counts.",
                ),
            ],
            otherwise="{value:.4g}: first the number of frauds that a half-width of five points "
            "needs, then how many of them a day brings into the hold-back.",
        ),
    ],
    shows="{machines:.0f} machines, {terabytes:.1f} TB, and {days:.0f} days to collect "
    "{needed_frauds:.0f} held-back frauds. To know how they ended takes months more.",
    hints=(
        "Which rate belongs to which number: the peak or the mean, requests or payments? Write the "
        "unit beside every factor.",
        "Seconds of processor for each second are busy cores: at the peak, first requests and "
        "repeats, each with its own time. Disks and hold-back count payments, once each, at the "
        "mean.",
        "A share R seen in n frauds has a 95 % half-width of 1.96 · √(R (1 − R) / n). Solve for n; "
        "a day brings payments × fraud rate × hold-back share of them.",
    ),
)
