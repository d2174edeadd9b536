"""Effects of experiments: against scipy and statsmodels, and how often their intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import NormalIndPower

from casebook.evaluate.event_quantiles import quantile_effect
from casebook.evaluate.experiments import (
    adjusted,
    bootstrap_effect,
    effect_of,
    posterior_effect,
    power,
    ratio_effect,
    ratio_with_se,
    sample_size,
    smallest_difference,
    srm,
    srm_power,
    welch,
)
from casebook.evaluate.holdback import holdback_sees, persistence

SHARES = {"control": 0.05, "treatment": 0.05, "rest": 0.90}


def clicks(rng: np.random.Generator, n: int, rate: float = 0.1):
    """Return clicks and impressions of users whose rates differ and go with their impressions."""
    impressions = 1 + rng.poisson(np.exp(rng.normal(2.5, 1, n)))
    own = np.clip(rng.beta(2, 18, n) * rate / 0.1, 0, 1)
    return rng.binomial(impressions, own), impressions


def test_welch_is_that_of_scipy():
    rng = np.random.default_rng(0)
    control, treatment = rng.normal(5, 1, 40), rng.normal(6, 3, 70)
    ours, theirs = (
        welch(control, treatment),
        stats.ttest_ind(treatment, control, equal_var=False),
    )
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert ours.relative == pytest.approx(treatment.mean() / control.mean() - 1)


def test_equal_constant_arms_have_no_effect_and_no_error():
    found = welch([2, 2, 2], [2, 2])
    assert (found.effect, found.se, found.p) == (0, 0, 1)
    assert welch([2, 2, 2], [3, 3]).p == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: welch([1], [1, 2]), "control has 1 units"),
        (lambda: welch([1, 2], [1, np.nan]), "1 missing or infinite values of 2"),
        (lambda: ratio_with_se([1, 2], [0, 0]), "sum to zero"),
        (lambda: ratio_with_se([1, 2, 3], [1, 2]), "3 numerators and 2 denominators"),
        (lambda: quantile_effect(([1, 2], [1, 2]), ([1, 2], [1, 2]), 1.0), "between 0 and 1"),
        (lambda: srm({"a": 1}, {"a": 1, "b": 1}), "name the same arms"),
        (lambda: srm({"a": 0, "b": 0}, {"a": 1, "b": 1}), "users counted"),
        (lambda: srm({"a": 5, "b": 5}, {"a": 1, "b": 0}), "must be positive"),
        (lambda: srm({"a": 5, "b": np.inf}, {"a": 1, "b": 1}), "users counted"),
        (lambda: sample_size(1, 0), "the difference not zero"),
    ],
)
def test_what_cannot_be_tested_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_without_an_error_there_is_no_p():
    assert np.isnan(effect_of(1, np.nan, 2, 1).p)


def test_a_relative_effect_of_a_control_at_zero_is_missing():
    assert np.isnan(effect_of(0, 1, 2, 1).relative)


def coverage(estimate, draw, true: float, runs: int = 600) -> float:
    """Return how often the interval of an effect holds the true one."""
    hits = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        found = estimate(draw(rng), draw(rng))
        hits += found.low <= true <= found.high
    return hits / runs


def test_the_delta_method_covers_a_ratio_where_the_binomial_does_not():
    def naive(control, treatment):
        shares = [top.sum() / bottom.sum() for top, bottom in (control, treatment)]
        errors = [
            np.sqrt(p * (1 - p) / arm[1].sum())
            for p, arm in zip(shares, (control, treatment), strict=True)
        ]
        return effect_of(shares[0], errors[0], shares[1], errors[1])

    def draw(rng):
        return clicks(rng, 400)

    assert coverage(ratio_effect, draw, 0.0) == pytest.approx(0.95, abs=0.025)
    assert coverage(naive, draw, 0.0) < 0.8


def test_a_quantile_is_covered_by_units_and_not_by_events():
    def draw(rng):
        n = 1 + rng.poisson(6, 300)
        units = np.repeat(np.arange(300), n)
        return np.exp(rng.normal(0, 0.5, 300)[units] + rng.normal(0, 0.4, n.sum())), units

    def by_unit(control, treatment):
        return quantile_effect(control, treatment, 0.9)

    def by_event(control, treatment):
        return quantile_effect(*((v, np.arange(len(v))) for v, _ in (control, treatment)), 0.9)

    assert coverage(by_unit, draw, 0.0) == pytest.approx(0.95, abs=0.025)
    assert coverage(by_event, draw, 0.0) < 0.85


def test_rounded_values_keep_the_coverage_of_a_quantile():
    """Loading times rounded up to 100 ms; a tenth slower in treatment."""
    hits, plain = [], []
    for seed in range(150):
        rng, arms = np.random.default_rng(seed), []
        for slower in (1.0, 1.06):
            n = 1 + rng.poisson(4, 1_200)
            units = np.repeat(np.arange(1_200), n)
            exact = 700 * np.exp(rng.normal(0, 0.25, 1_200)[units] + rng.normal(0, 0.2, n.sum()))
            arms.append((np.ceil(slower * exact / 100) * 100, units))
        found = quantile_effect(*arms, 0.95)
        hits.append(found.relative_low < 0.06 < found.relative_high)
        rough = [np.quantile(values, 0.95) for values, _ in arms]
        plain.append(rough[1] / rough[0] - 1)
    assert np.mean(hits) > 0.9
    assert len({round(x, 6) for x in plain}) < 6  # without spreading, a few values are possible


def test_the_bootstrap_agrees_with_the_delta_method():
    rng = np.random.default_rng(1)
    control, treatment = clicks(rng, 3_000), clicks(rng, 3_000, 0.12)
    ours = bootstrap_effect(control, treatment, draws=400)
    delta = ratio_effect(control, treatment)
    assert ours.effect == pytest.approx(delta.effect)
    assert ours.se == pytest.approx(delta.se, rel=0.12)
    again = bootstrap_effect(control, treatment, draws=400)
    assert again == ours
    mean = bootstrap_effect((control[0], 1), (treatment[0], 1), draws=400)
    assert mean.se == pytest.approx(welch(control[0], treatment[0]).se, rel=0.12)


def test_the_split_test_is_that_of_scipy():
    counts = {"control": 5_200, "treatment": 4_700, "rest": 90_100}
    found = srm(counts, SHARES)
    theirs = stats.chisquare([*counts.values()], np.array([*SHARES.values()]) * 100_000)
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert found.table.loc["control", "part"] == pytest.approx(8)
    assert found.table["part"].sum() == pytest.approx(found.statistic)
    assert srm({a: c / 10 for a, c in counts.items()}, SHARES).p > 0.2


def test_the_power_of_the_split_test_is_the_one_that_draws_show():
    true = {"control": 0.052, "treatment": 0.047, "rest": 0.901}
    draws = np.random.default_rng(0).multinomial(50_000, [*true.values()], 4_000)
    expected = 50_000 * np.array([*SHARES.values()])
    p = stats.chi2.sf(((draws - expected) ** 2 / expected).sum(axis=1), 2)
    assert (p < 0.01).mean() == pytest.approx(srm_power(true, SHARES, 50_000, 0.01), abs=0.02)
    assert srm_power(SHARES, SHARES, 10_000, 0.01) == pytest.approx(0.01)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_power_and_size_are_those_of_statsmodels(ratio):
    theirs = NormalIndPower()
    for effect, n in ((0.02, 20_000), (0.1, 900), (0.3, 50)):
        wanted = theirs.power(effect, n, 0.05, ratio=ratio)
        assert power(2, 2 * effect, n, ratio=ratio) == pytest.approx(wanted, rel=1e-9)
        needed = theirs.solve_power(effect, power=0.8, alpha=0.05, ratio=ratio)
        assert sample_size(2, 2 * effect, ratio=ratio) == pytest.approx(np.ceil(needed), abs=1)
        found = smallest_difference(2, needed, ratio=ratio)
        assert found == pytest.approx(2 * effect, rel=1e-3)
    assert power(1, 0.1, [100, 200]).shape == (2,)


def test_several_tests_are_adjusted_and_a_missing_one_does_not_count():
    p = [0.004, 0.015, np.nan, 0.03, 0.2]
    assert adjusted(p).tolist() == pytest.approx([0.016, 0.045, np.nan, 0.06, 0.2], nan_ok=True)
    assert adjusted(p, "bh").tolist() == pytest.approx(
        [0.016, 0.03, np.nan, 0.04, 0.2], nan_ok=True
    )
    assert (adjusted(p, "bonferroni")[[0, 4]] == [0.016, 0.8]).all()


def test_the_same_users_for_longer_see_less_than_the_root_of_the_days_promises():
    rng = np.random.default_rng(5)
    level = rng.lognormal(0, 1, (20_000, 1))
    weeks = level * rng.lognormal(-0.5, 1, (20_000, 8))
    known = persistence(weeks[:, 0], weeks[:, 1], weeks[:, :2].mean())
    for days in (14, 56):
        measured = weeks[:, : days // 7].mean(axis=1).std() / weeks.mean()
        assert known.sd(days) == pytest.approx(measured, rel=0.1)
    by_the_root = known.sd(14) * np.sqrt(14 / 56)
    assert known.sd(56) > 1.3 * by_the_root
    seen = holdback_sees(known, 380_000, 0.05, 30)
    assert seen == pytest.approx(2.8 * known.sd(30) / np.sqrt(19_000 * 0.95), rel=0.01)
    noise = persistence(*rng.normal(1, 1, (2, 20_000)), 1.0)  # users alike: the root holds
    assert noise.sd(56) == pytest.approx(noise.sd(14) / 2, rel=0.05)


def test_the_posterior_of_a_share_is_that_of_beta():
    control, treatment = np.repeat([1, 0], [30, 70]), np.repeat([1, 0], [45, 55])
    found = posterior_effect(control, treatment)
    assert found.control == pytest.approx(31 / 102, abs=2e-3)
    assert found.effect == pytest.approx(46 / 102 - 31 / 102, abs=3e-3)
    assert found.low < found.effect < found.high
    assert found.p == pytest.approx(0.03, abs=0.015)
