"""What case 10 records by ``make bench N=10``: calibration, studies over worlds, public data."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from casebook.cases.ab_testing import calibration, studies
from casebook.cases.ab_testing.cookie_cats import real_cookie_cats
from casebook.evaluate import designs, sizes

BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "aa": calibration.aa,
    "peeking": calibration.peeking,
    "days": calibration.days,
    "cuped": calibration.cuped,
    "srm_power": sizes.srm_power,
    "power": sizes.power,
    "coverage": calibration.coverage,
    "worlds": studies.worlds,
    "network": studies.network,
    "lasting": studies.lasting,
    "winners": studies.winners,
    "forest": studies.forest,
    "switchbacks": designs.switchbacks,
    "sensitivity": studies.sensitivity,
    "real_cookie_cats": real_cookie_cats,
}
