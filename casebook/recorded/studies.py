"""Studies that vary a world: its constants, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pandas as pd

Constants = TypeVar("Constants")
Change = Callable[[Constants, float], Constants]


def sensitivity(
    run: Callable[[int, Constants], pd.DataFrame],
    constants: Constants,
    changes: Mapping[str, Change],
    factors: Sequence[float],
    seeds: Sequence[int],
) -> pd.DataFrame:
    """Run a world with its constants changed, one at a time.

    Parameters
    ----------
    run : callable
        Takes a seed and the constants of a world; returns its results.
    constants : object
        The usual constants, a frozen dataclass. They are passed on, never changed in place.
    changes : mapping of str to callable
        By the name of a constant: takes the usual constants and a factor, returns changed ones.
    factors : sequence of float
        1 is the usual world.
    seeds : sequence of int

    Returns
    -------
    DataFrame
        The results with ``seed``, ``constant`` and ``factor``.

    Examples
    --------
    >>> changes = {"price": lambda prices, factor: {**prices, "price": prices["price"] * factor}}
    >>> cost = lambda seed, prices: pd.DataFrame({"cost": [seed * prices["price"]]})
    >>> sensitivity(cost, {"price": 2.0}, changes, (0.5, 1.0), [3])["cost"].tolist()
    [3.0, 6.0]
    """
    parts = [
        run(seed, change(constants, factor)).assign(seed=seed, constant=name, factor=factor)
        for seed in seeds
        for name, change in changes.items()
        for factor in factors
    ]
    return pd.concat(parts, ignore_index=True)
