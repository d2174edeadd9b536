"""Case 09: the night's lists, what a bad model may not send, and what a failed night sends."""

from __future__ import annotations

import pandas as pd
import pytest
from recommendations_fakes import DAY, NOW, fake, world

from casebook.cases.recommendations.emails import LONG, night, run_night
from casebook.serving.lists import Lists
from casebook.serving.nights import NightFailed

SIZES, STOCK, HOUR = {"mail": 600, "similar": 300}, world().stock[DAY], pd.Timedelta(hours=1)


def made(now: pd.Timestamp = NOW) -> Lists:
    return night(fake(), SIZES, STOCK, now)


def test_a_night_holds_nothing_sold_out_and_a_model_whose_list_cannot_be_sends_none():
    lists = made()
    shapes = {name: part.shape for name, part in lists.items.items()}
    assert shapes == {"mail": (600, LONG), "similar": (300, LONG)}
    assert all(STOCK[part].all() for part in lists.items.values())
    for fault, says in (("sold out", "sold out"), ("wide", "not in the shop"), ("twice", "twice")):
        with pytest.raises(ValueError, match=f"cannot be sent: .*{says}"):
            night(fake(fault=fault), SIZES, STOCK, NOW)


def test_a_night_that_fails_or_is_not_tonights_sends_yesterdays_for_48_hours_then_none(tmp_path):
    def fails():
        raise MemoryError("planted")

    path, yesterday = tmp_path / "lists", NOW - 24 * HOUR
    with pytest.raises(NightFailed, match=r"MemoryError.*no lists in"):
        run_night(path, fails, NOW)
    kept, why = run_night(path, lambda: made(yesterday), yesterday)
    assert why == ""
    makes = [(fails, "planted")]
    makes += [(lambda h=h: made(NOW - h * HOUR), "set the clock right") for h in (-1, 49)]
    for make, says in makes:
        again, why = run_night(path, make, NOW)
        assert again.digest() == kept.digest() == Lists.load(path).digest() and says in why
    assert run_night(path, fails, yesterday + 48 * HOUR)[0].made == yesterday
    for hours in (48.01, -0.01):  # a clock that was set back
        with pytest.raises(NightFailed, match="48 hours"):
            run_night(path, fails, yesterday + hours * HOUR)
