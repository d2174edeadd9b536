"""Small worlds of exercise 09, drawn by the student's seed, and what its questions reckon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.recommendations.world import SEED
from casebook.exercises.grading import Form, kind

#: Question 1: last day of training; 3: milliseconds; 6: slots of a list, most of a brand.
TRAIN_UNTIL, BUDGET, SLOTS, CAP = 21, 100.0, 10, 3
#: Question 4: level of the test, share of the rule, numbers of users.
LEVEL, RULE, SIZES = 0.001, 0.01, (1_000, 10_000, 100_000)


def views(seed: int) -> pd.DataFrame:
    """Return who viewed which item on which of 28 days, and rows drawn by chance for a test.

    What is viewed changes by the week; as many rows are drawn as there are in the last week.
    """
    rng, rows = np.random.default_rng([seed, 1]), []
    fashion = rng.normal(0, 1.6, (5, 8, 15)).cumsum(axis=0)  # week, group, item
    for user in range(260):
        likes = rng.choice(8, 2, replace=False)
        for day in rng.choice(np.arange(1, 29), rng.integers(2, 7), replace=False):
            group, week, part = rng.choice(likes), (day - 1) // 7, (day - 1) % 7 / 7
            heat = np.exp((1 - part) * fashion[week, group] + part * fashion[week + 1, group])
            found = rng.choice(15, rng.integers(2, 5), replace=False, p=heat / heat.sum())
            rows += [(user, 15 * group + item, day) for item in found]
    table = pd.DataFrame(rows, columns=["user", "item", "day"]).sort_values("day", kind="stable")
    table = table.drop_duplicates(["user", "item"]).sample(frac=1, random_state=seed)
    chance = rng.permutation(len(table)) < (table["day"] > TRAIN_UNTIL).sum()
    return table.assign(drawn=chance).reset_index(drop=True)


def top_ten(train: pd.DataFrame) -> dict[int, list[int]]:
    """Return for each user of the table the ten items that go best with what the user viewed."""
    users, row = np.unique(train["user"], return_inverse=True)
    items, column = np.unique(train["item"], return_inverse=True)
    seen = np.zeros((len(users), len(items)))
    seen[row, column] = 1
    together = seen.T @ seen  # users who viewed both items
    scores = np.where(seen, -1, seen @ together)  # nothing that the user knows
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return dict(zip(users.tolist(), items[best].tolist(), strict=True))


def softmax(score: pd.Series) -> pd.Series:
    """Return shares that add up to one and are proportional to the exponentials."""
    return np.exp(score) / np.exp(score).sum()


def tower(seed: int) -> pd.DataFrame:
    """Return clicks of eight items, and one user's scores of a tower trained without correction.

    Drawn until the first item changes, and no usual mistake gives the set of what is right.
    """
    rng = np.random.default_rng([seed, 2])
    names = ["kettle", "lamp", "tent", "mug", "chair", "towel", "knife", "plant"]
    while True:
        clicks = pd.Series(np.sort(rng.integers(20, 60, 8) ** 2)[::-1] // 3 + 5, names)
        clicks.iloc[:2] = 3 * clicks.iloc[:2] + [rng.integers(50, 400), 0]
        q, chance = clicks / clicks.sum(), rng.dirichlet(np.full(8, 2.0))
        chance[0] = max(0.24, chance[0])
        score = (np.log(chance / chance.sum() / q) + rng.uniform(0.5, 2)).round(3)
        right, raw = softmax(score + np.log(q)), softmax(score)
        sets = [set(q.index[one]) for one in (raw < right, q > 1 / 8, right > 1 / 8)]
        apart = all(a != b for a, b in zip(sets, [*sets[1:], sets[0]], strict=True))
        if apart and right.idxmax() != raw.idxmax() and abs(raw / right - 1).min() > 0.05:
            table = pd.DataFrame({"clicks": clicks, "score": score}).rename_axis("item")
            return table.sample(frac=1, random_state=seed)


def timings(seed: int) -> pd.DataFrame:
    """Return the milliseconds of four stages in 400 requests; two are slow now and then."""
    rng, n = np.random.default_rng([seed, 3]), 400
    normal = {"features": rng.gamma(30, 0.2, n), "candidates": rng.gamma(40, 0.35, n)}
    normal |= {"ranking": rng.normal(31, 2.5, n), "rules": rng.gamma(20, 0.2, n)}
    table, slow = pd.DataFrame(normal).rename_axis("request"), rng.permutation(n)
    table.loc[slow[:18], "candidates"] = rng.uniform(82, 96, 18)
    table.loc[slow[18:28], "features"] = rng.uniform(175, 230, 10)
    return table.round(1)


def splits(seed: int) -> pd.DataFrame:
    """Return six assignments: the share that was planned for B, all users, and those in B."""
    rng = np.random.default_rng([seed, 4])
    names = ["mail", "also bought", "similar items", "new index", "cold start", "brand cap"]
    planned = np.array([0.5, 0.5, 0.5, 0.1, 0.5, 0.2])
    users = np.array([4, 1_600, 60, 300, 20, 240]) * rng.integers(800, 1_200, 6)
    broken = [3.8, -2.2] if seed != SEED and seed % 2 else [2.2, 3.6]
    z = np.array([1.3, -5.5, broken[0], -0.6, -1.9, broken[1]]) + rng.uniform(-0.2, 0.2, 6)
    in_b = users * planned + z * np.sqrt(users * planned * (1 - planned))
    columns = {"planned": planned, "users": users, "in_b": in_b.round().astype(int)}
    return pd.DataFrame(columns, pd.Index(names, name="experiment"))


def visits(seed: int) -> pd.DataFrame:
    """Return visits with one slot: what was shown, its chance, what three candidates would show.

    ``attrs`` have the true clicks of a visit, and the kind, of each candidate.
    """
    rng, n, items = np.random.default_rng([seed, 6]), 20_000, 12
    who, names = rng.integers(6, size=n), rng.permutation([*"ABC"]).tolist()
    appeal = rng.uniform(0.04, 0.09, (6, items))
    best = rng.permuted(np.tile(np.arange(items), (6, 1)), axis=1)[:, :2]
    np.put_along_axis(appeal, best, rng.uniform(0.14, 0.24, (6, 2)), axis=1)
    appeal, fame = appeal[who], rng.permutation(items)  # what the policy has shown most
    stock = rng.random((n, items)) < rng.uniform(0.45, 1, n)[:, None]
    stock[np.arange(n), rng.integers(items, size=n)] = True
    noise = rng.gumbel(size=(3, n, items))
    wanted = (fame + 0 * appeal, 0.5 * fame + 12 * appeal + 0.3 * noise[0], 40 * appeal + noise[1])
    items_of = [np.where(stock, score, -np.inf).argmax(axis=1) for score in wanted]
    policy = np.where(stock, fame + 0.8 * noise[2], -np.inf).argmax(axis=1)
    random = rng.random(n) < 0.2
    shown = np.where(random, np.where(stock, rng.random((n, items)), -1).argmax(axis=1), policy)
    chance = np.where(random, 1 / stock.sum(axis=1), np.nan)
    own = pd.DataFrame({"shown": shown, "random": random, "chance": chance})
    own["clicked"] = rng.random(n) < appeal[np.arange(n), shown]
    table = own.assign(**dict(sorted(zip(names, items_of, strict=True))))
    kinds = ("shows what was shown most", "does much as the policy", "goes by the user's taste")
    table.attrs["kind"] = dict(zip(names, kinds, strict=True))
    table.attrs["true"] = {name: float(appeal[np.arange(n), table[name]].mean()) for name in "ABC"}
    return table


def items(seed: int) -> pd.DataFrame:
    """Return 24 items to be ranked: chance of a click, brand, pieces in stock."""
    rng = np.random.default_rng([seed, 7])
    own = {"item": rng.choice(np.arange(100, 1_000), 24, replace=False)}
    own["score"] = np.sort(rng.choice(np.arange(20, 120), 24, replace=False))[::-1] / 1_000
    own["brand"] = [*"ABAAACAADA", *rng.choice([*"BCDEF"], 14)]
    table = pd.DataFrame(own).assign(stock=rng.integers(1, 40, 24))
    table.loc[[0, 5], "stock"] = 0
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def ten(rows: pd.DataFrame, cap: int = CAP, refill: bool = True, drop: bool = False) -> list[int]:
    """Return a list: in stock, by score, few of a brand as long as that fills the list.

    Without ``refill`` the cap never gives way; with ``drop`` it does so for the whole list.
    """
    rows = rows[rows["stock"] > 0].sort_values(["score", "item"], ascending=[False, True])
    within = rows.groupby("brand").cumcount() < cap
    within |= drop and within.sum() < SLOTS
    return [*rows["item"][within], *rows["item"][~within & refill]][:SLOTS]


def lists(shown: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the table that is shown and others: one for each sentence of question 6."""

    def table(brands: str, score: object = None, stock: object = 5) -> pd.DataFrame:
        n = len(brands)
        own = {"item": 100 + np.random.default_rng(n).permutation(n)}
        own["score"] = np.linspace(0.9, 0.1, n) if score is None else score
        return pd.DataFrame(own).assign(brand=[*brands], stock=stock).sample(frac=1, random_state=1)

    return {
        "the table on the page": shown,
        "thirteen items, the best sold out": table("AAAABCDEFGHIJ", stock=[0] + 12 * [3]),
        "twelve items, two sold out": table("ABCDEFGHIJKL", stock=[0, *[1] * 5, 0, *[5] * 5]),
        "exactly three of a brand": table("AAABCDEFGHIJ"),
        "four of a brand": table("AAAABCDEFGHIJ"),
        "eight within the cap": table("AAAAABBBBBCCD"),
        "two scores, seven items each": table("ABCDEFGHIJKLMN", [0.5] * 7 + [0.4] * 7),
        "seven items": table("AAAAABB"),
        "nothing in stock": table("ABC", stock=0),
    }


@dataclass(frozen=True)
class ItemNumbers:
    """What the function of question 6 returns: numbers in their order, whatever holds them."""

    def read(self, answer: object, name: str, right: object, scope: object) -> np.ndarray:
        """Return the numbers; a slip of form costs no hint."""
        try:
            given = list(answer)
            if isinstance(answer, (str, set, frozenset, pd.DataFrame)):
                raise TypeError
            if any(isinstance(one, str) for one in given):
                raise Form(f"`{name}` holds text in quotes. Item numbers are numbers.")
            numbers = np.asarray(given, float).reshape(len(given))
        except (TypeError, ValueError):
            found = kind(answer)
            raise Form(f"`{name}` should be a list of item numbers; it is {found}.") from None
        if not np.isfinite(numbers).all():
            raise Form(f"`{name}` holds a missing number. A short list stays short.")
        return numbers.astype(int) if (numbers % 1 == 0).all() else numbers

    def distance(self, value: np.ndarray, other: np.ndarray) -> float:
        """Return 0 where both are the same."""
        return 0.0 if np.array_equal(value, other) else np.inf


def almost(value: object, right: object) -> str:
    """Say that shares are right but for their form: in per cent, or with too few digits."""
    value, right = np.asarray(value, float), np.asarray(right, float)
    if np.allclose(value, 100 * right, rtol=0.01, atol=0):
        return " In per cent it is right: give shares between 0 and 1."
    if any(np.allclose(value, right.round(digits), rtol=0, atol=1e-9) for digits in (2, 3)):
        return " It is near, but rounded too much: give the numbers unrounded."
    return ""


def differs(mine: list, right: list, given: dict[str, pd.DataFrame]) -> str:
    """Say how the first list that is not the same differs."""
    for (name, rows), one, best in zip(given.items(), mine, right, strict=True):
        shown, other, known = list(one), list(best), rows["item"].tolist()
        if shown == other:
            continue
        if stranger := [item for item in shown if item not in known]:
            return f"With {name} you return {stranger[0]}, which is no number in the column `item`."
        if sold_out := set(shown) & set(rows.loc[rows["stock"] == 0, "item"]):
            return f"With {name} you show item {sold_out.pop()}, which is sold out."
        if len(shown) != len(other):
            return f"With {name} you return {len(shown)} items; {len(other)} are possible."
        place = next(k for k, item in enumerate(shown) if item != other[k])
        score = rows.set_index("item")["score"]
        tie = score[shown[place]] == score[other[place]] and shown[place] != other[place]
        said = f"With {name}, slot {place + 1} has item {shown[place]} and not {other[place]}."
        return f"{said} Their scores are equal." if tie else said
    return "Your function returns something else."
