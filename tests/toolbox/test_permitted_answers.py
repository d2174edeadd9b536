"""Answers under the rights of their readers: keys, the second question, versions and time."""

from __future__ import annotations

import pytest

from casebook.serving.permitted_answers import AnswerCache, Kept, normalised
from casebook.serving.rights import Rights
from casebook.serving.showing import Piece


class Desk:
    """Two users and two items, one for both of them."""

    def __init__(self):
        self.now, self.versions, self.urgent = 1_000.0, {"a": 1, "b": 1}, 0
        self.rights = Rights(":memory:", clock=lambda: self.now)
        with self.rights.writing():
            for name in ("ann", "bob", "eve"):
                self.rights.person(name, 0)
            for item in ("a", "b"):
                self.rights.lies_in(item, "", item=True)
            self.rights.grants("a", {("ann", "allow"), ("bob", "allow")})
            self.rights.grants("b", {("ann", "allow")})
        current = lambda names: [self.versions.get(name, 0) for name in names]  # noqa: E731
        self.cache = AnswerCache(self.rights, current, lambda user: self.urgent, ttl=60)

    def put(self, user, item="a"):
        key = self.cache.key(user, "rate?")
        used = ((item, 1),)
        self.cache.put(key, Kept((Piece("28 euro", used),), used, {"count": 2}))
        return key

    def get(self, user):
        return self.cache.get(user, self.cache.key(user, "Rate"))


def test_an_answer_is_for_those_who_see_the_same():
    desk = Desk()
    desk.put("ann")
    assert desk.get("ann").beside == {"count": 2} and desk.get("bob") is None
    with desk.rights.writing():
        desk.rights.grants("b", set())
    assert desk.get("ann") is None  # another key
    desk.put("bob")
    assert desk.get("ann") == desk.get("bob") != None  # noqa: E711


def test_a_key_that_was_taken_after_the_search_is_caught_by_the_second_question():
    desk = Desk()
    before = desk.cache.key("ann", "rate")
    with desk.rights.writing():
        desk.rights.grants("a", set())
        desk.rights.grants("b", {("ann", "allow"), ("eve", "allow")})
    after = desk.cache.key("ann", "rate")
    assert before != after == desk.cache.key("eve", "rate")
    used = (("a", 1),)
    desk.cache.put(after, Kept((Piece("28 euro", used),), used))  # the fault
    assert desk.get("eve") is None


def test_an_answer_ends_with_its_versions_its_time_and_what_is_urgent():
    desk = Desk()
    desk.put("ann")
    desk.versions["a"] = 2
    assert desk.get("ann") is None and len(desk.cache) == 0
    desk.versions["a"] = 1
    desk.put("ann")
    desk.now += 59
    assert desk.get("ann") is not None
    desk.now += 1
    assert desk.get("ann") is None
    desk.put("ann")
    desk.urgent += 1
    assert desk.get("ann") is None
    assert desk.cache.forget("zzz") == 0 and desk.cache.forget("a") == 1
    desk.put("ann")
    desk.now += 1_000
    assert desk.cache.purge() == 1 and len(desk.cache) == 0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("What is the rate?", "what  is the RATE !!", True),
        ("ﬁnal rate", "final rate", True),
        ("rate in 2024", "rate in 2025", False),
        ("may I", "may I not", False),
        ("a b", "ab", False),
    ],
)
def test_questions_are_one_where_they_mean_the_same(first, second, same):
    assert (normalised(first) == normalised(second)) is same


def test_a_time_to_live_of_nothing_is_refused():
    desk = Desk()
    with pytest.raises(ValueError, match="above 0"):
        AnswerCache(desk.rights, list, int, ttl=0)
