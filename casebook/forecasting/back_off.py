"""History by group as a forecast: quantiles of a group, or of a wider one where it is too small.

Examples
--------
>>> rows = pd.DataFrame({"shop": ["A"] * 4 + ["B"], "kind": "small", "hours": [1.0, 2, 3, 4, 100]})
>>> levels = {"shop": ["shop"], "kind": ["kind"]}
>>> made = history(rows, levels, "hours", least=3)
>>> made.predict(rows.tail(2))["p50"].tolist(), made.source(rows.tail(2)).tolist()
([2.5, 3.0], ['shop', 'kind'])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.evaluate.ranges import LEVELS, NAMES, as_forecast


def group_quantiles(
    rows: pd.DataFrame,
    keys: list[str],
    value: str,
    least: int,
    levels: Sequence[float] = LEVELS,
    columns: Sequence[object] = NAMES,
) -> pd.DataFrame:
    """Return the quantiles of each group that is large enough."""
    grouped = rows.groupby(keys)[value]
    table = grouped.quantile(list(levels)).unstack()
    table.columns = [*columns]
    return table[grouped.size() >= least]


def backed_off(rows: pd.DataFrame, tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return for each row its values of the first table that has its group; NaN if none has."""
    values: pd.DataFrame | None = None
    for table in tables:
        keys = list(table.index.names)
        own = rows[keys].join(table, on=keys)[[*table.columns]]
        values = own if values is None else values.fillna(own)
    return values


@dataclass(frozen=True)
class History:
    """Quantiles by group, and by wider groups where one is too small.

    Attributes
    ----------
    tables : dict of str to DataFrame
        By the name of a level, from the narrowest to the widest; each of :func:`group_quantiles`.
    """

    tables: dict[str, pd.DataFrame]

    def _found(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        values = np.full((len(rows), len(NAMES)), np.nan)
        source = np.full(len(rows), "none", dtype=object)
        for name, table in self.tables.items():
            keys = list(table.index.names)
            own = rows[keys].join(table, on=keys)[NAMES].to_numpy()
            new = (source == "none") & np.isfinite(own).all(axis=1)
            values[new], source[new] = own[new], name
        return values, source

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the forecast of rows; NaN where no level has the group."""
        return as_forecast(self._found(rows)[0], rows.index)

    def source(self, rows: pd.DataFrame) -> pd.Series:
        """Return the level that was used, or none."""
        return pd.Series(self._found(rows)[1], rows.index, name="source")


def history(
    rows: pd.DataFrame, levels: Mapping[str, Sequence[str]], value: str, least: int
) -> History:
    """Collect the history of all groups.

    Parameters
    ----------
    rows : DataFrame
        With ``value``.
    levels : mapping of str to sequence of str
        Columns of each level, from the narrowest to the widest.
    value : str
    least : int
        A group with fewer rows leaves the answer to the next wider one.
    """
    return History(
        {name: group_quantiles(rows, [*keys], value, least) for name, keys in levels.items()}
    )
