"""What the stores report of each day, with its faults; the contract, the audit and the repair.

A row says what a store sold of a product, what was delivered, thrown away and left at closing time.
So the units must add up from one day to the next, and most faults can be told by that balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.cases.inventory_demand.demand import DAYS, START, Plan, World
from casebook.cases.inventory_demand.play import Played
from casebook.data.contracts import Checked, between
from casebook.data.stock_reports import COUNTS, KEYS, PACK, SELLS, Grid, accept, inspect, laid_out
from casebook.worlds.draws import stream
from casebook.worlds.stock_faults import with_faults

if TYPE_CHECKING:
    import pandera.pandas as pa

#: Cells whose pieces are counted instead of packs, and with stock that nobody can find; days of it.
PIECES, PHANTOMS, PIECE_DAYS, PHANTOM_DAYS = 6, 12, 21, 12
#: What no store sells, or keeps, of one product in a day.
MOST = 2_000


def table(plan: Plan, played: Played) -> pd.DataFrame:
    """Return what was played as rows of reports without faults, cells that are sold only."""
    n = len(played.sales)
    day, cell = np.nonzero(plan.alive[played.first : played.first + n])
    coming = played.closing + played.sales - evening_stock(played)
    values = {"sold": played.sales, "delivered": coming, "wasted": played.waste}
    rows = {name: value[day, cell] for name, value in values.items()}
    names = {"day": DAYS[played.first + day], **plan.names(cell)}
    return pd.DataFrame({**names, **rows, "closing": played.closing[day, cell]})


def evening_stock(played: Played) -> np.ndarray:
    """Return the stock of the evening before each day, before what was delivered then."""
    left = played.closing - played.waste
    return np.vstack([np.zeros((1, left.shape[1]), int), left[:-1]])


def _blocks(rng, plan: Plan, past: Played, n: int, length: int, rows: pd.DataFrame) -> np.ndarray:
    """Choose cells that sell well and return their rows over so many days each."""
    usual = past.sales[-200:].mean(axis=0)
    good = np.flatnonzero((usual >= SELLS + 1) & ~plan.fresh & (plan.born == 0))
    hit = np.zeros(len(rows), bool)
    for cell in rng.choice(good, n, replace=False):
        first = DAYS[rng.integers(60, len(past.sales) - length)]
        at = (rows["day"] >= first) & (rows["day"] < first + pd.Timedelta(days=length))
        for name, value in plan.names(cell).items():
            at &= rows[name] == value
        hit |= at.to_numpy()
    return hit


def reports(world: World, past: Played) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the stores' reports with planted faults, and where these are (as `with_faults`)."""
    plan, rng = world.plan, stream(world.seed, 0, 5)
    rows = table(plan, past)
    pieces = _blocks(rng, plan, past, PIECES, PIECE_DAYS, rows)
    phantom = _blocks(rng, plan, past, PHANTOMS, PHANTOM_DAYS, rows) & ~pieces
    return with_faults(rng, rows, pieces, phantom)


def contract(plan: Plan) -> pa.DataFrameSchema:
    """Return the contract of a report's rows; it has upper bounds, and holds for an empty table.

    A negative count is let in: the audit knows it as a return.
    """
    import pandera.pandas as pa

    days = pa.Check.isin(DAYS, name="day", error="no day of the calendar")
    names = {
        name: pa.Check.isin([*getattr(plan, f"{name}s")[name]], name=name, error=f"unknown {name}")
        for name in ("store", "product")
    }
    columns = {"day": pa.Column("datetime64[ns]", days)}
    columns |= {name: pa.Column("object", check) for name, check in names.items()}
    least = {"sold": -MOST}
    columns |= {name: between("int64", least.get(name, 0), MOST, "range") for name in COUNTS}
    return pa.DataFrameSchema(columns)


def accepted(rows: pd.DataFrame, plan: Plan, until: int = len(DAYS) - 1) -> Checked:
    """Sort out the rows that break the contract, or are of days after ``until``."""
    return accept(rows, contract(plan), DAYS[until])


# Audit and repair ----------------------------------------------------------------------


def grid(rows: pd.DataFrame, plan: Plan, days: int) -> Grid:
    """Lay out reports, the first of two for one day."""
    place, number = (
        pd.Index(table[name]).get_indexer(rows[name])
        for name, table in (("store", plan.stores), ("product", plan.products))
    )
    cell, day = place * len(plan.products) + number, (rows["day"] - START).dt.days.to_numpy()
    return laid_out(rows, day, cell, (days, len(plan.product)))


def _there(plan: Plan, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells are there on each day, and which days are closed, (days, cells)."""
    alive = plan.alive[:days]
    return alive, np.broadcast_to(plan.closed[:days, None], alive.shape)


def audit(rows: pd.DataFrame, plan: Plan, days: int) -> pd.DataFrame:
    """Return the faults that are found in reports that keep the contract.

    Returns
    -------
    DataFrame
        ``day``, ``store``, ``product`` ("all" where a store did not report), ``fault``.
    """
    twice = rows.loc[rows.duplicated(KEYS), KEYS].drop_duplicates().assign(fault="twice")
    parts = [twice]
    for name, mask in inspect(grid(rows, plan, days), *_there(plan, days)).items():
        day, cell = np.nonzero(mask)
        part = pd.DataFrame({"day": DAYS[day], **plan.names(cell)})
        part = part.assign(product="all") if name == "missing" else part
        parts.append(part.drop_duplicates().assign(fault=name))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Repaired:
    """Reports after their repair, arrays of shape (days, cells).

    Attributes
    ----------
    sales : ndarray of float
        NaN where nothing is known.
    sold_out : ndarray of bool
        More may have been wanted than was sold: the shelf was empty, or could not be reached.
    """

    sales: np.ndarray
    sold_out: np.ndarray


def repair(rows: pd.DataFrame, plan: Plan, days: int) -> Repaired:
    """Mend reports: twice once, pieces into packs, returns and what does not add up into NaN.

    Stock that nobody can find is an empty shelf: the cell counts as sold out.
    """
    g = grid(rows, plan, days)
    found = inspect(g, *_there(plan, days))
    sales = np.where(found["pieces"], g.sold / PACK, g.sold)
    sales[found["returns"] | found["balance"] | found["absurd"]] = np.nan
    open_ = plan.alive[:days] & ~plan.closed[:days, None]
    return Repaired(sales, ((g.closing == 0) | found["phantom"]) & open_)
