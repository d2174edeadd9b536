"""What case 01 records by ``make bench N=01``: tables over worlds, and on public data.

Each table has a reduced run: the same function with fewer seeds or origins. The tables of one run
share worlds and forecasts; the seconds of the first one include them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from casebook.cases.demand_forecasting.rossmann import real_rossmann, real_rossmann_informed
from casebook.cases.demand_forecasting.rungs import rules_staffing, rungs, weeks
from casebook.cases.demand_forecasting.stress import ablation, cold_start, sensitivity, shock
from casebook.cases.demand_forecasting.studies import (
    KEYS,
    MODEL,
    NAIVE,
    ORACLE,
    RULES,
    SEEDS,
    TEST,
    forecasts,
    one_world,
    setting,
)
from casebook.cases.demand_forecasting.tourism import real_tourism
from casebook.cases.demand_forecasting.world import SEED
from casebook.evaluate.gap import gaps
from casebook.features.cluster import scaling
from casebook.forecasting.bands import bands as banded
from casebook.forecasting.bands import coverage
from casebook.forecasting.staffing import Rates, decision_table, order_coverage, order_quantile
from casebook.forecasting.walk import bottom_up
from casebook.recorded.artifacts import artifact

CASE = "01_demand_forecasting"
#: Rows of the decision table beside the floor; TFT's forecasts are kept for the frozen world alone.
STAFFED = (NAIVE, RULES, MODEL, "ensemble_bottom_up", "direct_mint", ORACLE)
TFT = "tft_bottom_up"


def worlds(numbers: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Score the ladder over fresh worlds, six origins each.

    Returns
    -------
    DataFrame
        ``seed``, ``origin`` ("all"; in the first world also each origin alone, which a reduced run
        is compared with), ``level``, ``model``, three metrics, and the share of the gap in WAPE
        that is closed: ``gap`` from last week's value, ``gap_rules`` from the rules.
    """
    parts = [one_world(seed, by_origin=False) for seed in numbers]
    table = pd.concat([*parts, one_world(numbers[0])], ignore_index=True)
    within = ["seed", "origin", "level"]
    return table.assign(
        gap=gaps(table, NAIVE, ORACLE, "WAPE", within=within),
        gap_rules=gaps(table, RULES, ORACLE, "WAPE", within=within),
    )


def _depots(seed: int) -> pd.DataFrame:
    """Return the forecasts of a world's depots; of the frozen world with TFT's summed routes."""
    made = forecasts(seed)
    if seed == SEED:
        stored = artifact(CASE, "forecasts.parquet")[[*KEYS, "origin", "tft"]]
        routes = made[made["level"] == "route"].merge(stored, on=[*KEYS, "origin"])
        tft = bottom_up(routes, setting(seed).tree, ["tft"]).drop(columns=["level", "y"])
        tft = tft.rename(columns={"tft": TFT})
        made = made.merge(tft, on=[*KEYS, "origin"], how="left", validate="1:1")
    return made[made["level"] == "depot"]


def staffing(numbers: Sequence[int] = (*SEEDS, SEED)) -> pd.DataFrame:
    """Cost the depots' staff over the test origins, beyond the hours that were needed.

    The oracle's quantile is that of the world's own distribution. TFT was not run at the validation
    origins: its order takes the errors of LightGBM.

    Returns
    -------
    DataFrame
        ``seed``, ``model`` ("actual": the parcels that came, in shifts of whole workers),
        ``order`` (point, or raised to the critical ratio by earlier errors), ``euros`` a day for
        all depots and ``avoidable`` (share).
    """
    parts = []
    for seed in numbers:
        depots = _depots(seed)
        models = [*STAFFED, TFT] if TFT in depots else STAFFED
        table = decision_table(depots, models, TEST, Rates(), "oracle_order", {TFT: MODEL})
        parts.append(table.assign(seed=seed))
    return pd.concat(parts, ignore_index=True)[["seed", "model", "order", "euros", "avoidable"]]


def _order_rows(seed: int, by_depot: bool) -> pd.DataFrame:
    """Return for each depot how often the 71.4 % order of the model sufficed."""
    depots = _depots(seed)
    orders = order_quantile(depots, MODEL, TEST, Rates().quantile, by_depot)
    table = order_coverage(depots, orders).rename(columns={"covered": "coverage"})
    method = "order by depot" if by_depot else "order"
    return table.rename_axis("node").reset_index().assign(method=method, level="depot")


def bands(numbers: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Count how often 80 % bands around the model hold, and its 71.4 % order at each depot.

    Returns
    -------
    DataFrame
        ``seed``, ``method`` (joint, independent, oracle: the world's own band; order, order by
        depot: one factor for all, or one each), ``level``, ``origin`` (or "all"), ``node`` (or
        "all"), ``days``, ``coverage``, ``width`` and ``pinball`` (none for orders).
    """
    parts = []
    for seed in numbers:
        made, tree = forecasts(seed), setting(seed).tree
        plain = made.drop(columns=["low", "high"])
        ways = {
            "joint": banded(plain, MODEL, TEST, tree),
            "independent": banded(plain, MODEL, TEST, tree, joint=False),
            "oracle": made[made["origin"].isin(TEST)],
        }
        for method, rows in ways.items():
            parts.append(coverage(rows).assign(seed=seed, method=method, origin="all"))
            if method == "joint":
                table = coverage(rows, ["level", "origin"])
                day = table["origin"].dt.strftime("%Y-%m-%d")
                parts.append(table.assign(seed=seed, method=method, origin=day))
        for by_depot in (False, True):
            parts.append(_order_rows(seed, by_depot).assign(seed=seed, origin="all"))
    columns = ["seed", "method", "level", "origin", "node", "days", "coverage", "width", "pinball"]
    return pd.concat(parts, ignore_index=True).fillna({"node": "all"})[columns]


def dask(sizes: Sequence[int] = (1, 4, 16), workers: Sequence[int] = (1, 2)) -> pd.DataFrame:
    """Time features and training of a world's routes on one machine and on clusters."""
    return scaling(setting(SEEDS[0]).panel, sizes, workers)


#: The timing comes first, while nothing else of the run loads the machine.
BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "dask": dask,
    "worlds": worlds,
    "rungs": rungs,
    "weeks": weeks,
    "staffing": staffing,
    "rules_staffing": rules_staffing,
    "bands": bands,
    "shock": shock,
    "sensitivity": sensitivity,
    "cold_start": cold_start,
    "ablation": ablation,
    "real_tourism": real_tourism,
    "real_rossmann": real_rossmann,
    "real_rossmann_informed": real_rossmann_informed,
}
