"""One world after the other: every list on the same night, and what it brings by the truth.

All models see the randomised month and nothing else, each with the settings that did best of six
trials on the worlds of :data:`CHOSEN_ON`; rules are fixed in advance. Every list keeps one rule, by
one function: nobody is called whom :func:`.policy.blocked` spares. The worlds of :data:`SEEDS` were
first drawn when all of this was frozen. What would be new next time is another world: intervals are
t intervals over worlds.
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
from casebook.cases.subscription_churn.month import LOTTERY, TEST, Month, night_of, team_scores
from casebook.cases.subscription_churn.policy import TERMS, blocked, choose, gain
from casebook.cases.subscription_churn.population import Constants
from casebook.cases.subscription_churn.records import date
from casebook.evaluate import effects
from casebook.evaluate.off_policy import Estimate
from casebook.evaluate.uplift import by_decile, ips_scores, list_value, over_random, qini
from casebook.features.mood import Mood

#: Worlds of the headline, and those on which the settings of all list makers were chosen.
SEEDS, CHOSEN_ON = tuple(range(31, 46)), (101, 102, 103, 104, 105)
#: Choice worlds in which the settings are chosen without the truth too.
VALUED = CHOSEN_ON[:3]
#: The world in which the ceiling learns the true effects, so that it remembers nobody.
TOLD_IN = 501
#: The team's own list, which knows rumours, is what the company has today.
TEAM, SILENCE, POINTS = "team", "silence", "points"
SEGMENTS, SHARES, RISK = "segments", "shares", "risk"
#: The model that ships: of all that learn from the calls by chance, the best of the trials.
MODEL = SHARES
#: An ensemble without trials of its own: the mean of the scores of these.
MEAN, AVERAGED = "mean", (SHARES, "T", "X", "DR", "R")
#: What the tables allow: a model that was told the true effects of a randomised month.
TOLD, ORACLE = "told", "oracle"
Settings = Mapping[str, object]

#: Six trials for each model.
_TREES = tuple({"n_estimators": n, "num_leaves": k} for n in (40, 80, 160) for k in (3, 6))
_WEIGHTED = tuple(
    {**s, "weighted": w} for s in (_TREES[1], _TREES[2], _TREES[4]) for w in (False, True)
)
TRIALS: Mapping[str, tuple[Settings, ...]] = {
    SEGMENTS: tuple({"split": s, "ties": t} for s in rules.SPLITS for t in (True, False)),
    SHARES: tuple({"split": s, "risk": r} for s in rules.SPLITS for r in effects.RISKS),
    "logistic": tuple({"C": c} for c in (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)),
    RISK: tuple({"n_estimators": n, "num_leaves": k} for n in (80, 160, 320) for k in (3, 6)),
    **dict.fromkeys(("DR", "R"), _TREES),
    **dict.fromkeys(("S", "T", "X"), _WEIGHTED),
}
#: What each has after the trials.
CHOSEN: Mapping[str, Settings] = {
    SEGMENTS: {"split": "called", "ties": True},
    SHARES: {"split": "called", "risk": "risk"},
    "logistic": {"C": 1.0},
    RISK: {"n_estimators": 160, "num_leaves": 6},
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
    blocked, hopeless : ndarray of bool, shape (n,)
        Whom no list may call; whom two sentences of common sense leave out.
    """

    world: worlds.World
    start: worlds.World
    sample: effects.Sample
    features: pd.DataFrame
    value: np.ndarray
    effect: np.ndarray
    expected: np.ndarray
    blocked: np.ndarray
    hopeless: np.ndarray

    @property
    def worth(self) -> np.ndarray:
        """Euro that a call brings before its cost, by the truth."""
        return self.effect * self.value

    @property
    def team(self) -> np.ndarray:
        """How the team itself ranks the rows: it has heard the rumours."""
        month = self.world.months[TEST]
        every = team_scores(month, self.world.seed, self.world.constants)
        return every[self.features.index.to_numpy()]

    def brings(self, list_: np.ndarray) -> float:
        """Return the euro of a list, by the truth."""
        return float((self.worth - TERMS.cost)[list_].sum())


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
        blocked(world.tables, rows, night_of(TEST)),
        rules.hopeless(features),
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
    """Return how a model scores: by the euro that it expects of a call.

    Settings are by default those that were chosen.
    """
    settings = CHOSEN[name] if settings is None else settings
    predict = LEARNERS[name](sample, settings)
    return lambda features, value: gain(predict(features), value)


@lru_cache(maxsize=1)
def _told(constants: Constants) -> effects.Predict:
    """Learn the true expected effects of the randomised month of another world."""
    world = worlds.simulate(TOLD_IN, constants)
    features = build(world.tables, night_of(LOTTERY))
    truth = world.expected(LOTTERY)[features.index.to_numpy()]
    more = {"n_estimators": 300, "num_leaves": 31, "min_child_samples": 50}
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
        TEAM: lambda here: here.team,
        POINTS: lambda here: rules.points(here.features) * here.value,
        **made,
        TOLD: lambda here: gain(_told(here.world.constants)(here.features), here.value),
        ORACLE: lambda here: gain(here.expected, here.value),
    }
    return every if names is None else {name: every[name] for name in names}


def outcome(here: Setting, score: np.ndarray, capacity: int = TERMS.capacity) -> dict[str, float]:
    """Return what a list brings, by the truth of its month.

    Every list fills the capacity, for the team is paid anyway. ``unrested`` is the list that calls
    the lately called again, ``sensible`` the one that also leaves the hopeless out.
    """

    def called(off: np.ndarray | None) -> np.ndarray:
        return choose(score, capacity, off, least=-np.inf)

    list_, again = called(here.blocked), called(None)
    month, rows = here.world.months[TEST], here.features.index.to_numpy()[list_]
    effect, open_ = here.effect[list_], ~here.blocked
    return {
        "euro": here.brings(list_),
        "unrested": here.brings(again),
        "sensible": here.brings(called(here.blocked | here.hopeless)),
        "prevented": float(effect.sum()),
        "risk": float(month.chances.risk[rows].mean()),
        "harmed": float((effect < 0).mean()),
        "dormant": float(month.state.dormant[rows].mean()),
        "hopeless": float(here.hopeless[list_].mean()),
        "before": float(here.blocked[again].mean()),
        "complaints": float(month.complains[rows].mean()),
        "unsubscribes": float(month.unsubscribes[rows].mean()),
        "qini": qini(score[open_], here.effect[open_], here.expected[open_]),
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


def slope(sample: effects.Sample) -> effects.Factor:
    """Return the factor that makes the model's effects right: see :func:`.effects.slope`."""
    one = np.ones(len(sample.drawn))
    return effects.slope(out_of_fold(sample, one) + TERMS.cost, sample)


@lru_cache(maxsize=1)
def _halves(sample: effects.Sample) -> list[tuple[np.ndarray, effects.Sample]]:
    """Return each fold with the rows outside of it."""
    folds = [sample.folds() == k for k in range(2)]
    return [(here, sample.where(~here)) for here in folds]


def trials(
    seeds: Sequence[int] = CHOSEN_ON,
    grid: Mapping[str, Sequence[Settings]] = TRIALS,
    valued: Sequence[int] = VALUED,
) -> pd.DataFrame:
    """Try six settings of every model on the choice worlds: by the truth, and without it.

    Returns
    -------
    DataFrame
        ``learner``, ``settings`` (JSON), ``seed``, ``euro`` and ``sensible`` of the test (truth);
        ``value`` of the list in the randomised month (doubly robust, out of fold; learners of an
        effect alone, in the worlds of ``valued``).
    """
    rows = []
    for seed in seeds:
        here = simulate(seed)
        _, open_, value = _open(here, here.sample, LOTTERY)
        gamma, account = effects.dr_scores(here.sample), here.sample.account[open_]
        for name, some in grid.items():
            for settings in some:
                score = maker(name, here.sample, settings)(here.features, here.value)
                truth = outcome(here, score)
                row = {"learner": name, "settings": json.dumps(settings), "seed": seed}
                row |= {what: truth[what] for what in ("euro", "sensible")}
                row["value"] = np.nan
                if name in effects.EFFECTS and seed in valued:
                    own = out_of_fold(here.sample, value, name, settings)[open_]
                    row["value"] = _value(own, gamma[open_], value[open_], account).value
                rows.append(row)
    return pd.DataFrame(rows)


# What the randomised month says of a list -------------------------------------------


def logged(here: Setting, month: int = LOTTERY - 1) -> effects.Sample:
    """Return a month of the log as if chance had decided: who was called, and a fitted chance.

    Those to whom the team gives a rest had none, and are left out. The chance of a row is learned
    from the other accounts.
    """
    tables, night = here.world.tables, night_of(month)
    features = build(tables, night)
    features = features[~blocked(tables, features.index.to_numpy(), night)]
    rows = features.index.to_numpy()
    calls = tables.calls[(tables.calls["at"] == date(night)) & tables.calls["called"]]
    called, account = np.isin(rows, calls["row"]), tables.subscribers["account"].to_numpy()[rows]
    none, chance = np.zeros(len(rows), bool), np.full(len(rows), 0.5)
    own = effects.Sample(features, called, none, chance.copy(), account)
    for fold in (own.folds(2, salt=2) == k for k in range(2)):
        chance[fold] = effects.risk(own.where(~fold), CHOSEN[RISK])(features[fold])
    y = cancels(tables, rows, night, night_of(month + 1))
    return effects.Sample(features, y, called, np.clip(chance, 0.01, 0.9), account)


def _open(
    here: Setting, sample: effects.Sample, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of a month's rows: their labels, whom a list may call, and their euro."""
    rows = sample.features.index.to_numpy()
    value = here.world.months[number].value[rows]
    return rows, ~blocked(here.world.tables, rows, night_of(number)), value


def _value(score, scores, value, account) -> Estimate:
    """Return what the list by a score would have brought, estimated by scores of the month."""
    return list_value(choose(score, least=-np.inf), scores, value, TERMS.cost, account)


def offline(seed: int, constants: Constants | None = None, log: bool = True) -> pd.DataFrame:
    """Estimate a list's value and area from the randomised month and the log; with the truth.

    The list is that of a model which knows one half of the accounts, in the randomised month.

    Returns
    -------
    DataFrame
        ``what`` (euro: of the model's list; area: per 1,000 subscribers who may be called, over a
        random order; decile 1 to decile 10: mean effect, by the predicted one, per 1,000),
        ``method`` (ips, dr: randomised month; log: doubly robust with a fitted chance), ``value``,
        ``low``, ``high``, ``truth``, ``predicted`` (of deciles).
    """
    here = setting(seed) if constants is None else simulate(seed, constants)
    rows = []
    samples = {"lottery": (here.sample, LOTTERY)}
    if log:
        samples["log"] = (logged(here), LOTTERY - 1)
    for source, (sample, number) in samples.items():
        index, open_, value = _open(here, sample, number)
        score = out_of_fold(sample, value)[open_]
        truth, value = here.world.months[number].effect[index][open_], value[open_]
        account, by = sample.account[open_], {"dr": effects.dr_scores(sample)[open_]}
        if source == "lottery":
            centred = sample.cancelled - sample.cancelled.mean()
            by["ips"] = ips_scores(centred, sample.drawn, sample.chance)[open_]
            rows += _deciles(score, by["dr"], truth, value, account)
        for name, scores in by.items():
            method = "log" if source == "log" else name
            rows += _estimated(method, score, scores, truth, value, account)
    columns = ["what", "method", "value", "low", "high", "truth", "predicted"]
    return pd.DataFrame(rows, columns=columns)


def _estimated(method, score, scores, truth, value, account) -> list[tuple]:
    """Return value and area of a list by scores, with the truth."""
    euro = _value(score, scores, value, account)
    own = _value(score, truth, value, account).value
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


# What the randomised month costs ----------------------------------------------------


def _teams(world: worlds.World, number: int) -> np.ndarray:
    """Return the rows whom the team would call in a month."""
    month = world.months[number]
    rows = month.here
    score = team_scores(month, world.seed, world.constants)[rows]
    off = blocked(world.tables, rows, night_of(number))
    return rows[choose(score, blocked=off, least=-np.inf)]


def _euro(month: Month, rows: np.ndarray) -> float:
    """Return what calls bring, by the truth of their month."""
    return float((month.effect * month.value - TERMS.cost)[rows].sum())


def price(seed: int) -> dict[str, float]:
    """Return what the randomised month and the one after it bring, beside the team's own lists.

    Returns
    -------
    dict of str to float
        Euro by the truth: ``team`` (its list in place of the randomised calls), ``drawn`` (the
        randomised calls), ``team_next`` (the team's next list had it made the first one too),
        ``team_after`` (its next list after the randomised calls). The price is the first less the
        second, and the third less the fourth.
    """
    world, usual = setting(seed).world, _teams(setting(seed).world, LOTTERY)
    before = worlds.simulate(seed, until=LOTTERY)
    other = worlds.play(worlds.play(before, lambda tables, night: usual))
    first, drawn = world.months[LOTTERY], np.flatnonzero(world.months[LOTTERY].assigned)
    return {
        "team": _euro(first, usual),
        "drawn": _euro(first, drawn),
        "team_next": _euro(other.months[TEST], _teams(other, TEST)),
        "team_after": _euro(world.months[TEST], _teams(world, TEST)),
    }


def at(**changed: float) -> Constants:
    """Return the constants with some at another value."""
    return replace(Constants(), **changed)
