"""Toolbox, attention: the labels of heads. Training runs with the artifacts, where torch is."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from casebook.retrieval.attention import Deep, goals
from casebook.retrieval.towers import Settings

HAVE_TORCH = importlib.util.find_spec("torch") is not None


def test_each_label_is_a_head():
    rng = np.random.default_rng(0)
    clicked, bought = rng.random((2, 6, 3)) < 0.5
    made = goals(clicked, bought)
    assert made.shape == (6, 3, 2) and made.dtype == np.float32
    assert (made[:, :, 0] == clicked).all() and (made[:, :, 1] == bought).all()


@pytest.mark.parametrize("labels", [(), (np.zeros((2, 3)), np.zeros((3, 2)))])
def test_labels_of_other_shapes_are_refused(labels):
    with pytest.raises(ValueError, match="give equal ones"):
        goals(*labels)


@pytest.mark.skipif(not HAVE_TORCH, reason="torch is in the artifacts' environment alone")
def test_a_sequence_is_read_and_without_it_features_decide():
    """Who took an item of one kind clicks on that kind: features do not say it."""
    rng = np.random.default_rng(1)
    columns = np.eye(2, dtype="f4")[np.arange(20) % 2]
    items, last = rng.integers(20, size=(3_000, 4)), rng.integers(20, size=(3_000, 5))
    last[:, 1:] = np.where(rng.random((3_000, 4)) < 0.3, -1, last[:, :1])
    clicked = rng.random(items.shape) < np.where(items % 2 == last[:, :1] % 2, 0.5, 0.05)
    x, settings = rng.normal(size=(3_000, 4, 2)), Settings(width=8, rate=1e-2, epochs=6)
    gap = {}
    for sequence in (True, False):
        own = Deep(columns, x, items, last, goals(clicked), settings, sequence)
        scores = own.scores(x, items, last)[:, :, 0]
        same = items % 2 == last[:, :1] % 2
        gap[sequence] = scores[same].mean() - scores[~same].mean()
    assert gap[True] > 1.5 > 0.1 > abs(gap[False])
