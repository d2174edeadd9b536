"""Models that write are asked alike and scored alike; what the check lets through is backed.

No test needs the small local model: an engine of the tests' says what it would have said.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from support_rag_chatbot_fakes import ARTICLES, MODEL, NOW

from casebook.cases.support_rag_chatbot import artifacts, generation, planted, world, worth, written
from casebook.cases.support_rag_chatbot import evaluation as ev
from casebook.cases.support_rag_chatbot.answer import ExtractiveReader, quoted
from casebook.cases.support_rag_chatbot.evaluation import Label
from casebook.cases.support_rag_chatbot.generation import PROMPTS, SECTIONS
from casebook.cases.support_rag_chatbot.languages import HelpCentre, Query
from casebook.llm import RateLimited, Scripted
from casebook.project import data_dir
from casebook.retrieval import answers, claims
from casebook.retrieval.planted import caught, refused, strictness

QUESTIONS = pd.DataFrame(
    {
        "id": ["q1", "q2", "q3"],
        "language": ["en", "en", "de"],
        "query": [
            Query("how long do you keep a parcel", "en"),
            Query("what is the meaning of life", "en"),
            Query("wie lange bewahrt ihr ein paket auf", "de"),
        ],
        "answerable": [True, False, True],
        "answer_value": ["7", "", "7"],
        "answer": ["We keep a parcel for 7 days.", "", "Wir bewahren ein Paket 7 Tage auf."],
        "topic": ["storage", None, "storage"],
    }
)
REPLIES = {
    "q1": "We keep a parcel for seven days [1].",
    "q2": "It is 42, and a parcel is kept for 99 days.",
    "q3": "I do not know.",
}


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    with HelpCentre.build(tmp_path_factory.mktemp("index"), ARTICLES, MODEL) as centre:
        signals = {query: centre.signals(query, NOW) for query in QUESTIONS["query"]}
        return list(generation.requests(QUESTIONS, signals, centre, MODEL, NOW))


@pytest.fixture
def scores(items, monkeypatch):
    monkeypatch.setattr(
        worth, "Labels", lambda at: lambda question, key, start, end: Label("right", True)
    )
    model = Scripted(list(REPLIES.values()), name="small")
    rows = generation.answered(items, model, PROMPTS["marks"])
    both = pd.concat([rows, generation.quoted_answers(items)])
    return worth.scored(both, items, QUESTIONS)


def test_every_model_is_given_the_same_sections(items):
    assert [one.question for one in items] == ["q1", "q2", "q3"]
    first = items[0]
    assert len(first.sources) <= SECTIONS and first.sources[0].number == 1
    assert "7 days" in " ".join(source.text for source in first.sources)
    assert (items[2].language, items[2].read_in) == ("de", "de")
    assert generation.from_frame(generation.as_frame(items)) == items


def test_three_outcomes_before_and_after_the_check(scores):
    small = scores[scores["model"] == "small"].set_index("id")
    assert small["verdict"].to_dict() == {"q1": "correct", "q2": "wrong", "q3": "missing"}
    assert small["after"].to_dict() == {"q1": "correct", "q2": "correct", "q3": "missing"}
    assert small["let_through"].to_dict() == {"q1": True, "q2": False, "q3": False}
    assert small.loc["q2", "invented"] == 2 and small.loc["q1", "invented"] == 0
    reader = scores[scores["model"] == "extractive reader"].set_index("id")
    assert reader.loc["q1", "verdict"] == "correct" and reader.loc["q2", "verdict"] == "wrong"
    assert reader["let_through"].all() and (reader["supported"] == reader["claims"]).all()


def test_a_summary_has_an_interval_for_each_share(scores):
    topics = QUESTIONS.set_index("id")["topic"].fillna("none")
    table = answers.summary(scores, topics).set_index(["model", "what"])
    assert table.loc[("small", "wrong"), "value"] == pytest.approx(1 / 3)
    assert table.loc[("small", "wrong, after the check"), "value"] == 0
    assert table.loc[("small", "correct less wrong"), "value"] == pytest.approx(0)
    low, high = table.loc[("small", "correct"), ["low", "high"]]
    assert low <= table.loc[("small", "correct"), "value"] <= high


def _replies(prompt="marks", **changed):
    stamp = PROMPTS[prompt].stamp
    rows = [(i, prompt, stamp, "small", t, 100, 9, "stop", 0.5, 1.5) for i, t in REPLIES.items()]
    return pd.DataFrame(rows, columns=generation.REPLY).assign(**changed)


def test_recorded_replies_are_read_with_the_prompt_that_made_them(items):
    again = generation.read_again(_replies(), items).set_index("id")
    model = Scripted(list(REPLIES.values()), name="small")
    live = generation.answered(items, model, PROMPTS["marks"])
    assert again["cited"].to_dict() == live.set_index("id")["cited"].to_dict()
    assert again.loc["q1", "seconds"] == 1.5 and (again["faults"] == "").all()
    cut = generation.read_again(_replies(finish_reason="length"), items)
    assert (cut["faults"] == "was cut off").all()
    with pytest.raises(ValueError, match="make artifacts N=16"):
        generation.read_again(_replies(prompt="marks").assign(prompt="marks/0 abc"), items)


# Recording, with an engine of the tests'


class Engine:
    """An engine that says one text, a token a word, and counts how often it is asked."""

    ends = frozenset({0})

    def __init__(self, text="It is kept."):
        self.tokens = [*range(1, len(text.split()) + 1), 0]
        self.vocabulary = SimpleNamespace(
            tokens=[b"", *(f"{word} ".encode() for word in text.split())]
        )
        self.sessions = 0

    def encode(self, messages):
        return [1] * 7

    def session(self):
        self.sessions, said = self.sessions + 1, iter(self.tokens)

        def scores(given):
            return np.eye(len(self.vocabulary.tokens))[next(said)]

        return scores


def test_what_was_asked_before_a_stop_is_not_asked_again(items, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "BATCH", 2)
    engine, waits = Engine(), []

    def stop_at_the_second():
        waits.append(1)
        if len(waits) == 2:
            raise KeyboardInterrupt

    ask = partial(generation.recorded_answers, items, "plain", tmp_path, lambda: engine)
    with pytest.raises(KeyboardInterrupt):
        ask(stop_at_the_second)
    assert engine.sessions == 2
    rows = ask()
    assert engine.sessions == 3 and list(rows["id"]) == ["q1", "q2", "q3"]
    assert list(rows.columns) == list(generation.REPLY)
    assert set(rows["text"]) == {"It is kept. "} and set(rows["finish_reason"]) == {"stop"}
    none = partial(generation.recorded_answers, items, "plain", tmp_path, lambda: 1 / 0)
    pd.testing.assert_frame_equal(none(), rows)  # nothing is loaded where all is there
    with pytest.raises(ZeroDivisionError):
        generation.recorded_answers(items, "marks", tmp_path, lambda: 1 / 0)


# One question, live


def test_a_model_that_is_here_answers_and_else_the_recorded_one_does(items):
    stored, one = generation.read_again(_replies(), items), items[0]
    own = Scripted([{"found": True, "answer": "For 7 days.", "citations": [1]}], name="hosted")
    made, who = generation.live(one, stored, own)
    assert (made.text, who) == ("For 7 days.", "hosted, asked now")
    assert "number" in own.requests[0].messages[1].content  # the prompt for a large one
    small = Scripted(["For 7 days."], name="small")
    made, who = generation.live(one, stored, ExtractiveReader(), lambda: small)
    assert who == "small, asked now" and made.prompt == PROMPTS[generation.CHOSEN].stamp
    made, who = generation.live(one, stored, None, lambda: None)
    assert made.text == REPLIES["q1"]
    assert who == "recorded answer of small (no model is here)"
    down = Scripted([RateLimited("429")], name="hosted")
    made, who = generation.live(one, stored, down)
    assert made.text == REPLIES["q1"] and "RateLimited" in who
    with pytest.raises(KeyError, match="no answer to 'q1'"):
        generation.live(one, stored.head(0), None, lambda: None)


def test_without_the_packages_there_is_no_small_model(monkeypatch):
    monkeypatch.setattr(generation, "find_spec", lambda name: None)
    assert generation.small_model() is None


# What is stored


def test_the_stored_requests_hold_what_the_articles_say():
    articles = world.knowledge_base().set_index(["article_id", "language", "version"])["text"]
    table = ev.asked().set_index("id")
    for split, n in (("test", 461), ("tune", 40)):
        stored = generation.stored_requests(split)
        assert len(stored) == n and set(table.loc[[o.question for o in stored], "split"]) == {split}
        for one in stored[::20]:
            for source, (name, code, version, start, end) in zip(
                one.sources, one.places, strict=True
            ):
                cut = SimpleNamespace(text=articles[(name, code, version)][start:end])
                assert quoted(cut) == source.text
            assert table.loc[one.question, "query"].text == one.text


def test_all_english_test_questions_are_asked_and_tuning_topics_are_others():
    table = ev.asked()
    rows = generation.chosen(table)
    english = ev.to_articles(table[(table["split"] == "test") & (table["language"] == "en")])
    assert set(english["id"]) <= set(rows["id"])
    assert rows.groupby(["split", "language"]).size().to_dict() == {
        ("test", "de"): 40, ("test", "en"): 381, ("test", "es"): 40, ("tune", "en"): 40,
    }  # fmt: skip
    ids = [o.question for split in ("test", "tune") for o in generation.stored_requests(split)]
    assert ids == list(rows["id"])


#: A prompt's words are known by their hash: who changes them gives the prompt a new number.
STAMPS = {
    "marks": "marks/1 274b2c", "plain": "plain/1 563ab1",
    "one": "one/1 4ac2d8", "form": "form/1 0a10f7",
}  # fmt: skip


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_whose_words_change_gets_another_number(name):
    assert PROMPTS[name].stamp == STAMPS[name]
    assert replace(PROMPTS[name], system="Be brief.").stamp != STAMPS[name]


# The artifact's sample, and what reads it


def _stored(split="tune", n=12, text="I do not know, since the passages do not say it."):
    items = generation.stored_requests(split)[:n]
    stamp = PROMPTS["plain"].stamp
    rows = [(o.question, "plain", stamp, "small", text, 99, 9, "stop", 0.5, 1.5) for o in items]
    return pd.DataFrame(rows, columns=generation.REPLY)


@pytest.mark.parametrize(
    ("text", "tokens", "found"),
    [
        ("I do not know, since the passages are silent.", 99, []),
        ("It is kept.", 99, ["4 of 4 answers begin otherwise"]),
        ("I do not know, since the passages are silent.", 98, ["other tokens were read"]),
    ],
)
def test_a_sample_of_the_answers_is_asked_again(text, tokens, found):
    def ask(one, name):
        return one.question, name, "", "small", text, tokens, 9, "stop", 0.5, 1.5

    how, lines = artifacts.compare_answers(_stored(), ask, np.random.default_rng(0))
    assert "of 4 answers begin" in how and bool(lines) == bool(found)
    assert all(one in " ".join(lines) for one in found)


def test_studies_read_the_answers_of_one_prompt_and_split(monkeypatch):
    both = pd.concat([_stored(), _stored("test", 3, "It is kept.")])
    monkeypatch.setattr(written, "artifact", lambda case, file: both)
    assert len(written.replies("tune", "plain")) == 12 and len(written.replies()) == 3
    assert written.replies("tune", "plain")["declined"].all()
    assert written.replies("tune", "marks").empty


def test_the_rule_agrees_with_what_was_read_one_by_one():
    path = data_dir() / generation.FOLDER / "read_by_hand.csv"
    read = pd.read_csv(path).set_index("id")
    items = [one for one in generation.stored_requests() if one.question in read.index]
    rows = written.replies()
    rows = rows[rows["id"].isin(read.index)]
    table = worth.scored(rows, items, ev.asked()).set_index("id").loc[read.index]
    assert (table["prompt"] == read["prompt"]).all()
    assert (table["verdict"] == read["read"]).mean() > 0.9
    assert (table["verdict"].sample(frac=1, random_state=0).to_numpy() == read["read"]).mean() < 0.8


# What answers are worth beside their shares


def test_the_rule_is_held_against_the_place(scores):
    found = worth.rule_against_place(scores.assign(place=["right"] * 5 + ["partial"]))
    assert found.loc["right", "correct"] == 1 and found.to_numpy().sum() == 2


# Planted faults


@pytest.fixture(scope="module")
def tried():
    table = planted.sections()
    return refused(planted.tried(table[::6].reset_index(drop=True), seed=5))


def test_most_planted_faults_are_caught_and_what_is_said_word_for_word_passes(tried):
    share = caught(tried).set_index("kind")["refused"]
    for kind in ("wrong number", "wrong unit", "invented sentence", "sentence of another article"):
        assert share[kind] > 0.95
    assert share["negation"] > 0.9 and share["half invented"] > 0.9
    assert share["word for word"] == 0 and share["shortened"] < 0.05
    assert share["wrong entity"] < 0.5  # one wrong word among many: the rules do not see it


def test_a_check_without_a_rule_catches_less(tried, monkeypatch):
    rows = tried[tried["kind"] == "negation"]
    monkeypatch.setattr(claims, "_denies_alike", lambda claim, source, language: True)
    assert refused(rows)["refused"].mean() < 0.5


def test_a_stricter_check_catches_more_and_alarms_more(tried):
    found = strictness(tried, (0.5, 1.0)).groupby(["true", "least"])["refused"].mean()
    assert found[False, 0.5] < found[False, 1.0] and found[True, 0.5] < found[True, 1.0]
