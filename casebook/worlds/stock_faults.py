"""Faults that a world plants in its stores' reports of stock, and where they are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from casebook.data.stock_reports import KEYS, PACK

#: Shares of store-days that never come and of rows that come twice; rows with returns booked as
#: sales.
MISSING, TWICE, RETURNS = 0.01, 0.004, 60


def with_faults(
    rng: np.random.Generator, rows: pd.DataFrame, pieces: np.ndarray, phantom: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return reports with faults, and these.

    Parameters
    ----------
    rng : Generator
    rows : DataFrame
        ``KEYS``, ``sold``, ``delivered``, ``wasted`` and ``closing``, without faults; is changed.
    pieces, phantom : ndarray of bool, shape (n,)
        Rows that are counted in pieces, and rows of stock that nobody can find.

    Returns
    -------
    tuple of DataFrame
        Reports in the order in which they came. Faults: ``day``, ``store``, ``product`` ("all"
        where a store did not report), ``fault`` (missing, twice, pieces, phantom, returns).
    """
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
