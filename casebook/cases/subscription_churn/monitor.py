"""What a list was worth, four weeks later: precision, drift of the risk, drift of the effect.

The hold-out makes both readable. Of those who would have been on the list and were left in peace,
the share that cancels is the risk as it is; less the share among the called, it is the effect as
it is. A drift of the risk (a competitor, a price) shows in the first number, a drift of the effect
(new agents, a worn-out script) in the second alone.
"""

from __future__ import annotations

import numpy as np

from casebook.cases.subscription_churn.features import cancels
from casebook.cases.subscription_churn.population import MONTH
from casebook.cases.subscription_churn.records import Tables
from casebook.evaluate.assign import BUCKETS, buckets
from casebook.evaluate.holdback import Listed, Reading, read, verdict

__all__ = ["Listed", "Reading", "held_out", "of_month", "read", "verdict"]


def held_out(rows: np.ndarray, month: int, share: float) -> np.ndarray:
    """Return who is left in peace in a month, by a hash: the same on every night and machine.

    Raises
    ------
    ValueError
        If the share is not within 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of {share} cannot be held out: give one from 0 to 1.")
    return buckets(map(str, rows.tolist()), f"hold-out {month}") < share * BUCKETS


def of_month(lists: list, tables: Tables, today: int) -> Reading:
    """Read the lists of one month together, once the last one's 28 days are over.

    Who stands on several lists counts once, from the first. They are compared as drawn, whether or
    not an agent came to call them.

    Parameters
    ----------
    lists : list of nightly.List
        Made by the model, of one month.
    tables : Tables
    today : int

    Raises
    ------
    ValueError
        If a list is too young, they are of several months, or there is none.
    """
    if len({made.night // MONTH for made in lists}) != 1:
        raise ValueError("give the lists of one month: the hold-out changes with the month.")
    parts, seen = [], set()
    for made in sorted(lists, key=lambda made: made.night):
        rows = np.array([*made.rows, *made.held], int)
        new = ~np.isin(rows, [*seen])
        seen |= {*rows.tolist()}
        held = np.arange(len(rows)) >= len(made.rows)
        y = cancels(tables, rows, made.night, today)
        columns = (held, np.array(made.risks), np.array(made.effects), y)
        parts.append([column[new] for column in columns])
    held, risk, effect, y = (np.concatenate(column) for column in zip(*parts, strict=True))
    return read(Listed(max(made.night for made in lists), held, risk, effect), y, today)
