"""How good a forecast was: by coverage and width, by losses, and where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.quantiles import COVER, LEVELS, NAMES
from casebook.cases.delivery_eta.tracking import ripe
from casebook.cases.delivery_eta.world import CALIBRATION_END, CUT, QUIET_END, TRAIN_END
from casebook.evaluate.quantiles import interval_score, pinball_losses

TRUTH = "truth"


def with_truth(rows: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Add the hours to the true delivery, for the evaluation alone.

    Parameters
    ----------
    rows : DataFrame
        Moments.
    truth : DataFrame
        Of the world.

    Returns
    -------
    DataFrame
        With ``truth``; moments that became known after the true delivery are left out.
    """
    delivered = rows["parcel"].map(truth.set_index("parcel")["delivered"])
    hours = (delivered - rows["known_at"]) / pd.Timedelta(hours=1)
    return rows.assign(truth=hours)[hours > 0]


def split(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Cut prepared moments by time.

    Returns
    -------
    dict of str to DataFrame
        ``train`` and ``calibration``: what was ripe at their ends; ``quiet``: five weeks to test;
        ``rough``: the storm and the peak after them.
    """
    known = rows["known_at"]
    return {
        "train": ripe(rows[known < TRAIN_END], TRAIN_END),
        "calibration": ripe(rows[known >= TRAIN_END], CALIBRATION_END),
        "quiet": rows[(known >= CALIBRATION_END) & (known < QUIET_END)],
        "rough": rows[(known >= QUIET_END) & (known < CUT)],
    }


def losses(rows: pd.DataFrame, forecast: pd.DataFrame) -> pd.DataFrame:
    """Return the losses of each moment.

    Parameters
    ----------
    rows : DataFrame
        With ``truth``.
    forecast : DataFrame
        ``p10``, ``p50``, ``p90``; the same index.

    Returns
    -------
    DataFrame
        ``covered``, ``late`` (delivered after P90), ``width``, ``interval_score``, ``pinball``
        (mean of the three), ``error`` (absolute, of P50); hours.

    Raises
    ------
    ValueError
        If the rows are not those of the forecast.
    """
    if not rows.index.equals(forecast.index):
        raise ValueError("rows and forecast have different indexes: score what was forecast.")
    y, quantiles = rows[TRUTH].to_numpy(), forecast[NAMES].to_numpy()
    low, middle, high = quantiles.T
    each = [pinball_losses(y, quantiles[:, k], level) for k, level in enumerate(LEVELS)]
    return pd.DataFrame(
        {
            "covered": (y >= low) & (y <= high),
            "late": y > high,
            "width": high - low,
            "interval_score": interval_score(y, low, high, COVER),
            "pinball": np.mean(each, axis=0),
            "error": np.abs(y - middle),
        },
        rows.index,
    )


def score(
    rows: pd.DataFrame, forecast: pd.DataFrame, by: str | Sequence[str] | pd.Series | None = None
) -> pd.DataFrame:
    """Score a forecast, over all moments or by group.

    Parameters
    ----------
    rows, forecast
        As for :func:`losses`.
    by : str, sequence of str or Series, optional
        Columns of ``rows``, or a group for each of them.

    Returns
    -------
    DataFrame
        ``n``, ``coverage``, ``late``, ``width``, ``interval_score``, ``pinball``, ``mae``; one row
        ("all"), or one for each group.
    """
    each = losses(rows, forecast).rename(columns={"covered": "coverage", "error": "mae"})
    if by is None:
        by = pd.Series("all", rows.index, name="rows")
    keys = (
        [rows[name] for name in ([by] if isinstance(by, str) else by)]
        if not isinstance(by, pd.Series)
        else [by]
    )
    groups = each.groupby(keys, sort=True, observed=True)
    return pd.concat([groups.size().rename("n"), groups.mean()], axis=1)


def compare(
    rows: pd.DataFrame, forecasts: Mapping[str, pd.DataFrame], by: str | None = None
) -> pd.DataFrame:
    """Score several forecasts of the same moments.

    Returns
    -------
    DataFrame
        As of :func:`score`, with the forecast's name (``model``) in the index, in order.
    """
    parts = {name: score(rows, forecast, by) for name, forecast in forecasts.items()}
    table = pd.concat(parts, names=["model"])
    return table.droplevel(-1) if by is None else table


def deciles(rows: pd.DataFrame, train: pd.DataFrame, n: int = 10) -> pd.Series:
    """Sort zone pairs into deciles by what they took in training: 1 is quick, 10 is slow.

    Parameters
    ----------
    rows : DataFrame
        Moments to sort.
    train : DataFrame
        Moments with ``remaining``; a pair's median at collection, or of its hubs if there are
        fewer than five parcels.
    n : int
        Groups, each with about the same number of ``rows``.

    Returns
    -------
    Series
        1 to ``n``, index of ``rows``; pairs whose hubs are unknown are in group 0.
    """
    first = train[train["stage"] == "collected"]
    pair, hubs = ["origin", "destination"], ["origin_hub", "destination_hub"]
    known = first.groupby(pair)["remaining"].agg(["median", "size"])
    own = rows[pair].join(known.loc[known["size"] >= 5, "median"], on=pair)["median"]
    usual = rows[hubs].join(first.groupby(hubs)["remaining"].median(), on=hubs)["remaining"]
    typical = own.fillna(usual)
    order = typical.rank(method="first", pct=True)
    return np.ceil(order * n).fillna(0).astype(int).rename("decile")


def jumps(rows: pd.DataFrame, forecast: pd.DataFrame) -> pd.Series:
    """Return by how many hours each scan moved the parcel's P50; NaN at its first one."""
    promised = rows["known_at"] + pd.to_timedelta(forecast["p50"], unit="h")
    order = rows.sort_values(["parcel", "known_at"]).index
    moved = promised.loc[order].groupby(rows.loc[order, "parcel"]).diff()
    return (moved / pd.Timedelta(hours=1)).reindex(rows.index)
