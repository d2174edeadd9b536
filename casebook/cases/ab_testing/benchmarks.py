"""What case 10 records by ``make bench N=10``."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {}
