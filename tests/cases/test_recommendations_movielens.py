"""Case 09, public data: what a split by time may not know, and that one at random knows it."""

from __future__ import annotations

import pytest

from casebook.cases.recommendations import movielens as films
from casebook.data import RealDataUnavailable, real
from casebook.data.tables import movielens


def test_equal_trials():
    assert {len(grid) for name, grid in films.TRIALS.items() if name != "popularity"} == {9}


def test_the_public_file_is_read_and_another_one_refused(tmp_path):
    other = tmp_path / "ratings.csv"
    other.write_text("userId,Id,rating,timestamp\n1,2,3.0,4\n")
    with pytest.raises(ValueError, match="100,836 ratings"):
        movielens(other)
    try:
        table = movielens(real("movielens"))
    except RealDataUnavailable as error:
        pytest.skip(str(error))
    assert (table["user"].nunique(), table["item"].nunique()) == (610, 9_724)
    assert table["at"].is_monotonic_increasing
    assert table["at"].dt.year.agg(["min", "max"]).tolist() == [1996, 2018]
