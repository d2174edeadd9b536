"""A judge's planted bias is measured, and one judge says little."""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.evaluate.judges import Judge, judge_bias, judge_spread, swapped


def _pairs(n=4000):
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "quality_a": rng.choice([0, 0.5, 1], n),
            "quality_b": rng.choice([0, 0.5, 1], n),
            "words_a": rng.integers(5, 80, n),
            "words_b": rng.integers(5, 80, n),
            "own_a": rng.random(n) < 0.5,
            "own_b": rng.random(n) < 0.5,
        }
    )


def test_a_judges_bias_is_measured():
    table = judge_bias(_pairs(), Judge()).set_index("what")
    planted = table.dropna()
    assert (planted["planted"] - planted["measured"]).abs().max() < 0.2
    fair = judge_bias(_pairs(), Judge(3.0, 0, 0, 0)).set_index("what")["measured"]
    biased = table["measured"]
    for what in ("log odds for the first", "log odds for its own style"):
        assert abs(fair[what]) < 0.15 < biased[what]
    same = "agrees with the labels, one order"
    assert fair[same] > biased[same]
    assert biased["agrees with the labels, same verdict"] > biased[same]


def test_swapping_twice_changes_nothing():
    pairs = _pairs(20)
    pd.testing.assert_frame_equal(swapped(swapped(pairs))[pairs.columns], pairs)


def test_one_judge_says_little_and_forty_say_what_was_planted():
    judge = Judge()
    table = judge_spread(_pairs(400), judge, judges=40).set_index("what")
    first = table.loc["log odds for the first"]
    assert abs(first["measured"] - first["planted"]) < 4 * first["sd"] / 40**0.5
    assert first["sd"] > 0.05 and (table["pairs"] == 400).all()
