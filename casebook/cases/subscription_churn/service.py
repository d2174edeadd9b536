"""The agents' queue with the team's terms, and the night that feeds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from casebook.cases.subscription_churn.nightly import tonight
from casebook.cases.subscription_churn.records import Tables, date
from casebook.serving import handout
from casebook.serving.handout import List, Queue, app_of

__all__ = ["Queue", "app_of", "run_night"]


def day_of(night: int) -> int:
    """Return the day of a night as the queue's clock counts it, from 1970."""
    return (date(night) - pd.Timestamp(0)).days


def run_night(
    queue: Queue,
    folder: Path,
    tables: Tables,
    night: int,
    share: float = 0.05,
    passed: Callable[[str], None] = lambda point: None,
    after_gap: bool = False,
) -> List:
    """Make the list of a night and publish it: :func:`casebook.serving.handout.run_night`.

    The queue's log has the last good list, and whom to spare; ``share`` is held out.

    Raises
    ------
    NightFailed, ValueError
        As :func:`.nightly.tonight` and :meth:`Queue.publish`; the agents keep the list they have.
    """

    def make(last: List | None) -> List:
        spared = queue.spared(night, day_of(night))
        return tonight(folder, tables, night, last, share, queue.terms, spared)

    return handout.run_night(queue, night, make, passed, after_gap)
