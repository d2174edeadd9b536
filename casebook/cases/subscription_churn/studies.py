"""One world after the other: every list on the same night, and what it brings by the truth.

All learners see the randomised month and nothing else, with settings that were chosen among the
same trials on the worlds of :data:`CHOSEN_ON`; the worlds of :data:`SEEDS` were drawn after that.
What would be new next time is another world: intervals are t intervals over worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn import rules, uplift
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.evaluation import (
    ips_scores,
    order_of,
    over_random,
    policy_value,
    qini,
)
from casebook.cases.subscription_churn.features import Mood, build, cancels, value_on
from casebook.cases.subscription_churn.month import LOTTERY, TEST, night_of
from casebook.cases.subscription_churn.policy import TERMS, gain
from casebook.cases.subscription_churn.population import Constants
from casebook.cases.subscription_churn.records import date

#: Worlds of the headline, and those on which the models' settings were chosen.
SEEDS, CHOSEN_ON = tuple(range(11, 26)), (101, 102, 103)
SILENCE, POINTS, SEGMENTS, RISK, MODEL = "silence", "points", "segments", "risk", "DR"
#: What the tables allow: a model that was told the true effects of the randomised month.
TOLD, ORACLE = "told", "oracle"
#: Trials of every learner: rounds and leaves.
TRIALS = tuple({"n_estimators": n, "num_leaves": k} for n in (40, 80, 160) for k in (3, 6))


@dataclass(frozen=True)
class Setting:
    """A world on the night before the test.

    Attributes
    ----------
    world : World
        The test month was played without calls.
    sample : Sample
        The randomised month.
    features : DataFrame
        On the night of the test.
    value, effect, expected : ndarray, shape (n,)
        Of its rows: euro; true effect; what an oracle expects who has not heard the rumour.
    """

    world: worlds.World
    sample: uplift.Sample
    features: pd.DataFrame
    value: np.ndarray
    effect: np.ndarray
    expected: np.ndarray

    @property
    def worth(self) -> np.ndarray:
        """Euro that a call brings before its cost, by the truth."""
        return self.effect * self.value


def lottery(world: worlds.World, mood: Mood, month: int = LOTTERY) -> uplift.Sample:
    """Return the rows of the randomised month as the company knows them a month later."""
    tables, night = world.tables, night_of(month)
    features = build(tables, night, mood)
    rows = features.index.to_numpy()
    calls = tables.calls[tables.calls["at"] == date(night)].set_index("row")
    drawn = calls["assigned"].reindex(rows, fill_value=False).to_numpy(bool)
    return uplift.Sample(
        features=features,
        cancelled=cancels(tables, rows, night, night_of(month + 1)),
        drawn=drawn,
        # The table of chances is kept with the draw; it covers who was not drawn too.
        chance=world.months[month].chance[rows],
        account=tables.subscribers["account"].to_numpy()[rows],
    )


def simulate(seed: int, constants: Constants | None = None) -> Setting:
    """Simulate a world and lay out what is known on the night of the test."""
    world = worlds.play(worlds.simulate(seed, constants))
    mood = Mood(world.tables.tickets, night_of(TEST))
    features = build(world.tables, night_of(TEST), mood)
    rows, month = features.index.to_numpy(), world.months[TEST]
    return Setting(
        world,
        lottery(world, mood),
        features,
        value_on(world.tables, rows, night_of(TEST)),
        month.effect[rows],
        world.expected(TEST)[rows],
    )


#: Worlds are large: the last one is kept.
setting = lru_cache(maxsize=1)(simulate)

#: What each learner has after the trials, by name; the linear model has no trials.
CHOSEN: Mapping[str, Mapping[str, object]] = {
    "risk": {"n_estimators": 160, "num_leaves": 3},
    "S": {"n_estimators": 40, "num_leaves": 6},
    "T": {"n_estimators": 40, "num_leaves": 6},
    "X": {"n_estimators": 80, "num_leaves": 6},
    "DR": {"n_estimators": 40, "num_leaves": 3},
}


def of_segments(here: Setting) -> np.ndarray:
    """Score by the segment's effect in the randomised month; points decide within a segment."""
    own = here.sample
    table = rules.segment_effects(
        rules.segments(own.features), own.cancelled, own.drawn, own.chance
    )
    effect = table["effect"].reindex(rules.segments(here.features)).to_numpy()
    return gain(effect, here.value) + 1e-3 * rules.points(here.features)


def told(here: Setting) -> np.ndarray:
    """Score by a model that learned the true expected effects of the randomised month."""
    rows = here.sample.features.index
    truth = here.world.expected(LOTTERY)[rows]
    more = {"n_estimators": 300, "num_leaves": 31, "min_child_samples": 50}
    model = uplift.regressor(more).fit(here.sample.features, truth)
    return gain(model.predict(here.features), here.value)


def _learned(name: str, settings: Mapping[str, object] | None) -> Callable[[Setting], np.ndarray]:
    """Return the score of a learner: euro of a call, or of the risk."""

    def score(here: Setting) -> np.ndarray:
        learn = {**uplift.RISKS, **uplift.EFFECTS, "forest": uplift.forest}[name]
        predicted = learn(here.sample, settings)(here.features)
        return gain(predicted, here.value)

    return score


def policies(names: Sequence[str] | None = None) -> dict[str, Callable[[Setting], np.ndarray]]:
    """Return all lists by name: from a setting to a score, of which the highest are called."""
    learned = [*uplift.RISKS, *uplift.EFFECTS]
    every = {
        "random": lambda here: np.random.default_rng(0).random(len(here.value)),
        SILENCE: lambda here: rules.silence(here.features),
        POINTS: lambda here: rules.points(here.features) * here.value,
        SEGMENTS: of_segments,
        **{name: _learned(name, CHOSEN.get(name)) for name in learned},
        TOLD: told,
        ORACLE: lambda here: gain(here.expected, here.value),
    }
    return every if names is None else {name: every[name] for name in names}


def outcome(here: Setting, score: np.ndarray, capacity: int = TERMS.capacity) -> dict[str, float]:
    """Return what a list brings, by the truth of its month.

    Every list fills the capacity: the team is paid anyway.
    """
    list_ = order_of(score)[:capacity]
    month, rows = here.world.months[TEST], here.features.index.to_numpy()[list_]
    effect = here.effect[list_]
    return {
        "euro": float(here.worth[list_].sum() - TERMS.cost * len(list_)),
        "prevented": float(effect.sum()),
        "risk": float(month.chances.risk[rows].mean()),
        "harmed": float((effect < 0).mean()),
        "dormant": float(month.state.dormant[rows].mean()),
        "complaints": float(month.complains[rows].mean()),
        "qini": qini(score, here.effect, here.expected),
    }


def one_world(
    seed: int, names: Sequence[str] | None = None, constants: Constants | None = None
) -> pd.DataFrame:
    """Run all lists in one world; see :func:`.benchmarks.lists`."""
    here = setting(seed) if constants is None else simulate(seed, constants)
    made = {name: outcome(here, score(here)) for name, score in policies(names).items()}
    return pd.DataFrame.from_dict(made, orient="index").rename_axis("policy").reset_index()


def trials(seeds: Sequence[int] = CHOSEN_ON, grid: Sequence[Mapping] = TRIALS) -> pd.DataFrame:
    """Try the same settings for every learner on the choice worlds.

    Returns
    -------
    DataFrame
        ``learner``, ``n_estimators``, ``num_leaves``, ``seed``, ``euro``.
    """
    rows = []
    for seed in seeds:
        here = simulate(seed)
        for name in ("risk", *uplift.EFFECTS):
            for settings in grid:
                euro = outcome(here, _learned(name, settings)(here))["euro"]
                rows.append({"learner": name, **settings, "seed": seed, "euro": euro})
    return pd.DataFrame(rows)


def best_of(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return of each learner the settings with the highest mean over the worlds."""
    keys = ["learner", "n_estimators", "num_leaves"]
    mean = table.groupby(keys, as_index=False)["euro"].mean()
    top = mean.loc[mean.groupby("learner")["euro"].idxmax()].set_index("learner")
    return {name: {k: int(row[k]) for k in keys[1:]} for name, row in top.iterrows()}


# What the randomised month says of a list -------------------------------------------


def out_of_fold(sample: uplift.Sample) -> np.ndarray:
    """Return the effect that the model expects of each row, learned from the other accounts."""
    made = np.empty(len(sample.drawn))
    for k in range(2):
        here = sample.folds() == k
        rest = sample.where(~here)
        made[here] = uplift.EFFECTS[MODEL](rest, CHOSEN[MODEL])(sample.features[here])
    return made


def logged(here: Setting, month: int = LOTTERY - 1) -> uplift.Sample:
    """Return a month of the log as if chance had decided: who was called, and a fitted chance."""
    tables, night = here.world.tables, night_of(month)
    features = build(tables, night)
    rows = features.index.to_numpy()
    calls = tables.calls[(tables.calls["at"] == date(night)) & tables.calls["called"]]
    called = np.isin(rows, calls["row"])
    y = cancels(tables, rows, night, night_of(month + 1))
    account = tables.subscribers["account"].to_numpy()[rows]
    own = uplift.Sample(
        features, called, np.zeros(len(rows), bool), np.full(len(rows), 0.5), account
    )
    chance = np.clip(uplift.RISKS["risk"](own, CHOSEN["risk"])(features), 0.01, 0.9)
    return uplift.Sample(features, y, called, chance, account)


def offline(seed: int) -> pd.DataFrame:
    """Estimate a list's value and area from the randomised month and from the log; with the truth.

    Returns
    -------
    DataFrame
        ``what`` (euro: of the list of the model; area: per 1,000 subscribers, over a random order),
        ``method`` (ips, dr: randomised month; log: doubly robust with a fitted chance),
        ``value``, ``low``, ``high``, ``truth``.
    """
    here = setting(seed)
    rows = []
    samples = {"lottery": (here.sample, LOTTERY), "log": (logged(here), LOTTERY - 1)}
    for source, (sample, number) in samples.items():
        index, month = sample.features.index.to_numpy(), here.world.months[number]
        truth, value = month.effect[index], month.value[index]
        score = gain(out_of_fold(sample), value)
        list_ = order_of(score)[: TERMS.capacity]
        by = {"dr": uplift.dr_scores(sample, CHOSEN["T"])}
        if source == "lottery":
            centred = sample.cancelled - sample.cancelled.mean()
            by["ips"] = ips_scores(centred, sample.drawn, sample.chance)
        for name, scores in by.items():
            method = "log" if source == "log" else name
            euro = policy_value(list_, scores, value, TERMS.cost, sample.account)
            own = (truth * value)[list_].sum() - TERMS.cost * len(list_)
            rows.append(("euro", method, euro.value, euro.low, euro.high, own))
            area = over_random(score, scores, sample.account)
            own = over_random(score, truth, sample.account).value
            rows.append(
                ("area", method, *(1_000 * v for v in (area.value, area.low, area.high, own)))
            )
    return pd.DataFrame(rows, columns=["what", "method", "value", "low", "high", "truth"])


def with_dial(dial: float) -> Constants:
    """Return the constants with the dial at another value."""
    return replace(Constants(), dial=dial)


def with_lottery(calls: int) -> Constants:
    """Return the constants with another number of randomised calls."""
    return replace(Constants(), lottery=calls)
