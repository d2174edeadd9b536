"""Features and training on a cluster, with the results of one machine."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import psutil
import pytest
from pandas.testing import assert_frame_equal

from casebook.cases.demand_forecasting.world import KEYS, simulate
from casebook.features.cluster import (
    FEATURES,
    features_dask,
    lag_features,
    local_cluster,
    train_dask,
    train_lightgbm,
)


@cache
def panel() -> pd.DataFrame:
    rows = simulate().truth[[*KEYS, "y"]].astype({"y": float})
    return rows.sort_values(KEYS, ignore_index=True)


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
