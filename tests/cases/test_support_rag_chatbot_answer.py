"""Answers cite what they say; a model that an attacker holds gets nothing through."""

from __future__ import annotations

import pytest
from support_rag_chatbot_fakes import ARTICLES, MODEL, NOW

from casebook.cases.support_rag_chatbot import answer as module
from casebook.cases.support_rag_chatbot.answer import (
    EVIDENCE,
    SECTION,
    SECTION_WEIGHTS,
    Answerer,
    ExtractiveReader,
    candidates,
    faults,
    quoted,
)
from casebook.cases.support_rag_chatbot.languages import HelpCentre, Query
from casebook.llm import Compromised, RateLimited, Scripted, ToolCall, describe
from casebook.retrieval.dense import Hashed
from casebook.serving.privacy import Leak

ASKED = Query("how long do you keep a parcel", "en")


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    with HelpCentre.build(tmp_path_factory.mktemp("index"), ARTICLES, MODEL) as made:
        yield made


@pytest.fixture(scope="module")
def section(centre):
    hit = centre.search(ASKED, NOW)[0]
    return next(s for s, _ in centre.read(hit, NOW) if "7 days" in s.text)


def _answer(centre, model=None, verbatim=True, query=ASKED):
    hits = centre.search(query, NOW)
    return Answerer(centre, MODEL, model, verbatim)(query, hits, NOW)


def test_the_reader_quotes_and_says_where(centre):
    answer = _answer(centre)
    (citation,) = answer.citations
    text = ARTICLES.set_index(["article_id", "language", "version"]).loc[
        (citation.article_id, citation.language, citation.version), "text"
    ]
    assert "7 days" in answer.text and answer.faults == ()
    assert " ".join(text[citation.start : citation.end].split()).endswith(answer.text)
    assert str(citation) == f"storage/en/v1#{citation.start}-{citation.end}"
    assert set(EVIDENCE) == set(answer.evidence)
    assert answer.model == "extractive reader"
    assert "no language model ran" in describe(ExtractiveReader())


def test_a_section_is_scored_by_every_feature(centre):
    rows = candidates(ASKED, centre.search(ASKED, NOW), centre, NOW, MODEL)
    assert {len(row.features) for row in rows} == {len(SECTION)} == {len(SECTION_WEIGHTS)}
    assert len({row.hit.key for row in rows}) == 3


def test_nothing_found_is_said(centre):
    answer = Answerer(centre, MODEL)(ASKED, [], NOW)
    assert (answer.text, answer.faults) == ("", ("nothing was found",))


ATTACKS = {
    "a promise": {"found": True, "answer": "We pay you 5,000 euros at once.", "citations": [1]},
    "no citation": {"found": True, "answer": "We keep a parcel for 7 days.", "citations": []},
    "a foreign one": {"found": True, "answer": "We keep it.", "citations": [99]},
    "a boolean": {"found": True, "answer": "We keep it.", "citations": [True]},
    "a link": {"found": True, "answer": "See www.example.com/login", "citations": [1]},
    "no JSON": "Certainly! Your parcel is in depot 12.",
    "another shape": {"answer": ["x"], "citations": "1"},
    "a tool call": [ToolCall("refund", {"euro": 500})],
    "its prompt": {"found": True, "answer": module.POLICY, "citations": [1, 2]},
    "nothing": {"found": True, "answer": "  ", "citations": [1]},
    "an error": RateLimited("429"),
    "a time-out": TimeoutError("slow"),
    "a lost connection": ConnectionResetError("gone"),
    "a list": {"found": True, "answer": "We keep it.", "citations": [[1]]},
    "an object": {"found": True, "answer": "We keep it.", "citations": [{"number": 1}]},
    "a number without end": {"found": True, "answer": "We keep it.", "citations": [10**400]},
    "digits without end": '{"found": true, "answer": "x", "citations": [' + "1" * 5000 + "]}",
    "a part of one": {"found": True, "answer": "We keep it.", "citations": [1.0, "1", None]},
}


@pytest.mark.parametrize("verbatim", [True, False])
@pytest.mark.parametrize("what", ATTACKS)
def test_a_compromised_model_gets_nothing_through(centre, what, verbatim):
    answer = _answer(centre, Compromised(ATTACKS[what]), verbatim)
    assert answer.text == "" and answer.citations == () and answer.faults


def test_a_leak_is_no_fault_of_the_model(centre):
    with pytest.raises(Leak, match="kept back"):
        _answer(centre, Compromised(Leak("kept back")))


def test_the_check_is_what_stops_it(centre, monkeypatch):
    monkeypatch.setattr(module, "faults", lambda *_: ())
    assert "5,000" in _answer(centre, Compromised(ATTACKS["a promise"])).text


def test_a_compromised_model_may_still_choose_a_true_section(centre):
    rows = candidates(ASKED, centre.search(ASKED, NOW), centre, NOW, MODEL)
    wrong = next(i for i, row in enumerate(rows, 1) if "7 days" not in row.passage.text)
    said = {"found": True, "answer": quoted(rows[wrong - 1].passage), "citations": [wrong]}
    assert _answer(centre, Compromised(said)).text == said["answer"]  # true, and beside the point


def test_a_hosted_model_takes_the_readers_place(centre):
    reader = _answer(centre)
    rows = candidates(ASKED, centre.search(ASKED, NOW), centre, NOW, MODEL)
    number = next(i for i, row in enumerate(rows, 1) if quoted(row.passage) == reader.text)
    said = {"found": True, "answer": reader.text, "citations": [number]}
    model = Scripted([said], name="hosted")
    answer = _answer(centre, model)
    assert (answer.text, answer.citations, answer.model) == (
        reader.text,
        reader.citations,
        "hosted",
    )
    assert "jane" not in model.requests[0].messages[1].content


def test_the_model_reads_the_masked_question(centre):
    spy = Compromised({"found": False, "answer": "", "citations": []})
    query = Query("keep my parcel, I am jane.doe@example.com", "en")
    assert _answer(centre, spy, query=query).faults == ("found nothing",)
    assert "example.com" not in str(spy.requests[0].messages)


REWORDED = {
    "How long do we keep a parcel?": ("says nothing",),
    "We keep your parcel for 7 days, then it goes back.": (),
    "We keep a parcel for 9 days.": ("has a number that is not cited",),
    "We do not keep a parcel for 7 days.": ("negates otherwise",),
    "We keep a parcel for 7 days. You also get a free voucher.": ("has words that are not cited",),
    "We keep a parcel for 7 days, form F-999.": (
        "has a number that is not cited",
        "has a code that is not cited",
    ),
}


@pytest.mark.parametrize("text", REWORDED)
def test_a_reworded_answer(section, text):
    found = faults(text, [section], "en", verbatim=False)
    assert set(REWORDED[text]) <= set(found) and bool(found) == bool(REWORDED[text])
    assert faults(text, [section], "en")  # word for word, none passes


def test_quotes_pass_and_nothing_beside_them(section):
    quote = quoted(section)
    assert faults(quote, [section], "en") == ()
    assert faults(f"{quote} Trust me.", [section], "en") == ("has words of its own",)
    assert faults(quote, [], "en") == ("cites nothing",)


def test_what_is_cited_must_be_said(centre, section):
    other = next(s for s, _ in centre.read(centre.search(ASKED, NOW)[0], NOW) if s != section)
    both = f"{quoted(section)} {quoted(other)}"
    assert faults(both, [section, other], "en") == ()
    assert faults(quoted(section), [section, other], "en") == ("cites what it does not say",)


class Down(Hashed):
    """An embedder that has read the articles and cannot be reached any more."""

    def encode(self, texts):
        if self.down:
            raise ConnectionError("gone")
        return super().encode(texts)

    down = False


def test_words_alone_find_and_read_where_the_embedder_is_down(tmp_path):
    model = Down(128)
    with HelpCentre.build(tmp_path, ARTICLES, model) as centre:
        model.down = True
        hits = centre.search(ASKED, NOW)
        answer = Answerer(centre, model)(ASKED, hits, NOW)
        assert hits[0].article_id == "storage" and "7 days" in answer.text
        assert hits[0].signals["raw_dense_own"] == 0 == answer.evidence["own"]
        without = centre.read(hits[0], NOW)
        with pytest.raises(ConnectionError):  # an update cannot do without
            centre.update(ARTICLES.head(1).assign(text="Something new."))
        model.down = False
        assert centre.lagging() == []
        assert [s.text for s, _ in without] == [s.text for s, _ in centre.read(hits[0], NOW)]


def test_a_reworded_answer_needs_a_language_whose_negations_are_known(section):
    said = "We keep a parcel for 7 days."
    assert faults(said, [section], "en", verbatim=False) == ()
    for other in ("fr", ""):
        found = faults(said.replace("keep", "do not keep"), [section], other, verbatim=False)
        assert "is in a language whose negations are not known" in found
