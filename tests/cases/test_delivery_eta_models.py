"""Case 04: the ladder, its corrections, survival, the promise, and how they are scored."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.delivery_eta import world as worlds
from casebook.cases.delivery_eta.evaluation import deciles, split, with_truth
from casebook.cases.delivery_eta.features import prepare
from casebook.cases.delivery_eta.ladder import route_quantiles, routes, rules, van_quantiles, window
from casebook.cases.delivery_eta.oracle import oracle_quantiles
from casebook.cases.delivery_eta.promise import (
    Costs,
    by_level,
    day_after,
    next_working_day,
    outcome,
)
from casebook.cases.delivery_eta.quantiles import fit
from casebook.cases.delivery_eta.stages import VANS, hours
from casebook.cases.delivery_eta.survival import aft
from casebook.evaluate.ranges import (
    compare,
    conformalise,
)
from casebook.evaluate.survival import censored
from casebook.forecasting.quantile_trees import Quantiles


@cache
def world() -> worlds.World:
    return worlds.simulate(4, parcels=8000)


@cache
def every() -> pd.DataFrame:
    here = world()
    return with_truth(prepare(here.scans, here.parcels, here.load), here.truth)


@cache
def parts() -> dict[str, pd.DataFrame]:
    return split(every())


@cache
def model() -> Quantiles:
    return fit(parts()["train"], n_estimators=25)


# Rungs -------------------------------------------------------------------------------


def test_each_rung_is_better_than_the_one_below_and_none_than_the_oracle():
    rows, train = parts()["quiet"], parts()["train"]
    made = {
        "window": window(rows),
        "routes": routes(train).predict(rows),
        "rules": rules(train).predict(rows),
        "cqr": conformalise(model(), parts()["calibration"]).predict(rows),
        "oracle": oracle_quantiles(world(), rows, draws=100),
    }
    found = compare(rows, made)["interval_score"]
    assert list(found.index) == list(made) and found.is_monotonic_decreasing
    assert found["cqr"] < 0.85 * found["routes"] and found["cqr"] < found["rules"]


def test_the_parts_are_in_order_of_time_and_ripe():
    found = parts()
    assert (
        found["train"]["label_at"].max()
        < worlds.TRAIN_END
        <= found["calibration"]["known_at"].min()
    )
    assert found["calibration"]["label_at"].max() < worlds.CALIBRATION_END
    assert found["quiet"]["known_at"].min() >= worlds.CALIBRATION_END
    assert found["rough"]["known_at"].min() >= worlds.QUIET_END
    assert found["quiet"]["truth"].min() > 0


def test_routes_answer_new_zones_and_leave_a_new_stage_to_the_window():
    train, rows = parts()["train"], parts()["quiet"]
    learnt = routes(train)
    new = rows["origin_hub"].eq("H") | rows["destination_hub"].eq("H")
    assert set(learnt.source(rows)[new]) <= {"service", "all"} and new.any()
    unseen = rows.head(3).assign(stage="lost")
    assert set(learnt.source(unseen)) == {"none"} and learnt.predict(unseen).isna().all(axis=None)


# Scores ------------------------------------------------------------------------------


def test_deciles_are_of_equal_size_and_new_routes_stand_apart():
    rows = parts()["quiet"]
    found = deciles(rows, parts()["train"])
    new = rows["origin_hub"].eq("H") | rows["destination_hub"].eq("H")
    assert (found[new] == 0).all() and (found[~new] > 0).all()
    sizes = found[~new].value_counts()
    assert len(sizes) == 10 and sizes.max() - sizes.min() <= 1
    slow = rows.groupby(found)["truth"].median()
    assert slow[10] > slow[1]


# Survival ----------------------------------------------------------------------------


def test_the_regression_hears_the_parcels_under_way():
    """Trained on the last five days alone, a third of the parcels are under way."""
    begin = worlds.TRAIN_END - pd.Timedelta(days=5)
    rows = every()[every()["known_at"].between(begin, worlds.TRAIN_END)]
    known = censored(rows, worlds.TRAIN_END)
    assert 0.1 < (~known["arrived"]).mean() < 0.6
    whole = aft(rows, worlds.TRAIN_END)
    heard = ~np.asarray(whole.model.event_observed, bool)
    assert heard.sum() == (~known["arrived"]).sum()
    deaf = aft(rows[rows["label_at"] < worlds.TRAIN_END], worlds.TRAIN_END)
    first = parts()["quiet"].query("stage == 'collected'").head(300)
    assert whole.predict(first)["p50"].mean() > deaf.predict(first)["p50"].mean() + 2


def test_survival_and_quantile_views_of_the_same_parcels_agree():
    rows = parts()["quiet"].head(400)
    before = every()[every()["known_at"] < worlds.CALIBRATION_END]
    learnt = aft(before, worlds.CALIBRATION_END, 2000)
    made, other = learnt.predict(rows), model().predict(rows)
    assert made.index.equals(rows.index) and np.isfinite(made).all(axis=None)
    assert (np.diff(made, axis=1) >= 0).all()
    assert made["p50"].corr(other["p50"], method="spearman") > 0.9
    assert (made["p50"] - other["p50"]).median() == pytest.approx(0, abs=6)


# The promise -------------------------------------------------------------------------


def test_a_promise_by_hand():
    monday = pd.Timestamp("2025-10-06 12:00")
    rows = pd.DataFrame(
        {
            "known_at": [monday] * 3,
            "accepted_at": [monday] * 3,
            "truth": [20.0, 50.0, 100.0],
            "stage": ["collected"] * 3,
        }
    )
    day = next_working_day(pd.Series([monday + pd.Timedelta(days=2)] * 3))  # Wednesday
    found = outcome(rows, day, Costs(late=4, early=1, asks=0.1, asks_late=0.2, asks_most=0.25))
    # Tuesday is a day early, Wednesday on time, Friday two days late.
    assert (found["late"], found["days_late"], found["days_early"]) == pytest.approx(
        (1 / 3, 2 / 3, 1 / 3)
    )
    assert found["cost"] == pytest.approx((1 + 0 + 8) / 3) and found["promise_days"] == 2
    assert found["contacts"] == pytest.approx(1000 * (0.1 + 0.1 + 0.25) / 3)
    sunday = next_working_day(pd.Series(pd.to_datetime(["2025-10-05 10:00", "2025-10-06 10:00"])))
    assert sunday[0] == sunday[1]


def test_the_cheapest_level_follows_the_costs():
    rows = parts()["quiet"].query("stage == 'collected'")
    hours_ = van_quantiles(parts()["train"], rows, (0.5, 0.8, 0.95))
    days = {level: day_after(rows, hours_[level]) for level in hours_}
    even, expensive = (by_level(rows, days, Costs(late=late)) for late in (1.0, 40.0))
    assert even["cost"].idxmin() < expensive["cost"].idxmin()
    assert even["late"].is_monotonic_decreasing and even["days_early"].is_monotonic_increasing
    assert Costs().quantile == 0.8 and Costs(late=1).quantile == 0.5
    window_ends = outcome(rows, next_working_day(rows["window_high"]), Costs(late=1.0))
    assert window_ends["cost"] > even["cost"].min()


def test_each_rung_promises_in_its_own_form():
    train, rows = (p[p["stage"] == "collected"] for p in (parts()["train"], parts()["quiet"]))
    levels = (0.5, 0.8, 0.95)
    for learn in (route_quantiles, van_quantiles):
        made = learn(train, rows, levels)
        assert list(made) == list(levels) and (np.diff(made, axis=1) >= 0).all()
    vans = van_quantiles(train, rows, levels)
    at = hours(rows["known_at"])[:, None] + vans.to_numpy()
    np.testing.assert_allclose(at, VANS[np.searchsorted(VANS, at - 1e-6)])
    late = [outcome(rows, day_after(rows, vans[level]))["late"] for level in levels]
    assert late == sorted(late, reverse=True) and late[1] <= 0.24
