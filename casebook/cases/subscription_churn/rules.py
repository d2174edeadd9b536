"""An afternoon of an analyst: the longest silence, points for risk, a table of segments.

The rungs between calling anybody and a model, written to win.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Segments in the order in which a subscriber is put into one.
SEGMENTS = ("payment", "asleep", "ticket", "downgrade", "falling, new", "falling", "new", "steady")


def silence(features: pd.DataFrame) -> np.ndarray:
    """Return the days since the last login: whom the team would call first."""
    return features["silent"].to_numpy(float)


def points(features: pd.DataFrame) -> np.ndarray:
    """Return points for what makes subscribers leave, as experience has it.

    Long silence counts only where there had been logins: who never comes does not go either.
    """
    f = features
    used = f["logins_half_year"] > 0.5
    return (
        4.0 * (f["failed"] > 0)
        + 3.0 * (f["colleagues_left"] > 0.25)
        + 3.0 * (f["downgrades"] > 0)
        + 2.0 * (f["mood"].fillna(0) > 0.6)
        + 2.0 * ((f["ratio"] < 0.6) & used)
        + 1.0 * ((f["drop"] > 0.4) & used)
        + 1.0 * ((f["silent"] > 10) & used)
        + 1.0 * (f["score"].fillna(8) < 6)
        + 0.5 * (f["tenure"] < 180)
    ).to_numpy(float)


def segments(features: pd.DataFrame) -> np.ndarray:
    """Return the segment of each subscriber: what seems to be the matter."""
    f = features
    awake = f["logins_half_year"] > 0.5
    falls = ((f["ratio"] < 0.6) | (f["drop"] > 0.4) | (f["slope"] < -0.05)) & awake
    new = f["tenure"] < 180
    cases = [
        (f["failed"] > 0) | (f["colleagues_left"] > 0.3),
        ~awake,
        (f["tickets_quarter"] > 0) & (f["mood"] > 0.5),
        f["downgrades"] > 0,
        falls & new,
        falls,
        new,
    ]
    return np.select(cases, SEGMENTS[:-1], SEGMENTS[-1])


def segment_effects(
    segment: np.ndarray, cancelled: np.ndarray, drawn: np.ndarray, chance: np.ndarray
) -> pd.DataFrame:
    """Return what a call changed in each segment of the randomised month.

    Parameters
    ----------
    segment : ndarray of str, shape (n,)
    cancelled, drawn : ndarray of bool, shape (n,)
        Of the randomised month; whether chance had chosen them.
    chance : ndarray, shape (n,)
        Of being chosen: each counts by one over the chance of what happened.

    Returns
    -------
    DataFrame
        Index segment; ``n``, ``drawn``, ``stay`` and ``called`` (share that cancelled, without and
        with a call), ``effect`` (their difference) and ``se``.
    """
    frame = pd.DataFrame({"segment": segment, "y": cancelled.astype(float), "drawn": drawn})
    frame["w"] = np.where(drawn, 1 / chance, 1 / (1 - chance))
    frame["wy"] = frame["w"] * frame["y"]
    sums = frame.groupby(["segment", "drawn"])[["w", "wy"]].sum()
    rate = (sums["wy"] / sums["w"]).unstack()
    mean = rate.stack().reindex(pd.MultiIndex.from_frame(frame[["segment", "drawn"]])).to_numpy()
    frame["square"] = (frame["w"] * (frame["y"] - mean)) ** 2
    squares = frame.groupby(["segment", "drawn"])["square"].sum()
    variance = (squares / sums["w"] ** 2).unstack().sum(axis=1)
    table = pd.DataFrame(
        {
            "n": frame.groupby("segment").size(),
            "drawn": frame.groupby("segment")["drawn"].sum(),
            "stay": rate[False],
            "called": rate[True],
            "effect": rate[False] - rate[True],
            "se": np.sqrt(variance),
        }
    )
    return table.reindex([name for name in SEGMENTS if name in table.index])
