"""The share of the gap that a model closes, from a baseline (0) to an oracle (1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import Interval, mean_interval


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


def closed(
    table: pd.DataFrame, model: str, floor: str, ceiling: str, metric: str, item: str = "model"
) -> Interval:
    """Return the share of the gap that a model closes, with its 95 % t interval over worlds.

    Parameters
    ----------
    table, floor, ceiling, metric, item
        As of :func:`gaps`, with ``seed`` for the world.
    model : str

    Examples
    --------
    >>> table = pd.DataFrame({"seed": [1, 1, 1, 2, 2, 2], "model": ["none", "ours", "oracle"] * 2})
    >>> closed(table.assign(loss=[9, 5, 1, 9, 3, 1]), "ours", "none", "oracle", "loss").mean
    0.625
    """
    return mean_interval(gaps(table, floor, ceiling, metric, item)[table[item] == model])


def ratio(table: pd.DataFrame, model: str, peer: str, metric: str, item: str = "model") -> Interval:
    """Return a model's metric over that of a peer, paired by world (``seed``).

    Examples
    --------
    >>> table = pd.DataFrame({"seed": [1, 1, 2, 2], "model": ["ours", "theirs"] * 2})
    >>> ratio(table.assign(loss=[1, 2, 3, 4]), "ours", "theirs", "loss").mean
    0.625
    """
    wide = table.pivot(index="seed", columns=item, values=metric)
    return mean_interval(wide[model] / wide[peer])


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


def earned(
    table: pd.DataFrame, floor: str, ceiling: str = "oracle", draws: int = 4_000
) -> pd.DataFrame:
    """Return what each policy earns for a case, and its share of the gap from floor to oracle.

    Parameters
    ----------
    table : DataFrame
        ``seed``, ``policy``, ``value`` (what its decision earns), ``true`` (what acting is worth)
        and ``shipped`` (whether it acts); a row for each policy and seed.
    floor : str
        The policy at 0; ``never`` ships nothing, so the share is that of the oracle's value.
    ceiling : str
        The policy that knows.
    draws : int
        Of the bootstrap over seeds.

    Returns
    -------
    DataFrame
        ``policy``, ``value`` (mean), ``false_ships`` and ``missed`` (shares of the seeds),
        ``share``, ``low``, ``high``.
    """
    policies = table["policy"].unique().tolist()
    wide = table.pivot(index="seed", columns="policy", values="value")[policies]
    good = (table.pivot(index="seed", columns="policy", values="true") > 0)[policies]
    shipped = table.pivot(index="seed", columns="policy", values="shipped")[policies]
    picks = np.random.default_rng(0).integers(len(wide), size=(draws, len(wide)))
    mean = wide.to_numpy()[picks].mean(axis=1)
    point, top = wide.mean().to_numpy(), policies.index(ceiling)
    keep = np.array([name == floor for name in policies], float)  # all zero: ships nothing
    base, least = mean @ keep[:, None], point @ keep
    gap = mean[:, [top]] - base
    kept = gap[:, 0] > 0  # a draw in which the floor is perfect has no gap
    share = low = high = np.full(len(policies), np.nan)  # no idea pays, or the floor finds each
    if kept.any() and point[top] > least:
        share = (point - least) / (point[top] - least)
        low, high = np.quantile((mean - base)[kept] / gap[kept], [0.025, 0.975], axis=0)
    return pd.DataFrame(
        {
            "policy": policies,
            "value": point,
            "false_ships": (shipped & ~good).mean().to_numpy(),
            "missed": (~shipped.astype(bool) & good).mean().to_numpy(),
            "share": share,
            "low": low,
            "high": high,
        }
    )
