"""One world after the other: every list on the same night, and what it brings by the truth.

All list makers see the randomised month and nothing else, each with the settings that did best of
six trials on the worlds of :data:`CHOSEN_ON`; the worlds of :data:`SEEDS` were drawn after that.
What would be new next time is another world: intervals are t intervals over worlds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn import rules
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.features import build, cancels, value_on
from casebook.cases.subscription_churn.month import LOTTERY, TEST, night_of
from casebook.cases.subscription_churn.policy import TERMS, choose, gain
from casebook.cases.subscription_churn.population import Constants
from casebook.cases.subscription_churn.records import date
from casebook.evaluate import effects
from casebook.evaluate.uplift import by_decile, ips_scores, list_value, over_random, qini
from casebook.features.mood import Mood

#: Worlds of the headline, and those on which the settings of all list makers were chosen.
SEEDS, CHOSEN_ON = tuple(range(11, 26)), (101, 102, 103, 104, 105)
#: The world in which the ceiling learns the true effects, so that it remembers nobody.
TOLD_IN = 501
SILENCE, POINTS, SEGMENTS, SHARES, RISK = "silence", "points", "segments", "shares", "risk"
#: The model that ships: the best effect learner of the trials.
MODEL = "DR"
#: An ensemble without trials of its own: the mean of the scores of these.
MEAN, AVERAGED = "mean", (SHARES, "T", "X", "DR", "R")
#: What the tables allow: a model that was told the true effects of a randomised month.
TOLD, ORACLE = "told", "oracle"
Settings = Mapping[str, object]

#: Six trials for each maker of lists.
_TREES = tuple({"n_estimators": n, "num_leaves": k} for n in (40, 80, 160) for k in (3, 6))
_WEIGHTED = tuple(
    {**s, "weighted": w} for s in (_TREES[1], _TREES[2], _TREES[4]) for w in (False, True)
)
TRIALS: Mapping[str, tuple[Settings, ...]] = {
    POINTS: tuple({"fall": f, "closing": c} for f in (0.5, 0.6, 0.7) for c in (1.0, -1.0)),
    SEGMENTS: tuple({"split": s, "ties": t} for s in rules.SPLITS for t in (True, False)),
    SHARES: tuple({"split": s, "risk": r} for s in rules.SPLITS for r in effects.RISKS),
    "logistic": tuple({"C": c} for c in (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)),
    **dict.fromkeys((RISK, "DR", "R"), _TREES),
    **dict.fromkeys(("S", "T", "X"), _WEIGHTED),
}
#: What each has after the trials.
CHOSEN: Mapping[str, Settings] = {
    POINTS: {"fall": 0.6, "closing": -1.0},
    SEGMENTS: {"split": "", "ties": True},
    SHARES: {"split": "", "risk": "risk"},
    "logistic": {"C": 1.0},
    RISK: {"n_estimators": 160, "num_leaves": 3},
    "S": {"n_estimators": 40, "num_leaves": 6, "weighted": False},
    "T": {"n_estimators": 40, "num_leaves": 6, "weighted": False},
    "X": {"n_estimators": 160, "num_leaves": 3, "weighted": True},
    "DR": {"n_estimators": 40, "num_leaves": 6},
    "R": {"n_estimators": 80, "num_leaves": 3},
}


@dataclass(frozen=True)
class Setting:
    """A world on the night before the test.

    Attributes
    ----------
    world : World
        The test month was played without calls.
    start : World
        The same on the night before it.
    sample : Sample
        The randomised month.
    features : DataFrame
        On the night of the test.
    value, effect, expected : ndarray, shape (n,)
        Of its rows: euro; true effect; what an oracle expects who has not heard the rumour.
    """

    world: worlds.World
    start: worlds.World
    sample: effects.Sample
    features: pd.DataFrame
    value: np.ndarray
    effect: np.ndarray
    expected: np.ndarray

    @property
    def worth(self) -> np.ndarray:
        """Euro that a call brings before its cost, by the truth."""
        return self.effect * self.value


def lottery(world: worlds.World, mood: Mood, month: int = LOTTERY) -> effects.Sample:
    """Return the rows of the randomised month as the company knows them a month later."""
    tables, night = world.tables, night_of(month)
    features = build(tables, night, mood)
    rows = features.index.to_numpy()
    calls = tables.calls[tables.calls["at"] == date(night)].set_index("row")
    drawn = calls["assigned"].reindex(rows, fill_value=False).to_numpy(bool)
    return effects.Sample(
        features=features,
        cancelled=cancels(tables, rows, night, night_of(month + 1)),
        drawn=drawn,
        # The table of chances is kept with the draw; it covers who was not drawn too.
        chance=world.months[month].chance[rows],
        account=tables.subscribers["account"].to_numpy()[rows],
    )


def simulate(seed: int, constants: Constants | None = None) -> Setting:
    """Simulate a world and lay out what is known on the night of the test."""
    start = worlds.simulate(seed, constants)
    world = worlds.play(start)
    mood = Mood(world.tables.tickets, date(night_of(TEST)))
    features = build(world.tables, night_of(TEST), mood)
    rows, month = features.index.to_numpy(), world.months[TEST]
    return Setting(
        world,
        start,
        lottery(world, mood),
        features,
        value_on(world.tables, rows, night_of(TEST)),
        month.effect[rows],
        world.expected(TEST)[rows],
    )


#: Worlds are large: the last one is kept.
setting = lru_cache(maxsize=1)(simulate)

# Makers of lists -------------------------------------------------------------------------

#: From features and values to a score of each row: the highest are called.
Score = Callable[[pd.DataFrame, np.ndarray], np.ndarray]
#: What learns an effect, or a risk that is taken for one.
LEARNERS: Mapping[str, Callable[[effects.Sample, Settings | None], effects.Predict]] = {
    SEGMENTS: rules.by_segments,
    SHARES: rules.by_shares,
    **effects.RISKS,
    **effects.EFFECTS,
}


def maker(name: str, sample: effects.Sample, settings: Settings | None = None) -> Score:
    """Return how a rule or a learner scores: by expected euro of a call, or by points.

    Settings are by default those that were chosen.
    """
    settings = CHOSEN[name] if settings is None else settings
    if name == POINTS:
        return lambda features, value: rules.points(features, **settings) * value
    predict = LEARNERS[name](sample, settings)
    return lambda features, value: gain(predict(features), value)


@lru_cache(maxsize=1)
def _told(constants: Constants) -> effects.Predict:
    """Learn the true expected effects of the randomised month of another world."""
    world = worlds.simulate(TOLD_IN, constants)
    return _of_truth(world, build(world.tables, night_of(LOTTERY)))


def _of_truth(world: worlds.World, features: pd.DataFrame) -> effects.Predict:
    more = {"n_estimators": 300, "num_leaves": 31, "min_child_samples": 50}
    truth = world.expected(LOTTERY)[features.index.to_numpy()]
    return effects.regressor(more).fit(features, truth).predict


def policies(names: Sequence[str] | None = None) -> dict[str, Callable[[Setting], np.ndarray]]:
    """Return all lists by name: from a setting to a score, of which the highest are called."""
    made = {
        name: lambda here, name=name: maker(name, here.sample)(here.features, here.value)
        for name in CHOSEN
    }
    every = {
        "random": lambda here: np.random.default_rng(0).random(len(here.value)),
        SILENCE: lambda here: rules.silence(here.features),
        **made,
        TOLD: lambda here: gain(_told(here.world.constants)(here.features), here.value),
        ORACLE: lambda here: gain(here.expected, here.value),
    }
    return every if names is None else {name: every[name] for name in names}


def outcome(here: Setting, score: np.ndarray, capacity: int = TERMS.capacity) -> dict[str, float]:
    """Return what a list brings, by the truth of its month.

    Every list fills the capacity, for the team is paid anyway; ``stopped`` is the one that ends
    where the expected gain does (not for scores that are no euro).
    """
    list_ = choose(score, capacity, least=-np.inf)
    stopped = list_[score[list_] > 0]
    month, rows = here.world.months[TEST], here.features.index.to_numpy()[list_]
    effect, worth = here.effect[list_], here.worth - TERMS.cost
    return {
        "euro": float(worth[list_].sum()),
        "prevented": float(effect.sum()),
        "risk": float(month.chances.risk[rows].mean()),
        "harmed": float((effect < 0).mean()),
        "dormant": float(month.state.dormant[rows].mean()),
        "before": float(month.state.called[rows].any(axis=1).mean()),
        "complaints": float(month.complains[rows].mean()),
        "unsubscribes": float(month.unsubscribes[rows].mean()),
        "qini": qini(score, here.effect, here.expected),
        "stopped_calls": len(stopped),
        "stopped_euro": float(worth[stopped].sum()),
    }


def one_world(
    seed: int, names: Sequence[str] | None = None, constants: Constants | None = None
) -> pd.DataFrame:
    """Run all lists in one world; see :func:`.benchmarks.lists`."""
    here = setting(seed) if constants is None else simulate(seed, constants)
    scores = {name: score(here) for name, score in policies(names).items()}
    if {*AVERAGED} <= {*scores}:
        scores[MEAN] = np.mean([scores[name] for name in AVERAGED], axis=0)
    made = {name: outcome(here, score) for name, score in scores.items()}
    return pd.DataFrame.from_dict(made, orient="index").rename_axis("policy").reset_index()


# Trials ----------------------------------------------------------------------------------


def out_of_fold(
    sample: effects.Sample, value: np.ndarray, name: str = MODEL, settings: Settings | None = None
) -> np.ndarray:
    """Return the score that a maker gives each row, learned from the other accounts."""
    made = np.empty(len(sample.drawn))
    for here, rest in _halves(sample):
        made[here] = maker(name, rest, settings)(sample.features[here], value[here])
    return made


def slope(sample: effects.Sample) -> float:
    """Return by which factor the model's effects are to be multiplied to be right on the mean.

    The highest predictions are high by luck, too: what the model learned from one half of the
    accounts is regressed on the other half's residuals.
    """
    one = np.ones(len(sample.drawn))
    found = out_of_fold(sample, one) + TERMS.cost
    target, weight = effects.residuals(sample)
    return float((weight * found * target).sum() / (weight * found**2).sum())


@lru_cache(maxsize=1)
def _halves(sample: effects.Sample) -> list[tuple[np.ndarray, effects.Sample]]:
    """Return each fold with the rows outside of it."""
    folds = [sample.folds() == k for k in range(2)]
    return [(here, sample.where(~here)) for here in folds]


def trials(
    seeds: Sequence[int] = CHOSEN_ON, grid: Mapping[str, Sequence[Settings]] = TRIALS
) -> pd.DataFrame:
    """Try six settings of every maker on the choice worlds: by the truth, and without it.

    Returns
    -------
    DataFrame
        ``learner``, ``settings`` (JSON), ``seed``, ``euro`` of the test (truth), ``value`` of the
        list and ``area`` over a random order in the randomised month (doubly robust, out of fold;
        learners of an effect alone).
    """
    rows = []
    for seed in seeds:
        here = simulate(seed)
        index, sample = here.sample.features.index.to_numpy(), here.sample
        value, scores = (
            here.world.months[LOTTERY].value[index],
            effects.dr_scores(sample),
        )
        for name, some in grid.items():
            for settings in some:
                score = maker(name, sample, settings)(here.features, here.value)
                row = {"learner": name, "settings": json.dumps(settings), "seed": seed}
                row |= {"euro": outcome(here, score)["euro"], "value": np.nan, "area": np.nan}
                if name in effects.EFFECTS:
                    own = out_of_fold(sample, value, name, settings)
                    list_ = choose(own, least=-np.inf)
                    found = list_value(list_, scores, value, TERMS.cost, sample.account)
                    area = over_random(own, scores * value, sample.account)
                    row |= {"value": found.value, "area": area.value}
                rows.append(row)
    return pd.DataFrame(rows)


def best_of(table: pd.DataFrame, by: str = "euro") -> dict[str, Settings]:
    """Return of each maker the settings with the highest mean over the worlds."""
    mean = table.dropna(subset=[by]).groupby(["learner", "settings"], as_index=False)[by].mean()
    top = mean.loc[mean.groupby("learner")[by].idxmax()]
    return {
        name: json.loads(text) for name, text in zip(top["learner"], top["settings"], strict=True)
    }


# What the randomised month says of a list -------------------------------------------


def logged(here: Setting, month: int = LOTTERY - 1) -> effects.Sample:
    """Return a month of the log as if chance had decided: who was called, and a fitted chance."""
    tables, night = here.world.tables, night_of(month)
    features = build(tables, night)
    rows = features.index.to_numpy()
    calls = tables.calls[(tables.calls["at"] == date(night)) & tables.calls["called"]]
    called = np.isin(rows, calls["row"])
    y = cancels(tables, rows, night, night_of(month + 1))
    account = tables.subscribers["account"].to_numpy()[rows]
    own = effects.Sample(
        features, called, np.zeros(len(rows), bool), np.full(len(rows), 0.5), account
    )
    chance = np.clip(effects.RISKS["risk"](own, CHOSEN["risk"])(features), 0.01, 0.9)
    return effects.Sample(features, y, called, chance, account)


def offline(seed: int, constants: Constants | None = None, log: bool = True) -> pd.DataFrame:
    """Estimate a list's value and area from the randomised month and the log; with the truth.

    Returns
    -------
    DataFrame
        ``what`` (euro: of the model's list; area: per 1,000 subscribers, over a random order;
        decile 1 to decile 10: mean effect, by the predicted one, per 1,000), ``method`` (ips, dr:
        randomised month; log: doubly robust with a fitted chance), ``value``, ``low``, ``high``,
        ``truth``, ``predicted`` (of deciles).
    """
    here = setting(seed) if constants is None else simulate(seed, constants)
    rows = []
    samples = {"lottery": (here.sample, LOTTERY)}
    if log:
        samples["log"] = (logged(here), LOTTERY - 1)
    for source, (sample, number) in samples.items():
        index, month = sample.features.index.to_numpy(), here.world.months[number]
        truth, value = month.effect[index], month.value[index]
        score = out_of_fold(sample, value)
        by = {"dr": effects.dr_scores(sample)}
        if source == "lottery":
            centred = sample.cancelled - sample.cancelled.mean()
            by["ips"] = ips_scores(centred, sample.drawn, sample.chance)
        for name, scores in by.items():
            method = "log" if source == "log" else name
            rows += _estimated(method, score, scores, truth, value, sample.account)
        if source == "lottery":
            rows += _deciles(score, by["dr"], truth, value, sample.account)
    columns = ["what", "method", "value", "low", "high", "truth", "predicted"]
    return pd.DataFrame(rows, columns=columns)


def _estimated(method, score, scores, truth, value, account) -> list[tuple]:
    """Return value and area of a list by scores, with the truth."""
    list_ = choose(score, least=-np.inf)
    euro = list_value(list_, scores, value, TERMS.cost, account)
    own = (truth * value)[list_].sum() - TERMS.cost * len(list_)
    area = over_random(score, scores, account)
    best = over_random(score, truth, account).value
    per = (1_000 * v for v in (area.value, area.low, area.high, best))
    return [
        ("euro", method, euro.value, euro.low, euro.high, own, np.nan),
        ("area", method, *per, np.nan),
    ]


def _deciles(score, scores, truth, value, account) -> list[tuple]:
    """Return the mean effect by decile of the predicted one: by scores, and by the truth."""
    predicted = (score + TERMS.cost) / value
    table = by_decile(predicted, scores, account)
    table["truth"] = by_decile(predicted, truth, account)["effect"]
    rows = []
    for row in (table * 1_000).itertuples():
        decile = f"decile {row.group // 1_000:.0f}"
        rows.append((decile, "dr", row.effect, row.low, row.high, row.truth, row.predicted))
    return rows


def at(**changed: float) -> Constants:
    """Return the constants with some at another value."""
    return replace(Constants(), **changed)
