"""An effect that fades, and markets that are switched: against effects that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from casebook.evaluate import designs, novelty


def fading(seed: int, lasting: float = 0.05, start: float = 0.4, n: int = 6_000):
    """Return minutes by day of users whose effect halves every three days."""
    rng = np.random.default_rng(seed)
    level = rng.lognormal(0, 0.5, (n, 1))
    treated = rng.random(n) < 0.5
    factor = 1 + treated[:, None] * (lasting + start * 2.0 ** (-np.arange(14) / 3))
    since = level * factor * rng.lognormal(-0.125, 0.5, (n, 14))
    since[np.arange(14) >= rng.integers(7, 15, (n, 1))] = np.nan
    return novelty.daily_effects(since, treated, level)


def test_the_fit_finds_what_lasts_where_the_mean_does_not():
    fits = [novelty.fit_decay(fading(seed)) for seed in range(30)]
    whole = [novelty.mean_over(fading(seed)).mean for seed in range(10)]
    lasting = np.array([fit.lasting.mean for fit in fits])
    assert lasting.mean() == pytest.approx(0.05, abs=0.01)
    assert np.mean(whole) > 0.12
    assert np.mean([fit.start.mean for fit in fits]) == pytest.approx(0.4, abs=0.02)
    held = [fit.lasting.low <= 0.05 <= fit.lasting.high for fit in fits]
    assert np.mean(held) >= 0.85
    assert novelty.fit_decay(fading(1), None).half == pytest.approx(3, abs=1)
    assert fits[0].at([0, 3])[0] > fits[0].at([0, 3])[1] > fits[0].lasting.mean


def test_a_prior_narrows_the_fit_and_pulls_it():
    daily = fading(2, n=600)
    free = novelty.fit_decay(daily)
    held = novelty.fit_decay(daily, prior=novelty.Prior(0.0, 1e-6))
    assert held.start.mean == pytest.approx(0, abs=1e-6)
    assert held.lasting.high - held.lasting.low < free.lasting.high - free.lasting.low
    assert {*daily.frame} == {"k", "effect", "low", "high"}


def test_a_week_less_what_is_expected_to_fade():
    daily, half = fading(1), 3.0
    plain = novelty.mean_over(daily, 7)
    sure = novelty.less_expected(daily, half, novelty.Prior(0.4, 0.0))
    weight = daily.weight[7:] / daily.weight[7:].sum()
    rest = weight @ 2.0 ** (-np.arange(7, 14) / half)
    assert plain.mean - sure.mean == pytest.approx(0.4 * rest)
    assert sure.high - sure.low == pytest.approx(plain.high - plain.low)
    unsure = novelty.less_expected(daily, half, novelty.Prior(0.4, 0.2))
    assert unsure.high - unsure.mean == pytest.approx(
        1.96 * np.hypot((plain.high - plain.mean) / 1.96, 0.2 * rest)
    )
    assert sure.low < 0.05 < sure.high


# Markets ------------------------------------------------------------------------------


def test_a_market_remembers_so_short_blocks_are_biased_and_a_split_of_users_more():
    market = designs.Market(noise=0.005, days=56)
    effect = {
        block: np.mean(
            [
                designs.switchback_effect(designs.switchback(seed, block, market)).relative
                for seed in range(6)
            ]
        )
        for block in (1, 24)
    }
    assert effect[1] < 0.5 * market.effect
    assert effect[24] == pytest.approx(market.effect, abs=0.004)
    burnt = designs.switchback_effect(designs.switchback(1, 6, market), burn=4)
    assert burnt.relative == pytest.approx(market.effect, abs=0.006)
    split = np.mean([designs.user_split(seed).relative for seed in range(20)])
    assert split > market.effect + 0.02


def test_few_blocks_have_the_interval_of_student():
    found = designs.switchback_effect(designs.switchback(3, 24))
    half = (found.high - found.effect) / found.se
    assert half == pytest.approx(t.ppf(0.975, 27))


def test_hours_are_not_independent():
    frame = designs.switchback(3, 12)
    assert (
        designs.switchback_effect(frame).se > 1.3 * designs.switchback_effect(frame, by="hour").se
    )
