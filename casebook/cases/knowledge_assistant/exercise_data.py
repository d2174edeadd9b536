"""Small worlds of exercise 18, drawn by the student's seed, and what its questions reckon."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

#: Question 1: passages in all, and recall that the graph must have. 2: seconds an answer is kept.
PASSAGES, FLOOR, TTL = 1_000_000, 0.95, 900
#: Question 6: thresholds that are tried; no answer is exactly as sure as one of them.
GRID = np.round(np.arange(0, 1, 0.05), 2)


def _apart(values: Iterable[float], least: float = 0.0) -> bool:
    """Say whether no two of some values lie as near to each other as ``least``."""
    return bool(np.min(np.diff(np.sort([*values]))) > least)


# Question 1 -----------------------------------------------------------------------------


def timings(seed: int) -> pd.DataFrame:
    """Return what multiplying and a walk along the graph took, by number of visible passages.

    The graph is faster from some row on, good enough for the first time later, falls short once
    more (a space far from its questions), and is good from the last but one row on.
    """
    rng = np.random.default_rng([seed, 1])
    while True:
        table = _timings(rng)
        seen, users = table["visible"], table["users"] / table["users"].sum()
        good = (table["graph_ms"] < table["pre_ms"]) & (table["graph_recall"] >= FLOOR)
        found = table["graph_recall"].where(seen >= seen[good[::-1].cummin()].min(), 1.0)
        if _apart(((users * found).sum(), found.mean(), 1.0), 0.003):
            return table


def _timings(rng: np.random.Generator) -> pd.DataFrame:
    visible = (rng.uniform(4, 6) * 1_000 * 2.0 ** np.arange(8)).round(-2).astype(int)
    pre = (0.05 + visible * rng.uniform(2.2e-5, 2.8e-5) * rng.uniform(0.97, 1.03, 8)).round(3)
    faster = int(rng.integers(2, 4))
    graph = pre[faster] * rng.uniform(0.8, 0.97) * 0.995 ** np.arange(8)
    recall = np.sort(rng.uniform(0.3, 0.93, 8))
    recall[[4, 6, 7]] = rng.uniform(FLOOR + 0.005, 0.99, 3)
    recall[5] = rng.uniform(0.88, 0.94)
    users = rng.dirichlet(np.full(8, 6.0))
    columns = {"visible": visible, "pre_ms": pre, "graph_ms": graph.round(3)}
    return pd.DataFrame(columns | {"graph_recall": recall.round(3), "users": users.round(3)})


# Question 2 -----------------------------------------------------------------------------


def requests(seed: int) -> pd.DataFrame:
    """Return four hours of questions: who asks what, with which rights, and what answers it.

    ``at`` is a second, a multiple of 20, so that answers of exactly :data:`TTL` seconds occur;
    ``rights`` are the documents, a letter each, that the user may see then; ``source`` is the one
    from which an answer would be made for that user. Rights are lost in between.
    """
    rng = np.random.default_rng([seed, 2])
    while True:
        table = _requests(rng)
        late = {"ttl": TTL + 1}
        leaks = [len(leaked(table, ASKED, **how)) for how in ({}, late, {"ttl": 1e9})]
        leaks += [moved(table), len(leaked(table, ASKED, slides=True))]
        own = [len(leaked(table, PERSON, **how)) for how in ({}, {"ttl": 1e9}, {"slides": True})]
        ways = ((ASKED, TTL), (PERSON, TTL), (RIGHTS, TTL), (RIGHTS, TTL + 1), (ALL, TTL))
        rates = [served(table, key, ttl)["hit"].mean() for key, ttl in ways]
        if _apart((0, *leaks)) and _apart((0, *own)) and _apart((*rates, 1 - rates[2]), 0.005):
            return table


#: What a key is made of.
ASKED, PERSON, RIGHTS = ("question",), ("question", "user"), ("question", "rights")
ALL = (*PERSON, "rights")


def _requests(rng: np.random.Generator) -> pd.DataFrame:
    teams = {"ann": "ABCF", "bea": "ABCF", "cem": "ABDF", "dan": "ABDF", "eve": "AEF", "fay": "AEF"}
    order = {f"q{n}": "".join(rng.permutation([*"ABCDEF"])) for n in range(12)}
    at = 20 * np.sort(rng.choice(720, 600, replace=False))
    weights = 1 / np.arange(1, 13) / (1 / np.arange(1, 13)).sum()
    rights, rows = dict(teams), []
    for second in at.tolist():
        if rng.random() < 0.06:  # somebody loses a document, or has all of the team's again
            who = str(rng.choice([*teams]))
            lost = str(rng.choice([*rights[who]]))
            whole = len(rights[who]) < 3
            rights[who] = teams[who] if whole else rights[who].replace(lost, "")
        who, asked = str(rng.choice([*teams])), str(rng.choice([*order], p=weights))
        source = next(one for one in order[asked] if one in rights[who])
        rows.append((second, who, rights[who], asked, source))
    return pd.DataFrame(rows, columns=["at", "user", "rights", "question", "source"])


def served(
    table: pd.DataFrame, key: Sequence[str], ttl: float = TTL, slides: bool = False
) -> pd.DataFrame:
    """Return the requests with ``shown``, the source of the answer that a cache hands out."""
    kept: dict[Hashable, tuple[float, str]] = {}
    shown, hit = [], []
    for row in table.itertuples():
        name = tuple(getattr(row, part) for part in key)
        made, source = kept.get(name, (-np.inf, ""))
        hit.append(row.at - made < ttl)
        if not hit[-1]:
            source = row.source
        if slides or not hit[-1]:
            kept[name] = row.at, source
        shown.append(source)
    return table.assign(shown=shown, hit=hit)


def leaked(
    table: pd.DataFrame, key: Sequence[str], ttl: float = TTL, slides: bool = False
) -> pd.DataFrame:
    """Return the requests that were shown what the user may not see."""
    told = served(table, key, ttl, slides)
    hidden = [s not in r for s, r in zip(told["shown"], told["rights"], strict=True)]
    return told[hidden]


def moved(table: pd.DataFrame) -> int:
    """Return how many answers differ from the user's own, leak or not, by the question's key."""
    told = served(table, ASKED)
    return int((told["shown"] != told["source"]).sum())


# Question 3 and 4 -----------------------------------------------------------------------


def audit(seed: int) -> pd.Series:
    """Return weeks, queries of each, their share near something hidden, questions of a day."""
    rng = np.random.default_rng([seed, 3])
    told = {
        "weeks": float(rng.integers(12, 40)),
        "each": float(rng.choice([80, 100, 120, 150])),
        "near": round(float(rng.uniform(0.2, 0.45)), 2),
        "questions": float(rng.integers(35, 60) * 1_000),
        "target": float(rng.choice([2.3e-4, 3.1e-4, 4.3e-4])),
    }
    return pd.Series(told, name="audit")


def copies(seed: int) -> pd.Series:
    """Return when a nightly sync runs, and what else remembers: hours, minutes, days."""
    rng = np.random.default_rng([seed, 4])
    told = {
        "sync": float(rng.integers(1, 5)),
        "takes": float(rng.choice([0.5, 0.75, 1.25, 1.5])),
        "revoked": round(float(rng.uniform(7, 17)), 1),
        "cache": float(rng.choice([10, 15, 20])),
        "turns": float(rng.choice([14, 30, 60])),
        "changes": float(rng.integers(150, 400)),
    }
    return pd.Series(told, name="copies")


# Question 5 -----------------------------------------------------------------------------


def statements(seed: int) -> pd.DataFrame:
    """Return what documents say of forty facts: value, since when, when saved, rumour or not."""
    rng = np.random.default_rng([seed, 5])
    while True:
        table = _statements(rng)
        shares = [right_by(table, *way).mean() for way in WAYS]
        shares += [right_by(table, *way, last=False).mean() for way in (WAYS[0], WAYS[3])]
        shares += [table["true"].mean(), table.loc[~table["rumour"], "true"].mean()]
        firm = table[~table["rumour"]]
        told = firm.groupby("fact")
        counts = [disputed(table), disputed(firm.assign(value=firm.index)), told.ngroups]
        counts += [disputed(table.assign(rumour=False)), len(firm) - told.ngroups]
        saved = [*(resaved(table, *how) for how in MISREAD), disputed(table)]
        apart = _apart(shares, 0.01) and _apart(counts) and _apart((0, *saved))
        if apart and 0.85 < shares[3] < 0.99:
            return table


#: Column that decides, and whether rumours count.
WAYS = (("saved", True), ("saved", False), ("since", True), ("since", False))
#: Rumours among the saved and among the last values; documents compared in place of values.
MISREAD = ((), (True,), (True, True), (False, False, True))


def _statements(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for fact in range(40):
        values = rng.permutation(np.arange(2, 15))
        since = 5 * np.sort(rng.choice(60, 3, replace=False))
        saved = since + rng.integers(0, 4, 3)
        held = int(rng.integers(1, 4))  # so many values one after the other, the last is true
        unseen = rng.random() < 0.12 and held > 1  # the last value stands where the user cannot see
        told = [(values[n], since[n], saved[n], False, n == held - 1) for n in range(held)]
        if unseen:
            told = told[:-1]
        drawn = rng.random()
        if len(told) > 1 and drawn < 0.35:  # an old page is saved once more, as it was
            value, begun, _, _, true = told[0]
            told[0] = (value, begun, 330 + fact, False, true)
        elif drawn > 0.65:  # another document says the same, and is saved later
            value, begun, _, _, true = told[-1]
            told.append((value, begun, 340 + fact, False, true))
        if rng.random() < 0.35:
            told.append((values[5], 310, 310 + rng.integers(0, 10), True, False))
        rows += [(fact, *one) for one in told]
    table = pd.DataFrame(rows, columns=["fact", "value", "since", "saved", "rumour", "true"])
    start = pd.Timestamp("2025-01-01")
    for name in ("since", "saved"):
        table[name] = start + pd.to_timedelta(table[name], unit="D")
    return table.sample(frac=1, random_state=int(rng.integers(1_000))).reset_index(drop=True)


def right_by(table: pd.DataFrame, column: str, rumours: bool, last: bool = True) -> pd.Series:
    """Return for each fact whether the statement that a rule picks is true."""
    own = table if rumours else table[~table["rumour"]]
    picked = own.sort_values(column, kind="stable").groupby("fact")["true"]
    return (picked.last() if last else picked.first()).astype(float)


def disputed(table: pd.DataFrame) -> int:
    """Return how many facts have two values or more, rumours left out."""
    return int((table[~table["rumour"]].groupby("fact")["value"].nunique() > 1).sum())


def resaved(
    table: pd.DataFrame, rumours: bool = False, both: bool = False, rows: bool = False
) -> int:
    """Return for how many facts the last save does not hold the last value that is no rumour.

    Parameters
    ----------
    table : DataFrame
    rumours, both, rows : bool
        Mistakes: rumours count among the saved, among the last values too, and documents are
        compared in place of their values.
    """
    firm = table[~table["rumour"]]
    what = "row" if rows else "value"
    table, firm = (one.assign(row=one.index) for one in (table, firm))
    last = (table if rumours else firm).sort_values("saved").groupby("fact")[what].last()
    held = (table if both else firm).sort_values("since", kind="stable").groupby("fact")[what]
    return int((last != held.last()).sum())


# Question 6 -----------------------------------------------------------------------------


def answers(seed: int) -> pd.DataFrame:
    """Return answers with how sure the reader was of each, and whether it was right."""
    rng = np.random.default_rng([seed, 6])
    while True:
        table = _answers(rng)
        first, second = (table[table["split"] == name] for name in ("validation", "test"))
        price = costs(seed)
        found, other = best(first, price), best(second, price)
        worth = (price["wrong"] - price["unknown"]) / (price["wrong"] - price["right"])
        if found > worth + 0.04 and abs(found - other) > 0.01 and found < 0.93:
            return table


def _answers(rng: np.random.Generator) -> pd.DataFrame:
    sure = np.floor(1_000 * rng.beta(2.2, 0.9, 900)) / 1_000 + 0.0005  # between the thresholds
    right = rng.random(900) < sure**2.2  # the reader is too sure of itself
    split = np.where(np.arange(900) < 400, "validation", "test")
    return pd.DataFrame({"split": split, "sure": sure.round(4), "right": right})


def costs(seed: int) -> pd.Series:
    """Return minutes that a right answer, a wrong one and "I don't know" cost a person."""
    rng = np.random.default_rng([seed, 7])
    told = {
        "right": 1.2,
        "wrong": float(rng.integers(24, 40)),
        "unknown": float(rng.integers(9, 13)),
    }
    return pd.Series(told, name="minutes")


def cost(table: pd.DataFrame, price: pd.Series, threshold: float) -> float:
    """Return the mean minutes of a question if answers below a threshold are not given."""
    given = (table["sure"] >= threshold).to_numpy()
    told = np.where(table["right"], price["right"], price["wrong"])
    return float(np.where(given, told, price["unknown"]).mean())


def best(table: pd.DataFrame, price: pd.Series) -> float:
    """Return the lowest of the thresholds with the least cost."""
    return float(GRID[int(np.argmin([cost(table, price, one) for one in GRID]))])
