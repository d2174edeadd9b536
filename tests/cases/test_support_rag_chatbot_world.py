"""Case 16: what its world promises: text, labels, tracking system and contacts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from support_rag_chatbot_promises import audit, is_reserved, overlap

from casebook.cases.support_rag_chatbot.generation import REQUESTS
from casebook.cases.support_rag_chatbot.typed import VECTORS
from casebook.cases.support_rag_chatbot.world import (
    ANSWER_KINDS,
    BASELINE,
    CHAPTER,
    KINDS,
    PII,
    SEED,
    STATUS_TEXTS,
    TODAY,
    BadNumber,
    Faults,
    TrackingAPI,
    TrackingError,
    TrackingRateLimited,
    TrackingServerError,
    TrackingTimeout,
    UnknownNumber,
    a_month,
    check_digit,
    contacts,
    fingerprints,
    is_tracking_number,
    knowledge_base,
    outcome,
    outcomes,
    questions,
    read,
    snapshots,
    staffed,
    truth,
    updates,
)
from casebook.cases.support_rag_chatbot.world.__main__ import FROZEN, frozen, main, now
from casebook.cases.support_rag_chatbot.world.contacts import (
    CLASSES,
    EURO_A_MINUTE,
    FATES,
    INTENTS,
    LANGUAGES,
    REACTIONS,
    STAKES,
)
from casebook.cases.support_rag_chatbot.world.content import (
    ROOT,
    Content,
    in_force,
    own_content,
    split_of,
)
from casebook.cases.support_rag_chatbot.world.tracking import OUTAGE, STALE_HOURS, WAIT
from casebook.cases.support_rag_chatbot.world.truth import entities, truth_of
from casebook.data import snapshot
from casebook.project import data_dir

#: What is promised, written out once more.
ARTICLES = {"en": 105, "de": 60, "es": 47}
QUESTIONS = {
    "paraphrase": 912,
    "identifier": 152,
    "multi_turn": 130,
    "unanswerable": 130,
    "off_topic": 66,
    "pii": 86,
    "injection": 44,
    "wrong_language": 80,
}
DAYS = pd.date_range("2024-01-01", "2026-12-31")
DAY = pd.Timedelta(days=1)
HOUR = pd.Timedelta(hours=1)
NOON = TODAY + 12 * HOUR


# The text -----------------------------------------------------------------------------


def test_the_text_keeps_its_promises():
    assert audit(own_content()) == []


def test_the_text_is_what_was_frozen():
    """A change of the text is a decision; ``frozen.toml`` says by which command it is made."""
    assert now() == frozen()
    assert set(now()) == {"seed", "topics", *ARTICLES}


def test_there_are_enough_articles_and_questions_in_three_languages():
    assert knowledge_base().groupby("language").size().to_dict() == ARTICLES
    asked = questions()
    assert asked.groupby("kind").size().to_dict() == QUESTIONS
    assert len(asked) == 1600
    assert tuple(QUESTIONS) == KINDS
    assert asked["id"].is_unique
    assert not asked.duplicated(["language", "turns"]).any()
    assert (asked["text"] == asked["turns"].str[-1]).all()
    assert asked.groupby("language")["voice"].nunique().min() >= 10
    labelled = truth().relevance.query("grade == 2")["question"].nunique()
    assert labelled > 1100


def test_the_words_are_not_those_of_the_articles():
    shares = overlap()
    assert shares["overlap"].between(0, 1).all()
    assert shares.groupby("language")["overlap"].median().max() <= 0.30
    median = shares.groupby(["language", "kind"])["overlap"].median()
    assert len(median) == 14
    assert median.max() <= 0.30
    assert shares.groupby("language")["overlap_stems"].median().max() <= 0.30
    assert len(shares) > 1100


def changed(frame: pd.DataFrame, row: str, **values) -> pd.DataFrame:
    """Return a frame with other values in the row of an id."""
    frame = frame.copy()
    at = frame.index[frame["id"] == row][0]
    for column, value in values.items():
        frame.at[at, column] = value
    return frame


def article(row: str, **values) -> Callable[[Content], Content]:
    return lambda of: replace(of, articles=changed(of.articles, row, **values))


def question(row: str, **values) -> Callable[[Content], Content]:
    return lambda of: replace(of, questions=changed(of.questions, row, **values))


def fact(row: str, name: str, **values) -> Callable[[Content], Content]:
    def plant(of: Content) -> Content:
        facts = of.facts.copy()
        at = facts.index[(facts["article"] == row) & (facts["fact"] == name)][0]
        for column, value in values.items():
            facts.at[at, column] = value
        return replace(of, facts=facts)

    return plant


def same_facts(one: str, other: str) -> Callable[[Content], Content]:
    """Give an article the values of another one."""

    def plant(of: Content) -> Content:
        mine = of.facts[of.facts["article"] == other].assign(article=one)
        return replace(of, facts=pd.concat([of.facts[of.facts["article"] != one], mine]))

    return plant


def without(table: str, row: str) -> Callable[[Content], Content]:
    def plant(of: Content) -> Content:
        frame = getattr(of, table)
        return replace(of, **{table: frame[frame["id"] != row]})

    return plant


def parroting(language: str, kind: str) -> Callable[[Content], Content]:
    """Make questions of a kind from the words of their articles."""

    def plant(of: Content) -> Content:
        text = of.articles.set_index("id")["text"]
        frame = of.questions.copy()
        for at in frame.index[(frame["language"] == language) & (frame["kind"] == kind)]:
            for name in frame.at[at, "relevant"][:1]:
                frame.at[at, "turns"] = (text[name][:200],)
        return replace(of, questions=frame)

    return plant


def one_opening(of: Content) -> Content:
    frame = of.questions.copy()
    for at in frame.index[frame["language"] == "en"][:30]:
        frame.at[at, "turns"] = ("can you tell " + frame.at[at, "text"],)
    return replace(of, questions=frame)


def one_voice(of: Content) -> Content:
    voice = of.questions["voice"].where(of.questions["language"] != "de", "v01")
    return replace(of, questions=of.questions.assign(voice=voice))


V1, V2 = "en/claim_damage--v1", "en/claim_damage--v2"
LAST = pd.Timestamp("2025-12-31")
PLANTED = {
    "missing article": ("articles", without("articles", V1), "planned and not written"),
    "unplanned article": ("articles", without("planned", V1), "written and not planned"),
    "validity not as planned": ("articles", article(V1, valid_to=LAST + DAY), "valid_to is"),
    "audience not as planned": ("articles", article(V2, audience="business"), "audience is"),
    "too short": ("articles", article(V2, text="## Nothing\n\nwe say."), "words"),
    "no heading": ("articles", article(V2, text="word " * 150), "no heading"),
    "two with the same text": (
        "articles",
        lambda of: article(V1, text=of.articles.set_index("id").loc[V2, "text"])(of),
        "the same text",
    ),
    "value not as planned": ("articles", fact(V2, "claim_days", value="8"), "claim_days is 8"),
    "answer not in the text": ("articles", fact(V2, "photos", start=-1), "does not stand"),
    "fact left out": ("articles", fact(V2, "photos", fact="pictures"), "not as planned"),
    "versions overlap": ("validity", article(V1, valid_to=LAST + DAY), "in force at once"),
    "version without end": ("validity", article(V1, valid_to=pd.NaT), "in force at once"),
    "a gap": ("validity", article(V1, valid_to=LAST - DAY), "a gap"),
    "ends first": ("validity", article(V1, valid_to=pd.Timestamp("2023-01-01")), "ends before"),
    "same version twice": ("validity", article(V2, version=1), "no higher version"),
    "none today": ("validity", article(V2, valid_to=TODAY - DAY), "0 articles in force"),
    "new version says the same": ("pairs", same_facts(V1, V2), "says the same"),
    "near duplicate says the same": (
        "pairs",
        same_facts("en/delivery_attempts--at", "en/delivery_attempts--v2"),
        "says the same",
    ),
    "no conflict": ("pairs", same_facts("en/claim_loss--guide", "en/claim_loss"), "says the same"),
    "for other customers": (
        "pairs",
        article("en/claim_loss--guide", audience="business"),
        "for other customers",
    ),
    "a question less": ("counts", without("questions", "en-0001"), "promised 420"),
    "kinds mixed up": ("counts", question("en-0001", kind="pii"), "promised 40"),
    "an id twice": ("counts", question("en-0002", id="en-0001"), "is there 2 times"),
    "a question twice": (
        "counts",
        question("en-0002", turns=("TEN KILOS to Australia, don't tell me it's over fifty",)),
        "the same but for",
    ),
    "one number changed": (
        "counts",
        lambda of: question(
            "en-0002", turns=(of.questions.set_index("id").loc["en-0026", "text"] + " 7",)
        )(of),
        "the same but for",
    ),
    "all begin alike": ("counts", one_opening, "begin with"),
    "one voice": ("counts", one_voice, "de: 1 voices"),
    "article not there": (
        "labels",
        question("en-0001", relevant=("en/prices",)),
        "no article en/prices",
    ),
    "expired article": ("labels", question("en-0004", relevant=(V1,)), "not in force"),
    "announced article": (
        "labels",
        question("en-0004", relevant=("en/express--v3",)),
        "not in force",
    ),
    "another topic": ("labels", question("en-0004", relevant=("en/packaging",)), "another topic"),
    "another language": (
        "labels",
        question("en-0004", relevant=("de/claim_damage--v2",)),
        "for a question in en",
    ),
    "nothing relevant": ("labels", question("en-0004", relevant=()), "0 relevant articles"),
    "unanswerable with an article": (
        "labels",
        question("en-0030", relevant=("en/bulky_goods--v2",)),
        "1 relevant articles, route human",
    ),
    "wrong route": ("labels", question("en-0003", route="answer"), "route answer"),
    "no such fact": ("labels", question("en-0004", answer_fact="colour"), "no fact of"),
    "articles disagree": (
        "labels",
        question("en-0004", relevant=(V2, "en/claim_damage--business")),
        "disagree",
    ),
    "wrong side of a conflict": (
        "labels",
        question(
            "en-0005", answer_fact="value_limit_eur", relevant=("en/redirect_neighbour--tips",)
        ),
        "is wrong on value_limit_eur",
    ),
    "one turn": ("labels", question("en-0288", turns=("and in austria?",)), "1 turns"),
    "empty": ("labels", question("en-0004", turns=(" ",)), "an empty turn"),
    "no topic": ("labels", question("en-0004", topic=None), "topic None"),
    "article in the language": (
        "labels",
        question("de-0047", topic="claim_damage"),
        "kind wrong_language on a topic",
    ),
    "entity not there": (
        "entities",
        question("en-0004", entities=(("form", "F-1"),)),
        "does not stand in it",
    ),
    "somebody's address": (
        "entities",
        question(
            "en-0009", turns=("write to jane@gmail.com",), entities=(("email", "jane@gmail.com"),)
        ),
        "may be somebody's",
    ),
    "personal data not listed": ("entities", question("en-0009", entities=()), "is not listed"),
    "personal data elsewhere": (
        "entities",
        question("en-0004", turns=("I am on 07700 900123",)),
        "is not listed",
    ),
    "personal data of another kind": (
        "entities",
        question("en-0009", kind="paraphrase"),
        "personal data are not as that says",
    ),
    "check digit": (
        "entities",
        question(
            "en-0004", turns=("RR473124828XA",), entities=(("tracking_number", "RR473124828XA"),)
        ),
        "check digit",
    ),
    "right after all": (
        "entities",
        question(
            "en-0004",
            turns=("RR473124829XA",),
            entities=(("tracking_number_wrong", "RR473124829XA"),),
        ),
        "check digit",
    ),
    "unknown type": (
        "entities",
        question("en-0004", turns=("blue",), entities=(("colour", "blue"),)),
        "entity of type colour",
    ),
    "words of the article": ("overlap", parroting("en", "pii"), "median overlap of kind pii"),
    "words of the articles": ("overlap", parroting("de", "paraphrase"), "de: median overlap is"),
    "words of the exception": ("overlap", parroting("es", "multi_turn"), "of kind multi_turn is"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_audit_finds(name):
    part, plant, expected = PLANTED[name]
    own = own_content()
    before = set(audit(own, [part]))
    found = [line for line in audit(plant(own), [part]) if line not in before]
    assert any(expected in line for line in found), found


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """Return a copy of the world's files that a test may spoil and has to mend."""
    root = tmp_path_factory.mktemp("support")
    for name in ("articles", "questions"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("topics.yml", FROZEN):
        shutil.copy(ROOT / name, root / name)
    return root


def test_a_changed_letter_shows_in_the_fingerprint_of_its_language_alone(copied):
    before = fingerprints(copied)
    assert before == fingerprints()
    path = copied / "articles/de/packaging.md"
    text = path.read_bytes()
    path.write_bytes(text.replace(b"\n", b"\r\n"))
    assert fingerprints(copied) == before, "line ends are not text"
    path.write_bytes(text.replace(b"5", b"6", 1))
    after = fingerprints(copied)
    assert {name for name in before if before[name] != after[name]} == {"de"}
    moved = path.rename(path.with_name("packing.md"))
    assert fingerprints(copied)["de"] not in (before["de"], after["de"])
    moved.unlink()
    path.write_bytes(text)
    assert fingerprints(copied) == before


def test_a_change_shows_until_it_is_frozen(copied, capsys):
    assert main([], copied) == 0
    assert "since it was frozen: nothing" in capsys.readouterr().out
    path = copied / "articles/en/packaging.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("# ", "# Well: ", 1), encoding="utf-8")
    assert main([], copied) == 1
    assert "changed since it was frozen: en" in capsys.readouterr().out
    assert main(["freeze"], copied) == 0
    assert frozen(copied) == now(copied) != now()
    path.write_text(text, encoding="utf-8")
    assert frozen(copied) != now(copied)
    assert main(["freezer"], copied) == 2
    shutil.copy(ROOT / FROZEN, copied / FROZEN)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("articles/en/packaging.md", "id: en/packaging", "id: en/packing", "is wrong"),
        ("articles/en/packaging.md", "\n# ", "\n", "no title"),
        ("questions/en.yml", "  text: ", "  turns: [x]\n  text: ", "either text or turns"),
        ("questions/en.yml", "topic: prices_inter", "topic: price_inter", "unknown topic"),
    ],
)
def test_a_file_that_cannot_be_read_says_which(copied, name, old, new, message):
    path = copied / name
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    try:
        with pytest.raises(ValueError, match=message) as caught:
            read(copied)
        assert name in str(caught.value)
    finally:
        path.write_text(text, encoding="utf-8")


# Validity -----------------------------------------------------------------------------


def replayed(of: pd.DataFrame, changes: pd.DataFrame) -> dict[pd.Timestamp, set[str]]:
    """Return what an index holds after each day's changes."""
    held = set(in_force(of, changes["day"].min() - DAY)["id"])
    after = {}
    for day, rows in changes.groupby("day"):
        for row in rows.itertuples():
            (held.add if row.action == "add" else held.remove)(row.id)
        after[day] = set(held)
    return after


def test_one_version_is_in_force_on_each_day():
    for day in DAYS:
        rows = knowledge_base(day)
        assert not rows.duplicated(["language", "article_id"]).any(), day
    topics = own_content().plan["topics"].values()
    present = {(t["id"], language) for t in topics for language in t["languages"]}
    today = knowledge_base(TODAY)
    assert present == set(zip(today["topic"], today["language"], strict=True))
    # What an index wants: an article ends at midnight after its last day.
    assert knowledge_base("2025-12-31 23:59")["id"].isin([V1]).sum() == 1
    assert V2 not in set(knowledge_base("2025-12-31 23:59")["id"])
    assert V1 not in set(knowledge_base("2026-01-01")["id"])


def test_replaying_the_updates_gives_the_knowledge_base_of_each_day():
    changes = updates("2024-01-02", "2026-12-31")
    assert changes["day"].is_monotonic_increasing
    for day, held in replayed(knowledge_base(), changes).items():
        assert held == set(knowledge_base(day)["id"]), day
        assert held == set(knowledge_base(day + 5 * DAY)["id"]) or (
            changes["day"].between(day + DAY, day + 5 * DAY).any()
        )
    later = updates(TODAY + DAY, "2027-12-31")
    assert set(later.query("action == 'add'")["id"]) == {"en/liability_limit--v2", "en/express--v3"}
    for _, rows in changes.groupby("day"):
        assert rows["action"].is_monotonic_decreasing, "withdraw comes before add"
    with pytest.raises(ValueError, match="before they begin"):
        updates("2026-01-02", "2026-01-01")


def test_the_replay_finds_a_version_that_stays():
    spoiled = article(V1, valid_to=LAST + DAY)(own_content()).articles
    held = replayed(spoiled, updates("2024-01-02", "2026-12-31"))
    assert any(held[day] != set(in_force(spoiled, day)["id"]) for day in held)


# The truth ----------------------------------------------------------------------------


def test_today_the_best_grade_is_what_the_writers_listed():
    known = truth()
    graded = known.relevance.query("grade == 2").groupby("question")["article"].agg(list)
    now_there = set(knowledge_base(TODAY)["id"])
    more = {}
    for q in own_content().questions.itertuples():
        mine = graded.get(q.id, [])
        assert mine[: len(q.relevant)] == list(q.relevant), q.id
        assert set(mine) <= now_there
        if len(mine) > len(q.relevant):
            more[q.id] = set(mine) - set(q.relevant)
    # Only partners of a conflict that say the same.
    assert all(re.search("--|/", name) for names in more.values() for name in names)
    assert len(more) < 10
    asked = own_content().questions.set_index("id")
    first = known.questions.set_index("question")["answer_article"]
    for kind in ("unanswerable", "off_topic", "injection"):
        assert not first[asked.index[asked["kind"] == kind]].any()
    abroad = asked[asked["kind"] == "wrong_language"]
    assert (first[abroad.index].str[:2] != abroad["language"]).all()
    assert (known.questions["answerable"] == (known.questions["answer_article"] != "")).all()


def test_a_lower_grade_says_the_same_to_others_or_in_another_language():
    known = truth()
    value = known.facts.set_index(["article", "fact"])["value"]
    asked = known.questions.set_index("question")
    listed = own_content().questions.set_index("id")["relevant"]
    fact_asked = own_content().questions.set_index("id")["answer_fact"]
    rows = known.relevance.query("grade == 1")
    assert len(rows) > 1000
    now_there = knowledge_base(TODAY).set_index("id")
    losers = {
        (row.partner if row.right == "article" else row.article, row.fact)
        for row in known.conflicts.itertuples()
    }
    for row in known.relevance.itertuples():
        assert (row.article, fact_asked[row.question]) not in losers
        assert row.article in now_there.index
    for row in rows.itertuples():
        q = asked.loc[row.question]
        other, mine = now_there.loc[row.article], now_there.loc[q["answer_article"]]
        assert (other["language"], other["article_id"]) != (mine["language"], mine["article_id"])
        assert row.article not in listed[row.question]
        if q["answer_fact"]:
            assert value[row.article, q["answer_fact"]] == q["answer_value"]
    # And nobody else does: other values have no grade.
    graded = set(zip(known.relevance["question"], known.relevance["article"], strict=True))
    topics = now_there.groupby("topic").groups
    for q in known.questions[known.questions["answer_fact"] != ""].itertuples():
        for other in topics[q.topic]:
            same = value[other, q.answer_fact] == q.answer_value
            assert same == ((q.question, other) in graded), (q.question, other)


def test_the_answer_stands_in_the_article_and_holds_the_value():
    known, text = truth(), knowledge_base().set_index("id")["text"]
    for row in known.facts.itertuples():
        assert " ".join(text[row.article][row.start : row.end].split()) == row.answer
    number = known.facts[known.facts["value"].str.fullmatch(r"F-\d+|KB-\d+|[A-Z]\d")]
    assert len(number) > 50
    assert all(row.value in row.answer for row in number.itertuples())
    told = known.questions[known.questions["answer_fact"] != ""]
    assert (told["answer"].str.len() > 10).all()
    assert len(told) > 1100


def test_the_truth_of_a_day_is_that_of_its_articles():
    def told(at, topic, name, language="en"):
        rows = truth(at).questions.query("topic == @topic and answer_fact == @name")
        rows = rows[rows["question"].str.startswith(language)]
        base = rows[~rows["answer_article"].str.contains("--[a-z]{2,}")]
        return set(base["answer_value"]), set(base["answer_article"])

    assert told(TODAY, "hold_delivery", "max_days") == ({"21"}, {"en/hold_delivery--v2"})
    assert told("2026-03-31", "hold_delivery", "max_days") == ({"14"}, {"en/hold_delivery--v1"})
    # German has no version of its own before November 2025: the English one answers.
    old = told("2025-10-31", "delivery_estimate", "standard_working_days", "de")
    assert old == ({"3"}, {"en/delivery_estimate--v1"})
    # After today: one article is new, in English only.
    assert told("2026-07-01", "liability_limit", "limit_eur", "es") == (
        {"750"},
        {"en/liability_limit--v2"},
    )
    assert told(TODAY, "liability_limit", "limit_eur", "es")[0] == {"500"}
    before = truth("2024-02-29").questions.query("topic == 'same_day'")
    assert not before["answerable"].any()
    assert set(before["route"]) == {"human"}
    assert not truth("2023-12-31").questions["answerable"].any()
    assert truth("2023-12-31").relevance.empty


def test_before_its_partner_was_published_the_older_article_is_right():
    def told(at):
        rows = truth(at).questions.query("answer_fact == 'wait_working_days_domestic'")
        rows = rows[rows["question"].str.startswith("en")]
        return set(rows["answer_value"]), set(rows["answer_article"])

    assert told("2025-09-01") == ({"2"}, {"en/tracking_not_updated--faq"})
    assert told("2025-08-31") == ({"3"}, {"en/tracking_not_updated"})


@pytest.mark.parametrize(
    "at", ["2024-01-01", "2025-03-15", "2025-10-31", "2026-07-01", "2026-09-01"]
)
def test_what_answers_a_question_agrees_on_any_day(at):
    known = truth(at)
    value = known.facts.set_index(["article", "fact"])["value"]
    told = known.questions[known.questions["answer_fact"] != ""].set_index("question")
    rows = known.relevance[known.relevance["question"].isin(told.index)]
    assert len(rows) > 2000
    for row in rows.itertuples():
        q = told.loc[row.question]
        assert value[row.article, q["answer_fact"]] == q["answer_value"], row
    assert set(known.relevance["article"]) <= set(knowledge_base(at)["id"])


def test_conflicts_and_near_duplicates_are_those_of_the_plan():
    known = truth()
    assert len(known.conflicts) == 11
    assert (known.conflicts["value"] != known.conflicts["partner_value"]).all()
    assert known.conflicts["topic"].nunique() == 8
    assert truth("2024-06-30").conflicts["topic"].nunique() < 8
    pairs = known.near_duplicates.drop_duplicates(["article", "base"])
    assert pairs["topic"].nunique() == 13
    assert len(pairs) == 24
    assert (known.near_duplicates["value"] != known.near_duplicates["base_value"]).all()


def test_another_value_in_an_article_changes_the_truth():
    spoiled = truth_of(fact("de/claim_damage--v2", "claim_days", value="9")(own_content()))
    rows = spoiled.questions.query("topic == 'claim_damage' and answer_fact == 'claim_days'")
    assert "9" in set(rows["answer_value"])
    english = rows[rows["answer_article"] == V2]["question"]
    graded = spoiled.relevance[spoiled.relevance["question"].isin(english)]
    assert "de/claim_damage--v2" not in set(graded["article"])


def test_a_caller_cannot_spoil_the_truth_nor_the_text():
    for frame, column in (
        (truth().questions, "answer"),
        (knowledge_base(), "text"),
        (questions(), "text"),
    ):
        frame[column] = ""
    assert truth().questions["answer"].any()
    assert knowledge_base()["text"].all()
    assert questions()["text"].all()


def test_what_a_model_sees_holds_no_truth():
    assert list(knowledge_base()) == [
        *("id", "article_id", "topic", "number", "language", "version"),
        *("valid_from", "valid_to", "title", "text", "audience", "intent"),
    ]
    assert list(questions()) == ["id", "language", "kind", "text", "turns", "voice", "split"]
    assert not knowledge_base()["text"].str.contains("valid_from|answer:|facts:").any()


def test_tune_and_test_share_no_group_of_topics():
    of = own_content()
    asked = of.questions[of.questions["topic"].notna() & (of.questions["route"] != "tracking")]
    group = asked["topic"].map(lambda topic: of.plan["topics"][topic]["group"])
    assert (asked.groupby(group)["split"].nunique() == 1).all()
    share = (of.questions["split"] == "tune").groupby(of.questions["language"]).mean()
    assert share.between(0.35, 0.45).all()
    kinds = (of.questions["split"] == "tune").groupby(of.questions["kind"]).mean()
    assert kinds.between(0.3, 0.5).all()
    drawn = pd.Series([split_of(f"{k}") for k in range(4000)]) == "tune"
    assert drawn.mean() == pytest.approx(0.4, abs=0.03)


# Entities -----------------------------------------------------------------------------


def test_personal_data_stand_where_they_are_said_to_in_five_formats():
    found = truth().entities
    turns = questions().set_index("id")["turns"]
    for row in found.itertuples():
        assert "\n".join(turns[row.question])[row.start : row.end] == row.value
        assert row.value in turns[row.question][row.turn]
    counts = found[found["type"].isin(PII)].groupby("type").size()
    assert set(counts.index) == set(PII) == {"email", "phone", "iban", "card", "address"}
    assert counts.min() >= 15
    assert found["turn"].max() >= 1
    spaced = found[found["type"].isin(["iban", "card"])]["value"].str.contains(" ")
    assert spaced.any()
    assert not spaced.all()


def test_a_value_that_stands_there_twice_is_found_as_often_as_it_is_listed():
    twice = (("form", "F-1"), ("form", "F-1"), ("date", "May"))
    spoiled = question("en-0004", turns=("F-1 or F-1, F-1?", "in May"), entities=twice)
    found = entities(spoiled(own_content())).query("question == 'en-0004'")
    assert found["start"].tolist() == [0, 7, 20]
    assert found["turn"].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("kind", "value", "reserved"),
    [
        ("email", "jane.doe@example.org", True),
        ("email", "jane.doe@example.co", False),
        ("email", "jane@example.com.evil", False),
        ("phone", "020 7946 0999", True),
        ("phone", "+44 20 7946 0123", True),
        ("phone", "020 7946 1000", False),
        ("phone", "07700 900000", True),
        ("phone", "07700 901000", False),
        ("phone", "030 23125 014", True),
        ("phone", "+49 171 39200 42", True),
        ("phone", "030 23126 014", False),
        ("phone", "555 12 34 56", True),
        ("phone", "655 12 34 56", False),
        ("iban", "de89 3704 0044 0532 0130 00", True),
        ("iban", "DE89 3704 0044 0532 0130 01", False),
        ("card", "3782 822463 10005", True),
        ("card", "4111 1111 1111 1112", False),
        ("address", "1 Fig Row, Nowhere, ZZ99 4KT", True),
        ("address", "Am Bach 3, 00291 Nirgendwo", True),
        ("address", "1 Fig Row, London, SW1A 1AA", False),
    ],
)
def test_reserved_ranges(kind, value, reserved):
    assert is_reserved(kind, value) == reserved


def test_tracking_numbers_are_as_listed():
    found = truth().entities
    right = found.query("type == 'tracking_number'")["value"]
    wrong = found.query("type == 'tracking_number_wrong'")["value"]
    assert right.map(is_tracking_number).all()
    assert not wrong.map(is_tracking_number).any()
    assert right.str.upper().str.replace(" ", "").str.endswith("XA").all()
    assert len(right) > 60
    assert len(wrong) > 8


def test_check_digits():
    assert check_digit("47312482") == 9  # the example that postal guides give
    assert is_tracking_number("rr 473 124 829 xa")
    assert not is_tracking_number("RR473124828XA")
    assert not is_tracking_number("RR473124829X")
    assert not is_tracking_number("see RR473124829XA")
    with pytest.raises(ValueError, match="eight digits"):
        check_digit("4731248")
    rng = np.random.default_rng(1)
    serials = ["".join(map(str, rng.integers(10, size=8))) for _ in range(2000)]
    digits = Counter(check_digit(serial) for serial in serials)
    # 10 gives 0 and 11 gives 5, which is therefore twice as frequent as the others.
    assert digits[0] / 2000 == pytest.approx(1 / 11, abs=0.03)
    assert digits[5] / 2000 == pytest.approx(2 / 11, abs=0.03)
    assert digits[7] / 2000 == pytest.approx(1 / 11, abs=0.03)


# Tracking -----------------------------------------------------------------------------


def numbers(n: int) -> list[str]:
    """Return tracking numbers that are none of the questions'."""
    serials = [f"{k:08d}" for k in range(10_000_019, 10_000_019 + 7 * n, 7)]
    return [f"QA{serial}{check_digit(serial)}XA" for serial in serials]


def asked(api: TrackingAPI, number: str, at=None):
    """Return the status, or the name of the error."""
    try:
        return api.status(number, at)
    except TrackingError as error:
        return type(error).__name__


def rates(faults: Faults, calls: int = 12, n: int = 600) -> dict[str, float]:
    """Return how often a call ends in each way, and what of the answers is wrong."""
    api = TrackingAPI(faults=faults)
    told, found = Counter(), Counter()
    for number in numbers(n):
        true = api.true_status(number)
        for _ in range(calls):
            status = asked(api, number)
            told[status if isinstance(status, str) else "status"] += 1
            if not isinstance(status, str):
                found["stale"] += status.scanned_at != true.scanned_at
                found["depot"] += status.scanned_at == true.scanned_at and status != true
    total = sum(told.values())
    answered = max(told["status"], 1)
    return {k: v / total for k, v in told.items()} | {k: v / answered for k, v in found.items()}


def faults_as_promised(seen: dict[str, float]) -> bool:
    """Say whether faults come at the default rates."""
    expected = {
        "TrackingTimeout": (0.01, 0.005),
        "TrackingServerError": (0.01, 0.004),
        "UnknownNumber": (0.04, 0.02),
        # An old answer is often the same: nothing has happened since.
        "stale": (0.015, 0.012),
        "depot": (0.01, 0.005),
    }
    return all(abs(seen.get(k, 0) - rate) <= wide for k, (rate, wide) in expected.items())


def test_faults_come_at_their_rates():
    assert faults_as_promised(rates(Faults()))


@pytest.mark.parametrize("fault", ["timeout", "error", "stale", "wrong_depot", "unknown"])
def test_other_rates_of_faults_are_noticed(fault):
    assert not faults_as_promised(rates(replace(Faults(), **{fault: 0.12}), calls=6, n=300))


def test_without_faults_the_answer_is_the_truth():
    api = TrackingAPI(faults=Faults.none())
    for number in numbers(200):
        assert api.status(number) == api.true_status(number)
    assert rates(Faults.none(), calls=2, n=100) == {"status": 1.0, "stale": 0.0, "depot": 0.0}


def test_the_same_calls_get_the_same_answers_whatever_else_is_asked():
    some = numbers(120)
    one, other = TrackingAPI(), TrackingAPI()
    first = {number: [asked(one, number) for _ in range(5)] for number in some}
    for number in reversed(numbers(240)):
        told = [asked(other, number) for _ in range(5)]
        assert first.get(number, told) == told
    assert one.calls[some[0]] == 5
    third = TrackingAPI(seed=SEED + 1)
    assert [third.true_history(n) for n in some] != [one.true_history(n) for n in some]


def test_a_time_out_is_likely_to_be_followed_by_another_one():
    """A retry helps less than independent calls would."""

    def again(faults: Faults) -> float:
        api, pairs = TrackingAPI(faults=faults), []
        for number in numbers(500):
            told = [asked(api, number) == "TrackingTimeout" for _ in range(12)]
            pairs += [after for before, after in pairwise(told) if before]
        return float(np.mean(pairs))

    assert again(replace(Faults.none(), timeout=0.05)) == pytest.approx(0.6, abs=0.12)
    seen = rates(replace(Faults.none(), timeout=0.2))
    assert seen["TrackingTimeout"] == pytest.approx(0.2, abs=0.03), "the share stays"
    assert again(replace(Faults.none(), timeout=0.9)) == pytest.approx(0.9, abs=0.05)


def test_a_time_out_costs_no_time_and_says_how_much_it_would(monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    api = TrackingAPI(faults=replace(Faults.none(), timeout=1))
    with pytest.raises(TrackingTimeout, match="No answer") as caught:
        api.status(numbers(1)[0])
    assert caught.value.waited == WAIT
    assert waited == []
    assert isinstance(caught.value, TimeoutError)


def test_an_outage_has_a_beginning_and_an_end():
    start, end = NOON, NOON + 2 * HOUR
    api = TrackingAPI(faults=replace(Faults.none(), outages=((start, end),)))
    share = {}
    for at in (start - HOUR, start, end - HOUR, end):
        told = [asked(api, number, at) for number in numbers(200)]
        share[at] = np.mean([status == "TrackingTimeout" for status in told])
    assert share[start - HOUR] == share[end] == 0
    assert share[start] == pytest.approx(OUTAGE, abs=0.07)
    assert share[end - HOUR] == pytest.approx(OUTAGE, abs=0.07)
    assert Faults.outage(start, end).outages == ((start, end),)
    assert Faults.outage(start, end).stale == Faults().stale


def test_unknown_is_a_property_of_the_number():
    api = TrackingAPI(faults=replace(Faults.none(), unknown=0.3))
    for number in numbers(60):
        told = {isinstance(asked(api, number), str) for _ in range(4)}
        assert told == {api.is_unknown(number)}
    gone = next(n for n in numbers(60) if api.is_unknown(n))
    with pytest.raises(UnknownNumber, match="404"):
        api.status(gone)


def test_a_wrong_number_is_refused_before_any_call():
    api = TrackingAPI()
    for wrong in ("RR473124828XA", "RR4731248", "", "; drop table parcels"):
        with pytest.raises(BadNumber):
            api.status(wrong)
        with pytest.raises(BadNumber):
            api.true_status(wrong)
    assert not api.calls
    with pytest.raises(ValueError, match="No status texts in 'fr'"):
        api.status("RR473124829XA", language="fr")
    spaced = TrackingAPI(faults=Faults.none())
    assert spaced.status(" rr 473-124-829 xa ") == spaced.status("RR473124829XA")


def test_other_errors_and_bad_settings():
    number = numbers(1)[0]
    with pytest.raises(TrackingServerError, match="500"):
        TrackingAPI(faults=replace(Faults.none(), error=1)).status(number)
    with pytest.raises(TrackingRateLimited, match="429") as caught:
        TrackingAPI(faults=replace(Faults.none(), rate_limit=1)).status(number)
    assert caught.value.retry_after > 0
    with pytest.raises(ValueError, match="stale is a share"):
        Faults(stale=3)


def test_a_stale_answer_is_old_and_shows_it():
    api = TrackingAPI(faults=replace(Faults.none(), stale=1))
    hours = []
    for number in numbers(300):
        true, told = api.true_status(number), api.status(number)
        assert told.served_at == true.served_at == NOON
        assert told.scanned_at <= true.scanned_at
        if told.scanned_at < true.scanned_at:
            hours.append((true.scanned_at - told.scanned_at) / HOUR)
    assert len(hours) > 90
    assert STALE_HOURS[0] == 9


def test_a_wrong_depot_is_contradicted_by_another_answer():
    api = TrackingAPI(faults=replace(Faults.none(), wrong_depot=0.5))
    contradicted = 0
    for number in numbers(60):
        told = [api.status(number) for _ in range(6)]
        assert len({(status.code, status.scanned_at) for status in told}) == 1
        contradicted += len({status.depot for status in told}) > 1
        if told[0].depot:
            assert all(re.fullmatch(r"depot \d\d", status.depot) for status in told)
    assert contradicted > 40


def test_histories_are_those_of_parcels():
    api = TrackingAPI(faults=Faults.none())
    codes, allowed = Counter(), set(STATUS_TEXTS["en"])
    for number in numbers(500):
        history = api.true_history(number)
        moments = [event.at for event in history]
        assert moments == sorted(moments)
        assert history[0].code == "A1"
        assert history[0].at < NOON
        assert history[-1].code == "Z9"
        assert history[-2].code == "D4"
        assert 0 < (history[1].at - history[0].at) / HOUR <= 24
        assert {event.code for event in history} <= allowed
        for event in history:
            assert bool(event.depot) == (event.code != "A1")
            if event.code in ("A1", "T2", "D4"):
                assert event.eta >= event.at.normalize()
                assert event.eta.dayofweek < 6
            else:
                assert pd.isna(event.eta)
            if event.code == "D4":
                assert event.at.dayofweek < 6
        codes[api.status(number).code] += 1
    assert set(codes) == allowed
    assert codes["T2"] / 500 > 0.25
    assert codes["Z9"] / 500 < 0.4
    said = own_content().plan["topics"]
    named = re.findall(r"\b[A-Z]\d\b", said["tracking_status"]["facts"]["codes"])
    named += [said["tracking_not_updated"]["facts"]["code_delayed"]]
    named += [said["customs_inbound_fees"]["facts"]["code_held"]]
    named += [said["customs_documents_missing"]["facts"]["code"]]
    assert set(named) == allowed
    assert all(set(texts) == allowed for texts in STATUS_TEXTS.values())
    assert set(STATUS_TEXTS) == set(ARTICLES)


def test_time_goes_on_by_the_callers_clock():
    times = iter([NOON, NOON + 30 * DAY])
    api = TrackingAPI(faults=Faults.none(), clock=lambda: next(times))
    number = next(n for n in numbers(50) if TrackingAPI().true_status(n).code == "T2")
    before, after = api.status(number), api.status(number)
    assert (before.served_at, after.served_at) == (NOON, NOON + 30 * DAY)
    assert (before.code, after.code) == ("T2", "Z9")
    later = TrackingAPI(asked=NOON + 90 * DAY)
    assert NOON + 76 * DAY < later.true_history(number)[0].at < NOON + 90 * DAY
    german = TrackingAPI(faults=Faults.none()).status(number, language="de")
    assert german.text == "unterwegs"


# Contacts -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    return contacts(months=12, per_month=3000)


def test_the_same_seed_gives_the_same_contacts():
    assert_frame_equal(contacts(months=1), contacts(months=1), check_exact=True)
    assert not contacts(months=1).equals(contacts(seed=1, months=1))
    with pytest.raises(ValueError, match="must be positive"):
        contacts(months=0)


def shape_as_promised(year: pd.DataFrame) -> bool:
    """Say whether arrivals, channels, languages and kinds have the shares of the stream."""
    once = year[year["repeat_of"].isna()]
    day, hour = once["arrived"].dt.normalize(), once["arrived"].dt.hour
    peak = day.between("2026-11-25", "2026-12-31")
    usual = once[~peak].groupby(day[~peak]).size()
    by_weekday = usual.groupby(usual.index.dayofweek).mean()
    asked = own_content().questions.set_index("id")
    kind = once["question"].map(asked["kind"])
    by_number = (kind == "identifier") & (once["question"].map(asked["route"]) == "tracking")
    hours = hour.value_counts()
    checks = [
        abs(len(usual) and usual.mean() / (3000 / (365.25 / 12)) - 1) < 0.03,
        abs(once[peak].groupby(day[peak]).size().mean() / usual.mean() - 1.6) < 0.1,
        abs(by_weekday[0] / by_weekday[6] - 1.25 / 0.60) < 0.2,
        hours[10] > 1.3 * hours[14],
        hours[19] > 1.3 * hours[14],
        hours[3] < 0.05 * hours[10],
        abs((once["channel"] == "chat").mean() - 0.38) < 0.01,
        abs((once["channel"] == "phone").mean() - 0.16) < 0.01,
        abs((once["language"] == "de").mean() - 0.27) < 0.01,
        abs(by_number.mean() - 0.38) < 0.01,
        abs((kind == "paraphrase").mean() - 0.345) < 0.01,
        abs((kind == "unanswerable").mean() - 0.06) < 0.005,
        abs((kind == "injection").mean() - 0.01) < 0.005,
        (once["question"].str[:2] == once["language"]).all(),
        once["customer_patience"].between(0, 1).all(),
    ]
    return all(checks)


def test_arrivals_and_shares_are_those_of_the_stream(year):
    assert shape_as_promised(year)
    for shares in (CLASSES, INTENTS, LANGUAGES):
        assert sum(shares.values()) == pytest.approx(1)
    assert year["arrived"].is_monotonic_increasing
    assert (year["contact"] == np.arange(len(year))).all()
    assert year["arrived"].min() >= TODAY + DAY


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOURS", (1,) * 24),
        ("WEEK", (1,) * 7),
        ("PEAK", 1.0),
        ("CHANNELS", {"chat": 0.25, "app": 0.25, "e-mail": 0.25, "phone": 0.25}),
        ("LANGUAGES", {"en": 0.5, "de": 0.2, "es": 0.3}),
        ("CLASSES", CLASSES | {"tracking": 0.2, "paraphrase": 0.52}),
    ],
)
def test_another_stream_is_noticed(name, value, monkeypatch):
    module = sys.modules["casebook.cases.support_rag_chatbot.world.contacts"]
    monkeypatch.setattr(module, name, value)
    assert not shape_as_promised(contacts(months=12, per_month=3000))


def test_some_contacts_come_twice(year):
    twice = year[year["repeat_of"].notna()]
    assert len(twice) / len(year) == pytest.approx(0.03, abs=0.006)
    first = year.set_index("contact").loc[twice["repeat_of"].astype(int)]
    for column in ("question", "language", "value_at_stake_eur"):
        assert (first[column].to_numpy() == twice[column].to_numpy()).all()
    assert (first["channel"].to_numpy() != twice["channel"].to_numpy()).all()
    assert (first["arrived"].to_numpy() <= twice["arrived"].to_numpy()).all()
    assert first["repeat_of"].isna().all()


def test_more_is_at_stake_in_a_claim(year):
    topics = own_content().plan["topics"]
    asked = own_content().questions.set_index("id")
    intent = year["question"].map(asked["topic"]).map(lambda t: topics[t]["intent"] if t else "")
    median = year.groupby(intent)["value_at_stake_eur"].median()
    assert median["claim"] == pytest.approx(STAKES["claim"], rel=0.1)
    assert median["claim"] > 3 * median["shipping"] > 3 * median["tracking"]
    assert median[""] == 0


def test_people_answer_by_day(year):
    there = staffed(year["arrived"])
    assert set(year.loc[there, "arrived"].dt.hour) == set(range(7, 21))
    assert 0.8 < there.mean() < 0.97


# Outcomes -----------------------------------------------------------------------------


def every(year: pd.DataFrame, kind: str, **settings) -> pd.DataFrame:
    return outcomes(year, [kind] * len(year), **settings)


def test_an_outcome_hangs_on_seed_contact_and_kind_alone(year):
    kinds = np.array(ANSWER_KINDS)[year["contact"] % len(ANSWER_KINDS)]
    whole = outcomes(year, kinds).set_index("contact")
    part = year.sample(400, random_state=1)
    again = outcomes(part, kinds[part.index]).set_index("contact")
    assert_frame_equal(again, whole.loc[again.index], check_exact=True)
    row = year.iloc[17]
    one = outcome(row, kinds[17])
    assert one.cost_eur == whole.loc[17, "cost_eur"]
    assert (one.fate, one.csat) == (whole.loc[17, "fate"], whole.loc[17, "csat"])
    assert not whole.equals(outcomes(year, kinds, seed=1).set_index("contact"))


def test_reactions_are_shares_and_come_true(year):
    for kind, shares in REACTIONS.items():
        assert sum(shares) == pytest.approx(1), kind
        seen = every(year, kind)["fate"].value_counts(normalize=True)
        for fate, share in zip(FATES, shares, strict=True):
            assert seen.get(fate, 0) == pytest.approx(share, abs=0.012), (kind, fate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REACTIONS, "wrong", (0.3, 0.0, 0.1, 0.3, 0.1, 0.2))
        seen = every(year, "wrong")["fate"].value_counts(normalize=True)
    assert seen.get("helped", 0) > 0.25


def test_a_right_answer_is_never_worse_for_the_same_contact(year):
    right, wrong = every(year, "right"), every(year, "wrong")
    assert (right["resolved"] | ~wrong["resolved"]).mean() > 0.99
    assert (right["csat"] >= wrong["csat"]).mean() > 0.97
    assert right["cost_eur"].mean() < 0.5 < wrong["cost_eur"].mean()
    stale = every(year, "stale")
    assert stale["customer_loss_eur"].mean() > wrong["customer_loss_eur"].mean() > 2
    assert not right["customer_loss_eur"].any()
    two = every(year, "right_other_language")
    assert right["resolved"].mean() > two["resolved"].mean() > wrong["resolved"].mean()


def test_containment_counts_those_who_gave_up_or_believe_what_is_wrong(year):
    wrong = every(year, "wrong")
    contained = ~wrong["escalated"]
    assert contained.mean() > 0.5
    assert wrong.loc[contained, "resolved"].mean() < 0.15
    person = every(year, "abstain_to_human")
    assert (~person["escalated"]).mean() < 0.05
    assert person["resolved"].mean() > 0.85


def test_cost_of_a_contact(year):
    person = every(year, "abstain_to_human").query("escalated")
    assert 4 < (person["minutes"] * EURO_A_MINUTE).mean() < 6
    assert person["cost_eur"].mean() == pytest.approx((person["minutes"] * 0.55).mean() + 0.01)
    assert person["resolved"].mean() == pytest.approx(0.93, abs=0.01)
    misled = every(year, "wrong").query("fate == 'believed'")
    made_good = misled["cost_eur"] - 0.01
    assert made_good.to_numpy() == pytest.approx(misled["customer_loss_eur"].to_numpy() / 2)
    lost = every(year, "refused_wrong").query("fate == 'gave_up'")["cost_eur"]
    assert (lost > 40).mean() == pytest.approx(0.03, abs=0.01)
    helped = every(year, "right").query("fate == 'helped'")
    assert (helped["cost_eur"] == 0.01).all()
    search = every(year, "right", served="faq").query("fate == 'helped'")
    assert (search["cost_eur"] == 0.002).all()
    by_phone = person[year.loc[person.index, "channel"] == "phone"]["minutes"].median()
    by_chat = person[year.loc[person.index, "channel"] == "chat"]["minutes"].median()
    assert by_phone / by_chat == pytest.approx(1.3, abs=0.1)
    assert a_month(0.5) == 1_000_000


def test_satisfaction_falls_with_turns_and_waiting(year):
    quick, slow = every(year, "right"), every(year, "right", turns=6)
    assert (quick["csat"] >= slow["csat"]).all()
    assert quick["csat"].mean() - slow["csat"].mean() > 0.05
    assert set(quick["csat"]) == {1, 2, 3, 4, 5}
    mixed = outcomes(year, np.array(["right", "wrong"])[year["contact"] % 2])
    told = mixed.query("surveyed")["csat"].mean()
    assert told < mixed["csat"].mean() - 0.1, "the angry answer the survey"


def test_a_customer_who_comes_back_does_so_after_hours(year):
    away = every(year, "timeout_told")
    back = away["repeat_in_hours"].notna()
    assert (back == away["fate"].isin(["again", "called"])).all()
    assert away.loc[away["fate"] == "again", "repeat_in_hours"].median() == pytest.approx(
        2, rel=0.1
    )


def test_bad_calls_say_what_is_wrong(year):
    with pytest.raises(ValueError, match=r"Unknown kinds of answer \['nonsense'\]"):
        outcomes(year.head(1), ["nonsense"])
    with pytest.raises(ValueError, match="2 kinds of answer for 1 contacts"):
        outcomes(year.head(1), ["right", "right"])
    with pytest.raises(ValueError, match="not by 'pigeon'"):
        outcomes(year.head(1), ["right"], served="pigeon")
    assert outcomes(year.head(0), []).empty
    assert set(BASELINE.values()) <= set(ANSWER_KINDS)


# Showing and storing --------------------------------------------------------------------


def test_the_committed_snapshots_are_what_the_world_makes():
    made = snapshots()
    files = {p.name: p.stat().st_size for p in (data_dir() / CHAPTER).glob("*.parquet")}
    # Vectors and requests are no snapshots; the tests of the typed question and of written answers
    # (test_support_rag_chatbot_generation, the table support_generation) make them again.
    assert made.keys() == files.keys() - {VECTORS, REQUESTS}
    assert sum(files.values()) < 2e6
    for name, frame in made.items():
        assert_frame_equal(snapshot(CHAPTER, name), frame, check_exact=True)
    card = (data_dir() / CHAPTER / "README.md").read_text(encoding="utf-8")
    for name, frame in made.items():
        row = next(line for line in card.splitlines() if line.startswith(f"| `{name}`"))
        assert all(f"`{column}`" in row for column in frame.columns), name
        assert f"{len(frame):,} rows" in row, name


def test_the_world_is_imported_fast_and_needs_no_system():
    code = (
        "import sys, casebook.cases.support_rag_chatbot.world as world\n"
        "case = world.__name__.rpartition('.')[0] + '.'\n"
        "heavy = {'scipy', 'sklearn', 'bm25s', 'yaml', 'torch'} & set(sys.modules)\n"
        "heavy |= {m for m in sys.modules if m.startswith(case) and world.__name__ not in m}\n"
        "print(sorted(heavy))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
