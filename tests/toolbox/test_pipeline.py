"""The nightly batch: what it forecasts, refuses, falls back on, writes and says in its log."""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pace import patience, until
from pandas.testing import assert_frame_equal
from small_network import DAY, NET, NET_DAYS, TODAY, sent

from casebook.data.reports import KEYS
from casebook.forecasting.pipeline import (
    DEAD,
    HORIZON,
    Pipeline,
    PipelineFailed,
    last_week,
    rows_to_forecast,
)

#: One holiday a country, outside the ten weeks.
CALENDAR = pd.DataFrame({"country": ["XX", "YY"], "ds": [pd.Timestamp("2023-12-24")] * 2})
OPENS_SOON = NET.assign(opens=[NET_DAYS[0], TODAY + 3 * DAY, NET_DAYS[0]])
WITHOUT_R2 = "unique_id != 'XX/A/r2'"


def flat(panel: pd.DataFrame, future: pd.DataFrame) -> np.ndarray:
    """Forecast 120 parcels: a model that works."""
    return np.full(len(future), 120.0)


def at_once(thread: threading.Thread, seconds: float) -> None:
    """Stand in for the clock: wait for a forecaster that answers, however busy the machine is."""
    thread.join(patience(60))


def nightly(folder: Path, forecaster=flat, routes=NET, calendar=CALENDAR, **settings) -> Pipeline:
    return Pipeline(forecaster, routes, calendar, folder, **{"wait": at_once, **settings})


# What is forecast -----------------------------------------------------------------------------


def test_routes_in_service_are_forecast_while_they_stay_open():
    routes = NET.copy()
    routes.loc[0, "closes"] = TODAY + 10 * DAY
    routes.loc[1, "opens"] = TODAY + 3 * DAY  # nothing is known of it, and staff is needed
    rows = rows_to_forecast(routes, TODAY, 28)
    sizes = {"XX/A/r1": 10, "XX/A/r2": 25, "YY/B/r1": 28}
    assert rows.groupby("unique_id").size().to_dict() == sizes
    assert rows.groupby("unique_id")["ds"].min()["XX/A/r2"] == TODAY + 3 * DAY
    routes.loc[1, "opens"] = TODAY + 28 * DAY
    assert "XX/A/r2" not in set(rows_to_forecast(routes, TODAY, 28)["unique_id"])
    routes.loc[0, "closes"] = TODAY  # closed since this morning
    assert "XX/A/r1" not in set(rows_to_forecast(routes, TODAY, 28)["unique_id"])


# One run --------------------------------------------------------------------------------------


def test_a_run_sees_the_past_and_writes_one_row_for_each_open_route_and_day(tmp_path):
    seen = {}

    def spy(panel, future):
        seen.update(panel=panel, future=future)
        return flat(panel, future)

    known = sent(NET_DAYS)
    later = sent(NET_DAYS[-3:] + 3 * DAY).assign(y=10**6)
    run = nightly(tmp_path, spy).run(pd.concat([known, later]), TODAY)
    assert list(seen["future"].columns) == KEYS and list(seen["panel"].columns) == [*KEYS, "y"]
    assert_frame_equal(seen["panel"], known[[*KEYS, "y"]].astype({"y": float}))
    assert (run.day, run.source, run.log) == (TODAY, "spy", ())
    assert run.seconds > 0
    assert_frame_equal(run.forecasts[KEYS], rows_to_forecast(NET, TODAY, HORIZON))
    assert (run.forecasts["y_hat"] == 120).all()
    (path,) = tmp_path.iterdir()
    assert path.name == "forecast_2024-03-11.parquet"
    assert_frame_equal(pd.read_parquet(path), run.forecasts.assign(source="spy"))


def test_rows_that_break_the_contract_go_into_quarantine_and_the_plan_stays_the_same(tmp_path):
    """A second run of the morning replaces the quarantine of the first."""
    reports, pipeline = sent().astype({"y": object}), nightly(tmp_path, last_week)
    clean = nightly(tmp_path / "clean", last_week).run(sent(), TODAY)
    absurd, negative, none = reports.index[[-1, -2, -9]]
    reports.loc[[absurd, negative, none], "y"] = [10**9, -5, "n/a"]
    run = pipeline.run(reports, TODAY)
    assert run.source == "last_week" and len(run.forecasts) == 84
    assert [line.split(",")[0] for line in run.log] == [
        "quarantined: y is no number: 1 row",
        "quarantined: y is negative: 1 row",
        "quarantined: more than 8 times the route's usual parcels: 1 row",
        "repaired: missing depot",
    ]
    stored = pd.read_parquet(pipeline.quarantine(TODAY))
    assert stored["y"].tolist() == ["n/a", "-5", "1000000000"]
    reasons = ["y is no number", "y is negative", "more than 8 times the route's usual parcels"]
    assert stored["reason"].tolist() == reasons
    assert stored["ds"].tolist() == ["2024-03-02", "2024-03-09", "2024-03-10"]
    assert_frame_equal(run.forecasts, clean.forecasts)
    reports.loc[[absurd, none], "y"] = 10**6, 150
    assert_frame_equal(pipeline.run(reports, TODAY).forecasts, clean.forecasts)
    assert pd.read_parquet(pipeline.quarantine(TODAY))["y"].tolist() == ["-5", "1000000"]
    pipeline.run(sent(), TODAY)
    assert not pipeline.quarantine(TODAY).exists()


def test_a_quarantine_that_cannot_be_written_costs_no_plan(tmp_path):
    pipeline, reports = nightly(tmp_path), sent()
    reports.loc[reports.index[-1], "y"] = -5
    pipeline.quarantine(TODAY).mkdir(parents=True)  # no file can take a folder's place
    run = pipeline.run(reports, TODAY)
    assert run.source == "flat" and pipeline.path(TODAY).exists()
    assert run.log[1].startswith("quarantine: quarantine_2024-03-11.parquet was not written: ")


def test_a_feed_that_is_silent_for_two_weeks_is_dead(tmp_path):
    known = sent()[sent()["ds"] < TODAY - (DEAD + 1) * DAY]
    says = "no depot has sent anything since 2024-02-24, more than 14 days: ask"
    with pytest.raises(PipelineFailed, match=says):
        nightly(tmp_path).run(known, TODAY)
    assert nightly(tmp_path).run(known, TODAY - DAY).source == "flat"
    heard = sent()["unique_id"].eq("YY/B/r1") | sent()["ds"].lt(TODAY - DEAD * DAY)
    assert nightly(tmp_path).run(sent()[heard], TODAY).source == "flat"  # one depot goes on


def some_faults() -> pd.DataFrame:
    """Return reports that lack a depot on an old and a recent day; one recent row came twice."""
    reports = sent()
    old, new = reports["ds"] == "2024-01-20", reports["ds"] == "2024-03-05"
    missing = (old | new) & (reports["unique_id"] != "YY/B/r1")
    return pd.concat([reports[~missing], reports[new & (reports["unique_id"] == "YY/B/r1")]])


#: Reports, the routes of the master data, and all that the log says.
LOGS = {
    "time of day": (
        sent().assign(received=lambda f: f["received"] + pd.Timedelta(hours=5)),
        NET,
        "received: 210 rows have a time of day, each counts from the morning of its day: stamp "
        "the day alone",
    ),
    "recent repairs": (
        some_faults(),
        NET,
        "repaired: duplicated, 1 row of the last 28 days, the last YY/B/r1 on 2024-03-05",
        "repaired: missing depot, 2 rows of the last 28 days, the last XX/A/r2 on 2024-03-05",
    ),
    "opens soon": (
        sent().query(WITHOUT_R2),
        OPENS_SOON,
        "new: XX/A/r2 opens on 2024-03-14 and has no history",
    ),
    "never reported": (
        sent().query(WITHOUT_R2),
        NET,
        "repaired: missing route, 28 rows of the last 28 days, the last XX/A/r2 on 2024-03-10",
        "new: XX/A/r2 is in service and never reported",
    ),
    "a country closes": (sent(), NET.assign(closes=[pd.NaT, pd.NaT, TODAY])),
}


@pytest.mark.parametrize("what", LOGS)
def test_the_log_names_what_the_night_met_and_the_fallback_answers_too(tmp_path, what):
    reports, routes, *log = LOGS[what]
    run = nightly(tmp_path, partial(flat), routes=routes).run(reports, TODAY)
    assert (run.source, list(run.log)) == ("flat", log)
    assert_frame_equal(run.forecasts[KEYS], rows_to_forecast(routes, TODAY, HORIZON))
    assert (run.forecasts["y_hat"] == 120).all()
    back = nightly(tmp_path, None, routes=routes).run(reports, TODAY)
    usual = 100.0 + 10 * back.forecasts["ds"].dt.dayofweek
    assert (back.forecasts["y_hat"] == usual).all()  # a new route is forecast like its depot


# The fall-back --------------------------------------------------------------------------------


def missing_feature(panel, future):
    return future["promoted"].to_numpy()


def mutating(panel, future):
    panel["y"], future["ds"] = -1.0, pd.NaT
    raise RuntimeError("after it spoilt its input")


FAR = "times its last 28 clean days, outside 0.25 to 4"
REJECTED = "ForecastRejected: "
#: What the model does, and how the one line of the log goes on after the fall-back's name.
FAULTS = {
    "no model": (None, "LookupError: there is no model"),
    "no feature": (missing_feature, "KeyError: 'promoted'"),
    "raises": (mutating, "RuntimeError: after it spoilt its input"),
    "missing": (
        lambda p, f: np.where(np.arange(84) < 3, np.nan, 1.0),
        REJECTED + "3 of 84 forecasts are not finite, first XX/A/r1 on 2024-03-11",
    ),
    "ends its thread": (lambda p, f: sys.exit(3), "RuntimeError: ended with SystemExit 3"),
    "no numbers": (lambda p, f: np.full(84, "many"), "ValueError: could not convert string"),
    "in hundreds": (
        lambda p, f: flat(p, f) / 100,
        REJECTED + f"the forecast for XX/A is 0.01 {FAR} (4 of 4 depots and countries are)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fallback_answers_and_one_line_says_why(tmp_path, fault):
    forecaster, reason = FAULTS[fault]
    run = nightly(tmp_path, forecaster).run(sent(), TODAY)
    assert run.source == "last_week"
    (line,) = run.log
    assert line.startswith(f"fell back to last_week: {reason}")
    expected = 100.0 + 10 * run.forecasts["ds"].dt.dayofweek
    assert (run.forecasts["y_hat"] == expected).all()
    assert set(pd.read_parquet(tmp_path / "forecast_2024-03-11.parquet")["source"]) == {"last_week"}


def test_an_answer_after_its_time_changes_nothing(tmp_path):
    """The test's clock says that the time is up before the forecaster may go on."""
    go, threads = threading.Event(), []

    def slow(panel, future):
        assert go.wait(patience(60))
        return flat(panel, future)

    pipeline = nightly(tmp_path, slow, time_limit=7, wait=lambda thread, s: threads.append(thread))
    run = pipeline.run(sent(), TODAY)
    assert run.source == "last_week"
    assert run.log == ("fell back to last_week: TimeoutError: no answer within 7 s",)
    before = pipeline.path(TODAY).read_bytes()
    go.set()
    until(lambda: not threads[0].is_alive(), "the late answer", 10)
    assert pipeline.path(TODAY).read_bytes() == before
    assert nightly(tmp_path, slow).run(sent(), TODAY).source == "slow"


def test_a_depot_without_parcels_for_a_week_does_not_cost_the_others_their_fallback(tmp_path):
    week, first = sent()["ds"] >= TODAY - 7 * DAY, sent()["unique_id"].str.startswith("YY")
    reports = sent().assign(y=lambda f: 10 * f["y"])  # too many for a rounding to hide them
    run = nightly(tmp_path, None).run(reports.assign(y=reports["y"].mask(week & first, 0)), TODAY)
    says = "held: the forecast for YY/B is 0.00 times its last 28 clean days"
    assert run.source == "last_week" and run.log[1].startswith(says) and len(run.log) == 2
    usual = 1000.0 + 100 * run.forecasts["ds"].dt.dayofweek
    held = run.forecasts["unique_id"].str.startswith("YY")
    np.testing.assert_allclose(run.forecasts["y_hat"], usual.mask(held, 0.75 * usual))
    whole = nightly(tmp_path / "whole", None)  # a whole network without parcels is not held
    with pytest.raises(PipelineFailed, match="no model; and the fall-back failed: the forecast"):
        whole.run(reports.assign(y=reports["y"].mask(week, 0)), TODAY)
    assert not whole.path(TODAY).exists()


def broken(panel, future):
    raise OSError("no disk")


def test_without_any_answer_the_run_fails_and_the_last_file_stays(tmp_path):
    pipeline = nightly(tmp_path)
    pipeline.run(sent(), TODAY)
    before = pipeline.path(TODAY).read_bytes()
    for forecaster, fallback, says in (
        (None, lambda p, f: sys.exit(3), "the fall-back failed: ended with SystemExit 3"),
        (broken, lambda p, f: np.full(len(f), np.nan), "no disk; and the fall-back failed: 84 of"),
        (None, lambda p, f: 100 * flat(p, f), "fall-back failed: the forecast for XX/A is 92.31"),
    ):
        with pytest.raises(PipelineFailed, match=says):
            nightly(tmp_path, forecaster, fallback=fallback).run(sent(), TODAY)
    with pytest.raises(PipelineFailed, match="no dates of arrival"):
        pipeline.run(sent().drop(columns="received"), TODAY)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


# Bad input ------------------------------------------------------------------------------------


#: Tables that a night cannot start from: columns of the reports, other settings, what is said.
HOPELESS = {
    "days as text": ({"ds": sent()["ds"].astype(str)}, {}, "all rows were refused: ds holds"),
    "days with a zone": ({"ds": sent()["ds"].dt.tz_localize("UTC")}, {}, "ds holds datetime64"),
    "negative": ({"y": -1}, {}, "all rows were refused"),
    "no counts": ({"y": None}, {}, "column 'y' is missing: 210 rows, first"),
    "no ids": ({"unique_id": None}, {}, "column 'unique_id' is missing: 210 rows"),
    "nothing yet": ({"received": TODAY + DAY}, {}, "no report had arrived by 2024-03-11"),
    "one route": ({"unique_id": "XX/A/r1"}, {}, "1 of 3 routes in service, not XX/A/r2: ask the"),
    "no opening": ({}, {"routes": NET.assign(opens=pd.NaT)}, "XX/A/r1 has no opening day: enter"),
    "no calendar": ({}, {"calendar": CALENDAR.head(1)}, "calendar: YY has no holiday"),
    # Near enough to the morning, not to the last day of the plan.
    "it ends too early": (
        {},
        {"calendar": CALENDAR.assign(ds=TODAY - 130 * DAY)},
        "of XX ends too",
    ),
    "a holiday at noon": (
        {},
        {"calendar": CALENDAR.assign(ds=CALENDAR["ds"] + pd.Timedelta(hours=12))},
        "calendar: XX has a holiday at a time of day, 2023-12-24 12:00:00: cut the time off",
    ),
}


@pytest.mark.parametrize("fault", HOPELESS)
def test_what_no_night_can_start_from_fails_with_what_to_do(tmp_path, fault):
    columns, settings, says = HOPELESS[fault]
    reports = sent().drop(columns=[name for name, values in columns.items() if values is None])
    reports = reports.assign(**{k: v for k, v in columns.items() if v is not None})
    with pytest.raises(PipelineFailed, match=f"no forecast for 2024-03-11: .*{says}"):
        nightly(tmp_path, **settings).run(reports, TODAY)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("forecast")]
    if fault == "negative":
        stored = pd.read_parquet(nightly(tmp_path).quarantine(TODAY))
        assert len(stored) == 210 and set(stored["reason"]) == {"y is negative"}


def test_a_country_that_is_silent_for_nine_weeks_keeps_its_level_and_is_named(tmp_path):
    days = pd.date_range("2023-11-01", NET_DAYS[-1])
    reports = sent(days)
    silent = (reports["unique_id"].str[:2] == "YY") & (reports["ds"] >= TODAY - 63 * DAY)
    routes = NET.assign(opens=days[0])
    run = nightly(tmp_path, last_week, routes=routes).run(reports[~silent], TODAY)
    expected = 100 + 10 * run.forecasts["ds"].dt.dayofweek
    np.testing.assert_allclose(run.forecasts["y_hat"], expected)
    assert run.log[-1].startswith("silent: YY/B has sent nothing since 2024-01-07, its plan keeps")


# Files ----------------------------------------------------------------------------------------


def test_a_second_run_makes_the_same_file_whatever_has_come_since(tmp_path):
    pipeline = nightly(tmp_path, last_week)
    pipeline.run(sent(), TODAY)
    first = pipeline.path(TODAY).read_bytes()
    later = sent(NET_DAYS + 5 * DAY).query("received > @TODAY").assign(y=7)
    for reports, day in (
        (sent(), 0),
        (pd.concat([later, sent()]), 0),
        (pd.concat([later, sent()]), 5),
    ):
        pipeline.run(reports, TODAY + day * DAY)
        assert pipeline.path(TODAY).read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 2


def half_written(frame, path, **options):
    """Stand in for ``to_parquet`` on a disk that fills up."""
    path.write(b"PAR1") if hasattr(path, "write") else Path(path).write_bytes(b"PAR1")
    raise OSError("no space left")


def test_a_forecast_that_is_half_written_leaves_the_file_of_before(tmp_path, monkeypatch):
    pipeline = nightly(tmp_path)
    pipeline.run(sent(), TODAY)
    before = pipeline.path(TODAY).read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(pd.DataFrame, "to_parquet", half_written)
        pipeline.run(sent().assign(y=7), TODAY)
    assert pipeline.path(TODAY).read_bytes() == before
