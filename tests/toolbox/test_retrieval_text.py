"""Words, n-grams and passages: what a lexical index reads, and where a citation points."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from casebook.retrieval.chunks import (
    Article,
    Chunker,
    as_utc,
    read_articles,
    section_spans,
    sentence_spans,
)
from casebook.retrieval.text import (
    ANALYSERS,
    char_ngrams,
    content_words,
    fold,
    overlap,
    stem,
    stop_words,
    words,
)

TEXT = """Parcels may be held by customs. We tell you by mail.

# Fees

The fee is 3.50 euros. It is due at once!

## How to pay

- Pay on the website.
- Pay at a depot. Bring the letter, and the number of the parcel; without it we cannot help.
"""


def article(text: str = TEXT, **values) -> Article:
    start = pd.Timestamp("2026-01-01")
    given = {"title": "Customs", "valid_from": start, "valid_to": pd.NaT, **values}
    return Article("a", 1, "en", text=text, **given)


# Words -------------------------------------------------------------------------------


def test_words_are_stemmed_folded_and_without_stop_words():
    assert words("The parcels were delivered to the Depots") == ["parcel", "were", "deliv", "depot"]
    assert words("Die Gebühren für Päckchen", "de") == ["gebuhr", "packch"]
    assert words("Où est l'adresse de livraison?", "fr") == ["ou", "adress", "livraison"]
    assert words("przesyłki", "pl") == words("PRZESYŁKI", "pl") == words("przesyłki nie", "pl")
    assert words("kyllä ei", "fi") == ["kylla", "ei"]  # no stemmer, no list: still read


def test_an_identifier_is_found_however_it_is_written():
    written = ["CN-23", "CN23", "cn/23", "CN 23"]
    assert [("cn23" in words(w), "23" in words(w)) for w in written] == [
        (True, True),
        (True, False),
        (True, True),
        (False, True),
    ]
    assert "wellknown" not in words("well-known")  # no digit: no identifier


def test_stems_know_their_language():
    assert stem("deliveries", "en") == "deliveri" and stem("deliveries", "xx") == "deliveries"
    assert stem("b2c4") == "b2c4" and fold("Łódź") == "lodz" and fold("Straße") == "strasse"


def test_stop_words_come_by_language():
    assert "the" in stop_words("en") and "der" in stop_words("de") and "się" in stop_words("pl")
    assert stop_words("xx") == frozenset()
    assert len(stop_words("en")) == 33


def test_content_words_leave_out_what_stands_around_a_question():
    assert content_words("Hi, could you please tell me where my parcel is?") == {"parcel"}
    assert overlap("Where is my parcel?", "Parcels are tracked.") == 1.0
    assert overlap("Where is my parcel stuck?", "Parcels are tracked.") == 0.5
    assert overlap("What is it?", "Parcels") == 0.0


def test_character_ngrams_of_marked_words():
    assert char_ngrams("Pay") == ["_pay", "pay_"]
    assert char_ngrams("an") == ["_an_"]
    assert char_ngrams("Zoll", sizes=(3, 5)) == ["_zo", "zol", "oll", "ll_", "_zoll", "zoll_"]
    shared = set(char_ngrams("Zollgebühr", "de")) & set(char_ngrams("Gebühren", "de"))
    assert {"gebu", "ebuh", "buhr"} <= shared  # no word in common, but its parts are
    assert set(ANALYSERS) == {"words", "ngrams"}


# Passages ----------------------------------------------------------------------------

CHUNKERS = [
    Chunker("article"),
    Chunker("words", 8, 0),
    Chunker("words", 8, 3),
    Chunker("sentences", 2, 1),
    Chunker("headings", 200),
    Chunker("headings", 6, 2),
]


@pytest.mark.parametrize("chunker", CHUNKERS, ids=str)
def test_every_passage_points_into_its_article_and_no_word_is_lost(chunker):
    rng = np.random.default_rng(0)
    texts = [TEXT, "One.", "# Only a heading", "  padded  ", "ein – Satz. Noch\n\n\neiner …"]
    texts += ["".join(rng.choice(list("ab .\n#!-")) for _ in range(60)) + "x" for _ in range(50)]
    for text in texts:
        chunks = chunker(article(text))
        for chunk in chunks:
            assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        covered = np.zeros(len(text), bool)
        for chunk in chunks:
            covered[chunk.start : chunk.end] = True
        assert not "".join(c for c, seen in zip(text, covered, strict=True) if not seen).strip()


def test_windows_overlap_by_what_was_asked():
    text = " ".join(f"w{i}" for i in range(20))
    parts = [c.text.split() for c in Chunker("words", 8, 3)(article(text))]
    assert [len(part) for part in parts] == [8, 8, 8, 5]
    assert all(a[-3:] == b[:3] for a, b in pairwise(parts))
    one = Chunker("words", 8, 3)(article("w1 w2 w3"))
    assert len(one) == 1


def test_sections_know_their_heading():
    chunks = Chunker("headings")(article())
    assert [c.heading for c in chunks] == ["", "Fees", "How to pay"]
    assert chunks[1].text.startswith("# Fees") and chunks[1].text.endswith("at once!")
    assert chunks[0].indexed.startswith("Customs\nParcels")
    assert chunks[1].indexed == "Customs\n" + chunks[1].text  # its heading stands there already
    inner = Chunker("headings", 6)(article())
    assert any(c.indexed.startswith("Customs\nHow to pay\n") for c in inner)
    assert len(section_spans(TEXT)) == 3


def test_sentences_are_not_cut_in_a_number():
    found = [TEXT[a:z] for a, z in sentence_spans(TEXT)]
    assert "The fee is 3.50 euros." in found and "- Pay on the website." in found


@pytest.mark.parametrize("values", [("pages", 5, 0), ("words", 0, 0), ("words", 5, 5)])
def test_a_chunker_that_cannot_work_is_refused(values):
    with pytest.raises(ValueError, match=r"no[t] a way to cut|never move on"):
        Chunker(*values)


# Articles ----------------------------------------------------------------------------


def frame(**values) -> pd.DataFrame:
    row = {
        "article_id": "a",
        "version": 1,
        "language": "en",
        "title": "t",
        "text": "x",
        "valid_from": pd.Timestamp("2026-01-01"),
        "valid_to": pd.NaT,
    }
    return pd.DataFrame([row | values])


def test_articles_are_read_with_times_in_utc():
    (one,) = read_articles(frame(valid_from=pd.Timestamp("2026-01-01T01:00+01:00")))
    assert one.valid_from == pd.Timestamp("2026-01-01") and one.valid_to is pd.NaT
    assert one.tags == "" and read_articles(frame(tags="staff"))[0].tags == "staff"
    (late,) = read_articles(frame(valid_to=pd.Timestamp("9999-12-31")))
    assert late.valid_to is pd.NaT  # a year that no nanosecond counts
    assert as_utc("2026-07-01T12:00-05:00") == pd.Timestamp("2026-07-01T17:00")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (frame().drop(columns="title"), "lack the columns .*title"),
        (frame(text=None), "missing in .*text"),
        (frame(text=" \n"), "has no text"),
        (frame(text="\u200b\u2060 "), "has no text"),
        (frame(text="before\0after"), "holds a character that is no text"),
        (frame(title="a \ud800"), "holds a character that is no text"),
        (frame(text=[["a list"]]), "has a list where a text must stand"),
        (frame(title=5), "has a int where a text must stand"),
        (frame(version=1.7), "must be a whole number"),
        (frame(version=-1), "must be a whole number"),
        (frame(version=2**63), "must be a whole number"),
        (frame(version=np.inf), "must be a whole number"),
        (frame(version="one"), "must be a whole number"),
        (frame(valid_to=pd.Timestamp("2025-01-01")), "before it begins"),
        (pd.concat([frame(), frame()]), "stands there twice"),
    ],
)
def test_faulty_articles_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        read_articles(bad)
