"""What is shipped: the parts of a fit and the night they answer from, as page and mail ask them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import SURFACES
from casebook.cases.recommendations.nights import Known, midnight
from casebook.cases.recommendations.rankers import Nights
from casebook.cases.recommendations.recommend import Parts, fitted, recommend


@dataclass(frozen=True)
class Shipped:
    """A recommender that answers by :func:`~.recommend.recommend`.

    Attributes
    ----------
    parts : Parts
    night : Known
    trained : Timestamp
        Until when it knows the shop.
    """

    parts: Parts
    night: Known
    trained: pd.Timestamp

    @property
    def items(self) -> int:
        """Items that it knows, by number from 0."""
        return len(self.night.popular)

    def recommend(
        self,
        users: np.ndarray,
        seeds: np.ndarray,
        surface: str,
        stock: np.ndarray,
        count: int = 10,
        recent: np.ndarray | None = None,
        stage: Callable[[str], AbstractContextManager] = nullcontext,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return items and scores, shape (n, count); who joined since the night is nobody yet."""
        users = np.where(np.asarray(users) < len(self.night.heard) - 1, users, -1)
        surfaces = np.full(len(users), SURFACES.index(surface))
        given = users, np.asarray(seeds), surfaces, stock
        made = recommend(self.parts, self.night, *given, recent, count, stage)
        return made.items, made.scores


def ship(nights: Nights, day: int, **more: object) -> Shipped:
    """Return what is shipped on the midnight before a day; ``more`` as of :func:`.fitted`."""
    return Shipped(fitted(nights, day, **more), nights.known(day), midnight(day))


def bestsellers(shipped: Shipped) -> np.ndarray:
    """Return all items, the most asked for of the last week first."""
    return np.argsort(-shipped.night.popular, kind="stable")
