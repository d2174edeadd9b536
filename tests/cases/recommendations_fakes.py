"""A small shop and a recommender of few lines, to attack the system without training a model."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.recommendations.emails import Lists, night
from casebook.cases.recommendations.service import Goods
from casebook.cases.recommendations.store import feed, filled
from casebook.cases.recommendations.world import World, simulate
from casebook.features.store import Online
from casebook.serving import parts

NOW = pd.Timestamp("2026-04-10 20:15:07")
DAY = 39


@cache
def world() -> World:
    return simulate(5, users=600, items=300)


@cache
def messages() -> pd.DataFrame:
    return feed(world().events, world().shown, world().items, world().stock)


class Fake:
    """Items near the page by number, what was seen of late last; two products of matrices."""

    def __init__(self, items: int, trained: pd.Timestamp, tilt: float = 0.0, slow: float = 0.0):
        rng = np.random.default_rng(0)
        self.items, self.trained, self.slow = items, trained, slow
        self.users, self.vectors = rng.normal(size=(1_000, 8)), rng.normal(size=(items, 8))
        self.tilt = tilt

    def recommend(self, users, seeds, surface, stock, count=10, recent=None, stage=nullcontext):
        time.sleep(self.slow)
        with stage("candidates"):
            query = self.users[users] + np.where(seeds[:, None] >= 0, self.vectors[seeds], 0)
        with stage("ranking"):
            scores = query @ self.vectors.T + self.tilt * np.arange(self.items) / self.items
        with stage("rules"):
            scores = np.where(stock, scores, -np.inf)
            scores[np.arange(len(users)), seeds] = np.where(seeds >= 0, -np.inf, scores[:, -1])
            for row, seen in enumerate([] if recent is None else recent):
                scores[row, seen[seen >= 0]] -= 100.0
            order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        found = np.take_along_axis(scores, order, axis=1)
        return np.where(np.isfinite(found), order, -1), np.where(np.isfinite(found), found, 0.0)


def fake(tilt: float = 0.0, hours: float = 20.0, slow: float = 0.0) -> Fake:
    return Fake(len(world().items), NOW - pd.Timedelta(hours=hours), tilt, slow)


def goods() -> Goods:
    category = world().items["category"].astype(str).to_numpy()
    return Goods(category, np.arange(len(category))[::-1].copy())


def yesterdays(hours: float = 20.0) -> Lists:
    sizes = {"mail": 300, "similar": 300, "also": 300}
    return night(fake(), sizes, world().stock[DAY - 1], NOW - pd.Timedelta(hours=hours))


def folder_of(path: Path, treatment: bool = False) -> Path:
    """Write all that a service in a process of its own needs."""
    parts.save(path, {"model": fake(), "goods": goods()})
    if treatment:
        parts.save(path, {"treatment": fake(1.0)})
    yesterdays().save(path / "lists")
    filled(messages(), NOW, path / "features.db").close()
    return path


def store_of(path: Path | str = ":memory:") -> Online:
    return filled(messages(), NOW, path)
