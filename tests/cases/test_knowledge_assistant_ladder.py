"""The ladder on a small world, with an embedder that understands its wording."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from knowledge_assistant_reader import Understanding

from casebook.cases.knowledge_assistant import ladder, studies
from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.answering import Assistant
from casebook.cases.knowledge_assistant.library import Mix
from casebook.cases.knowledge_assistant.records import Document, Event, moment

COSTS = {"right": 1.0, "wrong": 30.0, "unknown": 9.0}


@lru_cache(maxsize=1)
def small():
    """Return a setting, what was learned, what was found, the choices and the graded rungs."""
    world = worlds.simulate(3, people=60, teams=6, documents=420)
    asked = worlds.ask(world, 1800, 90, askers=15)
    setting = ladder.setting_of(world, asked, Understanding())
    learned, looked, choices = ladder.learn(setting, ladder.signals_of(setting), COSTS)
    return setting, learned, looked, choices, ladder.rungs(setting, looked, learned)


def test_no_fact_lies_on_two_sides_and_kinds_share_a_fact():
    setting = small()[0]
    facts = setting.world.facts.drop_duplicates("fact")
    split = pd.Series(ladder.split_of(setting.world, facts["fact"]), facts.index)
    sides = split.groupby([facts["team"], facts["attribute"]]).nunique()
    assert (sides == 1).all() and set(split) == set(ladder.SPLITS)


def test_each_rung_asks_under_the_rights_of_who_asks():
    setting, learned, looked = small()[:3]
    state = worlds.State((*setting.world.firm.events, *setting.world.events))
    keywords = ladder.Keywords(setting)
    for n in range(0, len(looked), 3):
        one = setting.asked.iloc[n]
        ranked = ladder._rankings(setting, looked[n], learned)
        found = {name for names in ranked.values() for name in names}
        found |= {*keywords(one["user"], one["turns"][-1])}
        assert found <= state.visible(one["user"])


def test_the_service_answers_as_the_ladder_grades():
    """One function decides: what is graded is what the assistant says."""
    setting, learned, looked = small()[:3]
    assistant = Assistant(setting.library, learned)
    test = np.flatnonzero(setting.asked["split"] == "test")
    given = 0
    for n in test:
        one = setting.asked.iloc[n]
        question = assistant.understood(one["user"], one["turns"])
        answer = assistant.answer(one["user"], question, setting.now)
        held, said = ladder.settle(setting, looked[n], learned, n)
        sure = ladder.sureness(said, held, learned, setting.now)
        assert answer.held == (held if sure >= learned.threshold else None)
        given += answer.held is not None
    assert given > 5


def test_better_rungs_find_more():
    table = small()[4]
    found = ladder.summary(table).set_index(["rung", "measure"])["value"]
    assert found["hybrid", "recall"] > found["BM25", "recall"] + 0.2
    assert found["+ rerank", "recall"] >= found["hybrid", "recall"]
    own = table[table["rung"] == "answers"]
    assert set(own["outcome"]) == {"right", "wrong", "unknown"}
    shares = studies.outcome_shares(table)
    assert np.allclose(shares.sum(axis=1), 1) and len(shares) == 1001


def test_what_is_learned_does_not_depend_on_the_test_facts():
    setting, learned = small()[:2]
    others = setting.asked[setting.asked["split"] != "test"].reset_index(drop=True)
    own = ladder.Setting(setting.world, setting.library, others)
    again, _, _ = ladder.learn(own, ladder.signals_of(own), COSTS)
    assert again == learned


def test_conversations_are_understood_and_contradictions_shown():
    setting, learned, looked = small()[:3]
    ways = studies.rewriting(setting, learned.mix).set_index("way")
    assert ways.loc["rules", "team"] == 1 and ways.loc["last turn", "team"] < 1
    assert ways.loc["rules", "recall"] > ways.loc["last turn", "recall"]
    found = studies.conflicts(setting, looked, learned).set_index(["what", "measure"])["value"]
    assert found["questions", "recall"] > 0.5
    each, judge = studies.ragas(setting, looked, learned)
    assert each["faithfulness"].mean() > 0.9 and each["right"].mean() < 1
    assert judge.set_index("kind").loc["all", "bias"] > 0


def test_a_version_with_the_same_text_is_no_news():
    page = Document(
        "wiki:d1", "wiki", "p", "t", "b", 1, moment("2025-01-01"), "user:1", False, "wiki:c1"
    )
    events = []
    for n, (body, day) in enumerate(
        [("b", "2025-01-01"), ("c", "2025-02-01"), ("c", "2025-03-01")]
    ):
        given = {name: getattr(page, name) for name in Document.__slots__}
        given |= {"body": body, "version": n + 1, "modified": moment(day)}
        events.append(Event("wiki", n, moment(day), "document", "wiki:d1", Document(**given)))
    assert ladder.text_dates(events) == {"wiki:d1": moment("2025-02-01")}


def test_measures_by_hand():
    assert ladder.recall_at(["a", "b"], ["b", "c"]) == 0.5 and np.isnan(ladder.recall_at([], []))
    assert ladder.true_first(["x", "old", "new"], ["new"], ["old"]) == 0
    assert ladder.true_first(["x", "new", "old"], ["new"], ["old"]) == 1
    assert ladder.true_first(["x", "y", "z", "new"], ["new"], []) == 0
    assert Mix(0.5, 1.0, 10.0).prior(np.array([0.0, 10.0, -5.0])).tolist() == [1.0, 0.5, 1.0]


def test_too_few_answers_are_an_error():
    setting, learned, looked = small()[:3]
    few = ladder.Setting(setting.world, setting.library, setting.asked.head(6))
    with pytest.raises(ValueError, match="ask more questions"):
        ladder.learn_threshold(few, looked[:6], learned, COSTS)
