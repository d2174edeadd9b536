"""Readers of public data: shape, values, and a refusal of what is incomplete."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.data import find_real
from casebook.data import tables as datasets
from casebook.data.tables import cookie_cats, fraud_handbook, hillstrom, telco, tourism, ulb


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


# Card fraud ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["fraud_handbook", "ulb_1230", "ulb_4800"])
def fraud_file(request):
    path = find_real(request.param)
    if path is None:
        pytest.skip(f"{request.param} is not here, or real data are switched off")
    return request.param, path


def test_fraud_data_are_complete_and_in_order_of_time(fraud_file):
    name, path = fraud_file
    frame = fraud_handbook(path) if name == "fraud_handbook" else ulb(path)
    rows, frauds = {
        "fraud_handbook": (632_496, 5_579),
        "ulb_1230": (1_722, 492),
        "ulb_4800": (5_292, 492),
    }[name]
    assert (len(frame), frame["is_fraud"].sum()) == (rows, frauds)
    assert frame["time"].is_monotonic_increasing
    assert not frame.isna().any(axis=None)
    assert (frame["amount"] >= 0).all()
    assert set(frame["is_fraud"]) == {0, 1}


def test_the_handbooks_days_have_the_worlds_names_and_three_scenarios():
    path = find_real("fraud_handbook")
    if path is None:
        pytest.skip("fraud_handbook is not here, or real data are switched off")
    frame = fraud_handbook(path)
    assert list(frame.columns) == list(datasets.HANDBOOK_COLUMNS.values())
    assert frame["time"].dt.normalize().nunique() == 66
    assert str(frame["time"].min().date()) == "2018-06-10"
    assert frame["transaction"].is_unique
    assert frame["scenario"].value_counts().to_dict() == {0: 626_917, 1: 374, 2: 3_494, 3: 1_711}
    assert (frame.loc[frame["scenario"] == 1, "amount"] > 220).all()


def handbook_rows(**spoil):
    table = pd.DataFrame(
        {
            "TRANSACTION_ID": [1, 2],
            "TX_DATETIME": pd.to_datetime(["2018-06-10", "2018-06-11"]),
            "CUSTOMER_ID": [5, 6],
            "TERMINAL_ID": [7, 8],
            "TX_AMOUNT": [1.5, 2.5],
            "TX_FRAUD": [0, 1],
            "TX_FRAUD_SCENARIO": [0, 2],
        }
    )
    return table.assign(**spoil)


def test_the_handbooks_reader_refuses_a_part_of_the_days(tmp_path):
    path = tmp_path / "part.parquet"
    handbook_rows().to_parquet(path)
    with pytest.raises(ValueError, match="holds 2 days, 2 rows, 0 missing values and 0 repeated"):
        fraud_handbook(path)
    handbook_rows(TRANSACTION_ID=[1, 1], TX_AMOUNT=[1.0, None]).to_parquet(path)
    with pytest.raises(ValueError, match="1 missing values and 1 repeated"):
        fraud_handbook(path)
    handbook_rows().drop(columns="TX_FRAUD").to_parquet(path)
    with pytest.raises(ValueError, match=r"no column \['TX_FRAUD'\]"):
        fraud_handbook(path)


def ulb_rows(frauds, genuine):
    n = frauds + genuine
    columns = {"Time": range(n, 0, -1), **{f"V{i}": 0.5 for i in range(1, 29)}, "Amount": 1.0}
    return pd.DataFrame({**columns, "Class": [1] * frauds + [0] * genuine}, index=range(n))


def test_the_ulb_reader_sorts_and_refuses(tmp_path):
    path = tmp_path / "sample.csv"
    ulb_rows(492, 8).to_csv(path)  # with the index as an unnamed column, as one subset has it
    frame = ulb(path)
    assert frame["time"].tolist() == list(range(1, 501))
    assert list(frame.columns) == ["time", *(f"V{i}" for i in range(1, 29)), "amount", "is_fraud"]
    for frauds, genuine in ((491, 8), (492, 0)):
        ulb_rows(frauds, genuine).to_csv(path, index=False)
        with pytest.raises(ValueError, match=f"holds {frauds} frauds and {genuine} genuine rows"):
            ulb(path)
    ulb_rows(492, 8).drop(columns=["V7", "Class"]).to_csv(path)
    with pytest.raises(ValueError, match=r"no column \['V7', 'Class'\]"):
        ulb(path)


def test_the_reader_of_shops_refuses_another_table(tmp_path):
    raw = {v: k for k, v in datasets.ROSSMANN_COLUMNS.items()}
    row = {"store": 1, "ds": pd.Timestamp("2013-01-01"), "y": 5, "promotion": 0}
    frame = pd.DataFrame([row | {"type": "a", "assortment": "a", "distance": 1.0}] * 2)
    path = tmp_path / "sales.parquet"
    frame.rename(columns=raw).to_parquet(path)
    with pytest.raises(ValueError, match="1 stores, 2 rows, 1 repeated days"):
        datasets.rossmann(path)
    frame.rename(columns=raw).drop(columns="Promo").to_parquet(path)
    with pytest.raises(ValueError, match="no column"):
        datasets.rossmann(path)


def test_another_file_is_no_cookie_cats(tmp_path):
    pd.DataFrame({"userid": [1], "version": ["gate_30"]}).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(ValueError, match="90,189 players"):
        cookie_cats(tmp_path / "x.csv")


def test_bike_hours_and_elec2_are_as_published_and_no_other_file_is(tmp_path):
    (tmp_path / "x.csv").write_text("dteday,hr,cnt,nswprice\n2011-01-01,0,1,0.5\n")
    for read, says in ((datasets.bike_hours, "17,379"), (datasets.elec2, "45,312")):
        with pytest.raises(ValueError, match=says):
            read(tmp_path / "x.csv")
    paths = [find_real("bike_hours"), find_real("elec2")]
    if None in paths:
        pytest.skip("the public files are not here")
    bikes, prices = datasets.bike_hours(paths[0]), datasets.elec2(paths[1])
    by_year = bikes.groupby(bikes["date"].dt.year)["hires"].mean()
    assert by_year[2012] / by_year[2011] == pytest.approx(1.63, abs=0.02)
    assert bikes["day"].max() == 730
    same = (prices["up"] == prices["up"].shift(1))[1:]
    assert same.mean() == pytest.approx(0.853, abs=1e-3)
    assert prices["day"].max() == 943


@pytest.mark.parametrize("read", [telco, hillstrom])
def test_another_file_is_no_telco_and_no_hillstrom(tmp_path, read):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column"):
        read(tmp_path / "x.csv")


def test_telco_and_hillstrom_are_as_published():
    paths = [find_real("telco"), find_real("hillstrom")]
    if None in paths:
        pytest.skip("public data are absent")
    features, churned = telco(paths[0])
    assert len(features) == 7_043 and churned.mean() == pytest.approx(0.2654, abs=1e-4)
    rates = hillstrom(paths[1], "mens").groupby("drawn")["visit"].mean()
    assert rates[True] == pytest.approx(0.1828, abs=1e-4)
    assert rates[False] == pytest.approx(0.1062, abs=1e-4)


@pytest.mark.parametrize("name", ["telco", "hillstrom"])
def test_a_cut_telco_or_hillstrom_is_refused(tmp_path, name):
    path, read = find_real(name), {"telco": telco, "hillstrom": hillstrom}[name]
    if path is None:
        pytest.skip("public data are absent")
    pd.read_csv(path).head(100).to_csv(tmp_path / "cut.csv", index=False)
    with pytest.raises(ValueError, match="100 rows"):
        read(tmp_path / "cut.csv")
