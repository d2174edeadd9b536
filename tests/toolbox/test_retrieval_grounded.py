"""Claims and their support, verdicts, and models that answer from numbered passages."""

from __future__ import annotations

import json

import pytest

from casebook.llm import Compromised, RateLimited, Scripted, ToolCall
from casebook.retrieval.claims import claims, declines, holds, numbers, support, verdict
from casebook.retrieval.grounded import Prompt, Source, judged, messages, write

TEXT = "We keep a parcel for 7 days. After that it goes back. Use form F-114. It is not insured."
SOURCES = [
    Source(1, "Storage", TEXT),
    Source(2, "Price", "Five more days cost 3.90 euros."),
]
MARKS = Prompt("marks", 1, "Answer from the passages.", "marks")
FORM = Prompt("form", 1, "Answer from the passages.", "json")


# Support


@pytest.mark.parametrize(
    "claim",
    [
        "We keep your parcel for 7 days.",
        "We keep a parcel for seven days.",
        "After that it goes back.",
        "The parcel is not insured.",
        "Use form F-114.",
    ],
)
def test_what_a_passage_says_is_supported(claim):
    found = support(claim, [s.text for s in SOURCES], "en")
    assert found.good and found.source == 0


FAULTS = {
    "We keep a parcel for 9 days.": "a number",
    "We keep a parcel for nine days.": "a number",
    "Use form F-999.": "a code",
    "It is insured.": "a negation",
    "We do not keep a parcel for 7 days.": "a negation",
    "You also get a free voucher for cinema tickets.": "words",
    "After that it goes back, see www.example.com.": "an address",
}


@pytest.mark.parametrize("claim", FAULTS)
def test_planted_faults_are_named(claim):
    assert FAULTS[claim] in support(claim, [TEXT], "en").why


def test_without_passages_nothing_is_supported():
    assert not support("We keep it.", [], "en").good


def test_the_rules_read_three_languages():
    german = "Wir bewahren ein Paket zwölf Tage auf. Es ist nicht versichert."
    assert support("Ein Paket bewahren wir 12 Tage auf.", [german], "de").good
    assert support("Es ist versichert.", [german], "de").why == ("a negation",)
    spanish = "Guardamos su paquete siete días. No está asegurado."
    assert support("Guardamos el paquete 7 días.", [spanish], "es").good
    assert support("Guardamos el paquete 8 días.", [spanish], "es").why == ("a number",)


def test_claims_are_sentences_that_say_something():
    text = "Yes [1]. We keep it for 7 days [1, 2]. - It costs 3.90 euros [2]."
    assert claims(text, "en")[-1].endswith("3.90 euros.") and "[" not in "".join(claims(text, "en"))
    assert numbers("08:30 and 3,90", "en") == {"08.3", "3.9"}


# Verdicts


@pytest.mark.parametrize(
    ("said", "value", "found"),
    [
        ("It is kept for 7 days.", "7", "correct"),
        ("It is kept for seven days.", "7", "correct"),
        ("It is kept for 17 days.", "7", "wrong"),
        ("I do not know.", "7", "missing"),
        ("", "7", "missing"),
        ("The parcel is not insured.", "false", "correct"),
        ("The parcel is insured.", "false", "wrong"),
        ("From 10:00 to 16:00.", "10:00 to 16:00", "correct"),
        ("From 10:00 on.", "10:00 to 16:00", "wrong"),
    ],
)
def test_an_answer_is_correct_missing_or_wrong(said, value, found):
    answer = "It is not insured." if value == "false" else "It is kept."
    assert verdict(said, value, answer, "en") == found


def test_what_cannot_be_answered_is_correct_only_if_declined():
    assert verdict("No information in the passages.", "", "", "en", answerable=False) == "correct"
    assert verdict("It is kept for 7 days.", "", "", "en", answerable=False) == "wrong"
    assert declines("Das steht dort nicht.", "de") and declines("No lo sé.", "es")
    assert not declines("We do not deliver on Sundays.", "en")


def test_one_and_none_are_looked_for_by_words():
    assert not holds("1 is a number", "1", "Allow one working day around a holiday.", "en")
    assert holds("allow a working day around holidays", "1", "Allow one working day", "en")


# Asking


def test_the_prompt_and_the_passages_are_what_a_model_reads():
    system, asked = messages(MARKS, "How long?", SOURCES)
    assert system.content == MARKS.system
    assert asked.content.endswith("Question: How long?") and "[2] Price: Five" in asked.content
    said = json.loads(messages(FORM, "How long?", SOURCES)[1].content)
    assert said["sections"][0]["number"] == 1 and said["question"] == "How long?"


def test_a_prompt_that_changes_has_another_stamp():
    other = Prompt("marks", 1, MARKS.system + " Be brief.", "marks")
    assert other.stamp != MARKS.stamp and MARKS.stamp.startswith("marks/1 ")


def _written(*replies, prompt=MARKS):
    return write(Scripted(list(replies), name="small"), prompt, "How long?", SOURCES, "en")


def test_a_model_names_its_passages_or_they_are_put_down_to_it():
    named = _written("We keep a parcel for 7 days [1].")
    assert (named.cited, named.put_down, named.faults) == ((1,), False, ())
    silent = _written("We keep a parcel for 7 days. Five more days cost 3.90 euros.")
    assert (silent.cited, silent.put_down) == ((1, 2), True)
    assert judged(silent, SOURCES, "en")["clean"]
    form = {"found": True, "answer": "We keep a parcel for 7 days.", "citations": [1]}
    assert _written(form, prompt=FORM).cited == (1,)


def test_declining_is_no_fault():
    for made in (
        _written("I do not know."),
        _written({"found": False, "answer": "", "citations": []}, prompt=FORM),
    ):
        assert made.declined and not made.faults and made.cited == ()
        assert judged(made, SOURCES, "en")["claims"] == 0


BAD = {
    "cites what it was not given": "We keep it [3].",
    "says nothing": "  ",
    "the model failed: RateLimited": RateLimited("429"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_reply_is_a_fault_and_no_exception(fault):
    made = write(Compromised(BAD[fault]), MARKS, "How long?", SOURCES, "en")
    assert fault in made.faults and not judged(made, SOURCES, "en")["clean"]


@pytest.mark.parametrize(
    "reply",
    [
        "Certainly!",
        {"answer": ["x"]},
        [ToolCall("refund", {})],
        {"found": True, "answer": "x", "citations": [True]},
        {"found": True, "answer": "x", "citations": [9]},
    ],
)
def test_a_form_may_be_anything(reply):
    assert write(Compromised(reply), FORM, "How long?", SOURCES, "en").faults


def test_each_kind_of_invention_is_counted():
    def of(text):
        return judged(_written(text), SOURCES, "en")

    good = of("We keep a parcel for 7 days [1].")
    assert (good["claims"], good["backed"], good["useful"], good["invented"]) == (1, 1, 1, 0)
    wrong = of("We keep a parcel for 9 days [1].")
    assert (wrong["supported"], wrong["invented"], wrong["clean"]) == (0, 1, False)
    beside = of("We keep a parcel for 7 days [2].")  # true, and the passage does not say so
    assert (beside["supported"], beside["backed"], beside["useful"]) == (1, 0, 0)
    assert not beside["clean"]
    half = of("We keep a parcel for 7 days [1]. You get a cinema voucher for free [1].")
    assert (half["claims"], half["backed"], half["clean"]) == (2, 1, False)


def test_tokens_have_a_price():
    made = _written("We keep a parcel for 7 days [1].")
    price = made.price(million_in=1.0, million_out=4.0)
    assert price == pytest.approx((made.prompt_tokens + 4 * made.completion_tokens) / 1e6)
