"""Lists over HTTP: ``GET /recommendations?user_id=7&item_id=31&type=similar&count=10``.

The model answers within a budget; else yesterday's lists do, else the bestsellers, each with the
stock of this moment. ``POST /events`` feeds the store, ``POST /refresh`` lets an offered model
serve if it passes the checks, ``POST /back`` returns to the one before, ``POST /stop`` ends the
experiment, ``GET /health`` names what is wrong. It runs behind a gateway, which knows who the user
is.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response

from casebook.cases.recommendations.emails import LONG, Lists, Recommends
from casebook.cases.recommendations.monitor import (
    PATIENCE,
    STALE,
    before_it_serves,
    fitting,
)
from casebook.cases.recommendations.requests import (
    VALUES,
    Asked,
    Goods,
    asked,
    event_of,
    placed,
    shown,
)
from casebook.cases.recommendations.store import FEATURES, stock_now
from casebook.evaluate.assign import CONTROL
from casebook.features.intake import Intake, Unavailable
from casebook.features.store import Online, opened
from casebook.serving import parts
from casebook.serving.app import (
    Problem,
    bare_app,
    json_list,
    one_by_one,
    reply,
    serve_calls,
)
from casebook.serving.arms import Arms, Plan
from casebook.serving.behind import Behind
from casebook.serving.checks import freshness, sources
from casebook.serving.eventlog import Log
from casebook.serving.lists import filled
from casebook.serving.shelf import Busy
from casebook.serving.stages import Stages
from casebook.serving.steady import Steady
from casebook.serving.timed import Timed
from casebook.serving.turns import Turns
from casebook.serving.watched import Watched
from casebook.serving.within import within

MOST_BYTES, MOST_EVENTS = 200_000, 500
#: Milliseconds for the model, and seconds for which an anonymous list is kept.
BUDGET_MS, KEPT = 80.0, 300.0
#: Threads that only make lists, and that only say how the service is; pages of a day that a list
#: looks back at, items of a brand.
THREADS, HEALTH, PAGES, CAP = 40, 2, 5, 3
COLUMNS = ["event", "at", "kind", "item", "user", *VALUES]


class Service:
    """Lists, their fall-backs, and the log of what was shown.

    Parameters
    ----------
    models : mapping of str to Recommends
        By arm; ``control`` at least, None while there is none. Each has ``trained`` (Timestamp),
        ``items`` (how many it knows) if those are not all, and may give each item's chance to stand
        where it does beside the scores.
    online : Online
        The feature store; it should know the stock.
    goods : Goods
    yesterday : Lists or None
    log : Log
        Of what was shown.
    clock : callable
        Now, in UTC without a zone.
    folder : Path, optional
        Where models are offered (:class:`~casebook.serving.shelf.Shelf`), a night leaves ``lists``,
        and ``stopped`` says why the experiment was ended, also after a restart.
    budget_ms : float
        For the store and the model together.
    plan : Plan
    faults : sequence of str
        What was wrong at the start: alarms.
    patience : float
        Seconds for a model that is tried or warmed.
    newcomers : float
        Share of the lists whose last place goes to a new item by chance (:func:`.placed`).
    """

    def __init__(
        self,
        models: Mapping[str, Recommends],
        online: Online,
        goods: Goods,
        yesterday: Lists | None,
        log: Log,
        clock: Callable[[], pd.Timestamp],
        folder: Path | None = None,
        budget_ms: float = BUDGET_MS,
        plan: Plan = Plan(),  # noqa: B008  an immutable default
        faults: Sequence[str] = (),
        patience: float = PATIENCE,
        newcomers: float = 0.0,
    ) -> None:
        self.online, self.yesterday, self.clock = online, yesterday, clock
        self.items, self.goods, self.log = len(goods.category), goods.whole(), log
        self.folder, self.faults, self.unread = folder, [*faults], ""
        self.unloaded, self.cold = {"goods": "", "lists": ""}, dict[str, tuple[int, str]]()
        self.intake = Intake(online, self._frame, clock)
        # What last night's lists show was in stock then: it is, where the store knows nothing.
        kept = [] if yesterday is None else [*yesterday.items.values()]
        self.stock = np.isin(np.arange(self.items), np.concatenate([*map(np.ravel, kept), [-1]]))
        self._read_stock()
        self.patience = patience
        good = before_it_serves(lambda: self.stock, clock, seconds=patience)
        limits = {"failures": 10, "window": 50, "cool_off": 1.0, "threads": 64}
        self.arms = Arms(models, good, plan, folder, budget_ms=budget_ms, **limits)
        self.cache, self.shown, self.turns = Timed(KEPT), Behind(log), Turns(budget_ms / 2_000)
        self.sources: deque[str] = deque(maxlen=1_000)
        self.newcomers, self.random = newcomers, np.random.default_rng()

    def warm(self, pages: int = 30) -> None:
        """Let the models answer before anybody waits: first answers are slow.

        One that fails or hangs stops no start: what answers instead is ready.
        """

        def answers(model: Recommends) -> None:
            there = fitting(model, self.stock)
            for page in np.flatnonzero(there)[:pages]:
                model.recommend(np.array([-1]), np.array([page]), "similar", there)

        for arm, swap in self.arms.swaps.items():
            version = swap.current
            if version.value is None:
                continue
            try:
                within(self.patience, answers, version.value)
            except Exception as error:
                why = f"{arm}: the model does not answer: {type(error).__name__}: {error}"[:200]
                self.cold[arm] = version.number, why

    # Lists --------------------------------------------------------------------------------

    def recommend(self, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Return a list, who made it (``source``), why not the model, and the stages' times.

        Raises
        ------
        Problem
            As :func:`asked`.
        """
        stages, ask = Stages(), asked(query, self.items)
        stages.end("check")
        who = None if ask.user < 0 else ask.user
        arm, experiment = self.arms.of(who), self.arms.plan.name if self.arms.runs(who) else ""
        stages.end("arm")
        version, stock = self.arms.swaps[arm].current, self.stock  # once: to the end of this answer
        kept = None
        if ask.user < 0:
            kept = self.cache.get((ask.item, ask.type), version.number)
        if kept is not None and sum(stock[i] for i, *_ in kept) >= ask.count:
            found, source, why = kept, "cache", ""
        else:
            found, source, why = self._computed(ask, version.value, stock, arm, stages)
            drawn = any(chance is not None for *_, chance in found)  # each time anew
            if ask.user < 0 and source == "model" and not drawn:
                self.cache.put((ask.item, ask.type), version.number, found)
        scores = {i: s for i, s, _ in found if stock[i] and i != ask.item}
        chances = {i: chance for i, _, chance in found}
        items = self._filled([*scores], source, ask, stock)
        if source in ("model", "cache") and self.random.random() < self.newcomers:
            items, chance = placed(items, self.goods, stock, ask.item, CAP, self.random)
            if chance is not None:
                chances[items[-1]] = self.newcomers * chance
        stages.end("choose")
        self.sources.append(source)
        told = {"list": uuid.uuid4().hex, "items": items, "type": ask.type}
        told |= {"source": source, "why": why, "model": version.number}
        told |= {"experiment": experiment, "arm": arm}
        self._log(told, ask, version.value, [chances.get(i) for i in items])
        stages.end("log")
        return told | {"scores": [scores.get(i, 0.0) for i in items], "ms": stages.ms()}

    def _log(
        self, told: dict[str, Any], ask: Asked, model: Recommends | None, chances: Sequence
    ) -> None:
        """Log what is shown, and by which model: its number begins anew with each process."""
        now = self.clock()
        known = {"user": ask.user, "item": ask.item, "at": str(now), "chance": chances}
        known |= {"trained": str(getattr(model, "trained", ""))}
        known |= {"digest": self.arms.digest(told["arm"], model)}
        self.shown.put(str(ask.user), json.dumps(told | known))
        if ask.user >= 0 and ask.item >= 0:
            nan = float("nan")
            self.intake.later((told["list"], now, "page", ask.item, ask.user, nan, nan))

    def _computed(
        self, ask: Asked, model: Recommends | None, stock: np.ndarray, arm: str, stages: Stages
    ) -> tuple[list[tuple[int, float, float | None]], str, str]:
        inner, there = stages.inner(), fitting(model, stock)

        def of(question: Asked) -> tuple[np.ndarray, np.ndarray]:
            with self.turns:
                inner.end("turn")
                return made(question)

        def made(question: Asked) -> tuple[np.ndarray, np.ndarray]:
            recent = np.full((1, PAGES), -1)
            seen = [item for item in self._recent(question.user) if item < len(there)]
            recent[0, : len(seen)] = seen
            inner.end("store")
            page = question.item if question.item < len(there) else -1  # newer than the model
            given = np.array([question.user]), np.array([page]), question.type, there
            count = LONG if question.user < 0 else question.count
            return model.recommend(*given, count=count, recent=recent, stage=inner)

        answer = self.arms.breakers[arm].ask(
            None if model is None else of, ask, lambda lists: shown(lists, stock)
        )
        if not answer.why:
            stages.take(inner)
            stages.end("wait")
            return answer.value, "model", ""
        found, source = [], "bestsellers"
        if self.yesterday is not None and self.yesterday.valid(self.clock()):
            row = ask.user if ask.type == "mail" else ask.item
            found = self.yesterday.take(ask.type, row, stock, LONG)
            source = "yesterday" if found else source
        stages.end("fall-back")
        return [(i, 0.0, None) for i in found], source, answer.why

    def _recent(self, user: int) -> tuple[int, ...]:
        """Return the pages of a user's day; without a store the list knows none."""
        if user < 0:
            return ()
        try:
            read = self.online.read({"user": [user]}, self.intake.now(), ("recent_pages",))
            self.unread = ""
        except Exception as error:  # a locked file, a server out of reach
            self.unread = f"store: {type(error).__name__}: {error}"[:200]
            return ()
        return tuple(item for item in read["recent_pages"][0] if item < self.items)

    def _filled(self, found: list[int], source: str, ask: Asked, stock: np.ndarray) -> list[int]:
        """Return a list of the count asked for; bestsellers fill what is missing, brands capped."""
        best = self.goods.bestsellers
        best = best[best < len(stock)]
        # One by one: most lists need none of them.
        more: Iterable[int] = (int(i) for i in best if stock[i] and i != ask.item)
        if source == "yesterday":  # it was made under the rules of then
            found, more = [], chain(found, more)
        return filled(found, more, ask.count, self.goods.brand, CAP)

    # What changes it ----------------------------------------------------------------------

    def take(self, raw: bytes) -> dict[str, Any]:
        """Take a JSON list of events: ``event``, ``at``, ``kind``, ``item``, ``user``, ``price``.

        A message of the warehouse has the kind ``stock`` and ``stock`` 0 or 1.
        """
        sent, now = json_list(raw, "events", MOST_BYTES, MOST_EVENTS), self.clock()
        good, refused = one_by_one(sent, lambda one: event_of(one, now, self.items))
        try:
            with self.intake.writing():  # else an older reading could come after a newer one
                taken = self.intake.take(good)
                if any(one[2] == "stock" for one in good) and not self._read_stock():
                    raise Unavailable(self.unread)
        except Unavailable as error:
            raise Problem(503, "store", str(error), "Send them again.") from None
        refused += [{"position": -1, "what": why} for why in taken.refused]
        return {"new": taken.new, "again": taken.again, "refused": refused}

    def _read_stock(self) -> bool:
        """Read the stock; an item of which the store does not know is as it was known before."""
        told, self.unread = np.full(self.items, np.nan), ""
        try:
            told = stock_now(self.online, self.items)
        except Exception as error:
            self.unread = f"store: {type(error).__name__}: {error}"[:200]
        silent = np.isnan(told)
        if silent.all() and not self.stock.any():  # nobody knows anything: an alarm, no empty page
            self.stock = silent
        self.stock = np.where(silent, self.stock, told == 1.0)
        self.assumed = int((self.stock & silent).sum()) or int(not self.stock.any())
        return not self.unread

    def beat(self) -> None:
        """Take in the pages that were answered; to be called each second, also of a quiet one."""
        self.intake.beat()
        if self.assumed and not self.intake.trouble:
            with suppress(Unavailable), self.intake.writing():
                self._read_stock()

    def _frame(self, rows: Sequence[tuple]) -> pd.DataFrame:
        frame = pd.DataFrame([*rows], columns=COLUMNS)
        return frame.assign(category=self.goods.category[frame["item"].to_numpy(int)])

    def refresh(self, raw: bytes = b"") -> dict[str, Any]:
        """Let the models that are offered serve, if they pass the checks; load the last night's.

        New goods come first: a model that knows them is offered after them.
        """
        if self.folder is None:
            raise Problem(404, "no folder", "No model is loaded from here.", "Restart it.")
        self.unloaded = {"goods": self._new_goods(), "lists": self._new_lists()}
        try:
            return self.arms.refresh() | {"unloaded": self.unloaded}
        except Busy as busy:
            raise Problem(409, "busy", str(busy), "Wait for its end.") from None

    def _new_lists(self) -> str:
        """Load the last night's lists; if they are worse than those that serve, say why."""
        try:
            new, now = Lists.load(self.folder / "lists"), self.clock()
        except ValueError as error:
            return str(error)
        if not new.valid(now):
            return f"the lists of {new.made} are not of the 48 hours before {now}: run the night"
        old = self.yesterday
        if old is not None and old.valid(now) and new.made < old.made:
            return f"the lists of {new.made} are older than those of {old.made}, which serve"
        self.yesterday = new
        return ""

    def _new_goods(self) -> str:
        """Load the goods, of which there may be more; say why, if they cannot be."""
        found, missing = parts.load(self.folder, {"goods": Goods})
        if missing:
            return missing[0]
        goods = found["goods"].whole()
        more = len(goods.category) - self.items
        if more < 0:
            return f"goods: {-more} items fewer than before: an item keeps its number for good"
        try:
            with self.intake.writing():  # requests go on: who knows the new number knows the rest
                self.goods, self.stock = goods, np.append(self.stock, np.zeros(more, bool))
                self.items += more
                _ = more and self._read_stock()
        except Unavailable as error:
            return f"goods: {error}"
        return ""

    def back(self, raw: bytes = b"") -> dict[str, Any]:
        """Let the model before serve again."""
        try:
            return {"version": self.arms.back().number}
        except LookupError as none:
            raise Problem(409, "no way back", str(none), "Refresh.") from None
        except Busy as busy:
            raise Problem(409, "busy", str(busy), "Wait for its end.") from None

    def stop(self, raw: bytes = b"") -> dict[str, Any]:
        """End the experiment: everybody gets the control's lists from the next request on."""
        self.arms.stop(raw.decode(errors="replace")[:200].strip())
        return {"stopped": self.arms.stopped}

    def alarms(self) -> list[str]:
        """Return what is wrong, a sentence each."""
        now, counts = self.clock(), Counter(self.sources)
        counts["model"] += counts.pop("cache", 0)
        rows, told = [*self.arms.ages(now, STALE), sources(counts)], [*self.faults]
        told += [*getattr(self.log, "faults", []), *filter(None, self.unloaded.values())]
        current = {arm: swap.current.number for arm, swap in self.arms.swaps.items()}
        told += [why for arm, (number, why) in self.cold.items() if current[arm] == number]
        try:
            rows += freshness(self.online.freshness(now))
        except Exception as error:  # without its store the service still says what is wrong
            told.append(f"store cannot be read: {type(error).__name__}: {error}"[:200])
        told += [f"{row.name}: {row.what}" for row in rows if row.alarm]
        if self.yesterday is None or not self.yesterday.valid(now):
            told.append("yesterday's lists: none of the last 48 hours, run the night")
        if self.assumed:
            told.append("stock: the store does not know it, let the warehouse send all of it")
        if self.intake.lost:
            told.append(f"pages: {self.intake.lost} were not stored")
        if self.shown.lost or self.shown.trouble:
            what = self.shown.trouble or "written now"
            told.append(f"log: {self.shown.lost} lists lost, {what}")
        wrongs = self.intake.trouble, self.unread, getattr(self.clock, "trouble", "")
        return [*told, *dict.fromkeys(one for one in wrongs if one)]

    def health(self) -> dict[str, Any]:
        """Return what is wrong (``alarms``), and how the parts are."""
        arms = {}
        for arm, swap in self.arms.swaps.items():
            version, last = swap.current, [*swap.outcomes][-1:]
            arms[arm] = {"version": version.number, "swap": last[0]._asdict() if last else None}
            arms[arm] |= {"digest": self.arms.digest(arm, version.value)}
            arms[arm] |= {"model": self.arms.breakers[arm].snapshot()}
        state = {"alarms": self.alarms(), "sources": dict(Counter(self.sources)), "arms": arms}
        state |= arms[CONTROL] | {"waiting": self.intake.waiting}
        return state | {"stopped": self.arms.stopped, "cache": [self.cache.hits, self.cache.asked]}

    def close(self) -> None:
        """Write what waits, pages too, and end the threads; again it does nothing."""
        self.intake.beat()
        self.shown.close()
        self.arms.close()


def create_app(service: Service) -> FastAPI:
    """Return the service over HTTP; ``service`` stands at ``app.state.service``.

    When the server stops, what waits is written.
    """
    app = bare_app("Recommendations")
    app.state.service = service
    # Events that wait for the store keep no list waiting, and neither keeps an operator.
    own, few = CapacityLimiter(THREADS), CapacityLimiter(HEALTH)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(service.close)

    app.router.lifespan_context = lifespan

    @app.get("/recommendations")
    async def recommendations(request: Request) -> Response:
        query = request.query_params.multi_items()
        return reply(await to_thread.run_sync(service.recommend, query, limiter=own))

    @app.get("/health")
    async def health() -> Response:
        return reply(await to_thread.run_sync(service.health, limiter=few))

    posts = {"/events": service.take, "/refresh": service.refresh, "/back": service.back}
    serve_calls(app, posts | {"/stop": service.stop}, {}, MOST_BYTES)
    return app


def app_from(
    folder: str, now: str = "", budget_ms: float = BUDGET_MS, newcomers: float = 0.0
) -> FastAPI:
    """Return the service on a folder of its own.

    It holds the model that serves, the treatment's while an experiment runs, ``goods.pickle``,
    ``lists``, ``features.db`` and ``shown.db``; ``stopped`` ends the experiment until somebody
    takes it away. ``now`` is where the clock of a world that is played again begins.
    """
    path, begin, yesterday = Path(folder), time.monotonic(), None
    start = pd.Timestamp(now) if now else None

    def played() -> pd.Timestamp:
        return start + pd.Timedelta(seconds=time.monotonic() - begin)

    clock = Steady() if start is None else Steady(played)
    with suppress(ValueError):
        yesterday = Lists.load(path / "lists")
    models, faults = Arms.load(path)
    found, missing = parts.load(path, {"goods": Goods})
    if missing:
        raise ValueError(missing[0])
    online, fault = opened(FEATURES, path / "features.db")
    with suppress(Exception):  # without its store it starts as well
        if (ahead := online.set_back(clock())) > 60:
            fault = f"store: it was told of times {ahead:,.0f} s ahead of the clock, and set back"
    log, faults = Watched(path / "shown.db"), [*faults, *([fault] if fault else [])]
    given = models, online, found["goods"], yesterday, log, clock, path, budget_ms
    service = Service(*given, faults=faults, newcomers=newcomers)
    service.warm()

    def beats() -> None:
        while True:
            service.beat()
            time.sleep(1)

    threading.Thread(target=beats, daemon=True).start()
    return create_app(service)
