"""Questions of exercise 04: intervals, parcels under way, late scans, promises, a consumer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.world import CHAPTER, SEED
from casebook.exercises.asked import (
    Column,
    Exercise,
    Function,
    Labels,
    Number,
    Part,
    Prediction,
    slips,
)
from casebook.exercises.grading import student_seed

HOUR = pd.Timedelta(hours=1)
NOW = pd.Timestamp("2025-12-03 18:00")
#: Euro for each day that a parcel comes after its promise, and before it.
LATE, EARLY = 4.0, 1.0
#: Euro for a late parcel, however late it is.
APOLOGY = 6.0

# The exercise's own small worlds, drawn by the student's seed. Where a question is about the exact
# rank of a score, the scores lie on a grid, so that no two ranks can be mistaken for each other.


def _intervals(
    rng: np.random.Generator, scores: np.ndarray, early: np.ndarray, width: float = 40
) -> pd.DataFrame:
    """Return parcels whose hours lie outside their interval by the scores (inside if negative)."""
    low = rng.uniform(30, 50, len(scores)).round(1)
    high = low + rng.uniform(width, width + 20, len(scores)).round(1)
    hours = np.where(early, low - scores, high + scores)
    parcels = pd.DataFrame({"low": low, "high": high, "hours": hours.round(2)})
    return parcels.sample(frac=1, random_state=rng).reset_index(drop=True)


def one_pair(seed: int) -> pd.DataFrame:
    """Return 44 delivered parcels of one zone pair, with the interval that each was given."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.8, 1.4) * (-22 + 42 * np.linspace(0, 1, 44) ** 1.5)
    early = rng.random(44) < 0.3
    early[[-1, -2, -3, -4, -5]] = False, True, False, True, False
    return _intervals(rng, scores, early, width=64)


def lanes(seed: int, days: str) -> pd.DataFrame:
    """Return the parcels of three zone pairs, of the ``past`` or of the days ``later``."""
    rng = np.random.default_rng([seed, days == "later"])
    scale = np.random.default_rng(seed).uniform(0.9, 1.2)
    sizes = {"city": (600, 9.0, -9.0), "coast": (300, 12.0, -4.0), "island": (100, 20.0, 6.0)}
    parts = []
    for pair, (n, spread, shift) in sizes.items():
        shift -= 5.0 if (pair, days) == ("island", "later") else 0.0
        u = (np.arange(n) + 0.5) / n
        scores = shift + scale * spread * np.log(u / (1 - u)) / 2
        parts.append(_intervals(rng, scores, rng.random(n) < 0.4).assign(pair=pair))
    return pd.concat(parts, ignore_index=True)[["pair", "low", "high", "hours"]]


def shipped(seed: int) -> pd.DataFrame:
    """Return the parcels of five days at the cut: their age, and their hours if delivered."""
    rng = np.random.default_rng(seed)
    hours = rng.uniform(54, 66) * np.exp(0.45 * rng.normal(size=500))
    age = rng.uniform(1, 120, 500)
    return pd.DataFrame({"age": age.round(1), "hours": np.where(hours <= age, hours, np.nan)})


def scans(seed: int) -> pd.DataFrame:
    """Return the scans of a week, with the time of each and the time at which it was known."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(240):
        at = NOW + HOUR * rng.uniform(-80, 20)
        for stage in range(6):
            late = rng.uniform(4, 20) if rng.random() < 0.15 else rng.uniform(0.1, 0.5)
            name = f"P{number:03d}", "NSW"[number % 3] + "E", stage
            rows.append((*name, at.round("s"), (at + HOUR * late).round("s")))
            at += HOUR * rng.gamma(3.0, 4.5)
    return pd.DataFrame(rows, columns=["parcel", "pair", "stage", "scanned", "known"])


def features(scans, now):
    known, scanned = scans[scans["known"] <= now], scans[scans["scanned"] <= now]
    start = scans.groupby("parcel")["scanned"].transform("min")
    hours = (scans["scanned"] - start) / HOUR
    done = scans.assign(hours=hours)[scans["stage"] == 5]
    parcels = known[["parcel", "pair"]].drop_duplicates().set_index("parcel")
    by_known, by_scanned = known.groupby("parcel"), scanned.groupby("parcel")
    shipped = done[done["parcel"].isin(parcels.index)]
    delivered = done[done["known"] <= now]
    return pd.DataFrame(
        {
            "last_stage": by_known["stage"].max(),
            "true_stage": by_scanned["stage"].max(),
            "hours_silent": (now - by_known["scanned"].max()) / HOUR,
            "scans": scans.groupby("parcel").size(),
            "pair_shipped": parcels["pair"].map(shipped.groupby("pair")["hours"].median()),
            "pair_delivered": parcels["pair"].map(delivered.groupby("pair")["hours"].median()),
        },
        index=parcels.index,
    )


def days_needed(seed: int) -> np.ndarray:
    """Return the days that 200 earlier parcels like this one needed, in whole days."""
    rng = np.random.default_rng(seed)
    shares = {2: 24, 3: 62, 4: 38, 5: 18, 6: 10, 7: 16, 8: 10, 9: 8, 10: 6, 11: 4, 12: 4}
    days = np.repeat(list(shares), list(shares.values())) + rng.integers(0, 3)
    return rng.permutation(days)


def cost(days, promise):
    late, early = np.maximum(days - promise, 0), np.maximum(promise - days, 0)
    return (LATE * late + EARLY * early).mean()


def arrived(seed: int) -> list[list[dict]]:
    """Return six parcels' scans as they arrived, with what an event log does to them."""
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.uniform(3, 9, 6)).round(1)
    ids = np.array([31, 47, 12, 40, 25]) + rng.integers(0, 50)  # in no order of time

    def scan(number, stage, scanned, known=None):
        known = scanned + 0.2 if known is None else known
        own = int(ids[number])
        return {"id": own, "stage": stage, "scanned": float(scanned), "known": float(known)}

    plain = [scan(i, i, t[i]) for i in range(4)]
    late = [plain[0], plain[2], scan(1, 1, t[1], t[2] + 1)]
    back = [*plain, scan(4, 2, t[4])]
    ahead = [plain[0], scan(1, 1, t[1] + 48, t[1] + 0.2), plain[2]]
    last_ahead = [*plain[:2], scan(2, 2, t[2] + 48, t[2] + 0.2)]
    return [plain, [*plain[:3], plain[1]], late, back, ahead, last_ahead]


exercise = Exercise(
    CHAPTER,
    SEED,
    given={
        "one_pair": one_pair,
        "past": lambda seed: lanes(seed, "past"),
        "later": lambda seed: lanes(seed, "later"),
        "shipped": shipped,
        "scans": scans,
        "features": lambda seed: features,
        "now": lambda seed: NOW,
        "days_needed": days_needed,
        "cost": lambda seed: cost,
        "LATE": lambda seed: LATE,
        "EARLY": lambda seed: EARLY,
        "APOLOGY": lambda seed: APOLOGY,
        "arrived": arrived,
    },
)


def given(name: str) -> object:
    """Return what a question shows under this name, in the reader's world."""
    return exercise.given[name](student_seed(SEED))


q1 = exercise.asked(
    1,
    "`margin`, a number of hours, `coverage`, a number between 0 and 1, and `smallest_n`, a number",
    setup="""
late, early = one_pair["hours"] - one_pair["high"], one_pair["low"] - one_pair["hours"]
scores = np.maximum(late, early)
n = len(scores)
rank = int(np.ceil(0.9 * (n + 1)))
""",
    parts=[
        Part(
            "margin",
            "np.sort(scores)[rank - 1]",
            slips("""
np.quantile(scores, 0.9)
np.quantile(scores, 0.9, method='median_unbiased')
  `np.quantile` interpolates between two scores of the sample, and its interval would cover the {n}
  parcels that made it. The next parcel is not among them: take the score of rank ⌈0.9 · (n + 1)⌉
  exactly.
np.sort(scores)[rank - 2]
np.quantile(scores, 0.9, method='higher')
  This score has rank {rank - 1}, that is 90 % of {n}. The next parcel makes {n + 1}, and each of
  the {n + 1} ranks is equally likely for it.
np.sort(scores)[rank]
  Off by one: in Python the score of rank {rank} has the index {rank - 1}.
np.sort(late)[rank - 1]
  Only parcels that came late have a say here. A parcel that comes before its interval begins is
  outside, too: its score is low − hours.
np.sort(np.abs(scores))[rank - 1]
  Inside the interval the score is negative. Its absolute value turns a parcel that came deep inside
  into a miss.
np.sort(scores)[int(np.ceil(0.95 * (n + 1))) - 1]
  This is the margin for 95 %. The score is the larger of the two distances, so both sides are in it
  already and 10 % need not be divided between them.
scores.max()
  With the largest score as the margin, all {n} parcels are covered. You were asked for 90 %.
"""),
            otherwise="With a margin of {value:.4g} hours {(scores <= value).sum()} of the {n} "
            "parcels are covered. Sort the scores and count to the rank that 90 % needs.",
            also=["scores.nlargest(n - rank + 1).iloc[-1]", "np.partition(scores, 40)[40]"],
        ),
        Part(
            "coverage",
            "rank / (n + 1)",
            slips("""
0.9
  90 % was asked for. A rank is a whole number, so what you get is a little more: which of the {n +
  1} equally likely places of the next parcel are covered?
rank / n
  This is the share of the {n} parcels that the margin was made from. The next one has {n + 1}
  places among their scores.
"""),
            otherwise="{value:.4g} is not the chance of this margin: of {n + 1} equally likely "
            "places, how many does a score of rank {rank} cover?",
            kind=Number(0.0005),
            also=["1 - (n + 1 - rank) / (n + 1)"],
        ),
        Part(
            "smallest_n",
            "19",
            slips("""
20
  Nearly. 20 is n + 1: the next parcel counts as one of the twenty.
39
  39 parcels would be needed if 5 % were divided between the two sides. The score has both sides in
  it.
9
  Nine parcels suffice for 90 %. How many are needed for 95 %?
12
  when: value < 19
  With n = {value:.0f} the rank ⌈0.95 · (n + 1)⌉ is {np.ceil(0.95 * (value + 1)):.0f}, and there is
  no such score: the interval would have to be infinite.
"""),
            otherwise="n = {value:.0f} works, but a smaller n does, too.",
            kind=Number(1e-6),
            also=["next(k for k in range(1, 99) if np.ceil(0.95 * (k + 1)) <= k)"],
        ),
    ],
    prediction=Prediction(
        "guess_1",
        ("wider", "narrower"),
        "'wider' if margin > np.quantile(scores, 0.9) else 'narrower'",
        "The exact margin is {margin:.1f} hours, `np.quantile` gives "
        "{np.quantile(scores, 0.9):.1f}.",
    ),
    shows="Rank {rank} of {n}: {margin:.1f} hours on each side cover the next parcel with a "
    "probability of {coverage:.1%}.",
    hints=(
        "First the score of each parcel: by how many hours did it miss its interval, on whichever "
        "side? Inside the score is negative.",
        "Imagine the next parcel's score thrown in among the 44: it is equally likely to be the "
        "smallest, the second smallest, … the largest. How many of these places must be covered?",
        "`rank = ceil(0.9 * (n + 1))`; the margin is the score of that rank; the chance is "
        "`rank / (n + 1)`. A margin is finite while the rank for its level is at most n.",
    ),
)

q2 = exercise.asked(
    2,
    "`worst`, a number between 0 and 1, `margins`, a number of hours for each pair, and `extra`, a "
    "number of hours",
    setup="""
def score(rows):
    return np.maximum(rows["low"] - rows["hours"], rows["hours"] - rows["high"])
def exact(scores):
    return np.sort(scores)[int(np.ceil(0.8 * (len(scores) + 1))) - 1]
def share(rows, margin=0.0):  # of parcels inside, by pair
    return (score(rows) <= margin).groupby(rows["pair"]).mean()
common = exact(score(past))
def own(rows, rule=exact):
    return score(rows).groupby(rows["pair"]).agg(rule)
""",
    parts=[
        Part(
            "worst",
            "share(later, common).min()",
            slips("""
(score(later) <= common).mean()
  This is the coverage of all pairs together. It is nearly what was asked for, and that is the
  point: which pair pays for it?
share(later).min()
  No margin has been added yet: this is the coverage of the worst pair with the model's own
  intervals.
share(past, common).min()
  The margin was made from the parcels of `past`; on these it looks better than it is. Count on
  `later`.
share(later, common).mean()
share(later, common).max()
  This is the mean over pairs, or the best one. The worst one is asked for.
100 * right
  when: value > 1
  Give a share between 0 and 1.
"""),
            otherwise="{value:.4g} is not the share of a pair's parcels in `later` whose score is "
            "at most the one margin of `past`. Count it for each pair; the worst is asked for.",
            also=["(score(later) <= common)[later['pair'] == 'island'].sum() / 100"],
        ),
        Part(
            "margins",
            "own(past)",
            slips("""
own(later)
  These margins were made from `later`, the parcels that judge them. On the day of the promise they
  had not been delivered.
pd.Series(common, own(past).index)
  This is the one margin for all pairs again. Group the scores by pair first.
own(past, lambda s: np.sort(s)[int(np.ceil(0.9 * (len(s) + 1))) - 1])
  These margins are for 90 %; the course's intervals go from P10 to P90 and should hold for 80 %.
own(past) - common
  This is what each pair needs on top of the common margin. Give the margin itself, measured from
  the model's interval.
"""),
            otherwise="These margins cover {(score(past) <= past['pair'].map(value)).groupby("
            "past['pair']).mean().round(3).to_dict()} of `past`. Take the exact rank in each pair, "
            "and do not round.",
            kind=Column(0.003),
            also=["past.assign(s=score(past)).groupby('pair')['s'].agg(exact)"],
        ),
        Part(
            "extra",
            "2 * (later['pair'].map(margins) - common).mean()",
            slips("""
(later['pair'].map(margins) - common).mean()
  A margin is added on both sides, so an interval grows by twice as much.
2 * (margins - common).mean()
  Here the island's {(later['pair'] == 'island').sum()} parcels count as much as the city's
  {(later['pair'] == 'city').sum()}. Average over parcels.
2 * later['pair'].map(margins).mean()
  This compares with the model's intervals without any margin. Compare with the one common margin.
-right
  The sign is reversed: own margins minus the common one.
"""),
            otherwise="{value:.4g} hours: give each parcel of `later` the margin of its pair, "
            "subtract the common one, count both sides, and do not round.",
            also=["2 * (margins * later['pair'].value_counts(normalize=True)).sum() - 2 * common"],
        ),
    ],
    prediction=Prediction(
        "guess_2",
        ("wider", "narrower"),
        "'wider' if extra > 0 else 'narrower'",
        "Few parcels need a wide interval, and many are spared one: the mean interval changes by "
        "{extra:+.1f} hours.",
    ),
    shows="One margin covers {(score(later) <= common).mean():.0%} of all parcels and {worst:.0%} "
    "of the island's; with its own margin the island has "
    "{share(later.assign(low=later['low'] - later['pair'].map(margins), high=later['high'] + "
    "later['pair'].map(margins)))['island']:.0%}.",
    hints=(
        "The margin comes from `past`, the verdict from `later`. Compute the score of each parcel "
        "in both, as in question 1.",
        "For 80 % and n scores, the rank is ⌈0.8 · (n + 1)⌉: once for all 1,000 scores of `past`, "
        "then once within each pair.",
        "`later['pair'].map(margins)` gives each parcel the margin of its pair.",
    ),
)

q3 = exercise.asked(
    3,
    "`naive` and `survival`, two numbers of hours, and `bias_days`, a number of days",
    setup="""
time, done = shipped["hours"].fillna(shipped["age"]), shipped["hours"].notna()
def kaplan_meier(time, done):  # the time at which half are delivered
    order = np.argsort(time, kind="stable")
    at_risk = len(time) - np.arange(len(time))
    left = np.cumprod(1 - done.to_numpy()[order] / at_risk)
    return time.to_numpy()[order][left <= 0.5][0]
""",
    parts=[
        Part(
            "naive",
            "shipped['hours'].median()",
            slips("""
shipped['hours'].mean()
  This is the mean. The median was asked for, because the survival curve gives one too.
time.median()
  Here parcels under way count as delivered at the cut. For `naive`, drop them.
"""),
            otherwise="{value:.4g} hours is not the median of the delivered parcels.",
            also=["np.nanmedian(shipped['hours'])"],
        ),
        Part(
            "survival",
            "kaplan_meier(time, done)",
            slips("""
naive
  This is the median of delivered parcels again. A parcel under way says something, too: that its
  time is *longer* than its age.
time.median()
  Their age took the place of the time that parcels under way will need. That is shorter than the
  truth for each of them.
shipped['hours'].fillna(1e9).median()
  You took every parcel under way for one that never arrives. A parcel handed in an hour ago is
  under way because it is young, not because it is slow.
"""),
            otherwise="At {value:.4g} hours the curve is not at one half. After each delivery "
            "multiply by 1 − 1 / (parcels that were still at risk).",
            kind=Number(0.001),
            also=[
                "from statsmodels.duration.survfunc import SurvfuncRight\n"
                "SurvfuncRight(time, done.astype(int)).quantile(0.5)",
                "from lifelines import KaplanMeierFitter\n"
                "KaplanMeierFitter().fit(time, done).median_survival_time_",
            ],
        ),
        Part(
            "bias_days",
            "(naive - survival) / 24",
            slips("""
naive - survival
  This is in hours.
(survival - naive) / 24
  Bias is estimate minus truth: negative if the estimate is too low.
"""),
            otherwise="{value:.4g} is not the difference of your two medians in days; do not "
            "round.",
            kind=Number(0.01),
            also=["naive / 24 - survival / 24"],
        ),
    ],
    prediction=Prediction(
        "guess_3",
        ("too low", "too high"),
        "'too low' if bias_days < 0 else 'too high'",
        "A slow parcel is more likely to be still under way at the cut, so dropping those drops "
        "the slow ones.",
    ),
    shows="{(~done).mean():.0%} of the parcels are under way at the cut. Without them half seem "
    "to arrive within {naive:.0f} hours; with them it is {survival:.0f}: "
    "{-bias_days:.1f} days of optimism.",
    hints=(
        "Three groups: delivered, under way and young, under way and old. Which of them does the "
        "naive median drop, and how long will these take?",
        "Sort all parcels by `hours`, or by `age` if under way. Walk through them; at each "
        "delivery the curve loses one part of the parcels that have not left the list yet.",
        "`left = np.cumprod(1 - delivered / at_risk)` in that order, with `at_risk` going from 500 "
        "to 1; the answer is the first time at which `left` is at most one half.",
    ),
)

q4 = exercise.asked(
    4,
    "`possible`, a set of names, and `differ`, a number between 0 and 1",
    setup="""
table = features(scans, now)
spoiled = scans.copy()
later = spoiled["known"] > now
spoiled.loc[later, "scanned"] += pd.Timedelta(days=30)
spoiled = pd.concat([spoiled[~later], spoiled[later].iloc[::2]])
def moved(name):
    there = features(spoiled, now)[name]
    return table[name][~((table[name] == there) | (table[name].isna() & there.isna()))]
safe = {name for name in table if moved(name).empty}
def more(value, *expected):
    return "" if set(value) - set(expected) == safe - set(expected) else MORE
MORE = " And that is not all that is to be mended in your set."
""",
    parts=[
        Part(
            "possible",
            "safe",
            slips("""
set()
  when: not value
  At least one of them could have been computed: every scan has the time at which it was known.
set(table)
  when: value == set(table)
  Not all of them. Cover every scan that was not known at 18:00 and see which columns you can still
  compute.
set(table) - safe
  when: value == set(table) - safe
  This is the list of those that leak. The question asks for the others.
safe | {'true_stage'}
  when: 'true_stage' in value
  `true_stage` uses a scan from the moment at which it *happened*. For {len(moved('true_stage'))}
  parcels that scan was still on its way to you at 18:00.{more(value, 'true_stage')}
safe | {'scans'}
  when: 'scans' in value
  `scans` counts every scan of the parcel, also those of the days to come: a parcel with few of them
  left is nearly there.{more(value, 'scans')}
safe | {'pair_shipped'}
  when: 'pair_shipped' in value
  `pair_shipped` takes parcels that had been handed in by 18:00, but with the hours that they needed
  in the end. It is the most usual leak of all: the label of a parcel that is still under
  way.{more(value, 'pair_shipped')}
safe - {'hours_silent'}
  when: 'hours_silent' not in value
  `hours_silent` was possible: it looks back from 18:00 to the last scan that was *known*.
safe - {'last_stage'}
  when: 'last_stage' not in value
  `last_stage` was possible: it takes only scans that were known at 18:00. It may be behind the
  truth, and the model learns by how much.
safe - {'pair_delivered'}
  when: 'pair_delivered' not in value
  `pair_delivered` was possible: its deliveries were known at 18:00. It is too low, as question 3
  shows, but it is no leak. The two are often mixed up.
"""),
            otherwise="{names(value)}: these are not the columns that could have been computed.",
            kind=Labels("table"),
            also=["[name for name in table if moved(name).empty]"],
        ),
        Part(
            "differ",
            "(table['true_stage'] != table['last_stage']).mean()",
            slips("""
(table['true_stage'] == table['last_stage']).mean()
  This is the share for which both agree.
(table['true_stage'] != table['last_stage']).sum()
100 * right
  when: value > 1
  This is a number of parcels, or a percentage; give a share between 0 and 1.
(scans['known'] - scans['scanned'] > pd.Timedelta(hours=4)).mean()
  This is the share of scans that came late. Most of these were known by 18:00; compare the two
  columns.
"""),
            otherwise="{value:.4g}: compare the columns `true_stage` and `last_stage` of the "
            "{len(table)} parcels.",
            also=["(table['true_stage'] > table['last_stage']).sum() / len(table)"],
        ),
    ],
    shows="Spoil every scan that was not known at 18:00: {names(sorted(possible))} stay as they "
    "are. For {differ:.0%} of the parcels a backtest that sorts by scan time would have known a "
    "stage that the service could not know.",
    hints=(
        "A scan has two times. Which of them decides whether the service could use it?",
        "Two leaks have nothing to do with late scans: a count over the whole table, and a median "
        "over parcels that were not delivered yet.",
        "Let the computer answer: change all rows with `known > now`, call `features` again, and "
        "see which columns move.",
    ),
)

q5 = exercise.asked(
    5,
    "`level`, a number between 0 and 1, and `promise` and `promise_flat`, two whole days",
    setup="""
days = np.sort(days_needed)
choices = np.arange(days.min(), days.max() + 1)
def flat(days, promise):
    return (APOLOGY * (days > promise) + EARLY * np.maximum(promise - days, 0)).mean()
def best(price):
    return min(choices, key=lambda day: price(days, day))
def at(q):
    return np.quantile(days, q, method="inverted_cdf")
""",
    parts=[
        Part(
            "level",
            "LATE / (LATE + EARLY)",
            slips("""
EARLY / (LATE + EARLY)
  The costs are upside down: at this level four parcels of five come late, and late is the expensive
  side.
1 - EARLY / LATE
  Nearly. A day later for the promise costs {EARLY:.0f} if the parcel is there, and *saves*
  {LATE:.0f} if it is not. Where do the two balance?
LATE / EARLY
  This is the ratio of the costs. A level lies between 0 and 1.
100 * right
  when: value > 10
  Write the share as a number between 0 and 1.
0.5
  One half is right where a day late costs as much as a day early.
"""),
            otherwise="At the level p one more day costs {EARLY:.0f} · p and saves {LATE:.0f} · "
            "(1 − p). Your {value:.4g} does not balance them.",
            also=["1 / (1 + EARLY / LATE)"],
        ),
        Part(
            "promise",
            "best(cost)",
            slips("""
at(0.5)
  This is the median: half of the parcels come after it. It costs {cost(days, value):.2f} euro a
  parcel, the best promise {cost(days, right):.2f}.
np.ceil(days.mean())
days.mean()
  This is the mean, or the mean rounded up. It knows nothing of the costs: {cost(days,
  np.ceil(days.mean())):.2f} euro a parcel instead of {cost(days, right):.2f}.
at(0.9)
  P90 is the end of the interval, not the promise: it costs {cost(days, value):.2f} euro a parcel,
  the best day {cost(days, right):.2f}.
right + 0.5
  when: value % 1
  A promise is a whole day.
"""),
            otherwise="Promising {value:.4g} days costs {cost(days, value):.2f} euro a parcel; "
            "there is a day that costs less.",
            kind=Number(1e-6, unrounded=False),
            also=["at(level)"],
        ),
        Part(
            "promise_flat",
            "best(flat)",
            slips("""
at(APOLOGY / (APOLOGY + EARLY))
  The formula does not hold here. It compares the cost of *one day more*, and with a fixed apology a
  parcel that is late costs the same on every day. Search: this promise costs {flat(days,
  value):.2f} euro a parcel, the best {flat(days, right):.2f}.
promise
  This was the best promise when every day of delay had a price. With a fixed apology it costs
  {flat(days, value):.2f} euro a parcel; search again.
days.max()
  Nobody is late, and everybody waits for the slowest: {flat(days, value):.2f} euro a parcel instead
  of {flat(days, right):.2f}.
right + 0.5
  when: value % 1
  A promise is a whole day here as well.
"""),
            otherwise="With the fixed apology {value:.4g} days cost {flat(days, value):.2f} euro a "
            "parcel; there is a day that costs less.",
            kind=Number(1e-6, unrounded=False),
            also=["choices[np.argmin([flat(days, day) for day in choices])]"],
        ),
    ],
    prediction=Prediction(
        "guess_5",
        ("later", "earlier"),
        "'later' if promise > days.mean() else 'earlier'",
        "A day late costs {LATE:.0f} euro and a day early {EARLY:.0f}.",
    ),
    shows="Promise {promise:.0f} days: {(days > promise).mean():.0%} come late, at "
    "{cost(days, promise):.2f} euro a parcel. With one fixed apology it would be "
    "{promise_flat:.0f} days: the quantile follows from the costs only if each day has a price.",
    hints=(
        "One day more: for which parcels does that cost money, for which does it save some?",
        "`level` = late / (late + early). `promise` is the first whole day by which at least that "
        "share of the 200 parcels has arrived.",
        "For `promise_flat` write the new cost as a function of the promise; try every whole day.",
    ),
)

q6 = exercise.asked(
    6,
    "`state_of`, a function that takes a list of scans",
    setup="""
def ordered(scans, key=lambda s: (min(s["scanned"], s["known"]), s["stage"])):
    once = {s["id"]: s for s in scans}
    last = max(once.values(), key=key)
    return last["stage"], min(last["scanned"], last["known"]), len(once)
def happened(s):
    return min(s["scanned"], s["known"])
def trusting(s):
    last = max(s, key=lambda x: x["scanned"])
    return last["stage"], last["scanned"], len({x["id"] for x in s})
""",
    parts=[
        Part(
            "state_of",
            "ordered",
            slips("""
lambda s: None
  when: any(made is None for made in value)
  Your function returns nothing. Is a `return` missing?
lambda s: ordered(s)[:2]
lambda s: dict(zip('abc', ordered(s)))
  when: not all(isinstance(made, (tuple, list)) and len(made) == 3 for made in value)
  Return three values, in this order: the stage, the hour, and how many scans.
lambda s: (s[-1]['stage'], s[-1]['scanned'], len({x['id'] for x in s}))
  The last scan to *arrive* decides in your function. A late one then takes a parcel back to a hub
  that it has left.
lambda s: (*ordered(s)[:2], len(s))
  A scan that was sent twice counts twice: after each restart the log sends the last scans again.
  Count every `id` once.
lambda s: (max(x['stage'] for x in s), *ordered(s)[1:])
  Your parcel can never go back. One of them was sorted wrong and is at an earlier stage again; the
  latest scan tells, not the highest stage.
lambda s: ordered(s, key=lambda x: x['known'])
  The order in which scans became known is not the order in which they happened. Sort by `scanned`;
  `known` only limits it.
lambda s: ordered(s, key=lambda x: x['id'])
  An `id` tells scans apart and nothing of time: the numbers come in any order.
lambda s: (ordered(s)[0], max(s, key=happened)['scanned'], ordered(s)[2])
lambda s: ordered(s, key=lambda x: x['scanned'])
  The latest scan may be one whose clock is ahead. Wherever a time is used, to compare and to
  return, it is the earlier of `scanned` and `known`.
trusting
  One scanner's clock is two days ahead, and your function believes it: the parcel would keep that
  stage until the day after tomorrow. A scan cannot happen after it is known.
lambda s: ordered([x for x in s if x['scanned'] <= x['known']])
lambda s: (*ordered([x for x in s if x['scanned'] <= x['known']])[:2], ordered(s)[2])
  A scan with a wrong clock was dropped. Its time is wrong, its stage and its hub are not: use the
  time at which it was known instead.
"""),
            otherwise="For the six parcels it should return {right}; yours returns {value}.",
            kind=Function("[(scans,) for scans in arrived]", 1e-6),
            also=[
                "def with_pandas(scans):\n"
                "    rows = pd.DataFrame(scans).drop_duplicates('id')\n"
                "    rows['scanned'] = rows[['scanned', 'known']].min(axis=1)\n"
                "    last = rows.sort_values(['scanned', 'stage']).iloc[-1]\n"
                "    return int(last['stage']), last['scanned'], len(rows)\n"
                "with_pandas",
                "lambda scans: list(ordered(scans[::-1]))",
            ],
        )
    ],
    shows="The same scans in any order, once or twice, give the same state. So the log may send "
    "them again after a crash, and nothing needs to be locked.",
    hints=(
        "Ask the same of each of the six lists: would the result be the same if the scans had "
        "arrived in another order, or twice?",
        "Three repairs: count each `id` once; let the scan that *happened* last decide; and never "
        "believe a scan that says it happened after it was known.",
        "`when = min(scan['scanned'], scan['known'])`; keep a dictionary by `id`; the state is the "
        "scan with the largest `when`.",
    ),
)
