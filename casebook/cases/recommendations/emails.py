"""The night's lists: twenty items for each user's mail and for each page, on one machine or many.

When a night fails, :func:`casebook.serving.lists.run_night` goes on with yesterday's, for 48 hours;
a list is checked against the stock once more when it is sent or shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from casebook.serving.lists import Lists, in_blocks, wrong

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
    held: tuple[Recommends, np.ndarray], surface: str, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    model, stock = held
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
        Its workers share the blocks, to the same last bit.

    Raises
    ------
    ValueError
        If a list cannot be: an item that is sold out or stands twice, or a score that is none.
    """
    found = in_blocks(_block, (model, stock), sizes, client)
    for surface, (items, scores) in found.items():
        if why := wrong(items, scores, stock, sizes[surface]):
            raise ValueError(f"the {surface} lists cannot be sent: {why}")
    items = {surface: items.astype(np.int32) for surface, (items, _) in found.items()}
    return Lists(made, items, {surface: scores for surface, (_, scores) in found.items()})
