"""Each fault is planted where it says, and true rewordings stay true."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.retrieval.claims import measures, negations, numbers, support
from casebook.retrieval.planted import (
    FAULTS,
    REWORDINGS,
    Words,
    denied,
    faults,
    other_code,
    other_number,
    other_unit,
    other_word,
    respelled,
    rewordings,
    same_word,
)

WORDS = Words(
    entities=("sender", "recipient", "courier"),
    invented=("You get a voucher.",),
    frames=("Please note that {}",),
    same=(("parcel", "package"),),
)
SENTENCE = "The sender pays 7 euros for form F-131 within 14 days, and it is not refunded."
PASSAGE = ["A label costs 3 euros."]
ELSEWHERE = ["Lockers are open for 24 hours."]


def _rng():
    return np.random.default_rng(0)


def test_a_sentence_with_a_place_for_each_fault_gets_each():
    found = faults(SENTENCE, "en", WORDS, PASSAGE, _rng(), ELSEWHERE)
    assert tuple(found) == FAULTS
    assert "24" in found["wrong number"] and "3" in numbers(found["number of the passage"])
    assert measures(found["wrong unit"], "en") != measures(SENTENCE, "en")
    assert "F-131" not in found["wrong code"]
    assert negations(found["negation"], "en") == 0
    assert "sender" not in found["wrong entity"]
    assert found["half invented"].endswith("and you get a voucher.")
    assert found["invented sentence"] == WORDS.invented[0]
    assert found["sentence of another article"] == ELSEWHERE[0]
    for claim in found.values():
        assert claim != SENTENCE


def test_a_sentence_without_a_place_for_a_fault_gets_none():
    assert faults("Come in.", "en", Words(), [], _rng()) == {}
    assert other_number("We keep it for 7 days.", "en", ["7"], _rng()) is None
    assert other_unit("We keep it for 7.", "en", _rng()) is None
    assert other_code("It costs EUR 300.", _rng()) is None
    assert denied("Come in.", "pl") is None
    assert other_word("The sender pays.", ("sender",), _rng()) is None
    assert same_word("Come in.", WORDS.same, _rng()) is None


@pytest.mark.parametrize(
    ("sentence", "language", "found"),
    [
        ("It is insured.", "en", "It is not insured."),
        ("It is not insured.", "en", "It is insured."),
        ("Pets are never accepted.", "en", "Pets are always accepted."),
        ("Das ist versichert.", "de", "Das ist nicht versichert."),
        ("Wir nehmen keine Tiere an.", "de", "Wir nehmen eine Tiere an."),
        ("Está asegurado y se puede devolver.", "es", "Está asegurado y no se puede devolver."),
        ("Nunca se admite.", "es", "siempre se admite."),
    ],
)
def test_a_no_is_put_in_or_taken_away(sentence, language, found):
    assert denied(sentence, language) == found


@pytest.mark.parametrize(
    ("sentence", "language", "found"),
    [
        ("We keep it for 7 days.", "en", "We keep it for seven days."),
        ("We keep it for seven days.", "en", "We keep it for 7 days."),
        ("Wir heben es zehn Tage auf.", "de", "Wir heben es 10 Tage auf."),
        ("Se guarda 15 días.", "es", "Se guarda quince días."),
        ("It costs 3.90 euros.", "en", None),
    ],
)
def test_numbers_are_written_the_other_way(sentence, language, found):
    assert respelled(sentence, language) == found


def test_rewordings_are_of_known_kinds_and_supported():
    following = "The rest of the postage stays with us at the counter."
    first = "Within 14 days, the sender of a lost parcel gets back the price at the counter."
    found = rewordings(first, following, "en", WORDS, _rng())
    assert set(found) <= set(REWORDINGS) and found["word for word"] == first
    source = f"{first} {following}"
    for kind in ("word for word", "numbers respelled", "shortened", "two in one", "framed"):
        if kind in found:
            assert support(found[kind], [source], "en").good, kind
    assert "package" in found["another word"]


def test_the_same_seed_plants_the_same():
    first, second = (faults(SENTENCE, "en", WORDS, PASSAGE, _rng(), ELSEWHERE) for _ in range(2))
    assert first == second
