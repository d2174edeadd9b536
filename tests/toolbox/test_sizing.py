"""Partitions by hand."""

from __future__ import annotations

import pytest

from casebook.serving.sizing import partitions


def test_partitions_by_hand():
    sized = partitions(315.36e6, rate=50.0, peak=4.0)
    assert sized["events_a_second"] == pytest.approx(70) and sized["peak_a_second"] == 280
    assert sized["partitions"] == 12  # 280 / 25, rounded up
    assert sized["catch_up_minutes"] == pytest.approx(600 * 280 / 320 / 60)
    assert partitions(315.36e6, rate=50.0, peak=4.0, spare=1.0)["partitions"] == 6
    assert partitions(1.0, rate=50.0)["partitions"] == 1
