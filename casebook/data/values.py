"""What a column may hold that its type does not tell: numbers among texts, lists for names.

Examples
--------
>>> mixed = pd.Series([3, "n/a", True, 10**400], dtype=object)
>>> is_number(mixed).tolist(), numbers(mixed).tolist()
([True, False, False, True], [3.0, 0.0, 0.0, inf])
>>> hashable(pd.Series(["r1", ["r2"]])).tolist()
[True, False]
"""

from __future__ import annotations

from numbers import Real

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype


def is_number(values: pd.Series) -> pd.Series:
    """Return for each value whether it is a number; True and False are none."""
    if is_numeric_dtype(values) and not is_bool_dtype(values):
        return pd.Series(True, index=values.index)
    return values.map(lambda value: isinstance(value, Real) and not isinstance(value, bool))


def numbers(values: pd.Series) -> pd.Series:
    """Return the values as numbers; what is none becomes a 0, which breaks no further rule."""
    found = values.where(is_number(values), 0)
    return (found.map(_float) if found.dtype == object else found).astype(float)


def _float(value: Real) -> float:
    """Return a number as a float; one that no float holds is infinite."""
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def hashable(values: pd.Series) -> pd.Series:
    """Return for each value whether a table can be looked up by it: a list cannot."""

    def has_hash(value: object) -> bool:
        try:
            return hash(value) is not None
        except TypeError:
            return False

    return values.map(has_hash).astype(bool)
