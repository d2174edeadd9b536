"""What a list was worth, four weeks later: precision, drift of the risk, drift of the effect.

:mod:`casebook.evaluate.holdback` says how the hold-out tells one from the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from casebook.cases.subscription_churn.features import cancels
from casebook.cases.subscription_churn.population import MONTH
from casebook.cases.subscription_churn.records import Tables, date
from casebook.evaluate.holdback import Reading
from casebook.serving import handout

LATE = 14  # days until a cancellation has been booked


def of_month(lists: Sequence[handout.List], tables: Tables, today: int) -> Reading:
    """Read the lists of a month: :func:`casebook.serving.handout.reading` of who cancels.

    Raises
    ------
    ValueError
        As there, or if nobody in the whole company has left within the time: the table is late.
    """

    def lost(rows: np.ndarray, night: int) -> np.ndarray:
        if not tables.subscribers["left"].between(date(night), date(night + MONTH)).any():
            raise ValueError(f"nobody has left since day {night}: load the subscribers again.")
        return cancels(tables, rows, night, today)

    return handout.reading(lists, lost, today, MONTH, LATE)
