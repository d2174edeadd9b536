"""Case 09: the night's lists on one process and on two, and what a failed night sends."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from recommendations_fakes import DAY, NOW, fake, world

from casebook.cases.recommendations.emails import LONG, night, run_night
from casebook.features.cluster import local_cluster
from casebook.serving.lists import BLOCK, Lists, blocks, wrong
from casebook.serving.nights import NightFailed

SIZES = {"mail": 600, "similar": 300}
STOCK = world().stock[DAY]


def made(now: pd.Timestamp = NOW, **changes) -> Lists:
    return night(fake(**changes), SIZES, STOCK, now)


def test_a_cluster_makes_the_lists_of_one_process_to_the_last_bit():
    alone = made()
    assert {name: rows.shape for name, rows in alone.items.items()} == {
        "mail": (600, LONG),
        "similar": (300, LONG),
    }
    for workers in (1, 2):
        with local_cluster(workers) as client:
            assert night(fake(), SIZES, STOCK, NOW, client).digest() == alone.digest()
    assert made(tilt=0.1).digest() != alone.digest()


def test_blocks_and_not_workers_determine_the_sums():
    """A single product of all rows differs in the last bit, or may; the blocks do not."""
    assert [len(rows) for rows in blocks(2 * BLOCK + 3)] == [BLOCK, BLOCK, 3]
    whole, part = fake(), made().scores["mail"]
    rows = blocks(600)[2]
    again = whole.recommend(rows, np.full(len(rows), -1), "mail", STOCK, count=LONG)[1]
    assert (again == part[rows]).all()


def test_no_list_has_an_item_that_is_sold_out_or_stands_twice():
    lists = made()
    for surface, n in SIZES.items():
        assert wrong(lists.items[surface], lists.scores[surface], STOCK, n) == ""
        assert STOCK[lists.items[surface]].all()


def spoilt(change):
    class Spoilt(type(fake())):
        def recommend(self, *given, **more):
            items, scores = super().recommend(*given, **more)
            return change(items.copy(), scores.copy())

    model = fake()
    model.__class__ = Spoilt
    return model


def put(index, value, which=0):
    def change(*pair):
        pair[which][index] = value
        return pair

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put((3, 4), int(np.flatnonzero(~STOCK)[0])), "sold out"),
        (put((3, 4), 300), "not in the shop"),
        (put((slice(None), 1), -1), ""),
        (put((3, 4), np.nan, 1), "no number"),
        (lambda items, scores: (items[:, ::-1][:, :1].repeat(LONG, 1), scores), "twice"),
        (lambda items, scores: (np.full_like(items, -1), scores), "empty"),
        (lambda items, scores: (items[:-1], scores[:-1]), "rows"),
    ],
)
def test_a_model_that_makes_lists_that_cannot_be_sends_none(change, says):
    if not says:
        assert (night(spoilt(change), SIZES, STOCK, NOW).items["mail"][:, 1] == -1).all()
        return
    with pytest.raises(ValueError, match=says):
        night(spoilt(change), SIZES, STOCK, NOW)


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
    with pytest.raises(NightFailed, match="48 hours"):
        run_night(path, fails, yesterday + pd.Timedelta(hours=48, seconds=1))
    with pytest.raises(NightFailed, match="48 hours"):
        run_night(path, fails, yesterday - pd.Timedelta(seconds=1))  # a clock that was set back


@pytest.mark.parametrize("cut", [0, 10, 5_000])
def test_lists_that_were_cut_off_or_altered_are_refused(tmp_path, cut):
    made().save(tmp_path / "lists")
    raw = (tmp_path / "lists").read_bytes()
    (tmp_path / "lists").write_bytes(raw[:cut])
    with pytest.raises(ValueError, match="cut off or altered"):
        Lists.load(tmp_path / "lists")
    (tmp_path / "lists").write_bytes(raw[:-9] + b"x" + raw[-8:])
    with pytest.raises(ValueError, match="cut off or altered"):
        Lists.load(tmp_path / "lists")


def test_stock_of_the_moment_decides_when_a_mail_is_sent():
    lists, stock = made(), STOCK.copy()
    first = lists.take("mail", 7, stock, 10)
    stock[first[:3]] = False
    later = lists.take("mail", 7, stock, 10)
    assert later[:7] == first[3:] and len(later) == 10 and stock[later].all()
    assert lists.take("mail", 600, stock, 10) == lists.take("also", 0, stock, 10) == []
