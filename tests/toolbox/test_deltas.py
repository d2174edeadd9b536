"""Feeds of changes: cursors, lanes and faults of the server, patience and limits of the reader."""

import json
import time
from collections import Counter

import httpx
import pytest

from casebook.llm.timing import Budget, Sources
from casebook.serving import deltas
from casebook.serving.app import Problem
from casebook.serving.deltas import (
    ALL,
    CursorGone,
    Faults,
    Feed,
    FeedDown,
    Page,
    PageTooLarge,
    Reader,
    _Again,
    _page,
    _Refusals,
    disordered,
    drain,
    feed_app,
)
from casebook.serving.load import Server

TOLD = [({"seq": n}, "fast" if n % 10 == 0 else "") for n in range(100)]
QUICK = Budget(attempts=10, seconds=20, base=0.001, cap=0.01)


def app(entries=100, epoch="a", **faults):
    """Serve the first entries, in a process of its own."""
    return feed_app(Feed(TOLD[:entries], epoch), Faults(**faults))


@pytest.fixture(scope="module")
def url():
    arguments = {"busy": 0.2, "failing": 0.1, "cut": 0.2, "wait": 0.001}
    with Server(f"{__name__}:app", arguments) as server:
        yield server.url


@pytest.fixture
def reader(url):
    made = Reader(url, QUICK)
    yield made
    made.close()


def test_pages_hold_each_entry_once_in_order_through_all_faults(reader):
    seen, cursor, more, pages = [], "", True, 0
    while more:
        page = reader.page(ALL, cursor, 7)
        seen += [entry["seq"] for entry in page.entries]
        cursor, more, pages = page.cursor, page.more, pages + 1
    assert seen == list(range(100))
    assert reader.tried > pages
    assert reader.page(ALL, cursor).entries == []
    assert [e["seq"] for e in reader.page("fast").entries] == list(range(0, 100, 10))
    assert reader.page("none").entries == []


@pytest.mark.parametrize("cursor", ["b.0", "a.101", "a.-1", "a.x", "7", "a.²"])
def test_a_cursor_that_the_server_does_not_know_is_gone(reader, cursor):
    with pytest.raises(CursorGone):
        reader.page(ALL, cursor)
    with pytest.raises(Problem, match="cursor gone"):
        Feed(TOLD).page(ALL, cursor, 5)


def test_an_answer_that_no_repetition_mends_is_an_error_at_once(reader):
    before = reader.tried
    with pytest.raises(FeedDown, match="422"):
        while True:  # the server may fail or be busy before it looks
            reader.page(ALL, "", 0)
    assert reader.tried - before < 10


def test_what_is_published_comes_next_and_a_wrong_form_is_refused(url, reader):
    end = reader.page(ALL, "", 1000).cursor

    def publish(body):
        return httpx.post(f"{url}/publish", json=body, trust_env=False).status_code

    assert publish([[{"seq": 100}, "new"], [{"seq": 101}, ""]]) == 200
    assert [e["seq"] for e in reader.page(ALL, end).entries] == [100, 101]
    assert [e["seq"] for e in reader.page("new").entries] == [100]
    for wrong in ({}, [1], [[1, "x"]], [[{}, 1]], [[{}]]):
        assert publish(wrong) in (400, 422)


def test_a_limit_of_requests_is_kept_and_waited_for():
    with Server(f"{__name__}:app", {"a_second": 10}) as server:
        reader, began = Reader(server.url, Budget(attempts=50, base=0.001, cap=0.01)), time.time()
        for _ in range(20):
            reader.page()
        # ten at once, the others one in 100 ms; Retry-After is heeded, so few are refused
        assert time.time() - began > 0.9
        assert 20 < reader.tried < 60
        reader.close()
        server.kill()
        waits = []
        gone = Reader(server.url, QUICK, sources=Sources(sleep=waits.append))
        with pytest.raises(FeedDown, match=r"ConnectError \(10 attempts\)"):
            gone.page()
        assert len(waits) == 9 and max(waits) <= QUICK.cap
        gone.close()


def test_the_budget_ends_a_wait_that_is_too_long():
    class Busy(Reader):
        def _once(self, asked):
            from casebook.serving.deltas import _Again

            self.tried += 1
            raise _Again("429", 3600.0)

    slept = []
    reader = Busy("http://127.0.0.1:1", Budget(seconds=5), sources=Sources(sleep=slept.append))
    with pytest.raises(FeedDown, match="429"):
        reader.page()
    assert slept == [] and reader.tried == 1
    reader.close()


def test_faults_come_at_their_rates_and_the_same_for_a_seed():
    faults = Faults(busy=0.2, failing=0.1, cut=0.05, seed=3)
    drawn, again = _Refusals(faults), _Refusals(faults)
    kinds = [drawn.next()[1] for _ in range(4000)]
    for kind, share in ((429, 0.2), (503, 0.1), (200, 0.05)):
        assert kinds.count(kind) / 4000 == pytest.approx(share, abs=0.02)
    assert [again.next()[1] for _ in range(50)] == kinds[:50]


def test_disorder_loses_nothing_and_is_bounded():
    new = [entry["seq"] for entry, _ in disordered(TOLD * 20, 5, late=0.1, most=10, repeated=0.2)]
    assert Counter(new).keys() == set(range(100)) and len(new) > 2200
    plain = disordered(TOLD, 5, late=0.0, repeated=0.0)
    assert plain == TOLD
    first = {}
    for place, (entry, _) in enumerate(disordered(TOLD, 6, late=0.5, most=10, repeated=0)):
        first[entry["seq"]] = place
    assert max(abs(place - seq) for seq, place in first.items()) <= 20


class Heavy(Reader):
    """A server whose pages are too large from so many entries on."""

    def __init__(self, fits):
        super().__init__("http://127.0.0.1:1", QUICK)
        self.fits, self.asked = fits, []

    def _once(self, asked):
        self.asked.append(int(asked["limit"]))
        if self.asked[-1] > self.fits:
            raise PageTooLarge("too large")
        return _page(json.dumps(Feed(TOLD).page(ALL, asked["cursor"], self.asked[-1])).encode())


def test_of_a_page_that_is_too_large_half_is_asked_for_until_it_fits():
    reader, seen = Heavy(30), []

    def take(lane, page):
        seen.extend(page.entries)
        cursors[lane] = page.cursor

    cursors = {}
    drain(reader, take, lambda lane: cursors.get(lane, ""), (ALL,), 200)
    assert seen == [entry for entry, _ in TOLD]
    assert len(reader.asked) < 12 and reader.asked[:4] == [200, 100, 50, 25]
    alone = Heavy(0)
    with pytest.raises(PageTooLarge):
        alone.page()
    assert alone.asked[-1] == 1 and len(alone.asked) < 10
    for one in (reader, alone):
        one.close()


def test_an_entry_that_is_no_strict_json_stops_no_other():
    body = b"""{"entries":
        [{"a": 1}, {"a": 1, "a": 2}, {"b": NaN, "c": %s}, [{"d": {"e": 1, "e": 2}}]],
        "cursor": "a.4", "more": false}""" % (b"9" * 5000)
    assert _page(body).entries == [{"a": 1}, None, {"b": None, "c": None}, [{"d": None}]]
    for broken in (body[:-9], body.replace(b'"more"', b'"cursor": "b", "more"'), b"[" * 10**6):
        with pytest.raises(_Again):
            _page(broken)


class Circle:
    """A server whose cursors come again, after so many."""

    def __init__(self, around, gone=False):
        self.around, self.gone, self.asked = around, gone, 0

    def page(self, lane, cursor, limit):
        self.asked += 1
        if self.gone and cursor:
            raise CursorGone
        return Page([{"seq": 1}], str(self.asked % self.around), True)


@pytest.mark.parametrize("server", [Circle(1), Circle(2), Circle(7), Circle(10**6, gone=True)])
def test_a_server_that_goes_round_in_a_circle_is_left(server):
    cursors = {}
    with pytest.raises(FeedDown, match="lane all"):
        drain(server, lambda lane, page: cursors.update({lane: page.cursor}), cursors.get)
    assert server.asked < 10


def test_no_more_pages_are_taken_than_is_allowed_in_one_go(monkeypatch):
    monkeypatch.setattr(deltas, "MOST_PAGES", 9)
    cursors = {}
    take = lambda lane, page: cursors.update({lane: page.cursor})  # noqa: E731
    assert drain(Circle(10**6), take, cursors.get) == 9


def test_before_each_page_that_is_not_urgent_something_is_called():
    cursors, order = {}, []

    def take(lane, page):
        order.append(lane)
        cursors[lane] = page.cursor

    drain(
        *(Fake(Feed(TOLD)), take, lambda lane: cursors.get(lane, ""), ("fast", ALL), 40, None),
        before=lambda: order.append("before"),
    )
    assert order == ["fast", "before", ALL, "before", ALL, "before", ALL, "before"]


class Fake:
    """A reader whose feed is in this process."""

    def __init__(self, feed):
        self.feed = feed

    def page(self, lane, cursor, limit):
        from casebook.serving.deltas import Page

        try:
            return Page(**self.feed.page(lane, cursor, limit))
        except Problem:
            raise CursorGone from None


def drained(feed, cursors, **how):
    seen = []

    def take(lane, page):
        seen.extend((lane, entry["seq"]) for entry in page.entries)
        cursors[lane] = page.cursor
        if len(seen) == 30:  # something urgent happens in the middle of the backlog
            feed.publish([({"seq": 777}, "fast")])

    pages = drain(Fake(feed), take, lambda lane: cursors.get(lane, ""), ("fast", ALL), 10, **how)
    return pages, seen


def test_the_fast_lane_is_read_before_each_page_of_the_backlog():
    feed, cursors = Feed(TOLD), {}
    pages, seen = drained(feed, cursors)
    assert seen[:10] == [("fast", n) for n in range(0, 100, 10)]
    assert seen[30] == ("fast", 777) and seen[-1] == (ALL, 777)
    assert {seq for lane, seq in seen if lane == ALL} == {*range(100), 777}
    assert pages == 1 + 11 + 1 and drained(feed, cursors) == (0, [])


def test_a_sync_may_stop_after_some_pages_and_a_gone_cursor_begins_again():
    cursors = {}
    assert drained(Feed(TOLD), cursors, pages=3)[0] == 3
    assert cursors == {"fast": "a.10", ALL: "a.20"}
    told = []
    pages, seen = drained(Feed(TOLD[:20], epoch="b"), cursors, gone=told.append)
    assert pages == 3 and ("fast", 0) in seen and (ALL, 19) in seen and told == ["fast", ALL]
    # a feed that has forgotten everything is taken too: its cursor is news
    assert drained(Feed([], epoch="c"), cursors, gone=told.append) == (2, [])
    assert cursors == {"fast": "c.0", ALL: "c.0"} and told == ["fast", ALL] * 2
