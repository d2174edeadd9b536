"""The agents' queue with the team's terms, and the night that feeds it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from casebook.cases.subscription_churn.nightly import tonight
from casebook.cases.subscription_churn.policy import TERMS, Terms
from casebook.cases.subscription_churn.records import Tables, date
from casebook.serving import handout
from casebook.serving.handout import List, app_of

__all__ = ["Queue", "app_of", "run_night"]


class Queue(handout.Queue):
    """The queue of :mod:`casebook.serving.handout`, by default with the team's terms."""

    def __init__(
        self,
        path: Path,
        terms: Terms = TERMS,
        now: Callable[[], float] = time.time,
        beside: bool = False,
    ) -> None:
        super().__init__(path, terms, now, beside)


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
    """Make the list of a night and publish it; run again, it changes nothing.

    Parameters
    ----------
    queue : Queue
        Its log has the last good list, and whom to spare; ``beside`` a service or alone.
    folder : Path
        Of the registry.
    tables : Tables
    night : int
    share : float
        Held out.
    passed : callable
        Told ``"made"`` when there is a list and nobody has it yet: where a drill kills.
    after_gap : bool
        As of :meth:`Queue.publish`.

    Raises
    ------
    NightFailed, ValueError
        As :func:`.nightly.tonight` and :meth:`Queue.publish`; the agents keep the list they have.
    """
    there = [made for made in queue.lists() if made.night == night]
    if there:
        return there[0]
    good = queue.lists("model")
    spared = queue.spared(night, day_of(night))
    made = tonight(folder, tables, night, good[-1] if good else None, share, queue.terms, spared)
    passed("made")
    queue.publish(made, after_gap)
    return made
