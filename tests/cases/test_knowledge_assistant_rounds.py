"""Case 18, rounds of the feeds: whoever else takes pages, whatever breaks, nothing leaks or sticks.

A firm of a few documents, told by feeds of this process: ann and bob are in ``group:all``, which
may see the space ``wiki:c1``; ann alone sees ``wiki:c2``.
"""

import dataclasses
import sqlite3
import stat

import numpy as np
import pytest

from casebook.cases.knowledge_assistant import connectors as module
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.connectors import Mirror, connectors, refresh
from casebook.cases.knowledge_assistant.desk import Desk, NotFound, Quotes
from casebook.cases.knowledge_assistant.library import Library
from casebook.cases.knowledge_assistant.records import (
    DIRECTORY,
    SOURCES,
    Document,
    Event,
    Grant,
    as_json,
    moment,
)
from casebook.cases.knowledge_assistant.world.sources import told
from casebook.retrieval.dense import Hashed
from casebook.serving.app import Problem
from casebook.serving.deltas import CursorGone, Feed, FeedDown, Page

AT = moment("2026-01-01")
ANN, BOB = "user:ann", "user:bob"
SALARY, CLEAN = "The salary is 90,000.", "Nothing of interest."


def page(number, body, version=1, container="wiki:c1"):
    source = container.split(":")[0]
    name = f"{source}:d{number}"
    given = (name, source, "p", f"t{number}", body, version, AT, ANN, False, container)
    return Document(*given)


class InProcess:
    """Reads a feed; ``hook`` is called with the lane before every page."""

    def __init__(self, feed):
        self.feed, self.hook, self.asked = feed, lambda lane: None, 0

    def page(self, lane, cursor, limit):
        self.asked += 1
        self.hook(lane)
        try:
            return Page(**self.feed.page(lane, cursor, limit))
        except Problem:
            raise CursorGone from None


class Firm:
    def __init__(self, folder, embedder=None, first=0):
        self.folder, self.now, self.seq, self.at = folder, 1_770_000_000.0, first, 0
        self.feeds, self.places = {one: Feed() for one in (DIRECTORY, *SOURCES)}, {}
        self.embedder = embedder or Hashed(32)
        self.open()
        for user in (ANN, BOB):
            self.tell(DIRECTORY, "user", user, True)
        self.tell(DIRECTORY, "members", "group:all", (ANN, BOB))
        for container, who in (("wiki:c1", "group:all"), ("wiki:c2", ANN), ("chat:c1", ANN)):
            source = container.split(":")[0]
            self.tell(source, "container", container, "")
            self.tell(source, "grants", container, (Grant(container, who, "allow"),))

    def open(self):
        """Begin, or begin again: the texts are read anew."""
        self.access = Access(self.folder / "rights.db", clock=lambda: self.now)
        self.mirror = Mirror(self.folder / "mirror.db", [lambda told: self.access.apply(told)])
        self.links = connectors("http://127.0.0.1:1", self.mirror)
        for link in self.links:
            link.reader.close()
            link.reader = InProcess(self.feeds[link.source])
        self.link = {link.source: link for link in self.links}
        self.library, self.at = Library(self.access, self.embedder), 0
        self.desk = Desk(Quotes(self.library))

    def close(self):
        self.access.close()
        self.mirror.close()

    def tell(self, source, kind, subject, payload):
        self.seq += 1
        event = Event(source, self.seq, AT, kind, subject, payload)
        self.feeds[source].publish(told([event], self.places))
        return event

    def write(self, document):
        self.tell(document.source, "document", document.id, document)

    def send(self, event, lane="access", **fields):
        """Send an entry that is none: an event with other fields."""
        self.seq += 1
        self.feeds[event.source].publish([({**as_json(event), "seq": self.seq, **fields}, lane)])

    def refresh(self, *patience):
        self.at = refresh(self.links, self.library, self.at, *patience)

    def restored(self, source, epoch, change=lambda entry: entry):
        """Let a server lose its cursors; ``change`` says what it now tells, None for nothing."""
        new = [change(entry) for entry in self.feeds[source]._lanes["all"]]
        entries = [(one, "" if one["kind"] == "document" else "access") for one in new if one]
        self.feeds[source] = self.link[source].reader.feed = Feed(entries, epoch)

    def reads(self, user, document="wiki:d1"):
        found = self.library.read(user, document)
        return found and found.body

    def hook(self, do, nth):
        """Do something before the n-th page that is asked for, once."""
        left = [nth]

        def before(lane):
            left[0] -= 1
            if left[0] == 0:
                do()

        for link in self.links:
            link.reader.hook = before
        return left


@pytest.fixture
def firm(tmp_path):
    made = Firm(tmp_path)
    yield made
    made.close()


# One order: rights, texts, rights, show ----------------------------------------------------------


def test_a_text_is_not_shown_to_whoever_lost_the_right_before_it_was_written(firm):
    """The directory is read first: bob leaves, and then the salary is written."""
    firm.write(page(1, CLEAN))
    firm.refresh()

    def leaves():
        firm.tell(DIRECTORY, "members", "group:all", (ANN,))
        firm.write(page(1, SALARY, 2))

    for nth in range(1, 60):
        left = firm.hook(leaves, nth)
        firm.refresh()
        assert firm.reads(BOB) != SALARY, nth
        firm.hook(lambda: None, 0)
        firm.refresh()
        assert firm.reads(ANN) == (SALARY if left[0] <= 0 else CLEAN)
        firm.tell(DIRECTORY, "members", "group:all", (ANN, BOB))
        firm.write(page(1, CLEAN, 3))
        firm.refresh()
        assert firm.reads(BOB) == CLEAN
        if left[0] > 0:
            break
    assert 20 < nth < 59  # after every request that a round makes


def test_the_rights_are_read_once_more_after_the_last_text_whoever_took_it(firm, monkeypatch):
    firm.write(page(1, CLEAN))
    firm.refresh()
    news = firm.mirror.news

    def late(*given):
        monkeypatch.setattr(firm.mirror, "news", news)
        firm.tell(DIRECTORY, "members", "group:all", (ANN,))
        firm.write(page(1, SALARY, 2))
        firm.link["wiki"].sync()  # by another thread, which does not read the directory
        return news(*given)

    monkeypatch.setattr(firm.mirror, "news", late)
    firm.refresh()
    assert firm.reads(ANN) == SALARY and firm.reads(BOB) is None


def test_a_loss_does_not_wait_for_the_backlog_of_another_source(firm):
    firm.write(page(1, SALARY))
    firm.refresh()
    for number in range(100, 1500):
        firm.write(page(number, "a page of the backlog"))
    seen, gone = [], iter([firm.tell])

    def hook(lane):
        if lane == "all":
            for tell in gone:
                tell(DIRECTORY, "user", BOB, False)
            seen.append(firm.reads(BOB) is not None)

    firm.link["wiki"].reader.hook = hook
    firm.refresh()
    assert len(seen) > 6 and not any(seen[1:])


def share(firm):
    """Clean the page of the closed space, then share it; another thread takes both."""
    firm.write(page(1, CLEAN, 2, "wiki:c2"))
    firm.tell("wiki", "grants", "wiki:d1", (Grant("wiki:d1", BOB, "allow"),))
    firm.write(page(2, CLEAN))
    firm.link["wiki"].sync()


def between(firm, monkeypatch, point):
    """Let another thread come at a point of the next round; return what counts down to 0."""
    if isinstance(point, int):
        return firm.hook(lambda: share(firm), point)
    owner = firm.mirror if point in ("news", "applied") else firm.access
    real, left = getattr(owner, point), [1]

    def then(*given):
        if point == "settle" and left[0]:
            left[0] -= 1
            share(firm)
        made = real(*given)
        if left[0]:
            left[0] -= 1
            share(firm)
        return made

    monkeypatch.setattr(owner, point, then)
    return left


POINTS = [*range(1, 60, 3), "news", "heard", "settle", "fed_by"]


@pytest.mark.parametrize("point", POINTS)
def test_another_thread_that_takes_pages_in_a_round_shows_nothing_old_and_loses_nothing(
    firm, monkeypatch, point
):
    firm.write(page(1, SALARY, 1, "wiki:c2"))
    firm.refresh()
    assert firm.reads(ANN) == SALARY and firm.reads(BOB) is None
    left = between(firm, monkeypatch, point)
    firm.refresh()
    assert firm.reads(BOB) in (None, CLEAN)
    firm.hook(lambda: None, 0)
    if left[0] > 0:
        assert isinstance(point, int) and point > 30  # the round had fewer requests
        share(firm)
    firm.refresh()
    firm.refresh()
    assert firm.reads(BOB) == CLEAN and firm.reads(ANN, "wiki:d2") == CLEAN


class SettlesAll(Access):
    """What was heard in the meantime is settled too."""

    def settle(self, upto=None, but=()):
        return super().settle(None, but)


def test_the_test_of_another_thread_finds_what_settles_more_than_was_stored(firm, monkeypatch):
    firm.access.__class__ = SettlesAll
    firm.write(page(1, SALARY, 1, "wiki:c2"))
    firm.refresh()
    between(firm, monkeypatch, "news")
    firm.refresh()
    assert firm.reads(BOB) == SALARY


def test_texts_of_a_source_that_broke_off_wait_for_the_rest_of_them(firm):
    """Some of its texts are in the copy, by a fast lane, and others of the same save are not."""
    firm.write(page(1, CLEAN))
    firm.refresh()
    firm.write(dataclasses.replace(page(2, "critical"), critical=True))
    firm.write(page(1, SALARY, 2))

    def hook(lane):
        if lane == "all":
            raise FeedDown

    firm.link["wiki"].reader.hook = hook
    firm.refresh()
    assert {one.subject for one in firm.mirror.since()} >= {"wiki:d2"}
    assert sorted(firm.library.leaves) == ["wiki:d1"]
    assert firm.mirror.troubles() == {"wiki": "does not answer: FeedDown"}
    assert min(firm.mirror.lags(SOURCES).values()) < firm.mirror.lags(["wiki"])["wiki"]
    firm.hook(lambda: None, 0)
    firm.refresh()
    assert firm.reads(ANN, "wiki:d2") == "critical" and not firm.mirror.troubles()


def test_rounds_note_when_rights_and_texts_were_read_to_their_end(firm):
    """A hook on a source's pages moves the clock; the lag counts from before that reading."""
    library, begun = firm.library, firm.now
    firm.write(page(1, CLEAN))
    seen = []

    def hook(lane):
        firm.now += 1
        seen.append(library.rights_lags.seconds()["wiki"])
        if lane == "all":
            raise FeedDown

    firm.link["wiki"].reader.hook = hook
    firm.refresh()
    texts, rights = library.lags.seconds(), library.rights_lags.seconds()
    assert {*texts} == {*rights} == {DIRECTORY, *SOURCES}
    assert texts["wiki"] is None and None not in [*rights.values()]
    assert seen[0] is None and 0 < rights["wiki"] <= 3  # though its texts broke off
    assert 0 <= rights["chat"] <= texts["chat"] <= firm.now - begun
    firm.hook(lambda: None, 0)
    firm.refresh()
    assert library.lags.seconds() == dict.fromkeys(texts, 0.0)
    firm.now += 100
    firm.link["wiki"].reader.hook = lambda lane: 1 / 0
    firm.refresh()
    assert library.lags.seconds()["wiki"] == library.rights_lags.seconds()["wiki"] == 100
    assert library.lags.seconds()["chat"] == library.rights_lags.seconds()["chat"] == 0
    firm.link[DIRECTORY].reader.hook = lambda lane: 1 / 0  # nothing is stored then
    firm.now += 10
    firm.refresh()
    assert library.lags.seconds()["chat"] == 10 and library.rights_lags.seconds()["chat"] == 0


def test_while_a_backlog_is_read_the_rights_of_its_source_stay_fresh(firm):
    """Each page takes a second, 60 of them in one lane: rights lag by a few, texts by all."""
    for number in range(1, 61):
        firm.write(page(number, CLEAN))
    worst, wiki = [0.0], firm.link["wiki"]

    def hook(lane):
        firm.now += 1
        worst[0] = max(worst[0], firm.library.rights_lags.seconds().get("wiki") or 0)

    for link in firm.links:
        link.reader.hook = hook
    read, wiki.reader.page = wiki.reader.page, lambda lane, cursor, limit: read(lane, cursor, 1)
    firm.refresh()
    assert len(firm.library.leaves) == 60 and worst[0] < 30 < firm.now - 1_770_000_000
    assert firm.library.rights_lags.seconds()["wiki"] < 30


def test_a_source_that_is_silent_for_long_is_hidden_and_the_others_go_on(firm):
    """Bob gains a group while the wiki is down, where a page may have been cleaned for that."""
    firm.write(page(1, SALARY, 1, "wiki:c2"))
    firm.tell("wiki", "grants", "wiki:c2", (Grant("wiki:c2", "group:new", "allow"),))
    firm.tell("chat", "grants", "chat:c1", (Grant("chat:c1", "group:new", "allow"),))
    firm.write(page(1, CLEAN, 1, "chat:c1"))
    firm.tell(DIRECTORY, "members", "group:new", (ANN,))
    firm.refresh()
    assert firm.reads(ANN) == SALARY and firm.reads(BOB, "chat:d1") is None
    firm.write(page(1, CLEAN, 2, "wiki:c2"))
    firm.tell(DIRECTORY, "members", "group:new", (ANN, BOB))
    firm.link["wiki"].reader.hook = lambda lane: 1 / 0
    firm.refresh()
    assert firm.reads(ANN) == SALARY and firm.reads(BOB, "chat:d1") is None
    firm.refresh(0.0)
    assert firm.reads(ANN) is None and firm.reads(BOB) is None
    assert firm.reads(BOB, "chat:d1") == CLEAN
    firm.hook(lambda: None, 0)
    firm.refresh()
    assert firm.reads(ANN) == firm.reads(BOB) == CLEAN and not firm.access.silent


def test_while_the_directory_is_down_no_text_comes_and_losses_do(firm):
    firm.write(page(1, CLEAN))
    firm.refresh()
    firm.write(page(1, SALARY, 2))
    firm.tell("wiki", "grants", "wiki:d1", (Grant("wiki:d1", BOB, "deny"),))
    firm.link[DIRECTORY].reader.hook = lambda lane: 1 / 0
    firm.refresh()
    assert firm.reads(ANN) == CLEAN and firm.reads(BOB) is None


# Entries that are none ---------------------------------------------------------------------------


def test_what_a_bad_entry_speaks_of_is_hidden_until_a_good_one_comes(firm):
    firm.write(page(1, "plan"))
    firm.write(page(2, "other"))
    firm.refresh()
    moved = Event("wiki", 0, AT, "document", "wiki:d1", page(1, SALARY, 2, "wiki:c2"))
    payload = {**as_json(moved)["payload"], "path": "p" * 401}
    firm.send(moved, payload=payload)
    firm.refresh()
    assert firm.reads(ANN) is None and firm.reads(BOB) is None and firm.reads(BOB, "wiki:d2")
    assert "wiki:d1" not in firm.library.leaves
    firm.write(page(1, CLEAN, 3))
    firm.refresh()
    assert firm.reads(BOB) == CLEAN
    grants = Event("wiki", 0, AT, "grants", "wiki:c1", (Grant("wiki:c1", ANN, "allow"),))
    firm.send(grants, payload=[[ANN, "allow"], ["user:Ann.Müller", "allow"]])
    firm.refresh()
    assert firm.reads(ANN) is None and firm.reads(BOB) is None
    firm.tell("wiki", "grants", "wiki:c1", grants.payload)
    firm.refresh()
    assert firm.reads(ANN) == CLEAN and firm.reads(BOB) is None
    told_ = firm.mirror.troubles()
    assert told_ == {"wiki (entries)": "2 are no events; what they speak of is hidden"}


def test_a_group_that_cannot_be_read_gives_nothing_and_takes_from_everybody(firm):
    firm.write(page(1, CLEAN))
    firm.write(page(2, CLEAN, 1, "wiki:c2"))
    firm.tell(DIRECTORY, "members", "group:out", (BOB,))
    firm.tell("wiki", "grants", "wiki:d2", (Grant("wiki:d2", "group:out", "deny"),))
    firm.refresh()
    assert firm.reads(BOB) and firm.reads(ANN, "wiki:d2")
    for group in ("group:all", "group:out"):  # ann may have been put into the second
        members = Event(DIRECTORY, 0, AT, "members", group, (ANN, BOB))
        firm.send(members, payload=[ANN, "svc:backup"])
    firm.refresh()
    assert firm.reads(BOB) is None and firm.reads(ANN, "wiki:d2") is None
    for group, who in (("group:all", (ANN, BOB)), ("group:out", (BOB,))):
        firm.tell(DIRECTORY, "members", group, who)
    firm.refresh()
    assert firm.reads(BOB) and firm.reads(ANN, "wiki:d2")
    firm.send(Event(DIRECTORY, 0, AT, "user", ANN, False), payload="gone")
    firm.refresh()
    assert firm.reads(ANN) is None and firm.reads(BOB)


def test_no_entry_stops_others_nor_is_its_text_kept(firm):
    secret = "salary of ann is 90,000"
    event = Event("wiki", 0, AT, "document", "wiki:d7", page(7, secret))
    payload = as_json(event)["payload"]
    for fields in (
        {"kind": ["document"]},
        {"kind": secret},
        {"payload": {**payload, "version": 2**63}},
        {"payload": {**payload, "version": True, "owner": secret}},
        {"seq": 2**60},
        {"kind": "container", "subject": "wiki:c7", "payload": secret},
        {"kind": "grants", "subject": "wiki:c7", "payload": [[secret, "allow"]]},
        {"kind": "grants", "subject": "wiki:c7", "payload": [[ANN, {}]]},
        {"subject": {}},
        {"at": secret},
        {secret: 1},
    ):
        firm.send(event, **fields)
    firm.feeds["wiki"].publish([(one, "access") for one in (None, 3, [secret], secret)])
    firm.write(page(1, CLEAN))
    firm.write(page(1, CLEAN, 1, "chat:c1"))
    firm.refresh()
    assert firm.reads(BOB) == CLEAN and firm.reads(ANN, "chat:d1") == CLEAN
    assert len(firm.mirror.aside()) == 15 and not firm.mirror.failed
    assert "90,000" not in str(firm.mirror.aside())


def test_a_text_that_the_embedder_refuses_stops_no_other_and_hides_what_it_replaced(tmp_path):
    class Refuses(Hashed):
        def encode(self, texts):
            if any("token" in text for text in texts):
                raise ValueError("too many tokens")
            return super().encode(texts)

    firm = Firm(tmp_path, Refuses(32))
    firm.write(page(1, SALARY, 1, "wiki:c2"))
    firm.refresh()
    firm.write(page(1, "a token", 2, "wiki:c2"))
    firm.tell("wiki", "grants", "wiki:d1", (Grant("wiki:d1", BOB, "allow"),))
    for number in range(2, 9):
        firm.write(page(number, CLEAN))
    firm.write(page(1, CLEAN, 1, "chat:c1"))
    for _ in range(2):
        firm.refresh()
        assert firm.reads(BOB) is None and firm.reads(ANN) is None
        assert all(firm.reads(BOB, f"wiki:d{number}") for number in range(2, 9))
        assert firm.reads(ANN, "chat:d1") and [*firm.mirror.unstored] == ["wiki:d1"]
        told_ = {"wiki (texts, ValueError)": "1 cannot be stored and are hidden"}
        assert firm.mirror.troubles() == told_
    firm.write(page(1, CLEAN, 3, "wiki:c2"))
    firm.refresh()
    assert firm.reads(BOB) == CLEAN and not firm.mirror.unstored
    firm.close()


# Servers that lose or repeat things --------------------------------------------------------------


@pytest.mark.parametrize("lane", ["access", "all"])
def test_a_cursor_of_one_lane_that_is_lost_takes_nothing_away(firm, lane):
    for number in range(5):
        firm.write(page(number, CLEAN))
    firm.refresh()
    firm.mirror._db.execute(
        "UPDATE cursor SET cursor = 'a.99' WHERE source = 'wiki' AND lane = ?", (lane,)
    )
    firm.refresh()
    firm.write(page(9, CLEAN))
    firm.refresh()
    assert all(firm.reads(BOB, f"wiki:d{number}") for number in (*range(5), 9))
    assert not firm.mirror.in_round("wiki")


def test_a_kill_before_the_end_of_a_round_is_made_good_by_the_next(firm, monkeypatch):
    for number in (1, 2):
        firm.write(page(number, CLEAN))
    firm.refresh()
    firm.restored("wiki", "b", lambda entry: entry if entry["subject"] != "wiki:d2" else None)

    def killed(source):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(firm.mirror, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            firm.links[1].sync()
    assert firm.mirror.in_round("wiki")
    firm.refresh()
    assert firm.reads(ANN, "wiki:d2") is None and firm.reads(ANN) == CLEAN
    assert not firm.mirror.in_round("wiki")


def test_many_lost_cursors_of_a_server_with_large_numbers(tmp_path):
    firm = Firm(tmp_path, first=1_767_225_600_000_000)  # microseconds
    for number in range(1, 30):
        firm.write(page(1, f"text {number}", number))
        firm.refresh()
        assert firm.reads(BOB) == f"text {number}"
        firm.restored("wiki", f"e{number}")
    firm.mirror._db.execute("UPDATE state SET seq = ? WHERE source = 'wiki'", (2**63 - 2**53,))
    firm.write(page(1, SALARY, 1, "chat:c1"))
    firm.refresh()  # no number is left: an error of this source alone
    assert firm.mirror.failed == {"wiki": "OverflowError"}
    assert firm.library.leaves["chat:d1"].document.body == SALARY
    firm.close()


@pytest.mark.parametrize("kind", ["gone", "same page", "two pages", "bug"])
def test_a_server_that_never_comes_to_an_end_stops_nobody_else(firm, kind):
    class Broken:
        asked = 0

        def page(self, lane, cursor, limit):
            self.asked += 1
            if kind == "gone":
                raise CursorGone
            if kind == "bug":
                raise KeyError(SALARY)
            place = f"a.{self.asked % 2 if kind == 'two pages' else 1}"
            entries = [as_json(Event("drive", 3, AT, "container", "drive:c1", ""))]
            return Page(entries, place, True) if lane == "all" else Page([], "a.1", False)

    firm.write(page(1, CLEAN))
    firm.write(page(1, CLEAN, 1, "chat:c1"))
    firm.link["drive"].reader = broken = Broken()
    firm.refresh()
    assert firm.reads(BOB) is None  # a gain of the directory waits for the source
    firm.refresh(0.0)
    assert firm.reads(BOB) == CLEAN and firm.reads(ANN, "chat:d1") == CLEAN
    assert broken.asked < 60 and [*firm.mirror.failed] == ["drive"]
    assert SALARY not in str(firm.mirror.troubles())


# Editions ----------------------------------------------------------------------------------------


def test_a_restored_server_with_lower_versions_is_shown(firm):
    firm.write(page(1, "five", 5))
    firm.refresh()

    def four(entry):
        document = entry["kind"] == "document"
        return (
            {**entry, "payload": entry["payload"] | {"version": 4, "body": "four"}}
            if (document)
            else entry
        )

    firm.restored("wiki", "b", four)
    firm.refresh()
    assert firm.reads(ANN) == "four" and firm.library.count(ANN, "four") == 1
    assert firm.library.leaves["wiki:d1"].document.told == 4


@pytest.mark.parametrize("version", [1, 5, 6])
def test_a_page_that_was_deleted_and_written_again_shows_nothing_of_the_first(firm, version):
    firm.write(page(1, SALARY, 5))
    firm.refresh()
    assert [*firm.desk.ask(ANN, "c", "salary")][-1]["citations"]
    firm.tell("wiki", "deleted", "wiki:d1", None)
    firm.write(page(1, "A page about no salary.", version))
    for link in firm.links:
        link.sync()  # the feeds are read, and the text is not stored yet
    with pytest.raises(NotFound):
        firm.desk.open(ANN, "wiki:d1")
    firm.refresh()
    turns = " ".join(one.text for one in firm.desk.history(ANN, "c")[0].pieces)
    again = " ".join(one.get("text", "") for one in firm.desk.ask(ANN, "d", "salary"))
    assert "90,000" not in turns and "90,000" not in again
    assert firm.reads(ANN) == "A page about no salary."


# Files -------------------------------------------------------------------------------------------


def test_while_a_loss_cannot_be_written_nobody_sees_anything(firm):
    firm.write(page(1, CLEAN))
    firm.refresh()
    firm.access._db.execute("PRAGMA query_only = ON")  # as a full disk
    firm.tell("wiki", "grants", "wiki:c1", (Grant("wiki:c1", ANN, "allow"),))
    firm.refresh()
    assert firm.mirror.failed["wiki"] == "OperationalError"
    assert firm.reads(ANN) is None and firm.reads(BOB) is None
    firm.access._db.execute("PRAGMA query_only = OFF")
    firm.tell("chat", "container", "chat:c9", "")
    firm.link["chat"].sync()  # something else can be written: it stays shut
    assert firm.access.shut and firm.reads(ANN) is None
    firm.refresh()
    assert firm.reads(ANN) == CLEAN and firm.reads(BOB) is None


def test_rights_that_are_lost_are_made_anew_and_halves_are_refused(tmp_path):
    firm = Firm(tmp_path)
    firm.write(page(1, SALARY, 1, "wiki:c2"))
    firm.refresh()
    firm.write(page(1, CLEAN, 2, "wiki:c1"))  # moved: the first edition is hidden from now on
    firm.refresh()
    edition = firm.library.versions(["wiki:d1"])
    firm.close()
    for path in tmp_path.glob("rights.db.settled*"):
        path.unlink()
    with pytest.raises(ValueError, match="do not belong together"):
        Access(tmp_path / "rights.db")
    for path in tmp_path.glob("rights.db*"):
        path.unlink()
    firm.open()
    assert not firm.access.sees(ANN, ["wiki:d1"]).any()
    firm.refresh()
    assert firm.reads(BOB) == CLEAN and firm.library.versions(["wiki:d1"]) == edition
    assert firm.access.shows(BOB, [("wiki:d1", edition[0]), ("wiki:d1", 1)]).tolist()[0]
    firm.close()
    for path in tmp_path.glob("mirror.db*"):
        path.unlink()
    firm.open()
    with pytest.raises(ValueError, match="another copy"):
        firm.refresh()
    firm.close()


def test_the_copy_is_its_owners_alone_and_keeps_no_replaced_text(firm):
    firm.write(page(1, SALARY))
    firm.refresh()
    firm.write(page(1, CLEAN, 2))
    firm.refresh()
    for path in firm.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        assert b"90,000" not in path.read_bytes(), path.name


def test_two_rounds_at_once_are_one_after_the_other(firm, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    inside, most, store = [], [], module._store

    def counted(*given):
        inside.append(1)
        most.append(len(inside))
        store(*given)
        inside.pop()

    monkeypatch.setattr(module, "_store", counted)
    for number in range(40):
        firm.write(page(number, CLEAN))
    with ThreadPoolExecutor(4) as pool:
        ends = [*pool.map(lambda _: refresh(firm.links, firm.library), range(4))]
    assert max(most) == 1 and len(set(ends)) == 1
    assert len(firm.library.chunks) == 40  # nothing is stored twice


def test_a_store_that_cannot_be_read_is_an_error_and_not_a_permission(firm):
    firm.access.close()
    with pytest.raises(sqlite3.Error):
        firm.access.sees(ANN, ["wiki:d1"])
    firm.open()
    assert np.array_equal(firm.access.sees(ANN, ["wiki:d1"]), [False])
