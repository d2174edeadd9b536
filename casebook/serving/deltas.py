"""A feed of changes over HTTP, as the systems of a firm offer it, and a reader that outlives it.

``GET /changes?lane=all&cursor=c&limit=n`` answers ``{"entries": [...], "cursor": c', "more": b}``.
The cursor is the server's to make and the reader's to keep; with an empty one a reader begins at
the beginning. Each entry stands in the lane ``all``, and some in a fast lane besides, so that what
is urgent need not wait behind a backlog. An entry may come late, more than once, and in both lanes:
what it says must be safe to take again. ``POST /publish`` adds entries.

The server misbehaves as it is told to (:class:`Faults`): it refuses with 429 and ``Retry-After``,
fails with 503, cuts pages short, forgets its cursors (410).

Examples
--------
>>> feed = Feed([({"seq": n}, "fast" if n == 3 else "") for n in range(1, 6)])
>>> page = feed.page("all", "", 3)
>>> [entry["seq"] for entry in page["entries"]], page["more"]
([1, 2, 3], True)
>>> feed.page("all", page["cursor"], 3)["entries"]
[{'seq': 4}, {'seq': 5}]
>>> feed.page("fast", "", 3)["entries"]
[{'seq': 3}]
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from casebook.llm.timing import Budget, Sources, retry_after
from casebook.serving.app import Problem, bare_app, body_of, json_list, query_number, query_of
from casebook.serving.app import reply as answer_of
from casebook.strict_json import unique

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

ALL = "all"
#: Entries of a page, and bytes of a page that a reader takes or of a body that a server takes.
MOST, LARGEST = 1_000, 50_000_000
#: Pages that are taken in one go; more are left for the next.
MOST_PAGES = 100_000
#: An entry and its fast lane, '' for none.
Told = tuple[Mapping[str, Any], str]


class Feed:
    """The entries of a source in the order in which it tells them.

    Parameters
    ----------
    told : iterable of (mapping, str)
    epoch : str
        Part of each cursor: a feed with another epoch does not know it.
    """

    def __init__(self, told: Iterable[Told] = (), epoch: str = "a") -> None:
        self.epoch = epoch
        self._lanes: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self._lock = threading.Lock()
        self.publish(told)

    def publish(self, told: Iterable[Told]) -> None:
        """Add entries at the end."""
        with self._lock:
            for entry, lane in told:
                for name in {ALL, lane} - {""}:
                    self._lanes[name].append(entry)

    def page(self, lane: str, cursor: str, limit: int) -> dict[str, Any]:
        """Return what comes after a cursor.

        Raises
        ------
        Problem
            410 for a cursor of another epoch or of none.
        """
        epoch, _, place = (cursor or f"{self.epoch}.0").partition(".")
        start = int(place) if place.isascii() and place.isdigit() and len(place) < 16 else -1
        with self._lock:
            entries = self._lanes.get(lane, [])
            if epoch != self.epoch or not 0 <= start <= len(entries):
                raise Problem(410, "cursor gone", f"{cursor[:40]!r} is unknown.", "Begin with ''.")
            end = min(start + limit, len(entries))
            made = {"entries": entries[start:end], "cursor": f"{self.epoch}.{end}"}
            return made | {"more": end < len(entries)}


def disordered(
    told: Sequence[Told], seed: int, late: float = 0.03, most: int = 40, repeated: float = 0.03
) -> list[Told]:
    """Return entries as an unreliable source tells them.

    Parameters
    ----------
    told : sequence
    seed : int
    late, repeated : float
        Shares of entries that come up to ``most`` places late, and that come again.
    most : int

    Examples
    --------
    >>> told = [({"seq": n}, "") for n in range(1000)]
    >>> new = [entry["seq"] for entry, _ in disordered(told, 1)]
    >>> sorted(set(new)) == list(range(1000)), len(new) > 1000, new != sorted(new)
    (True, True, True)
    """
    rng, placed = random.Random(seed), []
    for place, one in enumerate(told):
        behind = rng.randint(1, most) if rng.random() < late else 0
        placed.append((place + behind, place, one))
        if rng.random() < repeated:
            placed.append((place + rng.randint(1, 3 * most), place, one))
    return [one for *_, one in sorted(placed, key=lambda row: row[:2])]


@dataclass(frozen=True)
class Faults:
    """What a server does wrong.

    Attributes
    ----------
    busy, failing, cut : float
        Shares of requests that get 429, 503, and half a page.
    wait : float
        Seconds of ``Retry-After``.
    a_second : float
        Requests that are allowed in a second; 0 for any number. More get 429 with the wait.
    seed : int
    """

    busy: float = 0.0
    failing: float = 0.0
    cut: float = 0.0
    wait: float = 0.01
    a_second: float = 0.0
    seed: int = 0


def feed_app(feed: Feed, faults: Faults | None = None, title: str = "changes") -> FastAPI:
    """Return the server of a feed."""
    from fastapi.responses import Response

    app, refused = bare_app(title), _Refusals(faults or Faults())

    async def changes(request: Request) -> Response:
        wait, kind = refused.next()
        if kind in (429, 503):
            told = Problem(kind, "later", "The server is busy.", f"Wait {wait:g} s.").told()
            return Response(json.dumps(told), kind, {"Retry-After": f"{wait:.3f}"})
        given = query_of(request.query_params.multi_items(), ["lane", "cursor", "limit"])
        limit = query_number(given, "limit", 1, MOST, 100)
        made = answer_of(feed.page(given.get("lane", ALL), given.get("cursor", ""), limit))
        half = bytes(made.body)[: len(made.body) // 2]
        return Response(half, media_type="application/json") if kind == 200 else made

    async def publish(request: Request) -> Response:
        sent = json_list(await body_of(request, LARGEST), "pairs of entry and lane", LARGEST, 10**6)
        pairs = [one for one in sent if isinstance(one, list) and len(one) == 2]
        if len(pairs) < len(sent) or not all(
            isinstance(entry, dict) and isinstance(lane, str) for entry, lane in pairs
        ):
            raise Problem(422, "wrong form", "An entry is no pair.", 'Send [[{…}, "lane"], …].')
        feed.publish((entry, lane) for entry, lane in pairs)
        return answer_of({"published": len(pairs)})

    app.add_route("/changes", changes, methods=["GET"])
    app.add_route("/publish", publish, methods=["POST"])
    return app


class _Refusals:
    """Says of each request whether it is refused, and how."""

    def __init__(self, faults: Faults) -> None:
        self.faults, self._count = faults, itertools.count()
        self._tokens, self._at = max(faults.a_second, 1.0), time.monotonic()

    def next(self) -> tuple[float, int]:
        """Return seconds to wait and 429 or 503, or 200 for half a page, or 0 for a whole one."""
        faults = self.faults
        if faults.a_second:
            now = time.monotonic()
            filled = self._tokens + (now - self._at) * faults.a_second
            self._tokens, self._at = min(filled, max(faults.a_second, 1.0)), now
            if self._tokens < 1:
                return (1 - self._tokens) / faults.a_second, 429
            self._tokens -= 1
        drawn = random.Random(f"{faults.seed}-{next(self._count)}").random()
        for share, kind in ((faults.busy, 429), (faults.failing, 503), (faults.cut, 200)):
            if drawn < share:
                return faults.wait, kind
            drawn -= share
        return 0.0, 0


class FeedDown(RuntimeError):
    """A feed gave no whole page within the budget; what was taken so far stays taken."""


class PageTooLarge(FeedDown):
    """A page is over :data:`LARGEST` bytes: ask for fewer entries."""


class CursorGone(RuntimeError):
    """The server does not know the cursor: begin at the beginning."""


class _Again(Exception):
    """This attempt failed; another may not."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class Page(NamedTuple):
    """Entries, the cursor after them, and whether there are more now."""

    entries: list[Any]
    cursor: str
    more: bool


class Reader:
    """Reads the pages of a feed, and tries again what may succeed.

    Again are tried 429 and 5xx (after ``Retry-After``, or a random wait that grows), connections
    that fail or break, and answers that are no whole page. Of a page that is too large half the
    entries are asked for, until it fits.

    Parameters
    ----------
    url : str
    budget : Budget
        Attempts and seconds for one page.
    seconds : float
        For one attempt.
    sources : Sources
        Clock, sleep and chance; a test brings its own.

    Attributes
    ----------
    tried : int
        Requests so far, the repeated ones included.
    """

    def __init__(
        self,
        url: str,
        budget: Budget | None = None,
        seconds: float = 10.0,
        sources: Sources | None = None,
    ) -> None:
        import httpx

        self.url, self.seconds, self.tried, self._most = url.rstrip("/"), seconds, 0, MOST
        self._budget, self._sources = budget or Budget(attempts=8), sources or Sources()
        self._http = httpx.Client(timeout=seconds, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def page(self, lane: str = ALL, cursor: str = "", limit: int = 100) -> Page:
        """Return the page after a cursor.

        Raises
        ------
        CursorGone
            If the server answers 410.
        FeedDown
            If the budget is used up, or for an answer that no repetition mends (another 4xx).
        """
        while True:
            asked = min(limit, self._most)
            try:
                page = self._page(lane, cursor, asked)
            except PageTooLarge:
                if asked <= 1:
                    raise
                self._most = asked // 2
            else:
                self._most = min(MOST, self._most + 1)
                return page

    def _page(self, lane: str, cursor: str, limit: int) -> Page:
        """Return the page after a cursor, of so many entries."""
        budget, sources, why = self._budget, self._sources, ""
        start = sources.clock()
        for attempt in range(budget.attempts):
            try:
                return self._once({"lane": lane, "cursor": cursor, "limit": str(limit)})
            except _Again as error:
                why = str(error)
                wait = sources.uniform(0.0, min(budget.cap, budget.base * 2 ** min(attempt, 30)))
                wait = max(wait, error.wait)
            if sources.clock() - start + wait > budget.seconds or attempt + 1 == budget.attempts:
                break
            sources.sleep(wait)
        raise FeedDown(f"{self.url}, lane {lane}: {why} ({attempt + 1} attempts)")

    def _once(self, asked: Mapping[str, str]) -> Page:
        import httpx

        self.tried += 1
        until, raw = self._sources.clock() + self.seconds, bytearray()
        try:
            with self._http.stream("GET", f"{self.url}/changes", params=asked) as found:
                for part in found.iter_bytes():
                    raw += part
                    if len(raw) > LARGEST:
                        raise PageTooLarge(f"{self.url}: a page over {LARGEST:,} bytes")
                    if self._sources.clock() > until:
                        raise _Again("a page that drips")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _Again(type(error).__name__) from None
        if found.status_code == 410:
            raise CursorGone(self.url)
        if found.status_code == 429 or found.status_code >= 500:
            wait = retry_after(found.headers.get("Retry-After"), self._sources.now())
            raise _Again(str(found.status_code), wait or 0.0)
        if found.status_code != 200:
            raise FeedDown(f"{self.url}: {found.status_code} {bytes(raw[:200])!r}")
        return _page(bytes(raw))


def _page(raw: bytes) -> Page:
    """Return the page of a body; an entry that is no strict JSON is None, and stops no other."""
    try:
        text = raw.decode("utf-8-sig")
        sent = json.loads(
            text, parse_constant=lambda name: None, parse_int=_number, object_pairs_hook=_object
        )
    except (ValueError, RecursionError):
        raise _Again("no whole page") from None
    if not isinstance(sent, dict) or {*sent} != {"entries", "cursor", "more"}:
        raise _Again("not a page")
    page = Page(sent["entries"], sent["cursor"], sent["more"])
    types = (isinstance(page.entries, list), isinstance(page.cursor, str), type(page.more) is bool)
    if not all(types):
        raise _Again("not a page")
    return page


def _number(digits: str) -> int | None:
    return int(digits) if len(digits) < 40 else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | None:
    """Return an object, or None where a field stands twice: readers would not agree on it."""
    try:
        return unique(pairs)
    except ValueError:
        return None


#: What takes a page of a lane.
Take = Callable[[str, Page], None]


def drain(
    reader: Reader,
    take: Take,
    cursor_of: Callable[[str], str],
    lanes: Sequence[str] = (ALL,),
    limit: int = 100,
    pages: int | None = None,
    gone: Callable[[str], None] = lambda lane: None,
    before: Callable[[], Any] = lambda: None,
) -> int:
    """Take pages until there are no more; before each page of a lane, all of the lanes before it.

    Parameters
    ----------
    reader : Reader
    take : callable
        Takes the entries of a page and keeps its cursor, both or neither.
    cursor_of : callable
        Lane → the cursor that was kept, '' for none.
    lanes : sequence of str
        The most urgent first.
    limit : int
        Entries of a page.
    pages : int, optional
        After so many the rest is left for the next time.
    gone : callable
        Told of a lane that begins again because its cursor is gone: what the server has forgotten
        in the meantime it will not tell. The first page is then taken even if it is empty.
    before : callable
        Called when the first lane has been read to its end, before any other is asked.

    Returns
    -------
    int
        Pages that were taken.

    Raises
    ------
    FeedDown
        Also for a server that goes round in a circle: a cursor comes again with entries before it,
        or the one that it gave at the beginning is gone.
    """
    taken, begun, met = 0, 0, {(lane, cursor_of(lane)) for lane in lanes}
    while taken < (MOST_PAGES if pages is None else pages):
        for place, lane in enumerate(lanes):
            if place == 1:
                before()
            page, again = _asked(reader, lane, cursor_of(lane), limit, gone)
            if page.entries or again:
                if page.entries and (lane, page.cursor) in met:
                    raise FeedDown(f"lane {lane} goes round in a circle")
                met = {(lane, page.cursor)} | (set() if again else met)
                begun += again
                if begun > len(lanes):
                    raise FeedDown(f"lane {lane} forgets its cursors at once")
                take(lane, page)
                taken += 1
                break
        else:
            break
    return taken


def _asked(
    reader: Reader, lane: str, cursor: str, limit: int, gone: Callable[[str], None]
) -> tuple[Page, bool]:
    """Return a page, and whether the lane begins again."""
    try:
        return reader.page(lane, cursor, limit), False
    except CursorGone:
        gone(lane)
    try:
        return reader.page(lane, "", limit), True
    except CursorGone:
        raise FeedDown(f"lane {lane} has no beginning") from None
