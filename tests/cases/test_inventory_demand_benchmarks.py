"""Case 03: what is recorded agrees with a reduced live run, and with the code of today."""

from __future__ import annotations

import pytest

from casebook.cases.inventory_demand import benchmarks
from casebook.cases.inventory_demand.world import CHAPTER
from casebook.recorded import bench


def test_three_worlds_give_what_was_recorded():
    table = bench.recorded(CHAPTER, "seeds").frame.set_index("seed")["gap_closed"]
    assert table.index.tolist() == list(benchmarks.SEEDS)
    live = benchmarks.seeds(benchmarks.SEEDS[:3]).set_index("seed")["gap_closed"]
    assert live.to_dict() == pytest.approx(table.head(3).to_dict(), rel=1e-4)


@pytest.mark.parametrize("name", sorted(benchmarks.BENCHMARKS))
def test_no_table_is_stale(name):
    assert not bench.stale(CHAPTER, name)
