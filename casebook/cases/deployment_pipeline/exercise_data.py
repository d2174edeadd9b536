"""Small worlds of exercise 21, drawn by the student's seed, and what its questions reckon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from casebook.evaluate.psi import noise, psi

#: Question 1: bins, rule of thumb, level of the limit. 2: one-sided z of 5 % and of the power .8.
BINS, RULE, QUIET, Z = 10, 0.1, 0.999, (float(stats.norm.isf(0.05)), float(stats.norm.ppf(0.8)))
#: Question 3: |z| at which labels contradict a model. 5: last day of the candidate's training,
#: euro by which a region may be worse.
DOUBT, TRAINED, HARM = 3.0, 14, 0.1
#: Question 4: seconds of a step, requests a second that a pod can do and should have, cold start.
STEP, CAN, SHOULD, COLD, TARGET = 10, 50, 30, 100, 0.6


def reference(seed: int) -> pd.Series:
    """Return 3,000 values of a feature in the training data."""
    return _quiet_groups(seed)[0]


def groups(seed: int) -> pd.DataFrame:
    """Return last week's values of the feature, in six groups; one of them has moved a little."""
    return _quiet_groups(seed)[1]


def _quiet_groups(seed: int) -> tuple[pd.Series, pd.DataFrame]:
    """Draw until the rule of thumb flags a small quiet group, and every index is clear."""
    rng = np.random.default_rng([seed, 1])
    names = np.array(["app", "kiosk", "partner", "phone", "till", "web"])
    while True:
        small, some = rng.integers(60, 110, 2), rng.integers(300, 700, 2)
        sizes = np.r_[rng.permutation(np.r_[small, some]), rng.integers(4_000, 7_000, 2)]
        group, usual = np.repeat(rng.permutation(names), sizes), rng.normal(size=3_000)
        moved = str(group[-1])
        value = rng.normal(size=len(group)) + 0.22 * (group == moved)
        now = pd.DataFrame({"group": group, "value": value}).sample(frac=1, random_state=seed)
        parts = {name: own["value"] for name, own in now.groupby("group")}
        index = pd.Series({name: psi(usual, own, BINS) for name, own in parts.items()})
        limit = pd.Series({n: noise(3_000, len(own), BINS, QUIET) for n, own in parts.items()})
        typical = limit * (BINS - 1) / stats.chi2.ppf(QUIET, BINS - 1)
        clear = all((index / edge - 1).abs().min() > 0.12 for edge in (RULE, limit, typical))
        if clear and {*index.index[index > limit]} == {moved} and RULE < index.max() < 0.25:
            return pd.Series(usual, name="value"), now.reset_index(drop=True)


def each(table: pd.DataFrame, by: str, made: Callable[[pd.DataFrame], float]) -> pd.Series:
    """Return a number for each group of a table."""
    return pd.Series({str(name): float(made(own)) for name, own in table.groupby(by)})


def plan(seed: int) -> pd.Series:
    """Return the numbers of a canary: rates of bad requests, its share, requests a second."""
    rng = np.random.default_rng([seed, 2])
    while True:
        base, ratio = rng.choice([0.0008, 0.001, 0.0012, 0.0015]), rng.choice([1.8, 2.0, 2.2, 2.5])
        share, rate = rng.choice([0.06, 0.05, 0.08, 0.1]), float(rng.integers(30, 160))
        own = {"base": base, "bad": round(base * ratio, 6), "share": share, "rate": rate}
        if 0.3 < chance_of(own["base"], own["bad"], share, rate * 1800 * share) < 0.75:
            return pd.Series(own)


def size_of(base: float, bad: float, share: float, z: tuple[float, float] = Z) -> float:
    """Return the canary's requests, each pool with its own variance."""
    odds = share / (1 - share)
    return (sum(z) / (bad - base)) ** 2 * (bad * (1 - bad) + odds * base * (1 - base))


def chance_of(base: float, bad: float, share: float, canary: float, z: float = Z[0]) -> float:
    """Return the power with so many canary requests."""
    return float(stats.norm.cdf(sum(Z) * np.sqrt(canary / size_of(base, bad, share)) - z))


def before(seed: int) -> pd.Series:
    """Return 4,000 scores of the weeks after the training."""
    return pd.Series(expit(np.random.default_rng([seed, 3]).normal(-3, 1, 4_000)), name="score")


def streams(seed: int) -> pd.DataFrame:
    """Return last month's payments of four streams whose labels are known.

    In one nothing has changed; in one other customers come and the model is right about them; in
    one fraud has changed; and in one a caller sends cents for euro. ``attrs`` has who is who.
    """
    rng = np.random.default_rng([seed, 4])
    kinds = ("quiet", "customers", "fraud", "cents")
    names = {str(name): kind for name, kind in zip(rng.permutation([*"ABCD"]), kinds, strict=True)}
    while True:
        parts = [_stream(rng, kind).assign(stream=name) for name, kind in names.items()]
        table = pd.concat(parts).sample(frac=1, random_state=seed).reset_index(drop=True)
        z = doubt(table)
        quiet = all(abs(z[name]) < 2.5 for name, kind in names.items() if kind in kinds[:2])
        if quiet and all(abs(z[name]) > 5 for name, kind in names.items() if kind in kinds[2:]):
            table.attrs["kinds"] = names
            return table[["stream", "caller", "amount", "score", "fraud"]]


def _stream(rng: np.random.Generator, kind: str) -> pd.DataFrame:
    """Return payments of one stream."""
    score = expit(rng.normal(-2.5 if kind == "customers" else -3, 1, 4_000))
    caller = rng.choice(["app", "till", "web"], 4_000, p=[0.4, 0.2, 0.4])
    amount = np.exp(rng.normal(3.6, 0.8, 4_000)).round(2)
    fraud = rng.random(4_000) < np.minimum(score * (1.7 if kind == "fraud" else 1.0), 0.95)
    if kind == "cents":
        wrong = caller == "till"
        amount[wrong] *= 100
        score[wrong] = expit(np.log(score[wrong] / (1 - score[wrong])) + 1.8)
    return pd.DataFrame({"caller": caller, "amount": amount, "score": score, "fraud": fraud})


def doubt(table: pd.DataFrame, poisson: bool = False) -> pd.Series:
    """Return for each stream how many standard deviations more frauds there are than expected."""

    def z(own: pd.DataFrame) -> float:
        p = own["score"]
        return (own["fraud"].sum() - p.sum()) / np.sqrt((p if poisson else p * (1 - p)).sum())

    return each(table, "stream", z)


def load(seed: int) -> pd.Series:
    """Return requests a second of fifteen minutes, in steps of ten seconds: lunch begins."""
    rng = np.random.default_rng([seed, 5])
    second = np.arange(0, 900, STEP)
    while True:
        low, high = rng.integers(96, 112), rng.integers(232, 262)
        start, ramp = rng.integers(15, 24) * STEP, rng.integers(9, 15) * STEP
        rise = np.clip((second - start) / ramp, 0, 1)
        rate = (low + (high - low) * rise + rng.integers(-3, 4, len(second))).round()
        load = pd.Series(rate, pd.Index(second, name="second"), name="load")
        first, longest = scaled(load)
        others = [scaled(load, edge=1.0), scaled(load, keeps=False), scaled(load, "requests")]
        apart = min(abs(other[1] / longest - 1) for other in others) > 0.05
        if apart and others[0][0] != first and longest > 2:
            return load


def scaled(
    load: pd.Series,
    wish: str = "cpu",
    cold: int = COLD,
    pods: int = 4,
    edge: float = 1.1,
    keeps: bool = True,
) -> tuple[int | None, float]:
    """Return when pods are first asked for, and the longest wait; the options are mistakes."""
    asked, queue, first, longest = [(-10_000, pods)], 0.0, None, 0.0
    for second, rate in load.items():
        ready = max(n for at, n in asked if at + cold <= second)
        came = queue + STEP * rate
        done = min(came, CAN * STEP * ready)
        queue = came - done if keeps else max(STEP * rate - done, 0.0)
        longest = max(longest, queue / (CAN * ready))
        busy = done / (CAN * STEP * ready)
        want = ready * busy / TARGET if wish == "cpu" else rate / SHOULD
        close = busy <= edge * TARGET if wish == "cpu" else False
        want = 0 if close or wish == "none" else min(int(np.ceil(want - 1e-9)), 10)
        if want > asked[-1][1]:
            asked.append((second, want))
            first = second if first is None else first
    return first, longest


def fewest(load: pd.Series, most: float = 1.0) -> int:
    """Return the smallest fixed number of pods with which nobody waits longer than that."""
    return next(n for n in range(1, 20) if scaled(load, "none", pods=n)[1] <= most)


def judged(seed: int) -> pd.DataFrame:
    """Return what two models cost on the same payments of 28 days, in euro a payment.

    The candidate was trained on the first fourteen days, which it knows by heart; later it is a
    little better, but not on the islands. Payments of one day are alike. Drawn until the fair
    interval of days is below zero, and wider than one that takes the rows for independent.
    """
    rng, rows = np.random.default_rng([seed, 6]), 28 * 120
    while True:
        day = np.repeat(np.arange(1, 29), 120)
        region = rng.choice(["islands", "north", "south"], rows, p=[0.15, 0.5, 0.35])
        champion = 3 + rng.gamma(0.4, 2.0, rows)
        effect = np.where(day <= TRAINED, -0.3, np.where(region == "islands", 0.35, -0.1))
        of_day = rng.normal(0, 0.05, 28)[day - 1]
        candidate = champion + effect + of_day + rng.normal(0, 0.3, rows)
        own = {"day": day, "region": region, "champion": champion, "candidate": candidate}
        table = pd.DataFrame(own).round(3)
        gap = (table["candidate"] - table["champion"])[day > TRAINED]
        by_region = gap.groupby(table["region"]).mean()
        daily = gap.groupby(table["day"]).mean()
        high = daily.mean() + stats.t.ppf(0.95, len(daily) - 1) * stats.sem(daily)
        wide = stats.sem(daily) > 1.5 * stats.sem(gap)
        if daily.mean() > -0.05 and high < 0 and by_region["islands"] > HARM + 0.05 and wide:
            return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def almost(value: object, right: object) -> str:
    """Say that numbers are right but for their form: in per cent, or with too few digits."""
    value, right = np.asarray(value, float), np.asarray(right, float)
    if np.allclose(value, 100 * right, rtol=0.01, atol=0):
        return " In per cent it is right: give shares between 0 and 1."
    if any(np.allclose(value, right.round(digits), rtol=0, atol=1e-9) for digits in (2, 3)):
        return " It is near, but rounded too much: give the numbers unrounded."
    return ""
