"""The share of the gap that a model closes, from a baseline (0) to an oracle (1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import mean_interval


def gap_closed(baseline: float, model: float, oracle: float) -> float:
    """Share of the way from the baseline to the oracle that a model covers.

    Parameters
    ----------
    baseline, model, oracle : float
        The same metric (lower or higher better) for each.

    Returns
    -------
    float
        0 at the baseline, 1 at the oracle; negative if the model is worse than
        the baseline.

    Raises
    ------
    ValueError
        If the oracle does not differ from the baseline: there is no gap.

    Examples
    --------
    >>> gap_closed(baseline=0.30, model=0.15, oracle=0.10)
    0.75
    """
    if np.isclose(baseline, oracle):
        raise ValueError("The baseline is already as good as the oracle: there is no gap to close.")
    return float((baseline - model) / (baseline - oracle))


def gaps(
    table: pd.DataFrame,
    floor: str,
    ceiling: str,
    metric: str,
    item: str = "model",
    within: str | Sequence[str] = "seed",
) -> pd.Series:
    """Share of the gap of every row of a long table, within each world.

    Parameters
    ----------
    table : DataFrame
        Columns ``item``, ``within`` and ``metric``; one row for each item in each world.
    floor, ceiling : str
        The items at 0 and at 1, such as the rules and the oracle.
    metric : str
        Column; lower or higher better.
    item : str
        Column that names models or policies.
    within : str or sequence of str
        Columns that identify a world (and a level, …).

    Returns
    -------
    Series
        Index of ``table``.

    Raises
    ------
    ValueError
        If the floor or the ceiling is missing.
    """
    if missing := {floor, ceiling} - {*table[item]}:
        raise ValueError(f"The table lacks {sorted(missing)}: the gap has no ends.")
    keys = [within] if isinstance(within, str) else list(within)
    ends = table[table[item].isin([floor, ceiling])].pivot(index=keys, columns=item, values=metric)
    rows = table[keys].merge(ends, left_on=keys, right_index=True, how="left")
    return (rows[floor] - table[metric]) / (rows[floor] - rows[ceiling])


def by_item(
    table: pd.DataFrame, value: str, item: str = "policy", world: str = "seed"
) -> pd.DataFrame:
    """Mean of a value over the worlds for each item, with its 95 % t interval.

    Parameters
    ----------
    table : DataFrame
        Columns ``item``, ``world`` and ``value``.
    value, item, world : str
        Columns.

    Returns
    -------
    DataFrame
        ``item``, ``value``, ``low``, ``high``; items in alphabetical order.
    """
    wide = table.pivot(index=world, columns=item, values=value)
    rows = [(name, *mean_interval(wide[name])) for name in wide]
    return pd.DataFrame(rows, columns=[item, value, "low", "high"])
