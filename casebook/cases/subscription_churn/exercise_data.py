"""Small worlds of exercise 07, drawn by the student's seed, and what its questions reckon."""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn.world import SEED

#: Days of a month; question 1: the night, days looked back; question 5: calls, and euro of one.
MONTH, NIGHT, WINDOW, CALLS, COST = 28, 140, 84, 4_000, 32.0
#: Question 3: chance, whether drawn, subscribers, who cancel, who are listed, who are both.
_LOTTERY = (
    (0.5, True, 100, 26, 80, 22),
    (0.5, False, 100, 42, 80, 37),
    (0.1, True, 46, 5, 24, 2),
    (0.1, False, 354, 21, 176, 10),
)


def changes(seed: int) -> pd.DataFrame:
    """Return who downgraded, the days booked and recorded; some on an edge, twice or too late."""
    rng = np.random.default_rng(seed)
    known = rng.integers(80, NIGHT, rng.integers(45, 60))
    late = rng.integers(NIGHT + 1, NIGHT + 27, rng.integers(22, 28))
    old = rng.integers(20, 51, rng.integers(30, 40))
    days = np.r_[known, old, [NIGHT] * 4, [NIGHT - WINDOW] * 3, [57, 57, 58, 58], late]
    who = 1_000 + np.cumsum(rng.integers(1, 9, len(days)))
    again = [NIGHT - 1] * 5 + [NIGHT + 10] * 2 + [NIGHT - 20] * 3
    twice = [*who[:7], *who[len(known) : len(known) + 3]]
    table = pd.DataFrame({"subscriber": [*who, *twice], "recorded": [*days, *again]})
    table.insert(1, "booked", table["recorded"] // MONTH * MONTH)
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def cancelled(seed: int) -> set[int]:
    """Return who cancels in the four weeks after the night, all with two known downgrades too."""
    rng, table = np.random.default_rng([seed, 1]), changes(seed)
    late = set(table.loc[table["recorded"] > NIGHT, "subscriber"])
    rest = sorted(set(table["subscriber"]) - late)
    leave = set(rng.choice(sorted(late), round(0.7 * len(late)), replace=False).tolist())
    leave |= set(rng.choice(rest, round(0.12 * len(rest)), replace=False).tolist())
    return leave | set(table.loc[table["recorded"] == NIGHT - 1, "subscriber"].tolist())


def in_order(rows: pd.DataFrame, scale: str = "drawn") -> np.ndarray:
    """Return Radcliffe's curve of rows as they stand, or scaled otherwise; 0 for an empty arm."""
    t, y = rows["drawn"].to_numpy(), rows["cancelled"].to_numpy()
    n = {"drawn": np.cumsum(t), "control": np.cumsum(~t), "all": np.arange(1, len(t) + 1)}
    alone = np.cumsum(y & ~t) / np.maximum(n["control"], 1)
    return n[scale] * (alone - np.cumsum(y & t) / np.maximum(n["drawn"], 1))


def readings(trial: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the curve of a trial, and what it is taken for, by the mistake."""
    rows = trial.sort_values("score", ascending=False)
    t, y = rows["drawn"].to_numpy(), rows["cancelled"].to_numpy()
    alone, called = np.cumsum(y & ~t), np.cumsum(y & t)
    scaled = {"gains": in_order(rows, "all"), "control": in_order(rows, "control")}
    order = {"ascending": in_order(rows[::-1]), "unsorted": in_order(trial)}
    plain = {"plain": alone - called, "one ratio": alone * t.sum() / (~t).sum() - called}
    return {"right": in_order(rows), **order, **scaled, **plain}


def trial(seed: int) -> pd.DataFrame:
    """Return sixteen subscribers of a trial with equal chances, and a model's score of each.

    Drawn until the curve has one top inside, and no usual mistake gives what another gives.
    """
    rng = np.random.default_rng(seed)
    score = np.sort(rng.choice(np.arange(100, 1_200), 16, replace=False))[::-1] / 1e4
    while True:
        drawn = rng.permutation(np.arange(16) < 9)
        cancels = rng.random(16) < np.where(drawn, 0.2 + 0.03 * np.arange(16), 0.5)
        table = pd.DataFrame({"score": score, "drawn": drawn, "cancelled": cancels})
        table = table.iloc[rng.permutation(16)].reset_index(drop=True)
        found = readings(table)
        curve, eight = found["right"], [one[7] for one in found.values()]
        values = np.array([*eight, -curve[7], curve[8], found["gains"][7] / 8])
        apart = np.abs(np.subtract.outer(values, values))[np.triu_indices(len(values), 1)].min()
        one_top = 4 <= curve.argmax() <= 11 and np.sort(curve)[-2] < curve.max() - 0.01
        if one_top and drawn[:8].sum() in (5, 6) and curve[7] > 0.5 and apart > 0.02:
            return table


def lottery(seed: int) -> pd.DataFrame:
    """Return 600 subscribers of a month in which chance decided, with two chances."""
    rng, parts = np.random.default_rng(seed), []
    for chance, drawn, n, cancels, listed, both in _LOTTERY:
        place = rng.permutation(n)
        first = cancels - both - (n > 50) * rng.integers(-2, 3)
        own = {"cancelled": place < cancels, "listed": (first <= place) & (place < first + listed)}
        parts.append(pd.DataFrame({"chance": chance, "drawn": drawn, **own}))
    return pd.concat(parts).sample(frac=1, random_state=seed).reset_index(drop=True)


def plan(seed: int) -> dict[str, float]:
    """Return the share that cancels without a call, and the subscribers in each arm."""
    rng = np.random.default_rng(seed)
    if seed == SEED:
        return {"base": 0.05, "arm": 3_000}
    return {"base": round(rng.uniform(0.04, 0.07), 3), "arm": int(rng.integers(20, 40)) * 100}


def groups(seed: int) -> pd.DataFrame:
    """Return what a randomised month says of six groups."""
    rng = np.random.default_rng(seed)
    names = ["falling, new", "falling", "failed payment", "tickets", "asleep", "steady"]
    columns = {
        "size": [2_600, 8_000, 2_600, 2_300, 9_000, 40_000] + 10 * rng.integers(-10, 11, 6),
        "risk": [0.10, 0.07, 0.20, 0.06, 0.02, 0.02] * rng.uniform(0.97, 1.03, 6),
        "effect": [0.050, 0.020, 0.009, 0.0225, -0.040, 0.004] * rng.uniform(0.96, 1.04, 6),
        "value": [2_000, 3_000, 2_500, 5_000, 3_000, 2_800],
    }
    return pd.DataFrame(columns, pd.Index(names, name="group")).round(4)


def called_first(groups: pd.DataFrame, order: pd.Series, most: int = CALLS) -> pd.Series:
    """Return the calls of each group when the groups are called in an order."""
    size = groups["size"].loc[order.sort_values(ascending=False).index]
    return (most - size.cumsum().shift(fill_value=0)).clip(0, size).reindex(groups.index)


def history(seed: int) -> pd.DataFrame:
    """Return rows of scored subscribers: the night, whether called, the day of leaving if known."""
    rng = np.random.default_rng(seed)
    night = np.repeat([84, 112, 113, 140], 6)
    called = np.tile([False, False, True, False, True, False], 4)
    left = night + rng.integers(2, 27, len(night)).astype(float)
    left[np.tile([False, True, False, True, True, True], 4)] = np.nan
    left[3], left[9] = 84 + MONTH, 112 + MONTH + 1  # the last day of the month, and a day later
    left[left > 141] = np.nan
    return pd.DataFrame({"night": night, "called": called, "left": left})


def learn(rows: pd.DataFrame, today: int) -> pd.Series:
    """Return the labels of the rows that may teach the chance to cancel without a call."""
    rows = rows[(rows["night"] + MONTH <= today) & ~rows["called"]]
    return (rows["left"] > rows["night"]) & (rows["left"] <= rows["night"] + MONTH)


def differs(mine: list[pd.Series], right: list[pd.Series]) -> str:
    """Say in which rows, or which label, the first results that are not the same differ."""
    for one, other in zip(mine, right, strict=True):
        if set(one.index) != set(other.index):
            return f"Your rows are {sorted(one.index)}; usable are {sorted(other.index)}."
        if (wrong := one.index[one != other.reindex(one.index)]).size:
            return f"The label of row {wrong[0]} is wrong: {bool(one[wrong[0]])}."
    return "Your function returns something else."
