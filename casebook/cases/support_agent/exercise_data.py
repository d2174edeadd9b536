"""Small worlds of exercise 17, drawn by the student's seed, and what its questions reckon."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd

#: Attempts that must all succeed; share that is wanted below; days of a limit by the month.
K, CONFIDENCE, WINDOW = 3, 0.95, 30
#: States of a refund whose money is spoken for.
SPOKEN_FOR = ("paid", "doing")


def apart(*values: float, by: float = 0.01) -> bool:
    """Say whether each two numbers differ by more than a share of the larger one."""
    return all(abs(a - b) > by * max(abs(a), abs(b)) for a, b in combinations(values, 2))


# Question 1: pass^k ---------------------------------------------------------------------


def attempts(seed: int) -> pd.DataFrame:
    """Return 16 tasks with how often each was tried and how often it succeeded."""
    rng = np.random.default_rng([seed, 1])
    while True:
        tried = rng.integers(4, 11, 16)
        rate = rng.choice([1.0, 0.9, 0.6, 0.2], 16, p=[0.4, 0.3, 0.2, 0.1])
        made = pd.DataFrame({"tried": tried, "right": rng.binomial(tried, rate)})
        made.index = pd.Index([f"task {n}" for n in range(1, 17)], name="task")
        share = made["right"] / made["tried"]
        pooled = made["right"].sum() / made["tried"].sum()
        whole = (share == 1).mean()
        guesses = (share**K).mean(), share.mean() ** K, whole, pooled**K
        once = at_least_once(made), 1 - (1 - share.mean()) ** K, 1 - ((1 - share) ** K).mean()
        some = (made["right"] > 0).mean()
        both = apart(share.mean(), pooled) and apart(every_time(made), *guesses, share.mean())
        if both and apart(*once, some, 1 - every_time(made), by=0.007):
            return made


def every_time(table: pd.DataFrame, k: int = K) -> float:
    """Return the chance that k attempts of a task all succeed, as a mean over tasks."""
    pairs = zip(table["right"], table["tried"], strict=True)
    return float(np.mean([comb(c, k) / comb(n, k) for c, n in pairs]))


def at_least_once(table: pd.DataFrame, k: int = K) -> float:
    """Return the chance that one of k attempts of a task succeeds, as a mean over tasks."""
    pairs = zip(table["right"], table["tried"], strict=True)
    return float(np.mean([1 - comb(n - c, k) / comb(n, k) for c, n in pairs]))


# Question 2: break-even -----------------------------------------------------------------


def costs(seed: int) -> pd.Series:
    """Return what a ticket costs whom, how often whom is wrong, and what the system costs."""
    rng = np.random.default_rng([seed, 2])
    while True:
        made = {
            "person": round(rng.uniform(4, 7), 2),
            "complaint": round(rng.uniform(7, 12), 2),
            "person_wrong": round(rng.uniform(0.05, 0.08), 3),
            "noticed": round(rng.uniform(0.5, 0.7), 2),
            "goodwill": round(rng.uniform(2.5, 4), 2),
            "machine": round(rng.uniform(0.03, 0.09), 3),
            "machine_wrong": round(rng.uniform(0.09, 0.14), 3),
            "a_year": 1_000 * int(rng.integers(600, 1_500)),
            "fixed": 10_000 * int(rng.integers(60, 100)),
        }
        person, complaint, wrong, noticed, goodwill, machine, share, *_ = made.values()
        silent = (1 - noticed) * goodwill
        mistake, each = noticed * complaint + silent, noticed * (person + complaint) + silent
        base = person + wrong * each
        saved = [base - machine - share * one for one in (0, mistake, each, person + complaint)]
        saved.append(person - machine - share * each)
        if apart(person, base, person + wrong * complaint, person + wrong * mistake) and apart(
            *saved
        ):
            return pd.Series(made)


# Question 3: a split refund -------------------------------------------------------------

LIMIT = 8_000


def refunds(seed: int) -> pd.DataFrame:
    """Return earlier refunds of one shop, with a row for each edge of the rule."""
    rng = np.random.default_rng([seed, 3])
    orders = [str(n) for n in rng.choice(np.arange(10_000, 99_999), 9, replace=False)]
    small = [int(n) for n in rng.integers(2_000, 3_500, 11)]
    rows = [
        (orders[0], small[0], "paid", "engine", 3),
        (orders[0], small[1], "doing", "engine", 0),
        (orders[1], small[2], "paid", "person", 5),
        (orders[1], small[3], "declined", "engine", 2),
        (orders[2], small[4], "paid", "engine", WINDOW),
        (orders[3], small[5], "paid", "engine", WINDOW - 1),
        (orders[4], small[6], "queued", "engine", 1),
        (orders[5], small[7], "refused", "engine", 1),
        (orders[6], small[8], "paid", "engine", WINDOW + 15),
        (orders[7], small[9], "doing", "engine", WINDOW + 1),
        (orders[8], small[10], "doing", "person", 1),
    ]
    return pd.DataFrame(rows, columns=["order", "cents", "state", "by", "days_ago"])


def asked(seed: int) -> list[tuple[str, int]]:
    """Return orders and sums that are asked for: for each edge one below and one above it."""
    past = refunds(seed)
    sums = past.groupby("order", sort=False)["cents"].sum()
    one, two, three, four, five, six, old, slow, allowed = sums.index
    paid = past.loc[past["order"] == one, "cents"]
    left = {order: LIMIT - int(sums[order]) for order in sums.index}
    return [
        *((one, left[one]), (one, left[one] + 1), (one, LIMIT - int(paid.iloc[0]))),
        *((two, LIMIT), (two, LIMIT + 1)),
        *((order, left[order] + more) for order in (three, four, old, slow) for more in (0, 1)),
        *((five, LIMIT), (six, LIMIT), (allowed, LIMIT)),
        *(("00000", sum_) for sum_ in (LIMIT - 1, LIMIT, LIMIT + 1)),
    ]


def rule(
    *,
    states: Collection[str] = SPOKEN_FOR,
    people: bool = False,
    same: bool = True,
    sums: bool = True,
    window: float = float("inf"),
    waits: float = float("inf"),
    started: bool = False,
    strict: bool = False,
) -> Callable[[str, int, pd.DataFrame], str]:
    """Return a rule for refunds; the arguments make the usual mistakes."""

    def decide(order: str, cents: int, past: pd.DataFrame) -> str:
        counts = past["state"].isin(states) & (past["days_ago"] < window)
        counts &= (past["order"] == order) | (not same)
        counts &= (past["state"] != "doing") | (past["days_ago"] < waits)
        counts &= (past["by"] == "engine") | people | (started & (past["state"] == "doing"))
        total = cents + (int(past.loc[counts, "cents"].sum()) if sums else 0)
        return "person" if total > LIMIT or (strict and total == LIMIT) else "pay"

    return decide


# Question 4: sycophancy -----------------------------------------------------------------


def replies(seed: int) -> pd.DataFrame:
    """Return what an agent said before and after customers insisted, and what the records say."""
    rng = np.random.default_rng([seed, 4])
    while True:
        n = 60
        due = rng.random(n) < 0.4
        first = np.where(rng.random(n) < 0.8, due, ~due)
        insists = rng.random(n) < 0.75
        swayed = rng.random(n) < np.where(first == due, 0.35, 0.6)
        last = np.where(swayed & insists & ~first, True, first)
        last = np.where(~insists & (rng.random(n) < 0.12), ~first, last)
        names = {"due": due, "first": first, "insists": insists, "last": last}
        made = pd.DataFrame(names).map(lambda one: "yes" if one else "no")
        made.index = pd.Index([f"r{k:02}" for k in range(1, n + 1)], name="reply")
        sets = [frozenset(swayed_in(made, **how)) for how in HOW.values()]
        given = swayed_in(made)
        base = len(pressed(made))
        parts = len(given), len(mended(made))
        rates = [len(given) / k for k in (n, base, (made["insists"] == "yes").sum())]
        rates.append(len(swayed_in(made, right=False)) / base)
        rates.append(1 - rates[1])
        if len({*sets}) == len(sets) and min(parts) > 2 and parts[0] != parts[1] and apart(*rates):
            return made


#: The usual ways to count who gave in.
HOW: Mapping[str, dict[str, bool]] = {
    "right": {},
    "rightly corrected too": {"right": False},
    "not insisting too": {"insisting": False},
    "wrong in the end": {"changed": False},
}


def swayed_in(
    table: pd.DataFrame, right: bool = True, insisting: bool = True, changed: bool = True
) -> set[str]:
    """Return the replies in which the agent gave in; the arguments leave conditions out."""
    wrong_now = (table["last"] != table["due"]) | (not right)
    told = (table["insists"] == "yes") | (not insisting)
    moved = (table["first"] != table["last"]) | (not changed)
    return {*table.index[wrong_now & told & moved]}


def mended(table: pd.DataFrame) -> set[str]:
    """Return the replies that were wrong and became right after the customer insisted."""
    told = (table["insists"] == "yes") & (table["first"] != table["due"])
    return {*table.index[told & (table["last"] == table["due"])]}


def pressed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the replies that were right at first, whose customers insisted."""
    return table[(table["insists"] == "yes") & (table["first"] == table["due"])]


# Question 5: a bound --------------------------------------------------------------------


def hunts(seed: int) -> pd.Series:
    """Return how many attacks were tried, none successful; what is wanted; tickets a day."""
    rng = np.random.default_rng([seed, 5])
    names = {"attacks": int(rng.integers(24, 46)), "wanted": round(rng.uniform(0.004, 0.009), 4)}
    return pd.Series(names | {"hidden": round(rng.uniform(0.02, 0.12), 3), "a_day": 1_000.0})


# Question 6: an idempotency key ---------------------------------------------------------


def tries(seed: int) -> pd.DataFrame:
    """Return what was sent to a provider: refunds, some again after a time-out, some alike."""
    rng = np.random.default_rng([seed, 6])
    rows: list[tuple[Any, ...]] = []
    for number in range(1, 13):
        order = f"{10_000 + 37 * ((number + 1) // 2)}"
        cents = 100 * int(rng.integers(5, 40))
        if number in (4, 8):  # another refund of the same order and sum, as two cups are broken
            cents = rows[-1][3]
        again = 1 + int(rng.integers(1, 3)) * (number in (1, 4, 6, 9, 11))
        for attempt in range(1, again + 1):
            at = 60 * number + 7 * attempt
            rows.append((f"p{number:02}", attempt, order, cents, at))
    return pd.DataFrame(rows, columns=["proposal", "attempt", "order", "cents", "at"])


#: Keys that are proposed, by name.
KEYS: Mapping[str, tuple[str, ...]] = {
    "proposal": ("proposal",),
    "proposal, attempt": ("proposal", "attempt"),
    "proposal, time": ("proposal", "at"),
    "order": ("order",),
    "order, sum": ("order", "cents"),
    "proposal, order, sum": ("proposal", "order", "cents"),
}


def paid(table: pd.DataFrame, key: Sequence[str]) -> int:
    """Return the cents that a provider pays which does each key once."""
    return int(table.drop_duplicates(list(key))["cents"].sum())
