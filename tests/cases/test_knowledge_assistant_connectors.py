"""Case 18, connectors: the copy is equal to the sources, whatever servers and machine do."""

import dataclasses
import json
import os
import random
import sqlite3
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest

from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.connectors import (
    CHUNKS,
    Connector,
    Mirror,
    connectors,
    index_hours,
)
from casebook.cases.knowledge_assistant.records import Event, Grant, as_json, moment
from casebook.cases.knowledge_assistant.search import Search
from casebook.cases.knowledge_assistant.world.sources import ACCESS, CRITICAL, LANES, told
from casebook.llm.timing import Budget
from casebook.retrieval.dense import Hashed
from casebook.serving.app import Problem
from casebook.serving.deltas import CursorGone, Feed, FeedDown, Page
from casebook.serving.drills import BEGUN, kill_drill
from casebook.serving.load import Server

SIZES = {"people": 24, "teams": 3, "documents": 260}
SERVE = "casebook.cases.knowledge_assistant.world.sources:serve"
FAULTS = {"busy": 0.15, "failing": 0.1, "cut": 0.1, "wait": 0.002}
QUICK = Budget(attempts=12, seconds=20, base=0.002, cap=0.01)
LATER = moment("2027-01-01T00:00:00")


@cache
def world():
    return worlds.simulate(4, **SIZES)


@cache
def final():
    return worlds.State((*world().firm.events, *world().events))


@pytest.fixture(scope="module")
def faulty():
    with Server(SERVE, {"seed": 4, **SIZES, **FAULTS}) as server:
        yield server.url


@pytest.fixture
def feeds():
    """The feeds of the same sources in this process, in order and without faults."""
    known = (*world().firm.events, *world().events)
    sources = ("directory", "wiki", "drive", "chat", "tickets")
    return {one: Feed(told(e for e in known if e.source == one)) for one in sources}


class InProcess:
    """A reader of a feed of this process."""

    tried = 0

    def __init__(self, feed):
        self.feed = feed

    def page(self, lane, cursor, limit):
        try:
            return Page(**self.feed.page(lane, cursor, limit))
        except Problem:
            raise CursorGone from None

    def close(self):
        pass


SEQ = count(10**6)


@contextmanager
def mirror(path, **more):
    made = Mirror(path, more.pop("embedder", Hashed(16)), **more)
    try:
        yield made
    finally:
        made.close()


def linked(source, feeds, copy):
    link = Connector(source, "http://127.0.0.1:1", copy)
    link.reader.close()
    link.reader = InProcess(feeds[source])
    return link


def synced(where, copy, only="", **how):
    """Sync from an address, or from feeds; return pages and requests."""
    if isinstance(where, str):
        links = connectors(where, copy, budget=QUICK)
    else:
        links = [linked(source, where, copy) for source in where]
    links = [link for link in links if only in link.source]
    pages = sum(link.sync(**how) for link in links)
    for link in links:
        link.reader.close()
    return pages, sum(link.reader.tried for link in links)


def same_as_truth(copy):
    """The mirror's state is that of the events, told in order and once."""
    state, truth = worlds.State(copy.since()), final()
    for name in ("documents", "parents", "grants", "members", "active"):
        assert getattr(state, name) == getattr(truth, name), name
    return True


# Servers that misbehave ------------------------------------------------------------------------


def test_the_copy_is_equal_through_429_5xx_cut_pages_late_and_repeated_events(faulty, tmp_path):
    with mirror(tmp_path / "a.db") as copy:
        pages, tried = synced(faulty, copy, limit=50)
        assert same_as_truth(copy)
        assert tried > 1.2 * (pages + 15)  # it did meet the faults
        assert copy.counts["old"] > 50  # repeated, overtaken, or read in a fast lane before
        assert copy.aside() == []
        assert synced(faulty, copy)[0] == 0  # nothing is new
        first = copy.content()
    with mirror(tmp_path / "b.db") as other:
        synced(faulty, other, limit=200)
        assert other.content() == first


def test_passages_and_vectors_are_those_of_the_documents(faulty, tmp_path):
    with mirror(tmp_path / "a.db") as copy:
        synced(faulty, copy)
        items = {item.document.id: item for item in copy.items(copy.since())}
        assert {*items} == {*final().documents}
        for item in list(items.values())[::20]:
            spans = CHUNKS.spans(item.document.body)
            assert item.texts == tuple(item.document.body[a:b] for a, b in spans)
            searched = [f"{item.document.title}\n{text}" for text in item.texts]
            assert np.allclose(item.vectors, Hashed(16).encode(searched))
        # one vector a text, and none of a text that is gone
        database = sqlite3.connect(tmp_path / "a.db")
        kept, used = (
            database.execute(f"SELECT count(DISTINCT digest) FROM {table}").fetchone()[0]
            for table in ("vector", "chunk")
        )
        database.close()
        assert kept == used


def test_a_server_that_is_gone_is_an_error_in_time_and_the_next_sync_goes_on(faulty, tmp_path):
    with mirror(tmp_path / "a.db") as copy:
        link = Connector("wiki", f"{faulty}/wiki", copy, budget=QUICK)
        assert link.sync(pages=3, limit=20) == 3
        reached = copy.cursor("wiki", ACCESS)
        link.reader.url = "http://127.0.0.1:1"
        with pytest.raises(FeedDown, match=r"ConnectError \(12 attempts\)"):
            link.sync()
        assert copy.cursor("wiki", ACCESS) == reached != ""
        link.reader.url = f"{faulty}/wiki"
        link.sync()
        truth = {d: one for d, one in final().documents.items() if one.source == "wiki"}
        assert worlds.State(copy.since()).documents == truth


def test_entries_that_are_no_events_are_put_aside_and_stop_nothing(feeds, tmp_path):
    good = Event(
        "wiki", next(SEQ), LATER, "grants", "wiki:d1", (Grant("wiki:d1", "user:1", "deny"),)
    )
    bad = [
        [{"source": "wiki"}, ACCESS],
        [as_json(dataclasses.replace(good, source="wiki", seq=-5)), ""],
        [{**as_json(good), "source": "chat", "subject": "chat:d1"}, ""],
        [{**as_json(good), "payload": [["user:1", "own"]]}, ACCESS],
    ]
    entries = [*bad, [as_json(good), ACCESS]]
    feeds["wiki"].publish(entries)
    with mirror(tmp_path / "a.db") as copy:
        synced(feeds, copy)
        assert worlds.State(copy.since()).grants["wiki:d1"] == good.payload
        assert all(len(entry) == 64 for _, entry, _ in copy.aside())  # no text of theirs
        reasons = " ".join(why for *_, why in copy.aside())
        assert len(copy.aside()) == 4
        for word in ("missing or unknown", "seq -5", "tells of chat", "neither allow nor deny"):
            assert word in reasons


def test_the_rights_and_the_search_that_are_fed_from_it_agree_with_the_truth(faulty, tmp_path):
    access = Access(":memory:")
    with mirror(tmp_path / "a.db", sinks=[access.apply]) as copy:
        synced(faulty, copy)
        search = Search(access, 16)
        search.put(copy.items(copy.since()))
    names = sorted(final().documents)
    for user in sorted(final().active):
        seen = {name for name, sees in zip(names, access.sees(user, names), strict=True) if sees}
        assert seen == final().visible(user)
    user = max(final().active, key=lambda user: len(final().visible(user)))
    query = Hashed(16).encode(["What is the deposit of Identity?"])[0]
    hits = search.find(user, query, k=10)
    assert len(hits) == 10 and {hit.document for hit in hits} <= final().visible(user)
    access.close()


# What changes ----------------------------------------------------------------------------------


class Counting(Hashed):
    """An embedder that remembers what it was given."""

    def __init__(self, dimensions=16):
        super().__init__(dimensions)
        self.texts = []

    def encode(self, texts):
        self.texts += texts
        return super().encode(texts)


def a_page(copy, critical=False):
    for event in copy.since():
        if event.kind == "document" and event.payload.critical == critical:
            return event.payload
    raise LookupError


def test_a_grant_a_move_and_a_save_cost_no_vector_and_an_edit_its_passages(feeds, tmp_path):
    embedder = Counting()
    with mirror(tmp_path / "a.db", embedder=embedder) as copy:
        synced(feeds, copy)
        assert len(embedder.texts) == len(set(embedder.texts)) > 200
        embedder.texts.clear()
        page = a_page(copy)
        source, before = page.source, copy.applied()
        other = next(c for c in final().parents if c.startswith(source) and c != page.container)
        grant = (Grant(page.id, "user:1", "deny"),)
        moved = dataclasses.replace(page, container=other, path="elsewhere")
        saved = dataclasses.replace(moved, version=page.version + 1, modified=LATER)
        news = [("grants", grant), ("document", moved), ("document", saved)]
        for kind, payload in news:
            event = Event(source, next(SEQ), LATER, kind, page.id, payload)
            feeds[source].publish(told([event], {page.id: page.container}))
            synced(feeds, copy)
        assert embedder.texts == []
        assert {event.kind for event in copy.since(before)} == {"grants", "document"}
        state = worlds.State(copy.since())
        assert state.documents[page.id] == saved and state.grants[page.id] == grant
        edited = dataclasses.replace(saved, body=saved.body + "\nOne more line.", version=99)
        feeds[source].publish(told([Event(source, next(SEQ), LATER, "document", page.id, edited)]))
        synced(feeds, copy)
        assert 1 <= len(embedder.texts) <= 2
        assert all("One more line." in text for text in embedder.texts[-1:])


def test_a_document_that_changed_after_it_was_listed_is_left_out_and_listed_again(tmp_path):
    entries = [as_json(event) for event in world().events if event.kind == "document"]
    first = event = next(e for e in world().events if e.kind == "document")
    longer = dataclasses.replace(event.payload, body="Another text. " * 500, version=77)
    with mirror(tmp_path / "a.db") as copy:
        copy.take(event.source, "all", entries[:1], "a.1")
        listed, at = copy.since(), copy.applied()
        assert [item.document for item in copy.items(listed)] == [first.payload]
        later = dataclasses.replace(event, seq=10**6, payload=longer)
        copy.take(event.source, "all", [as_json(later)], "a.2")
        assert list(copy.items(listed)) == []
        (item,) = copy.items(copy.since(at))
        assert item.document == longer and len(item.texts) == len(item.vectors) == 3


def test_a_deleted_document_leaves_no_text_no_vector_and_does_not_come_back(feeds, tmp_path):
    with mirror(tmp_path / "a.db") as copy:
        synced(feeds, copy)
        page = a_page(copy)
        text = "Zanzibar quartz heist. " * 2000
        secret = dataclasses.replace(page, body=text, version=90, modified=LATER)
        written = Event(page.source, next(SEQ), LATER, "document", page.id, secret)
        feeds[page.source].publish(told([written]))
        synced(feeds, copy)
        assert worlds.State(copy.since()).documents[page.id].body == secret.body
        gone = Event(page.source, next(SEQ), LATER, "deleted", page.id)
        feeds[page.source].publish(told([gone, written]))  # told again, late
        synced(feeds, copy)
        assert page.id not in worlds.State(copy.since()).documents
    database = sqlite3.connect(tmp_path / "a.db")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    left = database.execute("SELECT count(*) FROM chunk WHERE document = ?", (page.id,)).fetchone()
    database.close()
    assert left == (0,)
    assert b"Zanzibar" not in (tmp_path / "a.db").read_bytes()


@pytest.mark.parametrize("source", ["wiki", "directory"])
def test_what_a_source_forgot_with_its_cursors_is_taken_away(tmp_path, source):
    events = [e for e in (*world().firm.events, *world().events) if e.source == source]
    state = worlds.State(events)
    gone = {*sorted({**state.documents, **state.grants, **state.members})[::7], "user:3"}
    access, sunk = Access(":memory:"), []
    with mirror(tmp_path / "a.db", sinks=[access.apply, sunk.extend]) as copy:
        link = Connector(source, "http://127.0.0.1:1", copy)
        link.reader = InProcess(Feed(told(events)))
        link.sync()
        link.reader = InProcess(
            Feed(told(e for e in events if e.subject not in gone), epoch="after the crash")
        )
        at = copy.applied()
        link.sync(pages=4, limit=10)  # a round that is interrupted takes nothing away
        assert copy.since(at) == []
        link.sync(limit=40)
        after = worlds.State(copy.since())
        assert after.documents == {d: x for d, x in state.documents.items() if d not in gone}
        for name in ("grants", "members"):
            was = getattr(state, name)
            assert getattr(after, name) == {n: () if n in gone else was[n] for n in was}
        assert after.active == {u: there and u not in gone for u, there in state.active.items()}
        assert worlds.State(sunk).grants == after.grants
        assert {event.subject for event in copy.since(at)} <= gone
        # what was taken away comes back with its next change, not with what was said before
        at, back = copy.applied(), next(e for e in reversed(events) if e.subject in gone)
        later = dataclasses.replace(back, seq=10**6)
        link.reader = InProcess(Feed(told([*events, later]), epoch="c"))
        link.sync()
        assert [(event.subject, event.seq) for event in copy.since(at)] == [(back.subject, 10**6)]
    access.close()


def test_a_container_that_moves_shuts_what_it_holds_without_a_document_being_told(feeds, tmp_path):
    with mirror(tmp_path / "a.db") as copy:
        synced(feeds, copy)
        before, state = copy.applied(), worlds.State(copy.since())
        page = next(
            state.documents[document]
            for user in sorted(state.active)
            for document in sorted(state.visible(user))
            if len(state.chain(document)) == 4 and not state.grants.get(document)
        )
        shut = [c for c in state.parents if c.startswith(page.source) and not state.grants.get(c)]
        top = next(c for c in shut if not state.parents[c] and c not in state.chain(page.id))
        moved = Event(page.source, next(SEQ), LATER, "container", page.container, top)
        feeds[page.source].publish(told([moved]))
        synced(feeds, copy)
        after = worlds.State(copy.since())
        assert [event.kind for event in copy.since(before)] == ["container"]
        assert after.chain(page.id)[-1] == top != state.chain(page.id)[-1]
        seen = {u for u in state.active if after.may_see(u, page.id)}
        assert seen <= {u for u in state.active if state.may_see(u, page.id)}


# Order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [LANES, LANES[2:]], ids=["urgent first", "one lane"])
def test_at_no_page_of_a_first_sync_does_somebody_see_what_they_may_not(
    faulty, tmp_path, lanes, monkeypatch
):
    import casebook.cases.knowledge_assistant.connectors as module

    monkeypatch.setattr(module, "LANES", lanes)
    users = sorted(final().active)[::3]
    may = {user: final().visible(user) for user in users}
    leaks = 0
    with mirror(tmp_path / "a.db") as copy:
        links = connectors(faulty, copy, budget=QUICK)
        more = True
        while more:
            more = sum(link.sync(pages=1, limit=100) for link in links) > 0
            state = worlds.State(copy.since())
            leaks += sum(len(state.visible(user) - may[user]) for user in users)
        assert same_as_truth(copy)
    assert (leaks == 0) == (lanes == LANES)  # and the test notices a connector without lanes


def test_a_critical_document_and_a_denial_overtake_a_backlog(feeds, tmp_path):
    backlog = 600
    with mirror(tmp_path / "a.db") as copy:
        link = linked("wiki", feeds, copy)
        link.sync()
        page = a_page(copy)
        copies = [
            Event(
                *("wiki", next(SEQ), LATER, "document", f"wiki:d{10**6 + n}"),
                dataclasses.replace(page, id=f"wiki:d{10**6 + n}", body=f"Copy {n}."),
            )
            for n in range(backlog)
        ]
        urgent = dataclasses.replace(page, id="wiki:d5000000", critical=True)
        feeds["wiki"].publish(told(copies))
        denied = (Grant(page.id, "user:1", "deny"),)
        news = [("document", urgent.id, urgent), ("grants", page.id, denied)]
        feeds["wiki"].publish(told(Event("wiki", next(SEQ), LATER, *one) for one in news))
        began = time.monotonic()
        assert link.sync(pages=2) == 2
        assert time.monotonic() - began < 2
        state = worlds.State(copy.since())
        assert urgent.id in state.documents and state.grants[page.id][0].effect == "deny"
        assert copies[-1].subject not in state.documents
        link.sync()
        assert copies[-1].subject in worlds.State(copy.since()).documents


def test_the_store_of_rights_is_told_before_anything_is_embedded(feeds, tmp_path):
    told_of, order = [], []

    class Slow(Hashed):
        def encode(self, texts):
            order.append("embedded")
            return super().encode(texts)

    def sink(events):
        told_of.extend(events)
        order.append("told")

    with mirror(tmp_path / "a.db", embedder=Slow(16), sinks=[sink]) as copy:
        synced(feeds, copy)
        assert order[0] == "told" and "embedded" in order
        assert all(a == "told" for a, b in pairwise(order) if b == "embedded")
        assert worlds.State(told_of).grants == worlds.State(copy.since()).grants != {}

    def failing(events):
        raise OSError("disk full")

    with mirror(tmp_path / "b.db", sinks=[failing]) as copy:
        link = linked("wiki", feeds, copy)
        with pytest.raises(OSError, match="disk full"):
            link.sync()
        assert copy.since() == [] and copy.cursor("wiki", ACCESS) == ""


def test_rights_do_not_wait_while_another_source_embeds(feeds, tmp_path):
    inside, go, told_of = threading.Event(), threading.Event(), []

    class Stuck(Hashed):
        def encode(self, texts):
            inside.set()
            assert go.wait(20)
            return super().encode(texts)

    with mirror(tmp_path / "a.db", embedder=Stuck(16), sinks=[told_of.extend]) as copy:
        links = {name: linked(name, feeds, copy) for name in ("wiki", "chat", "directory")}
        with ThreadPoolExecutor() as pool:
            wiki = pool.submit(links["wiki"].sync)
            assert inside.wait(20)
            chat = pool.submit(links["chat"].sync)
            until = time.monotonic() + 10
            while not any(event.source == "chat" for event in told_of):
                assert time.monotonic() < until, "a denial waits for vectors"
                time.sleep(0.01)
            go.set()
            assert wiki.result(20) and chat.result(20)
        links["directory"].sync()
        state = worlds.State(copy.since())
        truth = {d for d, one in final().documents.items() if one.source == "chat"}
        assert {d for d, one in state.documents.items() if one.source == "chat"} == truth


def test_threads_of_all_sources_end_as_one_after_the_other(faulty, tmp_path):
    with mirror(tmp_path / "one.db") as copy:
        synced(faulty, copy)
        expected = copy.content()
    with mirror(tmp_path / "all.db") as copy, ThreadPoolExecutor(5) as pool:
        links = connectors(faulty, copy, budget=QUICK)
        assert all(pool.map(lambda link: link.sync(limit=50), links))
        assert copy.content() == expected


@pytest.mark.parametrize("seed", range(3))
def test_any_order_and_any_repetition_ends_equal(tmp_path, seed):
    entries = [as_json(event) for event in world().events if event.source == "wiki"]
    contents = []
    for name, shuffled in (("a.db", False), ("b.db", True)):
        rng = random.Random(seed)
        sent = [*entries, *rng.sample(entries, 60)] if shuffled else entries
        if shuffled:
            rng.shuffle(sent)
        with mirror(tmp_path / name) as copy:
            while sent:
                cut = rng.randint(1, 120)
                copy.take("wiki", "all", sent[:cut], "a.0")
                sent = sent[cut:]
            contents.append(copy.content())
    assert contents[0] == contents[1]


def test_lanes_hold_what_is_urgent():
    def lanes(events):
        return [lane for _, lane in told(events)]

    page = next(e for e in world().events if e.kind == "document" and not e.payload.critical)
    urgent = dataclasses.replace(page, payload=dataclasses.replace(page.payload, critical=True))
    moved = dataclasses.replace(
        page, payload=dataclasses.replace(page.payload, container="wiki:c9")
    )
    assert lanes([page, page, moved, page]) == ["", "", ACCESS, ACCESS]
    assert lanes([urgent]) == [CRITICAL]
    others = [event for event in world().events if event.kind != "document"]
    assert set(lanes(others)) == {ACCESS}


# Killed ----------------------------------------------------------------------------------------


def begin(folder):
    path = Path(folder) / f"{os.getpid()}.db"
    for old in Path(folder).glob(f"{path.name}*"):
        old.unlink()
    return path


def work(url, path, passed):
    """Sync, with a point at every tenth statement that writes."""
    with mirror(path) as copy:
        written = count()
        copy._db.set_trace_callback(
            lambda text: passed("write") if "INSERT" in text and next(written) % 10 == 0 else None
        )
        passed(BEGUN)
        synced(url, copy, "wiki", limit=60)


def went_on(url, path):
    with mirror(path) as copy:
        left = synced(url, copy, "wiki", limit=60)[0]
        return copy.content(), left


def whole(url, folder):
    with mirror(folder / "whole.db") as copy:
        synced(url, copy, "wiki", limit=60)
        return copy.content()


def test_a_sync_that_is_killed_goes_on_and_ends_equal(faulty, tmp_path):
    expected = whole(faulty, tmp_path)
    points = [*(("write", n) for n in (1, 10, 17, 24)), 0.5]
    begun = partial(begin, str(tmp_path))
    warm = partial(whole, faulty, tmp_path)
    kills = kill_drill(begun, partial(work, faulty), partial(went_on, faulty), points, warm)
    assert all(kill.killed for kill in kills[:4])
    assert any(kill.left[1] > 0 for kill in kills)
    assert [kill.left[0] == expected for kill in kills] == [True] * len(points)


@pytest.mark.parametrize("planted", [False, True], ids=["as it is", "without transactions"])
def test_a_page_is_written_whole_or_not_at_all(faulty, tmp_path, planted, monkeypatch):
    @contextmanager
    def no_transaction(self):
        yield self._db

    if planted:
        monkeypatch.setattr(Mirror, "_writing", no_transaction)
    replace, calls = Mirror._replace, count(1)

    def fails_once(self, *given):
        if next(calls) == 20:
            raise OSError("disk full")
        replace(self, *given)

    monkeypatch.setattr(Mirror, "_replace", fails_once)
    with mirror(tmp_path / "a.db") as copy, pytest.raises(OSError, match="disk full"):
        synced(faulty, copy, "wiki", limit=60)
    with mirror(tmp_path / "a.db") as copy:
        synced(faulty, copy, "wiki", limit=60)
        found = copy.content()
    assert (found == whole(faulty, tmp_path)) == (not planted)


# The store -------------------------------------------------------------------------------------


def test_a_file_of_another_embedder_is_refused(tmp_path):
    with mirror(tmp_path / "a.db"):
        pass
    with pytest.raises(ValueError, match="take another file"):
        Mirror(tmp_path / "a.db", Hashed(32))
    with pytest.raises(ValueError, match="no source"):
        Connector("mail", "http://127.0.0.1:1", None)


@pytest.mark.parametrize("wrong", [lambda v: v[:-1], lambda v: v * np.nan], ids=["short", "nan"])
def test_a_wrong_embedder_takes_no_text_and_stops_no_right(feeds, tmp_path, wrong):
    class Wrong(Hashed):
        def encode(self, texts):
            return wrong(super().encode(texts))

    access = Access(":memory:")
    with mirror(tmp_path / "a.db", embedder=Wrong(16), sinks=[access.apply]) as copy:
        link = linked("wiki", feeds, copy)
        for _ in range(2):
            with pytest.raises(ValueError, match="embedder"):
                link.sync()
        grant = (Grant("wiki:c1", "user:1", "deny"),)
        news = Event("wiki", next(SEQ), LATER, "grants", "wiki:c1", grant)
        feeds["wiki"].publish(told([news]))
        entries = [entry for entry, _ in told([news])]
        with pytest.raises(ValueError, match="embedder"):
            link.sync()
        assert not access.newer(*news.key, news.seq)  # the right was told of
        copy.take("wiki", "x", entries, "")
        state = worlds.State(copy.since())
        assert state.grants["wiki:c1"] == grant and state.documents == {}
        assert copy.cursor("wiki", "all") == ""
    access.close()


def test_throughput_is_measured_and_the_hour_is_arithmetic(faulty):
    with tempfile.TemporaryDirectory() as folder, mirror(Path(folder) / "a.db") as copy:
        began = time.process_time()
        synced(faulty, copy, limit=500)
        a_second = len(final().documents) / (time.process_time() - began)
    assert a_second > 100
    assert json.dumps(copy.counts["embedded"]) != "0"
    assert index_hours(3600, 2, 10, 1) == pytest.approx(1.2)
