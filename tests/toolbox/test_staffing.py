"""Net rates, the order and the decision table, by hand and by planted faults."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.forecasting import staffing as module
from casebook.forecasting.staffing import (
    Rates,
    avoidable,
    decision_table,
    order_coverage,
    order_factor,
    order_quantile,
    staffing_cost,
    weighted_quantile,
)

ORIGINS = pd.date_range("2024-01-01", periods=5, freq="28D")


@pytest.fixture(scope="module")
def depots() -> pd.DataFrame:
    """Return 20 depots of very different sizes; the model errs by 20 %, the naive by 60 %."""
    rng, sizes = np.random.default_rng(0), np.geomspace(200, 20_000, 20)
    frames = []
    for origin in ORIGINS:
        days = pd.date_range(origin, periods=28)
        for k, size in enumerate(sizes):
            y = size * rng.lognormal(0, 0.2, 28)
            made = {"naive_week": size * rng.lognormal(0, 0.6, 28), "model": size, "oracle": y}
            frame = {"unique_id": f"A/A{k}", "ds": days, "origin": origin, "y": y}
            frames.append(pd.DataFrame(frame | made))
    return pd.concat(frames, ignore_index=True)


# The rates ---------------------------------------------------------------------------


def test_read_as_gross_the_same_sixty_euro_give_another_order():
    """The audit's question: if 60 euro included the wage, an hour short would cost 36 net."""
    gross = Rates(wage=24, agency=60)
    assert gross.quantile == pytest.approx(0.6) and Rates().quantile == pytest.approx(60 / 84)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_paid_beyond_the_needed_hours_is_the_net_cost(seed):
    rng = np.random.default_rng(seed)
    rates = Rates(*rng.uniform([10, 40, 5, 4], [30, 120, 60, 10]))
    needed, hours = rng.uniform(0, 300, (2, 50))
    paid = rates.wage * hours + rates.agency * np.maximum(needed - hours, 0)
    parcels = rates.parcels_per_hour
    cost = staffing_cost(needed * parcels, hours * parcels, rates, whole_workers=False)
    np.testing.assert_allclose(cost, paid - rates.wage * needed)


def test_the_cost_of_staff_in_shifts_by_hand():
    # 400 parcels need 16 hours, two workers; 300 parcels were expected: 1.5, so two workers.
    assert staffing_cost([400], [300]).tolist() == [0]
    assert staffing_cost([400], [200]).tolist() == [8 * 60]
    assert staffing_cost([400], [600]).tolist() == [8 * 24]
    assert staffing_cost([400], [300], whole_workers=False).tolist() == [4 * 60]


def test_the_critical_ratio_is_the_cheapest_quantile():
    demand = np.random.default_rng(0).gamma(20, 50, 20_000)
    quantiles = np.linspace(0.3, 0.95, 66)
    costs = [
        staffing_cost(demand, np.full(demand.shape, np.quantile(demand, q)), whole_workers=False)
        for q in quantiles
    ]
    best = quantiles[np.argmin(np.sum(costs, axis=1))]
    assert best == pytest.approx(Rates().quantile, abs=0.02)


# The order ---------------------------------------------------------------------------


def assert_weighs_by_volume() -> None:
    """One depot has most of the parcels and a ratio of 1, twenty small ones have 3."""
    past = pd.DataFrame({"made": [1e5] + [100.0] * 20, "y": [1e5] + [300.0] * 20})
    assert order_factor(past, "made", 0.7) == 1.0


def test_the_factor_is_weighted_by_volume():
    assert_weighs_by_volume()
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=50), rng.integers(1, 9, 50)
    repeated = np.sort(np.repeat(values, weights))
    for share in (0.2, 0.5, 0.9):
        expected = repeated[int(np.ceil(share * len(repeated))) - 1]
        assert weighted_quantile(values, weights, share) == expected


def test_a_factor_without_weights_is_found(monkeypatch):
    plain = lambda values, weights, share: float(np.quantile(values, share))  # noqa: E731
    monkeypatch.setattr(module, "weighted_quantile", plain)
    with pytest.raises(AssertionError):
        assert_weighs_by_volume()


def test_an_order_rests_on_earlier_errors_alone(depots):
    late = ORIGINS[2:3]
    orders = order_quantile(depots, "model", late, 0.7)
    blind = depots.assign(y=depots["y"].where(depots["ds"] < late[0], 1e9))
    pd.testing.assert_series_equal(order_quantile(blind, "model", late, 0.7), orders)
    earlier = depots.assign(y=depots["y"].where(depots["ds"] >= late[0], 1e9))
    assert (order_quantile(earlier, "model", late, 0.7) > 10 * orders).all()
    with pytest.raises(ValueError, match="no forecast from before 2024-01-01"):
        order_quantile(depots, "model", ORIGINS[:1], 0.7)


def test_by_depot_each_has_its_own_factor_and_its_coverage(depots):
    odd = depots.assign(y=depots["y"].where(depots["unique_id"] != "A/A3", 2 * depots["y"]))
    for by_depot, covered in ((False, 0.2), (True, 0.9)):
        orders = order_quantile(odd, "model", ORIGINS[2:], Rates().quantile, by_depot)
        table = order_coverage(odd, orders)
        assert (table["days"] == 84).all()
        own = table.loc["A/A3", "covered"]
        assert own < covered if not by_depot else 0.55 < own < covered
        assert table["covered"].drop("A/A3").mean() == pytest.approx(Rates().quantile, abs=0.06)


def test_a_forecast_without_a_past_takes_the_errors_of_another(depots):
    new = depots.assign(tft=depots["model"].where(depots["origin"] >= ORIGINS[2]))
    orders = order_quantile(new, "tft", ORIGINS[2:], 0.7, errors_of="model")
    pd.testing.assert_series_equal(orders, order_quantile(new, "model", ORIGINS[2:], 0.7))


# The decision ------------------------------------------------------------------------


def test_the_decision_table_by_hand(depots):
    table = decision_table(depots, ["naive_week", "model"], ORIGINS[2:])
    euros = table.set_index(["model", "order"])["euros"]
    test = depots[depots["origin"] >= ORIGINS[2]]
    by_hand = sum(staffing_cost(rows["y"], rows["model"]).sum() for _, rows in test.groupby("ds"))
    assert euros["model", "point"] == pytest.approx(by_hand / 84)
    assert euros["actual", "point"] < euros["model", "quantile"] < euros["model", "point"]
    share = table.set_index(["model", "order"])["avoidable"]
    assert share["naive_week", "point"] == 0 and share["actual", "point"] == 1


def test_avoidable_divides_by_what_can_be_avoided():
    """Dividing by the whole cost of the naive gave 51 % where 60 % were avoided."""
    share = avoidable(pd.Series([13_706.0, 6_686.0, 2_044.0]), 13_706.0, 2_044.0)
    assert share.round(3).tolist() == [0, 0.602, 1]


def test_the_oracle_orders_the_true_quantile(depots):
    known = depots.assign(high=1.1 * depots["oracle"])
    table = decision_table(known, ["naive_week", "oracle"], ORIGINS[2:], true_quantile="high")
    euros = table.set_index(["model", "order"])["euros"]
    test = known[known["origin"] >= ORIGINS[2]]
    assert euros["oracle", "quantile"] == pytest.approx(
        staffing_cost(test["y"], test["high"]).sum() / 84
    )
    assert euros["oracle", "point"] == pytest.approx(euros["actual", "point"])
