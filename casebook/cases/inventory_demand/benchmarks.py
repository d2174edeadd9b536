"""What case 03 records by ``make bench N=03``: tables over worlds, the service, and public data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.inventory_demand import feed, fresh, public, stress, studies
from casebook.cases.inventory_demand.demand import DAYS, SEED, SWITCH, WEEK, Constants
from casebook.cases.inventory_demand.models import fit_all
from casebook.cases.inventory_demand.orders import SundayRun, terms
from casebook.cases.inventory_demand.play import Costs, incumbent, joined
from casebook.cases.inventory_demand.policies import LEVELS, spread_of, trained
from casebook.cases.inventory_demand.studies import CHOSEN_ON, setting
from casebook.features.cluster import scaling
from casebook.recorded.studies import sensitivity as over_constants
from casebook.serving.latency import measure
from casebook.serving.load import over_http

CONSTANTS = {
    "product shocks": lambda usual, factor: replace(usual, product_sd=usual.product_sd * factor),
    "dispersion": lambda usual, factor: replace(usual, dispersion=usual.dispersion / factor),
}
BUDGETS = (np.inf, 1600.0, 1200.0, 800.0)


def sensitivity(
    seeds: Sequence[int] = CHOSEN_ON[:2], factors: Sequence[float] = (0.5, 1.0, 2.0)
) -> pd.DataFrame:
    """Vary the two most arbitrary constants of the world, one at a time."""
    return over_constants(studies.varied, Constants(), CONSTANTS, factors, seeds)


def sunday(folder: Path, seed: int = SEED, budget: float = np.inf, weeks: int = 0) -> tuple:
    """Return a run that was trained at the switch, reports and stock some weeks after it."""
    here = setting(seed)
    plan, past = here.world.plan, here.past
    if weeks:
        past = joined(past, here.play(incumbent, SWITCH + weeks * WEEK))
    rows, _ = feed.reports(here.world, past)
    mended = feed.repair(feed.accepted(rows, plan, SWITCH).accepted, plan, SWITCH + 1)
    levels, training = trained(plan, mended.sales, mended.sold_out)
    fitted = fit_all(training, LEVELS)
    ratios = {life: model.ratios for life, model in fitted.items()}
    given = terms(plan, budget), ratios, spread_of(training)
    return SundayRun(plan, levels, fitted, folder, *given), rows, past.shelf


def budgets(seed: int = SEED, caps: Sequence[float] = BUDGETS) -> pd.DataFrame:
    """Order one Sunday under caps; ``worth`` is what a euro more would save, mean of the stores."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run, reports, shelf = sunday(Path(folder), seed)
        for cap in caps:
            run.terms = replace(run.terms, budget=cap)
            made = run.run(reports, SWITCH, shelf)
            found = {"lines": len(made.lines), "units": int(made.lines["units"].sum())}
            rows.append({"budget": cap, **found, "worth": made.worth.mean()})
    return pd.DataFrame(rows)


def service(calls: int = 500, runs: int = 100) -> pd.DataFrame:
    """Time the planners' service from a process of its own, and the Sunday run; milliseconds.

    The run is of four weeks after its training, so that its levels learn 28 days.
    """
    with tempfile.TemporaryDirectory() as folder:
        run, reports, shelf = sunday(Path(folder), weeks=4)
        day = SWITCH + 4 * WEEK
        run.run(reports, day, shelf)
        batch = measure(lambda: run.run(reports, day, shelf), runs, warm_up=2)
        given = {"folder": folder, "short": Costs.short, "over": Costs.over}
        path = f"/orders/{run.path(day).stem}"
        found, rate = over_http("casebook.serving.order_desk:app_from", given, [path], calls)
    rows = [{"what": "Sunday run", **batch.percentiles(), "n": batch.n}]
    rows.append({"what": "GET", **found.percentiles(), "n": calls, "a_second": rate})
    return pd.DataFrame(rows)


def dask(sizes: Sequence[int] = (1, 4, 16), workers: Sequence[int] = (1, 2)) -> pd.DataFrame:
    """Time lags of a world's cells and a model on one machine and on clusters, results equal."""
    here = setting(SEED)
    sales, cells = here.past.sales, here.world.plan.alive[0].nonzero()[0]
    panel = pd.DataFrame(sales[:, cells].astype(float), pd.Index(DAYS[: len(sales)], name="ds"))
    panel.columns = [f"cell/{cell}" for cell in cells]
    long = panel.melt(ignore_index=False, var_name="unique_id", value_name="y").reset_index()
    return scaling(long, sizes, workers)


#: The timing comes first, while nothing else of the run loads the machine.
BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "service": service,
    "dask": dask,
    "worlds": studies.worlds,
    "forecasts": studies.forecasts,
    "sums": studies.sums,
    "surface": studies.surface,
    "trust": studies.trust,
    "censoring": studies.censoring,
    "cold_start": studies.cold_start,
    "ablation": studies.ablation,
    "sensitivity": sensitivity,
    "horizon": stress.horizon,
    "promotions": stress.promotions,
    "overrides": stress.overrides,
    "missing": stress.missing,
    "drift": stress.drift,
    "six_hours": fresh.six_hours,
    "budgets": budgets,
    "real_yaz": public.real_yaz,
    "real_retail": public.real_retail,
}
