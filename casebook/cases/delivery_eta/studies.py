"""One world after the other: the ladder, where its intervals hold, and what the promise costs.

The models are those of the chapter, with their defaults; nothing is chosen here. Worlds 1 to 3 were
looked at while the models were made, the worlds of :data:`SEEDS` only after all was fixed. What
would be new next time is another world: every interval is a t interval over worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta import world as worlds
from casebook.cases.delivery_eta.evaluation import deciles, split, with_truth
from casebook.cases.delivery_eta.features import FEATURES, GROUPS, prepare
from casebook.cases.delivery_eta.ladder import route_quantiles, routes, rules, van_quantiles, window
from casebook.cases.delivery_eta.oracle import oracle_quantiles
from casebook.cases.delivery_eta.promise import (
    PROMISE_LEVELS,
    Costs,
    by_level,
    day_after,
    next_working_day,
)
from casebook.cases.delivery_eta.quantiles import DIRECT, fit
from casebook.cases.delivery_eta.stages import Constants
from casebook.cases.delivery_eta.survival import aft, censoring_bias
from casebook.evaluate import gap
from casebook.evaluate.intervals import Interval, mean_interval
from casebook.evaluate.ranges import (
    adapted,
    compare,
    conformalise,
    daily_sums,
    follower,
    jumps,
    score,
)
from casebook.forecasting.quantile_trees import Quantiles

#: Worlds of the headline, and those on which the models' settings were chosen.
SEEDS, CHOSEN_ON = tuple(range(11, 26)), (1, 2, 3)
WINDOW, ROUTES, RULES, MODEL, ORACLE = "window", "routes", "rules", "adaptive", "oracle"
RECENT, DIRECT_QUANTILE = "recent scores", "direct quantile"
METRICS = ["n", "coverage", "late", "width", "interval_score", "pinball", "mae"]
SPANS = {
    "quiet": (worlds.CALIBRATION_END, worlds.QUIET_END),
    "storm": (worlds.STORM, worlds.PEAK),
    "peak": (worlds.PEAK, worlds.CUT),
}
#: The parcel of the chapter's first figure: it came hours after its window, inside of each of its
#: intervals, of which each is narrower than the one before.
SHOWN = 15_635
#: Moments of a span for which the oracle is asked outside of the quiet weeks.
ORACLE_ROWS = 2500


@dataclass(frozen=True)
class Setting:
    """A world as the models see it.

    ``rows`` are all prepared moments with ``truth``; the parts are those of
    :func:`.evaluation.split`.
    """

    world: worlds.World
    rows: pd.DataFrame
    train: pd.DataFrame
    calibration: pd.DataFrame
    quiet: pd.DataFrame
    rough: pd.DataFrame

    @property
    def test(self) -> pd.DataFrame:
        """The quiet weeks, the storm and the peak."""
        return pd.concat([self.quiet, self.rough])


def simulate(
    seed: int, constants: Constants | None = None, parcels: int = worlds.PARCELS
) -> Setting:
    """Simulate a world and prepare its moments."""
    world = worlds.simulate(seed, constants, parcels)
    rows = with_truth(prepare(world.scans, world.parcels, world.load), world.truth)
    return Setting(world, rows, **split(rows))


setting = cache(simulate)


def spans(rows: pd.DataFrame) -> pd.Series:
    """Return the span in which each moment lies; missing between them."""
    known = rows["known_at"]
    parts = [(known >= first) & (known < last) for first, last in SPANS.values()]
    return pd.Series(np.select(parts, list(SPANS), ""), rows.index, name="span")


def forecasts(here: Setting, model: Quantiles) -> dict[str, pd.DataFrame]:
    """Return the ladder's forecasts of all test moments, by name; without the oracle's.

    ``direct`` fits the bare hours, ``lightgbm`` the hours beside the timetable; what stands after
    it corrects the latter.
    """
    rows = here.test
    return {
        WINDOW: window(rows),
        # A stage that no route has seen is left to the window, as in the service.
        ROUTES: routes(here.train).predict(rows).fillna(window(rows)),
        RULES: rules(here.train).predict(rows),
        # On the day of the training it knows the parcels under way, which the others must drop.
        "aft": aft(here.rows, worlds.TRAIN_END).predict(rows),
        "direct": fit(here.train, **DIRECT).predict(rows),
        "lightgbm": model.predict(rows),
        "cqr": conformalise(model, here.calibration).predict(rows),
        "cqr by stage": conformalise(model, here.calibration, by="stage").predict(rows),
        # The last scores alone, and with the aim that follows the misses.
        RECENT: adapted(model, follower(model, here.calibration, gamma=0.0), rows),
        MODEL: adapted(model, follower(model, here.calibration), rows),
    }


def oracle(here: Setting) -> pd.DataFrame:
    """Return the oracle's forecast: of the quiet weeks, and of a part of each rough span."""
    rows, span = here.test, spans(here.test)
    asked = [
        part if name == "quiet" else part.sample(min(ORACLE_ROWS, len(part)), random_state=0)
        for name, part in rows.groupby(span)
        if name
    ]
    return oracle_quantiles(here.world, pd.concat(asked))


# One world ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a world says: one frame for each table that is recorded.

    ``scores`` has ``to_oracle``, the interval score over the oracle's on the moments that the
    oracle was asked about; ``rolling`` has the sums of each day. The others are as of the functions
    below.
    """

    scores: pd.DataFrame
    slices: pd.DataFrame
    rolling: pd.DataFrame
    promises: pd.DataFrame
    censoring: pd.DataFrame
    fan: pd.DataFrame


@cache
def one_world(seed: int) -> Found:
    """Run the ladder in one world and look at it from all sides."""
    here = simulate(seed)  # not kept: sixteen worlds would not fit into memory
    model = fit(here.train)
    made = forecasts(here, model)
    truth = oracle(here)
    return Found(
        scores=scores(here, made, truth).assign(seed=seed),
        slices=slices(here, made | {ORACLE: truth}).assign(seed=seed),
        rolling=rolling_sums(here, made).assign(seed=seed),
        promises=promises(here).assign(seed=seed),
        censoring=censoring(here).assign(seed=seed),
        fan=fan(here, made["cqr"]).assign(seed=seed),
    )


def scores(here: Setting, made: dict[str, pd.DataFrame], truth: pd.DataFrame) -> pd.DataFrame:
    """Score all forecasts by span; against the oracle on the moments that it was asked about."""
    rows, span = here.test, spans(here.test)
    parts = []
    for name in SPANS:
        own = rows[span == name]
        asked = own.index.intersection(truth.index, sort=False)
        ratios = {m: score(own.loc[asked], f.loc[asked]).iloc[0] for m, f in made.items()}
        best = score(own.loc[asked], truth.loc[asked]).iloc[0]
        table = compare(own, {m: f.loc[own.index] for m, f in made.items()})
        table.loc[ORACLE] = best
        against = {m: row["interval_score"] / best["interval_score"] for m, row in ratios.items()}
        table["to_oracle"] = pd.Series(against | {ORACLE: 1.0})
        parts.append(table.assign(span=name).reset_index())
    return pd.concat(parts, ignore_index=True)[["span", "model", *METRICS, "to_oracle"]]


def slices(here: Setting, made: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Score three forecasts of the quiet weeks by stage and by decile of zone pairs.

    Decile 0 are the new routes. P50's jumps (hours, absolute) stand beside the stages.
    """
    rows = here.quiet
    groups = {"stage": rows["stage"], "decile": deciles(rows, here.train)}
    parts = []
    for name in (ROUTES, RULES, "cqr", "cqr by stage", MODEL, ORACLE):
        forecast = made[name].loc[rows.index]
        moved = jumps(rows, forecast, "parcel").abs()
        for by, group in groups.items():
            table = score(rows, forecast, group)
            table["jump"] = moved.groupby(group).median()
            table["jump_p95"] = moved.groupby(group).quantile(0.95)
            table.index = table.index.astype(str)
            parts.append(table.rename_axis("slice").reset_index().assign(model=name, by=by))
    return pd.concat(parts, ignore_index=True)[
        ["model", "by", "slice", *METRICS, "jump", "jump_p95"]
    ]


def rolling_sums(here: Setting, made: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return sums of each day's forecasts, static and adaptive, from which windows are made."""
    kinds = {"static": "cqr", "adaptive": MODEL}
    sums = {kind: daily_sums(here.test, made[name]) for kind, name in kinds.items()}
    return pd.concat(sums, names=["method"]).reset_index()


def promises(here: Setting) -> pd.DataFrame:
    """Cost the promises at collection in the quiet weeks: by level, each rung in its natural form.

    The window has its last day; routes have their own quantile, rules that of the vans, and trees
    are fitted to the quantile that the costs name. The ``chosen`` level of routes and rules is the
    cheapest one of the calibration weeks, the oracle's the cheapest one of the quiet weeks.
    """
    known, first = (rows[rows["stage"] == "collected"] for rows in (here.calibration, here.quiet))
    parts = []
    train = here.train[here.train["stage"] == "collected"]
    for name, learn in ((ROUTES, route_quantiles), (RULES, van_quantiles)):
        days = [_days(rows, learn(train, rows, PROMISE_LEVELS)) for rows in (known, first)]
        chosen = by_level(known, days[0], truth="remaining")["cost"]
        parts.append(_rung(name, by_level(first, days[1]), chosen))
    level = Costs().quantile
    direct = fit(here.train, levels=(level,)).raw(first)
    single = {
        (WINDOW, 0.0): next_working_day(first["window_high"]),
        (DIRECT_QUANTILE, level): day_after(first, direct[:, 0]),
    }
    for (name, at), day in single.items():
        own = by_level(first, {at: day})
        parts.append(_rung(name, own, own["cost"]))
    best = oracle_quantiles(here.world, first, PROMISE_LEVELS).set_axis(PROMISE_LEVELS, axis=1)
    table = by_level(first, _days(first, best))
    return pd.concat([*parts, _rung(ORACLE, table, table["cost"])], ignore_index=True)


def _rung(name: str, table: pd.DataFrame, cost: pd.Series) -> pd.DataFrame:
    """Return a rung's outcomes by level, with the one that a cost chooses."""
    chosen = table.index == cost.idxmin()
    return table.assign(chosen=chosen, model=name).reset_index()


def _days(rows: pd.DataFrame, hours: pd.DataFrame) -> dict[float, np.ndarray]:
    """Return the promised day of each moment by level."""
    return {level: day_after(rows, hours[level]) for level in hours}


def censoring(here: Setting) -> pd.DataFrame:
    """Return the bias of a mean over delivered parcels, on the day of the training and others."""
    rows = here.rows[here.rows["stage"] == "collected"]
    found = {
        (f"{now:%Y-%m-%d}", days): censoring_bias(rows, now, days)
        for now in (worlds.TRAIN_END, worlds.CALIBRATION_END, worlds.PEAK)
        for days in (7.0, 14.0, 28.0)
    }
    return pd.DataFrame(found).T.rename_axis(["now", "days"]).reset_index()


def fan(here: Setting, forecast: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts of the parcel :data:`SHOWN` scan by scan, in hours since collection."""
    hour, rows = pd.Timedelta(hours=1), here.quiet[here.quiet["parcel"] == SHOWN]
    made, accepted = forecast.loc[rows.index], rows["accepted_at"]
    scan = (rows["known_at"] - accepted) / hour
    columns = {name: scan + made[name] for name in ("p10", "p50", "p90")}
    ends = {name: (rows[name] - accepted) / hour for name in ("window_low", "window_high")}
    delivered = scan + rows["truth"]
    table = rows[["parcel", "stage"]].assign(
        scan_hours=scan, **columns, delivered=delivered, **ends
    )
    return table.reset_index(drop=True)


# Over worlds -------------------------------------------------------------------------


def shares(
    table: pd.DataFrame, model: str = MODEL, floor: str = WINDOW, metric: str = "interval_score"
) -> Interval:
    """Return the share of the gap to the oracle that a model closes in the quiet weeks."""
    return gap.closed(table[table["span"] == "quiet"], model, floor, ORACLE, metric)


def mean_of(table: pd.DataFrame, model: str, metric: str, span: str = "quiet") -> Interval:
    """Return a metric of a model with its 95 % t interval over worlds."""
    return mean_interval(table.loc[(table["span"] == span) & (table["model"] == model), metric])


def ratio(table: pd.DataFrame, model: str, peer: str, span: str = "quiet") -> Interval:
    """Return a model's interval score over that of a peer, paired by world."""
    return gap.ratio(table[table["span"] == span], model, peer, "interval_score")


# What matters ------------------------------------------------------------------------


def ablation(seeds: Sequence[int] = CHOSEN_ON[:2]) -> pd.DataFrame:
    """Leave out one group of features at a time, in worlds on which the models were made.

    Returns the scores of the calibration weeks: these worlds' test weeks are not looked at.
    """
    parts = []
    for seed in seeds:
        here = simulate(seed)
        for group in ("nothing", *GROUPS):
            left = [name for name in FEATURES if name not in GROUPS.get(group, ())]
            whole = {} if group != "timetable" else DIRECT
            made = fit(here.train, left, **whole).predict(here.calibration)
            parts.append(score(here.calibration, made).assign(seed=seed, without=group))
    return pd.concat(parts, ignore_index=True)[["seed", "without", *METRICS]]


def varied(seed: int, constants: Constants, parcels: int = worlds.PARCELS) -> pd.DataFrame:
    """Score the rungs in a world with other constants; the quiet weeks."""
    here = simulate(seed, constants, parcels)
    model = fit(here.train)
    rows, calibrated = here.quiet, conformalise(model, here.calibration)
    made = {
        ROUTES: routes(here.train).predict(rows),
        RULES: rules(here.train).predict(rows),
        "cqr": calibrated.predict(rows),
        ORACLE: oracle_quantiles(here.world, rows, draws=100),
    }
    return compare(rows, made).reset_index()[["model", *METRICS]]


def sizes(
    seed: int = CHOSEN_ON[0], counts: Sequence[int] = (5_000, 10_000, 20_000, 40_000)
) -> pd.DataFrame:
    """Score the rungs in one world by the number of its parcels."""
    parts = [varied(seed, Constants(), n).assign(parcels=n) for n in counts]
    return pd.concat(parts, ignore_index=True)
