"""A help centre finds in any language, reads in the customer's, and never returns what lags."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.retrieval.centre import SIGNALS, Centre, Query
from casebook.retrieval.dense import Hashed
from casebook.retrieval.index import IndexFault

NOW, MODEL = pd.Timestamp("2026-06-30 12:00"), Hashed(128)
WORDS = {"wie": "how", "lange": "long", "paket": "parcel", "aufbewahrt": "kept"}


class Asked(Query):
    """A question that a list of words translates."""

    @property
    def english(self) -> str:
        return " ".join(WORDS.get(word, word) for word in self.text.split())


def article(name, language, title, text, version=1, start="2024-01-01", tags="KB-1 private"):
    return {
        "article_id": name,
        "version": version,
        "language": language,
        "title": title,
        "text": text,
        "valid_from": pd.Timestamp(start),
        "valid_to": pd.NaT,
        "tags": tags,
    }


STORAGE = "## In the branch\n\nWe keep a parcel for 7 days. Then it goes back.\n"
ARTICLES = pd.DataFrame(
    [
        article("storage", "en", "How long a parcel is kept", STORAGE),
        article("storage", "de", "Aufbewahrung", "## In der Filiale\n\nSieben Tage liegt es.\n"),
        article("hours", "en", "Opening hours", "## Hours\n\nFrom 8 to 18.\n", tags="KB-2 all"),
    ]
)


@pytest.fixture
def centre(tmp_path):
    with Centre.build(tmp_path, ARTICLES, MODEL) as built:
        yield built


def test_a_translated_question_finds_english_and_reads_the_customers_language(centre):
    hits = centre.search(Asked("wie lange paket aufbewahrt", "de"), NOW)
    assert hits[0].key == ("storage", "de", 1)
    assert hits[0].signals["words_en"] == 1 and hits[0].signals["words_own"] < 1
    assert centre.search(Query("opening hours", "es"), NOW)[0].key == ("hours", "en", 1)
    # Planted: without the translation nothing of the English article is found by words.
    assert not centre.signals(Query("wie lange paket aufbewahrt", "de"), NOW)["words_en"]


def test_the_score_is_the_weighted_sum_of_the_signals(centre):
    weights = dict(zip(SIGNALS, np.linspace(0.1, 0.6, 6), strict=True))
    hit = centre.search(Query("how long is a parcel kept", "en"), NOW, weights=weights)[0]
    assert hit.score == pytest.approx(sum(weights[n] * hit.signals[n] for n in SIGNALS))


def test_a_number_is_a_filter(centre):
    hits = centre.search(Query("how long is a parcel kept", "en", "KB-2"), NOW)
    assert [hit.article_id for hit in hits] == ["hours"]


def test_an_article_is_read_by_sections_and_their_sentences(centre):
    (section, sentences), *_ = centre.read(centre.search(Query("parcel", "en"), NOW)[0], NOW)
    assert [sentence.text for sentence in sentences][-1] == "Then it goes back."
    assert all(s.text == STORAGE[s.start : s.end].strip() for s in sentences)
    assert section.heading == "In the branch"


def test_what_lags_in_one_file_is_listed_and_not_returned(centre):
    new = ARTICLES.iloc[[0]].assign(text=STORAGE.replace("7", "9"))
    centre.passages.update(new)
    assert centre.lagging() == [("storage", "en", 1)]
    query = Query("how long is a parcel kept", "en")
    assert "storage" not in centre.signals(query, NOW)["sentences_en"]
    assert "storage" in centre.signals(query, NOW)["words_own"]
    centre.update(new)
    assert centre.lagging() == []
    assert centre.delete(["hours"]).removed == 1 and len(centre.in_force(NOW)) == 2


def test_a_damaged_file_is_refused(tmp_path):
    Centre.build(tmp_path, ARTICLES, MODEL).close()
    Centre.open(tmp_path, MODEL).close()
    path = tmp_path / "grams.db"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(IndexFault):
        Centre.open(tmp_path, MODEL)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="grams"):
        Centre.open(tmp_path, MODEL)


STALE = ARTICLES.iloc[[0]].assign(text=STORAGE.replace("7", "9"))


@pytest.mark.parametrize("wrote", ["passages", "passages and sentences"])
@pytest.mark.parametrize("next_write", ["update", "delete", "repair"])
def test_the_next_write_finishes_an_update_that_was_cut_off(centre, wrote, next_write):
    for name in wrote.split(" and "):
        getattr(centre, name).update(STALE)
    assert centre.lagging() == [("storage", "en", 1)]
    if next_write == "update":
        centre.update(ARTICLES.iloc[[2]].assign(text="## Hours\n\nFrom 9 to 18.\n"))
    elif next_write == "delete":
        centre.delete("hours")
    else:
        assert centre.repair() == [("storage", "en", 1)]
    assert centre.lagging() == [] == centre.repair()
    assert "storage" in centre.signals(Query("how long is a parcel kept", "en"), NOW)["grams_own"]


def test_the_next_write_finishes_a_removal_that_was_cut_off(centre, tmp_path):
    centre.passages.delete(["storage"])
    assert {key[0] for key in centre.lagging()} == {"storage"}
    centre.update(ARTICLES.iloc[[2]])
    assert centre.lagging() == []
    centre.close()
    assert b"We keep a parcel" not in b"".join(p.read_bytes() for p in tmp_path.glob("*.db*"))


def test_a_write_that_repairs_nothing_leaves_what_lags(centre, monkeypatch):
    monkeypatch.setattr(Centre, "repair", lambda self: [])
    with pytest.raises(AssertionError):
        test_the_next_write_finishes_an_update_that_was_cut_off(centre, "passages", "update")


@pytest.mark.parametrize("missing", [None, pd.NaT])
def test_a_missing_time_is_no_empty_help_centre(centre, missing):
    with pytest.raises(ValueError, match="time is missing"):
        centre.in_force(missing)
