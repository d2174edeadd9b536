"""What case 03 records by ``make bench N=03``: tables over worlds, the service, and public data."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {}
