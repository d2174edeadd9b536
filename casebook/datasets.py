"""Readers: one function for each public data set, from its file to a tidy frame."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd


def tourism(path: Path) -> pd.DataFrame:
    """Read Australian domestic overnight trips, 1998Q1 to 2017Q4.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("tourism")``: the R data file of the package tsibble.

    Returns
    -------
    DataFrame, 24,320 rows
        ``unique_id`` (``region/purpose``), ``state``, ``region``, ``purpose``, ``ds`` (first
        day of the quarter) and ``y`` (thousand overnight trips); 304 series of 80 quarters.

    Raises
    ------
    ValueError
        If the file does not hold the 304 complete series.

    References
    ----------
    Tourism Research Australia, in the R package tsibble (``tsibble::tourism``).
    """
    import rdata

    with warnings.catch_warnings():
        # The R classes of the table and of the quarter (days since 1970) have no
        # Python counterpart; the numbers below them are what is read here.
        warnings.filterwarnings("ignore", message="Missing constructor for R class")
        table = rdata.read_rda(path)["tourism"]
    frame = pd.DataFrame(
        {
            "unique_id": [
                f"{region}/{purpose}"
                for region, purpose in zip(table["Region"], table["Purpose"], strict=True)
            ],
            "state": table["State"].astype(str).to_numpy(),
            "region": table["Region"].astype(str).to_numpy(),
            "purpose": table["Purpose"].astype(str).to_numpy(),
            "ds": pd.to_datetime(table["Quarter"].to_numpy(), unit="D").as_unit("ns"),
            "y": table["Trips"].to_numpy(float),
        }
    )
    series, quarters = frame["unique_id"].nunique(), frame["ds"].nunique()
    if (series, quarters, len(frame)) != (304, 80, 304 * 80):
        raise ValueError(
            f"{path} holds {series} series, {quarters} quarters and {len(frame)} rows; "
            "expected 304, 80 and 24,320."
        )
    return frame.sort_values(["unique_id", "ds"], ignore_index=True)
