"""Case 01: nights of the world, by last week's value and by the registry's model."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from demand_forecasting_shared import DAY, FEW, known_of_two, without_feed, world
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting import store
from casebook.cases.demand_forecasting.features import add_known
from casebook.cases.demand_forecasting.world import DAYS, KEYS, SEED
from casebook.forecasting.direct import DirectModel, fit_direct
from casebook.forecasting.pipeline import Pipeline, last_week

MORNING = DAYS[-28]


def test_a_night_of_the_world(tmp_path):
    """A whole night but for the model: the planning run 28 days before the end."""
    known, day = world(), MORNING
    run = Pipeline(last_week, known.routes, known.calendar, tmp_path).run(known.reports, day)
    expected = known.truth[known.truth["ds"] >= day]
    assert_frame_equal(run.forecasts[KEYS], expected[KEYS].sort_values(KEYS, ignore_index=True))
    kinds = [line.split(",")[0] for line in run.log]
    assert "repaired: missing depot" in kinds  # the late file of a country, not there yet


# The registry ---------------------------------------------------------------------------------

#: The days before the morning, and 28 from it on.
known_panel = partial(known_of_two, MORNING - 200 * DAY, DAYS[-1])


@cache
def fitted(day: pd.Timestamp = MORNING) -> DirectModel:
    return fit_direct(known_panel()[known_panel()["ds"] < day], parameters=FEW)


def two_countries() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return reports of the panel, and master data in which nothing is older than they are."""
    reports = known_panel().assign(received=lambda f: f["ds"] + DAY)
    routes = without_feed(SEED).routes
    routes = routes[routes["unique_id"].isin(reports["unique_id"])]
    return reports, routes.assign(opens=routes["opens"].clip(lower=reports["ds"].min()))


def by_registry(tmp_path: Path, models: Path, routes: pd.DataFrame) -> Pipeline:
    here = without_feed(SEED)
    known = partial(add_known, routes=routes, calendar=here.calendar, promotions=here.promotions)
    stored = store.from_registry(models, known)
    return Pipeline(stored, routes, here.calendar, tmp_path)


def test_a_night_asks_the_registry_and_falls_back_once_its_model_is_too_old(tmp_path):
    reports, routes = two_countries()
    night = by_registry(tmp_path, tmp_path / "models", routes)
    assert "there is no model in" in night.run(reports, MORNING).log[-1]
    store.save(fitted(), tmp_path / "models")
    assert store.load(tmp_path / "models", MORNING) == fitted()
    run = night.run(reports, MORNING)
    assert run.source == "stored_model"
    assert run.forecasts["y_hat"].notna().all()
    store.save(replace(fitted(), countries=("BR",)), tmp_path / "models")
    run = night.run(reports, MORNING)
    assert run.source == "stored_model"
    assert run.log[-1].startswith("model: the model was not fitted to PL: it answers there")
    store.save(fitted(MORNING - 39 * DAY), tmp_path / "models")
    assert "40 days ago, at most 35" in night.run(reports, MORNING).log[-1]


def test_a_route_without_a_distance_is_named_and_costs_no_country_its_model(tmp_path):
    reports, routes = two_countries()
    open_ = routes.index[routes["closes"].isna() & (routes["opens"] == routes["opens"].min())]
    new, far = open_[0], open_[-1]  # one comes now, without a distance; another has lost its own
    routes.loc[new, "opens"] = MORNING + 3 * DAY
    routes.loc[[new, far], "distance_km"] = np.nan
    name = routes.loc[new, "unique_id"]
    reports = reports[reports["unique_id"] != name]
    store.save(fitted(), tmp_path)
    night = by_registry(tmp_path, tmp_path, routes)
    run = night.run(reports, MORNING)
    assert run.source == "stored_model"
    assert f"master data: {name} has no distance_km, others stand in for it: enter it" in run.log
    assert run.forecasts.set_index("unique_id").loc[name, "y_hat"].gt(0).all()
