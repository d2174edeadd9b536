"""Case 00: the promises of its world, and of the audit, the forecasters and the walk-forward."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.how_a_case_works import system
from casebook.cases.how_a_case_works import world as world_module
from casebook.cases.how_a_case_works.system import (
    WithFallback,
    audit,
    lightgbm_global,
    repair,
    seasonal_naive,
    walk_forward,
    with_plan,
)
from casebook.cases.how_a_case_works.world import (
    CAMPAIGN_LIFT,
    CHAPTER,
    PURPOSES,
    QUARTERS,
    STATES,
    World,
    simulate,
    snapshots,
)
from casebook.data import snapshot
from casebook.project import data_dir

KEYS = ["unique_id", "ds"]
PLAN = ("campaign", "campaign_last_year")
SEEDS = [2026, 1, 2, 3, 4]


@pytest.fixture(scope="module")
def world() -> World:
    return simulate()


@pytest.fixture(scope="module")
def panel(world) -> pd.DataFrame:
    """Return the repaired reports with the plan: what the chapter forecasts."""
    return with_plan(repair(world.observed, audit(world.observed)), world.campaigns)


def without_campaigns(monkeypatch, seed: int) -> pd.Series:
    """Return the expected trips of the same world if campaigns had no effect."""
    monkeypatch.setattr(world_module, "CAMPAIGN_LIFT", 0.0)
    return simulate(seed).truth["expected"]


def clean_reports(world: World) -> pd.DataFrame:
    """Return the reports that no fault touched, beside their expectation."""
    both = world.observed.merge(world.truth, on=KEYS)
    faulty = both.merge(world.faults, on=KEYS, how="left")["fault"].notna()
    return both[~faulty]


# The world ---------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_world(world):
    for name in ("observed", "campaigns", "truth", "faults"):
        assert_frame_equal(getattr(simulate(), name), getattr(world, name), check_exact=True)


def test_another_seed_gives_another_world(world):
    other = simulate(1)
    assert not np.isclose(other.truth["expected"], world.truth["expected"]).any()
    assert not other.faults.equals(world.faults)


def test_the_committed_snapshots_are_what_the_world_makes():
    made = snapshots()
    assert made.keys() == {p.name for p in (data_dir() / CHAPTER).glob("*.parquet")}
    for name, frame in made.items():
        assert_frame_equal(snapshot(CHAPTER, name), frame, rtol=1e-9, atol=0)


def test_the_world_has_75_series_of_60_quarters(world):
    assert world.truth["unique_id"].nunique() == 75
    assert (world.truth.groupby("unique_id")["ds"].nunique() == 60).all()
    assert len(world.truth) == 75 * 60
    assert (world.truth["ds"].min(), world.truth["ds"].max()) == (
        pd.Timestamp("2010-01-01"),
        pd.Timestamp("2024-10-01"),
    )


def test_what_a_model_sees_holds_no_truth(world):
    assert list(world.observed.columns) == ["unique_id", "state", "region", "purpose", "ds", "y"]
    assert list(world.campaigns.columns) == ["state", "ds", "campaign"]
    assert list(world.truth.columns) == [*KEYS, "expected"]
    assert list(world.faults.columns) == [*KEYS, "fault"]


def test_a_campaign_lifts_expected_trips_by_exactly_its_share(world, monkeypatch):
    ratio = world.truth["expected"] / without_campaigns(monkeypatch, world_module.SEED)
    state = world.truth["unique_id"].str.split(" ").str[0]
    booked = world.truth.assign(state=state).merge(world.campaigns, how="left")["campaign"]
    np.testing.assert_allclose(ratio, 1 + CAMPAIGN_LIFT * booked, rtol=1e-12)
    assert set(booked) == {0, 1}


@pytest.mark.parametrize("seed", SEEDS)
def test_each_state_books_one_or_two_campaigns_a_year(seed):
    plan = simulate(seed).campaigns
    booked = plan.groupby(["state", plan["ds"].dt.year])["campaign"].sum()
    assert len(booked) == len(STATES) * 15
    assert set(booked) == {1, 2}
    assert not plan.duplicated(["state", "ds"]).any()


def test_growth_is_that_of_the_state_and_changes_once(world, monkeypatch):
    expected = without_campaigns(monkeypatch, world_module.SEED)
    log = np.log(world.truth.assign(expected=expected).pivot(index="ds", columns="unique_id"))
    yearly = log.diff(4).dropna()["expected"]
    for state in STATES:
        growth = yearly.loc[:, yearly.columns.str.startswith(state)]
        assert growth.shape[1] == 15
        assert np.ptp(growth.to_numpy(), axis=1).max() < 1e-9  # the same in every series
        path = growth.iloc[:, 0].to_numpy()
        assert np.ptp(path[:17]) < 1e-9  # constant before the earliest turn …
        assert np.ptp(path[-11:]) < 1e-9  # … and from a year after the latest
        assert abs(path[-1] - path[0]) > 1e-3
        changes = np.flatnonzero(np.abs(np.diff(path)) > 1e-9)
        assert np.ptp(changes) <= 4  # one turn, felt over the year that it falls in


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_seasonal_profile_has_mean_one(purpose):
    assert np.mean(PURPOSES[purpose][1]) == pytest.approx(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_has_mean_one_and_is_larger_for_small_series(seed):
    reports = clean_reports(simulate(seed))
    noise = reports["y"] / reports["expected"]
    assert noise.mean() == pytest.approx(1, abs=0.01)
    small = reports["expected"] < reports["expected"].median()
    assert noise[small].std() > 1.3 * noise[~small].std()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_planted_faults_are_as_many_as_promised_and_old(seed):
    faults = simulate(seed).faults
    counts = faults["fault"].value_counts().to_dict()
    assert counts == {"missing": 12, "duplicated": 8, "wrong unit": 4}
    assert not faults.duplicated(KEYS).any()
    assert (faults["ds"] < QUARTERS[-12].to_timestamp()).all()


def test_the_reports_carry_the_faults(world):
    rows = world.faults.merge(world.observed.merge(world.truth, on=KEYS), on=KEYS, how="left")
    number_of_rows = (
        world.observed.groupby(KEYS).size().reindex(pd.MultiIndex.from_frame(rows[KEYS]))
    )
    expected = rows["fault"].map({"missing": np.nan, "duplicated": 2, "wrong unit": 1})
    np.testing.assert_array_equal(number_of_rows, expected)
    wrong_unit = rows[rows["fault"] == "wrong unit"]
    assert wrong_unit["unique_id"].nunique() == 1
    assert wrong_unit["ds"].diff().dropna().dt.days.between(89, 93).all()  # one stretch
    assert (wrong_unit["y"] / wrong_unit["expected"]).between(300, 3000).all()


# Audit and repair --------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_audit_finds_exactly_the_planted_faults(seed):
    world = simulate(seed)
    found = audit(world.observed).sort_values(KEYS, ignore_index=True)
    assert_frame_equal(found, world.faults.sort_values(KEYS, ignore_index=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_repair_leaves_a_complete_panel_without_faults(seed):
    world = simulate(seed)
    repaired = repair(world.observed, audit(world.observed))
    assert list(repaired.columns) == list(world.observed.columns)
    assert_frame_equal(repaired[KEYS], world.truth[KEYS].sort_values(KEYS, ignore_index=True))
    assert not repaired.isna().any(axis=None)
    assert audit(repaired).empty


@pytest.mark.parametrize("seed", SEEDS)
def test_the_repair_mends_the_units_and_leaves_good_reports_alone(seed):
    world = simulate(seed)
    repaired = repair(world.observed, audit(world.observed)).merge(world.truth, on=KEYS)
    ratio = repaired["y"] / repaired["expected"]
    fault = repaired.merge(world.faults, on=KEYS, how="left")["fault"]
    assert ratio[fault == "wrong unit"].between(0.3, 3).all()
    good = clean_reports(world).merge(repaired, on=KEYS, suffixes=("", "_repaired"))
    assert len(good) == 75 * 60 - 24
    pd.testing.assert_series_equal(good["y"], good["y_repaired"], check_names=False)


def reports(values, series: str = "a", start: str = "2015-01-01") -> pd.DataFrame:
    ds = pd.date_range(start, periods=len(values), freq="QS")
    return pd.DataFrame({"unique_id": series, "ds": ds, "y": np.asarray(values, float)})


def test_the_audit_judges_a_report_by_earlier_ones_only():
    """What is found on the day of a report is found later too: a repaired past is no leak."""
    observed = reports([1] * 8 + [40] * 12)
    later = audit(observed)
    assert later["ds"].tolist() == observed["ds"].iloc[8:15].tolist()  # then 40 is usual
    assert_frame_equal(audit(observed.head(10)), later.head(2))
    assert_frame_equal(audit(observed.sample(frac=1, random_state=0)), later)


def test_a_missing_quarter_takes_the_value_of_a_year_before():
    observed = pd.concat([reports(range(1, 13)).drop(index=[5]), reports([9] * 12, "b")])
    assert audit(observed)["fault"].tolist() == ["missing"]
    repaired = repair(observed, audit(observed)).set_index(KEYS)["y"]
    assert repaired["a", pd.Timestamp("2016-04-01")] == 2


def test_a_missing_first_quarter_takes_the_value_of_a_year_later():
    observed = pd.concat([reports(range(1, 13)).drop(index=[0]), reports([9] * 12, "b")])
    assert repair(observed, audit(observed))["y"].iloc[0] == 5


def test_the_repair_does_not_need_sorted_reports(world):
    mixed = world.observed.sample(frac=1, random_state=0)
    assert_frame_equal(repair(mixed, audit(mixed)), repair(world.observed, audit(world.observed)))


def test_a_quarter_that_is_duplicated_and_in_another_unit_is_repaired_to_one_row():
    observed = reports([10] * 12)
    observed.loc[5, "y"] *= 1000
    observed = pd.concat([observed, observed.loc[[5]]])
    assert set(audit(observed)["fault"]) == {"duplicated", "wrong unit"}
    assert_frame_equal(repair(observed, audit(observed)), reports([10] * 12))


def test_the_plan_stands_beside_the_plan_of_a_year_before(world, panel):
    plan = world.campaigns.set_index(["state", "ds"])["campaign"]
    first_year = panel["ds"].dt.year == 2010
    assert (panel.loc[first_year, "campaign_last_year"] == 0).all()
    for column, years in (("campaign", 0), ("campaign_last_year", 1)):
        rows = panel[~first_year]
        wanted = zip(rows["state"], rows["ds"] - pd.DateOffset(years=years), strict=True)
        assert rows[column].tolist() == [plan[key] for key in wanted]


def test_a_plan_that_books_a_quarter_twice_is_refused(world):
    twice = pd.concat([world.campaigns, world.campaigns.head(1)])
    with pytest.raises(pd.errors.MergeError):
        with_plan(world.observed, twice)


# Forecasters -------------------------------------------------------------------------


def test_seasonal_naive_repeats_the_same_quarter_of_the_last_year():
    train = pd.concat([reports([1, 2, 3, 4, 5, 6, 7, 8]), reports([10, 20, 30, 40], "b", "2016")])
    future = pd.concat([reports([0] * 6, "b", "2017"), reports([0], "a", "2017-07-01")])
    forecast = seasonal_naive(train, future[KEYS])
    assert forecast.tolist() == [10, 20, 30, 40, 10, 20, 7]


def test_seasonal_naive_equals_the_last_season_tiled(panel):
    train, future = panel[panel["ds"] < "2023"], panel[panel["ds"] >= "2023"]
    last = train.pivot(index="unique_id", columns="ds", values="y").to_numpy()[:, -4:]
    np.testing.assert_array_equal(
        seasonal_naive(train, future[KEYS]), np.tile(last, (1, 2)).ravel()
    )


def test_lightgbm_is_deterministic(panel):
    train, future = panel[panel["ds"] < "2024"], panel.loc[panel["ds"] >= "2024", [*KEYS, *PLAN]]
    first = lightgbm_global(train, future)
    np.testing.assert_array_equal(lightgbm_global(train, future), first)
    assert np.isfinite(first).all()


def test_lightgbm_has_learned_what_a_campaign_does(panel):
    train, future = panel[panel["ds"] < "2024"], panel.loc[panel["ds"] >= "2024", [*KEYS, *PLAN]]
    never = lightgbm_global(train, future.assign(campaign=0, campaign_last_year=0))
    ever = lightgbm_global(train, future.assign(campaign=1, campaign_last_year=0))
    assert 1.1 < np.median(ever / never) < 1.5


def broken(train, future):
    raise RuntimeError("the model file is gone")


BAD_FORECASTS = {
    "raises": (broken, "RuntimeError: the model file is gone"),
    "missing": (lambda train, future: np.full(len(future), np.nan), "4 forecasts are missing"),
    "infinite": (lambda train, future: np.full(len(future), np.inf), "4 forecasts are missing"),
    "negative": (lambda train, future: np.array([1.0, 2, -3, 4]), "1 forecasts are missing"),
    "too few": (lambda train, future: np.array([1.0, 2]), "2"),
}


@pytest.mark.parametrize("fault", BAD_FORECASTS)
def test_the_fallback_answers_for_a_primary_that_cannot(fault):
    primary, reason = BAD_FORECASTS[fault]
    forecaster = WithFallback(primary, seasonal_naive)
    future = reports([0] * 4, start="2017")[KEYS]
    assert forecaster(reports(range(1, 9)), future).tolist() == [5, 6, 7, 8]
    (line,) = forecaster.log
    assert line.startswith("fell back to seasonal_naive: ")
    assert reason in line


def test_the_fallback_keeps_quiet_while_the_primary_answers():
    forecaster = WithFallback(seasonal_naive, broken)
    future = reports([0] * 4, start="2017")[KEYS]
    assert forecaster(reports(range(1, 9)), future).tolist() == [5, 6, 7, 8]
    assert forecaster.log == []


# Walk-forward ------------------------------------------------------------------------


class Spy:
    """A forecaster that refuses to see what was not known at its origin."""

    def __init__(self, known: tuple[str, ...] = ()):
        self.known, self.calls = known, []

    def __call__(self, train: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
        origin = future["ds"].min()
        assert train["ds"].max() < origin, "a quarter at or after the origin is in train"
        assert set(future.columns) == {*KEYS, *self.known}, "the future shows too much"
        self.calls.append((train["ds"].max(), origin, future["ds"].max()))
        return np.zeros(len(future))


def test_no_forecaster_sees_its_future(panel):
    spy = Spy(("campaign",))
    walk_forward(panel, {"spy": spy}, n_origins=3, horizon=4, known=("campaign",))
    expected = [(f"{y - 1}-10-01", f"{y}-01-01", f"{y}-10-01") for y in (2022, 2023, 2024)]
    assert spy.calls == [tuple(map(pd.Timestamp, row)) for row in expected]


@pytest.mark.parametrize(
    ("right", "leaky"),
    [
        ('frame["ds"] < origin', 'frame["ds"] <= origin'),
        ('frame[frame["ds"] < origin]', "frame"),
        ('["unique_id", "ds", *known]', '["unique_id", "ds", "y", *known]'),
        ('actual[["unique_id", "ds", *known]]', "actual"),
    ],
    ids=["the origin itself", "everything", "the actuals", "all columns"],
)
def test_the_spy_catches_a_planted_leak(panel, right, leaky):
    source = inspect.getsource(walk_forward)
    assert source.count(right) == 1
    names = dict(vars(system))
    exec(source.replace(right, leaky), names)
    with pytest.raises(AssertionError, match=r"in train|too much"):
        names["walk_forward"](panel, {"spy": Spy()}, n_origins=2)


def test_every_quarter_of_the_horizon_is_forecast_once(panel):
    result = walk_forward(panel, {"spy": Spy()}, n_origins=2, horizon=6)
    assert set(result.columns) == {*KEYS, "origin", "y", "spy"}
    assert len(result) == 75 * 12
    assert not result.duplicated(KEYS).any()
    assert result["ds"].min() == pd.Timestamp("2022-01-01")
    assert result["origin"].unique().tolist() == [
        pd.Timestamp("2022-01-01"),
        pd.Timestamp("2023-07-01"),
    ]
    actual = result.merge(panel, on=KEYS, suffixes=("", "_panel"))
    assert (actual["y"] == actual["y_panel"]).all()


@pytest.mark.parametrize("n_origins", [1, 3])
def test_too_few_quarters_are_refused(panel, n_origins):
    enough = panel["ds"].drop_duplicates().sort_values().iloc[-(16 + 4 * n_origins) :]
    short = panel[panel["ds"] > enough.iloc[0]]
    with pytest.raises(ValueError, match=f"too few for {n_origins} origins of 4 quarters"):
        walk_forward(short, {"spy": Spy()}, n_origins)
    spy = Spy()
    walk_forward(panel[panel["ds"] >= enough.iloc[0]], {"spy": spy}, n_origins)
    assert len(spy.calls) == n_origins


@pytest.mark.parametrize("forecaster", [seasonal_naive, lightgbm_global])
def test_forecasts_stand_beside_their_rows_when_the_panel_is_shuffled(panel, forecaster):
    mixed = panel.sample(frac=1, random_state=7)
    results = [
        walk_forward(frame, {"model": forecaster}, 2, known=PLAN).sort_values(
            KEYS, ignore_index=True
        )
        for frame in (panel, mixed)
    ]
    assert_frame_equal(*results)


@pytest.mark.parametrize("forecaster", [seasonal_naive, lightgbm_global])
def test_forecasts_come_in_the_order_of_the_future_that_was_asked(panel, forecaster):
    train, future = panel[panel["ds"] < "2024"], panel.loc[panel["ds"] >= "2024", [*KEYS, *PLAN]]
    in_order = pd.Series(forecaster(train, future), index=future.index)
    mixed = future.sample(frac=1, random_state=7)
    np.testing.assert_array_equal(forecaster(train, mixed), in_order[mixed.index])
