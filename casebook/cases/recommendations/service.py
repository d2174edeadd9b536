"""Lists over HTTP: ``GET /recommendations?user_id=7&item_id=31&type=similar&count=10``.

The model answers within a budget; else yesterday's lists do, else the bestsellers, each with the
stock of this moment. ``POST /events`` feeds the store, ``POST /refresh`` lets a new model serve if
it passes the checks, ``POST /back`` returns to the one before, ``POST /stop`` ends the experiment,
``GET /health`` names what is wrong. It runs behind a gateway, which knows who the user is.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response

from casebook.cases.recommendations.ab import Plan
from casebook.cases.recommendations.catalogue import SURFACES
from casebook.cases.recommendations.emails import LONG, Lists, Recommends, wrong
from casebook.cases.recommendations.monitor import STALE, before_it_serves
from casebook.cases.recommendations.store import FEATURES, stock_now
from casebook.evaluate.assign import CONTROL
from casebook.features.store import Online, Taken
from casebook.project import write_whole
from casebook.serving import parts
from casebook.serving.app import Problem, bare_app, json_list, one_by_one, reply, serve_calls
from casebook.serving.behind import Behind
from casebook.serving.breaker import Breaker
from casebook.serving.checks import age, freshness, sources
from casebook.serving.eventlog import EventLog, Log
from casebook.serving.swap import Swap
from casebook.serving.timed import Timed

MOST_BYTES, MOST_EVENTS, MOST_COUNT, MOST_ID, MOST_PRICE = 200_000, 500, LONG, 2**31, 1_000_000
#: Milliseconds for the model, and seconds for which an anonymous list is kept.
BUDGET_MS, KEPT = 80.0, 300.0
#: Seconds for which events wait for others that are written, and threads that only make lists.
PATIENCE, THREADS = 2.0, 40
#: Pages of a day that a list looks back at.
PAGES = 5
NAMES = ("user_id", "item_id", "type", "count")
KINDS = ("view", "click", "cart", "buy", "stock")
VALUES = ("price", "stock")
COLUMNS = ["event", "at", "kind", "item", "user", *VALUES]


class Goods(NamedTuple):
    """Category of each item, and the numbers of all items, best seller first."""

    category: np.ndarray
    bestsellers: np.ndarray


class Asked(NamedTuple):
    """A request: −1 is nobody, or no page."""

    user: int
    item: int
    type: str
    count: int


def _number(given: Mapping[str, str], name: str, low: int, high: int, default: int) -> int:
    text = given.get(name, str(default))
    if text != str(default) and not (text.isascii() and text.isdigit() and len(text) < 11):
        what = f"{name} is {text[:40]!r}, not a whole number."
        raise Problem(422, name, what, f"Send digits, from {low} to {high:,}.")
    if text != str(default) and not low <= int(text) <= high:
        what = f"{name} is {int(text):,}, not from {low} to {high:,}."
        raise Problem(404 if name == "item_id" else 422, name, what, f"Send another {name}.")
    return int(text)


def asked(query: Sequence[tuple[str, str]], items: int) -> Asked:
    """Return a request from the parameters of its address.

    Raises
    ------
    Problem
        422 with the parameter that is wrong, 404 for an item that the shop does not have.
    """
    given = dict(query)
    if unknown := sorted({*given} - {*NAMES}):
        what = f"{unknown[0][:40]!r} is no parameter."
        raise Problem(422, "unknown parameter", what, f"Send {', '.join(NAMES)}.")
    if len(query) > len(given):
        raise Problem(422, "twice", "A parameter is there twice.", "Send each one once.")
    surface = given.get("type", "similar")
    if surface not in SURFACES:
        what = f"type is {surface[:40]!r}."
        raise Problem(422, "type", what, f"Send one of {', '.join(SURFACES)}.")
    user = _number(given, "user_id", 0, MOST_ID - 1, -1)
    item = _number(given, "item_id", 0, items - 1, -1)
    needed, name = (user, "user_id") if surface == "mail" else (item, "item_id")
    if needed < 0:
        raise Problem(422, name, f"A {surface} list needs {name}.", f"Send {name}.")
    count = _number(given, "count", 1, MOST_COUNT, 10)
    return Asked(user, -1 if surface == "mail" else item, surface, count)


class Service:
    """Lists, their fall-backs, and the log of what was shown.

    Parameters
    ----------
    models : mapping of str to Recommends
        By arm; ``control`` at least. Each has ``trained`` (Timestamp).
    online : Online
        The feature store; it must know the stock.
    goods : Goods
    yesterday : Lists or None
    log : Log
        Of what was shown.
    clock : callable
        Now, in UTC without a zone.
    load : callable, optional
        Returns a new model for the arm ``control``.
    load_lists : callable, optional
        Returns the lists of the last night, or raises a ``ValueError``.
    budget_ms : float
        For the store and the model together.
    plan : Plan
    ended : Path, optional
        File that says why the experiment was ended, also after a restart.
    """

    def __init__(
        self,
        models: Mapping[str, Recommends],
        online: Online,
        goods: Goods,
        yesterday: Lists | None,
        log: Log,
        clock: Callable[[], pd.Timestamp],
        load: Callable[[], Recommends] | None = None,
        budget_ms: float = BUDGET_MS,
        plan: Plan = Plan(),  # noqa: B008  an immutable default
        load_lists: Callable[[], Lists] | None = None,
        ended: Path | None = None,
    ) -> None:
        self.online, self.goods, self.yesterday, self.plan = online, goods, yesterday, plan
        self.items, self.clock, self._load = len(goods.category), clock, load
        self.stock, self._lock = stock_now(online, self.items), threading.RLock()
        self._load_lists, self._ended = load_lists, ended
        self.stopped = ended.read_text() or "stopped" if ended and ended.exists() else ""
        good = before_it_serves(lambda: self.stock)
        self.swaps = {arm: Swap(model, good) for arm, model in models.items()}
        # One for each arm: a treatment that fails takes no list from the control.
        self.breakers = {
            arm: Breaker(budget_ms, failures=10, window=50, cool_off=1.0, threads=64)
            for arm in models
        }
        self.breaker = self.breakers[CONTROL]
        self.cache, self.shown = Timed(KEPT), Behind(log)
        self.sources: deque[str] = deque(maxlen=1_000)
        self._pages: deque[tuple] = deque(maxlen=100_000)
        self.trouble = ""

    def warm(self, pages: int = 30) -> None:
        """Let the model answer some pages before anybody waits: its first answers are slow."""
        nobody = np.array([-1])
        for page in np.flatnonzero(self.stock)[:pages]:
            for swap in self.swaps.values():
                swap.current.value.recommend(nobody, np.array([page]), "similar", self.stock)

    # Lists --------------------------------------------------------------------------------

    def recommend(self, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Return a list, who made it (``source``), why not the model, and the stages' times.

        Raises
        ------
        Problem
            As :func:`asked`.
        """
        begin = time.perf_counter()
        ask, marks = asked(query, self.items), [("check", time.perf_counter())]
        split = ask.user >= 0 and not self.stopped and len(self.swaps) > 1
        arm = self.plan.arm(ask.user) if split else CONTROL
        marks.append(("arm", time.perf_counter()))
        version, stock = self.swaps[arm].current, self.stock  # once: to the end of this answer
        kept = None
        if ask.user < 0:
            kept = self.cache.get((ask.item, ask.type), version.number)
        if kept is not None and sum(stock[i] for i, _ in kept) >= ask.count:
            found, source, why = kept, "cache", ""
        else:
            found, source, why, made = self._computed(ask, version.value, stock, arm)
            marks += made
            if ask.user < 0 and source == "model":
                self.cache.put((ask.item, ask.type), version.number, found)
        there = self._filled(found, ask, stock)
        marks.append(("choose", time.perf_counter()))
        self.sources.append(source)
        told = {"list": uuid.uuid4().hex, "items": [i for i, _ in there], "type": ask.type}
        told |= {"source": source, "why": why, "model": version.number}
        told |= {"experiment": self.plan.name if split else "", "arm": arm}
        known = {"user": ask.user, "item": ask.item, "at": str(self.clock())}
        self.shown.put(str(ask.user), json.dumps(told | known))
        if ask.user >= 0 and ask.item >= 0:
            self._pages.append((told["list"], self.clock(), "page", ask.item, ask.user))
        marks.append(("log", time.perf_counter()))
        ms, before = {}, begin
        for stage, after in marks:
            ms[stage], before = round(1000 * (after - before), 3), after
        return told | {"scores": [s for _, s in there], "ms": ms}

    def _computed(
        self, ask: Asked, model: Recommends, stock: np.ndarray, arm: str
    ) -> tuple[list[tuple[int, float]], str, str, list[tuple[str, float]]]:
        marks: list[tuple[str, float]] = []

        @contextmanager
        def stage(name: str) -> Iterator[None]:
            yield
            marks.append((name, time.perf_counter()))

        def of(question: Asked) -> tuple[np.ndarray, np.ndarray]:
            recent = np.full((1, PAGES), -1)
            seen = self._recent(question.user)
            recent[0, : len(seen)] = seen
            marks.append(("store", time.perf_counter()))
            return model.recommend(
                np.array([question.user]),
                np.array([question.item]),
                question.type,
                stock,
                count=LONG if question.user < 0 else question.count,
                recent=recent,
                stage=stage,
            )

        def accept(made: Any) -> list[tuple[int, float]]:
            items, scores = (np.asarray(part) for part in made)
            if why := wrong(items, scores, stock, 1):
                raise ValueError(why)
            return [(int(i), float(s)) for i, s in zip(items[0], scores[0], strict=True) if i >= 0]

        answer = self.breakers[arm].ask(of, ask, accept)
        if not answer.why:
            return answer.value, "model", "", [*marks, ("wait", time.perf_counter())]
        found, source = self._fallen(ask, stock)
        return found, source, answer.why, [("fall-back", time.perf_counter())]

    def _recent(self, user: int) -> tuple[int, ...]:
        """Return the pages of a user's day; without a store the list knows none."""
        if user < 0:
            return ()
        try:
            read = self.online.read({"user": [user]}, self.clock())
            self.trouble = ""
        except Exception as error:  # a locked file, a server out of reach
            self.trouble = f"store: {type(error).__name__}: {error}"[:200]
            return ()
        return tuple(item for item in read["recent_pages"][0] if item < self.items)

    def _filled(
        self, found: Sequence[tuple[int, float]], ask: Asked, stock: np.ndarray
    ) -> list[tuple[int, float]]:
        """Return the first items that are in stock; bestsellers fill what is missing."""
        there = [(i, s) for i, s in found if stock[i] and i != ask.item][: ask.count]
        if len(there) < ask.count:
            have = {i for i, _ in there} | {ask.item}
            more = (int(i) for i in self.goods.bestsellers if stock[i] and i not in have)
            there += [(i, 0.0) for i in islice(more, ask.count - len(there))]
        return there

    def _fallen(self, ask: Asked, stock: np.ndarray) -> tuple[list[tuple[int, float]], str]:
        row, lists = (ask.user if ask.type == "mail" else ask.item), self.yesterday
        if lists is not None and lists.valid(self.clock()):
            found = lists.take(ask.type, row, stock, ask.count + 1)
            if found:
                return [(i, 0.0) for i in found], "yesterday"
        best = self.goods.bestsellers
        best = best[stock[best]][: ask.count + 1]
        return [(int(i), 0.0) for i in best], "bestsellers"

    # What changes it ----------------------------------------------------------------------

    def take(self, raw: bytes) -> dict[str, Any]:
        """Take a JSON list of events: ``event``, ``at``, ``kind``, ``item``, ``user``, ``price``.

        A message of the warehouse has the kind ``stock`` and ``stock`` 0 or 1.
        """
        sent, now = json_list(raw, "events", MOST_BYTES, MOST_EVENTS), self.clock()
        good, refused = one_by_one(sent, lambda one: self._event(one, now))
        with self._writing():  # else an older reading could come after a newer one
            taken = self._ingest(good)
            if any(one[2] == "stock" for one in good):
                self.stock = self._stock_now()
        refused += [{"position": -1, "what": why} for why in taken.refused]
        return {"new": taken.new, "again": taken.again, "refused": refused}

    def _stock_now(self) -> np.ndarray:
        try:
            return stock_now(self.online, self.items)
        except Exception as error:
            what = f"store: {type(error).__name__}: {error}"[:200]
            raise Problem(503, "store", what, "Send them again.") from None

    def beat(self) -> None:
        """Take in the pages that were answered; to be called each second, also of a quiet one."""
        nan, pages = float("nan"), [self._pages.popleft() for _ in range(len(self._pages))]
        try:
            self._ingest([(*page, nan, nan) for page in pages])
        except Problem as error:  # a locked file, a clock that was set back: the next second tries
            self._pages.extendleft(reversed(pages))
            self.trouble = error.what

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Let one write at a time; 503 for who would wait long, as while the file is locked."""
        if not self._lock.acquire(timeout=PATIENCE):
            raise Problem(503, "store", "store: another one writes.", "Send them again.")
        try:
            yield
        finally:
            self._lock.release()

    def _ingest(self, rows: Sequence[tuple]) -> Taken:
        """Give rows to the store, which learns of them now; 503 if it cannot take them."""
        with self._writing():
            now = self.clock()
            frame = pd.DataFrame([*rows], columns=COLUMNS).astype({"at": "M8[us]"})
            frame["known_at"] = pd.Series(now, frame.index, dtype="M8[us]")
            frame["category"] = self.goods.category[frame["item"].to_numpy(int)]
            try:
                return self.online.ingest(frame, now + pd.Timedelta(microseconds=1))
            except Exception as error:
                what = f"store: {type(error).__name__}: {error}"[:200]
                raise Problem(503, "store", what, "Send them again.") from None

    def _event(self, one: Any, now: pd.Timestamp) -> tuple:
        if not isinstance(one, dict):
            raise ValueError("an event is an object")
        kind, item, user = one.get("kind"), one.get("item"), one.get("user", -1)
        if kind not in KINDS:
            raise ValueError(f"kind {str(kind)[:20]!r}: one of {', '.join(KINDS)}")
        for name, value, most in (("item", item, self.items), ("user", user, MOST_ID)):
            if type(value) is not int or not -(name == "user") <= value < most:
                raise ValueError(f"{name} {str(value)[:20]!r} is not known")
        values = [one.get(name, float("nan")) for name in VALUES]
        if not all(type(v) in (int, float) and not (v < 0 or v > MOST_PRICE) for v in values):
            raise ValueError(f"{' and '.join(VALUES)} are numbers from 0 to {MOST_PRICE:,}")
        if one.get("stock") not in (0, 1) if kind == "stock" else "stock" in one:
            raise ValueError("stock is 0 or 1 in a message of the kind stock, and in no other")
        if not isinstance(one.get("event"), int | str):
            raise ValueError("event: a number or a text of its own")
        sent = one.get("at")
        at = now if sent is None else pd.Timestamp(sent if isinstance(sent, str) else "")
        if pd.isna(at) or at.tzinfo is not None:
            raise ValueError("at: a time in UTC without a zone, as text")
        return one["event"], at, kind, item, user, *values

    def refresh(self, raw: bytes = b"") -> dict[str, Any]:
        """Load the newest model and let it serve, if it passes the checks."""
        if self._load is None:
            raise Problem(404, "no folder", "No model is loaded from here.", "Restart it.")
        if self._load_lists is not None:
            with suppress(ValueError):  # those before serve on, and alarm when they are too old
                self.yesterday = self._load_lists()
        return self.swaps[CONTROL].offer(self._load)._asdict()

    def back(self, raw: bytes = b"") -> dict[str, Any]:
        """Let the model before serve again."""
        try:
            return {"version": self.swaps[CONTROL].back().number}
        except LookupError as none:
            raise Problem(409, "no way back", str(none), "Refresh.") from None

    def stop(self, raw: bytes = b"") -> dict[str, Any]:
        """End the experiment: everybody gets the control's lists from the next request on."""
        self.stopped = raw.decode(errors="replace")[:200].strip() or "stopped"
        if self._ended is not None:
            write_whole(self._ended, self.stopped.encode())
        return {"stopped": self.stopped}

    def health(self) -> dict[str, Any]:
        """Return what is wrong (``alarms``), and how the parts are."""
        now, model = self.clock(), self.swaps[CONTROL].current
        counts = Counter(self.sources)
        counts["model"] += counts.pop("cache", 0)
        rows = [age("model", model.value.trained, now, STALE), sources(counts)]
        alarms = []
        try:
            rows += freshness(self.online.freshness(now))
        except Exception as error:  # without its store the service still says what is wrong
            alarms.append(f"store cannot be read: {type(error).__name__}: {error}"[:200])
        alarms += [f"{row.name}: {row.what}" for row in rows if row.alarm]
        if self.yesterday is None or not self.yesterday.valid(now):
            alarms.append("yesterday's lists: none of the last 48 hours, run the night")
        if self.shown.lost or self.shown.trouble:
            alarms.append(
                f"log: {self.shown.lost} lists lost, {self.shown.trouble or 'written now'}"
            )
        if self.trouble:
            alarms.append(self.trouble)
        last = [*self.swaps[CONTROL].outcomes][-1:]
        state = {"alarms": alarms, "sources": dict(Counter(self.sources)), "version": model.number}
        state |= {"model": self.breaker.snapshot(), "swap": last[0]._asdict() if last else None}
        return state | {"stopped": self.stopped, "cache": [self.cache.hits, self.cache.asked]}

    def close(self) -> None:
        """Write what waits, and end the threads."""
        self.shown.close()
        for breaker in self.breakers.values():
            breaker.close()


def create_app(service: Service) -> FastAPI:
    """Return the service over HTTP; ``service`` stands at ``app.state.service``."""
    app = bare_app("Recommendations")
    app.state.service = service
    own = CapacityLimiter(THREADS)  # events that wait for the store keep no list waiting

    @app.get("/recommendations")
    async def recommendations(request: Request) -> Response:
        query = request.query_params.multi_items()
        return reply(await to_thread.run_sync(service.recommend, query, limiter=own))

    posts = {"/events": service.take, "/refresh": service.refresh, "/back": service.back}
    serve_calls(app, posts | {"/stop": service.stop}, {"/health": service.health}, MOST_BYTES)
    return app


def app_from(folder: str, now: str = "", budget_ms: float = BUDGET_MS) -> FastAPI:
    """Return the service on a folder of its own.

    It holds ``model.pickle`` (and ``treatment.pickle`` while an experiment runs), ``goods.pickle``,
    ``lists``, ``features.db`` and ``shown.db``; ``stopped`` ends the experiment until somebody
    takes it away. ``now`` is where the clock of a world that is played again begins.
    """
    path, begin = Path(folder), time.monotonic()
    start = pd.Timestamp(now) if now else None

    def clock() -> pd.Timestamp:
        if start is None:
            return pd.Timestamp.now("UTC").tz_localize(None)
        return start + pd.Timedelta(seconds=time.monotonic() - begin)

    def load(name: str = "model") -> Recommends:
        found, missing = parts.load(path, {name: object})
        if missing:
            raise ValueError(missing[0])
        return found[name]

    def load_lists() -> Lists:
        return Lists.load(path / "lists")

    try:
        yesterday = load_lists()
    except ValueError:
        yesterday = None
    models = {CONTROL: load()}
    if (path / "treatment.pickle").exists():
        models["treatment"] = load("treatment")
    online, log = Online(FEATURES, path / "features.db"), EventLog(path / "shown.db")
    more = {"load_lists": load_lists, "ended": path / "stopped"}
    given = models, online, load("goods"), yesterday, log, clock, load, budget_ms
    service = Service(*given, **more)
    service.warm()

    def beats() -> None:
        while True:
            service.beat()
            time.sleep(1)

    threading.Thread(target=beats, daemon=True).start()
    return create_app(service)
