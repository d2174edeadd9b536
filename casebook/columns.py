"""Columns that a table must have: asked before anything is computed from it.

Examples
--------
>>> import pandas as pd
>>> need_columns(pd.DataFrame({"day": [1], "sold": [2]}), ["day", "sold"], "sales")
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def need_columns(frame: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    """Refuse a table that lacks a column.

    Parameters
    ----------
    frame : DataFrame
    columns : iterable of str
        That it must have; more do no harm.
    name : str
        Of the table, for the message.

    Raises
    ------
    ValueError
        With the columns that are missing and those that are there.

    Examples
    --------
    >>> import pandas as pd
    >>> need_columns(pd.DataFrame({"day": [1]}), ["day", "sold"], "sales")
    Traceback (most recent call last):
    ...
    ValueError: sales: no column ['sold']; there are ['day'].
    """
    if missing := [column for column in columns if column not in frame]:
        raise ValueError(f"{name}: no column {missing}; there are {list(frame)}.")
