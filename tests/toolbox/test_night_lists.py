"""Lists of a night: stored whole or refused, valid for two days, never with what is sold out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.serving.checks import above, age, below, freshness, sources, table
from casebook.serving.lists import BLOCK, Lists, blocks, filled, in_blocks, run_night, wrong
from casebook.serving.nights import NightFailed

NOW, STOCK = pd.Timestamp("2026-04-10 20:15"), np.arange(300) % 9 != 0
ITEMS = np.argsort(np.random.default_rng(0).random((600, 300)) - 2 * STOCK, axis=1)[:, :20]
SCORES = np.random.default_rng(1).normal(size=ITEMS.shape)


def made() -> Lists:
    return Lists(NOW, {"mail": ITEMS.astype(np.int32)}, {"mail": SCORES})


def put(index, value):
    def change(items, scores):
        (scores if isinstance(value, float) else items)[index] = value
        return items, scores

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda items, scores: (items, scores), ""),
        (put((slice(None), 1), -1), ""),
        (put((3, 4), 0), "sold out"),
        (put((3, 4), 300), "not in the shop"),
        (put((3, 4), float("nan")), "no number"),
        (put((3, 4), int(ITEMS[3, 0])), "twice"),
        (lambda items, scores: (np.full_like(items, -1), scores), "100% of the lists are empty"),
        (put((slice(0, 61), slice(None)), -1), "10% of the lists are empty"),
        (put((slice(0, 60), slice(None)), -1), ""),
        (lambda items, scores: (items.astype(float), scores), "not whole numbers"),
        (lambda items, scores: (items[:, 0], scores[:, 0]), "rows"),
        (lambda items, scores: (items[:-1], scores[:-1]), "rows"),
        (lambda items, scores: (items[:, :3], scores), "rows"),
    ],
)
def test_lists_that_cannot_be_shown_are_told_apart(change, says):
    why = wrong(*change(ITEMS.copy(), SCORES.copy()), STOCK, 600)
    assert says in why and bool(why) == bool(says)


def test_lists_are_read_as_they_were_written_and_refused_when_they_are_not_whole(tmp_path):
    path = tmp_path / "lists"
    with pytest.raises(ValueError, match="run a night"):
        Lists.load(path)
    made().save(path)
    assert Lists.load(path).digest() == made().digest() and Lists.load(path).made == NOW
    raw = path.read_bytes()
    for spoilt in (b"", raw[:10], raw[:5_000], raw[:-9] + b"x" + raw[-8:]):
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match="cut off or altered"):
            Lists.load(path)


def test_stock_of_the_moment_decides_and_two_days_are_the_end():
    lists, stock = made(), STOCK.copy()
    first = lists.take("mail", 7, stock, 10)
    stock[first[:3]] = False
    later = lists.take("mail", 7, stock, 10)
    assert later[:7] == first[3:] and len(later) == 10 and stock[later].all()
    fewer = stock[:200]  # the service knows less items than the night
    assert fewer[lists.take("mail", 7, fewer, 10)].all()
    assert lists.take("mail", 600, stock, 10) == lists.take("also", 0, stock, 10) == []
    hours = {-0.1: False, 0: True, 48: True, 48.1: False}
    assert {h: lists.valid(NOW + pd.Timedelta(hours=h)) for h in hours} == hours
    assert [len(rows) for rows in blocks(2 * BLOCK + 3)] == [BLOCK, BLOCK, 3]


def test_each_check_is_quiet_on_a_usual_day_and_alarms_on_its_fault():
    store = pd.DataFrame({"age": [4.0, 61.0], "alert": 60.0}, ["stream", "batch"])
    pairs = [
        (above("x", 1, 1, "no"), False),
        (above("x", float("nan"), 1, "no"), True),
        (below("x", 1, 1, "no"), False),
        (below("x", float("nan"), 1, "no"), True),
        (age("model", NOW - pd.Timedelta("47h"), NOW, 48), False),
        (age("model", NOW - pd.Timedelta("49h"), NOW, 48), True),
        (age("model", NOW + pd.Timedelta("1h"), NOW, 48), True),
        (sources({"model": 995, "yesterday": 5}), False),
        (sources({"model": 950, "bestsellers": 50}), True),
        (sources({}), False),
        *zip(freshness(store), (False, True), strict=True),
    ]
    for check, alarm in pairs:
        assert check.alarm == alarm and bool(check.what) == alarm, check
    report = table(check for check, _ in pairs)
    assert report["alarm"].is_monotonic_decreasing and report["alarm"].sum() == 6


def test_a_night_that_fails_or_is_not_tonights_goes_on_with_yesterdays_for_48_hours(tmp_path):
    def fails():
        raise MemoryError("planted")

    def of(hours: float) -> Lists:
        return replace(made(), made=NOW - pd.Timedelta(hours=hours))

    path = tmp_path / "lists"
    with pytest.raises(NightFailed, match=r"MemoryError.*no lists in"):
        run_night(path, fails, NOW)
    kept, why = run_night(path, lambda: of(24), NOW - pd.Timedelta(hours=24))
    assert why == ""
    makes = [(fails, "planted")]
    makes += [(lambda h=h: of(h), "set the clock right") for h in (-1, 49)]
    for make, says in makes:
        again, why = run_night(path, make, NOW)
        assert again.made == kept.made == Lists.load(path).made and says in why
    assert run_night(path, fails, kept.made + pd.Timedelta(hours=48))[0].made == kept.made
    for hours in (48.01, -0.01):  # a clock that was set back
        with pytest.raises(NightFailed, match="48 hours"):
            run_night(path, fails, kept.made + pd.Timedelta(hours=hours))


def test_blocks_make_the_rows_in_order_and_a_kind_without_rows_has_none():
    def block(held, kind, rows):
        return rows[:, None] * held, rows[:, None] * 1.0

    found = in_blocks(block, 3, {"mail": 600, "none": 0})
    assert {*found} == {"mail"} and (found["mail"][0][:, 0] == 3 * np.arange(600)).all()


@pytest.mark.parametrize(
    ("there", "more", "filled_up"),
    [
        ([0, 1, 2, 3], [4, 5], [0, 1, 2, 3, 5]),  # what is there stays, though beyond the cap
        ([], [0, 1, 2, 3, 5, 6, 7], [0, 1, 2, 5, 6]),
        ([0], [0, 1, 1, 2, 3, 4], [0, 1, 2, 3, 4]),  # beyond it where nothing else is left
        ([], [], []),
        ([5, 6, 7, 8, 9, 0], [1], [5, 6, 7, 8, 9]),
    ],
)
def test_a_list_is_filled_with_three_of_a_kind_at_most(there, more, filled_up):
    assert filled(there, more, 5, "aaaaabbbbb") == filled_up
    assert len({*filled(there, more, 5)}) == min(5, len({*there, *more}))
