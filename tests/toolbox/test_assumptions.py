"""Ranges of assumptions, and what fifty ratings show."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.evaluate.assumptions import one_at_a_time, rubric, triangular


def test_what_does_not_matter_comes_last():
    table = one_at_a_time(lambda x: x["a"], {"b": (1, 0, 2), "a": (1, 0, 2)})
    assert table["input"].tolist() == ["a", "b"] and table["span"].tolist() == [2, 0]
    assert table["flips"].tolist() == [True, False]


def test_draws_lie_in_their_ranges_and_a_point_stays():
    drawn = triangular({"a": (5, 1, 9), "b": (2, 2, 2)}, draws=300)
    values = np.array([one["a"] for one in drawn])
    assert values.min() >= 1 and values.max() <= 9 and values.std() > 1
    assert {one["b"] for one in drawn} == {2.0}
    assert drawn == triangular({"a": (5, 1, 9), "b": (2, 2, 2)}, draws=300)


def test_fifty_ratings_show_little():
    told = rubric(45)
    assert told["share"] == 0.9 and told["high"] - told["low"] > 0.15
    assert told["worse"] < 0.8  # a fall from .9 to .8 is missed more often than not
    rng = np.random.default_rng(0)
    now = rng.binomial(50, told["worse"], 20_000)
    usual = rng.binomial(50, 0.9, 20_000)
    border = np.quantile(usual, 0.05)
    assert (usual < border).mean() <= 0.05 and (now < border).mean() > 0.7
    assert rubric(50)["low"] == pytest.approx(0.929, abs=0.001)
    with pytest.raises(ValueError, match="51 right of 50"):
        rubric(51)
