"""Studies that vary a world, its constants one at a time, or a model's settings."""

from __future__ import annotations

import json
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


def best_of(table: pd.DataFrame, by: str = "euro") -> dict[str, dict[str, object]]:
    """Return of each learner the settings with the highest mean over the worlds.

    Parameters
    ----------
    table : DataFrame
        ``learner``, ``settings`` (JSON) and a column of results; a row for each world.
    by : str
        Of the results; rows without one are passed over.

    Examples
    --------
    >>> tried = pd.DataFrame({"learner": "T", "settings": ['{"k": 1}', '{"k": 2}'], "euro": [3, 5]})
    >>> best_of(tried)
    {'T': {'k': 2}}
    """
    mean = table.dropna(subset=[by]).groupby(["learner", "settings"], as_index=False)[by].mean()
    top = mean.loc[mean.groupby("learner")[by].idxmax()]
    return {
        name: json.loads(text) for name, text in zip(top["learner"], top["settings"], strict=True)
    }
