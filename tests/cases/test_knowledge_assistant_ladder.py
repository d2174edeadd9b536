"""The ladder on a small world with an embedder that understands it; every study, reduced."""

from __future__ import annotations

import inspect
import re
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from knowledge_assistant_reader import Understanding

from casebook.cases.knowledge_assistant import (
    artifacts,
    benchmarks,
    fitted,
    ladder,
    studies,
    timed,
)
from casebook.cases.knowledge_assistant import world as worlds
from casebook.cases.knowledge_assistant.answering import Assistant
from casebook.cases.knowledge_assistant.library import Mix
from casebook.cases.knowledge_assistant.records import Document, Event, moment
from casebook.cases.knowledge_assistant.value import OUTCOMES, costs
from casebook.cases.knowledge_assistant.world.writing import ATTRIBUTES
from casebook.data import find_real
from casebook.retrieval.dense import Hashed
from casebook.retrieval.statements import Statement
from casebook.serving.tell_apart import Told

COSTS = costs()


class Hears(Understanding):
    """One that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: set[str] = set()

    def encode(self, texts):
        self.texts.update(texts)
        return super().encode(texts)


UNDERSTANDING = Hears()


def small():
    """Return a setting, what was learned, what was found, the choices and the graded rungs."""
    one = benchmarks.fitted(embedder=UNDERSTANDING, **benchmarks.REDUCED["judge"])
    return one.setting, one.learned, one.looked, one.choices, one.rungs


def test_no_fact_lies_on_two_sides_and_kinds_share_a_fact():
    setting = small()[0]
    facts = setting.world.facts.drop_duplicates("fact")
    about = ladder.attributes_of(setting.world, facts["fact"])
    assert about.equals(facts["attribute"])
    split = ladder.split_of(about)
    sides = split.groupby([facts["team"], facts["attribute"]]).nunique()
    assert (sides == 1).all() and set(split) == set(ladder.SPLITS)
    # what is tested was not learned from under the name of another team either
    assert (split.groupby(facts["attribute"]).nunique() == 1).all()
    asked = setting.asked.groupby("split")["attribute"].agg(set)
    assert not asked["test"] & asked["tune"] and not asked["test"] & asked["validation"]
    share = pd.Series(ladder.split_of(pd.Series([*ATTRIBUTES]))).value_counts(normalize=True)
    assert share["tune"] >= 0.4 and share["test"] >= 0.4 and share["validation"] >= 0.15


def test_each_rung_asks_under_the_rights_of_who_asks():
    setting, learned, looked = small()[:3]
    state = worlds.State((*setting.world.firm.events, *setting.world.events))
    keywords = ladder.Keywords(setting)
    for n in range(0, len(looked), 3):
        one = setting.asked.iloc[n]
        ranked = ladder._rankings(setting, looked[n], learned)
        found = {name for names in ranked.values() for name in names}
        found |= {*keywords(one["user"], looked[n].question)}
        assert found <= state.visible(one["user"])


def test_the_service_answers_as_the_ladder_grades():
    """One function decides: what is graded is what the assistant says."""
    setting, learned, looked = small()[:3]
    assistant = Assistant(setting.library, learned)
    test = np.flatnonzero(setting.asked["split"] == "test")
    unsure, given, quoted = replace(learned, threshold=1.01, quotes=0.01), 0, 0
    for n in test:
        one = setting.asked.iloc[n]
        question = assistant.understood(one["user"], one["turns"])
        answer = assistant.answer(one["user"], question, setting.now)
        held, said = ladder.settle(setting, looked[n], learned, n)
        sure = ladder.sureness(said, held, learned, setting.now)
        assert answer.held == (held if sure >= learned.threshold else None)
        given += answer.held is not None
        shown = ladder.quotable(setting, looked[n], unsure, n)
        answer = Assistant(setting.library, unsure).answer(one["user"], question, setting.now)
        told = [(one.document, one.start) for one in answer.citations]
        assert answer.held is None and told == [(one.document, one.start) for one in shown]
        quoted += bool(told)
    assert given > 5 and quoted > 5


def test_better_rungs_find_more():
    table = small()[4]
    found = ladder.summary(table).set_index(["rung", "measure"])["value"]
    assert found["hybrid", "recall"] > found["BM25", "recall"] + 0.2
    assert found["+ rerank", "recall"] >= found["hybrid", "recall"]
    assert found[ladder.RUNGS[-1], "right"] > found["quotations, BM25", "right"]
    silent = table[table["rung"] == "answers or silence"]
    assert set(silent["outcome"]) == {"right", "wrong", "unknown"}
    setting, learned, looked = small()[:3]
    unsure = replace(learned, threshold=1.01, quotes=0.01)
    last = ladder.rungs(setting, looked, unsure).query("rung == @ladder.RUNGS[-1]")
    assert {"found", "vain"} <= set(last["outcome"]) <= {"found", "vain", "misled", "unknown"}
    assert last["right"].mean() > 0.5 and set(table["outcome"]) <= {"", *OUTCOMES}
    shares = studies.outcome_shares(table)
    assert np.allclose(shares.sum(axis=1), 1) and len(shares) == 1001


def test_who_sees_which_quotation_answers_takes_the_one_in_force():
    """By hand: what is not labelled is not taken, a rumour only where there is nothing else.

    The value that a person reads is that of the text, though no rule saw it.
    """
    setting = small()[0]
    one = setting.asked.iloc[0].to_dict() | {"fact": 1, "value": "7 days", "support": ("wiki:d1",)}
    own = ladder.Setting(setting.world, setting.library, pd.DataFrame([one]))
    labels = {1: "7 days", 2: "5 days", 3: "9 days"}
    own.__dict__["labels"] = {(f"wiki:d{n}", "q"): {1: v} for n, v in labels.items()}

    def says(number, value, since, heard=False):
        told = "t", "wiki", "q", 0, moment(since), heard, 0.9
        return Statement(value, f"wiki:d{number}", 1, *told)

    new, old = says(1, "", "2026-01-01"), says(2, "5 days", "2025-01-01")
    rumour, other = says(3, "9 days", "2026-02-01", True), says(4, "9 days", "2026-03-01")
    assert ladder.taken(own, [old, other, rumour, new], 0) == "found"
    assert ladder.taken(own, [old, other], 0) == "misled" == ladder.taken(own, [rumour], 0)
    assert ladder.taken(own, [other], 0) == "vain" == ladder.taken(own, [], 0)


def test_what_is_learned_does_not_depend_on_the_test_facts():
    setting, learned = small()[:2]
    others = setting.asked[setting.asked["split"] != "test"].reset_index(drop=True)
    own = ladder.Setting(setting.world, setting.library, others)
    again, _, _ = ladder.learn(own, ladder.signals_of(own), COSTS)
    assert again == learned


def test_an_asker_who_sees_nothing_is_learned_from_as_any_other():
    setting, _, looked = small()[:3]
    asked, n = setting.asked.copy(), int(np.flatnonzero(setting.asked["split"] == "tune")[0])
    asked.loc[asked.index[n], "user"] = "user:9999"
    for name in ("support", "against"):
        asked.at[asked.index[n], name] = ()
    own = ladder.Setting(setting.world, setting.library, asked)
    found = [(one.question, one.signals) for one in looked]
    found[n] = found[n][0], setting.library.signals("user:9999", found[n][0], setting.now)
    learned, again, _ = ladder.learn(own, found, COSTS)
    assert again[n].lines.empty and learned.right
    rungs = ladder.rungs(own, again, learned)
    assert set(rungs.loc[rungs["question"] == n, "outcome"]) == {"", "unknown"}


def test_what_was_learned_is_taken_to_questions_of_another_world():
    """On the test facts of its own world it reads as it did there."""
    setting, learned, looked = small()[:3]
    rows = np.flatnonzero(setting.asked["split"] == "test")[:8]
    own = ladder.Setting(setting.world, setting.library, setting.asked.iloc[rows])
    found = [(looked[n].question, looked[n].signals) for n in rows]
    for one, n in zip(ladder.applied(own, found, learned), rows, strict=True):
        assert one.lines["sure"].to_numpy() == pytest.approx(looked[n].lines["sure"].to_numpy())


def test_keywords_are_asked_what_the_others_are_asked():
    setting, _, looked, _, table = small()
    keywords, bare, own = ladder.Keywords(setting), [], []
    found = table[table["rung"] == ladder.RUNGS[0]].set_index("question")["recall"]
    for n in np.flatnonzero(setting.asked["kind"] == "conversation"):
        one = setting.asked.iloc[n]
        names = setting.library.view(one["user"]).names
        ranked = keywords(one["user"], names.expanded(looked[n].question))
        own.append(ladder.recall_at(ranked, one["support"]))
        bare.append(ladder.recall_at(keywords(one["user"], one["turns"][-1]), one["support"]))
        assert found[n] == own[-1]
    assert np.mean(own) > np.mean(bare)


def test_the_threshold_rests_on_answers_that_the_head_has_not_seen(monkeypatch):
    """A head that knows each answer it has not seen: only its chances may be used."""
    setting, learned, looked = small()[:3]
    fit, shares = ladder.fit_head, []

    def knows(evidence, right, groups, *told):
        shares.append(np.mean(right))
        assert set(groups) <= set(ATTRIBUTES)
        return fit(evidence, right, groups, *told)[0], np.where(right, 0.9, 0.1)

    monkeypatch.setattr(ladder, "fit_head", knows)
    chosen, curve = ladder.learn_threshold(setting, looked, learned, COSTS)
    best = curve.set_index("threshold").loc[chosen.threshold]
    assert 0.1 < chosen.threshold <= 0.9
    assert best["right"] == 1 and best["coverage"] == pytest.approx(shares[0])


def test_conversations_are_understood_and_contradictions_shown():
    setting, learned, looked = small()[:3]
    ways = studies.rewriting(setting, learned.mix).set_index("way")
    assert ways.loc["rules", "team"] == 1 and ways.loc["last turn", "team"] < 1
    assert ways.loc["rules", "recall"] > ways.loc["last turn", "recall"]
    found = studies.conflicts(setting, looked, learned).set_index(["what", "measure"])["value"]
    assert found["questions", "recall"] > 0.5
    assert found["quotations", "recall"] > 0.5
    none = studies.conflicts(setting, looked, replace(learned, quotes=1.01))
    assert none.set_index("what").loc["quotations", "value"] == 0
    each, judge = studies.ragas(setting, looked, learned)
    assert each["faithfulness"].mean() > 0.9 and each["right"].mean() < 1
    assert judge.set_index("kind").loc["all", "bias"] > 0


def test_a_contradiction_that_no_document_states_counts_against_it(monkeypatch):
    setting, learned, looked = small()[:3]
    day = moment("2026-01-01")

    def invented(said, held):
        told = held.document, 1, "t", "wiki", "q", 0, day, False, 0.9
        return [Statement("77777 euro", *told)]

    monkeypatch.setattr(studies, "contradictions", invented)
    found = studies.conflicts(setting, looked, learned).set_index(["what", "measure"])["value"]
    assert found["documents", "precision"] == 0 and found["questions", "precision"] < 0.6


def test_shares_of_contradictions_have_intervals_over_facts():
    many = [(True, 1), (True, 1), (True, 1), (False, 2), (True, 3), (False, 3)]
    share = studies._share(many)
    assert share.mean == pytest.approx(4 / 6) and share.low == 0 and share.high == 1
    alike = studies._share([(True, fact) for fact in (1, 1, 1, 1, 2)])  # two facts, not five
    assert alike.mean == 1 and alike.low == pytest.approx(0.342, abs=0.001)
    assert np.isnan(studies._share([]).mean)


def test_context_precision_is_that_of_the_documents_that_state_the_fact_today():
    setting, learned, looked = small()[:3]
    each, _ = studies.ragas(setting, looked, learned)
    state = worlds.State((*setting.world.firm.events, *setting.world.events))
    said = worlds.said_now(setting.world, state, setting.now)
    for n in each["question"].head(12):
        ranked = ladder.in_order(looked[n].passages, looked[n].lines, learned.mix)
        hits, own = [], said[said["fact"] == setting.asked["fact"].iat[n]]
        for rank, name in enumerate(ranked["document"].head(8), 1):
            if name in set(own["document"]):
                hits.append((len(hits) + 1) / rank)
        by_hand = np.mean(hits) if hits else 0
        assert each.set_index("question").loc[n, "context_precision"] == pytest.approx(by_hand)
    assert each["context_precision"].mean() < 0.95


def test_a_question_costs_what_its_outcome_costs():
    rungs = [("a", "answers, always"), ("b", "answers or silence")]
    outcomes = {
        "a": ["right", "wrong", "wrong", "right"],
        "b": ["right", "unknown", "wrong", "right"],
    }
    rows = [
        (n, n, "test", rung, outcome)
        for key, rung in rungs
        for n, outcome in enumerate(outcomes[key])
    ]
    table = pd.DataFrame(rows, columns=["question", "fact", "split", "rung", "outcome"])
    told = studies.cost_a_question(table).set_index("rung")
    cheap, dear, none = COSTS["right"], COSTS["wrong"], COSTS["unknown"]
    assert told.loc["answers, always", "euro"] == pytest.approx((cheap + dear) / 2)
    own = told.loc["answers or silence"]
    assert own["euro"] == pytest.approx((2 * cheap + dear + none) / 4)
    assert own["less"] == pytest.approx((dear - none) / 4) and own["less_low"] == 0
    assert own["less_high"] > own["less"] and told.loc["answers, always", "less_high"] == 0
    assert told.loc["by hand", "euro"] == pytest.approx(none - cheap)
    two = pd.concat([table.assign(world=1), table.assign(world=2)])
    assert studies.cost_a_question(two).set_index("rung").loc["answers or silence", "of"] == 8


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
READING = ("rewriting", "conflicts", "judge", "worth", "latency", "leaks")
OTHERS = ("revocation", "filtered", "gather", "rights", "catches", "not_found", "sync")


def test_the_artifacts_have_the_vector_of_every_text_that_a_study_embeds():
    """Where a page runs no model reads: a text that was not heard would stop it."""
    one = small()[0]
    setting = ladder.setting_of(one.world, one.asked, artifacts.Listening())
    heard = artifacts.heard(setting)
    UNDERSTANDING.texts.clear()
    for name in ("latency", "revocation", "judge", "conflicts", "rewriting"):
        run(name)
    assert len(UNDERSTANDING.texts) > 500 and UNDERSTANDING.texts <= heard
    asked = {*artifacts.typed(setting), *artifacts.typed(setting, setting.library.names)}
    assert asked <= heard


def test_every_study_has_sizes_for_a_live_run():
    assert set(benchmarks.REDUCED) == set(benchmarks.BENCHMARKS)
    for name, study in benchmarks.BENCHMARKS.items():
        known = inspect.signature(study).parameters
        free = any(one.kind is one.VAR_KEYWORD for one in known.values())
        assert free or set(benchmarks.REDUCED[name]) <= set(known), name


def run(name: str) -> pd.DataFrame:
    how = dict(benchmarks.REDUCED[name])
    if name in (*READING, "revocation"):
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
    made = ladder.summary(small()[4])
    ranked = made[~made["rung"].isin(ladder.RUNGS[6:])]
    assert set(ranked["measure"]) == {"recall", "first"}
    assert set(made["measure"]) - {"recall", "first"} == {"right"}
    assert set(made[made["measure"] == "right"]["rung"]) == set(ladder.RUNGS[6:])


def test_the_share_of_the_gap_by_hand():
    """From .5 to 1 the model comes to .75 in one world and to 1 in the other."""
    rows = [
        *((1, "quotations, keywords", "right", x) for x in (0, 1)),
        *((1, "quotations, BM25", "right", x) for x in (0, 1)),
        *((1, "answers or quotations", "right", x) for x in (0, 1, 1, 1)),
        *(
            (2, rung, "right", x)
            for rung in ("quotations, keywords", "quotations, BM25")
            for x in (1, 0)
        ),
        (2, "answers or quotations", "right", 1),
        *((w, r, "recall", 0.2) for w in (1, 2) for r in ("keywords per source", "BM25")),
        *((w, "+ freshness", "recall", 0.6) for w in (1, 2)),
    ]
    long = pd.DataFrame(rows, columns=["world", "rung", "measure", "value"])
    wide = long.assign(right=np.nan, recall=np.nan, split="test")
    for measure in ("right", "recall"):
        own = wide["measure"] == measure
        wide.loc[own, measure] = wide.loc[own, "value"]
    found = studies.gap_closed(wide).set_index(["measure", "floor"])
    right = found.loc["right", "quotations, BM25"]
    assert right[["share", "at_floor", "at_rung", "worlds"]].tolist() == [0.75, 0.5, 0.875, 2]
    assert right["low"] < 0.75 < right["high"]
    assert found.loc["recall", "BM25"]["share"] == pytest.approx(0.5)


def test_worlds_are_graded_apart_and_summed_up(monkeypatch):
    made = []
    how = {"embedder": UNDERSTANDING, **benchmarks.REDUCED["gap_over_worlds"]}
    first = benchmarks.fitted(embedder=UNDERSTANDING, **how["first"]).learned
    graded = fitted.graded_worlds(UNDERSTANDING, first, how["seeds"][:1], how["questions"])
    assert set(graded["split"]) == {"test"} and set(graded["world"]) == {4}
    assert set(graded["learned"]) == {fitted.FROZEN, "again"}
    both = graded.pivot(index=["question", "rung"], columns="learned", values="right")
    plain = both.loc[(slice(None), "quotations, BM25"), :]  # learns nothing
    assert plain["again"].equals(plain["frozen"]) and not both["again"].equals(both["frozen"])

    def stored(seed, questions, embedder, learned):
        made.append(learned)
        return graded.drop(columns="world")

    monkeypatch.setattr(fitted, "graded_twice", stored)
    gap = benchmarks.gap_over_worlds(**how).set_index(["measure", "floor"])["share"]
    assert (gap > 0.2).all() and set(benchmarks.rungs_over_worlds(**how)["rung"]) == {*ladder.RUNGS}
    assert all(learned == first for learned in made) and len(made) == 4
    again = benchmarks.gap_fitted_again(**how).set_index(["measure", "floor"])["share"]
    assert not again.equals(gap)
    cost = benchmarks.cost_over_worlds(**how).set_index("rung")
    assert cost.loc["answers or quotations", "of"] == 2 * graded["question"].nunique()


def test_the_first_piece_is_timed_and_so_is_the_question(monkeypatch):
    answer = timed.Assistant.answer

    def slow(*told):
        time.sleep(0.02)
        return answer(*told)

    monkeypatch.setattr(timed.Assistant, "answer", slow)
    monkeypatch.setattr(timed, "_embedding", lambda asks: np.full(asks, 5.0))
    one = benchmarks.fitted(embedder=UNDERSTANDING, **benchmarks.REDUCED["judge"])
    monkeypatch.setattr(timed, "fitted", lambda **how: one)
    told = timed.latency(asks=6).set_index(["answers", "what"])
    made = [name for name in told.index if name[0] not in ("kept", "embedding")]
    assert len(made) == 8 and (told.loc[made, "p50"] > 5.02).all()
    assert told.loc[("kept", "first"), "p50"] < 5 and (told["p50"] <= told["p95"]).all()
    firsts, wholes = (told.xs(what, level="what")["p50"] for what in ("first", "whole"))
    assert (firsts.drop("embedding") < wholes).all() and (firsts > 0).all()
    assert told["documents"].iat[0] == len(one.setting.library.leaves)
    assert 0 < told["visible"].iat[0] < told["passages"].iat[0]


def test_a_text_is_stored_in_between_for_who_may_see_it_or_not():
    setting = small()[0]
    own = ladder.setting_of(setting.world, setting.asked, UNDERSTANDING)
    user = setting.asked["user"].iat[0]
    for seen in (True, False):
        before = len(own.library.visible(user).rows)
        made = timed.store(own, user, seen, 5 + seen)
        assert (own.library.read(user, made.id) is not None) == seen
        assert (len(own.library.visible(user).rows) > before) == seen
    with pytest.raises(LookupError, match="user:9999"):
        timed.store(own, "user:9999", True, 9)


def test_what_is_revoked_is_shown_nowhere_and_a_desk_that_shows_it_is_found(monkeypatch):
    how = {"embedder": UNDERSTANDING, **benchmarks.REDUCED["revocation"]}
    told = benchmarks.revocation(**how)
    assert (told["shown"] == 0).all() and (told["of"] == 5).all()
    assert (told["p50"] <= told["most"]).all() and (told["p50"] > 0).all()
    monkeypatch.setattr(timed, "_tell", lambda *told: None)  # the store is not told
    assert (benchmarks.revocation(**how)["shown"] > 0).all()


def test_a_refusal_that_is_quicker_is_as_bad_as_one_that_is_slower(monkeypatch):
    shares = iter([(0.38, 0.36, 0.41), (0.62, 0.59, 0.64)])
    monkeypatch.setattr(
        benchmarks, "not_found_times", lambda pairs, parts: Told(*next(shares), pairs)
    )
    told = benchmarks.not_found(pairs=50)
    assert told["off"].tolist() == pytest.approx([0.12, 0.12])
    assert told["off_most"].tolist() == pytest.approx([0.14, 0.14])


def test_hours_count_the_vectors_of_lines():
    speeds = {"passage": 20.0, "line": 100.0}
    how = benchmarks.REDUCED["sync"] | {"speeds": speeds}
    one = benchmarks.sync(**how).iloc[0]
    each = 1 / 20 + one["lines"] / one["passages"] / 100 + 1 / one["documents_a_second"]
    assert one["hours_500k"] == pytest.approx(500_000 * each / 3600)
    assert one["new_lines"] < one["lines"] > 5 * one["passages"]
    table = artifacts.times(UNDERSTANDING, 40, small()[0])
    assert table.groupby("what")["texts"].sum().to_dict() == {
        "question": 40,
        "passage": 40,
        "line": 120,
    }
    by_kind = table.groupby("what")["seconds"].sum()
    assert benchmarks._speeds(table)["line"] == pytest.approx(120 / by_kind["line"])


@pytest.mark.filterwarnings("error")
def test_months_without_end_are_a_quantile_like_any_other(monkeypatch):
    endless = pd.DataFrame({"months": [1.0, 2.0, *[np.inf] * 38]})
    monkeypatch.setattr(benchmarks.value, "together", lambda shares, draws: endless)
    monkeypatch.setattr(benchmarks, "fitted", lambda: type("One", (), {"rungs": None}))
    monkeypatch.setattr(studies, "outcome_shares", lambda rungs: None)
    assert benchmarks.worth()["months"].tolist() == [2.0, np.inf, np.inf]


def test_a_search_page_shows_the_line_that_shares_most_words():
    setting, _, looked = small()[:3]
    library, own = setting.library, setting.asked
    good = 0
    rows = np.flatnonzero(own["support"].map(bool))[:30]
    for n in rows:
        one = own.iloc[n]
        said = ladder.plain_lines(library, one["user"], looked[n].question, one["support"])
        assert len(said) <= 5 and {s.document for s in said} <= {*one["support"]}
        good += ladder.taken(setting, said, n) == "found"
    assert good > len(rows) / 2
    assert ladder.plain_lines(library, own["user"].iat[0], "x", []) == []


def test_a_planted_change_of_a_stored_row_is_found():
    table = small()[4].query("split == 'test'").assign(world=3)
    keys = ["world", "question", "rung"]  # of one way to learn
    assert artifacts.compare_rows("world 3", table, table.copy(), keys) == []
    other = table.assign(right=1 - table["right"])
    assert "rows differ" in artifacts.compare_rows("world 3", table, other, keys)[0]
    assert artifacts.compare_rows("world 3", table, table.iloc[1:], keys) != []


def test_the_handbooks_are_searched_under_permissions():
    if find_real("tts_handbook") is None:
        pytest.skip("the handbook is not here, or real data are switched off")
    made = run("real_handbooks").set_index("rung")
    assert made.loc["BM25", "recall"] > 0.4 and (made["of"] == 10).all()
