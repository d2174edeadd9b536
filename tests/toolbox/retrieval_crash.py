"""Programs that a test of the index runs as processes of their own, and kills.

``sweep``: an update is killed at each of its SQL statements; what is left is printed. ``flip``:
all articles change their text together, without end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from casebook.retrieval.dense import Hashed
from casebook.retrieval.index import Index

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


def content(path: Path) -> str:
    """Return all that an index holds, without the numbers of its rows and of its generation."""
    with Index.open(path) as index:
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


def statements(path: Path, what: str) -> int:
    """Return the number of SQL statements of a change."""
    seen: list[str] = []
    with Index.open(path, Hashed(16)) as index:
        index._db.set_trace_callback(seen.append)
        change(index, what)
        index._db.set_trace_callback(None)
    return len(seen)


def killed_at(path: Path, what: str, statement: int) -> int:
    """Make a change in a child process that kills itself; return the signal that ended it."""
    child = os.fork()
    if child == 0:
        index, left = Index.open(path, Hashed(16)), statement

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        index._db.set_trace_callback(count)
        change(index, what)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def sweep(folder: Path, what: str, stride: int) -> None:
    """Kill a change at every so many statements; print whether the old or the new is left."""
    base, copy = folder / "base.db", folder / "copy.db"
    first = pd.concat([articles("early"), articles("mid", 6, 2).iloc[:2]])
    Index.build(base, first, Hashed(16)).close()
    shutil.copy(base, copy)
    n, old, new = statements(copy, what), content(base), content(copy)
    found = []
    for statement in range(1, n + 1, stride):
        for path in folder.glob("copy.db*"):
            path.unlink()
        shutil.copy(base, copy)
        ended = killed_at(copy, what, statement)
        left = content(copy)
        state = "old" if left == old else "new" if left == new else "neither"
        found.append((ended, state, json.loads(left)["faults"]))
    print(json.dumps({"changed": old != new, "found": found}))


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
    if sys.argv[1] == "sweep":
        sweep(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        flip(Path(sys.argv[2]))
