"""Case 10: what is recorded agrees with a reduced live run, and with the code of today."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.cases.ab_testing import benchmarks, calibration, studies
from casebook.cases.ab_testing.world import CHAPTER
from casebook.data import RealDataUnavailable, real
from casebook.evaluate import sizes
from casebook.evaluate.gap import earned
from casebook.recorded import bench


def recorded(name: str) -> pd.DataFrame:
    return bench.recorded(CHAPTER, name).frame


@pytest.mark.parametrize("name", sorted(benchmarks.BENCHMARKS))
def test_no_table_is_stale(name):
    assert not bench.stale(CHAPTER, name)


# The promises -------------------------------------------------------------------------


def test_false_alarms_are_as_many_as_promised_by_user_and_not_by_session():
    table = recorded("aa").set_index(["metric", "method"])["rate"]
    naive = [key for key in table.index if "session" in key[1] or "impression" in key[1]]
    assert len(naive) == 3
    assert (table[naive] > 0.25).all()
    assert table.drop(naive).between(0.043, 0.057).all()
    live = calibration.aa(runs=500).set_index(["metric", "method"])["rate"]
    assert live.to_dict() == pytest.approx(table.to_dict(), abs=0.05)


def test_peeking_costs_what_is_computed_and_the_rules_keep_their_level():
    table = recorded("peeking").set_index(["rule", "looks"])
    naive = table.loc["naive"]
    assert naive["false_alarms"].to_numpy() == pytest.approx(naive["exact"].to_numpy(), abs=0.02)
    assert naive.loc[20, "low"] < 0.248 < naive.loc[20, "high"]
    assert (table.loc["always_valid", "false_alarms"] <= 0.05).all()
    assert (table.loc["obrien_fleming", "low"] <= 0.05).all()
    live = calibration.peeking((1, 20), runs=300).set_index(["rule", "looks"])
    for key in (("naive", 20), ("obrien_fleming", 20)):
        for column in ("false_alarms", "power"):
            assert live.loc[key, column] == pytest.approx(table.loc[key, column], abs=0.09)


def test_real_days_alarm_less_than_equal_looks_and_the_bounds_hold_there_too():
    table, equal = recorded("days").set_index("rule"), recorded("peeking")
    equal = equal[equal["looks"] == 14].set_index("rule")
    assert 0.10 < table.loc["naive", "false_alarms"] < equal.loc["naive", "low"]
    assert table.loc["end", "low"] < 0.05 < table.loc["end", "high"]
    kept = [rule for rule in table.index if rule not in ("naive", "end")]
    assert (table.loc[kept, "low"] <= 0.05).all()
    informed = table.loc["obrien_fleming, information"]
    assert informed["power"] >= table.loc["obrien_fleming", "power"]
    live = calibration.days(runs=300).set_index("rule")
    for column in ("false_alarms", "power"):
        assert live[column].to_dict() == pytest.approx(table[column].to_dict(), abs=0.1)


def test_adjustment_saves_what_it_claims_on_users_that_are_drawn_anew():
    table = recorded("cuped").set_index(["metric", "method"])
    fitted = table.xs("CUPED", level="method")
    assert (fitted["off"].abs() < 0.03).all()
    assert fitted["alarms"].between(0.043, 0.057).all()
    model = table.loc[("minutes", "CUPAC")]
    assert model["low"] < model["theory"] < model["high"]
    assert model["alarms"] < 0.1
    live = calibration.cuped(runs=400, refits=2).set_index(["metric", "method"])
    for metric in calibration.METRICS:
        key = (metric, "CUPED")
        assert live.loc[key, "claimed"] == pytest.approx(table.loc[key, "claimed"], rel=1e-3)
        assert live.loc[key, "ratio"] == pytest.approx(table.loc[key, "ratio"], rel=0.25)


def test_the_power_of_the_split_test_and_of_the_t_test():
    table = recorded("srm_power").set_index(["case", "n", "alpha"])
    large = table.xs((100_000, 0.01), level=("n", "alpha"))
    assert large.loc["arms differ", "power"] == pytest.approx(0.986, abs=5e-4)
    one, both = table.loc["arms differ"], table.loc["both arms short"]
    assert one["rate"].to_numpy() == pytest.approx(one["power"].to_numpy(), abs=0.012)
    assert both["rate"].to_numpy() == pytest.approx(both["power"].to_numpy(), abs=0.02)
    # two arms alone see each other, and not what both have lost
    assert large.loc["arms differ", "two_arms"] > 0.98
    assert large.loc["both arms short", "two_arms"] < 0.02
    assert large.loc["both arms short", "power"] > 0.9
    live = sizes.srm_power((100_000,), 2_000).set_index(["case", "n", "alpha"])
    assert live["rate"].to_numpy() == pytest.approx(
        table.loc[live.index, "rate"].to_numpy(), abs=0.04
    )
    grid = recorded("power")
    assert grid["ours"].to_numpy() == pytest.approx(grid["statsmodels"].to_numpy(), rel=1e-4)
    pd.testing.assert_frame_equal(sizes.power(), grid, rtol=1e-4, check_dtype=False)


def test_intervals_cover_by_user_and_not_by_event():
    table = recorded("coverage").set_index(["metric", "method"])["rate"]
    naive = [key for key in table.index if "session" in key[1] or "impression" in key[1]]
    assert (table[naive] < 0.8).all()
    assert table["click rate", "delta method"] == pytest.approx(0.95, abs=0.01)
    live = calibration.coverage(runs=60, quantiles=30).set_index(["metric", "method"])["rate"]
    assert set(live.index) == set(table.index)
    assert live["click rate", "binomial by impression"] < 0.7


# The worlds ---------------------------------------------------------------------------


def same(live: pd.DataFrame, stored: pd.DataFrame, keys: list[str]) -> None:
    """Compare a reduced run with the rows of the recorded table that it makes."""
    wanted = live[keys].merge(stored, on=keys, how="left", validate="1:1")
    pd.testing.assert_frame_equal(
        live.reset_index(drop=True)[[*stored]], wanted[[*stored]], rtol=2e-4, check_dtype=False
    )


def test_one_world_gives_what_was_recorded():
    seed = studies.SEEDS[:1]
    same(studies.lasting(seed), recorded("lasting"), ["seed", "method"])
    same(studies.forest(seed), recorded("forest"), ["seed", "method", "group"])
    mine = studies.winners(studies.SEEDS[:1]).iloc[0]
    row = recorded("winners").iloc[0]
    for column in ("segment", "claimed", "shrunk", "true"):
        assert mine[column] == (
            row[column] if column == "segment" else pytest.approx(row[column], rel=2e-4)
        )


def test_one_idea_and_one_pair_of_designs_give_what_was_recorded():
    same(studies.worlds(studies.IDEAS[:1]), recorded("worlds"), ["seed", "policy"])
    same(studies.network(studies.SEEDS[:1]), recorded("network"), ["seed", "method"])


def test_the_share_of_the_gap_is_zero_at_the_floor_and_one_at_the_oracle():
    table = recorded("worlds")
    found = earned(table, "dashboard").set_index("policy")
    assert found.loc["oracle", "share"] == pytest.approx(1)
    assert found.loc["dashboard", "share"] == pytest.approx(0)
    assert not {*studies.POLICIES} ^ {*table["policy"]}
    broken = table[table["broken"] & (table["policy"] == "CUPED mean pays")]
    assert not broken["shipped"].all()
    assert table["seed"].nunique() >= 15
    assert found["value"].idxmax() == "oracle"
    assert (found.loc["oracle", ["false_ships", "missed"]] == 0).all()
    best = table[table["policy"] == "oracle"].set_index("seed")["value"]
    assert (best >= 0).all()


def test_a_dashboard_that_peeks_ships_more_than_one_that_waits():
    shipped = recorded("worlds").groupby("policy")["shipped"].mean()
    assert shipped["dashboard"] >= shipped["session t-test"]


# Public data --------------------------------------------------------------------------


def test_the_public_result_is_the_recorded_one():
    try:
        real("cookie_cats")
    except RealDataUnavailable as error:
        pytest.skip(str(error))
    live = benchmarks.BENCHMARKS["real_cookie_cats"](draws=60).set_index(["metric", "method"])
    stored = recorded("real_cookie_cats").set_index(["metric", "method"])
    assert live.loc[("split", "chi-squared"), "p"] == pytest.approx(0.0086, abs=1e-4)
    for key in stored.index.drop(("split", "chi-squared")):
        assert live.loc[key, "effect"] == pytest.approx(stored.loc[key, "effect"], rel=1e-3)
        assert live.loc[key, "low"] == pytest.approx(stored.loc[key, "low"], abs=2e-3 + 0.001)
    one = stored["effect"]
    assert one["rounds", "Welch"] < 10 * one["rounds", "Welch, without one player"]
