"""What case 20 records by ``make bench N=20``: routing, detectors, and what the gateway carries."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from casebook.cases.llm_gateway import injection, studies

BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "router_trials": studies.trials,
    "ladder": studies.ladder,
    "frontier": studies.frontier,
    "calibration": studies.calibration,
    "checks": studies.checks,
    "sensitivity": studies.sensitivity,
    "detected": injection.detected,
    "detector_cost": injection.latency,
}
