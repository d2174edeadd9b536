"""Case 18, the real handbooks: each gold passage is there, and what is not answered is absent."""

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest

from casebook.cases.knowledge_assistant import handbooks
from casebook.cases.knowledge_assistant.records import as_json, event_of
from casebook.cases.knowledge_assistant.world import State
from casebook.data import find_real
from casebook.retrieval.dense import Hashed

GOLD = handbooks.gold()
#: Characters around an anchor in which the key of an answer stands.
NEAR = 250


@cache
def texts(book):
    if find_real(book) is None:
        pytest.skip(f"{book} is not here, or real data are switched off")
    found = handbooks.pages(book)
    return {row.page: handbooks.plain(row.text) for row in found.itertuples()}


def faults(question, texts):
    """Return what is wrong with a question, given the text of each page of its book."""
    if not question["answerable"]:
        whole = "\n".join(texts.values()).lower()
        return [f"{word!r} is there" for word in question["absent"] if word.lower() in whole]
    named = (question["page"], *question["also"], question["against"])
    if missing := [page for page in named if page and page not in texts]:
        return [f"no page {page}" for page in missing]
    text, anchor, key, found = texts[question["page"]], question["anchor"], question["key"], []
    places = [match.start() for match in re.finditer(re.escape(anchor), text)]
    if not places:
        found.append(f"no {anchor!r}")
    elif not any(key in text[max(at - NEAR, 0) : at + len(anchor) + NEAR] for at in places):
        found.append(f"no {key!r} near {anchor!r}")
    found += [f"no {key!r} in {page}" for page in question["also"] if key not in texts[page]]
    if question["against"] and question["against_anchor"] not in texts[question["against"]]:
        found.append(f"no {question['against_anchor']!r}")
    return found


def rows(book=None):
    found = GOLD if book is None else GOLD[GOLD["book"] == book]
    return found.to_dict("records")


def test_there_are_enough_questions_of_each_kind():
    assert len(GOLD) >= 70 and GOLD["answerable"].sum() >= 60
    assert (~GOLD["answerable"]).sum() == 10
    assert set(GOLD["book"]) == set(handbooks.BOOKS)
    assert GOLD.groupby("book")["answerable"].agg(["sum", "size"]).min().tolist() >= [20, 25]
    lengths = GOLD["turns"].map(len)
    assert (lengths > 1).sum() >= 12 and lengths.max() >= 3
    assert GOLD["against"].ne("").sum() >= 3
    assert GOLD["turns"].is_unique
    for row in rows():
        assert row["turns"][-1].endswith("?")
        assert bool(row["answer"]) == bool(row["anchor"]) == row["answerable"]
        assert len(row["anchor"].split()) <= 10  # a few words, no passage
        assert row["absent"] or row["answerable"]


@pytest.mark.parametrize("book", handbooks.BOOKS)
def test_each_passage_is_in_the_handbook(book):
    found = texts(book)
    assert [(row["turns"], faults(row, found)) for row in rows(book)] == [
        (row["turns"], []) for row in rows(book)
    ]


@pytest.mark.parametrize(
    "field, value, why",
    [
        ("page", "content/gone.md", "no page"),
        ("anchor", "words that nobody wrote", "no 'words"),
        ("key", "77 days", "no '77 days' near"),
        ("also", ("content/departments/legal/index.md",), "in content/departments/legal"),
        ("against", "content/gone.md", "no page"),
        ("against_anchor", "words that nobody wrote", "no 'words"),
    ],
)
def test_a_wrong_passage_is_found(field, value, why):
    row = next(row for row in rows("sourcegraph_handbook") if row["against"])
    assert faults(row, texts(row["book"])) == []
    assert why in faults({**row, field: value}, texts(row["book"]))[0]


def test_an_unanswerable_question_that_is_answered_is_found():
    row = next(row for row in rows("tts_handbook") if not row["answerable"])
    planted = {**row, "absent": ("Top Secret",)}
    assert faults(planted, texts("tts_handbook")) == ["'Top Secret' is there"]


def test_questions_are_not_worded_like_their_passages():
    """Share of a question's longer words within 150 characters of its anchor."""
    shares = []
    for row in rows("sourcegraph_handbook") + rows("tts_handbook"):
        if row["answerable"]:
            text = texts(row["book"])[row["page"]]
            at = text.index(row["anchor"])
            near = text[max(at - 150, 0) : at + 150].lower()
            asked = [w.strip("?.,").lower() for w in row["turns"][-1].split()]
            asked = [word for word in asked if len(word) > 4]
            shares.append(np.mean([word in near for word in asked]) if asked else 0)
    assert np.median(shares) <= 0.34


@pytest.mark.parametrize("book", handbooks.BOOKS)
def test_pages_with_permissions_read_like_any_source(book):
    texts(book)  # skips where the book is absent
    found = handbooks.pages(book)
    assert found["page"].is_unique and found["title"].str.len().between(1, 200).all()
    events = handbooks.as_events(found, seed=1)
    assert all(event_of(as_json(event)) == event for event in events[:: len(events) // 50])
    state = State(events)
    assert len(state.documents) == len(found)
    assert all(state.chain(document) for document in state.documents)
    shares = [len(state.visible(f"user:{n}")) / len(found) for n in range(1, 101, 6)]
    assert 0 < min(shares) < max(shares) < 1 and np.std(shares) > 0.01
    assert handbooks.as_events(found, seed=1) == events != handbooks.as_events(found, seed=2)
    everybody = [f"user:{n}" for n in range(1, 101)]
    assert set().union(*map(state.visible, everybody)) == set(state.documents)  # nothing is closed
    # not every answer may be seen by everybody
    gold = set(GOLD.query("book == @book and answerable")["page"])
    ids = {one.path: one.id for one in state.documents.values()}
    seen = [state.may_see(f"user:{n}", ids[page]) for n in range(1, 11) for page in gold]
    assert 0.1 < np.mean(seen) < 0.99


def test_every_way_to_cut_is_read_for_the_same_time():
    long, short = (
        [("a", "one two three four")],
        [("b", "five six"), ("c", ""), ("a", "seven eight")],
    )
    assert handbooks.read(long, 3) == [("a", "one two three")]
    assert handbooks.read(short, 3) == [("b", "five six"), ("a", "seven")]
    assert handbooks.read(short, 2) == [("b", "five six")]


def test_words_of_an_answer_on_another_page_do_not_count(monkeypatch):
    texts("tts_handbook")
    question = next(row for row in rows("tts_handbook") if row["answerable"])
    found = handbooks.pages("tts_handbook")
    found = pd.concat([found[found["page"] == question["page"]], found.head(40)])
    found = found.drop_duplicates("page")
    monkeypatch.setattr(handbooks, "pages", lambda book: found)
    monkeypatch.setattr(handbooks, "gold", lambda: pd.DataFrame([question]))
    with_it = handbooks.asked(Hashed(16), ("tts_handbook",), ("512/64",))
    assert with_it["words"].eq(handbooks.BUDGET).all()
    # The key, which stands on its own page, is written on every page but that one.
    key = question["key"]
    text = [
        row.text.replace(key, "") if row.page == question["page"] else f"{key} {row.text}"
        for row in found.itertuples()
    ]
    monkeypatch.setattr(handbooks, "pages", lambda book: found.assign(text=text))
    without = handbooks.asked(Hashed(16), ("tts_handbook",), ("512/64",))
    assert (without["key"] == 0).all()
