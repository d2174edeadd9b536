"""Case 01: errors of the shipped model on days after its training."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
from demand_forecasting_shared import DAY, FEW, known_of_two, without_feed
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting.drift import live_errors
from casebook.cases.demand_forecasting.world import DAYS, SEED
from casebook.forecasting.direct import fit_direct, lightgbm_direct, predict_direct
from casebook.serving.monitor import daily_errors

TRAINED, AGAIN = pd.Timestamp("2021-12-01"), pd.Timestamp("2022-01-15")


#: Two countries' first 500 days.
panel = partial(known_of_two, DAYS[0], DAYS[499])


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
