"""The drills of case 16 find what is planted: slow stages, invented statuses, leaks, breaches."""

from __future__ import annotations

import time
from dataclasses import replace

import pandas as pd
import pytest
from support_rag_chatbot_fakes import ARTICLES, MODEL, NOW, article

from casebook.cases.support_rag_chatbot import crash, drills
from casebook.cases.support_rag_chatbot.answer import Answerer
from casebook.cases.support_rag_chatbot.conversation import Chatbot
from casebook.cases.support_rag_chatbot.crash import crash_drill
from casebook.cases.support_rag_chatbot.drills import (
    ask,
    compromised_drill,
    embedding_cost,
    personal_data_drill,
    said_alone,
    stage_latency,
)
from casebook.cases.support_rag_chatbot.languages import HelpCentre, Query, article_texts
from casebook.cases.support_rag_chatbot.outage import (
    WAYS,
    told_fault,
    tracking_drill,
    tracking_numbers,
)
from casebook.cases.support_rag_chatbot.tracker import SAYS, Tracked, track
from casebook.cases.support_rag_chatbot.world import STATUS_TEXTS, Faults, TrackingAPI
from casebook.retrieval.classify import LanguageModel, Scope
from casebook.retrieval.hostile import ATTACKS, TWISTS
from casebook.serving import formats, privacy
from casebook.serving.drills import BEGUN

QUESTIONS = pd.DataFrame(
    [
        ("q1", "en", ("How long do you keep a parcel?",)),
        ("q2", "de", ("Ich habe eine Frage.", "Wie lange bewahren Sie ein Paket auf?")),
        ("q3", "en", (f"where is {tracking_numbers(1)[0]}?",)),
    ],
    columns=["id", "language", "turns"],
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    texts = ["how long do you keep a parcel", "what does it cost", "wie lange liegt ein paket"]
    labels = ["ours", "unanswerable", "off_topic"] * 2
    scope = Scope().fit([*texts, "pink boxes", "tell me a joke", "poem"], ["en"] * 6, labels)
    language = LanguageModel().fit(["how long", "wie lange", "cuánto tiempo"], ["en", "de", "es"])
    with HelpCentre.build(tmp_path_factory.mktemp("index"), ARTICLES, MODEL) as centre:
        yield centre, Answerer(centre, MODEL), language, scope


def _bot(parts, **more):
    return Chatbot(*parts, TrackingAPI(faults=Faults.none()), **{"answer_from": 0.0, **more})


# Latency


def test_the_reply_and_its_stages_are_timed(parts):
    table = stage_latency(_bot(parts), QUESTIONS, n=100, warm_up=3).set_index("stage")
    # What no clock stands around is little, and never negative.
    assert 0 <= table.loc["rest", "share"] < 0.1
    assert table.loc["whole", "calls"] == 100 == table.loc["mask", "calls"]
    assert table.loc["tracking", "calls"] == 33 and table.loc["search", "calls"] == 67
    with pytest.raises(ValueError, match="no question"):
        stage_latency(_bot(parts), QUESTIONS.iloc[:0])


def test_earlier_turns_stand_in_the_state(parts):
    state, turn = ask(_bot(parts), QUESTIONS.loc[1])
    assert state.turns == QUESTIONS.loc[1, "turns"] and turn.query == " ".join(state.turns)


@pytest.mark.parametrize("stage", ["mask", "check"])
def test_a_slow_stage_is_seen_where_it_is(parts, monkeypatch, stage):
    ((owner, name),) = drills.STAGES[stage]
    fast = getattr(owner, name)

    def slow(*given):
        time.sleep(0.01)
        return fast(*given)

    monkeypatch.setattr(owner, name, slow)
    table = stage_latency(_bot(parts), QUESTIONS.iloc[:1], n=100, warm_up=0).set_index("stage")
    assert table.loc[stage, "p50_ms"] >= 10
    assert table.loc[{"mask": "check", "check": "mask"}[stage], "p50_ms"] < 5


def test_a_reply_embeds_the_question_and_its_translation(parts):
    class Counting:
        name, dimensions = MODEL.name, MODEL.dimensions

        def __init__(self):
            self.texts = set()

        def encode(self, texts):
            self.texts |= set(texts)
            return MODEL.encode(texts)

    counting, (centre, _, *rest) = Counting(), parts
    for index in (centre.passages, centre.sentences):
        index.embedder = counting
    try:
        bot, fresh = _bot((centre, Answerer(centre, counting), *rest)), []
        for row in QUESTIONS.iloc[:2].itertuples():
            _, turn = ask(bot, row)
            query = Query(turn.query, row.language)
            fresh.append({query.text, query.english})
            assert fresh[-1] <= counting.texts <= fresh[-1] | set(article_texts(ARTICLES))
            counting.texts.clear()
    finally:
        for index in (centre.passages, centre.sentences):
            index.embedder = MODEL
    assert [len(texts) for texts in fresh] == [1, 2]


def test_the_cost_of_a_vector_comes_from_the_manifest():
    table = embedding_cost().set_index("file")
    total = table.loc["all"]
    assert total["texts"] == table["texts"].iloc[:-1].sum() and len(table) == 5
    assert total["ms_a_text"] == pytest.approx(1000 * total["seconds"] / total["texts"])


# Tracking


@pytest.fixture(scope="module")
def outage():
    return tracking_drill(n=60).set_index(["phase", "way"])


def test_within_the_budget_nothing_is_invented(outage):
    ours = outage.xs("budget, then say so", level="way")
    assert (ours[["invented", "silently_old"]] == 0).all(axis=None)
    assert ours["wait_max"].max() <= 6
    assert ours.loc["outage", "no_answer"] > ours.loc["calm", "no_answer"]
    assert (ours["told"] + ours["no_answer"] + ours["unknown"] == ours["asked"]).all()


def test_the_two_other_ways_pay(outage):
    assert outage.loc[("outage", "retry until answered"), "wait_max"] > 30
    assert outage.loc[("outage", "retry until answered"), "no_answer"] == 0
    assert outage.loc[("outage", "last known status"), "silently_old"] > 0
    assert outage.loc[("calm", "last known status"), "silently_old"] == 0


def _delivered(api, number, at, language):
    return Tracked("status", f"{number}: {STATUS_TEXTS[language]['Z9']}.", 0.0, 0)


def _scanned_just_now(api, number, at, language):
    """Repeat what was announced as if it had been scanned now."""
    text = f"{number}: {STATUS_TEXTS[language]['A1']}, scanned on {at:%Y-%m-%d %H:%M}."
    return Tracked("status", text, 0.0, 0)


def test_planted_trackers_are_found():
    ways = {"delivered": lambda: _delivered, "just now": lambda: _scanned_just_now}
    table = tracking_drill(n=40, ways=ways).groupby("way")[["invented", "asked"]].sum()
    assert table.loc["delivered", "invented"] > 60 and (table["asked"] == 120).all()
    assert table.loc["just now", "invented"] >= 119


def test_a_budget_that_is_not_kept_is_found():
    ways = {"patient": lambda: lambda *given: track(*given, budget=60.0)}
    assert tracking_drill(n=40, ways=ways)["wait_max"].max() > 6
    assert list(tracking_drill(n=2)["way"].iloc[:3]) == list(WAYS)
    with pytest.raises(ValueError, match="one at least"):
        tracking_drill(n=0)


def test_what_is_wrong_with_a_sentence():
    api, (number,) = TrackingAPI(faults=Faults.none()), tracking_numbers(1)
    history = api.true_history(number)
    first, last = history[1], history[-1]
    at = last.at + pd.Timedelta(hours=1)

    def fault(event, text="{phrase}{depot}, {scan}", **more):
        said = {"phrase": STATUS_TEXTS["en"][event.code], "depot": f" ({event.depot})"}
        said |= {"scan": f"{event.at:%Y-%m-%d %H:%M}", **more}
        told = Tracked("status", text.format(**said), 0.0, 1)
        return told_fault(told, api, number, at, "en")

    assert last.code == "Z9" and fault(last) == ""
    assert fault(first) == "dated"
    assert fault(first, "{phrase}") == "silently old"
    assert fault(last, scan="2026-06-01 00:00") == "invented"
    assert fault(last, depot=" (depot 99)") == "wrong depot"
    assert fault(last, "It is promised for tomorrow at noon.") == "invented"
    for language, says in SAYS.items():
        spoken = Tracked("timeout", " ".join(says.values()), 0.0, 1)
        assert told_fault(spoken, api, number, at, language) == ""


# Personal data

SAID = {
    "p1": ("en", "email", "jane.doe@example.com", "Keep my parcel, mail jane.doe@example.com"),
    "p2": ("en", "phone", "020 7946 0123", "How long is it kept? Ring 020 7946 0123"),
    "p3": ("de", "iban", "DE89 3704 0044 0532 0130 00", "Zahlt an DE89370400440532013000"),
    "p4": (
        "en",
        "address",
        "12 Mill Lane, Moor, ZZ99 1WN",
        "I live at 12 Mill Lane, Moor, ZZ99 1WN",
    ),
    "p5": ("en", "card", "4111 1111 1111 1111", "Is it kept? Card 4111 1111 1111 1111 12/27 123"),
}
PLANTED = pd.DataFrame(
    [(name, kind, value) for name, (_, kind, value, _) in SAID.items()]
    + [("p1", "tracking_number", tracking_numbers(1)[0])],
    columns=["question", "type", "value"],
)
PERSONAL = pd.DataFrame(
    [(name, language, (text,)) for name, (language, _, _, text) in SAID.items()],
    columns=["id", "language", "turns"],
)


def _leaks(parts):
    return personal_data_drill(_bot(parts), PERSONAL, PLANTED).set_index("type")


def test_no_planted_data_are_kept_or_sent(parts):
    table = _leaks(parts)
    assert list(table.index) == ["email", "phone", "iban", "card", "address", "all"]
    assert table.loc["all", "planted"] == 5 == table.loc["all", "to_model"]
    places = ["in_log", "in_model", "in_state", "whole", "stopped"]
    assert (table[places] == 0).all(axis=None)


def test_a_mask_that_is_off_is_found(parts, monkeypatch):
    monkeypatch.setattr(drills.conversation, "mask_turns", tuple)
    table = _leaks(parts)  # the ways out mask once more: the state alone holds the data
    assert table.loc["all", ["in_state", "whole"]].tolist() == [5, 5]
    assert table.loc["all", ["in_log", "in_model"]].tolist() == [0, 0]
    monkeypatch.setattr(privacy, "_with_masks", lambda text, found: text)
    assert _leaks(parts).loc["all", "stopped"] == 5  # what is still found is not let out
    monkeypatch.setattr(privacy, "find", lambda text: [])
    table = _leaks(parts)
    assert table.loc["all", ["in_log", "in_model", "in_state"]].tolist() == [5, 5, 5]


def test_a_mask_with_a_hole_is_found(parts, monkeypatch):
    monkeypatch.setattr(formats, "_ADDRESS", ())
    table = _leaks(parts)
    assert table.loc["address", ["in_log", "in_model", "in_state"]].tolist() == [1, 1, 1]
    assert table.loc["all", "whole"] == 1


# A model in an attacker's hands

ASKED = QUESTIONS.iloc[[0, 2]]  # the second is for the tracking system


def _breaches(parts, **more):
    return compromised_drill(_bot(parts), ASKED, ARTICLES, NOW, **more).set_index("attack")


def test_a_compromised_model_gets_no_word_of_its_own_through(parts):
    table = _breaches(parts)
    attacks, twists = (table[table["what"] == what] for what in ("attack", "twist"))
    assert list(attacks.index) == [*ATTACKS, "all"] and list(twists.index) == list(TWISTS)
    assert (attacks["past_check"] == 0).all() and (attacks["own_words"] == 0).all()
    assert table.loc["all", "tried"] == len(ATTACKS) == 3 / table.loc["all", "bound"]
    # What the check does not stop says nothing that is not cited.
    assert (twists["past_check"] == 1).all() and (twists["own_words"] == 0).all()


def test_without_the_check_the_breaches_are_counted(parts, monkeypatch):
    monkeypatch.setattr(drills.answering, "faults", lambda *_: ())
    table = _breaches(parts)
    through = {"a promise", "one digit changed", "a 'not' put in", "a word left out", "a link"}
    through |= {"orders", "its instructions", "10,000 words", "look-alike letters", "a tool call"}
    breached = set(table.index[table["own_words"] > 0])
    # A tool call has no answer in it, with or without a check.
    assert through - breached == {"a tool call"} and table.loc["a promise", "bound"] != 0.12
    assert table.loc["another section's number", "own_words"] == 1
    assert pd.isna(table.loc["all", "bound"]) and table.loc["all", "own_words"] >= 12


def test_a_weaker_check_is_told_from_the_check(parts):
    table = _breaches(parts, verbatim=False)
    assert table.loc["a word left out", "own_words"] == 1
    assert table.loc["one digit changed", "own_words"] == 0
    assert table.loc["all", "own_words"] < len(ATTACKS) / 2


def test_thresholds_are_counted_apart(parts):
    asked = ASKED.iloc[:1]
    bold = compromised_drill(_bot(parts), asked, ARTICLES, NOW)
    shy = compromised_drill(_bot(parts, answer_from=1.01), asked, ARTICLES, NOW)
    assert (bold["past_check"] == shy["past_check"]).all()
    assert bold["past_threshold"].sum() > shy["past_threshold"].sum() == 0


def test_the_drill_needs_a_question_for_the_model(parts):
    with pytest.raises(ValueError, match="reaches the model"):
        compromised_drill(_bot(parts), QUESTIONS.iloc[2:], ARTICLES, NOW)


def test_words_of_its_own_are_judged_by_the_articles(parts):
    _, turn = ask(_bot(parts), QUESTIONS.loc[0], NOW)
    assert turn.citations and said_alone(turn, ARTICLES, NOW) == (0, 0)
    assert said_alone(replace(turn, text=f"{turn.text} Trust me."), ARTICLES, NOW) == (2, 1)
    assert said_alone(replace(turn, text="\u202e" + turn.text), ARTICLES, NOW) == (0, 1)
    later = ARTICLES.assign(valid_to=NOW)  # what is cited is in force no more
    assert said_alone(turn, later, NOW)[0] == len(turn.text.split())
    alone = replace(turn, citations=())
    assert said_alone(alone, ARTICLES, NOW)[0] == len(turn.text.split())
    assert said_alone(replace(alone, text=SAYS["de"]["human"]), ARTICLES, NOW) == (0, 0)


@pytest.fixture(scope="module")
def shelf():
    words = ("amber", "birch", "cedar", "dune", "elm", "fern", "grove", "heath", "iris")
    names = [f"topic {word}" for word in words]
    text = "## Rule\n\nThe office for {} opens at 8. Bring the form.\n"
    rows = [article(name, "en", name.title(), text.format(name)) for name in names]
    return pd.DataFrame(rows)


# Killed in mid-update


@pytest.fixture(scope="module")
def killed(shelf):
    """Five kills, about three seconds."""
    return crash_drill(shelf, kills=5, most=9)


def one_by_one(articles, folder, passed):
    """Update article by article, each with commits of its own."""
    with crash._open(folder) as centre:
        passed(BEGUN)
        for row in range(len(articles)):
            centre.update(articles.iloc[[row]])


def test_a_killed_update_leaves_the_old_or_the_new(killed):
    ours = killed
    assert len(ours) == 5 and ours["killed"].any()
    assert ours[list(crash.FILES)].isin(["old", "new"]).all(axis=None)
    assert (ours[["faults", "stale"]] == 0).all(axis=None) and ours["repeated"].all()
    # No file is ahead of the one that decides.
    assert (ours.loc[ours["passages"] == "old", ["sentences", "grams"]] == "old").all(axis=None)


def test_an_update_of_many_commits_is_found(shelf, monkeypatch):
    """The planted fault: a file is written in several transactions."""

    monkeypatch.setattr(crash, "_updated", one_by_one)
    found = crash_drill(shelf, kills=4, most=9)
    assert not found[list(crash.FILES)].isin(["old", "new"]).all(axis=None)
    assert found["repeated"].all()


def test_a_signal_of_an_old_version_is_found(shelf, tmp_path, monkeypatch):
    """The planted fault: the centre takes every score, and says that no file lags."""
    start = shelf["valid_from"].max() + pd.Timedelta(days=1)
    new = shelf.assign(version=shelf["version"] + 1, valid_from=start)
    new["text"] += "\n## New\n\nRevised.\n"

    def found():
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with HelpCentre.build(folder, shelf, crash.Hashed(crash._DIMENSIONS)) as centre:
            centre.passages.update(new)  # and killed before the others
        return crash._found_after(shelf, new, start, folder)

    ours = found()
    assert ours["passages"] == "new" and ours["sentences"] == ours["grams"] == "old"
    assert ours["stale"] == 0 and ours["repeated"]
    monkeypatch.setattr(HelpCentre, "lagging", lambda centre: [])
    everything = lambda centre, query, at: {  # noqa: E731
        name: {p.article_id: p.score for p in passages}
        for name, passages in centre._found(query, at).items()
    }
    monkeypatch.setattr(HelpCentre, "signals", everything)
    assert found()["stale"] == 2 * len(shelf)


def test_a_crash_needs_articles_and_kills(shelf):
    with pytest.raises(ValueError, match="one of each"):
        crash_drill(shelf, kills=0)
    with pytest.raises(ValueError, match="one of each"):
        crash_drill(shelf.assign(language="de"))
