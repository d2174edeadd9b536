"""A library that is kept up to date equals one that is made anew, and lets go what is gone."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest
from test_knowledge_assistant_desk import NOON, Office

from casebook.cases.knowledge_assistant import library as module
from casebook.cases.knowledge_assistant.library import Library
from casebook.retrieval.dense import Hashed
from casebook.retrieval.filtered import Visible
from casebook.retrieval.follow_up import code_names
from casebook.retrieval.kept_vectors import KeptVectors, _digest
from casebook.retrieval.taught import Taught
from casebook.retrieval.values import listed
from casebook.serving.text_dates import TextDates

TEAMS = ("Identity", "Test Bench")
WORDS = ("Otter", "otter", "Birch", "Heron", "pager", "rate", "Identity", "Test Bench", "euro")


def text(rng: random.Random) -> str:
    """Return a few lines that teach something."""
    lines = [f"Ask {rng.choice(WORDS)} {rng.choice(WORDS)} in {rng.randrange(9)} days."]
    lines += [f"- keys: {rng.choice(WORDS)} room" for _ in range(rng.randrange(2))]
    return "\n".join(lines * rng.randrange(1, 4))


def test_after_any_changes_it_equals_one_that_is_made_anew(monkeypatch):
    monkeypatch.setattr(module, "SPARE", 5)  # rows are numbered anew now and then
    rng, office = random.Random(3), Office()
    library = office.library = Library(office.access, Hashed(32), TEAMS)
    for i in range(6):
        office.write(i, text(rng), int(i == 5), version=2)
    version, renumbered = 3, 0
    for _ in range(120):
        number, before = rng.randrange(12), len(library.chunks)
        kind = rng.randrange(8)
        if kind < 4:
            title, space = rng.choice(("Identity", "x", "Test Bench")), rng.randrange(2)
            office.write(number, text(rng), space, version, title=title, critical=kind == 0)
            version += 1
        elif kind == 4:
            library.drop(f"wiki:d{number}")
        elif kind == 5:
            office.grant(f"wiki:d{number}", (f"user:{rng.randrange(3)}", "deny"))
        elif kind == 6:
            office.grant(f"wiki:d{number}")
        renumbered += len(library.chunks) < before
        for user in ("user:0", "user:1", "user:2"):
            same(library, office, user)
    assert renumbered > 3


def same(library: Library, office: Office, user: str) -> None:
    """Compare with a library that is made anew, and names with those of all visible lines."""
    anew = Library(office.access, Hashed(32), TEAMS)
    leaves = sorted(library.leaves.values(), key=lambda leaf: leaf.chunks.start)
    dates = {leaf.document.id: leaf.changed for leaf in leaves}
    anew.take([leaf.document for leaf in leaves], dates)
    one, other = (it.signals(user, "Otter rate of Identity", NOON) for it in (library, anew))
    place = {leaf.document.id: leaf.chunks.start for leaf in leaves}
    assert one["document"].tolist() == other["document"].tolist()
    numbers = ["words", "dense", "days"]  # the last bit depends on how many rows are multiplied
    assert np.allclose(one[numbers], other[numbers], atol=1e-5)
    assert one["row"].tolist() == [place[name] for name in one["document"]]
    assert library.count(user, "rate") == anew.count(user, "rate")
    seen = {*one["document"]} | {
        library.chunks[r].article.article_id for r in library.visible(user).rows
    }
    lines = [
        (library.leaves[n].document.title, line)
        for n in sorted(seen)
        for line in library.leaves[n].lines
    ]
    known = listed(line.text for _, line in lines if line.listed)
    known = frozenset(word for word in known if not library.names.subjects(word))
    parts = {part for word in known for part in word.split()}
    told = code_names([(title, line.text) for title, line in lines], library.names, no=parts)
    view = library.view(user)
    assert (view.known, view.names.code_names) == (known, told)


def test_a_hidden_change_makes_nothing_anew(monkeypatch):
    office, made = Office(), []
    view = office.library.view("user:0")
    mask, of = office.library.visible("user:0"), Visible.of
    monkeypatch.setattr(Visible, "of", classmethod(lambda cls, mask: made.append(1) or of(mask)))
    monkeypatch.setattr(Taught, "add", lambda *_: made.append(2))
    for version in range(2, 6):
        office.write(5, f"Hidden {version}.", space=1, version=version, critical=True)
        assert office.library.view("user:0") is view and made == []
        assert office.library.visible("user:0").rows is mask.rows
    office.library.drop("wiki:d5")
    assert office.library.view("user:0") is view and made == []


def test_what_is_gone_goes_from_memory_and_from_the_file(tmp_path):
    office, kept = Office(), KeptVectors(Hashed(32), tmp_path / "vec.db")
    library = office.library = Library(office.access, kept)
    page = office.write(7, "ZEBRA is the code\nsecond line of ZEBRA", version=1)
    overtaken = "The ZEBRA of a version that was never stored"
    library.warm([module.replace(page, body=overtaken, version=2)])
    raw = [kept.encode([one])[0].tobytes() for one in (overtaken, "ZEBRA is the code")]
    assert len(kept) > 2 and library.words.rows("zebra").size
    library.view("user:0")
    office.write(7, "nothing", version=3)
    assert len(kept) == 2  # its passage and its line
    library.drop("wiki:d7")
    assert len(kept) == 0 and kept._get(_digest("ZEBRA is the code")) is None
    assert not library.words.rows("zebra").size and not len(library._lines)
    assert not library.index.vectors.any() and not library._lines.vectors.any()
    told = [vars(library), vars(library.words), vars(library._lines), vars(library._sights)]
    assert "zebra" not in str(told).casefold()
    for path in tmp_path.iterdir():
        assert not any(one in path.read_bytes() for one in raw), path.name
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_edits_of_one_page_leave_no_passages():
    office = Office()
    for version in range(2, 400):
        office.write(0, f"text {version}", version=version)
    library = office.library
    assert len(library.chunks) < 100 and len(library.index.vectors) < 100
    assert len(library._lines.vectors) <= 16 and len(library.words) == len(library.chunks)


def test_a_restart_makes_no_text_newer(tmp_path):
    office = Office()
    for restart in range(2):
        dates = TextDates(tmp_path / "dates.db")
        library = office.library = Library(office.access, Hashed(32), dates=dates)
        if not restart:
            office.write(7, "As it was.", version=1)
        later = NOON + np.timedelta64(90 * 86_400, "s")
        office.write(7, "As it was.", version=2, modified=later)
        assert library.leaves["wiki:d7"].changed == NOON
        dates.close()
    library = office.library = Library(office.access, Hashed(32))
    office.write(7, "As it was.", version=2, modified=later)
    assert library.leaves["wiki:d7"].changed == later


@pytest.mark.parametrize(
    "body",
    [
        *("0123456789abcdef" * 1_000, "1," * 10_000 + "x", "℡" * 8_000, "# a" + " " * 60_000 + "b"),
        "at " + "Bb" * 30_000 + " a B" * 9_000,
    ],
)
def test_a_long_word_costs_no_more_than_its_length(body):
    office, begin = Office(), time.process_time()
    office.write(7, body)
    office.library.view("user:0").value(body)
    office.library.signals("user:0", body[:2_000], NOON)
    assert time.process_time() - begin < 3.0


def test_nobody_waits_while_a_text_is_cut_read_and_embedded():
    office, asked, inside = Office(), threading.Event(), threading.Event()

    class Slow(Hashed):
        def encode(self, texts):
            if any("slow" in one for one in texts):
                inside.set()
                assert asked.wait(20)
            return super().encode(texts)

    kept = KeptVectors(Slow(32))
    library = office.library = Library(office.access, kept)
    office.write(0, "rate")
    page = module.replace(library.leaves["wiki:d0"].document, id="wiki:d8", body="slow")
    taking = threading.Thread(target=library.take, args=([page],))
    taking.start()
    assert inside.wait(20)
    answered = threading.Thread(target=lambda: (office.found("user:0"), asked.set()))
    answered.start()
    answered.join(10)
    assert asked.is_set()
    taking.join(20)
    assert "wiki:d8" in library.leaves


def test_storing_takes_no_square_of_the_documents():
    """By what is copied, which no other process disturbs."""
    office, copied, append = Office(), [0], np.concatenate

    def counted(parts, *more, **given):
        made = append(parts, *more, **given)
        copied[0] += made.size
        return made

    page = office.library.leaves["wiki:d0"].document
    sizes = []
    for n in (400, 1_600):
        library = Library(office.access, Hashed(32))
        body = lambda i: "\n".join(f"line {i} {j}" for j in range(8))  # noqa: E731
        pages = [module.replace(page, id=f"wiki:d{100 + i}", body=body(i)) for i in range(n)]
        copied[0] = 0
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(np, "concatenate", counted)
            library.take(pages)
        sizes.append(copied[0])
    assert sizes[1] < 8 * sizes[0]


def test_what_names_the_team_is_a_candidate_though_much_else_is_nearer(monkeypatch):
    monkeypatch.setattr(module, "DEPTH", 3)
    office = Office()
    library = office.library = Library(office.access, Hashed(32), TEAMS)
    for number in range(8):
        office.write(number, f"The lead time of the crew is {number} days.", 0, 2)
    office.write(8, "Plan ahead with Identity.", 0, 2)
    office.write(9, "Identity needs nine days.", 1, 2)  # hidden from who asks
    found = library.signals("user:1", "What is the lead time of Identity?", NOON)["document"]
    assert "wiki:d8" in set(found) and "wiki:d9" not in set(found)
    monkeypatch.setattr(library.words, "holding", lambda terms, mask: mask & False)
    bare = library.signals("user:1", "What is the lead time of the crew?", NOON)["document"]
    assert "wiki:d8" not in set(bare)
