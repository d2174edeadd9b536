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
from casebook.data.contracts import Checked, between, checked
from casebook.data.stock_reports import PACK, SELLS, Grid, inspect
from casebook.worlds.draws import stream

if TYPE_CHECKING:
    import pandera.pandas as pa

KEYS = ["day", "store", "product"]
COUNTS = ["sold", "delivered", "wasted", "closing"]
#: Shares of store-days that never come and of rows that come twice; cells with pieces counted
#: instead of packs, with stock that nobody can find, and rows with returns booked as sales.
MISSING, TWICE, PIECES, PHANTOMS, RETURNS = 0.01, 0.004, 6, 12, 60
PIECE_DAYS, PHANTOM_DAYS = 21, 12
#: What no store sells, or keeps, of one product in a day.
MOST = 2_000
REMEDIES = {
    "column": "send all columns",
    "type": "send whole numbers, days and names",
    "empty": "fill it in",
    "range": f"0 to {MOST} units; count again",
    "day": "a day of the calendar, without a time",
    "store": "enter it into the master data first",
    "product": "enter it into the master data first",
}


def table(plan: Plan, played: Played) -> pd.DataFrame:
    """Return what was played as rows of reports without faults, cells that are sold only."""
    n = len(played.sales)
    day, cell = np.nonzero(plan.alive[played.first : played.first + n])
    coming = played.closing + played.sales - evening_stock(played)
    values = {"sold": played.sales, "delivered": coming, "wasted": played.waste}
    rows = {name: value[day, cell] for name, value in values.items()}
    return pd.DataFrame(
        {
            "day": DAYS[played.first + day],
            "store": plan.stores["store"].to_numpy()[plan.store[cell]],
            "product": plan.products["product"].to_numpy()[plan.product[cell]],
            **rows,
            "closing": played.closing[day, cell],
        }
    )


def evening_stock(played: Played) -> np.ndarray:
    """Return the stock of the evening before each day, before what was delivered then."""
    left = played.closing - played.waste
    return np.vstack([np.zeros((1, left.shape[1]), int), left[:-1]])


def _blocks(rng, plan: Plan, past: Played, n: int, length: int, rows: pd.DataFrame) -> np.ndarray:
    """Choose cells that sell well and return their rows over so many days each."""
    usual = past.sales[-200:].mean(axis=0)
    good = np.flatnonzero((usual >= SELLS + 1) & ~plan.fresh & (plan.born == 0))
    hit = np.zeros(len(rows), bool)
    names = plan.stores["store"].to_numpy(), plan.products["product"].to_numpy()
    for cell in rng.choice(good, n, replace=False):
        first = DAYS[rng.integers(60, len(past.sales) - length)]
        at = (rows["day"] >= first) & (rows["day"] < first + pd.Timedelta(days=length))
        own = (rows["store"] == names[0][plan.store[cell]]).to_numpy()
        hit |= at & own & (rows["product"] == names[1][plan.product[cell]])
    return hit


def reports(world: World, past: Played) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the stores' reports with planted faults, and where these are.

    Returns
    -------
    tuple of DataFrame
        Reports: ``day``, ``store``, ``product``, ``sold``, ``delivered``, ``wasted``, ``closing``,
        in the order in which they came. Faults: ``day``, ``store``, ``product`` ("all" where a
        store did not report), ``fault`` (missing, twice, pieces, phantom, returns).
    """
    plan, rng = world.plan, stream(world.seed, 0, 5)
    rows = table(plan, past)
    pieces = _blocks(rng, plan, past, PIECES, PIECE_DAYS, rows)
    phantom = _blocks(rng, plan, past, PHANTOMS, PHANTOM_DAYS, rows) & ~pieces
    plain = np.flatnonzero(~pieces & ~phantom & (rows["sold"] > 0))
    returned = np.zeros(len(rows), bool)
    returned[rng.choice(plain, RETURNS, replace=False)] = True
    rows.loc[pieces, "sold"] *= PACK
    pieces &= (rows["sold"] > 0).to_numpy()
    rows.loc[phantom, "sold"] = 0
    stock = rng.integers(3, 15)
    rows.loc[phantom, "closing"] = stock
    rows.loc[returned, "sold"] *= -1
    pairs = rows[["day", "store"]].drop_duplicates()
    gone = pairs[rng.random(len(pairs)) < MISSING]
    keep = ~pd.MultiIndex.from_frame(rows[["day", "store"]]).isin(pd.MultiIndex.from_frame(gone))
    twice = keep & (rng.random(len(rows)) < TWICE)
    found = [gone.assign(product="all", fault="missing")]
    marks = {"twice": twice, "pieces": pieces, "phantom": phantom, "returns": returned}
    found += [rows.loc[at & keep, KEYS].assign(fault=name) for name, at in marks.items()]
    sent = pd.concat([rows[keep], rows[twice]]).sort_values("day", kind="stable")
    return sent.reset_index(drop=True), pd.concat(found, ignore_index=True)


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


def accepted(rows: pd.DataFrame, plan: Plan) -> Checked:
    """Sort out the rows that break the contract; nothing is raised for a bad row."""
    return checked(contract(plan), rows, KEYS, REMEDIES)


# Audit and repair ----------------------------------------------------------------------


def grid(rows: pd.DataFrame, plan: Plan, days: int) -> Grid:
    """Lay out reports, the first of two for one day."""
    rows = rows.drop_duplicates(KEYS)
    day = (rows["day"] - START).dt.days.to_numpy()
    place = {name: k for k, name in enumerate(plan.stores["store"])}
    number = {name: k for k, name in enumerate(plan.products["product"])}
    cell = rows["store"].map(place).to_numpy() * len(number)
    cell = cell + rows["product"].map(number).to_numpy()
    made = []
    for name in ("sold", "closing", "delivered", "wasted"):
        values = np.full((days, len(plan.product)), np.nan)
        values[day, cell] = rows[name]
        made.append(values)
    return Grid(*made)


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
    store, product = plan.stores["store"].to_numpy(), plan.products["product"].to_numpy()
    parts = [twice]
    for name, mask in inspect(grid(rows, plan, days), *_there(plan, days)).items():
        day, cell = np.nonzero(mask)
        part = pd.DataFrame({"day": DAYS[day], "store": store[plan.store[cell]]})
        part["product"] = "all" if name == "missing" else product[plan.product[cell]]
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
    sales[found["returns"] | found["balance"]] = np.nan
    open_ = plan.alive[:days] & ~plan.closed[:days, None]
    return Repaired(sales, ((g.closing == 0) | found["phantom"]) & open_)
