"""Case 01: the nightly batch, its fall-back and files, the drift alarm, the cluster."""

from __future__ import annotations

import threading
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from pace import patience, until
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting.feed import repair
from casebook.cases.demand_forecasting.pipeline import (
    BAND,
    FEATURES,
    HORIZON,
    DriftAlarm,
    ForecastRejected,
    Pipeline,
    PipelineFailed,
    check_level,
    check_values,
    daily_errors,
    features_dask,
    lag_features,
    last_week,
    local_cluster,
    retrain_on_drift,
    rows_to_forecast,
    train_dask,
    train_lightgbm,
    write_atomically,
)
from casebook.cases.demand_forecasting.world import DAYS, KEYS, SEED, SHOCK_PHI, World, simulate

DAY = pd.Timedelta(days=1)
END = DAYS[-1] + DAY


@cache
def world(seed: int = SEED) -> World:
    return simulate(seed)


# A small network: two countries, three routes, ten weeks ---------------------------------------

NET = pd.DataFrame(
    {
        "unique_id": ["XX/A/r1", "XX/A/r2", "YY/B/r1"],
        "country": ["XX", "XX", "YY"],
        "depot": ["A", "A", "B"],
        "opens": pd.Timestamp("2024-01-01"),
        "closes": pd.NaT,
    }
)
NET_DAYS = pd.date_range("2024-01-01", periods=70)
NO_HOLIDAYS = pd.DataFrame({"country": ["XX"], "ds": [pd.Timestamp("2020-01-01")]})
TODAY = NET_DAYS[-1] + DAY


def sent(days: pd.DatetimeIndex = NET_DAYS) -> pd.DataFrame:
    """Return the small network's reports without a fault: 100 on Monday to 160 on Sunday."""
    frame = NET[["unique_id"]].merge(pd.Series(days, name="ds"), how="cross")
    frame["y"] = 100 + 10 * frame["ds"].dt.dayofweek
    return frame.assign(received=frame["ds"] + DAY)


def flat(panel: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast 120 parcels: a model that works."""
    return np.full(len(future), 120.0)


def nightly(folder: Path, forecaster=flat, **settings) -> Pipeline:
    return Pipeline(forecaster, NET, NO_HOLIDAYS, folder, **settings)


# What is forecast -----------------------------------------------------------------------------


def test_routes_in_service_are_forecast_while_they_stay_open():
    routes = NET.copy()
    routes.loc[0, "closes"] = TODAY + 10 * DAY
    routes.loc[1, "opens"] = TODAY  # opens today: nothing is known of it
    rows = rows_to_forecast(routes, TODAY, 28)
    assert rows.groupby("unique_id").size().to_dict() == {"XX/A/r1": 10, "YY/B/r1": 28}
    assert rows["ds"].min() == TODAY
    routes.loc[0, "closes"] = TODAY  # closed since this morning
    assert "XX/A/r1" not in set(rows_to_forecast(routes, TODAY, 28)["unique_id"])


def test_the_fallback_repeats_the_same_weekday_of_the_last_week():
    panel = sent()[[*KEYS, "y"]].astype({"y": float})
    panel.loc[panel["ds"] < TODAY - 7 * DAY, "y"] = 0
    future = rows_to_forecast(NET, TODAY, 28)
    expected = 100 + 10 * future["ds"].dt.dayofweek
    np.testing.assert_array_equal(last_week(panel, future), expected)
    mixed, back = future.sample(frac=1, random_state=0), panel.sample(frac=1, random_state=1)
    np.testing.assert_array_equal(last_week(back, mixed), expected[mixed.index])


def test_the_fallback_gives_a_new_route_the_mean_of_its_days():
    panel = sent()[[*KEYS, "y"]]
    young = (panel["unique_id"] == "XX/A/r1") & (panel["ds"] < TODAY - 2 * DAY)
    forecast = last_week(panel[~young], rows_to_forecast(NET, TODAY, 7))
    assert forecast[:7].tolist() == [155, 155, 155, 155, 155, 150, 160]  # Saturday, Sunday seen
    unknown = pd.DataFrame({"unique_id": ["XX/A/r9"], "ds": [TODAY]})
    assert np.isnan(last_week(panel, unknown)).all()


# One run --------------------------------------------------------------------------------------


def test_a_run_writes_one_row_for_each_open_route_and_day(tmp_path):
    pipeline = nightly(tmp_path)
    run = pipeline.run(sent(), TODAY)
    assert (run.day, run.source, run.log) == (TODAY, "flat", ())
    assert 0 < run.seconds < 60
    assert_frame_equal(run.forecasts[KEYS], rows_to_forecast(NET, TODAY, HORIZON))
    assert (run.forecasts["y_hat"] == 120).all()
    stored = pd.read_parquet(tmp_path / "forecast_2024-03-11.parquet")
    assert_frame_equal(stored, run.forecasts.assign(source="flat"))
    assert [path.name for path in tmp_path.iterdir()] == ["forecast_2024-03-11.parquet"]


def test_the_forecaster_sees_the_past_and_the_rows_to_forecast(tmp_path):
    seen = {}

    def spy(panel, future):
        seen.update(panel=panel, future=future)
        return flat(panel, future)

    known = sent(NET_DAYS)
    later = sent(NET_DAYS[-3:] + 3 * DAY).assign(y=10**6)
    nightly(tmp_path, spy).run(pd.concat([known, later]), TODAY)
    assert list(seen["future"].columns) == KEYS and list(seen["panel"].columns) == [*KEYS, "y"]
    assert_frame_equal(seen["panel"], known[[*KEYS, "y"]].astype({"y": float}))


def test_rows_that_break_the_contract_go_into_quarantine_and_the_run_goes_on(tmp_path):
    reports = sent().astype({"y": object})
    reports.loc[reports.index[-1], "y"] = "n/a"
    reports.loc[reports.index[-2], "y"] = -5
    pipeline = nightly(tmp_path, last_week)
    run = pipeline.run(reports, TODAY)
    assert run.source == "last_week" and len(run.forecasts) == 84
    assert [line.split(",")[0] for line in run.log] == [
        "quarantined: y is no number: 1 row",
        "quarantined: y is negative: 1 row",
        "repaired: missing depot",
    ]
    stored = pd.read_parquet(pipeline.quarantine(TODAY))
    assert stored["y"].tolist() == ["-5", "n/a"]
    assert stored["ds"].tolist() == ["2024-03-09", "2024-03-10"]


def test_recent_repairs_are_one_line_for_each_fault(tmp_path):
    reports = sent()
    old, new = reports["ds"] == "2024-01-20", reports["ds"] == "2024-03-05"
    missing = (old | new) & (reports["unique_id"] != "YY/B/r1")
    twice = reports[new & (reports["unique_id"] == "YY/B/r1")]
    run = nightly(tmp_path).run(pd.concat([reports[~missing], twice]), TODAY)
    assert run.log == (
        "repaired: duplicated, 1 row of the last 28 days, the last YY/B/r1 on 2024-03-05",
        "repaired: missing depot, 2 rows of the last 28 days, the last XX/A/r2 on 2024-03-05",
    )


def test_a_route_that_opens_within_the_horizon_is_named(tmp_path):
    routes = NET.assign(opens=[NET_DAYS[0], TODAY + 3 * DAY, NET_DAYS[0]])
    reports = sent().query("unique_id != 'XX/A/r2'")
    run = Pipeline(flat, routes, NO_HOLIDAYS, tmp_path).run(reports, TODAY)
    assert run.log == ("no forecast: XX/A/r2 opens on 2024-03-14 and has no history",)
    assert len(run.forecasts) == 56


# The fall-back --------------------------------------------------------------------------------


def missing_feature(panel, future):
    return future["promoted"].to_numpy()


def mutating(panel, future):
    panel["y"], future["ds"] = -1.0, pd.NaT
    raise RuntimeError("after it spoilt its input")


def one_country_at_zero(panel, future):
    return np.where(future["unique_id"].str.startswith("YY"), 0.0, 120.0)


#: What the model does, and how the one line of the log goes on after the fall-back's name.
FAULTS = {
    "no model": (None, "LookupError: there is no model"),
    "no feature": (missing_feature, "KeyError: 'promoted'"),
    "raises": (mutating, "RuntimeError: after it spoilt its input"),
    "missing": (
        lambda p, f: np.where(np.arange(84) < 3, np.nan, 1.0),
        "ForecastRejected: 3 of 84 forecasts are not finite, first XX/A/r1 on 2024-03-11",
    ),
    "infinite": (lambda p, f: np.full(84, np.inf), "ForecastRejected: 84 of 84 forecasts are not"),
    "negative": (
        lambda p, f: np.append(flat(p, f)[1:], -1),
        "ForecastRejected: 1 of 84 forecasts are negative, first YY/B/r1 on 2024-04-07",
    ),
    "too few": (lambda p, f: np.ones(3), "ForecastRejected: forecasts of shape (3,) for 84 rows"),
    "no numbers": (lambda p, f: np.full(84, "many"), "ValueError: could not convert string"),
    "in hundreds": (
        lambda p, f: flat(p, f) / 100,
        "ForecastRejected: the forecast for XX is 0.01 times the last 28 days, outside 0.4 to 2.5 "
        "(2 of 2 countries are)",
    ),
    "ten times": (lambda p, f: 10 * flat(p, f), "ForecastRejected: the forecast for XX is 9.23"),
    "one country": (
        one_country_at_zero,
        "ForecastRejected: the forecast for YY is 0.00 times the last 28 days, outside 0.4 to 2.5 "
        "(1 of 2 countries are)",
    ),
    "too slow": (lambda p, f: time.sleep(patience(2)), "TimeoutError: no answer within 0.5 s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fallback_answers_and_one_line_says_why(tmp_path, fault):
    forecaster, reason = FAULTS[fault]
    limit = 0.5 if fault == "too slow" else patience(20)
    run = nightly(tmp_path, forecaster, time_limit=limit).run(sent(), TODAY)
    assert run.source == "last_week"
    (line,) = run.log
    assert line.startswith(f"fell back to last_week: {reason}")
    expected = 100.0 + 10 * run.forecasts["ds"].dt.dayofweek
    assert (run.forecasts["y_hat"] == expected).all()
    assert set(pd.read_parquet(tmp_path / "forecast_2024-03-11.parquet")["source"]) == {"last_week"}


def test_an_answer_after_its_time_changes_nothing(tmp_path):
    go, answered = threading.Event(), threading.Event()

    def slow(panel, future):
        assert go.wait(patience(60))
        answered.set()
        return flat(panel, future)

    pipeline = nightly(tmp_path, slow, time_limit=0.1)
    before_it_goes_on = threading.active_count()
    assert pipeline.run(sent(), TODAY).source == "last_week"
    before = pipeline.path(TODAY).read_bytes()
    go.set()
    assert answered.wait(patience(10))
    until(lambda: threading.active_count() <= before_it_goes_on, "the late answer", 10)
    assert pipeline.path(TODAY).read_bytes() == before
    assert nightly(tmp_path, slow, time_limit=patience(20)).run(sent(), TODAY).source == "slow"


def broken(panel, future):
    raise OSError("no disk")


def test_without_any_answer_the_run_fails_and_the_last_file_stays(tmp_path):
    pipeline = nightly(tmp_path)
    pipeline.run(sent(), TODAY)
    before = pipeline.path(TODAY).read_bytes()
    both = nightly(tmp_path, broken, fallback=lambda p, f: np.full(len(f), np.nan))
    with pytest.raises(PipelineFailed, match=r"OSError: no disk; and the fall-back failed: 84 of"):
        both.run(sent(), TODAY)
    late = sent().assign(received=TODAY + DAY)
    with pytest.raises(PipelineFailed, match="no forecast for 2024-03-11: no report had arrived"):
        pipeline.run(late, TODAY)
    with pytest.raises(PipelineFailed, match="no dates of arrival"):
        pipeline.run(sent().drop(columns="received"), TODAY)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_a_country_that_closes_does_not_stop_the_others(tmp_path):
    routes = NET.assign(closes=[pd.NaT, pd.NaT, TODAY])
    run = Pipeline(partial(flat), routes, NO_HOLIDAYS, tmp_path).run(sent(), TODAY)
    assert (run.source, run.log) == ("flat", ())
    assert set(run.forecasts["unique_id"]) == {"XX/A/r1", "XX/A/r2"}


def test_values_in_the_right_form_pass():
    future = rows_to_forecast(NET, TODAY, 2)
    assert check_values([0, 1, 2, 3, 4, 5.5], future).tolist() == [0, 1, 2, 3, 4, 5.5]


@pytest.mark.parametrize("seed", [SEED, 1, 2])
def test_what_really_came_lies_in_the_band(seed):
    """Over the seeds 2026 and 1 to 10 a country's ratio lay between 0.59 and 1.91."""
    truth, routes = world(seed).truth, world(seed).routes
    for day in pd.date_range("2021-02-01", END - HORIZON * DAY, freq="14D"):
        ahead = truth[truth["ds"].between(day, day + (HORIZON - 1) * DAY)]
        recent = truth[truth["ds"].between(day - HORIZON * DAY, day - DAY)]
        check_level(ahead.rename(columns={"y": "y_hat"}), recent, routes)
        with pytest.raises(ForecastRejected):
            check_level(ahead.assign(y_hat=ahead["y"] * 5), recent, routes)
    assert BAND == (0.4, 2.5)


# Files ----------------------------------------------------------------------------------------


def test_a_second_run_makes_the_same_file_whatever_has_come_since(tmp_path):
    pipeline = nightly(tmp_path, last_week)
    pipeline.run(sent(), TODAY)
    first = pipeline.path(TODAY).read_bytes()
    pipeline.run(sent(), TODAY)
    assert pipeline.path(TODAY).read_bytes() == first
    later = sent(NET_DAYS + 5 * DAY).query("received > @TODAY").assign(y=7)
    pipeline.run(pd.concat([later, sent()]), TODAY)
    assert pipeline.path(TODAY).read_bytes() == first
    pipeline.run(pd.concat([later, sent()]), TODAY + 5 * DAY)
    assert pipeline.path(TODAY).read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 2


OLD, NEW = pd.DataFrame({"y_hat": [1.0]}), pd.DataFrame({"y_hat": np.arange(10_000.0)})


def half_written(frame, path, **options):
    """Stand in for ``to_parquet`` on a disk that fills up."""
    if hasattr(path, "write"):
        path.write(b"PAR1")
    else:
        Path(path).write_bytes(b"PAR1")
    raise OSError("no space left")


def test_a_table_that_is_half_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "forecast.parquet"
    write_atomically(OLD, path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(pd.DataFrame, "to_parquet", half_written)
        write_atomically(NEW, path)
    assert_frame_equal(pd.read_parquet(path), OLD)
    write_atomically(NEW, path)
    assert_frame_equal(pd.read_parquet(path), NEW)


def test_a_night_of_the_world(tmp_path):
    """A whole night but for the model: the planning run 28 days before the end."""
    known, day = world(), END - 28 * DAY
    run = Pipeline(last_week, known.routes, known.calendar, tmp_path).run(known.reports, day)
    expected = known.truth[known.truth["ds"] >= day]
    opening = known.routes[known.routes["opens"] >= day]
    expected = expected[~expected["unique_id"].isin(opening["unique_id"])]
    assert_frame_equal(run.forecasts[KEYS], expected[KEYS].sort_values(KEYS, ignore_index=True))
    kinds = [line.split(",")[0] for line in run.log]
    assert "repaired: missing depot" in kinds  # the late file of a country, not there yet
    assert run.seconds < 4  # 0.8 s where it was written


# Errors by day --------------------------------------------------------------------------------


def forecast_log(**columns) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    return frame.assign(origin=pd.to_datetime(frame["origin"]), ds=pd.to_datetime(frame["ds"]))


def test_a_days_error_pools_the_runs_that_had_forecast_it():
    forecasts = forecast_log(
        origin=["2024-01-01", "2024-01-01", "2024-01-02", "2024-01-01", "2024-01-02", "2024-01-02"],
        unique_id=["XX/A/r1", "XX/A/r2", "XX/A/r1", "YY/B/r1", "XX/A/r2", "YY/B/r1"],
        ds=["2024-01-02"] * 6,
        y_hat=[90.0, 130.0, 140.0, 50.0, 100.0, 110.0],
    )
    panel = sent()[[*KEYS, "y"]].assign(y=100.0)
    errors = daily_errors(forecasts, panel, NET, NO_HOLIDAYS)
    assert errors.index.tolist() == [pd.Timestamp("2024-01-02")]
    # XX: the runs say 220 and 240 for 200 parcels; errors within a country may cancel.
    assert errors.loc["2024-01-02"].to_dict() == {"XX": (20 + 40) / 400, "YY": (50 + 10) / 200}
    first_only = daily_errors(forecasts, panel, NET, NO_HOLIDAYS, leads=1)
    assert first_only.loc["2024-01-02"].to_dict() == {"XX": 0.2, "YY": 0.1}


def test_holidays_and_days_without_a_forecast_have_no_error():
    forecasts = forecast_log(
        origin=["2024-01-01"] * 2, unique_id=["XX/A/r1"] * 2, ds=["2024-01-01", "2024-01-03"],
        y_hat=[90.0, 90.0],
    )  # fmt: skip
    calendar = pd.DataFrame({"country": ["XX", "YY"], "ds": pd.to_datetime(["2024-01-03"] * 2)})
    errors = daily_errors(forecasts, sent()[[*KEYS, "y"]], NET, calendar)["XX"]
    assert errors.isna().tolist() == [False, True, True]
    with pytest.raises(ValueError, match="no parcels are known yet for forecasts of 1 to 7 days"):
        daily_errors(forecasts.assign(ds=TODAY + DAY), sent()[[*KEYS, "y"]], NET, calendar)


# The alarm ------------------------------------------------------------------------------------


def errors_of(values, start: str = "2024-01-01") -> pd.Series:
    return pd.Series(values, pd.date_range(start, periods=len(values)), dtype=float)


QUIET = [0.05] * 120


def test_the_sum_grows_by_the_excess_over_the_usual_error():
    path = DriftAlarm().path(errors_of([*QUIET, 0.175, 0.2, 0.05, 0.225, 0.225]))
    assert path["usual"].iloc[-1] == pytest.approx(0.05)
    # Ratios 3.5, 4, 1, 4.5, 4.5; each less 1 and the slack of 2; never below 0.
    np.testing.assert_allclose(path["sum"].iloc[-5:], [0.5, 1.5, 0, 1.5, 3.0], atol=1e-9)
    assert not path["fires"].any()


def test_the_alarm_fires_and_then_rests_for_the_cool_down():
    errors = errors_of([*QUIET, *[0.3] * 60])
    path = DriftAlarm().path(errors)
    fires = path.index[path["fires"]]
    assert fires[0] == errors.index[121]  # 2 a day: the second day passes 3
    assert (fires[1] - fires[0]).days == 28 + 2
    assert DriftAlarm().retrain_due(errors) == fires[0]
    assert DriftAlarm().retrain_due(errors.iloc[:121]) is None
    assert DriftAlarm().retrain_due(errors, retrained=errors.index[121]) == fires[1]


def test_one_day_cannot_fire_alone_however_large():
    assert DriftAlarm().retrain_due(errors_of([*QUIET, 50.0, *QUIET])) is None


def test_days_without_an_error_add_nothing_and_take_nothing():
    errors = errors_of([*QUIET, 0.3, np.nan, np.nan, 0.3])
    assert DriftAlarm().retrain_due(errors) == errors.index[-1]
    assert DriftAlarm().retrain_due(errors.dropna()) == errors.index[-1]


def test_a_short_history_does_not_fire():
    assert DriftAlarm().retrain_due(errors_of([0.05] * 40 + [0.5] * 10)) is None


def check_that_a_sum_depends_on_days_up_to_it(alarm: DriftAlarm) -> None:
    rng = np.random.default_rng(0)
    errors = errors_of(np.abs(rng.normal(0, 0.1, 400)))
    whole = alarm.path(errors)
    assert whole["fires"].sum() >= 2
    for n in (150, 233, 399):
        assert_frame_equal(alarm.path(errors.iloc[:n]), whole.iloc[:n])
    assert_frame_equal(alarm.path(errors.sample(frac=1, random_state=0)), whole)


def test_a_days_sum_depends_on_days_up_to_it_only():
    check_that_a_sum_depends_on_days_up_to_it(DriftAlarm(limit=1))


def test_the_check_catches_an_alarm_that_takes_the_usual_from_later_days():
    with pytest.raises(AssertionError):
        check_that_a_sum_depends_on_days_up_to_it(DriftAlarm(limit=1, gap=-3))


def test_errors_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="index them by their day"):
        DriftAlarm().path(pd.Series([0.1, 0.2]))
    with pytest.raises(ValueError, match="an error is negative on 2024-01-02: pass WAPE"):
        DriftAlarm().path(errors_of([0.1, -0.2]))


def test_a_fire_starts_one_retraining_for_all_countries_that_fire():
    """Night after night on all errors so far: the drift of both countries is one retraining."""
    errors = pd.DataFrame(
        {"XX": [*QUIET, *[0.3] * 20, *QUIET], "YY": [*QUIET, *[0.25] * 20, *QUIET], "ZZ": 0.05},
        index=pd.date_range("2024-01-01", periods=260),
    )
    calls, retrained = [], None
    for n in range(60, len(errors)):
        retrained = retrain_on_drift(
            DriftAlarm(),
            errors.iloc[:n],
            lambda day, countries: calls.append((day, countries)),
            retrained,
        )
    assert calls == [(errors.index[121], ["XX", "YY"])]
    assert retrained == errors.index[121]
    for n in range(120, 130):  # a job that forgets its last retraining starts one each night
        retrain_on_drift(DriftAlarm(), errors.iloc[:n], lambda *call: calls.append(call))
    assert len(calls) > 5


# The alarm in the world -----------------------------------------------------------------------


def by_country(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    country = frame["unique_id"].str[:2].rename("unique_id")
    return frame[column].groupby([frame["ds"], country]).sum().unstack().astype(float)


def nightly_runs(y: pd.DataFrame, base: pd.DataFrame, leads: int = 7) -> pd.DataFrame:
    """Return what a good model would have forecast each night for each country's total.

    It stands in for the chapter's model, which would take minutes a seed: it knows season,
    holidays and promotions, and takes the level from the same weekdays of the last four weeks
    and from how far the last week lay above them. Shocks and the break it has to learn.
    """
    log = np.log(y.clip(lower=1) / base).to_numpy()
    weeks = sliding_window_view(log, 28, axis=0)[:-1].reshape(-1, log.shape[1], 4, 7)
    usual = weeks.mean(axis=2)
    lately = (weeks[:, :, 3] - usual).mean(axis=2)
    runs = []
    for ahead in range(leads):
        origins = y.index[28 : len(y) - ahead].rename("origin")
        level = usual[: len(origins), :, ahead % 7]
        level = level + SHOCK_PHI ** (ahead + 4) * lately[: len(origins)]
        values = pd.DataFrame(
            base.iloc[28 + ahead :].to_numpy() * np.exp(level), origins, y.columns
        )
        runs.append(values.stack().rename("y_hat").reset_index())
        runs[-1]["ds"] = runs[-1]["origin"] + ahead * DAY
    return pd.concat(runs)


def errors_by_country(seed: int, y: pd.DataFrame, leads: int = 7) -> pd.DataFrame:
    runs = nightly_runs(y, by_country(world(seed).truth, "base"), leads)
    names = pd.DataFrame({"unique_id": y.columns, "country": y.columns})
    panel = y.stack().rename("y").reset_index()
    return daily_errors(runs, panel, names, world(seed).calendar, leads)


@cache
def world_errors(seed: int, leads: int = 7) -> pd.DataFrame:
    return errors_by_country(seed, by_country(world(seed).truth, "y"), leads)


def first_day_of_the_break(seed: int) -> pd.Series:
    broken_days = world(seed).truth.query("jump != 0")
    return broken_days["ds"].groupby(broken_days["unique_id"].str[:2]).min()


def delay(errors: pd.Series, start: pd.Timestamp, patience: int = 60) -> float:
    """Return days from a start (day 1) to the alarm, infinite without one in time."""
    # Retrained so long before that the cool-down ends as the change begins.
    fired = DriftAlarm().retrain_due(errors[: start + patience * DAY], start - 29 * DAY)
    return np.inf if fired is None else (fired - start).days + 1


ALARM_SEEDS = [SEED, 1, 2, 3, 4]
QUIET_SINCE = "2023-04-01"


def test_false_alarms_are_about_one_a_year_and_country():
    """Over the seeds 2026 and 1 to 20, 0.73 a year and country; over these five 0.75."""
    fires = years = 0
    for seed in ALARM_SEEDS:
        for country in (errors := world_errors(seed)):
            quiet = DriftAlarm().path(errors[country])[QUIET_SINCE:]
            fires, years = fires + quiet["fires"].sum(), years + len(quiet) / 365.25
    assert years > 37
    assert 0.4 < fires / years < 1.0


def test_the_break_is_noticed_within_days():
    """Seeds 2026 and 1 to 20: median 2 days, nine of ten within 6, 122 of 126 within 14."""
    delays = pd.DataFrame(
        {
            seed: {c: delay(world_errors(seed)[c], day) for c, day in days.items()}
            for seed in ALARM_SEEDS
            for days in [first_day_of_the_break(seed)]
        }
    )
    assert delays[SEED].to_dict() == {"BR": 6, "DE": 5, "FR": 4, "PL": 2, "TR": 2, "US": np.inf}
    assert np.median(delays) <= 2
    assert (delays <= 7).to_numpy().sum() >= 28  # of 30
    assert (delays.median(axis=1) <= 5).all()  # in each country


def test_the_first_week_ahead_is_a_sharper_measure_than_all_28_days():
    """Of 30 breaks it shows 16 on the second day, 28 days ahead show 12; its usual error is less.

    A LightGBM that learns the level from its lags needs it more: of 18 breaks (seeds 2026, 1 and
    2) 15 were noticed within 14 days by the first week's errors, 7 by those of 28 days.
    """
    soon = {7: 0, 28: 0}
    for leads in soon:
        for seed in ALARM_SEEDS:
            for country, day in first_day_of_the_break(seed).items():
                soon[leads] += delay(world_errors(seed, leads)[country], day) <= 2
    assert soon == {7: 16, 28: 12}
    assert (world_errors(SEED).median() < world_errors(SEED, 28).median()).all()


@pytest.mark.parametrize(
    ("seed", "noticed"), [(SEED, True), (4, True), (5, True), (3, False), (14, False)]
)
def test_hundreds_that_slip_through_are_noticed_only_if_the_depot_is_large(seed, noticed):
    """Seeds 2026 and 1 to 20: within 4 days for all 10 depots with more than a fifth of their
    country, for 2 of 11 smaller ones. The contract is no luxury."""
    known = world(seed)
    wrong = known.faults.query("fault == 'wrong unit'").merge(known.truth, on=KEYS)
    slipped = wrong.merge(known.reports, on=KEYS, suffixes=("", "_sent"))
    country = wrong["unique_id"].iloc[0][:2]
    y = by_country(known.truth, "y")
    lost = (slipped["y"] - slipped["y_sent"]).groupby(slipped["ds"]).sum()
    share = (lost / y.loc[lost.index, country]).mean()
    assert (share > 0.2) == noticed
    y.loc[lost.index, country] -= lost
    days = delay(errors_by_country(seed, y)[country], wrong["ds"].min(), patience=20)
    assert (days <= 4) == noticed


# Features and training ------------------------------------------------------------------------


@cache
def panel() -> pd.DataFrame:
    known = world()
    return repair(known.reports, known.routes, known.calendar, END).panel


def test_lag_features_equal_those_of_pandas():
    features, y = lag_features(panel()), panel().groupby("unique_id")["y"]
    assert list(features.columns) == [*KEYS, "y", *FEATURES]
    for k in (1, 7, 14, 28):
        pd.testing.assert_series_equal(features[f"lag_{k}"], y.shift(k), check_names=False)
    for k in (7, 28):
        means = y.transform(lambda values, k=k: values.shift().rolling(k).mean())
        pd.testing.assert_series_equal(
            features[f"mean_{k}"], means, check_names=False, rtol=0, atol=1e-9
        )
    assert (features["weekday"] == features["ds"].dt.dayofweek).all()


def check_that_features_hold_no_later_day(build) -> None:
    cut = pd.Timestamp("2023-01-01")
    before, same_day = panel()["ds"] < cut, panel()["ds"] == cut
    spoilt = panel().assign(y=panel()["y"].where(before, -1e6))
    expected = build(panel())[FEATURES]
    for rows in (before, same_day):
        assert_frame_equal(build(spoilt).loc[rows, FEATURES], expected[rows], check_exact=True)


def test_features_of_a_day_hold_nothing_of_the_day_or_later():
    check_that_features_hold_no_later_day(lag_features)


@pytest.mark.parametrize("column", ["lag_1", "mean_7"])
def test_the_check_catches_features_that_are_not_shifted(column):
    def leaky(rows):
        features = lag_features(rows)
        return features.assign(**{column: features.groupby("unique_id")[column].shift(-1)})

    with pytest.raises(AssertionError):
        check_that_features_hold_no_later_day(leaky)


def test_features_stand_beside_their_rows_in_any_order_and_under_any_index():
    expected = lag_features(panel())
    mixed = panel().sample(frac=1, random_state=3)
    assert_frame_equal(lag_features(mixed).sort_index(), expected, check_exact=True)
    nameless = mixed.set_axis(np.zeros(len(mixed), int))
    result = lag_features(nameless).sort_values(KEYS, ignore_index=True)
    assert_frame_equal(result, expected, check_exact=True)
    assert list(lag_features(panel().head(0)).columns) == list(expected.columns)


@pytest.mark.parametrize("fault", ["gap", "twice"])
def test_a_gap_or_a_double_day_is_refused(fault):
    rows = panel().head(100)
    spoilt = rows.drop(index=50) if fault == "gap" else pd.concat([rows, rows.iloc[[51]]])
    with pytest.raises(ValueError, match=r"BR/BR1/r1 has no row for the day before .*, or two"):
        lag_features(spoilt)


CUT = pd.Timestamp("2024-04-01")


@cache
def single_machine() -> np.ndarray:
    features = lag_features(panel())
    model = train_lightgbm(features[features["ds"] < CUT])
    return model.predict(features.loc[features["ds"] >= CUT, FEATURES])


@pytest.mark.parametrize(("n_workers", "processes"), [(3, False), (2, True)])
def test_the_cluster_gives_the_features_and_the_model_of_one_machine(n_workers, processes):
    """Features and predictions are equal bit by bit, whatever the number of workers."""
    with local_cluster(n_workers, processes) as client:
        lazy = features_dask(panel().sample(frac=1, random_state=0), client)
        sizes = lazy.map_partitions(len).compute()
        features = lazy.compute().sort_values(KEYS, ignore_index=True)
        model = train_dask(panel()[panel()["ds"] < CUT], client)
    assert len(sizes) == 2 * n_workers and sizes.max() < 2 * sizes.min()
    assert_frame_equal(features, lag_features(panel()), check_exact=True)
    forecast = model.predict(features.loc[features["ds"] >= CUT, FEATURES])
    np.testing.assert_array_equal(forecast, single_machine())


def test_routes_spread_over_the_partitions_of_a_dask_frame_are_brought_together():
    import dask.dataframe as dd

    mixed = panel().head(20_000).sample(frac=1, random_state=1)
    with local_cluster() as client:
        spread = dd.from_pandas(mixed, npartitions=5, sort=False)
        features = features_dask(spread, client).compute()
    features = features.astype({"unique_id": object}).sort_values(KEYS, ignore_index=True)
    assert_frame_equal(features, lag_features(panel().head(20_000)), check_exact=True)


def test_the_cluster_is_closed_by_who_opened_it():
    with local_cluster(1) as client:
        cluster = client.cluster
        features_dask(panel().head(2000), client)
        assert client.status == "running"  # not closed by who only used it
    assert (client.status, cluster.status.name) == ("closed", "closed")
    with pytest.raises(ZeroDivisionError), local_cluster(1) as client:
        raise ZeroDivisionError
    assert client.status == "closed"


@pytest.mark.parametrize("processes", [False, True])
def test_the_cluster_listens_on_the_loopback_address_only(processes):
    with local_cluster(1, processes) as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        me = psutil.Process()
        listening = [
            socket.laddr.ip
            for process in (me, *me.children(recursive=True))
            for socket in process.net_connections("inet")
            if socket.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 3
        assert set(listening) == {"127.0.0.1"}
