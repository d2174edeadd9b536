"""Case 09: the night's lists, what a bad model may not send, and what a failed night sends."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from recommendations_fakes import DAY, NOW, fake, world

from casebook.cases.recommendations.emails import LONG, night, run_night
from casebook.serving.lists import Lists, blocks
from casebook.serving.nights import NightFailed

SIZES, STOCK = {"mail": 600, "similar": 300}, world().stock[DAY]


def made(now: pd.Timestamp = NOW) -> Lists:
    return night(fake(), SIZES, STOCK, now)


def test_the_lists_are_those_of_each_block_and_hold_nothing_that_is_sold_out():
    lists, rows = made(), blocks(600)[2]
    assert {name: part.shape for name, part in lists.items.items()} == {
        "mail": (600, LONG),
        "similar": (300, LONG),
    }
    again = fake().recommend(rows, np.full(len(rows), -1), "mail", STOCK, count=LONG)[1]
    assert (again == lists.scores["mail"][rows]).all()
    assert all(STOCK[part].all() for part in lists.items.values())


def test_a_model_whose_list_cannot_be_sends_none():
    class Spoilt(type(fake())):
        def recommend(self, *given, **more):
            items, scores = super().recommend(*given, **more)
            items[3, 4] = np.flatnonzero(~STOCK)[0]
            return items, scores

    model = fake()
    model.__class__ = Spoilt
    with pytest.raises(ValueError, match="cannot be sent: an item is sold out"):
        night(model, SIZES, STOCK, NOW)


def test_a_night_that_is_not_tonights_leaves_the_stored_lists_and_numbers_are_not_cut(tmp_path):
    path, yesterday = tmp_path / "lists", NOW - pd.Timedelta(hours=24)
    run_night(path, lambda: made(yesterday), yesterday)
    for hours in (-1, 49):
        kept, why = run_night(path, lambda h=hours: made(NOW - pd.Timedelta(hours=h)), NOW)
        assert kept.made == yesterday and "set the clock right" in why
        assert Lists.load(path).made == yesterday

    class Wide(type(fake())):
        def recommend(self, *given, **more):
            items, scores = super().recommend(*given, **more)
            return items.astype(np.int64) + 2**32, scores

    model = fake()
    model.__class__ = Wide
    with pytest.raises(ValueError, match="not in the shop"):
        night(model, SIZES, STOCK, NOW)


def test_a_failed_night_sends_yesterdays_lists_for_48_hours_and_then_none(tmp_path):
    def fails():
        raise MemoryError("planted")

    path, yesterday = tmp_path / "lists", NOW - pd.Timedelta(hours=24)
    with pytest.raises(NightFailed, match=r"MemoryError.*no lists in"):
        run_night(path, fails, NOW)
    kept, why = run_night(path, lambda: made(yesterday), yesterday)
    assert why == ""
    again, why = run_night(path, fails, NOW)
    assert again.digest() == kept.digest() and "MemoryError: planted" in why
    assert run_night(path, fails, yesterday + pd.Timedelta(hours=48))[0].made == yesterday
    for hours in (48.01, -0.01):  # a clock that was set back
        with pytest.raises(NightFailed, match="48 hours"):
            run_night(path, fails, yesterday + pd.Timedelta(hours=hours))
