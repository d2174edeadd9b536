"""Language, entities, intent and scope."""

from __future__ import annotations

import numpy as np

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.glossary import size, translated, unread
from casebook.cases.support_rag_chatbot.understand import (
    IntentModel,
    LanguageModel,
    Scope,
    entities,
    intent_by_rules,
    wants_person,
)


def _kinds(text):
    return [(entity.kind, entity.value) for entity in entities(text)]


def test_entities_in_one_spelling():
    text = "rl 293 760 395 xa to the United Kingdom: f114, KB 1059, H5, 4,5 kg, 24.90 € on 3 June"
    assert _kinds(text) == [
        ("tracking_number", "RL293760395XA"),
        ("country", "GB"),
        ("form", "F-114"),
        ("article_number", "KB-1059"),
        ("status_code", "H5"),
        ("weight", "4,5 kg"),
        ("amount", "24.90 €"),
        ("date", "3 June"),
    ]
    assert _kinds("nach Österreich") == [("country", "AT")]


def test_a_wrong_check_digit_is_not_taken_for_a_number():
    good = world.check_digit("29376039")
    assert _kinds(f"RL29376039{good}XA")[0][0] == "tracking_number"
    assert _kinds(f"RL29376039{(good + 1) % 10}XA")[0][0] == "tracking_number_wrong"


def test_entities_have_their_place():
    text = "Is CN 23 for Switzerland?"
    assert [text[e.start : e.end] for e in entities(text)] == ["CN 23", "Switzerland"]


def test_languages_are_told_apart():
    page = world.knowledge_base(world.TODAY)
    model = LanguageModel().fit(page["text"], page["language"])
    said = {"en": "parcel still not here", "de": "paket immer noch nicht da", "es": "no ha llegado"}
    assert {code: model(text)[0] for code, text in said.items()} == {c: c for c in said}
    assert 0.3 < model("ok")[1] <= 1


def test_intents_are_learned_across_languages():
    texts = [
        "how much does it cost",
        "what is the price",
        "it arrived broken",
        "my vase is cracked",
    ]
    intents = ["prices", "prices", "claim", "claim"]
    model = IntentModel().fit(texts, ["en"] * 4, intents)
    assert model.predict(["was kostet ein paket", "mi jarrón está roto"], ["de", "es"]) == [
        "prices",
        "claim",
    ]
    assert np.allclose(model.probabilities(texts, ["en"] * 4).sum(axis=1), 1)


def test_rules_and_scope():
    assert intent_by_rules("¿Cuánto cuesta mandar una caja?", "es") == "prices"
    assert intent_by_rules("hm", "en") == "other"
    texts = ["how much for a parcel", "when is the branch open", "tell me a joke", "write a poem"]
    texts += ["do you sell pink boxes", "is there parking at the branch"]
    labels = ["ours", "ours", "off_topic", "off_topic", "unanswerable", "unanswerable"]
    odds = Scope().fit(texts, ["en"] * 6, labels)(
        ["tell me a poem", "how much is a parcel"], ["en"] * 2
    )
    assert odds[0, 1] > 0 > odds[1, 1]


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
