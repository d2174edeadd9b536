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
    replayed,
    share_of,
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
def test_arrivals_have_their_rate_bursts_and_one_noisy_tenant(seed):
    shares = share_of(100, seed)
    calm = arrivals(shares, 50, 240, seed)
    per_second = np.bincount(calm["at"].astype(int), minlength=240)
    assert per_second.mean() == pytest.approx(50, rel=0.15)
    assert per_second.var() > 5 * per_second.mean(), "Poisson alone has a ratio of 1"
    assert calm["tokens_out"].median() == pytest.approx(40, rel=0.1)
    assert calm["tokens_out"].max() > 10 * calm["tokens_out"].median()
    loud = arrivals(shares, 50, 240, seed, noisy=100)
    own = loud.loc[loud["tenant"] == "t099", "at"]
    expected = 50 * 80 * 100 * shares.iloc[-1]
    assert own.between(80, 160).sum() == pytest.approx(expected, rel=0.25)
    assert loud["at"].is_monotonic_increasing


def test_a_trace_keeps_its_order_lengths_and_bursts_at_another_rate():
    times = pd.Timestamp("2023-11-16") + pd.to_timedelta([0, 1, 1, 1, 9, 10], "s")
    trace = pd.DataFrame({"TIMESTAMP": times, "ContextTokens": range(6), "GeneratedTokens": 7})
    made = replayed(trace, share_of(3, 1), rps=3, seconds=2, seed=1)
    assert made["at"].tolist() == pytest.approx([0, 0.2, 0.2, 0.2, 1.8, 2.0])
    assert made["tokens_in"].tolist() == list(range(6))
    with pytest.raises(ValueError, match="lower rps or seconds"):
        replayed(trace, share_of(3, 1), rps=4, seconds=2, seed=1)
