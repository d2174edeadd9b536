"""Answers: what is quoted, dated, contradicted, cited, and what a user who may not see it gets."""

from __future__ import annotations

import pytest
from knowledge_assistant_office import HEAD, NOON, OF, Office

from casebook.cases.knowledge_assistant.answering import NEVER, UNSURE, Assistant, Learned
from casebook.cases.knowledge_assistant.desk import UNKNOWN, Citation, NotFound
from casebook.cases.knowledge_assistant.library import Mix
from casebook.cases.knowledge_assistant.records import moment
from casebook.llm import Scripted

WEEKLY = "When is the weekly of Test Bench?"
CODE = "What is the archive code of Identity?"


def test_an_answer_quotes_what_holds_and_shows_who_says_otherwise_with_dates():
    answer = Office().assistant.answer("user:ann", WEEKLY, NOON)
    text = "".join(piece.text for piece in answer.pieces)
    assert answer.held.value == "Friday at 12:00"
    assert [one.document for one in answer.against] == ["chat:d1", "wiki:d1"]
    for needed in (f"{OF}Friday", "Room, 2026-02-01", "Weekly (2025-05-01)", "only heard"):
        assert needed in text
    assert [one.document for one in answer.citations] == ["tickets:d1", "chat:d1", "wiki:d1"]
    for piece in answer.pieces:
        assert len(piece.sources) == 1


def test_what_is_hidden_and_what_nobody_wrote_have_the_same_answer():
    office = Office()
    assert "K-417" in office.assistant.answer("user:ann", CODE, NOON).pieces[0].text
    hidden = office.assistant.answer("user:bob", CODE, NOON)
    nothing = office.assistant.answer(
        "user:bob", "How much must be paid for parking by Identity?", NOON
    )
    assert hidden.pieces == nothing.pieces == (UNKNOWN,)
    assert hidden.citations == () and ("wiki:d2", 1) not in hidden.read


def test_scores_do_not_tell_of_a_word_in_a_hidden_document():
    office = Office()
    before = office.library.signals("user:bob", "archive code weekly", NOON)
    office.write("wiki:d2", "weekly weekly archive code " * 30, 2)
    after = office.library.signals("user:bob", "archive code weekly", NOON)
    assert before["words"].tolist() == after["words"].tolist()
    assert before["dense"].tolist() == after["dense"].tolist()


def test_a_document_saved_as_it_was_is_not_fresh():
    office = Office()
    text = f"{OF}Monday at 09:00."
    office.write("wiki:d1", text, 2, "2026-03-02")
    assert office.library.leaves["wiki:d1"].changed == moment("2025-05-01")
    assert office.assistant.answer("user:ann", WEEKLY, NOON).held.value == "Friday at 12:00"
    office.write("wiki:d1", f"{text} Bring a cup.", 3, "2026-03-02")
    assert office.assistant.answer("user:ann", WEEKLY, NOON).held.value == "Monday at 09:00"


def unsure(office, quotes):
    """Return an assistant that never answers, and quotes lines from a chance on."""
    learned = Learned(HEAD, mix=Mix(0.5), threshold=0.9999, quotes=quotes)
    return Assistant(office.library, learned)


def test_unsure_is_unknown_where_nothing_may_be_quoted():
    answer = unsure(Office(), NEVER).answer("user:ann", CODE, NOON)
    assert answer.held is None and answer.pieces == (UNKNOWN,) and answer.citations == ()


def test_unsure_quotes_lines_with_source_and_date_for_the_asker_to_choose():
    office = Office()
    answer = unsure(office, 0.0).answer("user:ann", WEEKLY, NOON)
    first, *quoted = answer.pieces
    assert answer.held is None and first == UNSURE and len(quoted) == 3
    assert [one.document for one in answer.citations] == [p.sources[0][0] for p in quoted]
    assert "Friday at 12:00. [1] (Room, 2026-02-01)" in quoted[0].text
    assert sum("only heard" in piece.text for piece in quoted) == 1
    many = "\n".join(f"{OF}Monday at {n:02d}:00." for n in range(9))
    office.write("wiki:d3", many, 2)
    assert len(unsure(office, 0.0).answer("user:ann", WEEKLY, NOON).citations) == 4  # a document
    assert unsure(office, 0.9999).answer("user:ann", WEEKLY, NOON).pieces == (UNKNOWN,)


def test_quotations_are_the_same_whether_a_hidden_document_is_there_or_not():
    office = Office()
    office.write("wiki:d3", "The badge code of Identity is K-100.", 2)
    with_it = unsure(office, 0.0).answer("user:bob", CODE, NOON)
    assert [one.document for one in with_it.citations] == ["wiki:d3"]
    assert "wiki:d2" in [
        one.document for one in unsure(office, 0.0).answer("user:ann", CODE, NOON).citations
    ]
    office.library.drop("wiki:d2")
    assert unsure(office, 0.0).answer("user:bob", CODE, NOON) == with_it


def test_a_model_is_heard_only_where_every_claim_is_backed():
    office = Office()
    backed = Scripted(["Identity's archive code is K-417 [1]."])
    invented = Scripted(["The archive code of Identity is K-999 [1]."])
    silent = Scripted(["The passages do not say."])
    for model, text in ((backed, "Identity's archive"), (invented, "The archive"), (silent, "The")):
        made = Assistant(office.library, office.assistant.learned, model)
        answer = made.answer("user:ann", CODE, NOON)
        piece, spent = answer.pieces[0], answer.tokens
        assert spent > 50  # paid for, whether it is said or not
        assert piece.text.startswith(text) and "K-417" in piece.text
        assert piece.sources == (("wiki:d2", 1),)


def test_citations_resolve_after_the_document_has_changed():
    office = Office()
    cited = office.assistant.answer("user:ann", CODE, NOON).citations[0]
    resolve = office.desk.resolve
    assert resolve("user:ann", cited)["state"] == "same"
    office.write("wiki:d2", f"News. {cited.anchor}", 2)
    moved = resolve("user:ann", cited)
    assert (moved["state"], moved["version"], moved["start"]) == ("moved", 2, 6)
    office.write("wiki:d2", "The archive code of Identity is Q-100.", 3)
    changed = resolve("user:ann", cited)
    assert (changed["state"], changed["version"], changed["start"]) == ("changed", 3, None)
    nothing = Citation("wiki:d99", 1, "K-417", 0)
    office.library.drop("wiki:d9")  # was never there
    for user, one in (("user:bob", cited), ("user:ann", nothing)):
        with pytest.raises(NotFound):
            resolve(user, one)
    office.library.drop("wiki:d2")
    with pytest.raises(NotFound):
        resolve("user:ann", cited)


def test_names_and_values_are_learned_from_what_the_user_may_see():
    office = Office()
    rows = "| team | room |\n| --- | --- |\n| Identity | Cedar room |\n- Otter is late\n"
    office.write("wiki:d2", rows + "see Otter now\nask Otter there\nit is Otter again", 2)
    assert "cedar room" in office.library.view("user:ann").known
    assert "cedar room" not in office.library.view("user:bob").known
    office.members("group:closed", "user:ann", "user:bob")
    assert "cedar room" in office.library.view("user:bob").known
