"""The public sets of deliveries and trips are whole; another file is refused."""

from __future__ import annotations

import pandas as pd
import pytest

from casebook.data import RealDataUnavailable, real
from casebook.data.trips import deliveries, taxis


def test_the_public_sets_are_whole_and_another_file_is_refused(tmp_path):
    try:
        trips, orders = taxis(real("taxis")), deliveries(real("deliveries"))
    except RealDataUnavailable as error:
        pytest.skip(str(error))
    assert 6300 < len(trips) < 6433 and trips["pickup"].is_monotonic_increasing
    assert trips["minutes"].between(1, 180).all() and trips.notna().all(axis=None)
    assert len(orders) == 10_012 and orders["weekday"].between(0, 6).all()
    assert orders["minutes"].median() == pytest.approx(26.02, abs=0.01)
    other = tmp_path / "taxis.csv"
    pd.read_csv(real("taxis")).head(9).to_csv(other, index=False)
    with pytest.raises(ValueError, match="holds 9 trips; expected 6,433"):
        taxis(other)
