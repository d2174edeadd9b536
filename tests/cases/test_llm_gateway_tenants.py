"""Case 20: the tenants and their traffic keep what they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.cases.llm_gateway.config import read
from casebook.cases.llm_gateway.world.tenants import (
    FORMATS,
    arrivals,
    document,
    limit_of,
    share_of,
    superposed,
)

URLS = dict.fromkeys(FORMATS, "http://127.0.0.1:1")


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_tenants_are_a_configuration_with_a_few_large_ones(seed):
    shares = share_of(100, seed)
    config = read(document(URLS, shares, 120, seed))
    assert len(config.tenants) == 100 and shares.sum() == pytest.approx(1)
    assert 0.25 < shares.nlargest(10).sum() < 0.8 and shares.iloc[-1] < 0.01
    guarded = sum(one.guard.pii_in == "redact" for one in config.tenants)
    assert 20 <= guarded <= 48
    assert config == read(document(URLS, share_of(100, seed), 120, seed))


@pytest.mark.parametrize("seed", range(5))
def test_arrivals_have_their_rate_bursts_and_one_that_rushes(seed):
    shares = share_of(100, seed)
    calm = arrivals(shares, 50, 240, seed)
    per_second = np.bincount(calm["at"].astype(int), minlength=240)
    assert per_second.mean() == pytest.approx(50, rel=0.15)
    assert per_second.var() > 5 * per_second.mean(), "Poisson alone has a ratio of 1"
    assert calm["tokens_out"].median() == pytest.approx(40, rel=0.1)
    assert calm["tokens_out"].max() > 10 * calm["tokens_out"].median()
    loud = arrivals(shares, 50, 240, seed, more={"t099": 3.0})
    own = loud.loc[loud["tenant"] == "t099", "at"]
    assert own.between(80, 160).sum() == pytest.approx(80 * 3, rel=0.25)
    assert loud["at"].is_monotonic_increasing


def bursty(seconds: int = 1_000) -> pd.DataFrame:
    """Return a trace of ten requests at once every ten seconds."""
    at = np.repeat(np.arange(0, seconds + 1, 10), 10)
    times = pd.Timestamp("2023-11-16") + pd.to_timedelta(at, "s")
    rows = {"TIMESTAMP": times, "ContextTokens": 5, "GeneratedTokens": np.arange(len(at))}
    return pd.DataFrame(rows)


def test_more_traffic_of_a_trace_is_more_of_its_bursts_and_none_is_faster():
    trace, shares = bursty(), share_of(3, 1)
    made = superposed(trace, shares, rps=20, seconds=500, seed=1)
    assert len(made) == pytest.approx(20 * 500, rel=0.1)
    assert made["at"].is_monotonic_increasing and made["at"].between(0, 500).all()
    assert set(made["tokens_in"]) == {5} and made["tokens_out"].nunique() > 500
    sizes = made["at"].round(6).value_counts()
    assert sizes.max() <= 20, "a burst of ten stays one of ten, but where two copies meet"
    pd.testing.assert_frame_equal(made, superposed(trace, shares, 20, 500, seed=1))
    assert not made.equals(superposed(trace, shares, 20, 500, seed=2))
    with pytest.raises(ValueError, match="lower seconds"):
        superposed(trace, shares, rps=20, seconds=2_000, seed=1)


def test_a_limit_is_four_times_the_mean_rate_and_sixty_a_minute_at_least():
    assert limit_of(0.1, 20) == {"per_minute": 480, "burst": 80}
    assert limit_of(0.001, 20) == {"per_minute": 60, "burst": 10}
