"""The ways out of a desk: search, counts, cache, turns, streams, citations and errors."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import fakeredis
import numpy as np
import pytest

from casebook.cases.knowledge_assistant import desk
from casebook.cases.knowledge_assistant.access import Access
from casebook.cases.knowledge_assistant.desk import QUOTED, UNKNOWN, Desk, NotFound, Quotes
from casebook.cases.knowledge_assistant.library import EXACT, Library
from casebook.cases.knowledge_assistant.records import Document, Event, Grant
from casebook.retrieval.dense import Hashed
from casebook.retrieval.filtered import Router, Visible
from casebook.serving.conversations import RedisShelf, SqliteShelf, _key
from casebook.serving.showing import WITHDRAWN

NOON = np.datetime64("2025-03-01T12:00:00")
PAGE = Document(
    "wiki:d0", "wiki", "A / B", "Per diem", "The rate is 28 euro.", 1, NOON, "user:0", False, ""
)


class Office:
    """Two users in one group, a third outside; five pages in a space of the group, one apart."""

    def __init__(self, router: Router = EXACT, shelf=None) -> None:
        self.now, self.seq = float(NOON.astype(np.int64)), count(1)
        self.access = Access(":memory:", clock=lambda: self.now)
        self.library = Library(self.access, Hashed(32), router=router)
        self.desk = Desk(Quotes(self.library), shelf)
        for i in range(3):
            self.tell("user", f"user:{i}", True)
        self.tell("members", "group:a", ("user:0", "user:1"))
        for i in range(2):
            self.tell("container", f"wiki:c{i}", "")
        self.grant("wiki:c0", ("group:a", "allow"))
        self.grant("wiki:c1", ("user:2", "allow"))
        for i in range(6):
            self.write(i, f"Page {i}: the rate is {20 + i} euro.", int(i == 5))

    def tell(self, kind, subject, payload, settle=True) -> None:
        self.access.apply([Event("wiki", next(self.seq), NOON, kind, subject, payload)])
        if settle:
            self.access.settle()

    def grant(self, resource, *told, settle=True) -> None:
        grants = tuple(Grant(resource, *one) for one in told)
        self.tell("grants", resource, grants, settle)

    def write(self, number: int, body: str, space: int = 0, version: int = 1, **more) -> Document:
        name = f"wiki:d{number}"
        page = replace(PAGE, id=name, body=body, version=version, container=f"wiki:c{space}")
        page = replace(page, **more)
        self.tell("document", name, page)
        self.library.take([page])
        return page

    def found(self, user: str) -> set[str]:
        return {*self.library.signals(user, "What is the rate?", NOON)["document"]}

    def ask(self, user: str, question: str = "rate", conversation: str = "c") -> tuple:
        *_, end = told = [*self.desk.ask(user, conversation, question)]
        return [one["text"] for one in told if one["event"] == "piece"], end

    def kept(self, user: str, question: str = "rate"):
        return self.desk.cache.get(user, self.desk.cache.key(user, question))


@pytest.fixture
def office() -> Office:
    return Office()


INSIDE = {f"wiki:d{i}" for i in range(5)}


@pytest.mark.parametrize("way", ["pre", "post", "graph", "cells"])
def test_each_way_finds_what_may_be_seen_and_nothing_else(way):
    office = Office(Router(rows=0, way=way, effort=64))
    assert office.found("user:0") == office.found("user:1") == INSIDE
    assert office.found("user:2") == {"wiki:d5"} and office.found("user:9") == set()
    office.grant("wiki:d3", ("user:0", "deny"))
    assert office.found("user:0") == INSIDE - {"wiki:d3"} and office.found("user:1") == INSIDE


def test_new_moved_changed_and_deleted_pages_are_seen_at_the_next_request(office):
    office.write(7, "A new rate.")
    assert "wiki:d7" in office.found("user:0")
    page = office.write(7, "A new rate, moved.", space=1, version=2)
    assert "wiki:d7" not in office.found("user:0") and "wiki:d7" in office.found("user:2")
    assert office.library.read("user:2", "wiki:d7") == page
    office.library.drop("wiki:d7")
    assert "wiki:d7" not in office.found("user:2")
    office.library.drop("wiki:d7")  # is gone already
    assert office.library.versions(["wiki:d7", "wiki:d1"]) == [0, 1]


def test_a_mask_is_made_once_for_colleagues_until_something_changes(office, monkeypatch):
    made, of = [], Visible.of
    monkeypatch.setattr(Visible, "of", classmethod(lambda cls, mask: made.append(1) or of(mask)))
    for _ in range(3):
        office.found("user:0"), office.found("user:1")
    assert len(made) == 1
    office.grant("wiki:d0", ("user:1", "deny"))
    office.found("user:0"), office.found("user:1")
    assert len(made) == 2  # that of user:0 is the same as before


def test_counts_are_those_of_the_user(office):
    assert [office.library.count(f"user:{i}", "RATE euro") for i in (0, 1, 2, 9)] == [5, 5, 1, 0]
    assert office.library.count("user:0", "rate 23") == 1
    assert office.library.count("user:0", "zebra") == office.library.count("user:0", "?") == 0
    office.write(1, "Nothing of it.", version=2)
    assert office.library.count("user:0", "rate") == 4


@pytest.mark.parametrize("change", ["grant", "denial", "container", "member"])
def test_an_old_text_is_not_shown_by_a_right_that_came_after_it(office, change):
    """A page with a secret is cleaned, then opened to user:0; its new text comes a moment later."""
    if change == "denial":
        office.grant("wiki:d5", ("user:0", "deny"), ("group:a", "allow"))
    if change == "container":
        office.tell("container", "wiki:c1", "wiki:c9")
    clean = replace(PAGE, id="wiki:d5", body="Clean.", version=2, container="wiki:c1")
    office.tell("document", "wiki:d5", clean, settle=False)
    if change == "grant":
        office.grant("wiki:d5", ("user:0", "allow"), settle=False)
    elif change == "denial":
        office.grant("wiki:d5", ("group:a", "allow"), settle=False)
    elif change == "container":
        office.tell("container", "wiki:c9", "", settle=False)
        office.grant("wiki:c9", ("user:0", "allow"), settle=False)
    else:
        office.grant("wiki:c1", ("group:b", "allow"), settle=False)
        office.tell("members", "group:b", ("user:0",), settle=False)
    assert office.library.read("user:0", "wiki:d5") is None and office.found("user:0") == INSIDE
    office.library.take([clean])
    office.access.settle()
    assert office.library.read("user:0", "wiki:d5") == clean


def test_colleagues_share_an_answer_and_others_do_not(office):
    office.ask("user:0", "What is the rate?")
    assert office.kept("user:1", " what IS the rate ") is not None
    assert office.kept("user:2", "what is the rate") is None
    office.grant("wiki:d4", ("user:1", "deny"))
    assert office.kept("user:1", "what is the rate") is None
    assert office.kept("user:0", "what is the rate") is not None


def test_an_answer_ends_with_its_sources_and_with_what_is_critical(office):
    used = office.ask("user:0")[1]["citations"][0]["document"]
    office.write(int(used[6:]), "A new text.", version=2)
    assert office.kept("user:0") is None and len(office.desk.cache) == 0
    office.ask("user:0")
    office.write(8, "Nothing to do with it."), office.ask("user:0")
    assert office.kept("user:0") is not None
    for version, critical in ((2, False), (3, True)):
        office.write(8, "rate rate", version=version, critical=critical)
        assert (office.kept("user:0") is None) is critical
    office.ask("user:0")
    office.library.drop("wiki:d8")
    assert office.kept("user:0") is None


def test_a_hidden_critical_document_changes_nobody_elses_answer(office):
    office.ask("user:0")
    for version in (1, 2):
        office.write(8, "rate rate", space=1, version=version, critical=True)
        assert office.kept("user:0") is not None
    office.library.drop("wiki:d8")
    assert office.kept("user:0") is not None


@pytest.mark.parametrize("lost_again", [False, True])
def test_a_right_that_is_gained_while_an_answer_is_made_is_in_no_colleagues_count(
    office, lost_again
):
    answer = office.desk.reader.answer

    def slow(*given):
        made = answer(*given)
        office.grant("wiki:c1", ("user:2", "allow"), ("user:0", "allow"))
        return made

    def counted(user, question):
        told = office.library.count(user, question)
        if lost_again:
            office.grant("wiki:c1", ("user:2", "allow"))
        return told

    office.desk.reader.answer, office.desk.counted = slow, counted
    office.ask("user:0")
    del office.desk.reader.answer, office.desk.counted
    assert office.ask("user:1")[1]["count"] == office.library.count("user:1", "rate") == 5


def test_what_is_unknown_is_asked_again_and_not_kept(office):
    assert office.ask("user:9") == ([UNKNOWN.text], office.ask("user:9", "?")[1] | {"turn": 0})
    assert len(office.desk.cache) == 0


@pytest.fixture(params=["sqlite", "redis"])
def shelf(request):
    return SqliteShelf() if request.param == "sqlite" else RedisShelf(fakeredis.FakeRedis())


def test_a_lost_right_reaches_stored_turns(shelf):
    office = Office(shelf=shelf)
    pieces, end = office.ask("user:0")
    shown = lambda: [p.text for p in office.desk.history("user:0", "c")[0].pieces]  # noqa: E731
    assert shown() == pieces
    lost = end["citations"][0]["document"]
    office.grant(lost, ("group:a", "deny"))
    assert shown() == [WITHDRAWN.text, *pieces[1:]]
    assert office.desk.history("user:1", "c") == office.desk.history("user:0", "d") == []
    office.grant(lost)
    assert shown() == pieces


def test_a_stream_ends_when_a_right_is_lost_and_says_nothing_more(office):
    stream = office.desk.ask("user:0", "c", "rate")
    told = [next(stream) for _ in range(2)]
    assert told[1]["event"] == "piece"
    office.tell("user", "user:0", False)
    piece, end = stream
    assert piece["text"] == WITHDRAWN.text
    assert (end["citations"], end["count"]) == ([], 0)


def test_a_count_is_that_of_the_end(office):
    stream = office.desk.ask("user:0", "c", "rate")
    told = [next(stream) for _ in range(1 + QUOTED)]
    shown = {word for one in told[1:] for word in one["text"].split()}
    unused = next(f"wiki:d{i}" for i in range(5) if f"{i}:" not in shown)
    office.grant(unused, ("user:0", "deny"))
    (end,) = stream
    assert end["count"] == 4 and len(end["citations"]) == QUOTED


def test_hidden_deleted_and_never_written_are_one_error(office):
    assert office.desk.open("user:0", "wiki:d0").body.startswith("Page 0")
    office.library.drop("wiki:d1"), office.tell("deleted", "wiki:d1", None)
    told = set()
    for name in ("wiki:d5", "wiki:d1", "wiki:d404", "", "Per diem"):
        with pytest.raises(NotFound) as error:
            office.desk.open("user:0", name)
        told.add(str(error.value))
    assert len(told) == 1 and "diem" not in told.pop()


def test_an_answer_quotes_cites_and_counts_for_the_user_alone(office):
    pieces, end = office.ask("user:0", "rate euro")
    assert len(pieces) == len(end["citations"]) == QUOTED and end["count"] == 5
    assert office.ask("user:1", "rate euro") == (pieces, end)  # from the cache
    assert office.ask("user:2", "rate euro")[1]["count"] == 1
    nobody = office.ask("user:9", "rate euro")
    assert (nobody[1]["citations"], nobody[1]["count"]) == ([], 0)
    assert not any("rate" in line or "diem" in line or "wiki:" in line for line in office.desk.log)


@pytest.mark.parametrize("how", ["deleted", "cut", "cut while it was shown", "deleted before"])
def test_a_text_that_is_gone_leaves_cache_and_turns(shelf, how):
    office = Office(shelf=shelf)
    office.write(0, "The rate of SECRET7 is 20 euro.", version=2)
    stream = office.desk.ask("user:0", "c", "SECRET7 rate")
    told = [next(stream)["event"] for _ in range(2)]
    assert told == ["understood", "piece"]
    if how != "cut while it was shown":
        list(stream)
    if how.startswith("deleted"):
        if how == "deleted before":  # and not told of it: the process was down
            office.library.leaves.pop("wiki:d0")
        office.library.drop("wiki:d0")
    else:
        office.write(0, "The rate is 20 euro.", version=3)
    stream.close()
    kept = str(office.desk.cache._ask("SELECT * FROM answers"))
    turn = str(shelf.read(_key("user:0", "c"), office.now))
    assert "SECRET7 is" not in kept + turn and "SECRET7 rate" in turn
    assert office.desk.history("user:0", "c")[0].pieces[0] == WITHDRAWN


def test_a_text_that_is_saved_as_it_was_stays_in_the_turns(office):
    pieces, end = office.ask("user:0")
    name = end["citations"][0]["document"]
    office.write(int(name[6:]), office.library.leaves[name].document.body, version=2)
    assert [piece.text for piece in office.desk.history("user:0", "c")[0].pieces] == pieces


def test_what_cannot_be_erased_now_is_erased_later(office, monkeypatch):
    office.ask("user:0")
    erase = office.desk.turns.erase
    monkeypatch.setattr(office.desk.turns, "erase", lambda name: 1 / 0)
    for i in range(5):
        office.library.drop(f"wiki:d{i}")
    assert "euro" in str(office.desk.turns.shelf.read(_key("user:0", "c"), office.now))
    monkeypatch.setattr(office.desk.turns, "erase", erase)
    office.desk.tidy()
    assert "euro" not in str(office.desk.turns.shelf.read(_key("user:0", "c"), office.now))


def test_two_answers_at_once_have_two_numbers_and_stand_in_their_order(office):
    first, second = (office.desk.ask("user:0", "c", f"rate {n}") for n in "ab")
    next(first), next(second)
    assert ([*second][-1]["turn"], [*first][-1]["turn"]) == (1, 0)
    turns = office.desk.history("user:0", "c")
    assert [(turn.number, turn.question) for turn in turns] == [(0, "rate a"), (1, "rate b")]


def test_the_log_does_not_grow_without_end(office, monkeypatch):
    monkeypatch.setattr(desk, "LINES", 5)
    for n in range(30):
        office.desk._note("ask", f"user:{n}", "?", [])
    assert 5 <= len(office.desk.log) <= 10 and "user:29" in office.desk.log[-1]
