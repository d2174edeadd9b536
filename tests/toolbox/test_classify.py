"""Languages, intents and scope are learned from few texts; a foreign text is told by its words."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.retrieval.classify import IntentModel, LanguageModel, Scope, foreign, spoken

SAID = {
    "en": ["Where is my parcel?", "How long do you keep it?", "It arrived broken."],
    "de": ["Wo ist mein Paket?", "Wie lange wird es aufbewahrt?", "Es kam kaputt an."],
    "es": ["¿Dónde está mi paquete?", "¿Cuánto tiempo lo guardan?", "Ha llegado roto."],
}
ENGLISH = {"was kostet ein paket": "what does a parcel cost", "mi jarrón roto": "my vase broken"}


def test_languages_are_told_apart_whatever_the_number():
    texts = [text for said in SAID.values() for text in said]
    codes = [code for code, said in SAID.items() for _ in said]
    model = LanguageModel(without=r"[a-z]{2}\d+").fit(texts, codes)
    said = {"en": "parcel still not here", "de": "paket noch nicht da", "es": "no ha llegado"}
    assert {code: model(text)[0] for code, text in said.items()} == {c: c for c in said}
    assert model("wo ist DE123456")[1] == pytest.approx(model("wo ist  ")[1])
    assert 0.3 < model("ok")[1] <= 1


@pytest.mark.parametrize(
    ("text", "is_foreign"),
    [
        ("Gdzie jest moja paczka? Czekam na nią od tygodnia.", True),
        ("Где моя посылка?", True),
        ("Dov'è il mio pacco? Non lo vedo.", True),
        ("bonjour", False),
        ("", False),
        *((text, False) for said in SAID.values() for text in said),
    ],
)
def test_a_text_in_none_of_ours_is_told(text, is_foreign):
    assert foreign(text) == is_foreign


def test_codes_of_channels_are_read():
    assert [spoken(code) for code in ("de-AT", " EN_us", "fr", "")] == ["de", "en", "", ""]


def test_intents_are_learned_across_languages_by_a_translation():
    texts = ["how much does it cost", "what is the price", "it arrived broken", "my cracked vase"]
    intents = ["prices", "prices", "claim", "claim"]
    model = IntentModel(translate=lambda text, code: ENGLISH[text])
    model.fit(texts, ["en"] * 4, intents)
    assert model.predict(list(ENGLISH), ["de", "es"]) == ["prices", "claim"]
    assert np.allclose(model.probabilities(texts, ["en"] * 4).sum(axis=1), 1)
    # Planted: without the translation the words say nothing of the intent.
    alone = IntentModel().fit(texts, ["en"] * 4, intents)
    sure = alone.probabilities(list(ENGLISH), ["de", "es"]).max(axis=1)
    assert (model.probabilities(list(ENGLISH), ["de", "es"]).max(axis=1) > sure).all()


def test_the_scope_of_a_question_is_in_its_words():
    texts = ["how much for a parcel", "when is the branch open", "tell me a joke", "write a poem"]
    texts += ["do you sell pink boxes", "is there parking at the branch"]
    labels = ["ours", "ours", "off_topic", "off_topic", "unanswerable", "unanswerable"]
    model = Scope().fit(texts, ["en"] * 6, labels)
    odds = model(["tell me a poem", "how much is a parcel"], ["en"] * 2)
    assert odds[0, 1] > 0 > odds[1, 1]
