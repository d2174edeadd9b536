"""Questions of exercise 10: the split, ratios, peeking, winners, switchbacks and the decision.

Each question has a small world of its own, drawn by the seed, so that a student's numbers differ
and no question pays for another.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from casebook.exercises.asked import (
    Column,
    Exercise,
    Labels,
    Number,
    Part,
    Prediction,
    Word,
    slips,
)

SEED = 2026
PLATFORMS = ("web", "iOS", "Android", "TV")
PLANNED = pd.Series({"A": 0.05, "B": 0.05, "rest": 0.90})
#: Looks of question 3; hours of carry-over and lengths of a block of question 5.
LOOKS, CARRY_OVER = 14, 2
LENGTHS = (3, 6, 12, 24)
#: Of question 6: days in which the extra effect of novelty shrinks to a third; users; euro.
FADES, USERS, VALUE, COST = 6.0, 2_000_000, 0.9, 1_200_000


def counts(seed: int) -> pd.DataFrame:
    """Return users by platform and arm; one platform loses users of B on the way."""
    rng = np.random.default_rng([seed, 1])
    sizes = {"web": 60_000, "iOS": 24_000, "Android": 15_600}
    table = pd.DataFrame({p: rng.multinomial(n, PLANNED) for p, n in sizes.items()}).T
    table.columns = PLANNED.index
    faulty = ("iOS", "Android")[seed % 2]
    table.loc[faulty, "B"] -= round((0.28, 0.40)[seed % 2] * table.loc[faulty, "B"])
    table.loc["TV"] = [21, 11, 368]
    return table.rename_axis("platform")


def users(seed: int) -> pd.DataFrame:
    """Return impressions and clicks of each user; heavy users click more seldom."""
    rng = np.random.default_rng([seed, 2])
    n = 3_000
    treated = np.arange(2 * n) >= n
    seen = 1 + rng.poisson(rng.lognormal(2.2, 0.9, 2 * n))
    rate = rng.beta(1.6, 9.0, 2 * n) * (seen / 15) ** -0.2 + 0.01 * treated
    clicks = rng.binomial(seen, np.clip(rate, 0, 1))
    arm = np.where(treated, "treatment", "control")
    return pd.DataFrame({"arm": arm, "impressions": seen, "clicks": clicks})


@cache
def paths(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return z at 14 looks of 4,000 experiments without an effect, and of 4,000 with one."""
    rng = np.random.default_rng([seed, 3])
    looks = np.arange(1, LOOKS + 1)
    aa, ab = rng.normal(size=(2, 4_000, LOOKS)).cumsum(axis=2) / np.sqrt(looks)
    return aa, ab + 2.8 * np.sqrt(looks / LOOKS)  # 2.8: power .80 at the last look


@cache
def _ideas(seed: int) -> pd.DataFrame:
    """Return estimates of 80 experiments, their standard errors, and what each really did."""
    rng = np.random.default_rng([seed, 4])
    true = rng.normal(0.0, 0.5, 80)
    se = rng.uniform(0.25, 0.55, 80)
    shifted = pd.DataFrame({"effect": true + rng.normal(0, se), "se": se, "true": true})
    shifted["effect"] = shifted["effect"].round(3)
    shifted["se"] = shifted["se"].round(3)
    return shifted.rename_axis("experiment")


def ideas(seed: int) -> pd.DataFrame:
    """Return the estimates and standard errors of question 4."""
    return _ideas(seed)[["effect", "se"]]


def truth(seed: int) -> pd.Series:
    """Return the true effects of question 4."""
    return _ideas(seed)["true"]


def switchback(block, seed, days=28):
    """Return who is served by the new version (a row a block) and the minutes of each hour."""
    rng = np.random.default_rng(seed)
    blocks = 24 * days // block
    new = rng.permutation(np.arange(blocks) % 2)
    hourly = np.repeat(new, block)
    before = np.r_[np.zeros(CARRY_OVER, int), hourly[:-CARRY_OVER]]  # what still acts
    days_mood = np.repeat(rng.normal(0, 1.2, days), 24)
    rush = np.repeat(rng.normal(0, 1.5, 8 * days), 3)
    noise = days_mood + rush + rng.normal(0, 3.5, 24 * days)
    return new, (32 - 2.0 * before + noise).reshape(blocks, block)


@cache
def design_errors(runs: int = 1_000) -> dict[int, float]:
    """Return the root mean squared error of a four-week switchback by the length of its blocks."""

    def miss(block: int, seed: int) -> float:
        new, minutes = switchback(block, seed)
        means = minutes[:, CARRY_OVER:].mean(axis=1)
        return means[new == 1].mean() - means[new == 0].mean() + 2.0

    return {b: float(np.std([miss(b, seed) for seed in range(runs)])) for b in LENGTHS}


def daily(seed: int) -> pd.DataFrame:
    """Return the effect of each day on minutes a user, with its standard error."""
    rng = np.random.default_rng([seed, 6])
    day = np.arange(28)
    se = np.round(0.11 + 0.04 * (day % 7 >= 5), 3)
    lasting = rng.uniform(0.75, 0.95)
    extra, noise = rng.uniform(1.2, 1.6), rng.normal(0, se)
    noise[-1] = np.copysign(max(abs(noise[-1]), 0.12), noise[-1])  # the last day alone misses
    effect = lasting + extra * np.exp(-day / FADES) + noise
    return pd.DataFrame({"effect": effect.round(3), "se": se}, index=pd.Index(day, name="day"))


def guardrails(seed: int) -> pd.DataFrame:
    """Return change (%), standard error and the largest loss that is accepted, by guardrail."""
    rng = np.random.default_rng([seed, 7])
    change = [-0.25, rng.uniform(-0.35, -0.25), rng.uniform(-0.75, -0.65)]
    names = ["revenue", "posts written", "sessions"]
    rows = {"change": np.round(change, 2), "se": [0.1, 0.45, 0.1], "margin": [0.6, 0.6, 1.2]}
    return pd.DataFrame(rows, index=pd.Index(names, name="guardrail"))


exercise = Exercise(
    "10_ab_testing",
    SEED,
    given={
        "counts": counts,
        "planned": lambda seed: PLANNED,
        "users": users,
        "aa": lambda seed: paths(seed)[0],
        "ab": lambda seed: paths(seed)[1],
        "ideas": ideas,
        "true": truth,
        "served": lambda seed: switchback(12, seed)[0],
        "minutes": lambda seed: switchback(12, seed)[1],
        "CARRY_OVER": lambda seed: CARRY_OVER,
        "switchback": lambda seed: switchback,
        "lengths": lambda seed: LENGTHS,
        "daily": daily,
        "guardrails": guardrails,
        "FADES": lambda seed: FADES,
        "USERS": lambda seed: USERS,
        "VALUE": lambda seed: VALUE,
        "COST": lambda seed: COST,
    },
)

q1 = exercise.asked(
    1,
    "`chi2`, a number, `segment`, a platform, and `n_needed`, a number of users",
    setup="""
from scipy import stats
total = counts.sum()
def pearson(table, shares):
    expected = shares * table.sum()
    return ((table - expected) ** 2 / expected).sum()
def reach(quantile, df):
    return stats.chi2.ppf(quantile, df) / (pearson(total, planned) / total.sum())
of = {p: pearson(row, planned) for p, row in counts.iterrows()}
""",
    parts=[
        Part(
            "chi2",
            "pearson(total, planned)",
            slips("""
pearson(total, planned * 0 + 1 / 3)
  You compared the arms with equal thirds. The plan was 5, 5 and 90 %: multiply each planned share
  by all users.
((total - planned * total.sum()) ** 2 / total).sum()
  You divided by what came. Pearson's statistic divides each squared gap by what the plan *expects*.
pearson(total[['A', 'B']], pd.Series(0.5, ['A', 'B']))
  This compares A with B and leaves out the 90 %, which know best how many users there should be.
stats.chi2.sf(right, 2)
  This is p; the statistic was asked for.
stats.chi2_contingency(counts)[0]
  This asks whether the platforms agree with *each other*. The question is whether all users
  together agree with the plan.
"""),
            otherwise="{value:.4g} is none of the usual mix-ups. For each arm: users minus planned "
            "users, squared, over planned users; then add up three terms.",
            also=["stats.chisquare(total, planned * total.sum()).statistic"],
        ),
        Part(
            "segment",
            "max(of, key=of.get)",
            slips("""
'TV'
  On TV the share of B is furthest from 5 %, but with {counts.loc['TV'].sum()} users chance alone
  does that one time in nine. Weigh a gap by its users: take the platform's own statistic.
'web'
  The web has most users and so most of each arm, yet its own statistic is {of['web']:.1f}: it
  follows the plan.
"""),
            otherwise="`{value}` follows the plan: its own statistic is {of[value]:.1f}, and "
            "chance gives more than 9.2 only once in a hundred.",
            kind=Word(PLATFORMS),
            also=["(counts - np.outer(counts.sum(axis=1), planned)).abs()['B'].idxmax()"],
        ),
        Part(
            "n_needed",
            "reach(0.99, 2)",
            slips("""
reach(0.95, 2)
  This is where p falls below .05. The gate works at .01, because it is asked about every
  experiment.
reach(0.99, 2) / total.sum()
  This is a share of the users who came; give a number of users.
9.2103 * counts.loc[segment].sum() / of[segment]
  These are users of {segment} alone, whose shares are further from the plan. The question is about
  all users together.
reach(0.99, 1)
  One degree of freedom is too few: three arms with a known sum leave two.
total.sum() * 13.881 / pearson(total, planned)
  With so many users the gate would refuse four of five such experiments: that is power .80. The
  question asks where *these* shares give p = .01.
"""),
            otherwise="With {value:,.0f} users in these shares the statistic would be "
            "{value * pearson(total, planned) / total.sum():.2f}; p is .01 at 9.21.",
            kind=Number(0.003, unrounded=False),
            also=["int(np.ceil(reach(0.99, 2)))", "9.2103 / (chi2 / total.sum())"],
        ),
    ],
    shows="The split is broken (p = {stats.chi2.sf(chi2, 2):.0e}), and {segment} alone "
    "accounts for it. With fewer than {n_needed:,.0f} users the same shares would have passed.",
    hints=(
        "Expected users of an arm: its planned share times *all* users.",
        "Compute the same statistic for each platform's row; with two degrees of freedom 9.2 is "
        "exceeded by chance once in a hundred times.",
        "With the same shares and twice the users the statistic is twice as large.",
    ),
    helps=("chi2", "segment", "n_needed"),
)

q2 = exercise.asked(
    2,
    "`effect` and `half`, two numbers",
    setup="""
arms = {a: t for a, t in users.groupby("arm")}
def rate(t):
    return t["clicks"].sum() / t["impressions"].sum()
def difference(f):
    return f(arms["treatment"]) - f(arms["control"])
def half_of(f, z=1.96):
    return z * sum(f(t) for t in arms.values()) ** 0.5
def delta(t):
    off = t["clicks"] - rate(t) * t["impressions"]
    return off.var(ddof=1) / len(t) / t["impressions"].mean() ** 2
def binomial(t):
    return rate(t) * (1 - rate(t)) / t["impressions"].sum()
""",
    parts=[
        Part(
            "effect",
            "difference(rate)",
            slips("""
difference(lambda t: (t['clicks'] / t['impressions']).mean())
  This is the difference of two means of ratios: a user with one impression counts as much as one
  with a hundred. The metric divides all clicks by all impressions.
-right
  The sign says control minus treatment.
difference(lambda t: t['clicks'].mean())
  These are clicks a user. The metric is clicks an impression.
100 * right
  These are per cent points; give the difference of the rates.
right / rate(arms['control'])
  This is relative to control, as in the chapter; give the difference itself.
"""),
            otherwise="{value:.4g} is not the difference of the two click rates, all clicks of an "
            "arm over all its impressions.",
            also=[
                "difference(lambda t: np.average(t.clicks / t.impressions, weights=t.impressions))"
            ],
        ),
        Part(
            "half",
            "half_of(delta)",
            slips("""
half_of(binomial)
  You treated {users['impressions'].sum():,} impressions as independent. They come from
  {len(users):,} users, and those of one user resemble each other.
half_of(delta, 1)
  This is the standard error; a 95 % interval reaches 1.96 of them each way.
2 * right
  This is the whole interval; its half was asked for.
half_of(lambda t: (t['clicks'] / t['impressions']).var(ddof=1) / len(t))
  This is the interval of the mean of users' own rates, another metric.
1.96 * delta(arms['treatment']) ** 0.5
  Only one arm varies in your interval; the variances of both add up.
half_of(lambda t: t['clicks'].var(ddof=1) / len(t) / t['impressions'].mean() ** 2)
  You let the clicks vary and held the impressions fixed. Both vary, and they vary together: take
  the variance of clicks − rate × impressions.
"""),
            otherwise="{value:.4g} is neither the interval by users nor one of the usual mix-ups. "
            "Each user is one observation: clicks − rate × impressions.",
            kind=Number(0.003, unrounded=False),
            accepts="abs(value / right - 1) <= 0.06",
            also=[
                "half_of(delta, 2)",
                "1.96 * np.std([np.subtract(*[c.sum() / i.sum() for c, i in [(a['clicks']"
                ".to_numpy()[k], a['impressions'].to_numpy()[k]) for a in arms.values() for k in "
                "[np.random.default_rng(s).integers(len(a), size=len(a))]]]) "
                "for s in range(1000)])",
            ],
        ),
    ],
    prediction=Prediction(
        "guess_2",
        ("too narrow", "too wide", "about right"),
        "'too narrow'",
        "Impressions counted as independent give ± {half_of(binomial):.4f}; users, ± {half:.4f}.",
    ),
    shows="The click rate changes by {100 * effect:+.2f} ± {100 * half:.2f} points.",
    hints=(
        "What was assigned at random: an impression or a user?",
        "A ratio of two means moves like the mean of clicks − rate × impressions, divided "
        "by the mean impressions.",
        "Per arm: the variance of clicks − rate × impressions over the number of users and over "
        "the squared mean of the impressions. Add the arms, take the root, times 1.96.",
    ),
)

q3 = exercise.asked(
    3,
    "`ever`, a share, and `bound`, a number",
    setup="""
from scipy import stats
peak = np.abs(aa).max(axis=1)
def stop(paths, limit):
    return (np.abs(paths) > limit).any(axis=1)
power = stop(ab, np.quantile(peak, 0.95)).mean()
""",
    parts=[
        Part(
            "ever",
            "stop(aa, 1.96).mean()",
            slips("""
(np.abs(aa) > 1.96).mean()
  This is the share of *looks* that alarm. One alarm stops the experiment: count the experiments
  with at least one.
(np.abs(aa[:, -1]) > 1.96).mean()
  This is the last look alone, which is what you get if nobody peeks.
stop(aa, 1.96).sum()
  This is a number of experiments; give their share of all {len(aa):,}.
(aa > 1.96).any(axis=1).mean()
  You counted alarms on one side only. A feed that seems worse stops an experiment too.
1 - 0.95 ** aa.shape[1]
  This holds for independent looks. Each look contains the data of those before it, so they agree
  more than that. Count in `aa`.
100 * right
  Give a share, not per cent.
"""),
            otherwise="{value:.3g} is none of the usual mix-ups. In how many rows of `aa` is any "
            "look beyond ±1.96?",
            also=["np.mean([np.any(abs(row) > 1.96) for row in aa])"],
        ),
        Part(
            "bound",
            "np.quantile(peak, 0.95)",
            slips("""
1.96
  At 1.96 {stop(aa, 1.96).mean():.0%} of the A/A experiments stop. That bound is for one look.
stats.norm.ppf(1 - 0.025 / aa.shape[1])
  Bonferroni's bound keeps the promise and gives too much away: only {stop(aa, value).mean():.1%} of
  the A/A experiments stop, because looks at the same data overlap.
np.quantile(aa.max(axis=1), 0.95)
  You took the largest z without its sign removed: negative ones stop an experiment as well.
np.quantile(peak, 0.975)
  The absolute value already covers both sides, so 5 % above it are enough.
np.quantile(np.abs(aa[:, -1]), 0.95)
  This is the quantile of the last look. A bound for every look must hold the largest of the
  {aa.shape[1]} looks of each experiment.
"""),
            otherwise="With {value:.3g} as the bound, {stop(aa, value).mean():.1%} of the A/A "
            "experiments would stop at some look.",
            kind=Number(0.002),
            accepts="abs(stop(aa, value).mean() - 0.05) <= 0.004",
            also=[
                "np.sort(peak)[int(0.95 * len(peak))]",
                "np.percentile(peak, 95, method='weibull')",
            ],
        ),
    ],
    prediction=Prediction(
        "guess_3",
        ("5 %", "10 %", "20 %"),
        "'20 %' if ever > 0.15 else '10 %'",
        "{aa.shape[1]} looks at 1.96 stop {ever:.1%} of experiments in which nothing happens.",
    ),
    shows="With ±{bound:.2f} at every look, 5 % of the A/A experiments stop. The price: of the "
    "experiments in `ab`, {power:.0%} stop at some look; one look at the end finds "
    "{stop(ab[:, -1:], 1.96).mean():.0%}.",
    hints=(
        "One row of `aa` is one experiment, looked at every day. When is it stopped?",
        "For each row take the largest absolute z. It decides whether the row ever stops.",
        "The bound is the 95 % quantile of these largest values.",
    ),
    helps=("ever", "bound", "bound"),
)

q4 = exercise.asked(
    4,
    "`tau2`, a number, `shrunk`, a number for each experiment, and `promised`, their sum",
    setup="""
effect, se = ideas["effect"], ideas["se"]
winners = effect / se > 1.96
w = 1 / se**2
centre = (w * effect).sum() / w.sum()
DL = ((w * (effect - centre) ** 2).sum() - len(w) + 1) / (w.sum() - (w**2).sum() / w.sum())
from scipy.optimize import minimize_scalar
def surprise(t):  # of the estimates, if the true effects have mean zero and variance t
    return (np.log(t + se**2) + effect**2 / (t + se**2)).sum()
ML = minimize_scalar(surprise, bounds=(1e-6, 4), method="bounded").x
TAUS = [v - (se**2).mean() for v in (effect.var(), np.var(effect), (effect**2).mean())] + [DL, ML]
def toward_zero(variance):
    return effect * variance / (variance + se**2)
top = int(effect.abs().idxmax())
""",
    parts=[
        Part(
            "tau2",
            "effect.var() - (se**2).mean()",
            slips("""
effect.var()
  This is the variance of the *estimates*: the effects differ, and each estimate misses its effect
  besides. Take the second part away.
(se**2).mean()
  This is the part that is only noise, the mean of the squared standard errors.
right**0.5
  This is the standard deviation of the true effects; give the variance.
effect[winners].var() - (se[winners] ** 2).mean()
  You used the winners alone. They were chosen for their estimates, so their spread says nothing
  about ideas in general.
-0.1
  when: value < 0
  A variance is never negative.
"""),
            otherwise="{value:.4g} is none of the usual mix-ups. Estimates vary by "
            "{effect.var():.3f}, and a part of that is noise.",
            kind=Number(0.02),
            accepts="any(abs(value / t - 1) <= 0.02 for t in TAUS)",
            also=["DL", "np.var(effect) - np.mean(se**2)", "(effect**2 - se**2).mean()"],
        ),
        Part(
            "shrunk",
            "toward_zero(tau2)",
            slips("""
effect
  Nothing has been shrunk: these are the estimates.
effect * se**2 / (tau2 + se**2)
  The weights are swapped: now a *noisy* estimate is believed and a precise one is not.
effect * tau2**0.5 / (tau2**0.5 + se)
  The share that is kept is built from variances, not from standard deviations.
effect * tau2 / (tau2 + se)
  Square the standard error: variances add up.
tau2 / (tau2 + se**2)
  This is the share that is kept; multiply each estimate by its own.
effect.mean() + (effect - effect.mean()) * tau2 / (tau2 + se**2)
  You shrank towards the mean of the estimates, as the chapter does with the segments of one test.
  Here the true effects are centred on zero.
effect * tau2 / (tau2 + (se**2).mean())
  All experiments were shrunk alike. A small experiment deserves more doubt than a large one: use
  its own standard error.
"""),
            otherwise="Experiment {top} has the estimate {effect[top]:.3f} and the standard error "
            "{se[top]:.3f}; you keep {value[top] / effect[top]:.0%} of it.",
            kind=Column(),
            accepts="any((abs(value / toward_zero(t) - 1) <= 0.02).all() for t in TAUS)",
            also=["1 / (1 / tau2 + 1 / se**2) * effect / se**2"],
        ),
        Part(
            "promised",
            "shrunk[winners].sum()",
            slips("""
effect[winners].sum()
  This is what the team claims: the sum of the winners' estimates.
shrunk.sum()
  Only what is shipped can be promised: add up the winners.
shrunk[winners].mean()
  This is the mean of the winners, not their sum.
"""),
            otherwise="{value:.4g} is not the sum of `shrunk` over the {winners.sum()} winners.",
            accepts="any(abs(value / toward_zero(t)[winners].sum() - 1) <= 0.02 for t in TAUS)",
            also=["sum(s for s, won in zip(shrunk, winners) if won)"],
        ),
    ],
    shows="The team claims {effect[winners].sum():.1f} %, you promise {promised:.1f} %, and the "
    "{winners.sum()} shipped ideas really bring {true[winners].sum():.1f} %.",
    hints=(
        "An estimate is a true effect plus noise, and the two are independent. What does that say "
        "of their variances?",
        "Keep the share tau² / (tau² + se²) of each estimate; its own se, squared.",
        "Winners are chosen by the raw z; what is added up is shrunk.",
    ),
    helps=("tau2", "shrunk", "promised"),
)

q5 = exercise.asked(
    5,
    "`effect_5`, `half_5` and `length`, three numbers",
    setup="""
from scipy import stats
from casebook.cases.ab_testing.questions import design_errors
def parts_of(new, hours):
    return hours[new == 1], hours[new == 0]
def gap(new, hours):
    a, b = parts_of(new, hours)
    return a.mean() - b.mean()
def width(new, hours):
    return 1.96 * sum(np.var(x, ddof=1) / np.size(x) for x in parts_of(new, hours)) ** 0.5
def switched(new, hours):  # without the first hours of those blocks that change the version
    keep = np.ones_like(hours, bool)
    keep[np.diff(new, prepend=0) != 0, :CARRY_OVER] = False
    return [hours[keep & (new == v)[:, None]].mean() for v in (1, 0)]
settled = minutes[:, CARRY_OVER:]
means = parts_of(served, settled.mean(axis=1))
errors = design_errors()
found = ", ".join("%d h %.2f" % pair for pair in errors.items())
""",
    parts=[
        Part(
            "effect_5",
            "gap(served, settled)",
            slips("""
gap(served, minutes)
  The first {CARRY_OVER} hours of each block still carry the version before. They mix the two
  versions and change the effect: leave them out.
-right
  The sign says old minus new.
gap(served, minutes[:, :CARRY_OVER])
  You kept the hours of carry-over and dropped the others.
gap(served, minutes[:, 1:])
  One hour was dropped; the version before acts for {CARRY_OVER}.
gap(served, minutes[:, 3:])
  Three hours were dropped, one more than the version before acts.
np.subtract(*switched(served, minutes))
  You kept the first hours of a block that follows one of its own version. Nothing carries over
  there; but the question leaves out the first {CARRY_OVER} hours of *each* block.
-2.0
  This is what the simulation was told, not what these four weeks show.
"""),
            otherwise="{value:.4g} is not the difference of mean minutes, new minus old, without "
            "the first {CARRY_OVER} hours of each block.",
            also=["np.subtract(*[settled[served == v].mean(axis=1).mean() for v in (1, 0)])"],
        ),
        Part(
            "half_5",
            "width(served, settled.mean(axis=1))",
            slips("""
width(served, settled)
  You counted {settled.size} hours as independent. A block was assigned as one, and its hours share
  a day: the observations are {len(served)} block means.
right / 1.96
  This is the standard error; half of a 95 % interval was asked for.
2 * right
  This is the whole interval; its half was asked for.
"""),
            otherwise="{value:.4g} is not the half-width from {len(served)} block means.",
            kind=Number(0.003, unrounded=False),
            accepts="abs(value / right - 1) <= 0.06",
            also=[
                "width(served, settled.mean(axis=1)) * stats.t.ppf(0.975, 54) / 1.96",
                "1.96 * sum(m.var() / len(m) for m in means) ** 0.5",
                "1.96 * np.std([np.subtract(*[np.random.default_rng([k, i]).choice(m, len(m))"
                ".mean() for i, m in enumerate(means)]) for k in range(1000)])",
            ],
        ),
        Part(
            "length",
            "min(errors, key=errors.get)",
            slips("""
3
  Blocks of 3 hours give most blocks, but {CARRY_OVER} of 3 hours are thrown away: the error is
  {errors[3]:.2f}, against {min(errors.values()):.2f}.
24
  A day for a block wastes few hours and leaves 28 blocks, each with the mood of its day: the error
  is {errors[24]:.2f}, not {min(errors.values()):.2f}.
"""),
            otherwise="The lengths to choose from are {lengths}.",
            kind=Number(0.001, unrounded=False),
            accepts="value in errors and errors[value] <= 1.09 * min(errors.values())",
            also=["6", "12"],
        ),
    ],
    shows="The new version changes a delivery by {effect_5:+.1f} ± {half_5:.1f} minutes (truth: "
    "−2.0). Error by length: "
    "{found}. 6 and 12 are about equal.",
    hints=(
        "For how many hours after a switch does the version before still act?",
        "A block is assigned as one, so a block mean is one observation.",
        "Simulate: for each length 400 seeds, estimate as above, and compare with the truth.",
    ),
    helps=("effect_5", "half_5", "length"),
)

q6 = exercise.asked(
    6,
    "`lasting` and `worth`, numbers, and `unproven`, a set of guardrails",
    setup="""
day, y, s = daily.index.to_numpy(), daily["effect"].to_numpy(), daily["se"].to_numpy()
design = np.column_stack([np.ones(len(day)), np.exp(-day / FADES)])
def fit(weight):
    return np.linalg.lstsq(design * weight[:, None], y * weight, rcond=None)[0]
def euro(effect):
    return effect * USERS * VALUE - COST
low = guardrails["change"] - 1.96 * guardrails["se"]
def named(found):
    return set(guardrails.index[found])
""",
    parts=[
        Part(
            "lasting",
            "fit(1 / s)[0]",
            slips("""
y.mean()
(y / s**2).sum() / (1 / s**2).sum()
  This is the mean of all days, curiosity included. It is the effect of a month in which the feed
  was new.
y[14:].mean()
  Half of the days are thrown away and what remains is still a little too high: on day 14 a tenth of
  the novelty is left.
y[7:].mean()
  On day 7 nearly a third of the novelty is left.
y[21:].mean()
  One week decides here, with twice the standard error.
y[-1]
  This is the last day alone, known to ± {1.96 * s[-1]:.2f}. Use all 28 days.
fit(1 / s)[1]
  This is what fades, not what stays.
np.polyfit(0.5 ** (day / FADES), y, 1, w=1 / s)[1]
  This halves every {FADES:g} days, as the chapter's effect does every three. Here the extra falls
  as exp(−t / {FADES:g}).
fit(1 / s).sum()
  This is the effect of day 0: what stays and what fades together.
"""),
            otherwise="{value:.3g} is neither the lasting effect nor one of the usual mix-ups. Fit "
            "effect = lasting + extra · exp(−day / {FADES:g}).",
            kind=Number(0.004),
            accepts="abs(value / fit(1 + 0 * s)[0] - 1) <= 0.004",
            also=["np.polyfit(np.exp(-day / FADES), y, 1, w=1 / s)[1]", "fit(1 + 0 * s)[0]"],
        ),
        Part(
            "worth",
            "euro(lasting)",
            slips("""
euro(y.mean())
  The novelty is in your euros: it fades, the costs stay.
right + COST
  The costs of a year are missing.
right / 1e6
  Give euros, not millions.
right / 1e3
  Give euros, not thousands.
lasting * VALUE
  This is what one user brings; cost and users are missing.
lasting * VALUE - COST
  This is one user's minutes against all the costs.
"""),
            otherwise="{value:,.0f} is not lasting minutes × users × value of a minute − costs.",
            kind=Number(0.004, unrounded=False),
            also=["lasting * USERS * VALUE - COST", "round(euro(lasting))"],
            accepts="any(abs(value / euro(fit(w)[0]) - 1) <= 0.01 for w in (1 / s, 1 + 0 * s))",
        ),
        Part(
            "unproven",
            "named(low < -guardrails['margin'])",
            slips("""
set()
  You looked at the changes alone, and none exceeds its margin. The change of “posts written” is so
  uncertain that a loss of {-low['posts written']:.1f} % is compatible with the data: nothing is
  shown.
named(guardrails['change'] + 1.96 * guardrails['se'] < 0)
  These fall *significantly*, but within what was accepted. A guardrail asks whether the loss is
  smaller than its margin, not whether there is one.
{'sessions'}
  Sessions fall most, and we know it to ± 0.2: surely less than the margin of 1.2 %.
named(low < 0)
  Every guardrail *could* have fallen. The margin says how far it may.
"""),
            otherwise="{value} is not right: compare each interval's lower end with −margin.",
            kind=Labels("guardrails.index"),
            also=["[n for n in guardrails.index if low[n] < -guardrails.margin[n]]"],
        ),
    ],
    shows="The lasting effect is {lasting:.2f} minutes, worth {worth / 1e6:.2f} million euro a "
    "year ({euro(y.mean()) / 1e6:.2f} by the mean of all days). Hold: test on more users until the "
    "loss of {', '.join(sorted(unproven))} is known to be within its margin.",
    hints=(
        "Two columns explain the daily effects, ones and exp(−day / 6): their coefficients are "
        "what stays and what fades. Days differ in their se: weigh each row by 1 / se.",
        "Per user and year: lasting minutes × value. Then all users, then the costs.",
        "A guardrail passes if the lower end of its 95 % interval lies above −margin.",
    ),
    helps=("lasting", "worth", "unproven"),
)
