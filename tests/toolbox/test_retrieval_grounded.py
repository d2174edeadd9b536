"""Claims and their support, verdicts, and models that answer from numbered passages."""

from __future__ import annotations

import json

import pytest

from casebook.llm import Compromised, RateLimited, Reply, Scripted, ToolCall, Usage
from casebook.retrieval.claims import (
    claims,
    declines,
    holds,
    loops,
    measures,
    numbers,
    support,
    verdict,
)
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
    "We keep a parcel for 7 weeks.": "a number",  # the unit
}


@pytest.mark.parametrize("claim", FAULTS)
def test_planted_faults_are_named(claim):
    assert FAULTS[claim] in support(claim, [TEXT], "en").why


FEES = "The first 3 days are free of charge. After that each day costs EUR 2.50 at the shop."


def test_a_number_stands_in_a_sentence_about_the_same_thing():
    assert support("Each further day costs EUR 2.50.", [FEES], "en").good
    assert support("After that each day costs EUR 3.", [FEES], "en").why == ("a number",)
    both = "The first three days are free, and after that each day costs EUR 2.50."
    assert support(both, [FEES], "en").good


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("within five working days", "en", {"5": {"workday"}}),
        ("5 business days or 2 weeks", "en", {"5": {"workday"}, "2": {"week"}}),
        ("binnen 14 Tagen, zwölf Monate", "de", {"14": {"tag"}, "12": {"monat"}}),
        ("3 Werktage für 3,90 €", "de", {"3": {"workday"}, "3.9": {"euro"}}),
        ("cinco días hábiles y 40 %", "es", {"5": {"workday"}, "40": {"percent"}}),
        ("40 por ciento en dos meses", "es", {"40": {"percent"}, "2": {"mes"}}),
        ("from 8 to 18 o'clock", "en", {"8": set(), "18": set()}),
        ("7 dni", "pl", {"7": set()}),
    ],
)
def test_what_a_number_counts_is_read(text, language, found):
    assert measures(text, language) == found


def test_working_days_are_no_days():
    claim = "We answer within five days."
    assert support(claim, ["We answer within 5 working days."], "en").why == ("a number",)


def test_a_code_has_several_spellings_and_a_price_is_none():
    assert support("Use form F114.", [TEXT], "en").good
    assert support("A 7 days old parcel goes back.", [TEXT], "en").good
    assert support(
        "Storage in the shop costs EUR 3 a day.", ["Storage in the shop costs 3 euros a day."], "en"
    ).good


def test_a_claim_of_one_word_is_about_what_was_asked():
    fees = ["Storage is free for 3 days. A label is valid for 28 days."]
    for claim, question, good in (
        ("28 days.", "How many days is my label valid?", True),
        ("The answer is: 28 days.", "How many days is my label valid?", True),
        ("28 days.", "For how many days do you keep a parcel?", False),
        ("The answer is: 9 days.", "How many days is my label valid?", False),
        ("The answer is: 28 weeks.", "How many weeks is my label valid?", False),
        ("28 days.", "", True),
    ):
        assert support(claim, fees, "en", question=question).good is good, (claim, question)


def test_a_short_sentence_that_is_quoted_is_supported():
    said = "It is cancelled. You would then have to book again."
    assert support("You would then have to book again.", [said], "en", question="Why?").good
    assert claims("1. Take photos. 2. Keep the box.", "en") == ["Take photos.", "Keep the box."]
    assert claims("7.", "en") == ["7."]


def test_a_clause_that_is_invented_is_seen_in_a_long_sentence():
    said = "Bulky goods are carried to the kerb in front of the house, for they are heavy."
    assert support("Bulky goods are carried to the kerb in front of the house.", [said], "en").good
    more = "Bulky goods are carried to the kerb in front of the house, and premium members choose "
    assert support(more + "their driver.", [said], "en").why == ("words",)


def test_a_claim_may_leave_out_a_clause_or_join_two_sentences():
    said = "Fireworks are never allowed, not even sparklers. Aerosols travel by road."
    assert support("Fireworks are never allowed.", [said], "en").good
    assert support("Fireworks are allowed.", [said], "en").why == ("a negation",)
    both = "Fireworks are never allowed, not even sparklers, and aerosols travel by road."
    assert support(both, [said], "en").good
    assert support(both.replace("never ", ""), [said], "en").why == ("a negation",)


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


def test_a_question_is_no_claim_and_neither_is_an_echo():
    question = "Hello, my parcel is late. How long do you keep a parcel?"
    echo = "How long do you keep a parcel? My parcel is late. We keep it for 7 days."
    assert claims(echo, "en", question) == ["We keep it for 7 days."]
    assert claims("¿Cuánto tiempo se guarda un paquete?", "es") == []
    assert claims("Is it insured?) [1]", "en") == [] and claims("Shut again?!", "en") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("We keep it. We keep it. We keep it.", True),
        ("Call the shop or the shop or the shop or the", True),
        ("no no no", True),
        ("We keep it. We keep it.", False),
        ("Far, far away.", False),
        ("", False),
    ],
)
def test_a_loop_is_seen(text, found):
    assert loops(text) is found


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
    assert verdict("How long?", "", "", "en", answerable=False) == "missing"
    assert verdict("How long is it kept?", "7", "It is kept.", "en") == "missing"
    assert verdict("It is kept", "7", "7.", "en", question="Say: is it kept or not") == "wrong"
    assert verdict("Is it kept", "7", "7.", "en", question="Say: is it kept or not") == "missing"
    assert declines("Das steht dort nicht.", "de") and declines("No lo sé.", "es")
    assert declines("I'm unable to provide the answer.", "en")
    assert not declines("We do not deliver on Sundays.", "en")
    assert not declines("We are not able to deliver on Sundays.", "en")


def test_a_value_that_was_asked_is_no_answer_and_a_no_must_agree():
    answer = "Report the damage on form F-131."
    assert holds("Report damage on F-131.", "F-131", answer, "en", "which form?")
    assert not holds("F-131 is an aircraft.", "F-131", answer, "en", "what is F-131 for")
    pay = "You can pay by card, bank transfer or at the door."
    value = "card, bank transfer or at the door"
    assert holds("Pay by card or bank transfer.", value, pay, "en")
    assert not holds("It is not possible to pay by card or bank transfer.", value, pay, "en")
    assert not holds("You can pay at once.", value, pay, "en")
    assert holds("We are open. The parcel is not insured.", "false", "It is not insured.", "en")


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


def test_a_prompt_may_show_the_first_passages_without_numbers():
    one = Prompt("one", 1, "Answer.", "passages", most=1)
    asked = messages(one, "How long?", SOURCES)[1].content
    assert asked == f"Passage: Storage. {TEXT}\n\nQuestion: How long?"
    made = _written("Five more days cost 3.90 euros.", prompt=one)
    assert made.cited == (1,) and made.put_down  # it never saw the second one
    assert not judged(made, SOURCES, "en")["clean"]
    assert one.stamp != Prompt("one", 1, "Answer.", "passages").stamp


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
    "cites what it was": "We keep it [" + "1" * 5000 + "].",
    "says nothing": "  ",
    "the model failed: TimeoutError": TimeoutError("slow"),
    "the model failed: RateLimited": RateLimited("429"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_reply_is_a_fault_and_no_exception(fault):
    made = write(Compromised(BAD[fault]), MARKS, "How long?", SOURCES, "en")
    assert (
        any(said.startswith(fault) for said in made.faults)
        and not judged(made, SOURCES, "en")["clean"]
    )


class Cut:
    """A model whose every answer ends at the limit."""

    name = "small"

    def complete(self, messages, *, tools=(), response_format=None):
        return Reply("We keep a parcel for 7 days [1]. It", "small", Usage(9, 80), "length")


def test_what_was_cut_off_or_loops_is_a_fault_and_its_claims_count():
    cut = write(Cut(), MARKS, "How long?", SOURCES, "en")
    assert cut.faults == ("was cut off",) and cut.text.startswith("We keep")
    loop = _written("We keep a parcel for 9 weeks. " * 3)
    assert loop.faults == ("repeats itself",)
    assert judged(loop, SOURCES, "en")["claims"] == 3
    for made in (cut, loop):
        assert not judged(made, SOURCES, "en")["clean"]


def test_an_echo_is_not_clean_and_its_number_not_invented():
    asked = "I sent 40 kg to Peru. How long do you keep a parcel?"
    echo = _written("I sent 40 kg to Peru. How long do you keep a parcel?")
    found = judged(echo, SOURCES, "en", asked)
    assert (found["claims"], found["clean"], found["invented"]) == (0, False, 0)
    more = _written("We keep a parcel for 7 days, also one of 40 kg [1].")
    assert judged(more, SOURCES, "en", asked)["invented"] == 0
    assert judged(more, SOURCES, "en")["invented"] == 1


@pytest.mark.parametrize(
    "reply",
    [
        "Certainly!",
        {"answer": ["x"]},
        [ToolCall("refund", {})],
        {"found": True, "answer": "x", "citations": [True]},
        {"found": True, "answer": "x", "citations": [9]},
        {"found": True, "answer": "x", "citations": [[1]]},
        {"found": True, "answer": "x", "citations": [{"number": 1}, None, "1"]},
        '{"found": true, "answer": "x", "citations": [' + "1" * 5000 + "]}",
        TimeoutError("slow"),
        ConnectionResetError("gone"),
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
