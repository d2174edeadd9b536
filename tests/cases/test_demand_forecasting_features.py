"""Case 01: what is known of a day ahead."""

from __future__ import annotations

import pytest

from casebook.cases.demand_forecasting.features import add_known
from casebook.cases.demand_forecasting.world import DAYS, simulate
from casebook.features.calendar import AROUND_HOLIDAYS

KEYS = ["unique_id", "ds"]


@pytest.fixture(scope="module")
def world():
    return simulate(7)


# Known features ----------------------------------------------------------------------


def test_holiday_roles_explain_the_parcels_around_holidays(world):
    """The roles are an analyst's reading; the world's own effects are 0.1, 1.12, 1.35 and 1.15."""
    rows = add_known(world.truth, world.routes, world.calendar, world.promotions)
    rows = rows[(rows["promotion"] == 0) & (rows["age"] == 365)]
    rows = rows.assign(month=rows["ds"].dt.to_period("M"), weekday=rows["ds"].dt.dayofweek)
    role = rows[list(AROUND_HOLIDAYS)].sum(axis=1)
    usual = rows[role == 0].groupby(["unique_id", "month", "weekday"])["base"].mean()
    usual = usual.rename("usual").reset_index()
    ratio = rows.merge(usual).eval("base / usual")
    joined = rows.merge(usual)
    for name, effect in zip(AROUND_HOLIDAYS, (0.10, 1.12, 1.35, 1.15), strict=True):
        assert ratio[joined[name] == 1].median() == pytest.approx(effect, rel=0.05), name


def test_known_features_keep_rows_and_order(world):
    mixed = world.truth[[*KEYS, "y"]].sample(2000, random_state=0)
    got = add_known(mixed, world.routes, world.calendar, world.promotions)
    assert got.index.equals(mixed.index)
    assert (got[KEYS] == mixed[KEYS]).all(axis=None)
    assert not got.isna().any(axis=None)
    none = add_known(mixed, world.routes, world.calendar, world.promotions.head(0))
    assert none["promotion"].eq(0).all()  # an empty plan is a plan
    planned = mixed.merge(world.promotions.assign(p=1), how="left")["p"].fillna(0)
    assert (got["promotion"].to_numpy() == planned.to_numpy()).all()
    opened = world.routes.query("opens > @DAYS[0]")[["unique_id", "opens"]].iloc[0]
    first = got[got["unique_id"] == opened["unique_id"]].sort_values("ds")
    assert (first["age"] == (first["ds"] - opened["opens"]).dt.days.clip(upper=365)).all()
    assert got["age"].max() == 365


def test_known_features_refuse_rows_without_master_data_or_before_the_opening(world):
    rows = world.truth[[*KEYS, "y"]].head(3)
    with pytest.raises(ValueError, match="1 routes have no master data"):
        add_known(
            rows.assign(unique_id="XX/XX1/r1"), world.routes, world.calendar, world.promotions
        )
    late = world.routes.loc[world.routes["opens"] > DAYS[0], "unique_id"].iloc[0]
    with pytest.raises(ValueError, match="rows before it opens"):
        add_known(rows.assign(unique_id=late), world.routes, world.calendar, world.promotions)


# Features as of an origin ------------------------------------------------------------


# Cold start --------------------------------------------------------------------------
