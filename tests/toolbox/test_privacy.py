"""Personal data are found and masked, tracking numbers stay, and nothing unmasked leaves."""

from __future__ import annotations

import json
import math
import re
import time

import numpy as np
import pandas as pd
import pytest

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.understand import entities
from casebook.llm import Image, Message, Scripted
from casebook.serving import formats, leaks, privacy
from casebook.serving.formats import Plain, iban_length
from casebook.serving.privacy import (
    Leak,
    MaskedLog,
    MaskedModel,
    audit,
    find,
    mask,
    mask_turns,
    without_masks,
)

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


def test_countries_have_their_length():
    assert [iban_length(code) for code in ("NO", "de", "GB", "MT", "XX")] == [15, 22, 22, 31, 0]


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
    assert recall["masked"].sum() == recall["planted"].sum() == 103
    # A planted fault: without the pattern of addresses the audit sees it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "_ADDRESS", ())
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


def test_each_text_of_a_record_is_searched_as_it_is():
    lines: list[str] = []
    log = MaskedLog(lines.append)
    said = ["Hello,\nEC669043449XA", "\tEC669043449XA"]
    log(said=said, sure=0.794601234567)  # no line break is a letter in front of a number
    assert json.loads(lines[0]) == {"said": said, "sure": 0.794601234567}
    log(error=OSError(PLANTED["email"]))  # what is no JSON is a text, and masked
    assert "[email]" in lines[1]
    with pytest.raises(Leak):
        log(deep=[{"k": 4111111111111111}])
    assert len(lines) == 2


def test_a_broken_mask_is_noticed_before_anything_leaves(monkeypatch):
    spy, lines = Scripted(["fine"]), []
    monkeypatch.setattr(privacy, "_with_masks", lambda text, found: text)
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


# Spellings ---------------------------------------------------------------------------------------

WRITTEN = {
    "full-width": "４１１１ １１１１ １１１１ １１１１",
    "Arabic digits": "٤١١١ ١١١١ ١١١١ ١١١١",
    "invisible": "4111\u200b1111\u20601111\u00ad1111",
    "thin spaces": "4111\u20091111\u20091111\u20091111",
    "another dash": "4111\u20111111\u20111111\u22121111",
    "lines": "4111\n1111\n1111\n1111",
    "dots": "4111.1111.1111.1111",
    "each apart": "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
}


@pytest.mark.parametrize("number", WRITTEN.values(), ids=WRITTEN)
def test_a_number_is_masked_where_it_stands_however_it_is_written(number):
    before, behind = "ｍy ﬁne\u200b card ", "\u200bwas charged, Straße"
    assert mask(before + number + behind).text == f"{before}[card]{behind}"


#: Of each kind that Unicode has a program leave out, and marks on a letter.
UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u17b4\u180b\u200d\u202e\u2060\u2065\u2800\u3164\ufe0f\ufeff\uffa0"
    "\ufff0\U0001bca0\U0001d173\U000e0001\U000e0101\u0336\u0301\u20e3"
)


def _hidden(unseen: str) -> str:
    return mask(
        f"to j{unseen}ane@exam{unseen}ple.com, card 4111{unseen}1111 11{unseen}11 1111"
    ).text


@pytest.mark.parametrize("unseen", UNSEEN, ids=lambda c: f"U+{ord(c):04X}")
def test_what_nobody_sees_does_not_hide_an_address_or_a_number(unseen):
    assert _hidden(unseen) == "to [email], card [card]"


def test_what_is_not_dropped_hides_something(monkeypatch):
    monkeypatch.setattr(formats, "_plain", lambda character: character)
    assert not any(_hidden(unseen) == "to [email], card [card]" for unseen in UNSEEN)


def test_places_that_are_not_mapped_back_are_found(monkeypatch):
    text = f"ﬁne {WRITTEN['invisible']} ok"
    monkeypatch.setattr(Plain, "span", lambda self, start, end: (start, end))
    assert mask(text).text != "ﬁne [card] ok"


def test_every_character_of_the_plain_form_has_its_place():
    letters = "a1 .-ß\u200b\uff11\u2011\ufb01\u0661\u2009½\u00ad"
    rng = np.random.default_rng(0)
    for _ in range(200):
        text = "".join(rng.choice(list(letters), 12))
        plain = Plain(text)
        spans = [plain.span(at, at + 1) for at in range(len(plain.text))]
        for (a, b), character in zip(spans, plain.text, strict=True):
            assert character in Plain(text[a:b]).text
        assert spans == sorted(spans)
    assert Plain("½").text == "1\u20442"


@pytest.mark.parametrize(
    ("turns", "masked"),
    [
        (["it is 4111 1111", "1111 1111 ok"], ("it is [card]", "[card] ok")),
        (["020 7946", "0123"], ("[phone]", "[phone]")),
        (["12 Mill Lane, Moor", "ZZ99 1WN is a code"], None),  # an address within one alone
        (["order 4500123", "12 kg"], None),
        (["4111 1111", "no", "1111 1111"], None),  # known: something else between
        ([], ()),
    ],
)
def test_turns_are_joined(turns, masked):
    alone = tuple(mask(turn).text for turn in turns)
    assert mask_turns(turns) == (alone if masked is None else masked)


def test_old_turns_are_masked_for_themselves():
    turns = ["4111 1111", "1111 1111", *["x"] * privacy.JOINED]
    assert mask_turns(turns)[:2] == ("4111 1111", "1111 1111")
    assert mask_turns(turns[:-1])[1:2] == ("1111 1111",)
    assert mask_turns(turns[:-2])[:2] == ("[card]", "[card]")
    assert mask_turns(["a" * 99_990, "4111 1111", "1111 1111"])[1:] == ("4111 1111", "1111 1111")


def test_a_model_reads_no_half_of_a_number():
    spy = Scripted(["fine"])
    said = [Message("user", "it is 4111 1111"), Message("assistant", "go on")]
    MaskedModel(spy).complete([*said, Message("user", "1111 1111")])
    assert [m.content for m in spy.requests[0].messages] == ["it is [card]", "go on", "[card]"]


# Beside one another ----------------------------------------------------------------------------

VALUES = {
    "card": "4111 1111 1111 1111",
    "card in a row": "5555555555554444",
    "Amex": "3782 822463 10005",
    "card with a slip": "4111 1111 1111 1112",
    "IBAN": "DE89 3704 0044 0532 0130 00",
    "another IBAN": "GB29 NWBK 6016 1331 9268 19",
    "landline": "020 7946 0123",
    "mobile": "0171 2345678",
    "Spanish phone": "912 345 678",
    "abroad": "+49 30 1234567",
    "street": "Calle Mayor 5",
    "town": "Lindenstieg 4, 00912 Grauhafen",
}
#: What stands before or behind a card and is no personal data alone.
BESIDE = ("12/27", "12/27 123", "123", "04-28", "1", "order 350", "KB-1059", "350 euros,", "12 kg")


def left_open(first: str, between: str, second: str) -> list[str]:
    """Return which of two values is not masked as a whole, or is found in what the mask left."""
    text = first + between + second
    found, places = find(text), ((0, len(first)), (len(first + between), len(text)))
    values = zip((first, second), places, strict=True)
    again = ["again"] if find(mask(text).text) else []
    return [v for v, place in values if leaks.covered(text, *place, found) != "whole"] + again


@pytest.mark.parametrize("between", [" ", ", ", "\n", " / ", "; ", " und "])
def test_values_beside_one_another_are_masked(between):
    pairs = [(a, b) for a in VALUES.values() for b in VALUES.values()]
    if between == " ":  # known: a town may have two names, and the second may be a street's
        pairs = [(a, b) for a, b in pairs if a != VALUES["town"] or not b[0].isalpha()]
    assert [pair for pair in pairs if left_open(pair[0], between, pair[1])] == []


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("kind", ["card", "card in a row", "Amex", "card with a slip"])
def test_a_card_is_masked_whatever_stands_beside_it(kind, beside):
    for text in (f"{VALUES[kind]} {beside}", f"my {beside} {VALUES[kind]} please"):
        assert VALUES[kind][-4:] not in mask(text).text and find(mask(text).text) == []


def test_a_card_takes_what_stands_behind_it_in_its_line_and_no_more():
    assert mask("it is 4111 1111 1111 1111 12/27 123\n350 euros").text == "it is [card]\n350 euros"
    assert mask("4111111111111111123").text == "[number]"  # its code, without a gap
    assert mask("no 12 or DE89 3704 0044 0532 0130 00").text == "no 12 or [iban]"
    assert mask("room 12 0171 2345678").text == "room 12 [phone]"


@pytest.mark.parametrize(
    "text",
    [
        "IMEI 490154203237518",
        "tracking page says 00340434161094042557",
        "from 2026-07-04 2026-07-05 or 04.07.2026 0800 1200",
        "rooms 12 17 23, 1200 1350 1500 letters, 4 5 6 7 8 9 10 11 12 13",
    ],
)
def test_rows_of_digits_that_are_no_card_stay(text):
    assert find(text) == []


@pytest.mark.parametrize("fault", ["one row", "no end", "one pass", "nothing is blanked"])
def test_what_hides_a_value_beside_another_is_seen(fault, monkeypatch):
    wrong = {
        "one row": (formats, "_cards_from", lambda text, groups: iter(())),
        "no end": (formats, "_phone_end", lambda t, m, first: m.end() * formats._is_phone(m[0])),
        "one pass": (privacy, "PASSES", 0),
        "nothing is blanked": (privacy, "_blank", lambda text, spans: text),
    }
    monkeypatch.setattr(*wrong[fault])
    assert any(left_open(a, " ", b) for a in VALUES.values() for b in VALUES.values())


# Time ------------------------------------------------------------------------------------------

#: Texts of n characters that a pattern might read again and again.
STALLS = {
    "letters": lambda n: "a" * n,
    "capitals": lambda n: "A" * n,
    "a number and a long word": lambda n: "12 " + "a" * n,
    "a number and dots": lambda n: "12 " + "a." * (n // 2),
    "a number and words": lambda n: "12 " + "ab " * (n // 3),
    "a number, words and commas": lambda n: "12 a, b, " * (n // 9),
    "hyphens": lambda n: "A-" * (n // 2),
    "particles": lambda n: "Aa " + "de " * (n // 3),
    "capital words": lambda n: "Aa " * (n // 3),
    "a gap": lambda n: "Aa 4" + " " * n,
    "gaps in a street": lambda n: ("calle " + " " * 50) * (n // 56),
    "streets": lambda n: "calle av. " * (n // 10),
    "a compound": lambda n: "Ring" * (n // 4) + "weg",
    "digits": lambda n: "1" * n,
    "digits apart": lambda n: "1 " * (n // 2),
    "digits and dots": lambda n: "1." * (n // 2),
    "at signs": lambda n: "a@" * (n // 2),
    "before an at sign": lambda n: "a." * (n // 2) + "@",
    "behind an at sign": lambda n: "a@" + "b" * n,
    "e-mails": lambda n: "a@b.cd " * (n // 7),
    "IBANs": lambda n: "DE89 3704 0044 0532 0130 00 " * (n // 28),
    "nearly IBANs": lambda n: "DE89" * (n // 4),
    "cards": lambda n: "4111 1111 1111 1111, " * (n // 21),
    "phones": lambda n: "020 7946 0123, " * (n // 15),
    "brackets": lambda n: "(0" * (n // 2),
    "addresses in words": lambda n: "a at b dot " * (n // 11),
    "addresses in brackets": lambda n: "a (at) b (dot) " * (n // 15),
    "digits and lines": lambda n: "1\n\n" * (n // 3),
    "digits and slashes": lambda n: "1/" * (n // 2),
    "IBANs apart": lambda n: "D E 8 9 " * (n // 8),
    "American numbers": lambda n: "212 555 0187 x " * (n // 15),
    "full-width digits": lambda n: "\uff11" * n,
    "invisible": lambda n: "\u200b" * n,
}


def seconds(call, text: str, clock=time.process_time) -> float:
    """Return the least CPU seconds of three calls."""
    taken = []
    for _ in range(3):
        start = clock()
        call(text)
        taken.append(clock() - start)
    return min(taken)


def check_growth(call, make, length: int = 3_000, clock=time.process_time) -> None:
    """Four times the text takes about four times as long; twice that is for noise.

    A busy machine stretches one measurement or another; the least of several has none of that.
    """
    short, long, ratio = math.inf, math.inf, math.inf
    for measured in range(5):
        short = min(short, seconds(call, make(length), clock))
        long = min(long, seconds(call, make(4 * length), clock))
        ratio = long / short
        if ratio < 9 and measured:
            return
    raise AssertionError(f"four times the text took {ratio:.1f} times as long")


@pytest.mark.parametrize("make", STALLS.values(), ids=STALLS)
def test_no_text_stalls_the_mask(make):
    check_growth(find, make)


@pytest.mark.parametrize("name", ["digits", "digits and dots", "digits apart", "letters"])
def test_no_text_stalls_the_entities(name):
    check_growth(entities, STALLS[name])


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (r"[\w.+\-']+@[\w\-]+(?:\.[\w\-]+)+", "letters"),
        (r"\d+(?:[.,]\d+)*kg", "digits"),
        (r"[A-Z][\w-]*\s+\d", "hyphens"),
        (r"\b\d{1,4}\s*,?\s+\d{5}", "a gap"),
    ],
)
def test_a_pattern_that_reads_places_again_is_found(pattern, name):
    planted = re.compile(pattern)
    with pytest.raises(AssertionError, match="times as long"):
        check_growth(lambda text: list(planted.finditer(text)), STALLS[name], length=1_000)


def test_the_pattern_that_stalled_took_half_a_minute_for_a_line():
    """Words without a gap between them: each length more doubles the ways to cut them."""
    planted = re.compile(r"\b\d{1,4}\s+(?:[^\W\d_][\w'’.\-]*\s*){1,5},?\s+[A-Z]{2}\d")
    text = STALLS["a number and a long word"]
    short, longer = (seconds(planted.search, text(n)) for n in (15, 30))
    assert longer > 8 * short
    assert seconds(find, text(90)) < 0.05


def test_findings_that_are_compared_with_all_others_are_found(monkeypatch):
    """Steps stand for time, so that no busy machine decides."""
    steps = 0

    class Counted(privacy.Free):
        def take(self, start: int, end: int) -> bool:
            nonlocal steps
            steps += 1
            return super().take(start, end)

    class Compared(privacy.Free):
        def __init__(self, length: int) -> None:
            self.spans: list[tuple[int, int]] = []

        def take(self, start: int, end: int) -> bool:
            nonlocal steps
            steps += 1 + len(self.spans)
            if any(start < b and a < end for a, b in self.spans):
                return False
            self.spans.append((start, end))
            return True

    honest = find(STALLS["e-mails"](700))
    monkeypatch.setattr(privacy, "Free", Counted)
    check_growth(find, STALLS["e-mails"], 700, lambda: steps)
    monkeypatch.setattr(privacy, "Free", Compared)
    assert find(STALLS["e-mails"](700)) == honest
    with pytest.raises(AssertionError, match=r"1\d\.\d times as long"):
        check_growth(find, STALLS["e-mails"], 700, lambda: steps)


def test_a_text_without_end_is_refused():
    with pytest.raises(ValueError, match="100,001 characters"):
        mask("a" * 100_001)
    assert mask("a" * 100_000).found == {}


def test_an_email_is_taken_with_all_that_stands_before_its_at_sign():
    said = "o'neil+x_1.y@a.example.com, @b.com c@d e@f.g'h@i.jk"
    assert [said[f.start : f.end] for f in find(said)] == [
        "o'neil+x_1.y@a.example.com",
        "e@f.g",
        "'h@i.jk",
    ]
