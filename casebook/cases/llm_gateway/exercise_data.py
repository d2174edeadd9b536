"""Small worlds of exercise 20, drawn by the student's seed, and what its questions reckon."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

#: Question 1: requests a minute, and at once. 2: share of calls that may be tried again.
PER_MINUTE, BURST, SHARE = 60, 10, 0.1
#: Question 6: dollars for a million tokens read and written, tokens of an answer.
CHEAP, STRONG, WRITTEN = (0.15, 0.60), (2.50, 10.00), 300
#: Question 4: sixteen digits, with or without a blank between two of them.
NUMBER = re.compile(r"\d(?: ?\d){15}")
COMPANY = ("acme", "globex", "initech")


# Question 1 -----------------------------------------------------------------------------


def arrivals(seed: int) -> pd.Series:
    """Return when one tenant asks, in seconds: three minutes with a rush around the first one."""
    rng = np.random.default_rng([seed, 1])
    while True:
        calm = rng.uniform(0, 180, rng.poisson(60))
        rush = rng.uniform(48, 73, rng.poisson(170))
        at = pd.Series(np.sort(np.r_[calm, rush]).round(3), name="at")
        found = [int(passes(at, **own).sum()) for own in ({}, {"cap": False})]
        found += [int(passes(at, greedy=True).sum()), int(by_minute(at).sum())]
        found.append(len(at) - found[0])
        apart = len({*found}) == len(found) and min(abs(np.diff(sorted(found)))) > 1
        if not (at.is_unique and apart and 0.05 < abs(first_wait(at) - 0.5) < 0.45):
            continue
        if most_in(at[by_minute(at)]) > PER_MINUTE + 15:
            return at


def passes(at: Sequence[float], cap: bool = True, greedy: bool = False) -> np.ndarray:
    """Say which requests a token bucket lets pass, or one with a fault."""
    level, before, passed = float(BURST), 0.0, []
    for now in at:
        level += (now - before) * PER_MINUTE / 60
        level, before = min(level, BURST) if cap else level, now
        passed.append(level >= 1)
        level -= 1 if greedy or passed[-1] else 0
        level = max(level, 0.0)
    return np.array(passed)


def by_minute(at: pd.Series) -> np.ndarray:
    """Say which requests a counter lets pass that starts again each minute."""
    return (at.groupby(at // 60).cumcount() < PER_MINUTE).to_numpy()


def most_in(at: Sequence[float], span: float = 60.0) -> int:
    """Return the most requests within so many seconds from one of them, both ends included."""
    times = np.sort(np.asarray(at, float))
    return int((np.searchsorted(times, times + span, "right") - np.arange(len(times))).max())


def first_wait(at: pd.Series) -> float:
    """Return how long the first request that a bucket refuses has to wait for a token."""
    passed = passes(at)
    first = int(np.argmin(passed))
    level, before = float(BURST), 0.0
    for now in at[:first]:
        level, before = min(BURST, level + now - before) - 1, now
    return 1 - min(BURST, level + at[first] - before)


# Question 2 -----------------------------------------------------------------------------


def plan(seed: int) -> pd.Series:
    """Return rate and capacity (a second), retries of the gateway, calls of the client, failing."""
    rng = np.random.default_rng([seed, 2])
    rate = int(rng.integers(8, 30)) * 10
    retries, calls = ((3, 3), (3, 5), (4, 3))[int(rng.integers(3))]
    return pd.Series(
        {
            "rate": rate,
            "capacity": round(rate * rng.choice([0.85, 0.90])),
            "retries": retries,
            "calls": calls,
            "fails": float(rng.choice([0.4, 0.5, 0.6])),
        }
    )


# Question 3 -----------------------------------------------------------------------------


def events(seed: int) -> pd.DataFrame:
    """Return what gateways wrote about one tenant's requests, in the order of its arrival.

    Some lines came twice, some requests were ended by one gateway and then by another one, and
    some are still open.
    """
    rng = np.random.default_rng([seed, 3])
    while True:
        names = rng.permutation(30)
        parts = [_request(rng, n).assign(request=f"r{names[n]:02d}") for n in range(30)]
        table = pd.concat(parts).sort_values("at", ignore_index=True)
        table = table[["at", "request", "event", "nano"]]
        sums = [naive(table), *(billed(table, how) for how in ("first", "any", "last", "max"))]
        if min(np.diff(sorted(sums))) > 0.01 * max(sums):
            return table


def _request(rng: np.random.Generator, n: int) -> pd.DataFrame:
    at, cost = rng.uniform(0, 600), int(rng.integers(20, 400)) * 10
    ends = {
        **{k: ["settle"] for k in range(14)},
        **{k: ["settle", "settle"] for k in range(14, 19)},
        **{k: ["release"] for k in range(19, 22)},
        **{k: ["release", "settle"] for k in range(22, 25)},
        **{k: ["settle", "release"] for k in range(25, 27)},
    }.get(n, [])
    rows = [(at, "reserve", cost + int(rng.integers(50, 400)) * 10)]
    for place, event in enumerate(ends):
        at += rng.uniform(1, 20)
        # What comes again may have counted more: both attempts, say.
        again = int(rng.integers(5, 60)) * 10 if place and ends[0] == "settle" else 0
        rows.append((at, event, cost + again if event == "settle" else 0))
    made = pd.DataFrame(rows, columns=["at", "event", "nano"])
    return made.assign(at=made["at"].round(2))


def naive(table: pd.DataFrame) -> int:
    """Return the sum of all settlements."""
    return int(table.loc[table["event"] == "settle", "nano"].sum())


def ended(table: pd.DataFrame) -> pd.DataFrame:
    """Return the lines that end a request."""
    return table[table["event"] != "reserve"]


def billed(table: pd.DataFrame, how: str = "first") -> int:
    """Return a bill: by each request's first line that ends it, or by a faulty rule."""
    ends = ended(table)
    if how in ("any", "max"):
        ends = ends[ends["event"] == "settle"]
    by = ends.groupby("request")["nano"]
    return int({"first": by.first, "any": by.first, "last": by.last, "max": by.max}[how]().sum())


# Question 4 -----------------------------------------------------------------------------


def valid(number: str) -> bool:
    """Say whether the digits pass the check of card numbers (Luhn)."""
    digits = [int(one) for one in number if one.isdigit()][::-1]
    twice = [sum(divmod(2 * one, 10)) for one in digits[1::2]]
    return (sum(digits[::2]) + sum(twice)) % 10 == 0


def pieces(seed: int) -> list[str]:
    """Return an answer in the pieces in which it came: cards, and numbers that are none."""
    rng = np.random.default_rng([seed, 4])
    while True:
        made = [_number(rng, good) for good in (True, False, True, True, False, True, False)]
        words = ["paid with", "order", "with", "and", "reference", "at last with", "parcel"]
        text = " ".join(f"{word} {n}," for word, n in zip(words, made, strict=True))
        sizes = rng.choice([4, 7, 9, 26], len(text), p=[0.3, 0.35, 0.15, 0.2])
        cuts = [0, *(end for end in np.cumsum(sizes).tolist() if end < len(text)), len(text)]
        own = [text[a:b] for a, b in pairwise(cuts)]
        if not 1 <= alone(own) <= 2:
            continue
        longest = max(len(one[0]) for one in cards(text))
        if len({least(own), least(own, False), longest - 1, longest, 16}) == 5:
            return own


def _number(rng: np.random.Generator, good: bool) -> str:
    """Return sixteen digits whose last one is the check digit of a card, or another one."""
    first = f"{rng.integers(3, 6)}{rng.integers(0, 10**14):014d}"
    last = next(n for n in range(10) if valid(f"{first}{n}"))
    digits = f"{first}{last if good else (last + 3) % 10}"
    return " ".join(re.findall("....", digits)) if rng.random() < 0.6 else digits


def cards(text: str) -> list[re.Match]:
    """Return the card numbers of a text."""
    return [one for one in NUMBER.finditer(text) if valid(one[0])]


def alone(own: Sequence[str]) -> int:
    """Return how many cards are found when each piece is searched alone."""
    return sum(len(cards(piece)) for piece in own)


def least(own: Sequence[str], only_cards: bool = True) -> int:
    """Return how many characters must be held back so that no digit leaves before its number."""
    text, ends = "".join(own), np.cumsum([len(piece) for piece in own])
    held = [
        end - one.start()
        for one in (cards(text) if only_cards else NUMBER.finditer(text))
        for end in ends
        if one.start() < end < one.end()
    ]
    return int(max(held))


# Question 5 -----------------------------------------------------------------------------


def queue(seed: int) -> pd.DataFrame:
    """Return requests to a provider that answers one a second: one tenant sends many at once."""
    rng = np.random.default_rng([seed, 5])
    while True:
        some, late = int(rng.integers(4, 7)), rng.choice(np.arange(4, 11), 3, replace=False) + 0.5
        at = [0.0] * int(rng.integers(11, 15)) + [rng.integers(2, 5) + 0.5] * some + [*late]
        who = np.repeat(COMPANY, [len(at) - some - 3, some, 3])
        table = pd.DataFrame({"at": at, "tenant": who})
        table = table.sort_values("at", kind="stable", ignore_index=True)
        found = [quiet(table, rule) for rule in ("arrival", "fair", "no clock", "priority")]
        if min(np.diff(sorted(found))) > 0.2:
            return table


def served(table: pd.DataFrame, rule: str = "fair") -> np.ndarray:
    """Return the wait of each request: one slot, a second each.

    ``arrival``: first come, first served. ``fair``: by start tags. ``no clock``: by tags that
    begin at a tenant's own last one, however long ago. ``priority``: who sends most comes last.
    """
    at, tenant = table["at"].to_numpy(), table["tenant"].to_numpy()
    noisy, ends, wait = table["tenant"].mode()[0], {}, np.zeros(len(table))
    waiting: list[tuple[float, int]] = []
    row, now, free = 0, 0.0, 0.0
    while row < len(table) or waiting:
        free = free if waiting else max(free, at[row])
        while row < len(table) and at[row] <= free:
            last = ends.get(tenant[row], 0.0)
            tag = max(now, last) if rule == "fair" else last
            tag = {"arrival": 0.0, "priority": float(tenant[row] == noisy)}.get(rule, tag)
            ends[tenant[row]] = tag + 1
            waiting.append((tag, row))
            row += 1
        waiting.remove(best := min(waiting))
        now, wait[best[1]], free = max(now, best[0]), free - at[best[1]], free + 1
    return wait


def quiet(table: pd.DataFrame, rule: str) -> float:
    """Return the mean wait of the tenants that do not send most."""
    return float(served(table, rule)[table["tenant"] != table["tenant"].mode()[0]].mean())


# Question 6 -----------------------------------------------------------------------------


def requests(seed: int) -> pd.DataFrame:
    """Return requests with estimated and true chances, as a router and as the world knows them."""
    rng, n = np.random.default_rng([seed, 6]), 400
    while True:
        hard = rng.normal(0, 1, n)
        shown = (hard + rng.normal(0, 1.2, n)) / (1 + 1.2**2)
        made = {"tokens": np.exp(rng.normal(6.6, 0.8, n)).round()}
        made |= {"mistake": np.exp(rng.normal(np.log(0.02), 0.7, n)).round(4)}
        made |= {"said_cheap": _chance(0.9, 1.1, shown), "said_strong": _chance(2.4, 0.8, shown)}
        made |= {"true_cheap": _chance(1.0, 1.3, hard), "true_strong": _chance(2.6, 0.9, hard)}
        table = pd.DataFrame(made)
        said, true = (
            [table[f"{kind}_{model}"] for model in ("cheap", "strong")] for kind in ("said", "true")
        )
        routed, gain = chosen(table, *said), (said[1] - said[0]) * table["mistake"]
        shares = [routed, chosen(table, *true), chosen(table, said[0].mean(), said[1].mean())]
        shares = [share.mean() for share in (*shares, gain > price(table["tokens"], STRONG))]
        believed = cost(table.assign(true_cheap=said[0], true_strong=said[1]), routed)
        if min(np.diff(sorted(shares))) > 0.01 and abs(believed / cost(table, routed) - 1) > 0.01:
            return table


def _chance(level: float, slope: float, difficulty: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(slope * difficulty - level))).round(3)


def price(tokens: pd.Series, model: tuple[float, float]) -> pd.Series:
    """Return what requests cost with a model, in dollars."""
    return (model[0] * tokens + model[1] * WRITTEN) / 1e6


def cost(table: pd.DataFrame, strong: np.ndarray) -> float:
    """Return dollars for 1,000 requests, with the expected cost of mistakes by the true chances."""
    ok = np.where(strong, table["true_strong"], table["true_cheap"])
    paid = np.where(strong, price(table["tokens"], STRONG), price(table["tokens"], CHEAP))
    return float(1_000 * (paid + table["mistake"] * (1 - ok)).mean())


def chosen(table: pd.DataFrame, cheap: object, strong: object) -> np.ndarray:
    """Say which requests the strong model answers, by chances of both."""
    more = price(table["tokens"], STRONG) - price(table["tokens"], CHEAP)
    return ((strong - cheap) * table["mistake"] > more).to_numpy()
