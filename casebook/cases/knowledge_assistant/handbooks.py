"""Two real handbooks, with questions written for this course and permissions that we made up.

The text is public and the permissions are not: :func:`as_events` puts the pages into containers by
their folders, closes some of the folders, and gives users departments. What comes out has the form
of every other source, so the same stores, searches and leak hunts read it.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from casebook.data import real
from casebook.data.texts import handbook
from casebook.retrieval.dense import Embedder
from casebook.retrieval.follow_up import standalone

from .access import Access
from .library import CHUNKERS, Library, Mix
from .records import DIRECTORY, Document, Event, Grant, moment
from .world import State

#: Names in ``data/real.toml``.
BOOKS = ("sourcegraph_handbook", "tts_handbook")
#: Second at which all pages were read; the repositories' dates are not part of the data.
FETCHED = moment("2024-06-01T00:00:00")
#: Share of the top folders that everybody sees, and of the folders below them that are closed.
OPEN, CLOSED = 0.4, 0.15
#: Words that are read of what was found, whatever the size of its passages.
BUDGET = 1_500
_TITLE = re.compile(r"^(?:title:|#+)\s*(.+?)\s*$", re.MULTILINE)


def gold() -> pd.DataFrame:
    """Return the questions about the handbooks.

    Returns
    -------
    DataFrame
        ``book``, ``turns`` (tuple of str; the last one is judged), ``answerable``, ``answer``,
        ``page``, ``anchor``, ``key``, ``also`` (tuple of pages), ``against`` and
        ``against_anchor`` (a page that says something else), ``absent`` (tuple); '' and () where
        there is none. ``gold.toml`` says what they mean.
    """
    path = Path(__file__).with_name("gold.toml")
    rows = []
    for sent in tomllib.loads(path.read_text(encoding="utf-8"))["question"]:
        against = sent.get("against", {})
        row = {name: sent.get(name, "") for name in ("book", "answer", "page", "anchor", "key")}
        row |= {name: tuple(sent.get(name, ())) for name in ("turns", "also", "absent")}
        row |= {"against": against.get("page", ""), "against_anchor": against.get("anchor", "")}
        rows.append(row | {"answerable": "page" in sent})
    return pd.DataFrame(rows)


def pages(book: str) -> pd.DataFrame:
    """Return the pages of a handbook: ``page``, ``title``, ``text``.

    Raises
    ------
    RealDataUnavailable
        If it is neither here nor can be fetched.
    """
    found = handbook(real(book))
    titles = [
        (match[1].strip("'\"") if (match := _TITLE.search(text)) else Path(page).stem)
        for page, text in zip(found["page"], found["text"], strict=True)
    ]
    return found.assign(title=[title[:200] for title in titles])[["page", "title", "text"]]


def plain(text: str) -> str:
    """Return a text with single spaces, as anchors are written."""
    return " ".join(text.split())


def as_events(found: pd.DataFrame, seed: int, users: int = 100) -> list[Event]:
    """Return a handbook as the events of a wiki and of a directory, with permissions of our own.

    Each folder is a container. Of the top folders :data:`OPEN` are for everybody, the others for
    one department each; of the folders below :data:`CLOSED` stand outside the tree and are for a
    small group. A user is in one to three departments, one in ten in a small group too; every group
    has a member, so that no page is closed to all.

    Parameters
    ----------
    found : DataFrame
        Of :func:`pages`.
    seed : int
    users : int
    """
    rng, events, known = random.Random(f"{seed}-1804"), [], {"": ""}
    groups: dict[str, list[str]] = {"group:all": [f"user:{n}" for n in range(1, users + 1)]}

    def tell(source: str, kind: str, subject: str, payload: object) -> None:
        events.append(Event(source, len(events) + 1, FETCHED, kind, subject, payload))

    def container(folder: str) -> str:
        """Return the container of a folder; make it, and those above it."""
        if folder in known:
            return known[folder]
        parent, name = container(folder.rpartition("/")[0]), f"wiki:c{len(known)}"
        known[folder] = name
        if not parent:
            group = "group:all" if rng.random() < OPEN else f"group:dept-{len(groups)}"
        elif rng.random() < CLOSED:
            parent, group = "", f"group:few-{len(groups)}"
        else:
            group = ""
        tell("wiki", "container", name, parent)
        if group:
            groups.setdefault(group, [])
            tell("wiki", "grants", name, (Grant(name, group, "allow"),))
        return name

    for number, row in enumerate(found.itertuples(), 1):
        folder = row.page.removeprefix("content/").removeprefix("pages/").rpartition("/")[0]
        held, made = container(folder or "front"), f"wiki:d{number}"
        page = (row.page, row.title, row.text, 1, FETCHED, "group:all", False, held)
        tell("wiki", "document", made, Document(made, "wiki", *page))
    _join(groups, rng)
    for user in groups["group:all"]:
        tell(DIRECTORY, "user", user, True)
    for group, members in groups.items():
        tell(DIRECTORY, "members", group, tuple(members))
    return events


def _join(groups: dict[str, list[str]], rng: random.Random) -> None:
    """Put each user into departments, few into small groups, and somebody into every group."""
    departments = [group for group in groups if group.startswith("group:dept-")]
    few = [group for group in groups if group.startswith("group:few-")]
    for user in groups["group:all"]:
        mine = rng.sample(departments, min(rng.randint(1, 3), len(departments)))
        for group in (*mine, *([rng.choice(few)] if few and rng.random() < 0.1 else ())):
            groups[group].append(user)
    for members in groups.values():
        if not members:
            members.append(rng.choice(groups["group:all"]))


def asked(
    embedder: Embedder,
    books: Sequence[str] = BOOKS,
    cuts: Sequence[str] = ("512/64", "sections"),
    questions: int = 100,
) -> pd.DataFrame:
    """Ask our questions about the handbooks under permissions that we made up.

    Each question is asked by a user who sees its page. ``key`` says whether the words of the answer
    stand in a passage of its page (or of another one that answers it), among the first
    :data:`BUDGET` words of what was found: small passages get as much reading as large ones.

    Returns
    -------
    DataFrame
        A row for each of ``book``, ``chunks``, ``question`` (number) and ``rung``: ``page``,
        ``recall`` (whether it is among the first ten), ``key``, ``words`` read, ``passages`` of
        the book.
    """
    rows, known = [], gold()
    for book in books:
        events = as_events(pages(book), 1)
        state = State(events)
        own = known[(known["book"] == book) & known["answerable"]].head(questions)
        for cut in cuts:
            access = Access(":memory:")
            access.apply(events)
            access.settle()
            library = Library(access, embedder, (), CHUNKERS[cut], reads=False)
            library.take(state.documents.values())
            for number, one in enumerate(own.to_dict("records")):
                told = _found(library, state, one).items()
                about, size = (book, cut, number), len(library.chunks)
                rows += [(*about, rung, one["page"], *found, size) for rung, found in told]
    names = ["book", "chunks", "question", "rung", "page", "recall", "key", "words", "passages"]
    return pd.DataFrame(rows, columns=names)


def read(passages: Sequence[tuple[str, str]], budget: int = BUDGET) -> list[tuple[str, str]]:
    """Return the first words of passages, in their order, as many as there is time to read.

    Parameters
    ----------
    passages : sequence of (str, str)
        Document and text.
    budget : int
        Words; the last passage is cut there.
    """
    found = []
    for name, text in passages:
        words = text.split()[:budget]
        if words:
            found.append((name, " ".join(words)))
            budget -= len(words)
    return found


def _found(library: Library, state: State, question: dict) -> dict[str, tuple[float, ...]]:
    """Return of each rung whether it finds the page and the words of the answer; words read."""
    named = {page.path: page.id for page in state.documents.values()}
    right = {named[question["page"]]}
    answering = right | {named[page] for page in question["also"]}
    user = next(u for u in sorted(state.active) if right <= state.visible(u))
    complete = standalone(question["turns"], library.view(user).names)
    signals, told = library.signals(user, complete, FETCHED), {}
    for rung, weight in (("BM25", 0.0), ("vectors", 1.0), ("hybrid", 0.5)):
        ranked = library.ranked(signals, Mix(weight))
        chunks = (library.chunks[row] for row in ranked["row"])
        texts = read([(one.article.article_id, plain(one.text)) for one in chunks])
        hit = bool(right & {*ranked["document"].head(10)})
        key = any(name in answering and question["key"] in text for name, text in texts)
        told[rung] = float(hit), float(key), sum(len(text.split()) for _, text in texts)
    return told
