"""The world of case 03: demand (:mod:`.demand`), a policy in it (:mod:`.play`), and its files."""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.cases.inventory_demand.demand import CHAPTER, DAYS, REGIONS, SEED, World, simulate
from casebook.cases.inventory_demand.feed import reports
from casebook.cases.inventory_demand.play import history

__all__ = ["CHAPTER", "SEED", "World", "history", "simulate", "snapshots"]


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what ``data/03_inventory_demand/`` holds, by file name."""
    world, past = history(SEED)
    plan, n = world.plan, len(past.sales)
    found, faults = reports(world, past)
    days = pd.DataFrame({"day": DAYS})
    for name in ("closed", "eve", "after", "payday"):
        days[name] = getattr(plan, name)
    when, what = np.nonzero((plan.discount > 0) | (plan.coupon > 0))
    number = plan.products["product"].to_numpy()[what]
    promotions = pd.DataFrame({"day": DAYS[when], "product": number})
    promotions["discount"] = plan.discount[when, what]
    promotions["coupon"] = plan.coupon[when, what].astype(int)
    degrees = (plan.weather.pattern + plan.weather.noise)[:n]
    sky = {f"degrees_{region}": degrees[:, k].round(1) for k, region in enumerate(REGIONS)}
    sky |= {f"rain_{region}": plan.weather.rain[:n, k] for k, region in enumerate(REGIONS)}
    return {
        "reports.parquet": found,
        "faults.parquet": faults,
        "products.parquet": plan.products,
        "stores.parquet": plan.stores,
        "calendar.parquet": days,
        "promotions.parquet": promotions,
        "weather.parquet": pd.DataFrame({"day": DAYS[:n], **sky}),
    }
