"""Find the features that know the future: cut the feed at a moment, and build them again.

Examples
--------
Of three visits the last was reported a day late. Counting by the time of the visit knows it early:

>>> import pandas as pd
>>> when = pd.to_datetime(["2025-01-01", "2025-01-02", "2025-01-02"])
>>> known = pd.to_datetime(["2025-01-01", "2025-01-02", "2025-01-03"])
>>> feed = pd.DataFrame({"scanned_at": when, "received_at": known})
>>> asked = pd.DataFrame({"known_at": known})
>>> def count(feed, asked, by):
...     return pd.DataFrame({by: [(feed[by] <= now).sum() for now in asked["known_at"]]})
>>> seen_later(lambda feed, asked: count(feed, asked, "scanned_at"), feed, asked)
{'scanned_at': 1}
>>> seen_later(lambda feed, asked: count(feed, asked, "received_at"), feed, asked)
{}
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

#: From a feed and the rows that are asked about to their features.
Make = Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]


def seen_later(
    make: Make,
    feed: pd.DataFrame,
    rows: pd.DataFrame,
    cuts: int = 12,
    *,
    received: str = "received_at",
    asked: str = "known_at",
    hours: float = 6.0,
) -> dict[str, int]:
    """Find the features that change once what came in later is taken out of the feed.

    Parameters
    ----------
    make : callable
        From feed and rows to features, a row for each row asked about, in their order.
    feed : DataFrame
        All messages.
    rows : DataFrame
        At ``cuts`` of their times the feed is cut; compared are those of the ``hours`` before,
        in which a later message would show.
    cuts : int
    received, asked : str
        Columns of times: when a message came in, when a row is asked.
    hours : float

    Returns
    -------
    dict of str to int
        By feature: rows in which it differs. Empty for features that are right at their time.

    Raises
    ------
    ValueError
        If no feature is made for a row: that would find nothing.
    """
    whole = make(feed, rows)
    at = rows[asked].sort_values()
    if whole.empty or len(whole) != len(rows):
        raise ValueError(f"{len(whole)} rows of features for {len(rows)} asked: nothing to compare")
    whole = whole.set_axis(rows.index)
    found: dict[str, int] = {}
    for now in at.iloc[np.linspace(0, len(at) - 1, cuts).astype(int)].unique():
        some = rows[rows[asked].between(now - pd.Timedelta(hours=hours), now)]
        cut = make(feed[feed[received] <= now], some).set_axis(some.index)
        for name in whole:
            same = np.isclose(whole.loc[some.index, name], cut[name], equal_nan=True)
            if not same.all():
                found[name] = found.get(name, 0) + int((~same).sum())
    return found
