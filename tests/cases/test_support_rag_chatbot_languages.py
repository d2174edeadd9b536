"""Search over the glossary and the pivot, and never what is not in force."""

from __future__ import annotations

import sqlite3

import pandas as pd
import pytest
from support_rag_chatbot_fakes import ARTICLES, MODEL, NOW, article

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.glossary import translated
from casebook.cases.support_rag_chatbot.languages import (
    HelpCentre,
    Query,
    as_articles,
)
from casebook.cases.support_rag_chatbot.policies import known_before, replay
from casebook.retrieval.index import IndexFault


@pytest.fixture
def centre(tmp_path):
    with HelpCentre.build(tmp_path, ARTICLES, MODEL) as made:
        yield made


def _first(centre, text, language="en", at=NOW, **more):
    return centre.search(Query(text, language, **more), at)[0]


def test_the_customers_language_is_answered_where_it_can_be(centre):
    assert _first(centre, "how long do you keep a parcel").key == ("storage", "en", 1)
    assert _first(centre, "wie lange bewahrt ihr ein paket auf", "de").key == ("storage", "de", 1)
    # There is no German article on damage: the English one stands in.
    assert _first(centre, "beschädigt", "de").key == ("damage", "en", 2)


def test_the_glossary_is_what_finds_it(centre):
    query = Query("das packerl ist kaputt", "de")
    weights = {"words_en": 1.0}
    assert centre.search(query, NOW, weights=weights)[0].article_id == "damage"
    assert not any(hit.score for hit in centre.search(query, NOW, weights={"words_own": 1.0}))


def test_an_article_number_is_looked_up(centre):
    assert _first(centre, "how long do you keep a parcel", number="KB-1003").article_id == "opening"
    assert centre.search(Query("parcel", "en", "KB-9999"), NOW) == []


def test_a_version_is_found_in_its_time_alone(centre):
    for day, version in (("2025-06-01", 1), ("2025-12-31", 1), ("2026-01-01", 2)):
        assert _first(centre, "the parcel is damaged", at=day).version == version


def test_an_update_cut_off_between_the_files_returns_nothing_stale(centre, monkeypatch):
    new = pd.DataFrame(
        [article("opening", "en", "Opening hours", "## Hours\n\nClosed.\n", 2, "2026-06-01")]
    )

    def cut(_):
        raise OSError("no space")

    monkeypatch.setattr(centre.sentences, "update", cut)
    with pytest.raises(OSError, match="no space"):
        centre.update(new)
    query = Query("when is the branch open", "en")
    found = {hit.key for hit in centre.search(query, NOW)}
    assert ("opening", "en", 2) in found and ("opening", "en", 1) not in found
    # Planted: without the first index's word the second one would return the old version.
    old = centre.sentences.search("when is the branch open", k=50, at=NOW, how="dense")
    assert any(p.article_id == "opening" and p.version == 1 for p in old)
    monkeypatch.undo()
    centre.update(new)
    assert centre.sentences.update(new).unchanged == 1


def test_deleted_articles_are_gone_from_every_file(centre):
    files = (centre.passages, centre.sentences, centre.grams)
    assert all("opening" in set(index.articles()["article_id"]) for index in files)
    centre.delete(["opening"])
    assert all("opening" not in set(index.articles()["article_id"]) for index in files)
    assert all(hit.article_id != "opening" for hit in centre.search(Query("opening", "en"), NOW))


def test_a_replaced_text_counts_only_where_all_files_have_it(centre, monkeypatch):
    """The same version with another price: section and evidence never come from two texts."""
    dear = ARTICLES[ARTICLES["article_id"] == "storage"].replace(r"3[.,]90", "7.90", regex=True)

    def cut(_):
        raise OSError("no space")

    monkeypatch.setattr(centre.sentences, "update", cut)
    with pytest.raises(OSError, match="no space"):
        centre.update(dear)
    assert centre.lagging() == [("storage", "de", 1), ("storage", "en", 1)]
    query = Query("what do five more days cost", "en")
    assert any("3.90" in p.text for p in centre.sentences.search(query.text, 20, NOW, how="dense"))
    signals = centre.signals(query, NOW)
    assert "storage" in signals["words_own"] and "storage" not in signals["sentences_en"]
    hit = next(hit for hit in centre.search(query, NOW) if hit.article_id == "storage")
    read = centre.read(hit, NOW)
    assert "7.90" in str(read) and "3.90" not in str(read)
    monkeypatch.undo()
    centre.update(dear)
    assert centre.lagging() == [] and "storage" in centre.signals(query, NOW)["sentences_en"]


def test_a_help_centre_is_opened_again_and_a_damaged_one_refused(tmp_path):
    HelpCentre.build(tmp_path, ARTICLES, MODEL).close()
    with HelpCentre.open(tmp_path, MODEL) as again:
        assert _first(again, "how long do you keep a parcel").key == ("storage", "en", 1)
    db = sqlite3.connect(tmp_path / "sentences.db")
    with db:
        db.execute("UPDATE vectors SET vector = zeroblob(512)")
    db.close()
    with pytest.raises(IndexFault, match=r"sentences\.db is damaged"):
        HelpCentre.open(tmp_path, MODEL)
    (tmp_path / "grams.db").unlink()
    with pytest.raises((FileNotFoundError, IndexFault)):
        HelpCentre.open(tmp_path, MODEL)


def test_the_glossary_keeps_each_language_apart():
    """A word that two languages share is translated by its own table, asked in any order."""
    both = [(translated(word, "de"), translated(word, "es")) for word in ("caja", "once", "real")]
    assert all(translated(word, "en") == word for word in ("caja", "once", "real"))
    assert any(german != spanish for german, spanish in both)


def test_sections_hold_their_sentences(centre):
    for section, sentences in centre.read(_first(centre, "the parcel is damaged"), NOW):
        assert sentences
        for sentence in sentences:
            assert sentence.text in section.text


def test_the_worlds_changes_never_leave_a_stale_hit(tmp_path):
    start, end = "2025-01-01", "2026-09-30"
    texts = ["price", "how long", "wie viel kostet das", "cuánto tarda", "limit", "express"]
    queries = [
        Query(t, c) for t, c in zip(texts, ["en", "en", "de", "es", "en", "en"], strict=True)
    ]
    for updated in (True, False):
        folder = tmp_path / str(updated)
        with HelpCentre.build(folder, known_before(start), MODEL) as made:
            days = replay(made, queries, start, end, updated)
        assert len(days) > 10 and days["hits"].min() > 0
        # Planted: an index that is not updated is stale, so the count can find it.
        assert (days["stale"].sum() == 0) == updated


def test_the_last_day_of_an_article_counts():
    page = world.knowledge_base()
    table = as_articles(page)
    ended = page["valid_to"].notna()
    assert ((table["valid_to"] - page["valid_to"])[ended] == pd.Timedelta(days=1)).all()
    assert table["valid_to"].isna().sum() == (~ended).sum()
    late = as_articles(page.head(2).assign(valid_to=[pd.Timestamp.max, pd.Timestamp("2027-01-01")]))
    assert late["valid_to"].tolist() == [pd.NaT, pd.Timestamp("2027-01-02")]
