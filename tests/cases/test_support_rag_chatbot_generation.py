"""Models that write are asked alike and scored alike; what the check lets through is backed."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from support_rag_chatbot_fakes import ARTICLES, MODEL, NOW

from casebook.cases.support_rag_chatbot import generation
from casebook.cases.support_rag_chatbot.evaluation import Label
from casebook.cases.support_rag_chatbot.generation import PROMPTS, SECTIONS
from casebook.cases.support_rag_chatbot.languages import HelpCentre, Query
from casebook.llm import Scripted

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
        generation, "Labels", lambda: lambda question, key, start, end: Label("right", True)
    )
    model = Scripted(list(REPLIES.values()), name="small")
    rows = generation.answered(items, model, PROMPTS["marks"])
    both = pd.concat([rows, generation.quoted_answers(items)])
    return generation.scored(both, items, QUESTIONS)


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
    table = generation.summary(scores, topics).set_index(["model", "what"])
    assert table.loc[("small", "wrong"), "value"] == pytest.approx(1 / 3)
    assert table.loc[("small", "wrong, after the check"), "value"] == 0
    assert table.loc[("small", "score"), "value"] == pytest.approx(0)
    low, high = table.loc[("small", "correct"), ["low", "high"]]
    assert low <= table.loc[("small", "correct"), "value"] <= high


def test_recorded_replies_are_read_with_the_prompt_that_made_them(items):
    prompt = PROMPTS["marks"]
    rows = pd.DataFrame(
        [(i, "marks", prompt.stamp, t, 100, 9, "stop", 1.5) for i, t in REPLIES.items()],
        columns=["id", "name", "prompt", "text", "prompt_tokens", "completion_tokens",
                 "finish_reason", "seconds"],
    )  # fmt: skip
    again = generation.read_again(rows, items, "small").set_index("id")
    live = generation.answered(items, Scripted(list(REPLIES.values()), name="small"), prompt)
    assert again["cited"].to_dict() == live.set_index("id")["cited"].to_dict()
    assert again.loc["q1", "seconds"] == 1.5
    with pytest.raises(ValueError, match="make artifacts N=16"):
        generation.read_again(rows.assign(prompt="marks/0 abc"), items, "small")


#: A prompt's words are known by their hash: who changes them gives the prompt a new number.
STAMPS = {"marks": "marks/1 3946d3", "plain": "plain/1 b07522", "form": "form/1 25e12f"}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_whose_words_change_gets_another_number(name):
    assert PROMPTS[name].stamp == STAMPS[name]
    assert replace(PROMPTS[name], system="Be brief.").stamp != STAMPS[name]
