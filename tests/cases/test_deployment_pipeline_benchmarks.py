"""Case 21: what is recorded agrees with a reduced live run, and with the code of today."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.cases.deployment_pipeline import benchmarks, studies
from casebook.cases.deployment_pipeline.world import CHAPTER
from casebook.data import RealDataUnavailable
from casebook.data import real as file_of
from casebook.recorded import bench
from casebook.recorded.real import other_data


def recorded(name: str) -> pd.DataFrame:
    return bench.recorded(CHAPTER, name).frame


@pytest.mark.parametrize("name", sorted(benchmarks.BENCHMARKS))
def test_no_table_is_stale(name):
    assert not bench.stale(CHAPTER, name)


def same(live: pd.DataFrame, stored: pd.DataFrame, keys: list[str]) -> None:
    """Compare a reduced run with the rows of the recorded table that it makes."""
    wanted = live[keys].merge(stored, on=keys, how="left", validate="1:1")
    pd.testing.assert_frame_equal(
        live.reset_index(drop=True)[[*stored]], wanted[[*stored]], rtol=5e-3, check_dtype=False
    )


def test_limits_from_quiet_days_keep_what_is_promised():
    whole = recorded("detectors")
    table = whole[whole["limit"] == "own"].set_index(["detector", "n", "size"])
    assert (table["worlds"] >= 15).all()
    assert {*table.index.get_level_values("n")} == {200, 500, 2_000}
    for name in ("PSI, one limit", "PSI, quiet days", "domain classifier, quiet days"):
        own = table.loc[name]
        assert (own["false_alarms"] <= 0.05).all()
        assert (own.xs(0.5, level="size")["within_2"].loc[500:] >= 0.9).all()
    loud = table.loc["PSI, null and columns"]["false_alarms"].loc[2_000]
    assert (loud > 0.3).all()  # days differ by more than the noise of sampling
    # at equal false alarms: as many in the table as were asked for, and more limits see no less
    equal = whole[whole["limit"] == "equal"]
    keys = ["detector", "n", "size"]
    assert equal.groupby(keys)["false_alarms"].apply(lambda own: own.is_monotonic_increasing).all()
    assert equal.groupby(keys)["within_2"].apply(lambda own: own.is_monotonic_increasing).all()
    assert equal["false_alarms"].between(0.005, 0.101).all()


def test_detectors_are_summed_at_their_own_limits_and_at_equal_false_alarms():
    days = pd.MultiIndex.from_product(
        [(1, 2), (0.0, 0.25), range(10)], names=["seed", "size", "day"]
    )
    table = pd.DataFrame(index=days).reset_index().assign(n=200)
    quiet = table["size"] == 0
    table["PSI > .10"] = (quiet & (table["seed"] == 1) & (table["day"] == 3)) | (
        ~quiet & (table["day"] >= table["seed"])  # seen on the second day, and on the third
    )
    table["PSI"] = (
        table["day"] * 0.01 + table["seed"] * 0.001 + (~quiet & (table["day"] == 1)) * 1.0
    )
    found = studies.summed(table).query("size == 0.25").set_index("limit")
    own = found.loc["own"]
    assert (own["detector"], own["false_alarms"]) == ("PSI > .10", 0.05)
    assert (own["within_2"], own["delay"]) == (0.5, 2.5)
    equal = found.loc["equal"]
    assert equal["false_alarms"].tolist() == [0.0, 0.0, 0.0, 0.05]  # of twenty days
    assert (equal["within_2"] == 1).all()


def test_one_world_of_the_advice_is_the_recorded_one():
    stored = recorded("advice")
    assert stored.groupby("kind")["seed"].nunique().min() >= 15
    live = studies.advice(studies.SEEDS[:1], ("concept",))
    same(live, stored, ["kind", "seed"])


def test_one_half_year_of_each_policy_is_the_recorded_one():
    stored = recorded("policies")
    live = studies.policies(studies.SEEDS[:1], ("poisoned",))
    same(live, stored, ["world", "seed", "policy"])
    assert stored.groupby("world")["seed"].nunique().min() >= 15


def test_the_floor_is_the_floor_and_the_share_has_its_ends():
    table = recorded("policies")
    wide = table.pivot(index=["world", "seed"], columns="policy", values="euros")
    assert (wide.drop(columns="true chances").min(axis=1) > wide["true chances"]).all()
    found = studies.shares(table).set_index(["world", "policy"])["share"]
    assert found["eventful", "frozen"] == pytest.approx(0)
    assert found["eventful", "labels at once"] == pytest.approx(1)
    with pytest.raises(ValueError, match="boring"):
        studies.happens("boring", 1)


@pytest.mark.parametrize("file", ["bike_hours", "elec2"])
def test_a_live_part_of_a_public_result_is_the_recorded_one(file):
    name = {"bike_hours": "real_bike", "elec2": "real_elec"}[file]
    assert not other_data(CHAPTER, name)
    try:
        file_of(file)
    except RealDataUnavailable as error:
        pytest.skip(str(error))
    keys = ["labels", "policy"] if name == "real_elec" else ["policy"]
    stored = recorded(name).set_index(keys)
    live = benchmarks.BENCHMARKS[name](("frozen",)).set_index(keys)
    for policy in live.index:
        assert live.loc[policy, "loss"] == pytest.approx(stored.loc[policy, "loss"], rel=0.02)
