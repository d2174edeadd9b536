"""What a list does over months: guardrails, the same people again, a drift under the monitor.

The other studies judge one month by its truth. Here a world is played on, and compared with the
same world without calls or under another list: the random numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn import studies
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.features import build, cancels, value_on
from casebook.cases.subscription_churn.month import TEST, night_of
from casebook.cases.subscription_churn.policy import TERMS, blocked, choose
from casebook.cases.subscription_churn.population import MONTH, Constants
from casebook.cases.subscription_churn.records import date
from casebook.evaluate import effects, holdback
from casebook.features.mood import Mood

#: Months that a list is followed for.
MONTHS = 4
#: Whether the lately called are left in peace.
RESTS = (False, True)


def _nps(world: worlds.World, rows: np.ndarray) -> float:
    """Return the net promoter score of the answers after the test's night, of some rows."""
    asked = world.tables.surveys
    score = asked.loc[(asked["at"] >= date(night_of(TEST))) & asked["row"].isin(rows), "score"]
    return float(100 * ((score >= 9).mean() - (score <= 6).mean()))


def _staying(world: worlds.World) -> float:
    """Return the euro of those who are still there, of all who were there before the test."""
    first = world.months[TEST]
    rows = first.here
    return float(first.value[rows][world.state.alive[rows]].sum())


def guardrails(seed: int, names: Sequence[str]) -> pd.DataFrame:
    """Follow a list for a quarter: what it did to those on it, beside what it was to do.

    Returns
    -------
    DataFrame
        ``policy``; per 1,000 calls ``complaints`` and ``unsubscribes``; ``nps`` of those on the
        list within three months, and ``nps_quiet`` had nobody been called; ``value``: euro of
        staying, by plan, more than without calls, three months later, for a subscriber there on the
        night (no bill is simulated); ``kept``: subscribers more.
    """
    here, rows = studies.setting(seed), []
    quiet = worlds.play(here.world, months=2)
    for name, score in studies.policies(names).items():
        list_ = choose(score(here), blocked=here.blocked, least=-np.inf)
        called = here.features.index.to_numpy()[list_]
        after = worlds.play(
            worlds.play(here.start, lambda tables, night, called=called: called), months=2
        )
        month = after.months[TEST]
        there = month.here
        rows.append(
            {
                "policy": name,
                "complaints": 1_000 * month.complains[called].mean(),
                "unsubscribes": 1_000 * month.unsubscribes[called].mean(),
                "nps": _nps(after, called),
                "nps_quiet": _nps(quiet, called),
                "value": (_staying(after) - _staying(quiet)) / len(there),
                "kept": after.state.alive[there].sum() - quiet.state.alive[there].sum(),
            }
        )
    return pd.DataFrame(rows)


def policy_of(score: studies.Score, mood: Mood, rest: bool, capacity: int) -> worlds.Policy:
    """Return the policy that calls by a score, with or without a rest for the lately called."""

    def policy(tables: worlds.Tables, night: int) -> np.ndarray:
        features = build(tables, night, mood)
        rows = features.index.to_numpy()
        gains = score(features, value_on(tables, rows, night))
        off = blocked(tables, rows, night) if rest else None
        return rows[choose(gains, capacity, off, least=-np.inf)]

    return policy


def several(seed: int, names: Sequence[str], rests: Sequence[bool] = RESTS) -> pd.DataFrame:
    """Call by the same model for some months, with and without a rest for the called.

    Returns
    -------
    DataFrame
        ``policy``, ``rest``, ``month`` (0 to 3): ``euro`` of the month's calls by its
        truth, ``before`` (share called within three months), ``complaints`` per 1,000 calls;
        ``kept``: euro of those still there more than without calls, less the calls so far.
    """
    here, made = studies.setting(seed), []
    mood = Mood(here.world.tables.tickets, date(night_of(TEST)))
    quiet = worlds.play(here.world, months=MONTHS - 1)
    base = [_still(quiet, number) for number in range(TEST, TEST + MONTHS)]
    for name in names:
        score = studies.maker(name, here.sample)
        for rest in rests:
            policy = policy_of(score, mood, rest, TERMS.capacity)
            world = worlds.play(here.start, policy, MONTHS)
            for k in range(MONTHS):
                month = world.months[TEST + k]
                calls = int(month.called.sum())
                worth = (month.effect * month.value)[month.called]
                spent = TERMS.cost * sum(world.months[TEST + j].called.sum() for j in range(k + 1))
                made.append(
                    {
                        "policy": name,
                        "rest": rest,
                        "month": k,
                        "euro": worth.sum() - TERMS.cost * calls,
                        "before": month.state.called[month.called].any(axis=1).mean(),
                        "complaints": 1_000 * month.complains[month.called].mean(),
                        "kept": _still(world, TEST + k) - base[k] - spent,
                    }
                )
    return pd.DataFrame(made)


def _still(world: worlds.World, number: int) -> float:
    """Return the euro of all who are there at the end of a month."""
    month = world.months[number]
    return float(month.value[month.state.alive & ~month.cancelled].sum())


# Drift -----------------------------------------------------------------------------------

#: What changes before the test: nothing; a competitor; a script that saves a quarter as many.
DRIFTS: Mapping[str, Callable[[Constants], Constants]] = {
    "nothing": lambda c: c,
    "risk": lambda c: replace(c, base=c.base + 0.5),
    "effect": lambda c: replace(c, most_saved=c.most_saved / 4),
}


def drift(seed: int, share: float, capacity: int = TERMS.capacity) -> pd.DataFrame:
    """Hold some of each list out, change the world, and read the monitor month by month.

    Returns
    -------
    DataFrame
        ``drift`` (of :data:`DRIFTS`), ``month`` (0 to 3), ``risk_z``, ``effect_z``, its ``shift``
        by an error of the factor, ``verdict`` of the months so far, ``blind`` (as if it had none),
        ``would`` and ``called`` (shares that cancelled), ``factor`` and its ``error``.
    """
    here, made = studies.setting(seed), []
    mood = Mood(here.world.tables.tickets, date(night_of(TEST)))
    score = studies.maker(studies.MODEL, here.sample)
    risk, scale = effects.risk(here.sample), studies.slope(here.sample)
    for name, change in DRIFTS.items():
        world = replace(here.start, constants=change(here.start.constants))
        readings = []
        for _ in range(MONTHS):
            night = night_of(world.next)
            features = build(world.tables, night, mood)
            rows = features.index.to_numpy()
            value = value_on(world.tables, rows, night)
            gains = score(features, value)
            # As many more as are held out, so that the team has its calls.
            off = blocked(world.tables, rows, night)
            list_ = choose(gains, round(capacity / (1 - share)), off, least=-np.inf)
            held = holdback.held_out(rows[list_], night // MONTH, share)
            called = rows[list_[~held]]
            world = worlds.play(world, lambda tables, night, called=called: called)
            effect = scale.value * (gains[list_] + TERMS.cost) / value[list_]
            told = risk(features.iloc[list_]), effect, scale.relative
            y = cancels(world.tables, rows[list_], night, night + MONTH)
            readings.append(holdback.read(holdback.Listed(night, held, *told), y, night + MONTH))
            last, blind = readings[-1], [replace(reading, shift=0.0) for reading in readings]
            row = {"drift": name, "month": len(readings) - 1}
            row |= {what: getattr(last, what) for what in ("risk_z", "effect_z", "shift")}
            row |= {"verdict": holdback.verdict(readings), "blind": holdback.verdict(blind)}
            row |= {"would": last.precision.mean, "called": last.called.mean}
            made.append(row | {"factor": scale.value, "error": scale.error})
    return pd.DataFrame(made)
