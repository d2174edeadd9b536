"""The population stability index: quiet where nothing changes, also in small samples."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.psi import noise, psi


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
