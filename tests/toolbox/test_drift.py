"""Drift by days: quiet where nothing happens, also where days differ; loud where columns move."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from casebook.serving import drift


def days(seed: int, count: int = 120, n: int = 200, columns: int = 10, wobble: float = 0.0):
    rng = np.random.default_rng(seed)
    each = rng.normal(size=(count, columns)) * wobble
    X = rng.normal(size=(count * n, columns)) + np.repeat(each, n, axis=0)
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(columns)])
    return frame.assign(day=np.repeat(np.arange(count), n), score=frame.sum(axis=1))


COLUMNS = [f"x{i}" for i in range(10)] + ["score"]
SPANS = ((0, 30), (30, 80))


def rates(wobble: float, seeds=range(4)) -> pd.Series:
    found = []
    for seed in seeds:
        rows = days(seed, wobble=wobble)
        ref = drift.reference(rows, COLUMNS, *SPANS)
        seen = drift.daily(rows[rows["day"] >= 80], ref, ks=True)
        found.append({name: f(seen, ref).mean() for name, f in drift.DETECTORS.items()})
    return pd.DataFrame(found).mean()


def test_p_values_hold_where_days_are_alike_and_fail_where_they_are_not():
    alike, differing = rates(0.0), rates(0.1)
    for name in ("PSI, null and columns", "KS, Bonferroni"):
        assert alike[name] < 0.1
        assert differing[name] > 0.2
    for found in (alike, differing):
        assert (found[["PSI, quiet days", "KS, quiet days", "PSI, one limit"]] < 0.06).all()


def test_half_a_standard_deviation_in_one_column_is_seen_on_the_first_days():
    rows = days(1, wobble=0.05)
    ref = drift.reference(rows, COLUMNS, *SPANS)
    moved = rows[rows["day"] >= 110].copy()
    moved["x3"] += 0.5
    seen = drift.daily(moved, ref, ks=True)
    for name in ("PSI, quiet days", "KS, quiet days", "KS, Bonferroni"):
        assert drift.DETECTORS[name](seen, ref).iloc[:2].any()
    ratio = drift.ratio(seen, ref).groupby(seen["column"]).mean()
    assert ratio.idxmax() == "x3"


def test_a_day_with_fewer_rows_is_no_alarm():
    rows = days(2, n=800, wobble=0.0)
    ref = drift.reference(rows, COLUMNS, *SPANS)
    few = rows[rows["day"] >= 80].groupby("day").head(100)
    seen = drift.daily(few, ref)
    assert drift.DETECTORS["PSI, quiet days"](seen, ref).mean() < 0.1
    naive = seen["psi"] > ref.limits["psi"] * 9 * (1 / 800 + 1 / 24_000)
    assert naive.groupby(seen["day"]).any().mean() > 0.3  # without the size of the day


def test_the_distance_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for a, b in ((rng.normal(size=500), rng.normal(size=300) + 0.2), (rng.poisson(1, 400),) * 2):
        rows = pd.DataFrame({"day": np.repeat([0, 1, 2], [len(a), len(a), len(b)])})
        rows["x"] = np.r_[a, a, b].astype(float)
        ref = drift.reference(rows, ["x"], (0, 1), (1, 2))
        seen = drift.daily(rows[rows["day"] == 2], ref, ks=True).iloc[0]
        expected = ks_2samp(a, b, method="asymp")
        assert seen["ks"] == pytest.approx(expected.statistic)
        assert seen["p_ks"] == pytest.approx(expected.pvalue, abs=0.02)


def test_missing_values_repeats_and_levels_are_counted():
    rows = days(3, count=10, columns=2).assign(money=lambda t: np.exp(t["x0"]))
    ref = drift.reference(rows, ["money", "x1"], (0, 4), (4, 8), continuous=["money"])
    broken = rows[rows["day"] >= 7].copy()
    of = broken["day"].to_numpy()
    broken.loc[of == 8, "money"] = broken.loc[of == 7, "money"].to_numpy()
    broken.loc[of == 9, "money"] *= 100
    broken.loc[of == 9, "x1"] = np.nan
    seen = drift.daily(broken, ref).set_index(["column", "day"])
    assert seen.loc["money", "repeats"].tolist() == [0, 1, 0]
    assert seen.loc[("money", 9), "level"] == pytest.approx(np.log(100), abs=0.3)
    assert seen.loc[("x1", 9), "missing"] == 1
    assert np.isnan(seen.loc[("x1", 9), "psi"])
    assert (seen.loc["x1", ["level", "repeats"]] == 0).all(axis=None)


def test_a_dead_column_and_days_without_rows_are_named():
    rows = days(4, count=12, columns=2).assign(flag=lambda t: (t["x0"] > 0) * 1.0)
    ref = drift.reference(rows, ["x1", "flag"], (0, 4), (4, 8))
    broken = rows[(rows["day"] >= 8) & (rows["day"] != 10)].copy()
    broken.loc[broken["day"] == 9, ["x1", "flag"]] = 0.0
    seen = drift.daily(broken, ref, until=13).set_index(["day", "column"])
    assert seen["dead"].groupby("day").sum().tolist() == [0, 2, 0, 0, 0, 0]
    assert seen["missing"].groupby("day").mean().tolist() == [0, 0, 1, 0, 1, 1]
    assert seen.loc[[10, 12, 13], "psi"].isna().all()
    few = rows[rows["day"] >= 8].groupby("day").head(10).assign(flag=1.0)
    assert not drift.daily(few, ref)["dead"].any()  # ten of one kind may be chance


def test_a_cusum_adds_up_what_no_single_day_shows():
    steps = pd.Series([0.0] * 10 + [1.2] * 10)
    fired = drift.cusum(steps, 0.0, 1.0)
    assert not fired[:10].any() and fired.idxmax() == 17
    assert not drift.cusum(steps / 3, 0.0, 1.0).any()


def test_a_cusum_of_no_number_alarms_or_is_refused():
    lost = pd.Series([0.0, np.nan, 0.0])
    assert drift.cusum(lost, 0.0, 1.0).tolist() == [False, True, False]
    assert drift.cusum(pd.Series([0.0, 0.1]), 0.0, 0.0).tolist() == [False, True]
    for usual, sd in ((0.0, np.nan), (np.nan, 1.0), (0.0, np.inf)):
        with pytest.raises(ValueError, match="two quiet days"):
            drift.cusum(pd.Series([0.0, 1e6]), usual, sd)


def test_a_day_without_values_alarms_every_detector_and_the_clock_may_say_zero():
    rows = days(6, count=100, columns=2)
    ref = drift.reference(rows, ["x0", "x1"], *SPANS)
    calm = rows[rows["day"].between(85, 87)]
    empty = calm.assign(x1=calm["x1"].where(calm["day"] != 86))
    for day, seen in (
        (86, drift.daily(empty, ref, ks=True)),
        (88, drift.daily(calm, ref, ks=True, until=88)),
    ):
        for name, alarms in drift.DETECTORS.items():
            assert alarms(seen, ref)[day], name
        assert not drift.DETECTORS["PSI, one limit"](seen, ref)[85]
    early = drift.daily(calm.assign(day=calm["day"] - 90), ref, until=0)
    assert early["day"].max() == 0 and early.set_index("day").loc[0, "missing"].eq(1).all()


def test_a_classifier_tells_days_apart_only_where_they_differ():
    rows = days(4, count=4, n=800)
    usual, same = rows[rows["day"] < 2], rows[rows["day"] >= 2]
    columns = ["x0", "x1", "x2"]
    assert drift.separability(usual, same, columns, 0) == pytest.approx(0.5, abs=0.05)
    assert drift.separability(usual, same.assign(x1=same["x1"] + 3), columns, 0) > 0.8
    far = usual.assign(x1=usual["x1"] + 5)
    assert drift.separability(far, same.assign(x1=-5 - same["x1"]), columns, 0) > 0.95  # a sign


def test_what_cannot_be_compared_is_refused():
    rows = days(5, count=10, columns=2)
    with pytest.raises(ValueError, match="share no day"):
        drift.reference(rows, ["x0"], (0, 6), (5, 8))
    with pytest.raises(ValueError, match="have rows"):
        drift.reference(rows, ["x0"], (0, 6), (20, 28))
    with pytest.raises(ValueError, match="x9"):
        drift.reference(rows, ["x9"], (0, 4), (4, 8))
    ref = drift.reference(rows, ["x0"], (0, 4), (4, 8))
    with pytest.raises(ValueError, match="at least one day"):
        drift.daily(rows[rows["day"] > 50], ref)
    shuffled = drift.daily(rows.sample(frac=1, random_state=0), ref)
    pd.testing.assert_frame_equal(shuffled, drift.daily(rows, ref), rtol=1e-9)
