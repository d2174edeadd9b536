"""The ladder on a small world with an embedder that understands it; every study, reduced."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pandas as pd
import pytest
from knowledge_assistant_reader import Understanding

from casebook.cases.knowledge_assistant import artifacts, benchmarks, fitted, ladder, studies
from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.answering import Assistant
from casebook.cases.knowledge_assistant.library import Mix
from casebook.cases.knowledge_assistant.records import Document, Event, moment
from casebook.cases.knowledge_assistant.value import costs
from casebook.data import find_real
from casebook.retrieval.dense import Hashed

COSTS = costs()


UNDERSTANDING = Understanding()


def small():
    """Return a setting, what was learned, what was found, the choices and the graded rungs."""
    one = benchmarks.fitted(embedder=UNDERSTANDING, **benchmarks.REDUCED["rungs"])
    return one.setting, one.learned, one.looked, one.choices, one.rungs


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


# Studies -----------------------------------------------------------------------------

#: Those of one world, which is fitted once, and those that build worlds of their own.
READING = ("rungs", "choices", "rewriting", "conflicts", "judge", "worth", "sensitivity", "latency")
OTHERS = ("filtered", "router", "rights", "leaks", "catches", "not_found", "bound", "sync")


def test_every_study_has_sizes_for_a_live_run():
    assert set(benchmarks.REDUCED) == set(benchmarks.BENCHMARKS)
    for name, study in benchmarks.BENCHMARKS.items():
        known = inspect.signature(study).parameters
        free = any(one.kind is one.VAR_KEYWORD for one in known.values())
        assert free or set(benchmarks.REDUCED[name]) <= set(known), name


def run(name: str) -> pd.DataFrame:
    how = dict(benchmarks.REDUCED[name])
    if name in READING:
        how["embedder"] = UNDERSTANDING
    if name == "real_handbooks":
        how["embedder"] = Hashed(64)
    return benchmarks.BENCHMARKS[name](**how)


@pytest.mark.parametrize("name", [*READING, *OTHERS])
def test_a_reduced_study_gives_what_it_says(name):
    made = run(name)
    assert len(made) and made.drop(columns=["check", "first"], errors="ignore").notna().any().all()
    if "DataFrame\n    ---" in (told := inspect.getdoc(benchmarks.BENCHMARKS[name]) or ""):
        said = re.findall(r"``(\w+)``", told.split("DataFrame\n")[1])
        assert set(said) <= {*made.columns}


def test_rungs_of_one_world_have_recall_first_and_right_and_no_measure_of_two_things():
    made = run("rungs")
    ranked = made[~made["rung"].str.startswith("answers")]
    assert set(ranked["measure"]) == {"recall", "first"}
    assert set(made["measure"]) - {"recall", "first"} == {"right"}
    assert set(made[made["measure"] == "right"]["rung"]) == set(ladder.RUNGS[-4:])


def test_the_share_of_the_gap_by_hand():
    """From .5 to 1 the model comes to .75 in one world and to 1 in the other."""
    rows = [
        *((1, "answers, keywords", "right", x) for x in (0, 1)),
        *((1, "answers, BM25", "right", x) for x in (0, 1)),
        *((1, "answers", "right", x) for x in (0, 1, 1, 1)),
        *((2, rung, "right", x) for rung in ("answers, keywords", "answers, BM25") for x in (1, 0)),
        (2, "answers", "right", 1),
        *((w, r, "recall", 0.2) for w in (1, 2) for r in ("keywords per source", "BM25")),
        *((w, "+ freshness", "recall", 0.6) for w in (1, 2)),
    ]
    long = pd.DataFrame(rows, columns=["world", "rung", "measure", "value"])
    wide = long.assign(right=np.nan, recall=np.nan, split="test")
    for measure in ("right", "recall"):
        own = wide["measure"] == measure
        wide.loc[own, measure] = wide.loc[own, "value"]
    found = studies.gap_closed(wide).set_index(["measure", "floor"])
    right = found.loc["right", "answers, BM25"]
    assert right[["share", "at_floor", "at_rung", "worlds"]].tolist() == [0.75, 0.5, 0.875, 2]
    assert right["low"] < 0.75 < right["high"]
    assert found.loc["recall", "BM25"]["share"] == pytest.approx(0.5)


def test_worlds_are_graded_apart_and_summed_up(monkeypatch):
    one = benchmarks.fitted(embedder=UNDERSTANDING, **benchmarks.REDUCED["rungs"])
    monkeypatch.setattr(fitted, "fit", lambda seed, questions, embedder, **sizes: one)
    how = {"embedder": UNDERSTANDING, **benchmarks.REDUCED["gap_over_worlds"]}
    graded = fitted.graded_worlds(**how)
    assert set(graded["split"]) == {"test"} and set(graded["world"]) == {3, 4}
    gap = benchmarks.gap_over_worlds(**how).set_index(["measure", "floor"])["share"]
    assert (gap > 0.2).all() and set(benchmarks.rungs_over_worlds(**how)["rung"]) == {*ladder.RUNGS}


def test_a_plain_reader_takes_a_value_of_the_first_document():
    setting, _, looked = small()[:3]
    library, own = setting.library, setting.asked
    good = 0
    for n in np.flatnonzero(own["support"].map(bool))[:30]:
        one = own.iloc[n]
        first = ladder.first_value(library, one["user"], looked[n].question, one["support"])
        good += ladder.graded(one, first)
    assert good > 10
    assert ladder.first_value(library, own["user"].iat[0], "x", []) == ""


def test_a_planted_change_of_a_stored_row_is_found():
    table = small()[4].query("split == 'test'").assign(world=3)
    keys = ["world", "question", "rung"]
    assert artifacts.compare_rows("world 3", table, table.copy(), keys) == []
    other = table.assign(right=1 - table["right"])
    assert "rows differ" in artifacts.compare_rows("world 3", table, other, keys)[0]
    assert artifacts.compare_rows("world 3", table, table.iloc[1:], keys) != []


def test_the_handbooks_are_searched_under_permissions():
    if find_real("tts_handbook") is None:
        pytest.skip("the handbook is not here, or real data are switched off")
    made = run("real_handbooks").set_index("rung")
    assert made.loc["BM25", "recall"] > 0.4 and (made["of"] == 10).all()
