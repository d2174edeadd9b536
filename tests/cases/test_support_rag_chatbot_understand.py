"""Language, entities, intent and scope."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import numpy as np

from casebook.cases.support_rag_chatbot import understand, world
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


PERSON = [
    *("I want to speak to a human", "talk to a colleague please", "human please", "Agent!"),
    *("I would rather talk to a colleague", "a person, please", "please put me through to someone"),
    *("Ja bitte verbinden Sie mich", "Ich möchte lieber verbunden werden", "Mensch, bitte"),
    *("Bitte mit einer Kollegin sprechen", "prefiero hablar con un compañero"),
    *("¿Puedo hablar con una compañera?", "persona por favor"),
]
NO_PERSON = [
    *("How many humans live there?", "the delivery agent was rude", "an agent for customs"),
    *("my colleague talked to the courier", "is a person at the desk all day"),
    *("Kann ich das Paket an einen Kollegen schicken?", "un compañero recibió mi paquete"),
    "Der Mitarbeiter hat nicht geklingelt",
]


def test_a_person_is_asked_for():
    assert [text for text in PERSON if not wants_person(text)] == []
    assert [text for text in NO_PERSON if wants_person(text)] == []


def test_the_words_with_which_a_person_is_offered_ask_for_one():
    texts = tomllib.loads((files(understand.__package__) / "replies.toml").read_text("utf8"))
    said = " ".join(str(text) for text in texts.values())
    for offered, asked in {
        "colleague": "a colleague, please",
        "verbinde": "verbinden Sie mich bitte",
        "compañer": "hablar con un compañero",
    }.items():
        assert offered in said and wants_person(asked)


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
