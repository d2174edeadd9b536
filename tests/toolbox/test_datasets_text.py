"""Readers of public text collections: counts, joins, and a refusal of what is incomplete."""

from __future__ import annotations

import zipfile

import pandas as pd
import pytest

from casebook.data import find_real
from casebook.data.fetch import content_hash
from casebook.data.files import recipes, registry
from casebook.data.texts import (
    _sentences,
    bank_faqs,
    banking77,
    clinc150,
    cranfield,
    handbook,
    markdown_pages,
    scifact,
)

CRANFIELD = ("cranfield_documents", "cranfield_queries", "cranfield_judgements")


def paths(*names: str):
    """Return the local files; skip the test where one is missing."""
    found = [find_real(name) for name in names]
    if None in found:
        pytest.skip("the public files are neither in CASEBOOK_DATA_DIR nor in the cache")
    return found


def test_cranfield_counts_and_the_order_of_its_queries():
    found = cranfield(*paths(*CRANFIELD))
    assert (len(found.documents), len(found.queries), len(found.judgements)) == (1400, 225, 1612)
    assert found.documents["doc_id"].is_unique and found.judgements["relevance"].eq(1).all()
    assert set(found.judgements["query_id"]) == set(found.queries["query_id"])
    assert set(found.judgements["doc_id"]) <= set(found.documents["doc_id"])
    # The first question is about aeroelastic models; documents 184 and 12 answer it.
    assert "aeroelastic" in found.queries["text"].iloc[0]
    first = found.judgements[found.judgements["query_id"] == "1"]["doc_id"]
    text = found.documents.set_index("doc_id")["text"]
    assert {"184", "12"} <= set(first) and "aeroelastic" in text["12"]
    assert not text["1"].startswith("experimental investigation of the aerodynamics of a wing in a")
    assert (text == "").sum() == 2


def test_queries_by_their_printed_number_would_not_fit_the_judgements():
    """Judged words stand in their queries' documents; shifted by ten they hardly do."""
    found = cranfield(*paths(*CRANFIELD))
    text = found.documents.set_index("doc_id")["text"]
    asked = found.queries.set_index("query_id")["text"]

    def shared(shift: int) -> float:
        rows = found.judgements[found.judgements["query_id"].astype(int) + shift <= 225]
        pairs = zip((rows["query_id"].astype(int) + shift).astype(str), rows["doc_id"], strict=True)
        shares = [len(set(asked[q].split()) & set(text[d].split())) for q, d in pairs]
        return sum(shares) / len(shares)

    assert shared(0) > 1.2 * shared(10)


def test_scifact_counts_and_splits():
    found = scifact(*paths("scifact"))
    assert (len(found.documents), len(found.queries), len(found.judgements)) == (5183, 1109, 1258)
    assert found.queries["split"].value_counts().to_dict() == {"train": 809, "test": 300}
    assert found.queries["query_id"].is_unique and found.documents["doc_id"].is_unique
    assert set(found.judgements["query_id"]) == set(found.queries["query_id"])
    words = found.documents["text"].str.split().str.len()
    assert 180 < words.mean() < 230 and words.min() > 5
    assert not found.documents["text"].str.contains(r"'\s*'|\\n", regex=True).mean() > 0.01


def test_printed_sentences_are_joined_by_a_space():
    printed = "['It is 1.4 +/-'\n '0.24.'\n \"It's so.\"\n 'a \\'b\\'']"
    assert _sentences(printed) == "It is 1.4 +/- 0.24. It's so. a 'b'"


def test_intents_of_both_sets():
    bank = banking77(*paths("banking77_train", "banking77_test"))
    assert bank.groupby("split").size().to_dict() == {"test": 3080, "train": 10003}
    assert bank["intent"].nunique() == 77 and not bank.isna().any(axis=None)
    clinc = clinc150(*paths("clinc150"))
    counts = clinc.groupby([clinc["intent"].eq("oos"), "split"]).size().to_dict()
    assert counts == {
        (False, "test"): 4500,
        (False, "train"): 15000,
        (False, "validation"): 3000,
        (True, "test"): 1000,
        (True, "train"): 100,
        (True, "validation"): 100,
    }


def test_a_banks_questions_ask_for_their_answers():
    found = bank_faqs(*paths("bank_faqs"))
    assert (len(found.documents), len(found.queries)) == (1440, 1329)
    assert found.documents["doc_id"].is_unique and found.queries["query_id"].is_unique
    several = found.judgements.groupby("query_id")["doc_id"].nunique()
    assert several.min() == 1 and several.max() > 1
    side = found.queries.set_index("query_id")["split"]
    assert 0.3 < (side == "train").mean() < 0.5
    by_answer = found.judgements["query_id"].map(side).groupby(found.judgements["doc_id"])
    assert by_answer.nunique().max() == 1  # no answer is asked for on both sides


# Refusals, without any public file ---------------------------------------------------


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    documents, queries, truth = (tmp_path / name for name in ("d.xml", "q.xml", "j.txt"))
    documents.write_text("<doc><docno>1</docno><title>t</title><text>t x</text></doc>")
    queries.write_text("<?xml version='1.0'?><xml><top><num>1</num><title>q</title></top></xml>")
    truth.write_text("1 0 1 1\n")
    with pytest.raises(ValueError, match=r"d\.xml holds 1 documents instead of 1,400"):
        cranfield(documents, queries, truth)
    documents.write_text("<doc><docno>1</docno><ti")
    with pytest.raises(ValueError, match=r"d\.xml is not complete XML"):
        cranfield(documents, queries, truth)


def test_other_archives_and_tables_are_refused(tmp_path):
    path = tmp_path / "scifact.zip"
    path.write_text("no archive")
    with pytest.raises(ValueError, match="is not the SciFact archive"):
        scifact(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("corpus_train.csv", "doc_id,title,abstract\n1,t,\"['a']\"\n")
        for split in ("train", "validation"):
            archive.writestr(f"claims_{split}.csv", "id,claim,cited_doc_ids\n1,c,[1]\n")
    with pytest.raises(ValueError, match="1 abstracts instead of 5,183, 1 training claims"):
        scifact(path)
    table = tmp_path / "b.csv"
    pd.DataFrame({"text": ["a"], "category": ["x"]}).to_csv(table, index=False)
    with pytest.raises(ValueError, match="1 questions instead of 10,003, 1 intents instead of 77"):
        banking77(table, table)
    pd.DataFrame({"Question": ["a"], "Answer": ["b"], "Class": ["c"]}).to_csv(table, index=False)
    with pytest.raises(ValueError, match="1 answers instead of 1,440, 1 questions instead of"):
        bank_faqs(table)
    (tmp_path / "c.json").write_text('{"train": []}')
    with pytest.raises(ValueError, match="0 train instead of 15,000"):
        clinc150(tmp_path / "c.json")


@pytest.mark.parametrize(
    "name, count, first",
    [
        ("sourcegraph_handbook", 883, "content/benefits-pay-perks/benefits-perks/benefits.md"),
        ("tts_handbook", 251, ".github/pull_request_template.md"),
    ],
)
def test_a_handbook_is_the_same_from_the_archive_and_from_its_files(tmp_path, name, count, first):
    (path,) = paths(name)
    found = handbook(path)
    assert len(found) == count and found["page"].iloc[0] == first
    assert found["page"].is_unique and found["text"].ne("").mean() > 0.99
    assert content_hash(found) == registry()[name].content
    files = [text.encode() for text in found["text"]]
    made = recipes()[f"{name}_pages"](files)
    assert content_hash(made) == registry()[name].content
    made.to_parquet(tmp_path / "book", index=False)
    assert handbook(tmp_path / "book").equals(found)


def test_pages_are_sorted_and_other_files_are_left_out():
    found = markdown_pages(["b.md", "LICENSE", "a.md"], [b"B", b"-", "Ä".encode()])
    assert found.to_dict("list") == {"page": ["a.md", "b.md"], "text": ["Ä", "B"]}
