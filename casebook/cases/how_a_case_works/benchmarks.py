"""What case 00 records: its result on public data, for ``make bench N=00``."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from casebook.cases.how_a_case_works.system import real_check
from casebook.data import real
from casebook.data.tables import tourism
from casebook.recorded.real import from_real


def real_tourism() -> pd.DataFrame:
    """Return ``system.real_check`` of Australian tourism."""
    return from_real(real_check(tourism(real("tourism"))), "tourism")


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {"real_tourism": real_tourism}
