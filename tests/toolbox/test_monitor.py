"""The alarm on daily errors: when it fires, when it rests, and what a report says of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from casebook.serving.monitor import DriftAlarm, alarm_report, retrain_on_drift


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


def test_the_alarm_sees_a_country_that_sends_nothing_any_more():
    errors = errors_of([*QUIET, *[np.inf] * 5])
    path = DriftAlarm().path(errors)
    assert path["sum"].iloc[-5:-3].tolist() == [2, 4]
    assert DriftAlarm().retrain_due(errors) == errors.index[121]


def test_trainings_by_the_calendar_do_not_renew_the_cool_down():
    """Every 28 days a training; only what the alarm itself started is handed on."""
    errors = pd.DataFrame({"XX": errors_of([*QUIET, *[0.3] * 60])})
    by_calendar, by_alarm, calls = [], None, []
    for n in range(60, len(errors)):
        night = errors.iloc[:n]
        training = errors.index[(n - 1) // 28 * 28]
        by_calendar.append(DriftAlarm().retrain_due(night["XX"], training))
        by_alarm = retrain_on_drift(
            DriftAlarm(), night, lambda day, countries: calls.append(day), by_alarm
        )
    assert set(by_calendar) == {None}  # what the docstring warns of
    assert calls == [errors.index[121], errors.index[151]]


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


def test_the_report_says_from_when_the_alarm_sees_and_when_it_fired():
    noisy = [*QUIET, *[0.3] * 20, *QUIET]
    errors = pd.DataFrame({"XX": noisy, "YY": [*QUIET, *[0.05] * 140], "ZZ": noisy})
    errors.index = pd.date_range("2024-01-01", periods=len(errors))
    broken = errors.index[119]
    report = alarm_report(errors, {"XX": broken, "YY": broken})
    assert report.index.tolist() == ["XX", "YY", "ZZ"]
    # 56 errors are needed, the last of them a week ago.
    assert (report["sees_from"] == errors.index[DriftAlarm().blind - 1]).all()
    assert report.loc["XX", "fired"] == errors.index[121] and report.loc["XX", "delay"] == 2
    assert pd.isna(report.loc["YY", "delay"]) and report.loc["YY", "false_alarms"] == 0
    assert report.loc["ZZ", "false_alarms"] == 1  # nothing broke there
    years = (len(errors) - DriftAlarm().blind + 1) / 365.25
    assert report.loc["ZZ", "false_per_year"] == pytest.approx(1 / years)


def test_a_break_before_the_alarm_sees_is_missed_or_found_late():
    errors = pd.DataFrame({"XX": errors_of([*[0.05] * 20, *[0.3] * 200])})
    report = alarm_report(errors, {"XX": errors.index[20]})
    assert pd.isna(report.loc["XX", "delay"]) and report.loc["XX", "years"] == 0
    assert np.isnan(report.loc["XX", "false_per_year"])
