"""A small shop and a recommender of few lines, to attack the system without training a model."""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.recommendations.emails import Lists, night
from casebook.cases.recommendations.service import Goods
from casebook.cases.recommendations.store import FEATURES, feed, filled
from casebook.cases.recommendations.world import World, simulate
from casebook.features.store import Online
from casebook.serving import parts
from casebook.serving.shelf import Shelf

NOW = pd.Timestamp("2026-04-10 20:15:07")
DAY = 39


@cache
def world() -> World:
    return simulate(5, users=600, items=300)


@cache
def messages() -> pd.DataFrame:
    return feed(world().events, world().shown, world().items, world().stock)


def _crash(items, scores):
    raise RuntimeError("planted")


#: Fault → what becomes of the items and scores of a :class:`Fake`.
FAULTS = {
    "crash": _crash,
    "hang": lambda items, scores: (time.sleep(3.0), (items, scores))[1],
    "slow": lambda items, scores: (time.sleep(0.2), (items, scores))[1],
    "twice": lambda items, scores: (np.full_like(items, 5), scores),
    "floats": lambda items, scores: (items.astype(float), scores),
    "nans": lambda items, scores: (np.where(items > 0, items, np.nan), scores),
    "flat": lambda items, scores: (items[0, :1], scores[0, :1]),
    "no scores": lambda items, scores: (items, scores * np.nan),
    "short": lambda items, scores: (items[:, :4], scores[:, :4]),
    "wide": lambda items, scores: (items.astype(np.int64) + 2**32, scores),
    "sold out": lambda items, scores: (
        np.where(np.arange(items.shape[1]) == 4, np.flatnonzero(~world().stock[DAY])[0], items),
        scores,
    ),
}


class Fake:
    """Items near the page by number, what was seen of late last; two products of matrices."""

    def __init__(self, items: int, trained: pd.Timestamp, tilt: float = 0.0, fault: str = ""):
        rng = np.random.default_rng(0)
        self.items, self.trained, self.tilt, self.fault = items, trained, tilt, fault
        self.users, self.vectors = rng.normal(size=(1_000, 8)), rng.normal(size=(items, 8))

    def recommend(self, users, seeds, surface, stock, count=10, recent=None, stage=nullcontext):
        if self.fault == "users" and max(users) >= 0:
            raise IndexError("planted")
        if self.fault == f"no {surface}":
            raise RuntimeError("planted")
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
        made = np.where(np.isfinite(found), order, -1), np.where(np.isfinite(found), found, 0.0)
        return FAULTS.get(self.fault, lambda *given: given)(*made)


def fake(tilt: float = 0.0, hours: float = 20.0, fault: str = "") -> Fake:
    return Fake(len(world().items), NOW - pd.Timedelta(hours=hours), tilt, fault)


def goods() -> Goods:
    category = world().items["category"].astype(str).to_numpy()
    return Goods(category, np.arange(len(category))[::-1].copy())


@cache
def _store() -> bytes:
    """Return the file of a store as it stands at ``NOW``, made once."""
    with tempfile.TemporaryDirectory() as name:
        filled(messages(), NOW, Path(name) / "features.db").close()
        return (Path(name) / "features.db").read_bytes()


@cache
def _yesterdays() -> Lists:
    return night(fake(), {"mail": 300, "similar": 300, "also": 300}, world().stock[DAY - 1], NOW)


def yesterdays(hours: float = 20.0) -> Lists:
    return replace(_yesterdays(), made=NOW - pd.Timedelta(hours=hours))


def store_of(path: Path) -> Online:
    path.write_bytes(_store())
    return Online(FEATURES, path)


def folder_of(path: Path) -> Path:
    """Write all that a service in a process of its own needs."""
    parts.save(path, {"goods": goods()})
    Shelf(path).put(fake())
    yesterdays().save(path / "lists")
    store_of(path / "features.db").close()
    return path
