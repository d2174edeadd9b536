"""Policies compared at equal friction: what each costs where all of them disturb equally many.

A policy that asks more people stops more fraud. So two policies at different friction are not
comparable, and a limit that both keep is not enough: one of them may stay far below it. Run each
family of policies at several limits; the line between two points is what a coin that chooses
between them would give, so every friction between the least and the largest has a cost.

Examples
--------
One world; the second family costs more at each limit, and still less where both disturb 1 %:

>>> table = pd.DataFrame({
...     "seed": 1, "family": ["ask", "ask", "block", "block"],
...     "friction": [0.0, 0.02, 0.005, 0.01], "cost": [100, 60, 95, 70]})
>>> at_equal(table, 0.01).round(1).to_dict("records")
[{'ask': 80.0, 'block': 70.0}]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.data.contracts import need_columns
from casebook.evaluate.intervals import mean_interval


def at_equal(
    table: pd.DataFrame,
    at: float,
    *,
    friction: str = "friction",
    cost: str = "cost",
    family: str = "family",
    world: str = "seed",
) -> pd.DataFrame:
    """Return the cost of each family at one friction, in each world.

    Parameters
    ----------
    table : DataFrame
        A row for each world, family and limit, with the friction and the cost that came of it.
    at : float
        Friction at which all are compared, in the unit of the column.
    friction, cost, family, world : str
        Columns.

    Returns
    -------
    DataFrame, shape (worlds, families)
        Straight lines between the points of a family; empty where the family never disturbed so
        few, or so many.

    Raises
    ------
    ValueError
        When a column is missing, a value is not finite, or the table is empty.
    """
    need_columns(table, (world, family, friction, cost), "the table")
    if table.empty or not np.isfinite(table[[friction, cost]].to_numpy(float)).all():
        raise ValueError("the table is empty, or a friction or cost of it is not finite")
    found = {}
    for (seed, name), part in table.groupby([world, family], sort=False):
        points = part.groupby(friction)[cost].mean()
        inside = points.index[0] <= at <= points.index[-1]
        value = np.interp(at, points.index, points) if inside else np.nan
        found.setdefault(name, {})[seed] = float(value)
    return pd.DataFrame(found).rename_axis(world)


def differences(
    table: pd.DataFrame, model: str, at: Sequence[float], peers: Sequence[str], **columns: str
) -> pd.DataFrame:
    """Return what a family costs more than its peers at equal friction, paired by world.

    Parameters
    ----------
    table, columns
        As for :func:`at_equal`.
    model : str
        The family that is compared.
    at : sequence of float
        Frictions.
    peers : sequence of str

    Returns
    -------
    DataFrame
        ``friction``, ``peer``, ``difference`` (below 0: the model is cheaper), ``low``, ``high``
        (95 % t interval over worlds) and ``worlds``: how many have both.

    Raises
    ------
    ValueError
        As :func:`at_equal`, and when a family is not in the table or fewer than two worlds have
        both families at that friction.
    """
    rows = []
    for friction in at:
        wide = at_equal(table, friction, **columns)
        if missing := {model, *peers} - {*wide}:
            raise ValueError(f"the table has no family {sorted(missing)}: it has {list(wide)}")
        for peer in peers:
            both = (wide[model] - wide[peer]).dropna()
            if len(both) < 2:
                raise ValueError(
                    f"at a friction of {friction:g} only {len(both)} worlds have both {model!r} "
                    f"and {peer!r}: choose a friction that all of them reach"
                )
            rows.append((friction, peer, *mean_interval(both), len(both)))
    names = ["friction", "peer", "difference", "low", "high", "worlds"]
    return pd.DataFrame(rows, columns=names)
