"""Kill the process that carries an effect out, start it again, and count effects.

Examples
--------
The books and the other system are files of a folder; see the drill of chapter 17 for a real one:

>>> sorted(POINTS)
['answered', 'asking', 'begun', 'sent']
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.serving.drills import Passed, kill_drill
from casebook.serving.proposals import Proposals

#: Where :class:`casebook.serving.once.Once` may be killed; at ``begun`` nothing is committed.
POINTS = ("begun", "asking", "sent", "answered")
#: Makes books in a file: path, the other system, where a drill kills.
Books = Callable[..., Proposals]


def _start(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def _sends(folder: Path, key: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Have an effect that outlives the process: a file by the key."""
    (folder / f"{key}.done").touch()
    return {"key": key, "state": "done"}


def _books(folder: Path, books: Books, passed: Passed = lambda point: None) -> Proposals:
    return books(partial(_sends, folder), path=str(folder / "books.db"), passed=passed)


def _work(books: Books, content: Mapping[str, Any], folder: Path, passed: Passed) -> None:
    made = _books(folder, books, passed)
    _, ident = made.propose("owner", content)
    made.confirm("owner", ident, True)


def _read(books: Books, folder: Path) -> tuple[int, int]:
    """Return the effects at the kill, and after the next start."""
    before = len(list(folder.glob("*.done")))
    _books(folder, books).recover()
    return before, len(list(folder.glob("*.done")))


def kills(
    books: Books, content: Mapping[str, Any], points: Sequence[str] = POINTS, times: int = 5
) -> pd.DataFrame:
    """Confirm something that is done at once, and kill the process at each point.

    Parameters
    ----------
    books : callable
        At the top of a module, or a partial of such: takes the other system, ``path`` and
        ``passed``, and returns books.
    content : mapping
        Of the proposal.
    points : sequence of str
    times : int

    Returns
    -------
    DataFrame
        ``point``, ``kills``, ``done_before`` and ``done_after`` (means over kills).
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        parts = partial(_start, Path(folder)), partial(_work, books, content), partial(_read, books)
        for point in points:
            found = kill_drill(*parts, [(point, 1)] * times)
            left = [one.left for one in found if one.killed]
            rows.append((point, len(left), *np.mean(left, axis=0)))
    return pd.DataFrame(rows, columns=["point", "kills", "done_before", "done_after"])
