"""Toolbox, splits of likes: what a split by time may not know, and that one at random knows it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.retrieval import splits

SETTINGS = {
    "popularity": {},
    "item-item": {"shrinkage": 5.0, "neighbours": 10},
    "iALS": {"factors": 32, "regularisation": 10.0, "confidence": 4.0},
    "EASE": {"penalty": 30.0},
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 6_000
    made = pd.DataFrame({"user": rng.integers(80, size=n), "item": rng.integers(60, size=n) ** 2})
    made = made.drop_duplicates().reset_index(drop=True)
    made["at"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(made)), unit="h")
    return made


def assert_in_time(table: pd.DataFrame, train: np.ndarray, wanted: np.ndarray) -> None:
    """Nothing that is fitted on or known of a user is later than what is to be found."""
    assert table.loc[train, "at"].max() < table.loc[wanted, "at"].min()
    for _, own in table.assign(wanted=wanted).groupby("user"):
        if own["wanted"].any():
            assert own.loc[~own["wanted"], "at"].max() < own.loc[own["wanted"], "at"].min()


def test_a_split_by_time_knows_nothing_of_later(table):
    moment, wanted = splits.later_halves(table, splits.CUT)
    before = (table["at"] < moment).to_numpy()
    assert_in_time(table, before, wanted)
    split = splits.by_time(table)
    assert split.train.nnz == before.sum()  # each film of the planted table has enough likes
    assert split.wanted.nnz + split.lost.sum() == wanted.sum()
    assert not split.known.multiply(split.wanted).nnz
    leaky = wanted.copy()
    leaky[np.random.default_rng(0).integers(len(table), size=50)] = True
    with pytest.raises(AssertionError):
        assert_in_time(table, before, leaky)


def test_a_split_at_random_has_the_same_users_and_sizes_and_sees_the_future(table):
    time, chance = splits.by_time(table), splits.at_random(table, seed=1)
    assert (time.wanted.sum(axis=1) == chance.wanted.sum(axis=1)).all()
    assert time.train.nnz == chance.train.nnz
    assert chance.known.nnz > 0 and not chance.known.multiply(chance.wanted).nnz


def test_a_film_that_the_catalogue_lacks_counts_as_missed(table):
    late = table.index >= len(table) * 0.8
    new = table.assign(item=table["item"].mask(late, table["item"] + 10_000))
    usual, lost = splits.by_time(table), splits.by_time(new)
    assert not usual.lost.any() and lost.lost.sum() > 50
    found = [splits.by_user(s, "popularity", {})["recall"].mean() for s in (usual, lost)]
    assert found[1] < 0.5 * found[0]


@pytest.mark.parametrize("name", SETTINGS)
def test_each_model_scores_all_items_and_shows_nothing_known(table, name):
    split = splits.by_time(table)
    scores = splits.scorer(name, split.train, SETTINGS[name])(split.known)
    assert scores.shape == split.known.shape
    assert splits.by_user(split, name, SETTINGS[name])["recall"].between(0, 1).all()
