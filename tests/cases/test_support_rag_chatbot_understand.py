"""Language, entities, intent and scope."""

from __future__ import annotations

import numpy as np

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.glossary import size, translated, unread
from casebook.cases.support_rag_chatbot.understand import entities, wants_person


def _kinds(text):
    return [(entity.kind, entity.value) for entity in entities(text)]


def test_entities_in_one_spelling():
    text = "rl 293 760 395 xa to Norway: f114, KB 1059, H5, 4,5 kg, 24.90 € on 3 June"
    assert _kinds(text) == [
        ("tracking_number", "RL293760395XA"),
        ("form", "F-114"),
        ("article_number", "KB-1059"),
        ("status_code", "H5"),
        ("amount", "24.90 €"),
    ]


def test_a_wrong_check_digit_is_not_taken_for_a_number():
    good = world.check_digit("29376039")
    assert _kinds(f"RL29376039{good}XA")[0][0] == "tracking_number"
    assert _kinds(f"RL29376039{(good + 1) % 10}XA")[0][0] == "tracking_number_wrong"


def test_entities_have_their_place():
    text = "Is CN 23 dearer than 5 euros?"
    assert [text[e.start : e.end] for e in entities(text)] == ["CN 23", "5 euros"]


def test_a_person_is_asked_for():
    assert wants_person("I want to speak to a human")
    assert not wants_person("How many humans live there?")


def test_the_glossary_translates():
    assert size("de") > 500 and size("es") > 500
    assert translated("Wie lange wird ein Paket aufbewahrt?", "de").startswith("how long")
    assert "parcel" in translated("¿Dónde está mi paquete?", "es")
    assert "pick up courier" in translated("der Abholfahrer", "de")  # a compound
    assert translated("EC314283557XA", "de") == "ec314283557xa"
    assert translated("as it is", "en") == "as it is"


def test_unread_questions_are_about_as_many_as_then():
    keys = [f"en-{n:04d}" for n in range(2000)]
    assert 0.5 < np.mean(unread(keys)) < 0.7
