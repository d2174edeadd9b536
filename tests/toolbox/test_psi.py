"""The population stability index: quiet where nothing changes, also in small samples."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.psi import Bins, by_chance, noise, psi


@pytest.mark.parametrize(("n", "m"), [(200, 200), (300, 5_000)])
def test_where_nothing_changes_the_limit_holds_and_the_usual_one_does_not(n, m):
    rng = np.random.default_rng(n)
    found = np.array([psi(rng.gamma(2, size=n), rng.gamma(2, size=m)) for _ in range(600)])
    for level in (0.9, 0.99):
        assert (found > noise(n, m, level=level)).mean() == pytest.approx(1 - level, abs=0.03)
    expected = 9 * (1 / n + 1 / m)
    assert found.mean() == pytest.approx(expected, rel=0.1)


def test_a_shift_is_found_and_ties_stay_together():
    rng = np.random.default_rng(1)
    before = rng.normal(size=2_000)
    assert psi(before, before + 0.4) > 0.1 > noise(2_000, 2_000)
    assert psi(np.zeros(50), np.zeros(70)) == pytest.approx(0, abs=1e-3)
    assert psi(np.r_[np.zeros(50), 1], np.ones(70)) > 1
    assert psi(before, before) == 0


@pytest.mark.parametrize(
    ("before", "now", "bins", "says"),
    [([], [1], 10, "give some"), ([1], [np.nan], 10, "finite"), ([1], [1], 1, "give some")],
)
def test_what_is_no_sample_is_refused(before, now, bins, says):
    with pytest.raises(ValueError, match=says):
        psi(before, now, bins)


def test_bins_give_the_index_and_its_expectation():
    rng = np.random.default_rng(3)
    before, now = rng.normal(size=4_000), rng.normal(size=700) + 0.1
    bins = Bins.of(before)
    assert bins.psi(bins.counts(now)) == pytest.approx(psi(before, now), rel=1e-6)
    by_day = bins.counts(np.r_[now, now], np.repeat([0, 1], 700), 2)
    assert bins.psi(by_day) == pytest.approx([psi(before, now)] * 2, rel=1e-6)
    missing = np.r_[now, np.nan]
    assert (bins.counts(missing) == bins.counts(now)).all()


@pytest.mark.parametrize("n", [150, 2_000])
@pytest.mark.parametrize("flag", [False, True])
def test_the_expectation_and_the_p_value_hold_for_values_and_for_flags(n, flag):
    rng = np.random.default_rng(n + flag)
    value, p = [], []
    for _ in range(400):
        before, now = rng.random(3_000), rng.random(n)
        if flag:
            # a share just on a decile can leave one bin without a value of the reference
            before, now = before < 0.35, now < 0.35
        bins = Bins.of(before)
        value.append(bins.psi(bins.counts(now)) / bins.expected(n))
        p.append(bins.p_value(value[-1] * bins.expected(n), n))
    assert len(bins.shares) == (2 if flag else 10)
    assert np.mean(value) == pytest.approx(1, abs=0.15)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_reference_that_is_none_is_refused():
    for values in ([], [1.0, np.nan]):
        with pytest.raises(ValueError, match="finite numbers"):
            Bins.of(values)


@pytest.mark.parametrize("moved", [1.0, 9.0])
def test_a_constant_that_moves_is_seen_up_and_down(moved):
    before, now = np.full(1_000, 5.0), np.full(500, moved)
    bins = Bins.of(before)
    assert psi(before, now) > 10 and bins.psi(bins.counts(now)) > 10
    assert psi(before, before) == 0
    assert bins.psi(bins.counts(before)) == 0 and len(bins.shares) == 3
    assert bins.psi(bins.counts(np.r_[before[:450], now[:50]])) > 0.25


def test_a_lowest_value_that_falls_is_seen_and_nothing_else_moves():
    rare = np.r_[np.zeros(950), np.ones(50)]
    assert psi(rare, rare - (rare == 0) * 3) > 10  # was 0: all at or below the lowest edge
    rng = np.random.default_rng(2)
    before, now = rng.normal(size=2_000), rng.normal(size=200) - 0.2
    edges = np.quantile(before, np.linspace(0, 1, 11)[1:-1])
    shares = [
        (np.bincount(np.searchsorted(edges, x), minlength=10) + 0.5) / (len(x) + 5)
        for x in (before, now)
    ]
    expected = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    assert psi(before, now) == pytest.approx(expected)


def test_what_chance_alone_does_is_what_the_formula_says():
    table = by_chance((100, 2_000), runs=300).set_index("n")
    assert table["mean"].to_numpy() == pytest.approx(table["expected"].to_numpy(), rel=0.12)
    assert table["p_05"].between(0.02, 0.09).all()
    assert table.loc[100, "any_10"] > 0.99 and table.loc[2_000, "over_10"] == 0
