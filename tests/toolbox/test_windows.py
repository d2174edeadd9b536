"""Trailing windows: equal to a naive loop, exact at the edges, quick. About 3 s."""

import time

import numpy as np
import pandas as pd
import pytest

from casebook.features.windows import DAY, Groups, milliseconds, trailing


def naive(keys, ms, values, window, delay, include_current):
    """Return the sums of :func:`trailing` by a loop over all pairs, times in milliseconds."""
    out = np.zeros(len(keys))
    width, behind = window * DAY, delay * DAY
    for i in range(len(keys)):
        if keys[i] < 0:
            continue
        for j in range(len(keys)):
            inside = ms[i] - behind - width < ms[j] <= ms[i] - behind
            before = j < i or (j == i and include_current) if delay == 0 else True
            out[i] += values[j] * (keys[j] == keys[i] and inside and before)
    return out


def table(seed, n=60):
    """Return rows whose times often coincide and often lie exactly a window apart."""
    rng = np.random.default_rng(seed)
    ms = np.sort(rng.integers(0, 50, n)) * (DAY // 4)
    return rng.integers(-1, 4, n), ms, rng.integers(-500, 9000, n)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("delay", [0.0, 0.25, 7.0])
def test_it_equals_the_loop_in_days_and_in_dates(seed, delay):
    keys, ms, values = table(seed)
    windows = (0.25, 1.0, 7.0, np.inf)
    dates = np.datetime64("2025-07-01", "ms") + ms.astype("timedelta64[ms]")
    for times in (ms / DAY, dates, pd.Series(dates).to_numpy()):
        sums = trailing(keys, times, values, windows, delay)
        assert sums.shape == (len(keys), 4) and sums.dtype == float
        for column, window in enumerate(windows):
            assert (sums[:, column] == naive(keys, ms, values, window, delay, False)).all()
    assert (trailing(keys, dates, values, 1.0, delay) == sums[:, 1]).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_current_row_counts_when_asked(seed):
    keys, ms, values = table(seed)
    sums = trailing(keys, ms / DAY, values, 1.0, include_current=True)
    assert (sums == naive(keys, ms, values, 1.0, 0.0, True)).all()
    without = trailing(keys, ms / DAY, values, 1.0)
    assert (sums - without == np.where(keys >= 0, values, 0)).all()


@pytest.mark.parametrize(
    ("window", "delay", "include"),
    [(1.0 + 1 / DAY, 0, False), (1.0, 0.25 + 1 / DAY, False), (1.0, 0.0, True), (0.75, 0, False)],
)
def test_the_loop_finds_an_edge_that_is_off_by_a_millisecond(window, delay, include):
    keys, ms, values = table(0)
    wanted = naive(keys, ms, values, 1.0, 0.25 if delay else 0.0, False)
    got = trailing(keys, ms / DAY, values, window, delay, include_current=include)
    assert (got != wanted).any()


def test_the_edge_is_open_on_the_left_and_closed_on_the_right():
    keys, times, ones = [1, 1, 1], [0.0, 1.0, 1.1], np.ones(3, int)
    assert trailing(np.array(keys), times, ones, 1.0).tolist() == [0, 0, 1]
    assert trailing(np.array(keys), times, ones, 1.0, 1.0).tolist() == [0, 1, 1]
    # 3.1 - 1 is not 2.1 in binary, but it is in milliseconds.
    assert trailing(np.array([1, 1]), [2.1, 3.1], ones[:2], 1.0).tolist() == [0, 0]


def test_days_far_from_zero_and_huge_keys_are_exact():
    rng = np.random.default_rng(3)
    keys, ms, values = table(7)
    keys = np.where(keys < 0, -1, keys * 2**50 + rng.integers(5))
    far = trailing(keys, 20_000 + ms / DAY, values, (1.0, 7.0), 0.25)
    assert (far[:, 0] == naive(keys, ms, values, 1.0, 0.25, False)).all()
    assert (far[:, 1] == naive(keys, ms, values, 7.0, 0.25, False)).all()


def test_floats_and_booleans_sum_too():
    keys, ms, values = table(2)
    flags = values > 4000
    assert (trailing(keys, ms / DAY, flags, 7.0) == naive(keys, ms, flags, 7.0, 0.0, False)).all()
    floats = values / 100
    wanted = naive(keys, ms, floats, 7.0, 0.0, False)
    np.testing.assert_allclose(trailing(keys, ms / DAY, floats, 7.0), wanted, atol=1e-9)


def test_no_rows_and_no_keys():
    empty = np.array([], int)
    assert trailing(empty, empty.astype(float), empty, (1.0, 7.0)).shape == (0, 2)
    assert trailing(np.array([-1, -1]), [0.0, 0.1], np.ones(2), 1.0).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": [1.0, 0.5]}, "time falls at row 1"),
        ({"times": [0.5, np.nan]}, "row 1 has no time"),
        ({"times": np.array(["NaT", "2025-07-01"], "datetime64[ms]")}, "row 0 has no time"),
        ({"keys": np.array([1.0, 2.0])}, "factorise them first"),
        ({"keys": np.array([1, 2, 3])}, "give one a row"),
        ({"times": [0.0]}, "give one of each a row"),
        ({"values": [1.0, np.nan]}, "finite numbers"),
        ({"values": ["a", "b"]}, "finite numbers"),
        ({"window": 0.0}, "windows are positive"),
        ({"window": (1.0, -1.0)}, "windows are positive"),
        ({"delay": -1.0}, "look ahead"),
        ({"delay": 7.0, "include_current": True}, "ends 7.0 days ago"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {"keys": np.array([1, 1]), "times": [0.0, 0.5], "values": [1, 1], "window": 1.0}
    assert trailing(**good).tolist() == [0, 1]
    with pytest.raises(ValueError, match=message):
        trailing(**(good | change))


def test_places_of_a_group_stay_within_it():
    keys, ms, _ = table(4)
    groups = Groups(keys, ms)
    for side in ("left", "right"):
        for shift in (-(10**9), -1, 0, 1, 10**9):
            places = groups.place(groups.times + shift, side)
            assert (places >= groups.first).all() and (places <= groups.last).all()
    assert (milliseconds(np.array([0.5, 1.0])) == [DAY // 2, DAY]).all()


def test_neighbours_in_a_group_are_the_nearest_that_count():
    keys, ms, values = table(5)
    groups, counted = Groups(keys, ms), values > 3000
    for row, place in enumerate(groups.inverse):
        assert groups.order[place] == row
        same = [j for j in range(len(keys)) if keys[j] == keys[row] and counted[j]]
        before, after = groups.before(counted)[place], groups.after(counted)[place]
        assert [j for j in same if j < row][-1:] == ([groups.order[before]] if before >= 0 else [])
        later = [j for j in same if j > row][:1]
        assert later == ([groups.order[after]] if after < len(keys) else [])
    group = groups.group[groups.inverse[10]]
    first = groups.place_of_row(np.array([group]), np.array([11]))[0]
    wanted = next(j for j in range(11, len(keys)) if keys[j] == keys[10])
    assert groups.order[first] == wanted


def test_a_million_rows_take_seconds():
    rng = np.random.default_rng(0)
    n = 1_000_000
    keys, times = rng.integers(0, 6000, n), np.sort(rng.uniform(0, 180, n))
    values = rng.integers(100, 20_000, n)
    start = time.process_time()
    trailing(keys, times, values, (1.0, 7.0, 30.0))
    # Six-tenths of a second on a quiet machine: the bound is for a busy one.
    assert time.process_time() - start < 4
