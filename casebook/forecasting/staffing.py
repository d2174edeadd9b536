"""What a forecast costs in staff: the newsvendor's rates, its orders and the decision table.

Both rates are *net*: what an hour costs beyond a day whose parcels were known in advance.

* An hour too many costs its wage.
* An hour too few is bought from an agency on the day, and saves the wage of the hour that was not
  ordered. It costs the agency's rate *less* the wage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

NAIVE, FLOOR = "naive_week", "actual"


@dataclass(frozen=True)
class Rates:
    """What an hour of staff costs and does.

    Attributes
    ----------
    wage : float
        Euro for an hour that is ordered four weeks ahead, worked or not.
    agency : float
        Euro for an hour that is bought on the day.
    parcels_per_hour, shift_hours : float
        Of one worker.

    Examples
    --------
    >>> rates = Rates()
    >>> rates.short, rates.idle, round(rates.quantile, 3)
    (60.0, 24.0, 0.714)
    """

    wage: float = 24.0
    agency: float = 84.0
    parcels_per_hour: float = 25.0
    shift_hours: float = 8.0

    @property
    def short(self) -> float:
        """Net cost of an hour too few: euro beyond the wage that a planned hour costs."""
        return self.agency - self.wage

    @property
    def idle(self) -> float:
        """Net cost of an hour too many: euro."""
        return self.wage

    @property
    def quantile(self) -> float:
        """Share of days on which the cheapest order suffices: the critical ratio."""
        return self.short / (self.short + self.idle)


def staffing_cost(
    actual: np.ndarray, ordered: np.ndarray, rates: Rates = Rates(), whole_workers: bool = True
) -> np.ndarray:
    """Return what the staff ordered for a forecast costs beyond the hours that were needed.

    Parameters
    ----------
    actual, ordered : ndarray, shape (n,)
        Parcels of depots and days: what came, and what was staffed for.
    rates : Rates
    whole_workers : bool
        Order shifts of whole workers (rounded to the nearest), or hours.

    Returns
    -------
    ndarray, shape (n,)
        Euro.
    """
    needed = np.asarray(actual, float) / rates.parcels_per_hour
    hours = np.asarray(ordered, float) / rates.parcels_per_hour
    if whole_workers:
        hours = np.floor(hours / rates.shift_hours + 0.5) * rates.shift_hours
    return rates.short * np.maximum(needed - hours, 0) + rates.idle * np.maximum(hours - needed, 0)


def weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the smallest value at which the weights so far reach a share of all weight.

    Examples
    --------
    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([8.0, 1.0, 1.0]), 0.7)
    3.0
    """
    order = np.argsort(values)
    reached = np.cumsum(np.asarray(weights, float)[order])
    return float(np.asarray(values)[order][np.searchsorted(reached, share * reached[-1])])


def order_factor(past: pd.DataFrame, column: str, share: float) -> float:
    """Return the factor that raises a forecast to a quantile of what came.

    Parameters
    ----------
    past : DataFrame
        ``y`` and forecasts of depots and days whose parcels are known.
    column : str
        Forecasts.
    share : float
        Of the quantile.

    Returns
    -------
    float
        Quantile of actual over forecast. A day weighs as much as its forecast: a missing hour
        costs the same in every depot, so a large depot counts for more.
    """
    known = past[past[column] > 0]
    weights = known[column].to_numpy()
    return weighted_quantile(known["y"].to_numpy() / weights, weights, share)


def order_quantile(
    result: pd.DataFrame,
    column: str,
    origins: Sequence[pd.Timestamp],
    share: float,
    by_depot: bool = False,
    errors_of: str | None = None,
) -> pd.Series:
    """Raise a point forecast to a quantile by the relative errors of earlier origins.

    Parameters
    ----------
    result : DataFrame
        ``unique_id``, ``ds``, ``origin``, ``y`` and forecasts of the depots, with origins before
        ``origins``.
    column : str
        Point forecasts.
    origins : sequence of Timestamp
        To order for.
    share : float
        Of the quantile, such as ``Rates().quantile``.
    by_depot : bool
        A factor for each depot, from its own errors; else one for all.
    errors_of : str, optional
        Take the errors of another forecast, where the earlier ones of ``column`` are not kept.

    Returns
    -------
    Series
        Orders in parcels, index of the rows of ``origins`` in ``result``.

    Raises
    ------
    ValueError
        If an origin, or with ``by_depot`` one of its depots, has no earlier forecast.
    """
    source, orders = errors_of or column, []
    for origin in origins:
        rows = result[result["origin"] == origin]
        past = result[(result["origin"] < origin) & (result["ds"] < origin)].dropna(subset=source)
        group = "unique_id" if by_depot else pd.Series("all", past.index)
        factor = {name: order_factor(own, source, share) for name, own in past.groupby(group)}
        wanted = rows["unique_id"] if by_depot else pd.Series("all", rows.index)
        if lacking := set(wanted) - factor.keys():
            raise ValueError(f"no forecast from before {origin:%Y-%m-%d} of {min(lacking)!r}")
        orders.append(rows[column] * wanted.map(factor))
    return pd.concat(orders)


def order_coverage(depots: pd.DataFrame, orders: pd.Series) -> pd.DataFrame:
    """Return on how many of its days each depot's order sufficed.

    Parameters
    ----------
    depots : DataFrame
        ``unique_id`` and ``y``.
    orders : Series
        Parcels; index of rows of ``depots``.

    Returns
    -------
    DataFrame
        Index ``unique_id``; ``days`` and ``covered`` (share). The days of a depot are not
        independent: read the spread over the depots.
    """
    rows = depots.loc[orders.index, ["unique_id", "y"]]
    served = (rows["y"] <= orders).groupby(rows["unique_id"])
    return served.agg(days="size", covered="mean")


def avoidable(euros: pd.Series, naive: float, floor: float) -> pd.Series:
    """Return the share of the avoidable cost that is avoided: 0 at the naive, 1 at the floor.

    The floor is the cost of knowing the parcels: shifts of whole workers never fit them.
    """
    return (naive - euros) / (naive - floor)


def decision_table(
    depots: pd.DataFrame,
    models: Sequence[str],
    origins: Sequence[pd.Timestamp],
    rates: Rates = Rates(),
    true_quantile: str | None = None,
    errors_of: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Cost the staff of all depots by each forecast, as a point and as the quantile to order.

    Parameters
    ----------
    depots : DataFrame
        As for :func:`order_quantile`, of the depots alone.
    models : sequence of str
        Columns of forecasts, the naive one among them.
    origins : sequence of Timestamp
        To cost; the earlier ones give the orders' errors.
    rates : Rates
    true_quantile : str, optional
        Column with the quantile of the oracle's own distribution, in place of a factor for the
        model ``oracle``.
    errors_of : dict of str to str, optional
        For a model without earlier forecasts: whose errors its order takes.

    Returns
    -------
    DataFrame
        ``model`` (``actual`` is the floor: the parcels were known), ``order`` (point, quantile),
        ``euros`` a day for all depots beyond the hours that were needed, and ``avoidable``: the
        share of the way from the naive point forecast to the floor.
    """
    test = depots[depots["origin"].isin(origins)]
    days = test["ds"].nunique()
    orders = {(FLOOR, "point"): test["y"]}
    for model in models:
        orders[model, "point"] = test[model]
        if model == "oracle" and true_quantile:
            orders[model, "quantile"] = test[true_quantile]
            continue
        source = (errors_of or {}).get(model)
        raised = order_quantile(depots, model, origins, rates.quantile, errors_of=source)
        orders[model, "quantile"] = raised.loc[test.index]
    rows = [
        (*key, staffing_cost(test["y"], parcels, rates).sum() / days)
        for key, parcels in orders.items()
    ]
    table = pd.DataFrame(rows, columns=["model", "order", "euros"])
    euros = table.set_index(["model", "order"])["euros"]
    ends = euros[NAIVE, "point"], euros[FLOOR, "point"]
    return table.assign(avoidable=avoidable(table["euros"], *ends))
