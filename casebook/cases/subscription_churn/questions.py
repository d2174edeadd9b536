"""Questions of exercise 07: a leak, a Qini curve, weights, power, a list, what to learn from."""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn.world import CHAPTER, SEED
from casebook.exercises.asked import (
    Column,
    Exercise,
    Function,
    Labels,
    Number,
    Numbers,
    Part,
    Prediction,
    Slip,
)
from casebook.exercises.grading import student_seed

#: The night that question 1 is about, and the days that its feature looks back.
NIGHT, WINDOW = 140, 84
#: Question 5: calls of a month, and euro of one.
CALLS, COST = 4_000, 32.0
#: Question 6: days of a month.
MONTH = 28
COUNT = Number(1e-6, unrounded=False)

# The exercise's own small worlds, drawn by the student's seed.


def changes(seed: int) -> pd.DataFrame:
    """Return downgrades: by whom, the day on which each is booked, and the day it was recorded."""
    rng = np.random.default_rng(seed)
    kinds = {  # how many, first and last day of recording, first and last day of booking
        "known": (rng.integers(45, 60), (60, 139), (58, 60)),
        "on the night": (3, (140, 140), (112, 112)),
        "yet to come": (rng.integers(22, 28), (141, 166), (140, 140)),
        "old": (rng.integers(10, 14), (20, 50), (0, 20)),
        "on the edge": (2, (56, 56), (50, 50)),
        "booked long ago": (4, (57, 58), (40, 50)),
    }
    rows, number = [], 1_000
    for kind, (n, recorded, booked) in kinds.items():
        for _ in range(n):
            number += int(rng.integers(1, 9))
            day = int(rng.integers(recorded[0], recorded[1] + 1))
            start = (
                day // MONTH * MONTH
                if kind == "known"
                else int(rng.integers(booked[0], booked[1] + 1))
            )
            rows.append((number, max(start, 58) if kind == "known" else start, day))
    known = [row for row in rows if 60 <= row[2] <= 139]
    rows += [(row[0], 112, 139) for row in known[:5] if row[2] != 139]  # twice
    rows += [(row[0], 140, 150) for row in known[6:8]]  # again, after the night
    table = pd.DataFrame(rows, columns=["subscriber", "booked", "recorded"])
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def cancelled(seed: int) -> set[int]:
    """Return who cancels in the four weeks after the night."""
    rng, table = np.random.default_rng([seed, 1]), changes(seed)
    late = set(table.loc[table["recorded"] > NIGHT, "subscriber"])
    rest = sorted(set(table["subscriber"]) - late)
    leave = set(rng.choice(sorted(late), round(0.7 * len(late)), replace=False).tolist())
    return leave | set(rng.choice(rest, round(0.12 * len(rest)), replace=False).tolist())


def prevented(drawn: np.ndarray, cancels: np.ndarray) -> np.ndarray:
    n_t, n_c = np.cumsum(drawn), np.cumsum(~drawn)
    scaled = np.divide(n_t, n_c, out=np.zeros(len(drawn)), where=n_c > 0)
    return np.cumsum(cancels & ~drawn) * scaled - np.cumsum(cancels & drawn)


def trial(seed: int) -> pd.DataFrame:
    """Return sixteen subscribers of a trial with equal chances, and a model's score of each.

    Drawn again until the first eight have arms of unequal size, the curve has one maximum before
    its end, and no usual mistake gives what another one gives.
    """
    rng = np.random.default_rng(seed)
    while True:
        drawn = rng.permutation(np.arange(16) < 9)
        cancels = rng.random(16) < np.where(drawn, 0.2 + 0.03 * np.arange(16), 0.5)
        curve = prevented(drawn, cancels)
        if drawn[:8].sum() not in (5, 6) or np.isclose(np.sort(curve)[-2], curve.max()):
            continue
        table = pd.DataFrame({"drawn": drawn, "cancelled": cancels})
        score = np.sort(rng.choice(np.arange(100, 1_200), 16, replace=False))[::-1] / 1e4
        table = table.assign(score=score).sample(frac=1, random_state=rng.integers(2**31))
        t, y = table["drawn"].to_numpy(), table["cancelled"].to_numpy()
        plain = np.cumsum(cancels & ~drawn) - np.cumsum(cancels & drawn)
        shares = cancels[:8][~drawn[:8]].mean() - cancels[:8][drawn[:8]].mean()
        eight = [curve[7], -curve[7], plain[7], shares, 8 * shares, prevented(t, y)[7]]
        eight += [prevented(drawn[::-1], cancels[::-1])[7]]
        apart = np.abs(np.subtract.outer(eight, eight))[np.triu_indices(len(eight), 1)].min()
        if 4 <= curve.argmax() <= 11 and curve[7] > 0.5 and apart > 0.05:
            return table[["score", "drawn", "cancelled"]].reset_index(drop=True)


def lottery(seed: int) -> pd.DataFrame:
    """Return 600 subscribers of a month in which chance decided, with two chances."""
    rng = np.random.default_rng(seed)
    risky = np.arange(600) < 200
    chance = np.where(risky, 0.5, 0.1)
    drawn = np.zeros(600, bool)
    drawn[rng.permutation(200)[:100]] = True
    drawn[200 + rng.permutation(400)[:42]] = True
    rate = np.where(risky, np.where(drawn, 0.20, 0.38), np.where(drawn, 0.12, 0.06))
    y = np.zeros(600, bool)
    listed = np.zeros(600, bool)
    for r in (True, False):
        for d in (True, False):
            rows = rng.permutation(np.flatnonzero((risky == r) & (drawn == d)))
            y[rows[: round(rate[rows[0]] * len(rows))]] = True
            listed[rng.permutation(rows)[: round((0.8 if r else 0.3) * len(rows))]] = True
    columns = {"chance": chance, "drawn": drawn, "cancelled": y, "listed": listed}
    return pd.DataFrame(columns).sample(frac=1, random_state=seed).reset_index(drop=True)


def plan(seed: int) -> dict[str, float]:
    """Return the share that cancels without a call, and the subscribers in each arm."""
    rng = np.random.default_rng(seed)
    base, arm = 0.05, 3_000
    if seed != SEED:
        base, arm = round(rng.uniform(0.04, 0.07), 3), int(rng.integers(20, 40)) * 100
    return {"base": base, "arm": arm}


def groups(seed: int) -> pd.DataFrame:
    """Return what a randomised month says of six groups."""
    rng = np.random.default_rng(seed)
    base = {
        "falling, new": (2_600, 0.10, 0.050, 2_000),
        "falling": (8_000, 0.07, 0.020, 3_000),
        "failed payment": (2_600, 0.20, 0.009, 2_500),
        "tickets": (2_300, 0.06, 0.021, 5_000),
        "asleep": (9_000, 0.02, -0.040, 3_000),
        "steady": (40_000, 0.02, 0.004, 2_800),
    }
    table = pd.DataFrame.from_dict(base, "index", columns=["size", "risk", "effect", "value"])
    table["size"] += 10 * rng.integers(-10, 11, len(table))
    table["risk"] = (table["risk"] * rng.uniform(0.97, 1.03, len(table))).round(4)
    table["effect"] = (table["effect"] * rng.uniform(0.96, 1.04, len(table))).round(4)
    return table.rename_axis("group")


def called_first(groups: pd.DataFrame, order: pd.Series, most: int = CALLS) -> pd.Series:
    size = groups["size"].loc[order.sort_values(ascending=False).index]
    return (most - size.cumsum().shift(fill_value=0)).clip(0, size).reindex(groups.index)


def history(seed: int) -> pd.DataFrame:
    """Return rows of scored subscribers: the night, whether called, the day of leaving if known."""
    rng = np.random.default_rng(seed)
    n = 24
    night = np.repeat([84, 112, 113, 140], 6)
    called = np.tile([False, False, True, False, True, False], 4)
    left = night + rng.integers(2, 27, n).astype(float)
    left[np.tile([False, True, False, True, True, True], 4)] = np.nan
    left[3], left[9] = 84 + 28, 112 + 29  # on the last day of the month, and a day later
    left[left > 141] = np.nan
    return pd.DataFrame({"night": night, "called": called, "left": left})


def learn(rows, today):
    rows = rows[(rows["night"] + MONTH <= today) & ~rows["called"]]
    return (rows["left"] > rows["night"]) & (rows["left"] <= rows["night"] + MONTH)


exercise = Exercise(
    CHAPTER,
    SEED,
    given={
        "changes": changes,
        "cancelled": cancelled,
        "trial": trial,
        "radcliffe": lambda seed: prevented,
        "lottery": lottery,
        "base": lambda seed: plan(seed)["base"],
        "arm": lambda seed: plan(seed)["arm"],
        "groups": groups,
        "called_first": lambda seed: called_first,
        "history": history,
        "learn_right": lambda seed: learn,
        "NIGHT": lambda seed: NIGHT,
        "WINDOW": lambda seed: WINDOW,
        "CALLS": lambda seed: CALLS,
        "COST": lambda seed: COST,
        "MONTH": lambda seed: MONTH,
    },
)


def given(name: str) -> object:
    """Return what a question shows under this name, in the reader's world."""
    return exercise.given[name](student_seed(SEED))


q1 = exercise.asked(
    1,
    "`known` and `leaked`, two numbers of subscribers, and `too_good`, a difference of two shares",
    setup="""
def who(rows):
    return set(rows["subscriber"])
def within(by):
    return changes[(changes[by] > NIGHT - WINDOW) & (changes[by] <= NIGHT)]
recorded, booked = who(within("recorded")), who(within("booked"))
def share(group):
    return len(group & cancelled) / len(group)
""",
    parts=[
        Part(
            "known",
            "len(recorded)",
            [
                Slip(
                    "len(booked)",
                    "By the day of booking, downgrades count that will be made after the night: "
                    "they are booked back to its date. What did the table say on the night?",
                ),
                Slip(
                    "len(within('recorded'))",
                    "These are rows. Some subscribers downgraded twice: count each once.",
                ),
                Slip(
                    "len(who(changes[(changes['recorded'] > NIGHT - WINDOW) & "
                    "(changes['recorded'] < NIGHT)]))",
                    "What is recorded on day {NIGHT} is known on that night: the last day counts.",
                ),
                Slip(
                    "len(who(changes[(changes['recorded'] >= NIGHT - WINDOW) & "
                    "(changes['recorded'] <= NIGHT)]))",
                    "Day {NIGHT - WINDOW} itself does not count: the window begins after it.",
                ),
                Slip(
                    "len(who(changes[changes['recorded'] <= NIGHT]))",
                    "All that was ever recorded: the feature looks back {WINDOW} days.",
                ),
            ],
            otherwise="{value:g} is not the number of subscribers with a downgrade recorded after "
            "day {NIGHT - WINDOW} and not after day {NIGHT}.",
            kind=COUNT,
            also=["within('recorded')['subscriber'].nunique()"],
        ),
        Part(
            "leaked",
            "len(booked - recorded)",
            [
                Slip(
                    "len(booked) - len(recorded)",
                    "A difference of two numbers: it hides those who count by the day of recording "
                    "alone, {len(recorded - booked)} of them. Compare the two sets.",
                ),
                Slip(
                    "len(who(changes[changes['recorded'] > NIGHT]))",
                    "Some of these had an earlier downgrade that was known. For them the feature "
                    "is right either way.",
                ),
                Slip(
                    "len(booked ^ recorded)",
                    "This counts both directions. Asked for are those whom only the booked day "
                    "counts.",
                ),
            ],
            otherwise="{value:g} is not the number of subscribers whom the booked day counts and "
            "the recorded day does not.",
            kind=COUNT,
            also=["sum(one not in recorded for one in booked)"],
        ),
        Part(
            "too_good",
            "share(booked) - share(recorded)",
            [
                Slip(
                    "share(recorded) - share(booked)",
                    "The other way round: how much better does the leaky feature look?",
                ),
                Slip(
                    "share(booked - recorded) - share(recorded)",
                    "This compares the leaked ones alone. The feature does not tell them apart: "
                    "take all whom the booked day counts.",
                ),
                Slip(
                    "share(booked) / share(recorded)",
                    "This is a ratio. Give the difference of the two shares.",
                ),
            ],
            otherwise="{value:.4g} is not the share that cancels of those counted by the booked "
            "day, less the share of those counted by the recorded day.",
            also=["np.mean([s in cancelled for s in booked]) - share(recorded)"],
        ),
    ],
    prediction=Prediction(
        "guess_1",
        ("more", "fewer"),
        "'more' if share(booked - recorded) > share(recorded) else 'fewer'",
        "Of the leaked ones {share(booked - recorded):.0%} cancel, of the known ones "
        "{share(recorded):.0%}: the last step before the end is a downgrade.",
    ),
    shows="The leaky feature counts {leaked:g} subscribers too early and looks better by "
    "{100 * too_good:.0f} points, which no night will ever see.",
    hints=(
        "Which of the two days tells you when a row came into the table?",
        "Make two sets of subscribers, one for each column, over the same window.",
        "`known` is the size of the set by `recorded`; `leaked` that of `booked` minus it; a share "
        "is the part of a set that is in `cancelled`.",
    ),
)

q2 = exercise.asked(
    2,
    "`first_eight`, a number, `curve`, sixteen numbers, and `stop`, a number of subscribers",
    setup="""
rows = trial.sort_values("score", ascending=False)
t, y = rows["drawn"].to_numpy(), rows["cancelled"].to_numpy()
whole = radcliffe(t, y)
""",
    parts=[
        Part(
            "first_eight",
            "whole[7]",
            [
                Slip(
                    "np.cumsum(y & ~t)[7] - np.cumsum(y & t)[7]",
                    "The arms are of different size among the first eight. Bring the cancellations "
                    "of those not drawn to the number of those drawn.",
                ),
                Slip(
                    "-whole[7]",
                    "The sign is reversed: cancellations that the calls *prevented*.",
                ),
                Slip(
                    "radcliffe(t[::-1], y[::-1])[7]",
                    "These are the eight with the lowest scores.",
                ),
                Slip(
                    "radcliffe(trial['drawn'].to_numpy(), trial['cancelled'].to_numpy())[7]",
                    "Sort by the score first: the rows of `trial` are in no order.",
                ),
                Slip(
                    "y[:8][~t[:8]].mean() - y[:8][t[:8]].mean()",
                    "This is the difference of the two shares. The curve counts subscribers: "
                    "multiply by the number of those drawn.",
                ),
                Slip(
                    "8 * (y[:8][~t[:8]].mean() - y[:8][t[:8]].mean())",
                    "This is scaled to all eight, as in the gains curve. Radcliffe's curve is "
                    "scaled to the number of those drawn.",
                ),
            ],
            otherwise="{value:.4g} is none of the usual mix-ups. Of the first eight, {t[:8].sum()} "
            "were drawn; compare the cancellations of both arms at that number.",
            also=["t[:8].sum() * (y[:8][~t[:8]].mean() - y[:8][t[:8]].mean())"],
        ),
        Part(
            "curve",
            "whole",
            [
                Slip(
                    "np.cumsum(y & ~t) - np.cumsum(y & t)",
                    "The arms are not brought to one size: n_t / n_c changes from row to row.",
                ),
                Slip(
                    "np.cumsum(y & ~t) * t.sum() / (~t).sum() - np.cumsum(y & t)",
                    "The ratio of the arms is that of all sixteen here. Take the ratio among the "
                    "first k at each k.",
                ),
                Slip("-whole", "The sign is reversed."),
            ],
            otherwise="After all sixteen your curve is at {value[-1]:.3g}, after eight at "
            "{value[7]:.3g}. Take cumulative counts of both arms; 0 where nobody is in the other.",
            kind=Numbers((16,)),
            also=["pd.Series(whole)"],
        ),
        Part(
            "stop",
            "int(np.argmax(whole)) + 1",
            [
                Slip("int(np.argmax(whole))", "Python counts from 0: row k has the index k − 1."),
                Slip("16", "After all sixteen the curve has fallen again: sleeping dogs."),
            ],
            otherwise="The curve has its maximum elsewhere: after {value:g} subscribers it is "
            "below the top.",
            kind=COUNT,
            also=["pd.Series(whole).idxmax() + 1"],
        ),
    ],
    shows="The curve rises to {max(whole):.1f} after {stop:g} subscribers and ends at "
    "{whole[-1]:.1f}: who stops earlier prevents more.",
    hints=(
        "Sort by the score. Among the first k, how many were drawn, how many not, and how many "
        "of each cancelled?",
        "prevented(k) = cancelled of those not drawn × drawn / not drawn − cancelled of those "
        "drawn, all of them among the first k.",
        "Use `np.cumsum` of `drawn`, `~drawn`, `cancelled & drawn` and `cancelled & ~drawn`.",
    ),
)

q3 = exercise.asked(
    3,
    "`prevented`, a number of cancellations, `naive`, the same, and `normalised`, the same",
    setup="""
own = lottery[lottery["listed"]]
y, t, e = own["cancelled"].to_numpy(float), own["drawn"].to_numpy(), own["chance"].to_numpy()
def loss(weights, arm):  # of the whole list
    return (weights * y)[arm].sum()
right_ips = loss(1 / (1 - e), ~t) - loss(1 / e, t)
""",
    parts=[
        Part(
            "prevented",
            "right_ips",
            [
                Slip(
                    "loss(1 / e, ~t) - loss(1 / e, t)",
                    "Those not drawn have the chance 1 − chance of what happened to them.",
                ),
                Slip(
                    "-right_ips",
                    "The sign is reversed: prevented is the loss without calls minus the loss with "
                    "them.",
                ),
                Slip(
                    "right_ips / len(own)",
                    "This is for one subscriber of the list. Give the number for the whole list.",
                ),
                Slip(
                    "(lottery['cancelled'] * np.where(lottery['drawn'], -1 / lottery['chance'], "
                    "1 / (1 - lottery['chance']))).sum()",
                    "This is the value of calling all {len(lottery)}. The list has {len(own)}.",
                ),
                Slip(
                    "len(own) * (y[~t].mean() - y[t].mean())",
                    "Without weights the drawn are mostly the risky ones, and the others mostly "
                    "not: that is the naive answer.",
                ),
            ],
            otherwise="{value:.4g} is none of the usual mix-ups. Each cancellation on the list "
            "counts by one over the chance of what happened to its subscriber.",
            also=["(y * np.where(t, -1 / e, 1 / (1 - e))).sum()"],
        ),
        Part(
            "naive",
            "len(own) * (y[~t].mean() - y[t].mean())",
            [
                Slip(
                    "y[~t].mean() - y[t].mean()",
                    "This is the difference of the shares: multiply by the length of the list.",
                ),
                Slip(
                    "y[~t].sum() - y[t].sum()",
                    "These are numbers of two groups of different size. Compare the shares first.",
                ),
                Slip("right_ips", "This is the weighted answer again."),
            ],
            otherwise="{value:.4g} is not the difference of the two plain shares times {len(own)}.",
            also=["len(own) * -np.diff(own.groupby('drawn')['cancelled'].mean())[0]"],
        ),
        Part(
            "normalised",
            "len(own) * (np.average(y[~t], weights=1 / (1 - e[~t])) - "
            "np.average(y[t], weights=1 / e[t]))",
            [
                Slip(
                    "right_ips",
                    "Here each arm's weights are divided by their own sum, which is not "
                    "{len(own)}: they only expect to be.",
                ),
                Slip(
                    "np.average(y[~t], weights=1 / (1 - e[~t])) - "
                    "np.average(y[t], weights=1 / e[t])",
                    "Multiply by the length of the list, as before.",
                ),
            ],
            otherwise="{value:.4g} is not it. Take the weighted mean of each arm, their "
            "difference, and the length of the list.",
            also=[
                "len(own) * (loss(1 / (1 - e), ~t) / (1 / (1 - e))[~t].sum() - "
                "loss(1 / e, t) / (1 / e)[t].sum())"
            ],
        ),
    ],
    prediction=Prediction(
        "guess_3",
        ("more", "less"),
        "'more' if naive > prevented else 'less'",
        "Plain shares say {naive:.1f}, weights {prevented:.1f}: half of the risky and a tenth of "
        "the others were drawn, so the drawn cancel more whatever a call does.",
    ),
    shows="The list of {len(own)} would have prevented {prevented:.1f} cancellations, "
    "{normalised:.1f} with normalised weights; plain shares say {naive:.1f}.",
    hints=(
        "Only rows of the list count. What was the chance of what happened to each of them: drawn, "
        "or not drawn?",
        "A drawn row stands for 1 / chance rows, another one for 1 / (1 − chance).",
        "Weighted cancellations of those not drawn, minus those of the drawn. To normalise, divide "
        "each by the sum of its weights and multiply by the length of the list.",
    ),
)

q4 = exercise.asked(
    4,
    "`smallest`, a difference of shares, `needed`, subscribers an arm, and `held`, the same",
    setup="""
from scipy.stats import norm
z = norm.ppf(0.975) + norm.ppf(0.8)
def seen(n, factor=z):
    return factor * np.sqrt(2 * base * (1 - base) / n)
def size(difference, factor=z):
    return 2 * base * (1 - base) * (factor / difference) ** 2
""",
    parts=[
        Part(
            "smallest",
            "seen(arm)",
            [
                Slip(
                    "seen(arm, norm.ppf(0.975))",
                    "With 1.96 alone the test finds such a difference in half of all trials: "
                    "power 80 % needs another 0.84 standard errors.",
                ),
                Slip(
                    "seen(arm, norm.ppf(0.95) + norm.ppf(0.8))",
                    "This is a one-sided test. A call can do harm: test both sides.",
                ),
                Slip(
                    "z * np.sqrt(base * (1 - base) / arm)",
                    "This is the error of one arm. The difference has that of both: twice the "
                    "variance.",
                ),
                Slip(
                    "seen(arm / 2)",
                    "There are {arm:,} in *each* arm, not in both together.",
                ),
                Slip(
                    "seen(arm) / base",
                    "This is relative to the base share. Give the difference itself.",
                ),
                Slip(
                    "0.01",
                    "One point is the common answer, and it is what has to be checked.",
                ),
            ],
            otherwise="{value:.4g} is none of the usual mix-ups. (1.96 + 0.84) × √(2 p (1 − p) / "
            "n), unrounded.",
            also=["(1.959964 + 0.841621) * (2 * base * (1 - base) / arm) ** 0.5"],
        ),
        Part(
            "needed",
            "size(0.01)",
            [
                Slip("2 * size(0.01)", "This is for both arms together."),
                Slip("size(0.01) / 2", "The variance of both arms counts: twice p (1 − p)."),
                Slip(
                    "arm * smallest / 0.01",
                    "Half the difference needs four times as many: the number grows with the "
                    "square.",
                ),
                Slip(
                    "size(0.01, norm.ppf(0.975))",
                    "With 1.96 alone the power is one half.",
                ),
            ],
            otherwise="{value:,.0f} is not 2 p (1 − p) × (2.80 / 0.01)².",
            kind=Number(0.003, unrounded=False),
            also=["np.ceil(size(0.01))", "arm * (smallest / 0.01) ** 2"],
        ),
        Part(
            "held",
            "size(0.02)",
            [
                Slip(
                    "size(0.01) / 2",
                    "Twice the difference needs a quarter in each arm. This is half, which is also "
                    "what both arms need together.",
                ),
                Slip("size(0.01)", "This is still the number for one point."),
            ],
            otherwise="{value:,.0f} is not the number for a difference of two points.",
            kind=Number(0.003, unrounded=False),
            also=["needed / 4"],
        ),
    ],
    prediction=Prediction(
        "guess_4",
        ("yes", "no"),
        "'yes' if seen(arm) <= 0.01 else 'no'",
        "{arm:,} in each arm find a change of {100 * smallest:.2f} points with power 80 %.",
    ),
    shows="{arm:,} an arm find {100 * smallest:.2f} points. One point needs {needed:,.0f}, two "
    "points {held:,.0f}.",
    hints=(
        "The difference of two shares has the variance 2 p (1 − p) / n.",
        "For power 80 % at a two-sided 5 % the true difference lies 1.96 + 0.84 standard errors "
        "from zero.",
        "smallest = 2.80 √(2 p (1 − p) / n); solve it for n.",
    ),
)

q5 = exercise.asked(
    5,
    "`calls`, a number for each group, `euro`, a number, and `by_risk`, a number",
    setup="""
worth = groups["effect"] * groups["value"] - COST
def brings(calls):
    return float((calls * worth).sum())
best = called_first(groups, worth) * (worth > 0)
""",
    parts=[
        Part(
            "calls",
            "best",
            [
                Slip(
                    "called_first(groups, groups['risk'])",
                    "These calls go to those who leave most. Which calls change something?",
                ),
                Slip(
                    "called_first(groups, groups['risk'] * groups['value'])",
                    "This is what is at stake, and not what a call saves of it.",
                ),
                Slip(
                    "called_first(groups, groups['effect'])",
                    "The largest effect first: a saved subscriber of one group is worth more than "
                    "of another.",
                ),
                Slip(
                    "called_first(groups, worth * groups['size'])",
                    "This sorts by the total of a group. Calls are scarce: sort by euro a call.",
                ),
                Slip(
                    "groups['size'] * (worth > 0)",
                    "These are {int(value.sum()):,} calls; there are {CALLS:,}.",
                ),
            ],
            otherwise="You make {int(value.sum()):,} calls that bring {brings(value):,.0f} euro; "
            "more is possible. Fill the {CALLS:,} calls by euro a call, down to zero.",
            kind=Column(0.0005),
            also=["(called_first(groups, worth + COST) * (worth > 0)).astype(int)"],
        ),
        Part(
            "euro",
            "brings(best)",
            [
                Slip(
                    "brings(best) + COST * best.sum()",
                    "The calls have a price: {COST:g} euro each.",
                ),
                Slip(
                    "float((best * groups['effect']).sum())",
                    "This is the number of cancellations prevented.",
                ),
                Slip(
                    "float((best * groups['risk'] * groups['value']).sum() - COST * best.sum())",
                    "This would be right if every call saved whoever would leave.",
                ),
            ],
            otherwise="{value:,.0f} is not the sum of effect × value − cost over your calls.",
            also=["(calls * groups['effect'] * groups['value']).sum() - COST * calls.sum()"],
        ),
        Part(
            "by_risk",
            "brings(called_first(groups, groups['risk']))",
            [
                Slip(
                    "brings(called_first(groups, groups['risk'] * groups['value']))",
                    "This list sorts by risk × value. Asked for is the one by risk alone.",
                ),
                Slip("brings(best)", "This is the best list again."),
                Slip(
                    "brings(called_first(groups, groups['risk'])) + COST * CALLS",
                    "The calls have a price here too.",
                ),
            ],
            otherwise="{value:,.0f} is not what {CALLS:,} calls bring that go to the highest risk "
            "first, counted by their effect.",
            also=["(called_first(groups, groups['risk']) * worth).sum()"],
        ),
    ],
    prediction=Prediction(
        "guess_5",
        tuple(groups(SEED).index),
        "groups['risk'].idxmax()",
        "{groups['risk'].idxmax()} has the highest risk, and a call there brings "
        "{worth[groups['risk'].idxmax()]:+.0f} euro.",
    ),
    shows="The same {CALLS:,} calls bring {euro:,.0f} euro by effect and {by_risk:,.0f} by risk.",
    hints=(
        "What does one call in each group bring, less what it costs?",
        "Sort the groups by that number and fill them one after the other; nobody below zero.",
        "`worth = effect * value - COST`; the last group is called in part. For `by_risk`, sort by "
        "`risk` and count the same `worth`.",
    ),
)

q6 = exercise.asked(
    6,
    "`usable`, a set of names of groups, and `labels`, a function",
    setup="""
over = ["called, month over", "not called, month over", "held out, month over"]
names = [*over, "not called, month open"]
""",
    parts=[
        Part(
            "usable",
            "{'not called, month over', 'held out, month over'}",
            [
                Slip(
                    "set(names) - {'not called, month open'}",
                    "Of the called, the calls have saved some: they look safe, and the next model "
                    "drops them from the list.",
                ),
                Slip(
                    "{'not called, month over'}",
                    "The held-out are the best rows of all: high on the list, and left in peace.",
                ),
                Slip(
                    "{'held out, month over'}",
                    "These alone are a fair sample of the *list*. For the risk of everybody the "
                    "others who were not called count too.",
                ),
                Slip(
                    "set(names) - {'called, month over'}",
                    "While the month is open, who will leave yet counts as staying.",
                ),
            ],
            otherwise="For the chance to cancel *without* a call you need rows without a call "
            "whose outcome is known.",
            kind=Labels("names"),
            also=["['held out, month over', 'not called, month over']"],
        ),
        Part(
            "labels",
            "learn_right",
            [
                Slip(
                    "lambda rows, today: learn_right(rows.assign(called=False), today)",
                    "The called are still among your rows.",
                ),
                Slip(
                    "lambda rows, today: learn_right(rows, today + 999)",
                    "Rows are among yours whose month is not over: a month of the night N is over "
                    "on day N + {MONTH}.",
                ),
                Slip(
                    "lambda rows, today: learn_right(rows, today - 1)",
                    "A month is over on day N + {MONTH}, not a day later.",
                ),
                Slip(
                    "lambda rows, today: rows.loc[learn_right(rows, today).index, 'left'].notna()",
                    "Whoever leaves later than {MONTH} days after the night has stayed in this "
                    "month.",
                ),
                Slip(
                    "lambda rows, today: learn_right(rows.assign(left=rows['left'] + (rows['left'] "
                    "== rows['night'] + MONTH)), today)",
                    "The last day of the month, N + {MONTH}, belongs to it.",
                ),
            ],
            otherwise="On the course's rows your function returns something else. It returns a "
            "Series of booleans for the usable rows alone, with their index.",
            kind=Function("[(history, 140), (history, 141), (history, 168)]"),
            also=[
                "lambda rows, today: rows[~rows['called'] & (today - rows['night'] >= MONTH)]"
                ".pipe(lambda r: (r['left'] - r['night']).between(1, MONTH))"
            ],
        ),
    ],
    shows="A model of the risk learns from whoever was left in peace, four weeks later.",
    hints=(
        "The model is to say who cancels if nobody calls. Which rows show that?",
        "Two conditions for a row: no call, and today is at least {MONTH} days after the night. "
        "One for the label: the day of leaving lies within those days.",
        "`rows = rows[~rows['called'] & (rows['night'] + MONTH <= today)]`, then compare `left` "
        "with `night` and `night + MONTH`.",
    ),
)
