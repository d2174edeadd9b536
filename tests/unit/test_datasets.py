"""Readers of public data: shape, values, and a refusal of what is incomplete."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.datasets import tourism


@pytest.fixture(scope="module")
def trips(needs_real_data):
    return tourism(needs_real_data)


def test_tourism_holds_304_series_of_80_quarters(trips):
    assert list(trips.columns) == ["unique_id", "state", "region", "purpose", "ds", "y"]
    assert (trips.groupby("unique_id")["ds"].nunique() == 80).all()
    assert trips["unique_id"].nunique() == 304
    assert (trips["region"].nunique(), trips["purpose"].nunique()) == (76, 4)
    expected = pd.date_range("1998-01-01", "2017-10-01", freq="QS")
    assert list(trips["ds"].drop_duplicates()) == list(expected)


def test_tourism_holds_no_gap_and_positive_totals(trips):
    assert not trips.isna().any(axis=None)
    assert (trips["y"] >= 0).all()
    assert (trips.groupby("unique_id")["y"].sum() > 0).all()


def test_tourism_is_sorted_by_series_and_quarter(trips):
    again = trips.sort_values(["unique_id", "ds"], ignore_index=True)
    pd.testing.assert_frame_equal(trips, again)


def test_tourism_equals_the_independent_conversion(trips, needs_real_data):
    """``tourism.csv.gz`` was written by another program from the same R object."""
    path = needs_real_data.with_name("tourism.csv.gz")
    if not path.is_file():
        pytest.skip("the converted file is not beside the original")
    other = pd.read_csv(path)
    other["ds"] = pd.PeriodIndex(other["Quarter"], freq="Q").to_timestamp()
    keys = {"Region": "region", "State": "state", "Purpose": "purpose"}
    both = trips.merge(other.rename(columns=keys), on=["ds", *keys.values()], validate="1:1")
    assert len(both) == len(trips) == len(other)
    pd.testing.assert_series_equal(both["y"], both["Trips"], check_names=False, rtol=1e-9)


def test_tourism_refuses_a_file_without_all_series(tmp_path):
    import rdata

    path = tmp_path / "tourism.rda"
    part = pd.DataFrame(
        {
            "Region": ["Adelaide"] * 2,
            "State": ["South Australia"] * 2,
            "Purpose": ["Business"] * 2,
            "Quarter": [10227.0, 10317.0],
            "Trips": [135.1, 110.0],
        }
    )
    rdata.write_rda(path, {"tourism": part})
    with pytest.raises(ValueError, match="1 series, 2 quarters and 2 rows; expected 304") as caught:
        tourism(path)
    assert str(path) in str(caught.value)
