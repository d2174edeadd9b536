"""Personal data are found and masked, tracking numbers stay, and nothing unmasked leaves."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from casebook.cases.support_rag_chatbot import privacy, world
from casebook.cases.support_rag_chatbot.privacy import (
    Leak,
    MaskedLog,
    MaskedModel,
    audit,
    find,
    luhn,
    mask,
    mod97,
    without_masks,
)
from casebook.llm import Image, Message, Scripted

PLANTED = {
    "email": "Write to jane.doe@example.com please",
    "phone": "Ring me on 020 7946 0123 tonight",
    "iban": "Pay it to DE89 3704 0044 0532 0130 00 TODAY",
    "card": "my card 4111 1111 1111 1111 was charged",
    "address": "ich wohne im Lindenstieg 4, 00912 Grauhafen und warte",
}


@pytest.mark.parametrize("kind", PLANTED)
def test_each_format_is_found_as_what_it_is(kind):
    text = PLANTED[kind]
    (found,) = find(text)
    assert found.kind == kind
    assert mask(text).found == {kind: 1}
    assert f"[{kind}]" in mask(text).text
    assert mask(text).text.split()[-1] == text.split()[-1]  # what stands behind is left


def test_check_digits():
    assert luhn("4111111111111111")
    assert not luhn("4111111111111112")
    assert mod97("GB82WEST12345698765432")
    assert not mod97("GB82WEST12345698765433")


@pytest.mark.parametrize(
    "slip", ["4111 1111 1111 1112", "DE88 3704 0044 0532 0130 00"], ids=["card", "iban"]
)
def test_a_number_with_a_slip_is_masked_too(slip):
    assert [found.kind for found in find(f"it was {slip}, I think")] == ["number"]


@pytest.mark.parametrize(
    "text",
    [
        "where is EC314283557XA?",
        "rl 293 760 395 xa bitte",
        "form F-114 of KB-1059, 27 kg for 24.90 €",
        "On 12.06.2026 I sent 3 parcels, 350 euros each",
        "from 08:30 to 16:00, 2,500 euros",
    ],
)
def test_what_is_needed_stays(text):
    assert find(text) == []


def test_masks_are_not_searched_for():
    assert without_masks(mask("mail jane.doe@example.com now").text) == "mail now"


def test_the_worlds_planted_data_are_masked_and_nothing_else():
    texts = world.questions().set_index("id")["turns"].map("\n".join).to_dict()
    recall, false = audit(texts, world.truth().entities)
    assert (recall.loc[["email", "phone", "iban", "card"], "recall"] >= 0.97).all()
    assert recall.loc["address", "recall"] >= 0.8
    assert len(false) <= 3
    # A planted fault: without the pattern of addresses the audit sees it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "_ADDRESS", ())
        blind, _ = audit(texts, world.truth().entities)
    assert blind.loc["address", "recall"] < 0.2


def test_the_audit_counts_a_masked_tracking_number_as_false():
    text = "it is 020 7946 0123"
    entities = pd.DataFrame(
        [("q", "tracking_number", "020 7946 0123", 6, 19)],
        columns=["question", "type", "value", "start", "end"],
    )
    assert len(audit({"q": text}, entities)[1]) == 1


def test_a_model_never_reads_personal_data():
    spy = Scripted(["fine"] * 2)
    model = MaskedModel(spy)
    said = [Message("user", text) for text in PLANTED.values()]
    assert model.complete(said).content == "fine"
    assert "".join(chunk.text for chunk in model.stream(said)) == "fine"
    for request in spy.requests:
        for message, text in zip(request.messages, PLANTED.values(), strict=True):
            assert find(message.content) == [] and message.content != text


def test_a_log_never_holds_personal_data():
    lines: list[str] = []
    log = MaskedLog(lines.append)
    log(turns=list(PLANTED.values()), deep={"k": [{"x": PLANTED["email"]}]}, n=3)
    assert json.loads(lines[0])["n"] == 3
    assert find(lines[0]) == []
    assert "EC314283557XA" in mask("EC314283557XA").text


def test_a_broken_mask_is_noticed_before_anything_leaves(monkeypatch):
    spy, lines = Scripted(["fine"]), []
    monkeypatch.setattr(privacy, "mask", lambda text: privacy.Masked(text))
    with pytest.raises(Leak) as caught:
        MaskedModel(spy).complete([Message("user", PLANTED["iban"])])
    assert "DE89" not in str(caught.value)
    with pytest.raises(Leak):
        MaskedLog(lines.append)(said=PLANTED["card"])
    assert spy.requests == [] and lines == []


def test_an_image_cannot_be_masked():
    with pytest.raises(Leak, match="Images"):
        MaskedModel(Scripted(["x"])).complete([Message("user", "", images=(Image(b"x"),))])
    with pytest.raises(TypeError, match="ChatModel"):
        MaskedModel("no model")
