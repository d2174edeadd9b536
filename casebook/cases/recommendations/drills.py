"""The system measured: latency by stage and load, a swap under load, the night on workers, kills.

Each drill returns a table; those that time are recorded with their machine by ``make bench``.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.recommendations.emails import night
from casebook.cases.recommendations.nights import cleaned, midnight
from casebook.cases.recommendations.rankers import Nights
from casebook.cases.recommendations.service import Goods
from casebook.cases.recommendations.shipped import Shipped, bestsellers, ship
from casebook.cases.recommendations.store import feed, filled
from casebook.cases.recommendations.world import World, simulate
from casebook.evaluate.killing import kills as stopped
from casebook.serving import parts
from casebook.serving.load import Server
from casebook.serving.replies import ask, phases, told_stages
from casebook.serving.shelf import Shelf

FACTORY = "casebook.cases.recommendations.service:app_from"
#: Of the world's clock when a service starts: a Friday evening of the test week.
DAY, HOUR, DAYS = 39, pd.Timedelta(hours=20), pd.Timedelta(days=1)


def prepare(folder: Path, world: World, day: int = DAY, rows: int = 512) -> Shipped:
    """Write all that a service needs to a folder, as of an evening.

    Parameters
    ----------
    folder : Path
    world : World
    day : int
    rows : int
        Users and items that the stored lists cover: a drill needs no more.
    """
    shipped, stock = ship(Nights(cleaned(world)), day), world.stock
    category = world.items["category"].astype(str).to_numpy()
    added = world.items["added"].to_numpy()
    new = (added > 0) & (added <= day) & (day - added <= 7)
    brand = world.items["brand"].cat.codes.to_numpy()
    goods = Goods(category, bestsellers(shipped), brand, new)
    parts.save(folder, {"goods": goods})
    Shelf(folder).put(shipped)
    sizes = {"mail": rows, "similar": rows, "also": rows}
    most = {"mail": len(world.users), "similar": len(category), "also": len(category)}
    sizes = {name: min(n, most[name]) for name, n in sizes.items()}
    night(shipped, sizes, stock[day - 1], midnight(day)).save(folder / "lists")
    messages = feed(world.events, world.shown, world.items, stock)
    filled(messages, midnight(day) + HOUR, folder / "features.db").close()
    return shipped


def queries(world: World, n: int, day: int = DAY, seed: int = 0) -> list[dict[str, object]]:
    """Return requests as they came on the day: users, pages and surfaces of the log."""
    asked = world.played[day].asked
    rows = np.random.default_rng(seed).choice(len(asked), n)
    made = []
    for user, page, surface in zip(
        asked.user[rows], asked.seed_item[rows], asked.surface[rows], strict=True
    ):
        sent = {"user_id": int(user), "type": ("similar", "also", "mail")[surface]}
        made.append(sent | ({"item_id": int(page)} if page >= 0 else {}))
    return made


def arguments(folder: Path, day: int = DAY, **more: object) -> dict[str, object]:
    """Return the arguments of :func:`.service.app_from` for a drill."""
    return {"folder": str(folder), "now": str(midnight(day) + HOUR), **more}


def latency(
    world: World | None = None, rates: Sequence[float] = (10, 20, 40, 80), n: int = 1_000
) -> pd.DataFrame:
    """Ask at fixed rates from another process than the service's.

    Returns
    -------
    DataFrame
        ``rps``, ``stage``, ``p50``, ``p95``, ``p99``, ``mean`` (ms), ``failed``, ``fallbacks``.
    """
    world, tables = world or simulate(), []
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), world)
        for rate in rates:
            with Server(FACTORY, arguments(Path(name)), patience=120) as server:
                got = ask(f"{server.url}/recommendations", queries(world, n + 50), rate)
            fell = sum(body["source"] != "model" for body in got.answers(50))
            table = told_stages(got).reset_index()
            tables.append(table.assign(rps=rate, failed=got.failed, fallbacks=fell))
    return pd.concat(tables, ignore_index=True)


def swap(world: World | None = None, rate: float = 20, n: int = 600) -> pd.DataFrame:
    """Let a new model and then a bad one be offered while requests come.

    Returns
    -------
    DataFrame
        ``during`` (before, build, after), ``requests``, ``failed``, ``fallbacks``, ``p50``,
        ``p99`` (ms, as a client sees it), ``versions``, and of the two offers ``swapped`` and
        ``seconds``.
    """
    import httpx

    world, offers, spans = world or simulate(), [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shipped = prepare(folder, world)
        asked_for, bad = queries(world, n), replace(shipped, trained=shipped.trained - 9 * DAYS)
        # Written before: who writes a model has no time to send requests when they are due.
        offered = [folder / "good", folder / "bad"]
        for path, model in zip(offered, (shipped, bad), strict=True):
            Shelf(path).offer(model)
        del world, shipped, bad
        with Server(FACTORY, arguments(folder), patience=120) as server:

            def offer() -> None:
                for path in offered:
                    os.replace(path / "model.offered", folder / "model.offered")
                    start = time.perf_counter() - begin
                    told = httpx.post(f"{server.url}/refresh", trust_env=False, timeout=120).json()
                    spans.append((start, time.perf_counter() - begin))
                    offers.append(told)

            worker = threading.Thread(target=offer)

            def passed(i: int) -> None:
                if i == n // 4:
                    worker.start()

            ask(f"{server.url}/recommendations", asked_for[:50], rate)  # the first are slow
            begin = time.perf_counter()
            got = ask(f"{server.url}/recommendations", asked_for, rate, passed=passed)
            worker.join()
    table = phases(got, rate, spans, {"versions": "model"})
    table["swapped"] = ", ".join(str(told["swapped"]) for told in offers)
    return table.assign(seconds=max(told["seconds"] for told in offers))


def mail(
    world: World | None = None, workers: Sequence[int] = (1, 2), n: int = 4_096
) -> pd.DataFrame:
    """Make the mail of n users in this process and on worker processes.

    Returns
    -------
    DataFrame
        ``workers`` (0: without Dask), ``lists``, ``seconds`` (by the clock), ``a_second``,
        ``equal`` (to those of one process, to the last bit).
    """
    from casebook.features.cluster import local_cluster

    world = world or simulate()
    shipped, stock = ship(Nights(cleaned(world)), DAY), world.stock[DAY]
    sizes, rows, digest = {"mail": min(n, len(world.users))}, [], ""
    for count in (0, *workers):
        if count:
            with local_cluster(count, processes=True) as client:
                night(shipped, {"mail": 256}, stock, midnight(DAY), client)  # wakes the workers
                start = time.perf_counter()
                made = night(shipped, sizes, stock, midnight(DAY), client)
                seconds = time.perf_counter() - start
        else:
            start = time.perf_counter()
            made = night(shipped, sizes, stock, midnight(DAY))
            seconds, digest = time.perf_counter() - start, made.digest()
        total = sizes["mail"]
        rows.append((count, total, seconds, total / seconds, made.digest() == digest))
    return pd.DataFrame(rows, columns=["workers", "lists", "seconds", "a_second", "equal"])


def daily_revenue(world: World, days: Sequence[int]) -> np.ndarray:
    """Return what each user spent on items of the lists, shape (users, days), in euro."""
    price, made = world.items["price"].to_numpy(), np.zeros((world.shop.users, len(days)))
    for column, day in enumerate(days):
        played = world.played[day]
        paid = (played.bought * price[np.maximum(played.lists, 0)]).sum(axis=1)
        np.add.at(made[:, column], played.asked.user, paid)
    return made


def kills(
    world: World | None = None,
    losses: Sequence[float] = (0.0, 0.02, 0.1, 0.2, 0.4),
    runs: int = 1_000,
) -> pd.DataFrame:
    """Split the shop's own revenue at random, with a planted loss or none.

    As of :func:`casebook.evaluate.killing.kills`.
    """
    world = world or simulate()
    days = range(world.split.train_until, world.shop.days)
    return stopped(daily_revenue(world, days), losses, runs)
