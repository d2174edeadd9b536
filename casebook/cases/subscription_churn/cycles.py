"""Three retrainings on one's own calls: which model unlearns whom to call, and what chance costs.

A model of the risk that learns from *all* outcomes sees that the called stay: the calls saved
them. It concludes that such subscribers are safe, drops them from the list, and they leave. One
that learns from the uncalled alone has few of those whom it would call. A model of the effect that
compares the called with the others learns from a list of its own making, on which nobody was left
in peace: it may still rank well, but nothing in its data can say so. Some calls by chance, with
their chances kept, can; they are worse calls.

Everybody gets a rest. After the first retraining only the last way knows the randomised month. The
T-learner is unweighted: the chances follow from features that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.features import build, cancels, value_on
from casebook.cases.subscription_churn.month import LOTTERY, TEST, night_of
from casebook.cases.subscription_churn.policy import TERMS, blocked, gain
from casebook.cases.subscription_churn.records import date
from casebook.cases.subscription_churn.studies import LEARNERS, MODEL
from casebook.evaluate import effects
from casebook.evaluate.off_policy import last_places_by_chance
from casebook.features.mood import Mood
from casebook.worlds.draws import stream

#: Share of a month's calls that chance decides.
BY_CHANCE = 0.25
CYCLES = 3


def _sample(
    world: worlds.World, month: int, features: pd.DataFrame, chance: np.ndarray
) -> effects.Sample:
    """Return a played month, with the features of its night, as training rows."""
    rows, night = features.index.to_numpy(), night_of(month)
    return effects.Sample(
        features,
        cancels(world.tables, rows, night, night_of(month + 1)),
        world.months[month].assigned[rows],
        chance,
        world.tables.subscribers["account"].to_numpy()[rows],
    )


def _all_outcomes(sample: effects.Sample) -> effects.Sample:
    """Return the sample as a team has it that forgets whom it called."""
    nobody = np.zeros(len(sample.drawn), bool)
    return replace(sample, drawn=nobody)


class Way(NamedTuple):
    """How to learn again: learner, rows, share by chance, whether the randomised month stays."""

    learner: str
    keep: Callable[[effects.Sample], effects.Sample] = copy
    share: float = 0.0
    lottery: bool = False


WAYS: Mapping[str, Way] = {
    "risk, all outcomes": Way("risk", _all_outcomes),
    "risk, the uncalled": Way("risk"),
    "T, own list": Way("T"),
    "T, a quarter by chance": Way("T", share=BY_CHANCE),
    "what ships, calls by chance": Way(MODEL, effects.by_chance, BY_CHANCE, lottery=True),
}
#: Months of its own calls that a model learns from.
WINDOW = 2


def _month(
    world: worlds.World, mood: Mood, predict: effects.Predict, share: float
) -> tuple[worlds.World, dict[str, float], effects.Sample]:
    """Play a month by a model; return the world after it, what it brought, and its rows."""
    month = world.next
    features = build(world.tables, night_of(month), mood)
    here = features.index.to_numpy()
    value = value_on(world.tables, here, night_of(month))
    rng = stream(world.seed, month, 11)
    gains = gain(predict(features), value)
    gains[blocked(world.tables, here, night_of(month))] = -np.inf
    called, chance = last_places_by_chance(gains, share, TERMS.capacity, rng)
    world = worlds.play(world, lambda tables, night: here[called])
    truth = world.months[month]
    effect = truth.effect[here][called]
    brought = {
        "euro": float((effect * value[called]).sum() - TERMS.cost * called.sum()),
        "risk": float(truth.chances.risk[here][called].mean()),
        "effect": float(effect.mean()),
        "before": float(truth.state.called[here][called].any(axis=1).mean()),
    }
    return world, brought, _sample(world, month, features, chance)


def run(
    world: worlds.World,
    way: str,
    settings: Mapping[str, Mapping[str, object]],
    cycles: int = CYCLES,
) -> pd.DataFrame:
    """Play some months in which a model is trained again each month on what its calls left.

    Parameters
    ----------
    world : World
        On the night of the test.
    way : str
        Of :data:`WAYS`.
    settings : mapping
        Of each learner.
    cycles : int

    Returns
    -------
    DataFrame
        ``cycle`` (0: the model of the randomised month), ``euro`` of the month's calls by the
        truth, ``risk`` (mean of the list), ``effect`` (mean), ``before`` (share called in the
        months before: none).
    """
    name, keep, share, stays = WAYS[way]
    learn = LEARNERS[name]
    mood = Mood(world.tables.tickets, date(night_of(TEST)))
    first = build(world.tables, night_of(LOTTERY), mood)
    chance = world.months[LOTTERY].chance[first.index.to_numpy()]
    lottery, samples, made = _sample(world, LOTTERY, first, chance), [], []
    for cycle in range(cycles + 1):
        window = [*([lottery] if stays else []), *samples[-WINDOW:]]
        used = keep(effects.joined(window)) if cycle else lottery
        world, brought, played = _month(world, mood, learn(used, settings[name]), share)
        made.append({"cycle": cycle, **brought})
        samples.append(played)
    return pd.DataFrame(made)
