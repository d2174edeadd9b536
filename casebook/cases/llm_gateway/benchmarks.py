"""What case 20 records by ``make bench N=20``: routing, detectors, and what the gateway carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from casebook.cases.llm_gateway import counted, injection, isolated, measured, studies, waiting


def noisy(seeds: Sequence[int] = studies.SEEDS) -> pd.DataFrame:
    """Let tenants rush in more minutes: as of :func:`.waiting.neighbours`."""
    return waiting.neighbours(seeds=seeds)


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "router_trials": studies.trials,
    "ladder": studies.ladder,
    "frontier": studies.frontier,
    "checks": studies.checks,
    "sensitivity": studies.sensitivity,
    "noisy": noisy,
    "real_bursts": waiting.real_bursts,
    "detected": injection.detected,
    "detector_cost": injection.latency,
    "limiter": counted.limiter,
    "metering": counted.metering,
    "guard_cost": counted.guard_cost,
    "isolation": isolated.isolation,
    "work": measured.work,
    "latency": measured.latency,
    "first_words": measured.first_words,
    "connections": measured.connections,
    "memory": measured.memory,
}
