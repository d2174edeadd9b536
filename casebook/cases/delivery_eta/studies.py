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
from casebook.cases.delivery_eta.evaluation import deciles, jumps, split, with_truth
from casebook.cases.delivery_eta.features import FEATURES, GROUPS, prepare
from casebook.cases.delivery_eta.ladder import route_quantiles, routes, rules, van_quantiles, window
from casebook.cases.delivery_eta.oracle import oracle_quantiles
from casebook.cases.delivery_eta.promise import (
    PROMISE_LEVELS,
    Costs,
    next_working_day,
    outcome,
    policy_table,
)
from casebook.cases.delivery_eta.quantiles import DIRECT, fit
from casebook.cases.delivery_eta.stages import Constants
from casebook.cases.delivery_eta.survival import aft, censoring_bias
from casebook.evaluate import gap
from casebook.evaluate.intervals import Interval, mean_interval
from casebook.evaluate.ranges import adapted, compare, conformalise, follower, losses, score
from casebook.forecasting.quantile_trees import Quantiles

#: Worlds of the headline, and those on which the models' settings were chosen.
SEEDS, CHOSEN_ON = tuple(range(11, 26)), (1, 2, 3)
WINDOW, ROUTES, RULES, MODEL, ORACLE = "window", "routes", "rules", "adaptive", "oracle"
RECENT, DIRECT_QUANTILE = "recent scores", "direct quantile"
#: ``direct`` fits the bare hours, ``lightgbm`` the hours beside the timetable; the four after it
#: correct the latter.
METHODS = (
    WINDOW,
    ROUTES,
    RULES,
    "aft",
    "direct",
    "lightgbm",
    "cqr",
    "cqr by stage",
    RECENT,
    MODEL,
    ORACLE,
)
METRICS = ["n", "coverage", "late", "width", "interval_score", "pinball", "mae"]
SPANS = {
    "quiet": (worlds.CALIBRATION_END, worlds.QUIET_END),
    "storm": (worlds.STORM, worlds.PEAK),
    "peak": (worlds.PEAK, worlds.CUT),
}
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


def forecasts(here: Setting, model: Quantiles, survival: bool = True) -> dict[str, pd.DataFrame]:
    """Return the ladder's forecasts of all test moments, by name; without the oracle's."""
    rows = here.test
    made = {
        WINDOW: window(rows),
        # A stage that no route has seen is left to the window, as in the service.
        ROUTES: routes(here.train).predict(rows).fillna(window(rows)),
        RULES: rules(here.train).predict(rows),
        "direct": fit(here.train, **DIRECT).predict(rows),
        "lightgbm": model.predict(rows),
        "cqr": conformalise(model, here.calibration).predict(rows),
        "cqr by stage": conformalise(model, here.calibration, by="stage").predict(rows),
        # The last scores alone, and with the aim that follows the misses.
        RECENT: adapted(model, follower(model, here.calibration, gamma=0.0), rows),
        MODEL: adapted(model, follower(model, here.calibration), rows),
    }
    if survival:
        # On the day of the training it knows the parcels under way, which the others must drop.
        made["aft"] = aft(here.rows, worlds.TRAIN_END).predict(rows)
    return {name: made[name] for name in METHODS if name in made}


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
        promises=promises(here, model, made).assign(seed=seed),
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
        moved = jumps(rows, forecast).abs()
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
    rows = here.test
    parts = []
    for method, name in (("static", "cqr"), ("adaptive", MODEL)):
        each = losses(rows, made[name])[["covered", "width", "interval_score"]]
        daily = each.groupby(rows["known_at"].dt.normalize().rename("day")).sum()
        daily["n"] = rows.groupby(rows["known_at"].dt.normalize()).size()
        parts.append(daily.reset_index().assign(method=method))
    return pd.concat(parts, ignore_index=True)


def promises(here: Setting, model: Quantiles, made: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Cost the promises at collection in the quiet weeks: by level, each rung in its natural form.

    The window has its last day; routes have their own quantile, rules that of the vans. The model
    has P50 and some of its spreads, and beside that a quantile that is fitted at the costs' level.
    Each rung's ``chosen`` level is its cheapest one of the calibration weeks, of which each half is
    promised with the model's spreads of the other. The oracle's is the cheapest of the quiet weeks.
    """
    known, first = (rows[rows["stage"] == "collected"] for rows in (here.calibration, here.quiet))
    forecast, before = made[MODEL].loc[first.index], model.predict(known)
    odd = known["parcel"] % 2 == 1
    halves = [
        policy_table(known[a], before[a], known[b], before[b], truth="remaining")["cost"]
        for a, b in ((odd, ~odd), (~odd, odd))
    ]
    table = policy_table(first, forecast, known, before)
    parts = [_rung(MODEL, table, halves[0] + halves[1])]
    train = here.train[here.train["stage"] == "collected"]
    for name, learn in ((ROUTES, route_quantiles), (RULES, van_quantiles)):
        days = [_days(rows, learn(train, rows, PROMISE_LEVELS)) for rows in (known, first)]
        chosen = _costs(known, days[0], "remaining")["cost"]
        parts.append(_rung(name, _costs(first, days[1]), chosen))
    level = Costs().quantile
    direct = fit(here.train, levels=(level,)).raw(first)
    single = {
        (WINDOW, 0.0): next_working_day(first["window_high"]),
        (DIRECT_QUANTILE, level): _day(first, pd.Series(direct[:, 0], first.index)),
    }
    for (name, at), day in single.items():
        own = pd.DataFrame({at: outcome(first, day)}).T.rename_axis("level")
        parts.append(_rung(name, own, own["cost"]))
    best = oracle_quantiles(here.world, first, PROMISE_LEVELS).set_axis(PROMISE_LEVELS, axis=1)
    table = _costs(first, _days(first, best))
    return pd.concat([*parts, _rung(ORACLE, table, table["cost"])], ignore_index=True)


def _rung(name: str, table: pd.DataFrame, cost: pd.Series) -> pd.DataFrame:
    """Return a rung's outcomes by level, with the one that a cost chooses."""
    chosen = table.index == cost.idxmin()
    return table.assign(chosen=chosen, model=name).reset_index()


def _days(rows: pd.DataFrame, hours: pd.DataFrame) -> pd.DataFrame:
    """Return the promised day of each moment by level."""
    return pd.DataFrame({level: _day(rows, hours[level]) for level in hours}, rows.index)


def _costs(rows: pd.DataFrame, days: pd.DataFrame, truth: str = "truth") -> pd.DataFrame:
    made = {level: outcome(rows, days[level].to_numpy(), truth=truth) for level in days}
    return pd.DataFrame(made).T.rename_axis("level")


def _day(rows: pd.DataFrame, hours: pd.Series) -> np.ndarray:
    return next_working_day(rows["known_at"] + pd.to_timedelta(hours, unit="h"))


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
    """Return a parcel's forecasts scan by scan: one that its window missed and ours did not.

    The first by number of the quiet weeks' parcels that were scanned at each of the five stages up
    to the van, came six hours or more after the carrier's window, within each of the five
    intervals, of which each is narrower than the one before by a twentieth or more, and the last
    less than a third of the first. Hours since collection.
    """
    hour, rows = pd.Timedelta(hours=1), here.quiet
    made, accepted = forecast.loc[rows.index], rows["accepted_at"]
    scan = (rows["known_at"] - accepted) / hour
    columns = {name: scan + made[name] for name in ("p10", "p50", "p90")}
    ends = {name: (rows[name] - accepted) / hour for name in ("window_low", "window_high")}
    table = rows[["parcel", "stage", "step"]].assign(
        scan_hours=scan, **columns, delivered=scan + rows["truth"], **ends
    )
    inside = table["delivered"].between(table["p10"], table["p90"])
    late = table["delivered"] >= table["window_high"] + 6
    width, parcel = table["p90"] - table["p10"], table["parcel"]
    narrower = ~(width > 0.95 * width.groupby(parcel).shift())
    groups = table.assign(inside=inside & narrower, late=late, width=width).groupby("parcel")
    fits = groups["step"].agg(lambda steps: [*steps] == [0, 1, 2, 3, 4])
    fits &= groups["inside"].all() & groups["late"].all()
    fits &= groups["width"].last() < groups["width"].first() / 3
    if not fits.any():
        return table.iloc[:0].drop(columns="step")
    return table[parcel == fits.idxmax()].drop(columns="step").reset_index(drop=True)


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
