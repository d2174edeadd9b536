"""The night's lists: twenty items for each user's mail and for each page, on one machine or many.

Rows are computed in blocks of a fixed size, by whichever process, so that the number of workers
changes no bit. When a night fails, yesterday's lists serve, for 48 hours; a list is checked against
the stock once more when it is sent or shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from casebook.serving.lists import Lists, blocks, wrong
from casebook.serving.nights import climb

if TYPE_CHECKING:
    from distributed import Client

#: Items of a stored list: more than a list shows, since some are sold out by then.
LONG = 20


class Recommends(Protocol):
    """What makes lists: the same for the page, the mail and the tables of the chapter."""

    def recommend(
        self,
        users: np.ndarray,
        seeds: np.ndarray,
        surface: str,
        stock: np.ndarray,
        count: int = 10,
        **more: Any,
    ) -> tuple[np.ndarray, np.ndarray]: ...


def _block(
    model: Recommends, surface: str, rows: np.ndarray, stock: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    nobody = np.full(len(rows), -1)
    who, page = (rows, nobody) if surface == "mail" else (nobody, rows)
    items, scores = model.recommend(who, page, surface, stock, count=LONG)
    return np.asarray(items), np.asarray(scores, float)


def night(
    model: Recommends,
    sizes: Mapping[str, int],
    stock: np.ndarray,
    made: pd.Timestamp,
    client: Client | None = None,
) -> Lists:
    """Make the lists of a night.

    Parameters
    ----------
    model : Recommends
    sizes : mapping of str to int
        By surface: users of ``mail``, items of ``similar`` and ``also``.
    stock : ndarray of bool, shape (items,)
    made : Timestamp
    client : distributed.Client, optional
        Its workers share the blocks; without one this process makes them all.

    Returns
    -------
    Lists
        Equal to the last bit, with or without workers.

    Raises
    ------
    ValueError
        If a list cannot be: an item that is sold out or stands twice, or a score that is none.
    """
    jobs = [(surface, rows) for surface, n in sizes.items() for rows in blocks(n)]
    if client is None:
        parts = [_block(model, surface, rows, stock) for surface, rows in jobs]
    else:
        held, there = client.scatter([model, stock], broadcast=True)
        waiting = [client.submit(_block, held, s, rows, there, pure=False) for s, rows in jobs]
        parts = client.gather(waiting)
    items, scores = {}, {}
    for surface, n in sizes.items():
        mine = [part for part, (s, _) in zip(parts, jobs, strict=True) if s == surface]
        empty = (np.empty((0, LONG), np.int32), np.empty((0, LONG)))
        items[surface], scores[surface] = (
            map(np.concatenate, zip(*mine, strict=True)) if mine else empty
        )
        if why := wrong(items[surface], scores[surface], stock, n):
            raise ValueError(f"the {surface} lists cannot be sent: {why}")
        items[surface] = items[surface].astype(np.int32)
    return Lists(made, items, scores)


def run_night(path: Path, make: Any, now: pd.Timestamp) -> tuple[Lists, str]:
    """Make tonight's lists and store them, or go on with yesterday's while they are valid.

    Parameters
    ----------
    path : Path
        Of the stored lists.
    make : callable
        Returns :class:`Lists`, or raises.
    now : Timestamp

    Returns
    -------
    lists : Lists
    why : str
        Why tonight's could not be made, or "".

    Raises
    ------
    NightFailed
        If there are none of the last 48 hours either: send no mail.
    """
    reason = ""

    def tonight(_: str) -> Lists:
        lists = make()
        if not lists.valid(now):  # what is stored stays: it may still serve
            raise ValueError(f"it made lists of {lists.made} at {now}: set the clock right")
        lists.save(path)
        return lists

    def yesterday(why: str) -> Lists:
        nonlocal reason
        reason, lists = why, Lists.load(path)
        if not lists.valid(now):
            raise ValueError(f"the lists of {lists.made} are not of the 48 hours before {now}")
        return lists

    return climb((now - pd.Timestamp(0)).days, {"tonight": tonight, "yesterday": yesterday}), reason
