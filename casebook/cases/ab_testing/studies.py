"""Over many worlds: what lasts, what friends change, who is flattered, and what decisions earn.

World, estimators and policies were fixed before the worlds of these tables were drawn; what had to
be chosen (how the lasting effect is estimated, by which rule the value decides) was chosen on
:data:`VALIDATION`. What would be new next time is another launch, so intervals are over worlds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pandas as pd

from casebook.cases.ab_testing import events
from casebook.cases.ab_testing.constants import AB, Constants
from casebook.cases.ab_testing.decide import Economics, decide
from casebook.cases.ab_testing.experiment import Experiment, SplitBroken
from casebook.cases.ab_testing.plan import NEW_FEED
from casebook.cases.ab_testing.world import World, idea, simulate
from casebook.evaluate import designs, heterogeneity, novelty, variance
from casebook.evaluate.assign import CONTROL, TREATMENT
from casebook.evaluate.experiments import welch
from casebook.evaluate.gap import earned
from casebook.evaluate.intervals import Interval

#: Half of the app's users: a world costs a second.
USERS = 200_000
VALIDATION = tuple(range(201, 217))
SEEDS = tuple(range(1_101, 1_125))
#: Drawn after the policies of the table were fixed; 2001 to 2060 were seen before.
IDEAS = tuple(range(3_001, 3_121))
TRUE = ("minutes_control", "minutes_treatment")
ESTIMATE = ("estimate", "low", "high", "true")
POLICIES = (
    *("dashboard", "session t-test", "peek by user", "afternoon", "CUPED test"),
    *("Welch mean pays", "CUPED mean pays", "evidence", "value", "knows what lasts", "oracle"),
)


def run(seed: int, constants: Constants) -> tuple[World, Experiment]:
    """Simulate a launch and read its experiment; the plan is as large as the world allows."""
    made = simulate(seed, constants)
    plan = NEW_FEED | {
        "name": "study",
        "salt": constants.salt,
        "unit": constants.unit,
        "users": constants.users,
        "mde": 0.10,
    }
    units = made.units if constants.unit == "cluster" else None
    return made, Experiment(plan, made.exposures, made.log, made.users, units=units)


def true(made: World, column: str) -> float:
    """Return a true effect on all users."""
    return float(made.effects.set_index("segment").loc["all", column])


# What lasts ---------------------------------------------------------------------------


def calendar_week(here: Experiment, first: int = 7) -> Interval:
    """Return the effect on the days from ``first`` on, for whoever was exposed by then."""
    people, arm = here.people, here.people["arm"]
    daily = events.by_day(here.cleaned.sessions, people, here.plan.days)
    known = variance.features(people, here.plan.covariates)
    values = variance.cuped(daily[:, first:].sum(axis=1), known, arm).values
    found = welch(values[arm == CONTROL], values[arm == TREATMENT])
    return Interval(found.relative, found.relative_low, found.relative_high)


def lasting_ways(here: Experiment) -> dict[str, Interval]:
    """Return the lasting effect on minutes as each method estimates it."""
    daily = here.daily()
    return {
        "whole test": novelty.mean_over(daily),
        "second week of the calendar": calendar_week(here),
        "second week after exposure": novelty.mean_over(daily, 7),
        "decay, half-life known": novelty.fit_decay(daily).lasting,
        "decay, half-life fitted": novelty.fit_decay(daily, None).lasting,
        "second week, less what earlier launches leave": here.by_tenure(novelty.less_expected),
        "decay by segment": here.lasting(prior=False),
        "decay by segment, with earlier launches": here.lasting(),
        "the same, half-lives halved": here.by_tenure(partial(_decay, factor=0.5)),
        "the same, half-lives doubled": here.by_tenure(partial(_decay, factor=2.0)),
    }


def _decay(daily: novelty.Daily, half: float, prior: novelty.Prior, factor: float) -> Interval:
    """Return what lasts by a fit that is told a wrong half-life."""
    return novelty.fit_decay(daily, factor * half, prior).lasting


@cache
def same_launch(seed: int, users: int) -> dict[str, pd.DataFrame | dict]:
    """Return all that the tables ask of one world of the chapter's launch."""
    made, here = run(seed, replace(AB, users=users))
    people, treated = here.people, (here.people["arm"] == TREATMENT).to_numpy()
    truth = made.truth.set_index("user").loc[people["user"]].reset_index(drop=True)
    lasts = true(made, "long_run")
    rows = [(seed, way, *found, lasts) for way, found in lasting_ways(here).items()]
    segments, truly = _segments(here, truth)
    return {
        "lasting": pd.DataFrame(rows, columns=["seed", "method", *ESTIMATE]),
        "segments": segments,
        "truly": truly,
        "forest": _forest(here, truth, treated, seed),
    }


def lasting(seeds: Sequence[int] = SEEDS, users: int = USERS) -> pd.DataFrame:
    """Estimate the lasting effect of the same launch in many worlds.

    Returns
    -------
    DataFrame
        ``seed``, ``method``, ``estimate``, ``low``, ``high``, ``true``.
    """
    return pd.concat([same_launch(seed, users)["lasting"] for seed in seeds], ignore_index=True)


# Friends and shared markets -----------------------------------------------------------


def network(seeds: Sequence[int] = SEEDS[:16], users: int = USERS) -> pd.DataFrame:
    """Compare splitting users with splitting communities, against the effect of a launch to all.

    Returns
    -------
    DataFrame
        ``seed``, ``method``, ``estimate``, ``low``, ``high``, ``true`` (the test's effect with all
        friends treated).
    """
    rows = []
    for seed in seeds:
        for unit in ("user", "cluster"):
            salt = AB.salt if unit == "user" else f"communities_{seed}"
            made, here = run(seed, replace(AB, users=users, unit=unit, salt=salt))
            launch = (1 + true(made, "test")) * (1 + AB.spill) - 1
            for method, found in _by_unit(here, unit):
                ends = (found.relative, found.relative_low, found.relative_high)
                rows.append((seed, method, *ends, launch))
    return pd.DataFrame(rows, columns=["seed", "method", "estimate", "low", "high", "true"])


def _by_unit(here: Experiment, unit: str) -> Iterator:
    people, treated = here.people, (here.people["arm"] == TREATMENT).to_numpy()
    known = variance.features(people, here.plan.covariates)
    values = variance.cuped(people["minutes"], known, people["arm"]).values
    by_user = welch(values[~treated], values[treated])
    if unit == "user":
        yield "users split", by_user
    else:
        yield "communities split, by user", by_user
        found = designs.cluster_effect(values, treated, people["cluster"])
        yield "communities split, by community", found


# Who gains ----------------------------------------------------------------------------


def winners(seeds: Sequence[int] = SEEDS, users: int = USERS) -> pd.DataFrame:
    """Compare what the best of 36 segments claims with what it is.

    Returns
    -------
    DataFrame
        ``seed``, ``segment``, ``claimed``, ``shrunk``, ``replicated`` (in the next world) and
        ``true``.
    """
    rows = []
    for seed, later in zip(seeds, [*seeds[1:], seeds[0]], strict=True):
        here, there = same_launch(seed, users), same_launch(later, users)
        row = heterogeneity.replicated(here["segments"], there["segments"])
        rows.append(row.assign(seed=seed, true=here["truly"][row["segment"].iloc[0]]))
    return pd.concat(rows, ignore_index=True)


def _segments(here: Experiment, truth: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return effects by tenure, platform and country, and the true ones."""
    people = here.people.assign(tenure=events.tenure_segment(here.people))
    known = variance.features(people, here.plan.covariates)
    values = variance.cuped(people["minutes"], known, people["arm"]).values
    by, treated = ["tenure", "platform", "country"], people["arm"] == TREATMENT
    sums = truth.groupby([people[name] for name in by])[[*TRUE]].sum()
    ratio = sums[TRUE[1]] / sums[TRUE[0]] - 1
    truly = {" · ".join(name): value for name, value in ratio.items()}
    found = heterogeneity.segment_effects(people, people["minutes"], treated, by, values)
    return found, truly


def forest(seeds: Sequence[int] = SEEDS, users: int = USERS) -> pd.DataFrame:
    """Hold the forest's intervals, and those of held-out groups, against the true effects.

    Returns
    -------
    DataFrame
        ``seed``, ``method`` (forest by segment, or groups that the other half's forest ranks),
        ``group``, ``estimate``, ``low``, ``high``, ``true`` (mean relative effect of the group).
    """
    return pd.concat([same_launch(seed, users)["forest"] for seed in seeds], ignore_index=True)


def _forest(here: Experiment, truth: pd.DataFrame, treated: np.ndarray, seed: int) -> pd.DataFrame:
    """Return estimates of a forest and of the groups that it finds, beside the true effects."""
    people, rows = here.people, []
    X = variance.features(people, here.plan.covariates)
    y = heterogeneity.relative_to_usual(people, people["minutes"], here.plan.covariates)
    gain = (truth[TRUE[1]] / truth[TRUE[0]] - 1).to_numpy()
    code = pd.Categorical(events.tenure_segment(people), events.TENURE_NAMES).codes
    found = heterogeneity.HonestForest(seed=seed).fit(X, y, treated).average(X, code)
    for group, one in enumerate(found.itertuples()):
        at = gain[code == group].mean()
        rows.append(("forest", events.TENURE_NAMES[group], one.effect, one.low, one.high, at))
    _, rank = heterogeneity.ranked(X, y, treated, 4, seed)
    for group in range(4):
        mine = rank == group
        one = welch(y[mine & ~treated], y[mine & treated])
        at = gain[mine].mean()
        rows.append(("held-out groups", str(group), one.effect, one.low, one.high, at))
    frame = pd.DataFrame(rows, columns=["method", "group", *ESTIMATE])
    return frame.assign(seed=seed)


# What decisions earn ------------------------------------------------------------------


def dashboard(here: Experiment, peek: bool) -> bool:
    """Return whether a t-test on sessions says yes: on any day, or on the last one alone."""
    rows, days = here.cleaned.sessions, here.plan.days
    treated = (rows["arm"] == TREATMENT).to_numpy().astype(int)
    cell, minutes = treated * days + rows["day"].to_numpy(), rows["minutes"].to_numpy()
    n, total, square = (
        np.bincount(cell, values, 2 * days).reshape(2, days).cumsum(axis=1)
        for values in (np.ones(len(rows)), minutes, minutes**2)
    )
    mean = total / n
    z = (mean[1] - mean[0]) / np.sqrt(((square / n - mean**2) / (n - 1)).sum(axis=0))
    return bool((z[0 if peek else -1 :] > 1.96).any())


def decisions(here: Experiment, economics: Economics) -> dict[str, bool]:
    """Return what each policy ships; all of them see the same plan, log and users.

    From ``afternoon`` on each policy ships nothing whose split either gate refuses. What they add:
    Welch's test, CUPED, the price instead of p < .05, guardrails and what lasts, earlier launches.
    """
    shipped = {
        "dashboard": dashboard(here, peek=True),
        "session t-test": dashboard(here, peek=False),
        "peek by user": _peeked(here),
    }
    try:
        plain, _ = here.effect(here.plan.primary)
    except SplitBroken:
        return shipped
    less, _ = here.effect(here.plan.primary, "cuped")
    for test, pays, found in (
        ("afternoon", "Welch mean pays", plain),
        ("CUPED test", "CUPED mean pays", less),
    ):
        shipped[test] = found.p < 0.05 and found.effect > 0
        shipped[pays] = economics.value(found.relative, plain.control) > 0
    known = here.primary(), plain.control, here.guards(), economics, here.lasting()
    rules = {rule: decide(*known, rule).decision == "ship" for rule in ("evidence", "value")}
    return shipped | rules


def _peeked(here: Experiment) -> bool:
    """Return whether Welch's test on users says yes on any day."""
    people = here.people
    total = np.cumsum(events.by_day(here.cleaned.sessions, people, here.plan.days), axis=1)
    treated = (people["arm"] == TREATMENT).to_numpy()
    for day in range(here.plan.days):
        there = (people["day"] <= day).to_numpy()
        found = welch(total[there & ~treated, day], total[there & treated, day])
        if found.p < 0.05 and found.effect > 0:
            return True
    return False


def value_of(made: World, economics: Economics) -> float:
    """Return what shipping is truly worth, euro a year."""
    return economics.value(true(made, "launch"), _minutes(made), made.constants.revenue)


def _minutes(made: World) -> float:
    """Return the true minutes of a user in control."""
    return made.truth.loc[~made.truth["bot"], "minutes_control"].mean()


def worlds(
    seeds: Sequence[int] = IDEAS,
    users: int = USERS,
    wild: float = 1.0,
    costs: Sequence[float] = (100_000.0,),
) -> pd.DataFrame:
    """Let each policy decide on one idea of the company after the other.

    Returns
    -------
    DataFrame
        ``seed``, ``cost``, ``policy``, ``shipped``, ``true`` (euro a year if shipped), ``value``
        (what the decision earns) and ``broken`` (the idea's redirect loses users).
    """
    rows = []
    for seed in seeds:
        made, here = run(seed, idea(seed, users, wild))
        for cost in costs:
            economics = Economics(cost=cost)
            worth = value_of(made, economics)
            lasts = economics.value(true(made, "long_run"), _minutes(made))
            shipped = decisions(here, economics)
            shipped |= {"knows what lasts": lasts > 0, "oracle": worth > 0}
            for policy in POLICIES:
                yes = bool(shipped.get(policy, False))
                broken = made.constants.redirect_loss > 0
                rows.append((seed, cost, policy, yes, worth, worth * yes, broken))
    names = ["seed", "cost", "policy", "shipped", "true", "value", "broken"]
    return pd.DataFrame(rows, columns=names)


KEPT = ("afternoon", "CUPED mean pays", "evidence", "value")


def sensitivity(seeds: Sequence[int] = IDEAS[:20], users: int = USERS // 2) -> pd.DataFrame:
    """Repeat the decisions with wilder and tamer ideas, and with other costs.

    Returns
    -------
    DataFrame
        ``constant``, ``factor``, and the columns of :func:`earned` for the afternoon's policies
        and the two of the chapter.
    """
    usual = worlds(seeds, users, 1.0, (50_000.0, 100_000.0, 200_000.0))
    settings = {
        ("spread of ideas", 0.5): worlds(seeds, users, 0.5),
        ("spread of ideas", 1.0): usual[usual["cost"] == 100_000],
        ("spread of ideas", 2.0): worlds(seeds, users, 2.0),
        **{("cost", c / 100_000): usual[usual["cost"] == c] for c in (50_000, 100_000, 200_000)},
    }
    parts = []
    for (constant, factor), table in settings.items():
        kept = earned(table, "dashboard")
        kept = kept[kept["policy"].isin(KEPT)]
        parts.append(kept.assign(constant=constant, factor=factor))
    return pd.concat(parts, ignore_index=True)
