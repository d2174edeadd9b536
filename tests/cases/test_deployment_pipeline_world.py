"""Case 21: what its world promises, measured against the truth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.deployment_pipeline import world
from casebook.cases.deployment_pipeline.world import FEATURES, Constants, Fault, Shift, simulate
from casebook.data import snapshot
from casebook.project import data_dir

STEADY = Constants(wobble=0.0)


@cache
def year(*events, seed: int = 1, days: int = 40, history: int = 20, own: Constants = STEADY):
    shifts = tuple(one for one in events if isinstance(one, Shift))
    faults = tuple(one for one in events if isinstance(one, Fault))
    return simulate(seed, days, shifts, faults, own, history=history)


def days(made, first: int, last: int) -> np.ndarray:
    return made.rows["day"].between(first, last - 1).to_numpy()


def means(made, first: int, last: int) -> pd.Series:
    return np.log1p(made.rows.loc[days(made, first, last), list(FEATURES)]).mean()


def test_the_committed_snapshots_are_what_the_world_makes():
    made = world.snapshots()
    assert made.keys() == {path.name for path in (data_dir() / world.CHAPTER).glob("*.parquet")}
    for name, frame in made.items():
        assert_frame_equal(
            snapshot(world.CHAPTER, name), frame, rtol=1e-6, atol=2e-3, check_dtype=False
        )
    assert sum(path.stat().st_size for path in (data_dir() / world.CHAPTER).glob("*.parquet")) < 2e6


def test_a_seed_is_a_world_and_another_seed_is_another():
    one, again, other = (simulate(seed, 3, *world.plan(seed), history=2) for seed in (5, 5, 6))
    for name in ("rows", "labels", "truth", "events"):
        assert_frame_equal(getattr(one, name), getattr(again, name))
    assert np.isclose(one.rows["amount"], other.rows["amount"]).mean() < 0.01
    assert list(one.rows) == ["day", "at", *FEATURES]
    assert not {"chance", "fraud"} & {*one.rows}


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_the_rate_of_fraud_is_the_one_of_the_constants(seed):
    made = year(seed=seed, days=20, own=Constants())
    assert made.truth["chance"].mean() == pytest.approx(0.0045, rel=0.08)
    counted = made.truth["fraud"].sum()
    expected = made.truth["chance"].sum()
    assert abs(counted - expected) < 4 * np.sqrt(expected)


def test_days_differ_by_the_wobble_and_by_nothing_else():
    sd = {}
    for wobble in (0.0, 0.1):
        made = year(days=120, history=0, own=Constants(n=1_000, wobble=wobble))
        logs = np.log1p(made.rows["amount"])
        sd[wobble] = logs.groupby(made.rows["day"]).mean().std() / logs.std()
    noise = 1 / np.sqrt(1_000)
    assert sd[0.0] == pytest.approx(noise, rel=0.25)
    assert sd[0.1] == pytest.approx(np.hypot(noise, 0.1), rel=0.3)


def test_a_covariate_shift_moves_its_features_by_its_size_and_keeps_the_rule():
    made = year(Shift("covariate", 10, 0.5, ("amount", "tenure")))
    for name in FEATURES:
        logs = np.log1p(made.rows[name])
        before, after = logs[days(made, -20, 10)], logs[days(made, 10, 40)]
        sigma = before[before > 0].std() if name in world.CONTINUOUS else before.std()
        moved = (after.mean() - before.mean()) / sigma
        assert moved == pytest.approx(0.5 * (name in ("amount", "tenure")), abs=0.03), name
    X = made.rows[list(FEATURES)].to_numpy(float)
    assert world.chance(X) == pytest.approx(made.truth["chance"].to_numpy(), rel=1e-3, abs=1e-7)


def test_a_concept_shift_shows_in_the_chances_alone():
    quiet, made = year(), year(Shift("concept", 10, 0.7))
    assert_frame_equal(quiet.rows, made.rows)
    late = days(made, 10, 40)
    chance, before = (one.truth.loc[late, "chance"] for one in (made, quiet))
    base = world.payments()[list(FEATURES)].to_numpy(float)
    for share in (0.0, 1.0):  # days have the noise of a few likely frauds
        assert world.chance(base, share).mean() == pytest.approx(0.0045, rel=0.05)
    assert np.corrcoef(chance, before)[0, 1] < 0.6
    assert (made.truth["chance"] == quiet.truth["chance"])[~late].all()
    half = year(Shift("concept", 10, 0.7), own=replace(STEADY, foreign=0.3)).truth["chance"][late]
    assert np.corrcoef(half, before)[0, 1] > np.corrcoef(chance, before)[0, 1]


def test_a_label_shift_multiplies_the_odds_and_keeps_what_fraud_looks_like():
    made = year(Shift("label", 0, 3.0), own=replace(STEADY, n=4_000))
    late = days(made, 0, 40)
    chance = made.truth["chance"]
    odds = chance[late].mean() / (1 - chance[late].mean())
    usual = chance[~late].mean() / (1 - chance[~late].mean())
    assert odds / usual == pytest.approx(3, rel=0.12)
    X = made.rows[list(FEATURES)]
    for name in ("amount", "device_new", "tenure"):
        looks = [
            np.average(np.log1p(X.loc[part, name]), weights=chance[part]) for part in (late, ~late)
        ]
        assert looks[0] == pytest.approx(looks[1], rel=0.1)


def test_a_season_comes_and_goes_and_a_ramp_grows():
    made = year(Shift("season", 10, 0.4, days=10))
    online = made.rows["online"]
    during, others = online[days(made, 10, 20)].mean(), online[~days(made, 10, 20)].mean()
    assert during > 1.2 * others
    assert online[days(made, 20, 40)].mean() == pytest.approx(others, rel=0.05)
    ramp = Shift("season", 10, 0.4, ramp=4)
    assert [ramp.at(day) for day in (9, 10, 12, 14, 30)] == [0, 0.2, 0.6, 1, 1]


def test_faults_of_the_feed_change_what_is_seen_and_nothing_else():
    faults = (
        Fault("schema", 5, 2, ("device_age",)),
        Fault("unit", 10, 3),
        Fault("stale", 20, 6, ("customer_sum_24h",)),
    )
    quiet, made = year(), year(*faults)
    assert_frame_equal(quiet.truth, made.truth)
    assert_frame_equal(quiet.labels, made.labels)
    changed = (quiet.rows != made.rows).groupby(made.rows["day"]).any()
    assert {*changed.index[changed["device_age"]]} == {5, 6}
    assert made.rows["device_age"].isna().sum() == 2 * STEADY.n
    assert {*changed.index[changed["amount"]]} == {10, 11, 12}
    ratio = made.rows["amount"] / quiet.rows["amount"]
    assert ratio[days(made, 10, 13)].to_numpy() == pytest.approx(100, rel=1e-5)
    assert {*changed.index[changed["customer_sum_24h"]]} == {*range(20, 26)}
    stale, known = days(made, 20, 26), days(made, 19, 20)
    sums = made.rows["customer_sum_24h"]
    assert set(sums[stale]) <= set(sums[known])
    assert sums[stale].median() == pytest.approx(sums[known].median(), rel=0.15)
    pair = made.rows[["customer_sum_24h", "customer_count_24h"]]
    assert abs(pair[stale].corr().iloc[0, 1]) < 0.05 < 0.4 < pair[~stale].corr().iloc[0, 1]
    assert changed.drop(columns=["device_age", "amount", "customer_sum_24h"]).sum().sum() == 0


def test_a_poisoned_week_is_in_the_reports_alone():
    quiet, made = year(), year(Fault("poisoned", 10, 7))
    assert_frame_equal(quiet.rows, made.rows)
    assert_frame_equal(quiet.truth, made.truth)
    week, fraud = days(made, 10, 17), made.truth["fraud"].to_numpy()
    said = made.labels["fraud"].to_numpy()
    assert (said == quiet.labels["fraud"])[~week].all()
    assert said[week & fraud].mean() < 0.25
    assert said[week & ~fraud].sum() > 60
    accused = made.rows[week & said & ~fraud]
    assert (accused["online"] == 1).all()


def test_frauds_are_known_late_some_never_and_silence_waits():
    made = year(days=90, history=0)
    told = made.labels.assign(days=(made.labels["known_at"] - made.rows["at"]).dt.total_seconds())
    told["days"] /= 86_400
    fraud = made.truth["fraud"]
    assert told.loc[told["fraud"], "days"].median() == pytest.approx(12, rel=0.1)
    assert 1 - told.loc[fraud, "fraud"].mean() == pytest.approx(0.06, abs=0.03)
    assert not told.loc[~fraud, "fraud"].any()
    assert (told.loc[~told["fraud"], "days"] - 30).abs().max() < 1e-4
    # those that are known early are nearly all frauds: a trap
    known = made.labels["known_at"] <= world.START + pd.Timedelta(days=60)
    recent = known & (made.rows["day"] > 40)
    assert made.labels.loc[recent, "fraud"].all()


def test_the_oracle_pays_least_and_a_decision_is_priced_by_the_chance():
    made = year()
    chance, amount = made.truth["chance"].to_numpy(), made.truth["amount"].to_numpy()
    best = world.cost(chance, amount, amount, chance)
    for wrong in (np.zeros_like(chance), np.sqrt(chance), np.roll(chance, 1)):
        assert (best <= world.cost(wrong, amount, amount, chance) + 1e-12).all()
    assert world.cost(np.zeros(1), *np.array([[60.0], [60.0], [1.0]])) == pytest.approx([75.0])


def test_a_decision_is_made_with_the_amount_that_was_served():
    """Priced with the true amount for both, cents would cost too little."""
    made = year()
    chance, amount = made.truth["chance"].to_numpy(), made.truth["amount"].to_numpy()
    euros = 1000 * world.cost(chance, amount, amount, chance).mean()
    cents = 1000 * world.cost(chance, 100 * amount, amount, chance).mean()
    assert cents > 1.5 * euros
    none = np.zeros(1), np.array([np.nan]), np.array([60.0]), np.array([0.0])
    assert world.cost(*none) == 0


def test_an_eventful_year_has_one_of_each_kind():
    for seed in range(20):
        shifts, faults = world.plan(seed)
        assert {one.kind for one in shifts} == {*world.SHIFTS}
        assert {one.kind for one in faults} == {*world.FAULTS}
    events = world._events(*world.plan(3), 364)
    assert events["start"].is_monotonic_increasing
    assert {*events["advice"]} == {"retrain", "repair the feed", "wait"}


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Shift("earthquake", 0, 1), "covariate"),
        (lambda: Shift("covariate", 0, 1), "amount"),
        (lambda: Shift("covariate", 0, 1, ("online", "amount")), "online"),
        (lambda: Shift("concept", 0, 1.5), "share"),
        (lambda: Shift("label", 0, 0.0), "positive"),
        (lambda: Fault("unit", 0, 0), "a day or more"),
        (lambda: Fault("unit", 0, 1, ("colour",)), "colour"),
        (lambda: Fault("flood", 0, 1), "schema"),
        (lambda: Constants(n=1), "50 payments"),
        (lambda: simulate(1, 0), "1 after"),
        (lambda: simulate(1, 5, (Shift("label", -3, 2.0),)), "before day 0"),
    ],
)
def test_bad_input_says_what_to_do(made, says):
    with pytest.raises(ValueError, match=says):
        made()
