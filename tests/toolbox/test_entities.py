"""What is known of a key: against plain loops over the rows before, with ties and without keys."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.features import entities
from casebook.features.windows import Groups

N, WINDOW, MEMORY = 400, 900, 2500


@pytest.fixture(params=range(4))
def rows(request):
    """Return keys (−1: none), members, times with many ties, and which rows count."""
    rng = np.random.default_rng(request.param)
    times = np.sort(rng.integers(0, 60, N)) * 300
    return rng.integers(-1, 6, N), rng.integers(0, 5, N), times, rng.random(N) < 0.8


def before(rows, i, counted=True):
    """Return the rows before i with its key, those that count alone."""
    keys, _, _, counts = rows
    return [j for j in range(i) if keys[j] == keys[i] >= 0 and (counts[j] or not counted)]


def check_others(made, rows) -> None:
    _, members, times, _ = rows
    for i in range(N):
        near = {members[j] for j in before(rows, i) if times[j] > times[i] - WINDOW}
        assert made[i] == len(near - {members[i]}), i


def test_others_are_the_distinct_members_within_the_window(rows):
    keys, members, times, counted = rows
    groups = Groups(keys, times)
    check_others(entities.others(groups, members, counted, WINDOW), rows)
    with pytest.raises(AssertionError):  # planted: uses are counted, not members
        check_others(groups.sums(counted, WINDOW / 86_400_000), rows)


def test_ages_since_the_first_row_that_counted(rows):
    keys, _, times, counted = rows
    age, seen = entities.ages(Groups(keys, times), counted)
    for i in range(N):
        first = before(rows, i)[:1]
        assert seen[i] == bool(first) and age[i] == (times[i] - times[first[0]] if first else 0)


def check_marks(made, rows, marked, known, behind=0, window=10**9) -> None:
    _, _, times, _ = rows
    for i in range(N):
        there = [j for j in before(rows, i, counted=False) if j in marked]
        until = times[i] - behind
        there = [j for j in there if until - window < times[j] <= until]
        assert made[i] == sum(known[marked.index(j)] <= times[i] for j in there), i


@pytest.mark.parametrize(("behind", "window"), [(0, None), (0, WINDOW), (600, WINDOW)])
def test_marks_are_seen_from_when_they_are_known(rows, behind, window):
    keys, _, times, _ = rows
    rng = np.random.default_rng(1)
    marked = rng.choice(N, 60, replace=False)
    known = times[marked] + rng.choice([0, 300, 4000], 60)
    groups = Groups(keys, times)
    first = entities.visible(times, marked, known)
    made = entities.marks(groups, marked, first, behind, window)
    more = {"behind": behind, "window": 10**9 if window is None else window}
    check_marks(made, rows, marked.tolist(), known, **more)
    early = entities.marks(groups, marked, marked + 1, behind, window)
    with pytest.raises(AssertionError):  # planted: seen from the next row on
        check_marks(early, rows, marked.tolist(), known, **more)


def test_a_key_that_nobody_used_for_long_begins_anew(rows):
    keys, _, times, counted = rows
    sparse = counted & (np.arange(N) % 9 == 0)
    lives = entities.lives(keys, times, sparse, MEMORY)
    assert ((lives < 0) == (keys < 0)).all()
    thinned = (keys, rows[1], times, sparse)
    forgotten = 0
    for i in range(N):
        last = before(thinned, i)[-1:]
        if keys[i] >= 0 and last:
            ended = times[i] - times[last[0]] >= MEMORY
            assert (lives[last[0]] != lives[i]) == ended
            forgotten += ended
    assert forgotten > 10
    whole = entities.lives(keys, times, counted, 10**9)
    assert len({*zip(keys, whole, strict=True)}) == len({*keys}) == len({*whole})


def test_nothing_is_known_of_no_rows():
    none = np.empty(0, np.int64)
    groups = Groups(none, none)
    assert entities.others(groups, none, none.astype(bool), 5).size == 0
    assert entities.lives(none, none, none.astype(bool), 5).size == 0
