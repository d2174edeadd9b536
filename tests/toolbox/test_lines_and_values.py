"""Lines of pages, tables, slides and threads, and the values that they state."""

from __future__ import annotations

import time

import numpy as np
import pytest

from casebook.retrieval.lines import lines_of
from casebook.retrieval.values import KINDS, asked_kinds, dated, hedged, listed, same, value_of


def test_a_quote_stands_where_its_line_says():
    body = "# A\n\n- one\n[08:01] user:x.y: two\n| a | b |\n|---|:-:|\n| 1 | |\nthree\n| c |\n| 4 |"
    lines = lines_of("T", body)
    assert [line.text for line in lines] == ["one", "two", "a: 1", "three", "c: 4"]
    for line in lines:
        assert body[line.start :].startswith(line.quote) and line.place == "A"
    assert lines_of("T", "x")[0].place == "T" and lines_of("T", "# A\n \n") == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Valid from 2026-03-01: 12 days of 30 %.", "12 days"),
        ("It begins Monday at 09:30, not 08:00.", "Monday at 09:30"),
        ("The shift of 12 people starts at 06:15.", "06:15"),
        ("Buy from K-122 for 500 euro.", "K-122"),
        ("Up to 1,200 euro.", "1,200 euro"),
        ("Tolerates 2.5 %.", "2.5 %"),
        ("plans 14 seats", "14"),
        ("the Plant Manager decides", "plant manager"),
        ("nothing at all", ""),
        ("", ""),
    ],
)
def test_a_value_is_found_in_a_sentence(text, value):
    assert value_of(text, {"plant manager", "manager"}) == value


def test_listed_values_are_short_and_no_sentences():
    found = listed(
        [
            *("room: the Birch room", "Status: on plan.", "lead time: 3 days", "Ask: why not?"),
            "team: Hotline, spare keys: porter's lodge",
            "note: this is rather a whole sentence without a stop",
        ]
    )
    assert {"birch room", "porter s lodge"} <= found
    assert len(found) == 2


def test_values_are_compared_by_what_they_say():
    assert same("7 days", "seven days") and same("the Birch room", "birch room")
    assert same("3.90 euro", "3,90 EUR")
    for one, other in [("7 days", "7 weeks"), ("06:15", "06:30"), ("K-1", "L-1"), ("a", "b")]:
        assert not same(one, other)


def test_hearsay_and_dates():
    assert hedged("Pretty sure about this") and not hedged("We are sure to keep it for 7 days")
    assert dated("From 2026-02-30 on") is None and dated("soon") is None
    assert dated("From 2026-02-28 on") == np.datetime64("2026-02-28")


def test_a_line_of_digits_and_commas_takes_no_square_of_its_length():
    begin = time.process_time()
    assert value_of("1," * 50_000 + " and 3 days") == "3 days"
    assert time.process_time() - begin < 2.0


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("Who signs for it?", {"name", "code"}),
        ("Where is it kept?", {"name"}),
        ("At what hour does it open?", {"time", "day and time"}),
        ("How early must I ask?", {"span"}),
        ("How many are there?", {"count", "span"}),
        ("How much is due?", {"money", "share"}),
        ("Whoever shows what?", set()),
    ],
)
def test_the_words_of_a_question_tell_the_kinds_of_its_answers(question, kinds):
    assert asked_kinds(question) == kinds <= {*KINDS}
