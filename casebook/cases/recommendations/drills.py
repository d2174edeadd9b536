"""The system measured: latency by stage and load, a swap under load, the night on workers, kills.

Each drill returns a table; those that time are recorded with their machine by ``make bench``.
"""

from __future__ import annotations

import json
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
from casebook.evaluate.killing import kill_day
from casebook.evaluate.sequential import daily_paths
from casebook.serving import parts
from casebook.serving.load import Server
from casebook.serving.replies import Replies, ask, summed
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
    goods = Goods(category, bestsellers(shipped), world.items["brand"].cat.codes.to_numpy())
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


def stages(got: Replies, warm_up: int = 50) -> pd.DataFrame:
    """Return percentiles of the service's stages, their sum, the whole, and as a client sees it."""
    bodies = [json.loads(body) for body in got.bodies[warm_up:]]
    table = summed(pd.DataFrame([body["ms"] for body in bodies]).fillna(0.0))
    client = np.percentile(got.ms[warm_up:], [50, 95, 99])
    table.loc["client"] = [*client, got.ms[warm_up:].mean()]
    return table


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
            fell = sum(json.loads(body)["source"] != "model" for body in got.bodies[50:])
            table = stages(got).reset_index()
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
                    spans.append(time.perf_counter() - begin)
                    told = httpx.post(f"{server.url}/refresh", trust_env=False, timeout=120).json()
                    spans.append(time.perf_counter() - begin)
                    offers.append(told)

            worker = threading.Thread(target=offer)

            def passed(i: int) -> None:
                if i == n // 4:
                    worker.start()

            ask(f"{server.url}/recommendations", asked_for[:50], rate)  # the first are slow
            begin = time.perf_counter()
            got = ask(f"{server.url}/recommendations", asked_for, rate, passed=passed)
            worker.join()
    return _phases(got, np.arange(n) / rate, spans, offers)


def _phases(
    got: Replies, due: np.ndarray, spans: Sequence[float], offers: Sequence[dict]
) -> pd.DataFrame:
    """Return replies before, while and after models were built and checked."""
    build = np.zeros(len(due), bool)
    for begin, end in zip(spans[::2], spans[1::2], strict=True):
        build |= (due >= begin - 0.1) & (due <= end)
    phases = {"before": due < spans[0] - 0.1, "build": build}
    phases["after"] = ~phases["before"] & ~build
    rows = []
    for phase, where in phases.items():
        some = np.flatnonzero(where)
        bodies = [json.loads(got.bodies[i]) for i in some if got.status[i] == 200]
        ms = np.percentile(got.ms[some], [50, 99]) if len(some) else (np.nan, np.nan)
        fell = sum(body["source"] != "model" for body in bodies)
        versions = ", ".join(str(v) for v in sorted({body["model"] for body in bodies}))
        rows.append((phase, len(some), int((got.status[some] != 200).sum()), fell, *ms, versions))
    columns = ["during", "requests", "failed", "fallbacks", "p50", "p99", "versions"]
    table = pd.DataFrame(rows, columns=columns)
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
    """Split the shop's own revenue at random and look at it daily, with a planted loss or none.

    Returns
    -------
    DataFrame
        ``loss``, ``rule``, ``stopped`` (share of the tests), ``day`` (mean day of the stop) and
        ``se`` (of the relative effect at the end).
    """
    world, rows = world or simulate(), []
    revenue = daily_revenue(world, range(world.split.train_until, world.shop.days))
    for loss in losses:
        paths = daily_paths(revenue, np.zeros(len(revenue)), runs, lift=-loss)
        for rule in ("estimate", "harm", "beyond"):
            at = kill_day(paths, rule)
            day = at[at >= 0].mean() + 1 if (at >= 0).any() else np.nan
            rows.append((loss, rule, (at >= 0).mean(), day, paths.se[:, -1].mean()))
    return pd.DataFrame(rows, columns=["loss", "rule", "stopped", "day", "se"])
