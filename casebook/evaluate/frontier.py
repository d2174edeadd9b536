"""Policies compared within one budget of friction: what each family costs, and whom it disturbs.

A policy that asks more people stops more fraud. So two policies at different friction are not
comparable, and a limit that both exhaust is not fair either: one of them may be forced beyond what
pays. Run each family of policies at several limits; at a budget a family is represented by its
cheapest point that keeps the budget. Which one that is, the *other* worlds say: a world that chose
its own would pick the luckiest. No world is left out.

Examples
--------
Three worlds, two families, two limits each; one in a hundred may be disturbed:

>>> table = pd.DataFrame([
...     {"seed": s, "family": f, "policy": f"{f} {p}", "friction": p / 100, "cost": c + s}
...     for s in (1, 2, 3)
...     for f, p, c in (("ask", 0.8, 60), ("ask", 2, 40), ("block", 0.1, 90), ("block", 0.9, 95))])
>>> at_budget(table, 0.01).query("seed == 1")[["family", "policy", "cost"]].values.tolist()
[['ask', 'ask 0.8', 61], ['block', 'block 0.1', 91]]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.columns import need_columns
from casebook.evaluate.intervals import mean_interval

COLUMNS = ("seed", "family", "policy", "friction", "cost")


def at_budget(table: pd.DataFrame, budget: float) -> pd.DataFrame:
    """Return the point that represents each family in each world within a budget of friction.

    Parameters
    ----------
    table : DataFrame
        ``seed``, ``family``, ``policy`` (a point of the family), ``friction`` and ``cost`` of
        each, for every world.
    budget : float
        Largest friction, in the unit of the column, in the mean of the other worlds.

    Returns
    -------
    DataFrame
        A row for each world and family: the columns of the table, of the point that was the
        cheapest in the mean of the other worlds among those that kept the budget there.

    Raises
    ------
    ValueError
        When a column is missing, a value is not finite, there are fewer than two worlds, a point
        is missing in a world, or no point of a family keeps the budget.
    """
    need_columns(table, COLUMNS, "the table")
    if not np.isfinite(table[["friction", "cost"]].to_numpy(float)).all():
        raise ValueError("a friction or cost of the table is not finite")
    if table[["seed", "family", "policy"]].isna().any(axis=None):
        raise ValueError("a seed, family or policy of the table is missing")
    rows = []
    for name, part in table.groupby("family", sort=False, observed=True):
        wide = part.pivot(index="seed", columns="policy", values=["friction", "cost"])
        if len(wide) < 2 or wide.isna().any(axis=None):
            raise ValueError(f"{name!r} needs every point in each of two or more worlds")
        others = (wide.sum() - wide) / (len(wide) - 1)
        kept = others["cost"].where(others["friction"] <= budget * (1 + 1e-9))
        if (alone := kept.isna().all(axis=1)).any():
            least = others["friction"].min(axis=1)[alone].max()
            raise ValueError(
                f"no point of {name!r} keeps a friction of {budget:g}: its least is {least:.3g}; "
                "run it at a lower limit"
            )
        chosen = kept.idxmin(axis=1)
        here = pd.MultiIndex.from_arrays([part["seed"], part["policy"]])
        rows.append(part[here.isin(list(chosen.items()))])
    return pd.concat(rows, ignore_index=True)


def differences(
    table: pd.DataFrame, model: str, budget: float, peers: Sequence[str]
) -> pd.DataFrame:
    """Return what a family costs more than its peers within a budget, paired by world.

    Parameters
    ----------
    table, budget
        As for :func:`at_budget`.
    model : str
        The family that is compared.
    peers : sequence of str

    Returns
    -------
    DataFrame
        Index peer: ``difference`` (below 0: the model is cheaper), ``low``, ``high`` (95 % t
        interval over worlds), ``friction`` (the peer's mean) and ``worlds``.

    Raises
    ------
    ValueError
        As :func:`at_budget`, and when a family is not in the table.
    """
    there = list(table["family"].unique()) if "family" in table else []
    if missing := {model, *peers} - {*there}:
        raise ValueError(f"the table has no family {sorted(missing)}: it has {there}")
    found = at_budget(table[table["family"].isin([model, *peers])], budget)
    wide = found.pivot(index="seed", columns="family", values=["cost", "friction"])
    rows = {}
    for peer in peers:
        d = mean_interval(wide["cost"][model] - wide["cost"][peer])
        rows[peer] = (*d, wide["friction"][peer].mean(), len(wide))
    names = ["difference", "low", "high", "friction", "worlds"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("peer")
