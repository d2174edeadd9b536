"""Case 01: errors of the shipped model after its training, and the alarm on them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from demand_forecasting_shared import DAY, without_feed
from numpy.lib.stride_tricks import sliding_window_view
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting.drift import live_errors
from casebook.cases.demand_forecasting.features import add_known
from casebook.cases.demand_forecasting.world import KEYS, SEED, SHOCK_PHI
from casebook.forecasting.direct import fit_direct, lightgbm_direct, predict_direct
from casebook.serving.monitor import DriftAlarm, daily_errors

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


@cache
def world_errors(seed: int) -> pd.DataFrame:
    known = without_feed(seed)
    y, base = (by_country(known.truth, column) for column in ("y", "base"))
    names = pd.DataFrame({"unique_id": y.columns, "country": y.columns})
    panel = y.stack().rename("y").reset_index()
    return daily_errors(nightly_runs(y, base), panel, names, known.calendar, 7)


def first_day_of_the_break(seed: int) -> pd.Series:
    broken_days = without_feed(seed).truth.query("jump != 0")
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


# The shipped model, after its training --------------------------------------------------------

FEW = {"n_estimators": 20}
TRAINED, AGAIN = pd.Timestamp("2021-12-01"), pd.Timestamp("2022-01-15")


@cache
def panel() -> pd.DataFrame:
    """Return two countries' first 500 days."""
    known = without_feed(SEED)
    rows = known.truth[known.truth["unique_id"].str[:2].isin(["BR", "PL"])]
    rows = rows.loc[rows["ds"] < "2022-05-16", [*KEYS, "y"]].astype({"y": float})
    return add_known(rows, known.routes, known.calendar, known.promotions)


def live(rows: pd.DataFrame, trainings=(TRAINED,), last="2022-02-28", **given) -> pd.DataFrame:
    calendar = without_feed(SEED).calendar
    return live_errors(rows, calendar, trainings, last, parameters=FEW, **given)


@cache
def replayed(*trainings: pd.Timestamp) -> pd.DataFrame:
    """Return the errors of the panel as it is."""
    return live(panel(), trainings)


def test_live_errors_are_those_of_the_model_that_ships():
    """Night by night the replay forecasts what the night itself would have forecast."""
    nights = pd.to_datetime(["2021-12-01", "2021-12-05", "2022-01-13"])
    model = fit_direct(panel()[panel()["ds"] < TRAINED], parameters=FEW)
    errors = live(panel(), leads=1)
    for night in nights:
        train, ahead = panel()[panel()["ds"] < night], panel()[panel()["ds"] == night]
        made = ahead.assign(y_hat=predict_direct(model, train, ahead.drop(columns="y")))
        if night == TRAINED:
            direct = lightgbm_direct(train, ahead.drop(columns="y"), parameters=FEW)
            np.testing.assert_allclose(made["y_hat"], direct, rtol=1e-12)
        made = made.dropna()
        sums = made.groupby(made["unique_id"].str[:2])[["y", "y_hat"]].sum()
        expected = (sums["y"] - sums["y_hat"]).abs() / sums["y"]
        np.testing.assert_allclose(errors.loc[night], expected.loc[errors.columns], rtol=1e-9)


def check_errors_come_after_the_training(once: pd.DataFrame, replay) -> None:
    """What happens from a training on changes no model: only levels and errors after it."""
    assert once.index[0] == TRAINED
    later = panel()["ds"] >= AGAIN
    spoilt = replay(panel().assign(y=panel()["y"].where(~later, 7 * panel()["y"])))
    assert_frame_equal(once[: AGAIN - DAY], spoilt[: AGAIN - DAY])
    assert (spoilt.loc[AGAIN : AGAIN + 2 * DAY] > once.loc[AGAIN : AGAIN + 2 * DAY]).all(None)


def test_no_error_is_from_days_that_the_model_was_trained_on():
    both = (TRAINED, AGAIN)
    check_errors_come_after_the_training(replayed(*both), lambda rows: live(rows, both))


def test_the_check_catches_a_model_that_was_trained_on_the_days_it_is_judged_by():
    def in_sample(rows):
        model = fit_direct(rows[rows["ds"] < "2022-03-01"], parameters=FEW)
        model = type(model)(model.text, model.features, model.countries, pd.Timestamp("2021-11-14"))
        train, days = rows[rows["ds"] < "2021-11-15"], pd.date_range("2021-11-15", "2021-12-12")
        ahead = rows[rows["ds"].isin(days)].drop(columns="y")
        runs = ahead.assign(origin=ahead["ds"], y_hat=predict_direct(model, train, ahead))
        names = rows[["unique_id"]].drop_duplicates().assign(country=lambda f: f.unique_id.str[:2])
        return daily_errors(runs, rows, names, without_feed(SEED).calendar)[TRAINED:]

    with pytest.raises(AssertionError):
        check_errors_come_after_the_training(in_sample(panel()), in_sample)


def test_a_retraining_changes_the_model_of_the_nights_after_it():
    one, two = replayed(TRAINED), replayed(TRAINED, AGAIN)
    assert_frame_equal(one[: AGAIN - DAY], two[: AGAIN - DAY])
    assert not np.allclose(one["2022-01-22":], two["2022-01-22":], equal_nan=True)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"last": "2023-01-01"}, "must lie between the first training and the end"),
        ({"trainings": []}, "must lie between the first training and the end"),
        ({"leads": 29}, "29 days ahead: the model forecasts 1 to 28"),
    ],
)
def test_replays_that_cannot_be_are_refused(asked, says):
    with pytest.raises(ValueError, match=says):
        live(panel(), **asked)
