"""Case 01: what is known of a day ahead, and of what rows nothing can be known."""

from __future__ import annotations

import pandas as pd
import pytest
from demand_forecasting_shared import world

from casebook.cases.demand_forecasting.features import add_known
from casebook.cases.demand_forecasting.world import DAYS, KEYS
from casebook.features.calendar import AROUND_HOLIDAYS


def known_of(rows: pd.DataFrame, plan: pd.DataFrame | None = None) -> pd.DataFrame:
    plan = world().promotions if plan is None else plan
    return add_known(rows, world().routes, world().calendar, plan)


def test_holiday_roles_explain_the_parcels_around_holidays():
    """The roles are an analyst's reading; the world's own effects are 0.1, 1.12, 1.35 and 1.15."""
    rows = known_of(world().truth)
    rows = rows[(rows["promotion"] == 0) & (rows["age"] == 365)]
    rows = rows.assign(month=rows["ds"].dt.to_period("M"), weekday=rows["ds"].dt.dayofweek)
    role = rows[list(AROUND_HOLIDAYS)].sum(axis=1)
    usual = rows[role == 0].groupby(["unique_id", "month", "weekday"])["base"].mean()
    joined = rows.merge(usual.rename("usual").reset_index())
    ratio = joined["base"] / joined["usual"]
    for name, effect in zip(AROUND_HOLIDAYS, (0.10, 1.12, 1.35, 1.15), strict=True):
        assert ratio[joined[name] == 1].median() == pytest.approx(effect, rel=0.05), name


def test_known_features_keep_rows_and_order():
    mixed = world().truth[[*KEYS, "y"]].sample(2000, random_state=0)
    got = known_of(mixed)
    assert got.index.equals(mixed.index)
    assert (got[KEYS] == mixed[KEYS]).all(axis=None)
    assert not got.isna().any(axis=None)
    assert known_of(mixed, world().promotions.head(0))["promotion"].eq(0).all()  # empty: a plan
    planned = mixed.merge(world().promotions.assign(p=1), how="left")["p"].fillna(0)
    assert (got["promotion"].to_numpy() == planned.to_numpy()).all()
    opened = world().routes.query("opens > @DAYS[0]")[["unique_id", "opens"]].iloc[0]
    first = got[got["unique_id"] == opened["unique_id"]].sort_values("ds")
    assert len(first)
    assert (first["age"] == (first["ds"] - opened["opens"]).dt.days.clip(upper=365)).all()
    assert got["age"].max() == 365


def test_known_features_refuse_rows_without_master_data_or_before_the_opening():
    rows, routes = pd.DataFrame({"ds": DAYS[:3], "y": 1.0}), world().routes
    late = routes.loc[routes["opens"] > DAYS[0], "unique_id"].iloc[0]
    for name, says in (("XX/XX1/r1", "1 routes have no master data"), (late, "before it opens")):
        with pytest.raises(ValueError, match=says):
            known_of(rows.assign(unique_id=name))
