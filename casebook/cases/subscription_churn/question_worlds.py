"""The small worlds of exercise 07, drawn by the student's seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn.world import SEED

#: The night that question 1 is about, and the days that its feature looks back.
NIGHT, WINDOW = 140, 84
#: Question 5: calls of a month, and euro of one.
CALLS, COST = 4_000, 32.0
#: Days of a month.
MONTH = 28
#: Question 1: subscribers with two downgrades that are known on the night.
_TWICE = 5


def changes(seed: int) -> pd.DataFrame:
    """Return downgrades: by whom, the day on which each is booked, and the day it was recorded.

    Some are recorded on the night itself, on the edge of the window, twice, or after the night.
    """
    rng = np.random.default_rng(seed)
    known = rng.integers(80, NIGHT, rng.integers(45, 60))
    late = rng.integers(NIGHT + 1, NIGHT + 27, rng.integers(22, 28))
    old = rng.integers(20, 51, rng.integers(30, 40))
    edges = [NIGHT] * 4 + [NIGHT - WINDOW] * 3 + [57, 57, 58, 58]
    days = np.concatenate([known, old, edges, late])
    who = 1_000 + np.cumsum(rng.integers(1, 9, len(days)))
    again = [NIGHT - 1] * _TWICE + [NIGHT + 10] * 2 + [NIGHT - 20] * 3
    twice = [*who[: _TWICE + 2], *who[len(known) : len(known) + 3]]
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


def prevented(t: np.ndarray, y: np.ndarray, scale: str = "drawn") -> np.ndarray:
    """Return Radcliffe's curve of rows in their order, or the same scaled to other numbers.

    The share of an arm is 0 while nobody is in it.
    """
    n_t, n_c = np.cumsum(t), np.cumsum(~t)
    shares = np.cumsum(y & ~t) / np.maximum(n_c, 1), np.cumsum(y & t) / np.maximum(n_t, 1)
    return {"drawn": n_t, "control": n_c, "all": n_t + n_c}[scale] * (shares[0] - shares[1])


def in_order(rows: pd.DataFrame, scale: str = "drawn") -> np.ndarray:
    """Return Radcliffe's curve of the rows of a trial as they stand."""
    return prevented(rows["drawn"].to_numpy(), rows["cancelled"].to_numpy(), scale)


def readings(trial: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what the curve is taken for, by the mistake."""
    rows = trial.sort_values("score", ascending=False)
    t, y = rows["drawn"].to_numpy(), rows["cancelled"].to_numpy()
    alone, called = np.cumsum(y & ~t), np.cumsum(y & t)
    return {
        "plain": alone - called,
        "one ratio": alone * t.sum() / (~t).sum() - called,
        "ascending": in_order(rows[::-1]),
        "unsorted": in_order(trial),
        "gains": in_order(rows, "all"),
        "control": in_order(rows, "control"),
    }


def _tells_apart(trial: pd.DataFrame) -> bool:
    """Say whether the curve has one top inside, and no usual mistake gives what another gives."""
    rows = trial.sort_values("score", ascending=False)
    curve, others = in_order(rows), [wrong[7] for wrong in readings(trial).values()]
    values = np.array([curve[7], -curve[7], curve[8], others[4] / 8, *others])
    apart = np.abs(np.subtract.outer(values, values))[np.triu_indices(len(values), 1)].min()
    one_top = 4 <= curve.argmax() <= 11 and np.sort(curve)[-2] < curve.max() - 0.01
    drawn = rows["drawn"][:8].sum()
    return bool(one_top and drawn in (5, 6) and curve[7] > 0.5 and apart > 0.02)


def trial(seed: int) -> pd.DataFrame:
    """Return sixteen subscribers of a trial with equal chances, and a model's score of each."""
    rng, found = np.random.default_rng(seed), False
    score = np.sort(rng.choice(np.arange(100, 1_200), 16, replace=False))[::-1] / 1e4
    while not found:
        drawn = rng.permutation(np.arange(16) < 9)
        cancels = rng.random(16) < np.where(drawn, 0.2 + 0.03 * np.arange(16), 0.5)
        table = pd.DataFrame({"score": score, "drawn": drawn, "cancelled": cancels})
        table = table.iloc[rng.permutation(16)].reset_index(drop=True)
        found = _tells_apart(table)
    return table


def lottery(seed: int) -> pd.DataFrame:
    """Return 600 subscribers of a month in which chance decided, with two chances.

    Drawn until the weights and a comparison within each chance give different numbers.
    """
    rng, apart = np.random.default_rng(seed), 0.0
    while apart < 0.02:
        table = _month_of_chance(rng)
        own = table[table["listed"]]
        cells = own.groupby(["chance", "drawn"])["cancelled"].agg(["sum", "mean"]).unstack()
        chance, n = cells.index.to_numpy(), own.groupby("chance").size()
        ips = (cells["sum", False] / (1 - chance) - cells["sum", True] / chance).sum()
        within = (n * (cells["mean", False] - cells["mean", True])).sum()
        apart = abs(within / ips - 1)
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def _month_of_chance(rng: np.random.Generator) -> pd.DataFrame:
    risky = np.arange(600) < 200
    drawn, y, listed = np.zeros((3, 600), bool)
    drawn[rng.permutation(200)[:100]] = True
    drawn[200 + rng.permutation(400)[:42]] = True
    cancels = {(True, True): 0.20, (True, False): 0.38, (False, True): 0.12, (False, False): 0.06}
    for (r, d), rate in cancels.items():
        rows = rng.permutation(np.flatnonzero((risky == r) & (drawn == d)))
        y[rows[: round(rate * len(rows))]] = True
        listed[rng.permutation(rows)[: round((0.8 if r else 0.3) * len(rows))]] = True
    columns = {"chance": np.where(risky, 0.5, 0.1), "drawn": drawn, "cancelled": y}
    return pd.DataFrame(columns).assign(listed=listed)


def plan(seed: int) -> dict[str, float]:
    """Return the share that cancels without a call, and the subscribers in each arm."""
    rng = np.random.default_rng(seed)
    if seed == SEED:
        return {"base": 0.05, "arm": 3_000}
    return {"base": round(rng.uniform(0.04, 0.07), 3), "arm": int(rng.integers(20, 40)) * 100}


def groups(seed: int) -> pd.DataFrame:
    """Return what a randomised month says of six groups."""
    rng = np.random.default_rng(seed)
    base = {
        "falling, new": (2_600, 0.10, 0.050, 2_000),
        "falling": (8_000, 0.07, 0.020, 3_000),
        "failed payment": (2_600, 0.20, 0.009, 2_500),
        "tickets": (2_300, 0.06, 0.0225, 5_000),
        "asleep": (9_000, 0.02, -0.040, 3_000),
        "steady": (40_000, 0.02, 0.004, 2_800),
    }
    table = pd.DataFrame.from_dict(base, "index", columns=["size", "risk", "effect", "value"])
    table["size"] += 10 * rng.integers(-10, 11, len(table))
    table["risk"] = (table["risk"] * rng.uniform(0.97, 1.03, len(table))).round(4)
    table["effect"] = (table["effect"] * rng.uniform(0.96, 1.04, len(table))).round(4)
    return table.rename_axis("group")


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
