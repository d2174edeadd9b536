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
from casebook.cases.subscription_churn.records import Tables, date
from casebook.evaluate.assign import BUCKETS, buckets
from casebook.evaluate.holdback import Listed, Reading, read, verdict

#: Days until a cancellation has been booked.
LATE = 14

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
    """Read the lists of one month together, once the last one's 28 days are over and booked.

    Who stands on several lists counts once, from the first. They are compared as drawn, whether or
    not an agent came to call them.

    Parameters
    ----------
    lists : list of nightly.List
        Of one month; those that the model did not make predict nothing and are passed over.
    tables : Tables
    today : int

    Raises
    ------
    ValueError
        If a list is too young, they are of several months, there is none of the model, or nobody
        in the whole company has left within the time: the table is late.
    """
    lists = [made for made in lists if made.source == "model" and (made.rows or made.held)]
    if len({made.night // MONTH for made in lists}) != 1:
        raise ValueError("give the lists of one month: the hold-out changes with the month.")
    first, last = min(made.night for made in lists), max(made.night for made in lists)
    if today < last + MONTH + LATE:
        raise ValueError(
            f"cancellations after day {last} are booked by day {last + MONTH + LATE}, today is day "
            f"{today}: the outcome is not known yet."
        )
    if not tables.subscribers["left"].between(date(first), date(last + MONTH)).any():
        raise ValueError(f"nobody has left since day {first}: load the subscribers again.")
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
    error = max(made.error for made in lists)
    return read(Listed(last, held, risk, effect, error), y, today)
