"""Two shares: the arithmetic against published numbers and simulation, the evidence at any time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from casebook.evaluate import two_shares as ts
from casebook.evaluate.power import needed_in_each_arm


def test_equal_groups_two_sided_need_what_the_other_module_says():
    assert ts.sample(0.05, 0.06, sides=2).first == needed_in_each_arm(0.05, 0.01)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
@pytest.mark.parametrize("variance", ["pooled", "unpooled"])
def test_power_is_the_inverse_of_the_sample(share, variance):
    n = ts.sample(0.01, 0.013, share, 0.9, 0.02, variance=variance).first
    assert abs(ts.power(n, 0.01, 0.013, share, 0.02, variance=variance) - 0.9) < 1e-3


def test_the_exact_test_is_scipys():
    ours = float(ts.p_value(1_000, 9, 19_000, 95))
    theirs = stats.binomtest(9, 104, 0.05, alternative="greater").pvalue
    assert abs(ours - theirs) < 1e-12


def test_the_exact_power_is_that_of_drawn_canaries_and_the_level_is_kept():
    rng, n, m = np.random.default_rng(0), 10_200, 193_800
    for rate, low, high in ((0.002, 0.79, 0.815), (0.001, 0.03, 0.05)):
        x, y = rng.binomial(n, rate, 20_000), rng.binomial(m, 0.001, 20_000)
        found = (ts.p_value(n, x, m, y) <= 0.05).mean()
        assert low < found < high
        assert abs(found - ts.exact_power(n, 0.001, rate, 0.05)) < 0.01


def test_the_exact_sample_is_enough_at_all_sizes_above():
    n = ts.exact_sample(0.01, 0.03, 0.1).first
    above = [ts.exact_power(k, 0.01, 0.03, 0.1) for k in range(n, n + 200, 7)]
    assert min(above) > 0.79 and ts.exact_power(int(0.9 * n), 0.01, 0.03, 0.1) < 0.8


@pytest.mark.parametrize("rate", [0.005, 0.3])
def test_the_evidence_keeps_its_level_when_each_request_is_looked_at(rate):
    rng = np.random.default_rng(3)
    ours, ill = rng.random((1_000, 3_000)) < 0.1, rng.random((1_000, 3_000)) < rate
    counts = [np.cumsum(one, axis=1) for one in (ours, ours & ill, ~ours, ~ours & ill)]
    assert (ts.log_evidence(*counts).max(axis=1) >= np.log(20)).mean() < 0.05


def test_the_evidence_is_the_mean_of_the_likelihood_ratios():
    w, r = 0.2, 3.0
    p = r * w / (r * w + 1 - w)
    ratio = stats.binom.pmf(4, 9, p) / stats.binom.pmf(4, 9, w)
    assert np.isclose(np.exp(ts.log_evidence(200, 4, 800, 5, [r])), ratio)
    both = np.exp(ts.log_evidence(200, 4, 800, 5, [r, 2.0]))
    assert np.isclose(both, (ratio + np.exp(ts.log_evidence(200, 4, 800, 5, [2.0]))) / 2)


def test_nothing_yet_is_no_evidence():
    assert ts.log_evidence(0, 0, 0, 0) == 0 and ts.p_value(0, 0, 0, 0) == 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: ts.sample(0, 0.1), "lie between 0 and 1"),
        (lambda: ts.sample(0.2, 0.1), "the first is larger"),
        (lambda: ts.sample(0.1, 0.2, variance="own"), "pooled or unpooled"),
        (lambda: ts.p_value(1, 0, 1, 0, "t"), "exact, pooled or unpooled"),
    ],
)
def test_what_makes_no_sense_is_said(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def test_the_evidence_against_a_known_share_keeps_its_level_at_all_looks():
    rng = np.random.default_rng(3)
    bad = rng.binomial(50, [[[0.01]], [[0.02]]], (2, 2_000, 200)).cumsum(axis=2)
    seen = ts.log_evidence_against(50 * np.arange(1, 201), bad, 0.01) >= np.log(20)
    alike, twice = seen.any(axis=2).mean(axis=1)
    assert alike <= 0.05
    assert twice > 0.99
    assert ts.upper(0, 100) > 0.03 > ts.upper(30, 3_000) > 0.01
