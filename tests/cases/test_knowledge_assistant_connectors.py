"""Case 18, connectors: the copy is equal to the sources, whatever servers and machine do."""

import dataclasses
import os
import random
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.connectors import (
    Connector,
    Mirror,
    connectors,
    index_hours,
    refresh,
)
from casebook.cases.knowledge_assistant.library import Library
from casebook.cases.knowledge_assistant.records import Event, Grant, as_json, moment
from casebook.cases.knowledge_assistant.world.sources import ACCESS, CRITICAL, told
from casebook.llm.timing import Budget
from casebook.retrieval.dense import Hashed
from casebook.retrieval.kept_vectors import KeptVectors
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
    made = Mirror(path, **more)
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


# What changes ----------------------------------------------------------------------------------


def a_page(copy, critical=False):
    for event in copy.since():
        if event.kind == "document" and event.payload.critical == critical:
            return event.payload
    raise LookupError


def test_a_deleted_document_leaves_no_text_and_does_not_come_back(feeds, tmp_path):
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
    database.close()
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
        link.sync(pages=4, limit=10)  # a round that is interrupted takes nothing away
        now = worlds.State(copy.since())
        assert {*now.documents} >= {*state.documents}
        link.sync(limit=40)
        after = worlds.State(copy.since())
        assert after.documents == {d: x for d, x in state.documents.items() if d not in gone}
        for name in ("grants", "members"):
            was = getattr(state, name)
            assert getattr(after, name) == {n: () if n in gone else was[n] for n in was}
        assert after.active == {u: there and u not in gone for u, there in state.active.items()}
        assert worlds.State(sunk).grants == after.grants
        # what was taken away comes back with its next change, also of a server whose numbers
        # begin anew, as those of one that was restored from a copy do
        back = next(e for e in reversed(events) if e.subject in gone)
        lower = [dataclasses.replace(e, seq=n) for n, e in enumerate([*events[:40], back])]
        link.reader = InProcess(Feed(told(lower), epoch="restored"))
        link.sync()
        restored = worlds.State(lower)
        kept = worlds.State(copy.since())
        assert kept.documents == restored.documents and kept.active == {
            user: restored.active.get(user, False) for user in state.active
        }
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
    """Sync, with a point at every fourth statement that writes."""
    with mirror(path) as copy:
        written = count()
        copy._db.set_trace_callback(
            lambda text: passed("write") if "INSERT" in text and next(written) % 4 == 0 else None
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


# The store -------------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", [False, True], ids=["as it is", "without transactions"])
def test_a_page_is_written_whole_or_not_at_all(faulty, tmp_path, planted, monkeypatch):
    @contextmanager
    def no_transaction(self):
        yield self._db

    if planted:
        monkeypatch.setattr(Mirror, "_writing", no_transaction)
    keep, calls, before = Mirror._keep, count(1), []

    def fails_once(self, events):
        before.append(self.applied())
        keep(self, events[: len(events) // 2] if (broken := next(calls) == 5) else events)
        if broken:
            raise OSError("disk full")

    monkeypatch.setattr(Mirror, "_keep", fails_once)
    with mirror(tmp_path / "a.db") as copy:
        with pytest.raises(OSError, match="disk full"):
            synced(faulty, copy, "wiki", limit=60)
        assert (copy.applied() == before[-1]) == (not planted)
        synced(faulty, copy, "wiki", limit=60)
        assert copy.content() == whole(faulty, tmp_path)


# Rights and texts ------------------------------------------------------------------------------


class Firm:
    """A library that is kept up to date from feeds of this process."""

    def __init__(self, feeds, path, embedder=None):
        self.access, self.feeds = Access(":memory:"), feeds
        self.copy = Mirror(path, sinks=[self.access.apply])
        given = KeptVectors(Hashed(16)) if embedder is None else embedder
        self.library = Library(self.access, given)
        order = ("directory", "wiki", "drive", "chat", "tickets")
        self.links, self.at = [linked(one, feeds, self.copy) for one in order], 0

    def refresh(self):
        self.at = refresh(self.links, self.library, self.at)

    def happens(self, page, *told_):
        events = (Event(page.source, next(SEQ), LATER, *one) for one in told_)
        self.feeds[page.source].publish(told(events, {page.id: page.container}))


def test_rights_and_search_that_are_fed_agree_with_the_truth(feeds, tmp_path):
    firm = Firm(feeds, tmp_path / "a.db")
    for link in firm.links:
        while link.sync(pages=1, limit=100):  # nobody sees anything before the end of the round
            assert not firm.access.sees("user:1", list(final().documents)).any()
    firm.refresh()
    for user in final().active:
        names = sorted(final().documents)
        seen = {n for n, may in zip(names, firm.access.sees(user, names), strict=True) if may}
        assert seen == final().visible(user)
        assert len(firm.library.visible(user).rows) >= len(seen)
    stored = {name: leaf.document.as_told() for name, leaf in firm.library.leaves.items()}
    assert stored == final().documents


def test_a_page_that_is_cleaned_and_then_shared_is_not_shown_as_it_was(feeds, tmp_path):
    firm = Firm(feeds, tmp_path / "a.db")
    firm.refresh()
    page, user = next(
        (page, user)
        for page in final().documents.values()
        for user in sorted(final().active)
        if final().active[user] and not final().may_see(user, page.id)
        if not any(g.effect == "deny" for g in final()._granted[page.id])
    )
    link = next(one for one in firm.links if one.source == page.source)
    clean = dataclasses.replace(page, body="Nothing to hide.", version=page.version + 1)
    firm.happens(page, ("document", page.id, clean))
    firm.happens(page, ("grants", page.id, (Grant(page.id, user, "allow"),)))
    link.sync(pages=1)  # the grant is here, the text is not
    assert worlds.State(firm.copy.since()).may_see(user, page.id)
    assert firm.library.read(user, page.id) is None
    firm.refresh()
    assert firm.library.read(user, page.id).as_told() == clean
    firm.happens(page, ("grants", page.id, ()))
    link.sync(pages=1)
    assert firm.library.read(user, page.id) is None  # what is lost is lost at once


def test_a_move_and_a_save_cost_no_vector_and_a_deletion_takes_its_own(feeds, tmp_path):
    embedder = KeptVectors(Hashed(16), tmp_path / "vectors.db")
    firm = Firm(feeds, tmp_path / "a.db", embedder)
    firm.refresh()
    assert embedder.counts["embedded"] > 200
    page, before = a_page(firm.copy), embedder.counts["embedded"]
    saved = dataclasses.replace(page, version=page.version + 1, modified=LATER, path="elsewhere")
    firm.happens(page, ("document", page.id, saved))
    firm.refresh()
    assert embedder.counts["embedded"] == before
    assert firm.library.leaves[page.id].document.as_told() == saved
    edited = dataclasses.replace(saved, body="One more line, and no other.", version=99)
    firm.happens(page, ("document", page.id, edited))
    firm.refresh()
    assert 1 <= embedder.counts["embedded"] - before <= 2
    text = firm.library.chunks[-1].indexed
    firm.happens(page, ("deleted", page.id))
    firm.refresh()
    assert embedder.forget([text]) == 0 and page.id not in firm.library.leaves


def test_what_is_lost_while_a_backlog_is_embedded_is_lost_at_once(feeds, tmp_path):
    firm = Firm(feeds, tmp_path / "a.db")
    firm.refresh()
    page = a_page(firm.copy)
    user = next(u for u in final().active if final().may_see(u, page.id))
    for n in range(100):
        copied = dataclasses.replace(page, id=f"{page.source}:d{10**6 + n}", body=f"Copy {n}.")
        firm.happens(page, ("document", copied.id, copied))
    inner, seen = firm.library.embedder.embedder, []

    def encode(texts):
        if not seen:
            firm.happens(page, ("grants", page.id, (Grant(page.id, user, "deny"),)))
        seen.append(firm.library.read(user, page.id) is not None)
        return Hashed(16).encode(texts)

    inner.encode = encode
    firm.refresh()
    assert seen[0] and not any(seen[1:]) and len(seen) >= 3
    assert firm.library.read(user, f"{page.source}:d{10**6 + 99}") is not None


def test_a_source_that_is_down_stops_its_own_texts_and_gains_alone(feeds, tmp_path):
    firm = Firm(feeds, tmp_path / "a.db")
    firm.refresh()
    pages = {page.source: page for page in final().documents.values()}
    user = next(u for u, there in sorted(final().active.items()) if there)
    for page in pages.values():
        news = dataclasses.replace(page, body="News.", version=99)
        firm.happens(page, ("document", page.id, news))
        firm.happens(page, ("grants", page.container, (Grant(page.container, user, "allow"),)))
    wiki = next(link for link in firm.links if link.source == "wiki")
    at, page, sound = firm.at, wiki.reader.page, lambda name: pages[name].id

    def breaks(lane, cursor, limit):
        if lane != ACCESS:
            raise FeedDown("wiki")
        return page(lane, cursor, limit)  # its rights have come, its texts have not

    wiki.reader.page = breaks
    firm.refresh()
    body = {name: firm.library.leaves[sound(name)].document.body for name in pages}
    assert body.pop("wiki") != "News." and set(body.values()) == {"News."} and firm.at == at
    rows = len(firm.library.chunks)
    firm.refresh()
    assert len(firm.library.chunks) == rows  # nothing is stored twice
    now = worlds.State(firm.copy.since())
    for name in pages:
        may = now.may_see(user, sound(name))
        assert may or name != "chat"
        seen = firm.library.read(user, sound(name)) is not None
        assert seen == (may if name != "wiki" else final().may_see(user, sound(name)) and may)
    wiki.reader.page = page
    firm.refresh()
    assert firm.library.leaves[sound("wiki")].document.body == "News." and firm.at > at


def test_an_embedder_that_fails_stops_no_loss(feeds, tmp_path):
    firm = Firm(feeds, tmp_path / "a.db")
    firm.refresh()
    page = a_page(firm.copy)
    user = next(u for u in final().active if final().may_see(u, page.id))
    clean = dataclasses.replace(page, body="Another text.", version=99)
    firm.happens(page, ("grants", page.id, (Grant(page.id, user, "deny"),)))
    firm.happens(page, ("document", page.id, clean))
    inner = firm.library.embedder.embedder
    inner.encode = lambda texts: np.full((len(texts), 16), np.nan)
    with pytest.raises(ValueError, match="embedder"):
        firm.refresh()
    assert firm.library.read(user, page.id) is None
    del inner.encode
    firm.refresh()
    assert firm.library.leaves[page.id].document.as_told() == clean


def test_an_unknown_source_is_an_error_and_the_hour_is_arithmetic():
    with pytest.raises(ValueError, match="no source"):
        Connector("mail", "http://127.0.0.1:1", None)
    assert index_hours(3600, 2, 10, 1) == pytest.approx(1.2)
