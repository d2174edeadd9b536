"""Works on an index that tests kill: a change at each of its SQL statements, and endless ones.

Run as a program, all articles change their text together, without end.
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd

from casebook.retrieval.dense import Hashed
from casebook.retrieval.index import Index
from casebook.serving.drills import Kill, Passed, kill_drill

START = pd.Timestamp("2026-01-01")


def articles(word: str, n: int = 6, version: int = 1) -> pd.DataFrame:
    """Return n articles of three passages whose every passage holds ``word``."""
    text = "# Fee\nThe {w} fee.\n# Time\nThe {w} time of {i}.\n# Place\nThe {w} place of {i}."
    return pd.DataFrame(
        {
            "article_id": [f"a{i}" for i in range(n)],
            "version": version,
            "language": "en",
            "title": [f"Title {i}" for i in range(n)],
            "text": [text.format(w=word, i=i) for i in range(n)],
            "valid_from": START + pd.Timedelta(days=version),
            "valid_to": pd.NaT,
        }
    )


def words_of(index: Index) -> set[str]:
    """Return which texts an index answers from."""
    found = index.search("fee", 50, "2026-06-01", how="lexical")
    return {word for p in found for word in ("alpha", "bravo", "charlie") if word in p.text}


def content(path: Path) -> str:
    """Return all that an index holds, without the numbers of its rows and of its generation."""
    with Index.open(path, verify=False) as index:
        faults = index.check()
        tables = {
            "articles": "SELECT article_id, language, version, title, text, tags, begins, "
            "valid_to, ends FROM articles ORDER BY 1, 2, 3",
            "chunks": "SELECT a.article_id, a.language, a.version, c.first, c.last, c.terms, "
            "c.hash FROM chunks c LEFT JOIN articles a ON a.id = c.article ORDER BY 1, 2, 3, 4, 7",
            "vectors": "SELECT hash FROM vectors ORDER BY 1",
        }
        rows = {name: index._db.execute(query).fetchall() for name, query in tables.items()}
    return json.dumps({"faults": faults, **rows})


@contextmanager
def no_transaction(self: Index, kind: str):
    """The planted fault: each statement is committed by itself."""
    yield


def change(index: Index, what: str) -> None:
    """Make one of the changes that are killed."""
    if what == "update":  # replaced, superseded and new articles together
        old, new = articles("late", 3), articles("late", 8, 2).iloc[3:]
        index.update(pd.concat([old, new]))
    elif what == "delete":
        index.delete(["a1", "a4"])
    else:
        index.purge("2026-02-01")


def fresh(base: Path, copy: Path) -> Path:
    """Return a copy of an index, in place of what an earlier work has left there."""
    for path in copy.parent.glob(f"{copy.name}*"):
        path.unlink()
    return Path(shutil.copy(base, copy))


def changed(what: str, planted: bool, path: Path, passed: Passed) -> None:
    """Make a change that passes a point at each SQL statement up to its commit."""
    committed = []

    def trace(statement: str) -> None:
        if not committed:
            passed("statement")
        committed.extend(["yes"] * (statement == "COMMIT" and not planted))

    if planted:  # in the forked process, which ends with the change
        Index._transaction = no_transaction
    with Index.open(path, Hashed(16)) as index:
        index._db.set_trace_callback(trace)
        change(index, what)
        index._db.set_trace_callback(None)


def sweep(folder: Path, what: str, stride: int, planted: bool = False) -> list[Kill]:
    """Kill a change at every so many statements; ``left`` is the state and the faults of it."""
    base, copy = folder / "base.db", folder / "copy.db"
    first = pd.concat([articles("early"), articles("mid", 6, 2).iloc[:2]])
    Index.build(base, first, Hashed(16)).close()
    old, seen = content(fresh(base, copy)), []
    changed(what, False, copy, seen.append)
    new = content(copy)
    assert old != new and len(seen) > 5
    points = [("statement", n) for n in range(1, len(seen) + 1, stride)]
    work, read = partial(changed, what, planted), partial(left, old, new)
    return kill_drill(partial(fresh, base, copy), work, read, points, partial(warm, base, copy))


def warm(base: Path, copy: Path) -> None:
    """Import what a change imports, by making one."""
    changed("update", False, fresh(base, copy), lambda point: None)


def left(old: str, new: str, path: Path) -> tuple[str, list[str]]:
    """Return which state an index is in, and what its check finds."""
    found = content(path)
    return {old: "old", new: "new"}.get(found, "neither"), json.loads(found)["faults"]


def flip(path: Path) -> None:
    """Change the text of all articles together, again and again."""
    with Index.open(path, Hashed(16)) as index:
        print("ready", flush=True)
        while True:
            for word in ("bravo", "alpha"):
                index.update(articles(word))


if __name__ == "__main__":
    if "planted" in sys.argv:
        Index._transaction = no_transaction
    flip(Path(sys.argv[1]))
