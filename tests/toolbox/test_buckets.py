"""Token buckets: what passes over any span, and how long the others wait."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.serving.buckets import Bucket


@pytest.mark.parametrize("per_minute", [7, 60, 1000])
@pytest.mark.parametrize("seed", [1, 2])
def test_over_ten_minutes_a_bucket_is_within_one_per_cent(per_minute, seed):
    rng, burst = np.random.default_rng(seed), 5
    bucket, times = Bucket(per_minute, burst, 0.0), np.sort(rng.uniform(0, 600, 40 * per_minute))
    passed = sum(bucket.take(float(at)) == 0 for at in times)
    assert passed <= burst + 10 * per_minute
    assert passed >= 0.99 * 10 * per_minute


def test_a_caller_that_waits_as_told_passes_and_a_clock_that_goes_back_gives_nothing():
    bucket, now = Bucket(60, 1, 100.0), 100.0
    assert bucket.take(now) == 0
    wait = bucket.take(now)
    assert wait == pytest.approx(1.0) and bucket.take(now - 50) == pytest.approx(1.0)
    assert bucket.take(now + wait) == 0
