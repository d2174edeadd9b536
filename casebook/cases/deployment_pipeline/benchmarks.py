"""What case 21 records by ``make bench N=21``: drift, retraining, rollout, scaling, public data."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from casebook.cases.deployment_pipeline import autoscaling, canary, incident, measured, studies
from casebook.cases.deployment_pipeline.real import real_bike, real_elec
from casebook.evaluate import psi

BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "null_psi": psi.by_chance,
    "detectors": studies.detectors,
    "advice": studies.advice,
    "policies": studies.policies,
    "sensitivity": studies.sensitivity,
    "real_bike": real_bike,
    "real_elec": real_elec,
    "samples": canary.samples,
    "half_hour": canary.half_hour,
    "characteristic": canary.characteristic,
    "days": autoscaling.days,
    "cold_starts": autoscaling.cold_starts,
    "drills": incident.drills,
    **measured.TABLES,
}
