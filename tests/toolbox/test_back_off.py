"""History by group: the narrowest group that is large enough answers, and none is made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.forecasting.back_off import backed_off, group_quantiles, history
from casebook.serving.consumer import Refused
from casebook.serving.feed_clock import FeedClock

LEVELS = {"shop": ["shop", "kind"], "kind": ["kind"]}
DAY = 24 * 3600


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    shop = np.repeat(["A", "B", "C"], [50, 40, 4])
    hours = rng.gamma(3, np.where(shop == "A", 1.0, 5.0))
    return pd.DataFrame({"shop": shop, "kind": np.where(shop == "A", "x", "y"), "hours": hours})


def test_a_group_has_its_own_quantiles_a_small_one_those_of_a_wider_and_a_new_one_none():
    past = rows()
    learnt = history(past, LEVELS, "hours", least=30)
    asked = pd.DataFrame({"shop": ["A", "C", "D", "A"], "kind": ["x", "y", "y", "z"]})
    assert learnt.source(asked).tolist() == ["shop", "kind", "kind", "none"]
    made = learnt.predict(asked)
    own, wider = past[past["shop"] == "A"]["hours"], past[past["kind"] == "y"]["hours"]
    for row, sample in ((0, own), (1, wider), (2, wider)):
        np.testing.assert_allclose(made.iloc[row], sample.quantile([0.1, 0.5, 0.9]))
    assert made.iloc[3].isna().all()
    eager = history(past, LEVELS, "hours", least=1)
    assert eager.source(asked)[1] == "shop", "the limit makes the difference"


def test_other_levels_back_off_in_the_same_way():
    past, levels = rows(), (0.25, 0.75)
    tables = [group_quantiles(past, k, "hours", 30, levels, levels) for k in LEVELS.values()]
    made = backed_off(pd.DataFrame({"shop": ["B", "C"], "kind": "y"}), tables)
    assert list(made) == [*levels] and made.iloc[0].tolist() != made.iloc[1].tolist()
    np.testing.assert_allclose(made.iloc[1], past[past["kind"] == "y"]["hours"].quantile([*levels]))


def test_a_wrong_clock_does_not_move_the_feeds_time():
    clock = FeedClock()
    assert clock.latest(None, [("a", 0), ("b", 5), ("a", 3)]) == 5
    for _ in range(3):  # one key is not believed, however often it says so
        with pytest.raises(Refused, match=r"9\.0 days after all before it"):
            clock.latest(5, [("a", 9 * DAY + 5)])
    assert clock.latest(5, [("b", 9 * DAY)]) == 9 * DAY
    with pytest.raises(Refused, match="days after"):  # two keys, far from each other
        clock.latest(5, [("c", 40 * DAY)])
    timed = FeedClock(now=lambda: 20.0 * DAY)
    assert timed.latest(5, [("a", 20 * DAY)]) == 20 * DAY
    with pytest.raises(Refused, match=r"2\.0 hours from now"):
        timed.latest(5, [("a", 20 * DAY + 7200)])
