"""Case 21: what is recorded agrees with a reduced live run, and with the code of today."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.cases.deployment_pipeline import benchmarks, real, studies
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


def test_an_index_of_equal_samples_is_what_was_computed():
    table = recorded("null_psi").set_index("n")
    assert table["mean"].to_numpy() == pytest.approx(table["expected"].to_numpy(), rel=0.1)
    assert table["p_05"].between(0.03, 0.07).all()
    live = studies.null_psi((100, 2_000), runs=300).set_index("n")
    assert live["mean"].to_numpy() == pytest.approx(table.loc[live.index, "mean"], rel=0.1)


def test_limits_from_quiet_days_keep_what_is_promised():
    table = recorded("detectors").set_index(["detector", "n", "size"])
    assert (table["worlds"] >= 15).all()
    for name in ("PSI, quiet days", "KS, quiet days"):
        own = table.loc[name]
        assert (own["false_alarms"] <= 0.05).all()
        assert (own.xs(0.5, level="size")["within_2"].loc[500:] >= 0.9).all()
    loud = table.loc["PSI, null and columns"]["false_alarms"].loc[2_000]
    assert (loud > 0.3).all()  # days differ by more than the noise of sampling


def test_one_world_of_the_advice_is_the_recorded_one():
    stored = recorded("advice")
    assert stored.groupby("kind")["seed"].nunique().min() >= 15
    live = studies.advice(studies.SEEDS[:1], ("unit", "concept"))
    same(live, stored, ["kind", "seed"])


def test_one_half_year_of_each_policy_is_the_recorded_one():
    stored = recorded("policies")
    live = studies.policies(studies.SEEDS[:1], ("poisoned",))
    same(live, stored, ["world", "seed", "policy"])
    assert stored.groupby("world")["seed"].nunique().min() >= 15
    weeks = recorded("weeks").groupby(["world", "policy"])["euros"].mean()
    means = stored.groupby(["world", "policy"])["euros"].mean()
    assert weeks.to_numpy() == pytest.approx(means[weeks.index].to_numpy(), rel=1e-3)


def test_the_floor_is_the_floor_and_the_share_has_its_ends():
    table = recorded("policies")
    wide = table.pivot(index=["world", "seed"], columns="policy", values="euros")
    assert (wide.drop(columns="true chances").min(axis=1) > wide["true chances"]).all()
    found = studies.shares(table).set_index(["world", "policy"])["share"]
    assert found["eventful", "frozen"] == pytest.approx(0)
    assert found["eventful", "labels at once"] == pytest.approx(1)
    assert studies.gap_by_world(table).notna().all()
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
    stored = recorded(name).set_index("policy")
    live = benchmarks.BENCHMARKS[name](("frozen",)).set_index("policy")
    for policy in live.index:
        assert live.loc[policy, "loss"] == pytest.approx(stored.loc[policy, "loss"], rel=0.02)
    with pytest.raises(ValueError, match="monthly"):
        real.serve(pd.DataFrame(), 0, 1, "never", len, [], len)
