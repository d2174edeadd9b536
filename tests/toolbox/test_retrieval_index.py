"""The index: nothing stale, old or new after a crash, what an update costs."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import retrieval_crash
from pace import patience
from retrieval_crash import articles, words_of

from casebook.retrieval import rows, view
from casebook.retrieval.chunks import Chunker
from casebook.retrieval.dense import EmbedderDown, Hashed
from casebook.retrieval.index import Index, IndexFault
from casebook.retrieval.lexical import BM25
from casebook.retrieval.view import View

PROGRAM = Path(retrieval_crash.__file__)
DAY, START = pd.Timedelta(days=1), pd.Timestamp("2026-01-01")
LATER = "2026-06-01"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "index.db"


# Random histories against a plain model ----------------------------------------------

WORDS = ["parcel", "customs", "label", "depot", "refund", "weight", "courier", "locker"]


def some_articles(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Draw versions of a few articles with validity in a hundred days."""
    rows = {}
    for _ in range(n):
        key = (f"a{rng.integers(5)}", int(rng.integers(1, 5)), str(rng.choice(["en", "de"])))
        begins = START + int(rng.integers(100)) * DAY
        ends = pd.NaT if rng.random() < 0.6 else begins + int(rng.integers(1, 60)) * DAY
        # Few words: passages of several versions are often the same.
        parts = [" ".join(rng.choice(WORDS[:4], 2)) for _ in range(rng.integers(1, 4))]
        rows[key] = (f"Title {key[0]}", "\n# Next\n".join(parts), begins, ends)
    names = ["article_id", "version", "language", "title", "text", "valid_from", "valid_to"]
    return pd.DataFrame([(*key, *row) for key, row in rows.items()], columns=names)


def may_be_returned(model: dict, when: pd.Timestamp) -> set[tuple]:
    """Return the versions that may be returned: the promise, written down without an index."""
    allowed = set()
    for (name, version, language), (_, _, begins, ends) in model.items():
        valid = begins <= when and (ends is pd.NaT or when < ends)
        replaced = any(
            other[0] == name and other[2] == language and other[1] > version and row[2] <= when
            for other, row in model.items()
        )
        if valid and not replaced:
            allowed.add((name, version, language))
    return allowed


def compare(reader: Index, model: dict, rng: np.random.Generator, queries: int = 3) -> None:
    """Ask at random times; everything that may be returned must be, with its text, no more."""
    for _ in range(queries):
        when = START + int(rng.integers(-5, 130)) * DAY
        allowed = may_be_returned(model, when)
        query = " ".join(rng.choice(WORDS[:6], 2))
        found = reader.search(query, k=1000, at=when, how="dense")
        assert {(p.article_id, p.version, p.language) for p in found} == allowed
        words = reader.search(query, k=1000, at=when, how="lexical")
        assert {(p.article_id, p.version, p.language) for p in words} <= allowed
        for passage in [*found, *words]:
            text = model[passage.article_id, passage.version, passage.language][1]
            assert text[passage.start : passage.end] == passage.text


def history(path: Path, seed: int, steps: int = 8) -> None:
    """Update, delete and purge at random; a reader that stays open and a new one must agree."""
    rng = np.random.default_rng(seed)
    first = some_articles(rng, 8)
    model = {tuple(row[:3]): tuple(row[3:]) for row in first.itertuples(index=False)}
    writer = Index.build(path, first, Hashed(16), Chunker("headings", 6, 2))
    reader = Index.open(path, Hashed(16), verify=False)  # a planted fault is met by the search
    compare(reader, model, rng)
    for _ in range(steps):
        what = rng.random()
        if what < 0.75:
            given = some_articles(rng, int(rng.integers(1, 5)))
            writer.update(given)
            model |= {tuple(row[:3]): tuple(row[3:]) for row in given.itertuples(index=False)}
        else:
            gone = [f"a{i}" for i in rng.choice(6, 2, replace=False)]
            writer.delete(gone)
            model = {key: row for key, row in model.items() if key[0] not in gone}
        compare(reader, model, rng)
    assert writer.check() == []
    same_as_built_anew(reader, model, path.with_name("anew.db"), rng)
    writer.close()
    reader.close()


def same_as_built_anew(reader: Index, model: dict, path: Path, rng: np.random.Generator) -> None:
    """Compare scores with those of an index that never knew another state."""
    names = ["article_id", "version", "language", "title", "text", "valid_from", "valid_to"]
    frame = pd.DataFrame([(*key, *row) for key, row in model.items()], columns=names)
    frame = frame.sample(frac=1, random_state=int(rng.integers(1000)))
    with Index.build(path, frame, Hashed(16), Chunker("headings", 6, 2)) as anew:
        for how in ("lexical", "hybrid"):
            query, when = " ".join(rng.choice(WORDS, 3)), START + 60 * DAY
            results = [
                [(p.citation, round(p.score, 9)) for p in index.search(query, 5, when, how=how)]
                for index in (reader, anew)
            ]
            assert results[0] == results[1]


@pytest.mark.parametrize("seed", range(25))
def test_nothing_stale_over_random_histories(path, seed):
    history(path, seed)


PLANTED = {
    "a replaced version keeps its end": (
        Index,
        "_set_ends",
        lambda self, article_id, language, generation: None,
    ),
    "a reader does not hear of removals": (
        view.Postings,
        "remove",
        lambda self, places: None,
    ),
    "a change is taken for none": (rows, "article_hash", lambda article: "same"),
    "a reader never looks again": (
        View,
        "catch_up",
        lambda self, db: None,
    ),
    "the validity is not looked at": (
        View,
        "allowed",
        lambda self, time, where: np.flatnonzero(self._ends[: self.n] > 0),
    ),
    "vectors are swept though shared": (
        Index,
        "_sweep",
        lambda self: self._db.execute("DELETE FROM vectors WHERE hash IN (SELECT hash FROM freed)"),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_shows_in_the_histories(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(*PLANTED[fault])
    failures = 0
    for seed in range(6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            history(folder / "index.db", seed)
        except (AssertionError, TypeError, ValueError, KeyError, sqlite3.Error):
            failures += 1
    assert failures


def test_a_new_version_takes_over_at_its_hour(path):
    with Index.build(path, articles("old"), Hashed(16)) as index:
        index.update(articles("new", version=40).assign(valid_from="2026-03-01T12:00"))
        texts = {
            when: {"new" in p.text for p in index.search("fee", 50, when)}
            for when in ("2026-03-01T11:59:59", "2026-03-01T12:00", "2026-03-01T12:30+01:00")
        }
    assert list(texts.values()) == [{False}, {True}, {False}]


def test_a_version_that_is_never_in_force_is_counted(path):
    with Index.build(path, articles("alpha", 2, version=2)) as index:
        late = articles("bravo", 2).assign(valid_from=pd.Timestamp("2026-05-01"))
        assert index.update(late).never == 2 and words_of(index) == {"alpha"}
        assert index.update(articles("charlie", 2, version=3)).never == 0


def test_purge_removes_what_has_ended_and_brings_nothing_back(path):
    with Index.build(path, articles("old"), Hashed(16)) as index:
        brief = articles("brief", version=5).assign(valid_to=START + 20 * DAY)
        index.update(brief)
        assert index.search("fee", at=LATER) == []  # the old version does not come back
        assert index.purge(START + 10 * DAY).removed == 6
        assert index.purge(LATER).removed == 6
        assert index.size()["chunks"] == index.size()["vectors"] == 0 and index.check() == []
        assert index.search("fee", at=LATER) == []


# What an update costs ----------------------------------------------------------------


class Counting(Hashed):
    """Counts the texts that it embeds."""

    embedded = 0

    def encode(self, texts):
        self.embedded += len(texts)
        return super().encode(texts)


def test_only_new_text_is_embedded(path):
    model = Counting(16)
    with Index.build(path, articles("old"), model) as index:
        assert model.embedded == 6 + 6 + 6
        assert index.update(articles("old")).unchanged == 6 and model.embedded == 18
        changes = index.update(articles("old", version=2))  # another version of the same text
        assert (changes.added, changes.chunks, changes.embedded) == (6, 18, 0)
        one = articles("old", 1).assign(text=lambda f: f["text"].str.replace("of 0.", "of zero."))
        changes = index.update(one)
        assert (changes.replaced, changes.chunks, changes.embedded) == (1, 3, 2)
        assert model.embedded == 20 and index.check() == []


def statements(path: Path, n: int) -> int:
    """Return the SQL statements of an update of one article among n, and of a reader's look."""
    seen: list[str] = []
    with (
        Index.build(path, articles("old", n), Hashed(16)) as index,
        Index.open(path, Hashed(16)) as reader,
    ):
        reader.search("fee", at=LATER)
        for one in (index, reader):
            one._db.set_trace_callback(seen.append)
        index.update(articles("new", 1))
        reader.search("fee", at=LATER)
    return len(seen)


def test_an_update_costs_what_changed_not_what_is_there(tmp_path):
    assert statements(tmp_path / "small.db", 3) == statements(tmp_path / "large.db", 300) < 60


def test_a_reader_that_loads_everything_again_costs_more(tmp_path, monkeypatch):
    """The planted fault of the test above, seen by the rows that are read."""
    rows = []
    load = View.load

    def counted(self, db, *condition):
        before = self.n
        load(self, db, *condition)
        rows.append(self.n - before)

    monkeypatch.setattr(View, "load", counted)
    statements(tmp_path / "a.db", 300)
    assert sum(rows) == 900 + 3
    rows.clear()
    monkeypatch.setattr(View, "wasteful", lambda self: True)
    statements(tmp_path / "b.db", 300)
    assert sum(rows) == 1800


def test_places_of_removed_passages_are_freed_at_last(path, monkeypatch):
    with Index.build(path, articles("old", 40), Hashed(16)) as index:
        for i in range(12):
            index.update(articles(f"word{i}", 40))
            index.search("fee", at=LATER)
        assert index._view.n < 12 * 120 and len(index.search("fee", 500, LATER)) == 120


# A crash in the middle ---------------------------------------------------------------


@pytest.mark.parametrize("what", ["update", "delete", "purge"])
def test_killed_at_any_statement_the_old_or_the_new_is_left(tmp_path, what):
    for kill in retrieval_crash.sweep(tmp_path, what, 3 if what == "update" else 1):
        assert (kill.killed, kill.left) == (True, ("old", [])), kill.point


def test_without_the_transaction_a_crash_leaves_a_mixture(tmp_path):
    kills = retrieval_crash.sweep(tmp_path, "update", 11, planted=True)
    mixed = [faults for state, faults in (kill.left for kill in kills) if state == "neither"]
    assert len(mixed) > len(kills) / 2 and any(mixed)


def flipping(path: Path, *planted: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, PROGRAM, path, *planted], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def texts_seen(reader: Index) -> tuple[str, ...]:
    """Return which of the two texts the passages of one answer hold."""
    found = reader.search("fee", 100, LATER, how="dense")
    words = {word for p in found for word in ("alpha", "bravo") if word in p.text}
    return (*sorted(words), str(len(found)))


@pytest.mark.parametrize("after", [0.05, 0.11, 0.23, 0.37])
def test_a_writer_killed_at_any_time_leaves_one_state_and_readers_see_no_other(path, after):
    with Index.build(path, articles("alpha"), Hashed(16)) as reader:
        process, seen = flipping(path), set()
        end = time.monotonic() + after
        while time.monotonic() < end:
            seen.add(texts_seen(reader))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        seen.add(texts_seen(reader))
        assert seen <= {("alpha", "18"), ("bravo", "18")}
        assert reader.check() == []
        reader.update(articles("alpha"))  # the dead writer holds no lock
        assert texts_seen(reader) == ("alpha", "18")


def test_a_reader_of_a_writer_without_transactions_sees_a_mixture(path):
    with Index.build(path, articles("alpha"), Hashed(16)) as reader:
        process, mixed = flipping(path, "planted"), False
        end = time.monotonic() + patience(20)
        while not mixed and time.monotonic() < end:
            try:
                mixed = texts_seen(reader) not in {("alpha", "18"), ("bravo", "18")}
            except (TypeError, ValueError, KeyError, IndexError):  # passages without a vector
                mixed = True
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert mixed


def test_a_build_that_fails_leaves_the_old_index(path):
    Index.build(path, articles("old"), Hashed(16)).close()

    class Broken(Hashed):
        def encode(self, texts):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        Index.build(path, articles("new"), Broken(16))
    with Index.open(path, Hashed(16)) as index:
        assert index.check() == []
        assert {"old" in p.text for p in index.search("fee", 50, LATER)} == {True}


def test_a_reader_takes_over_an_index_that_was_built_anew(path):
    Index.build(path, articles("old"), Hashed(16)).close()
    with Index.open(path, Hashed(16)) as reader:
        assert len(reader.search("fee", 50, LATER)) == 18
        Index.build(path, articles("new", 2), Hashed(16), Chunker("article")).close()
        assert [p.text.count("new") for p in reader.search("fee", 50, LATER)] == [3, 3]
        Index.build(path, articles("new", 2), Hashed(8)).close()
        with pytest.raises(IndexFault, match="hashed-8, not of hashed-16"):
            reader.search("fee")


def check_the_list_is_that_of_now(path: Path) -> None:
    with Index.build(path, articles("one", n=1)) as writer, Index.open(path) as reader:
        reader.articles()["version"] = 9  # a caller's change stays with the caller
        assert reader.articles()["version"].tolist() == [1]
        writer.update(articles("two", n=1, version=2))
        assert reader.articles()["version"].tolist() == [1, 2]
        writer.delete(["a0"])
        assert reader.articles().empty


def test_the_list_of_articles_is_read_again_once_something_changed(path):
    check_the_list_is_that_of_now(path)


def test_a_list_that_is_kept_too_long_is_found(path, monkeypatch):
    read = Index.articles
    kept: dict[int, pd.DataFrame] = {}
    monkeypatch.setattr(Index, "articles", lambda self: kept.setdefault(id(self), read(self)))
    with pytest.raises(AssertionError):
        check_the_list_is_that_of_now(path)


def test_threads_share_an_index(path):
    with Index.build(path, articles("old", 20), Hashed(16)) as index:
        faults: list[object] = []

        def ask() -> None:
            for _ in range(20):
                n = len(index.search("fee", 100, LATER))
                if n != 60:
                    faults.append(n)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for i in range(10):
            index.update(articles(f"word{i}", 20))
        for thread in threads:
            thread.join()
    assert faults == []


# Search ------------------------------------------------------------------------------


def test_a_filter_hides_before_anything_is_ranked(path):
    hidden = articles("fee fee fee").assign(tags=["secret", "open"] * 3)
    with Index.build(path, hidden, Hashed(16)) as index:
        asked = []

        def open_only(passages: pd.DataFrame) -> np.ndarray:
            asked.append(list(passages))
            return (passages["tags"] == "open").to_numpy()

        for how in ("hybrid", "lexical", "dense"):
            found = index.search("fee", 50, LATER, where=open_only, how=how)
            assert {p.article_id for p in found} == {"a1", "a3", "a5"}
            ranks = [p.lexical_rank for p in found if p.lexical_rank]
            assert sorted(ranks) == list(range(1, len(ranks) + 1))
        assert index.search("fee", at=LATER, where=lambda p: np.zeros(len(p), bool)) == []
        columns = ["article_id", "language", "version", "title", "heading", "tags"]
        assert asked[0] == [*columns, "valid_from", "valid_to"]
        for wrong in (lambda p: True, lambda p: np.ones(len(p)), lambda p: np.ones(3, bool)):
            with pytest.raises(ValueError, match="one truth value for each of 18 passages"):
                index.search("fee", at=LATER, where=wrong)


def test_a_selective_filter_gives_the_same_scores(path, monkeypatch):
    with Index.build(path, articles("old", 30), Hashed(16)) as index:

        def few(p):
            return (p["article_id"] == "a7").to_numpy()

        one = index.search("the place", 5, LATER, where=few, how="dense")
        monkeypatch.setattr(view, "SELECTIVE", 0.0)
        other = index.search("the place", 5, LATER, where=few, how="dense")
        assert [p.citation for p in one] == [p.citation for p in other]
        np.testing.assert_allclose([p.score for p in one], [p.score for p in other], atol=1e-5)


def test_scores_by_words_are_those_of_bm25s(path):
    with Index.build(path, articles("old", 12), Hashed(16)) as index:
        index.update(articles("very new", 4))
        index.delete(["a11"])
        found = index.search("fee of the new place", 100, LATER, how="lexical")
        with index._transaction("DEFERRED"):
            rows = index._db.execute(
                "SELECT a.article_id, c.first, a.title, c.heading, substr(a.text, c.first + 1, "
                "c.last - c.first) FROM chunks c JOIN articles a ON a.id = c.article"
            ).fetchall()
    scores = BM25([f"{r[2]}\n{r[4]}" for r in rows]).scores("fee of the new place")
    expected = {row[:2]: s for row, s in zip(rows, scores, strict=True) if s > 0}
    assert {(p.article_id, p.start) for p in found} == expected.keys()
    for p in found:
        assert p.score == pytest.approx(expected[p.article_id, p.start], rel=1e-5)


def test_identifiers_languages_and_ngrams(path):
    frame = articles("old", 2).assign(
        text=["Form CN-23 is for customs.", "Lieferungen an Packstationen dauern länger."],
        language=["en", "de"],
    )
    with Index.build(path, frame, analyser="ngrams") as index:
        assert index.search("cn23", 1, LATER)[0].article_id == "a0"
        assert index.search("lieferung packstation", 1, LATER)[0].article_id == "a1"
    with Index.build(path, frame) as index:
        assert index.search("What is CN 23?", 1, LATER)[0].article_id == "a0"
        assert index.search("lieferung", 1, LATER, language="de")[0].article_id == "a1"
        assert index.search("lieferungen", 1, LATER, language="xx") == []


# Refusals ----------------------------------------------------------------------------


def test_refusals_say_what_to_do(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"make one by Index\.build"):
        Index.open(path)
    (tmp_path / "text.db").write_text("no database at all" * 100)
    with pytest.raises(IndexFault, match="holds no index"):
        Index.open(tmp_path / "text.db")
    with pytest.raises(IndexFault, match="is there and is no index"):
        Index.build(tmp_path / "text.db", articles("a"))
    with pytest.raises(ValueError, match="No analyser 'letters'"):
        Index.build(path, articles("a"), analyser="letters")
    with Index.build(path, articles("a"), Hashed(16)) as index:
        for wrong in ({"k": 0}, {"depth": 0}, {"how": "magic"}, {"at": "yesterday-ish"}):
            with pytest.raises(ValueError, match=r"must be|none of|yesterday"):
                index.search("fee", **wrong)
        with pytest.raises(ValueError, match=r"a0 version 1 \(en\) has no text"):
            index.update(articles("b").assign(text=" "))
        assert index.check() == [] and len(index.search("fee", 50, LATER)) == 18
    with Index.open(path) as blind:
        with pytest.raises(IndexFault, match="without an embedder"):
            blind.search("fee", how="hybrid")
        with pytest.raises(IndexFault, match="open it with that embedder"):
            blind.update(articles("b"))
        assert len(blind.search("fee", 50, LATER)) == 18 - 12


def test_check_names_each_planted_fault(path):
    plants = {
        "wrong effective end": "UPDATE articles SET ends = ends - 1 WHERE article_id = 'a1'",
        "other passages than its text": "DELETE FROM chunks WHERE id % 2 = 0",
        "without a vector": "DELETE FROM vectors WHERE hash IN (SELECT hash FROM chunks LIMIT 1)",
        "was altered": "UPDATE articles SET title = title || '!' WHERE article_id = 'a2'",
        "passages without an article": "DELETE FROM articles WHERE article_id = 'a3'",
        "idle vectors": "INSERT INTO vectors VALUES ('x', x'00000000', 0)",
        "do not fit their checksum": "UPDATE chunks SET terms = 'x'",
        "are not of length 1": "UPDATE vectors SET vector = zeroblob(64)",
    }
    for line, plant in plants.items():
        with Index.build(path, articles("a"), Hashed(16)) as index:
            assert index.check() == []
            index._db.execute(plant)
            assert any(line in fault for fault in index.check()), line


# What is opened is what was written ----------------------------------------------------


def _flipped(whole: bytes, bit: int) -> bytes:
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_flipped_bit_is_a_fault_or_changes_nothing(path, tmp_path):
    with Index.build(path, articles("a", 60), Hashed(16)) as index:
        asked = [("fee", {}), ("place of the box", {"how": "lexical"}), ("new", {"how": "dense"})]
        before = [index.search(q, 20, LATER, **more) for q, more in asked]
    whole, copy = path.read_bytes(), tmp_path / "copy.db"
    bits, refused = np.random.default_rng(5).integers(8 * len(whole), size=100), 0
    for bit in bits:
        copy.write_bytes(_flipped(whole, int(bit)))
        try:
            with Index.open(copy, Hashed(16)) as index:
                found = [index.search(q, 20, LATER, **more) for q, more in asked]
        except IndexFault:
            refused += 1
        else:
            assert found == before, f"bit {bit} changes an answer and nobody says so"
    assert 40 < refused < 100  # the others are in free places of the file


def test_without_the_check_flipped_vectors_are_answered_from(path):
    with Index.build(path, articles("a"), Hashed(16)) as index:
        before = index.search("fee", 5, LATER, how="dense")
        index._db.execute("UPDATE vectors SET vector = zeroblob(64)")
    with Index.open(path, Hashed(16), verify=False) as index:
        assert index.search("fee", 5, LATER, how="dense") != before
    with pytest.raises(IndexFault, match="vectors do not fit their checksum"):
        Index.open(path, Hashed(16))


@pytest.mark.parametrize(
    "what",
    [
        *("chunker = 'words'", "chunker = 'headings/300/0'", "analyser = 'x'", "epoch = 'one'"),
        *("generation = '9'", "embedder = 'x'"),
    ],
)
def test_an_index_that_does_not_say_how_it_was_built_is_refused(path, what):
    Index.build(path, articles("a")).close()
    key, _, value = what.partition(" = ")
    db = sqlite3.connect(path)
    with db:
        db.execute(f"UPDATE meta SET value = {value} WHERE key = '{key}'")
    db.close()
    with pytest.raises(IndexFault, match="does not say how it was built"):
        Index.open(path)


@pytest.mark.parametrize("missing", [None, pd.NaT, np.datetime64("NaT"), ""])
def test_a_missing_time_is_refused_and_nothing_is_removed(path, missing):
    with Index.build(path, articles("alpha")) as index:
        with pytest.raises(ValueError, match="time is missing"):
            index.purge(missing)
        assert index.size()["articles"] == 6
        if missing is not None:  # that is now
            with pytest.raises(ValueError, match="time is missing"):
                index.search("fee", at=missing)


class Down(Hashed):
    """An embedder that reads articles and gives no vector for questions."""

    def __init__(self, what: object = None) -> None:
        super().__init__(16)
        self.what = what

    def encode(self, texts):
        if isinstance(self.what, Exception):
            raise self.what
        found = super().encode(texts)
        return found if self.what is None else np.full_like(found[:, : self.what], np.nan)


@pytest.mark.parametrize(
    "what", [ConnectionError("gone"), TimeoutError("slow"), RuntimeError("memory"), 16, 3]
)
def test_an_embedder_that_gives_no_vector_is_named(path, what):
    with Index.build(path, articles("alpha"), Down()) as index:
        index.embedder.what = what
        with pytest.raises(EmbedderDown, match="hashed-16 gave no vector"):
            index.search("fee", at=LATER)
        assert words_of(index) == {"alpha"}


def test_what_was_deleted_is_not_left_in_the_file(path):
    frame = articles("a", 2).assign(text=["The secret word is xylophonist.", "Nothing here."])
    with Index.build(path, frame, Hashed(16)) as index:
        assert b"xylophonist" in path.read_bytes()
        index.delete(["a0"])
    assert b"xylophonist" not in path.read_bytes()
    # Planted: SQLite leaves it where it was, unless it is told to overwrite.
    Index.build(path, frame).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA secure_delete = OFF")
    with db:
        db.execute("DELETE FROM articles WHERE article_id = 'a0'")
    db.close()
    assert b"xylophonist" in path.read_bytes()


def test_words_and_vectors_are_fused_by_rank(path):
    """Reciprocal rank fusion: 60 and the rank, never 60 and the score."""
    with Index.build(path, articles("a"), Hashed(16)) as index:
        found = index.search("fee of the new place", 50, LATER, how="hybrid")
        assert len({p.dense_rank for p in found}) > 5
        for passage in found:
            ranks = [r for r in (passage.lexical_rank, passage.dense_rank) if r is not None]
            assert passage.score == pytest.approx(sum(1 / (60 + rank) for rank in ranks))
