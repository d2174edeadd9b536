"""An update of the help centre that is killed in the middle, and what the next process finds."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot.languages import HelpCentre, Query
from casebook.retrieval.centre import KEY
from casebook.retrieval.dense import Hashed
from casebook.retrieval.index import Index
from casebook.retrieval.text import words
from casebook.serving.drills import BEGUN, Passed, kill_drill

#: Files of a help centre, in the order in which an update writes them.
FILES = ("passages", "sentences", "grams")
#: Dimensions of the vectors of letters that the drill's index holds.
_DIMENSIONS = 64


def _open(folder: Path) -> HelpCentre:
    """Open the files of a help centre, as a process does that starts anew."""
    return HelpCentre.open(folder, Hashed(_DIMENSIONS))


def _copied(base: Path, copy: Path) -> Path:
    """Return a fresh copy of a help centre's folder."""
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(base, copy))


def _updated(articles: pd.DataFrame, folder: Path, passed: Passed) -> None:
    """Update, as the work of a drill."""
    words("what is read once, and not in mid-update", "en")
    with _open(folder) as centre:
        passed(BEGUN)
        centre.update(articles)


def _state(index: Index, new: pd.DataFrame) -> str:
    """Say whether a file holds none, all or some of the new versions."""
    there = len(index.articles().merge(new[KEY], on=KEY))
    return {0: "old", len(new): "new"}.get(there, f"{there} of {len(new)}")


def crash_drill(
    articles: pd.DataFrame, kills: int = 8, most: int = 12, seed: int = 0
) -> pd.DataFrame:
    """Kill the process that updates a help centre, and look what the next one finds.

    In a temporary folder a help centre of a dozen articles gets a new version of each. A
    child process writes them and is killed (SIGKILL) at a moment drawn within the time that the
    update takes; then the files are opened anew, checked, searched, and updated once more.

    Parameters
    ----------
    articles : DataFrame
        See :func:`~casebook.cases.support_rag_chatbot.languages.as_articles`; the first English
        ones without an end are taken.
    kills : int
        Spread over the time of the update.
    most : int
        Articles.
    seed : int
        Of the moments. Where a kill meets the update hangs on the machine all the same.

    Returns
    -------
    DataFrame
        By ``kill``: ``after_ms``; ``killed`` (not so if the update had ended); for each of
        :data:`FILES` ``old``, ``new``, or how many of the new versions it holds; ``faults`` (lines
        of :meth:`Index.check` over the files); ``stale`` hits (not the version that the deciding
        file has in force); ``repeated`` (the update can be made again, and all is new and sound).

    Raises
    ------
    ValueError
        If there is no such article, or no kill is asked for.
    RuntimeError
        If the update fails by itself.
    """
    one = articles[(articles["language"] == "en") & articles["valid_to"].isna()]
    old = one.drop_duplicates("article_id").head(most)
    if old.empty or kills < 1:
        raise ValueError(
            f"{len(old)} English articles and {kills} kills: give one of each at least."
        )
    start = old["valid_from"].max() + pd.Timedelta(days=1)
    revised = old["text"] + "\n\n## What is new\n\nThis page was revised.\n"
    new = old.assign(version=old["version"] + 1, text=revised, valid_from=start, valid_to=pd.NaT)
    moments = (np.arange(kills) + np.random.default_rng(seed).random(kills)) / kills
    with tempfile.TemporaryDirectory() as name:
        base, copy = Path(name) / "base", Path(name) / "copy"
        HelpCentre.build(base, old, Hashed(_DIMENSIONS)).close()
        work, read = partial(_updated, new), partial(_found_after, new, start)
        warm = partial(_updated, new, _copied(base, copy), str)
        killed = kill_drill(partial(_copied, base, copy), work, read, moments.tolist(), warm)
    rows = [
        {"kill": n, "after_ms": 1000 * kill.seconds, "killed": kill.killed} | kill.left
        for n, kill in enumerate(killed, 1)
    ]
    return pd.DataFrame(rows)


def _found_after(new: pd.DataFrame, at: pd.Timestamp, folder: Path) -> dict[str, Any]:
    """Open what a killed update has left, and update again."""
    with _open(folder) as centre:
        files = (centre.passages, centre.sentences, centre.grams)
        states = {name: _state(index, new) for name, index in zip(FILES, files, strict=True)}
        faults = sum(len(index.check()) for index in files)
        hits = centre.search(Query(new["title"].iloc[0], "en"), at, k=len(new))
        valid = set(centre.in_force(at)[KEY].itertuples(index=False, name=None))
        stale = sum(hit.key not in valid for hit in hits)
        centre.update(new)
        again = all(_state(index, new) == "new" and not index.check() for index in files)
    return {**states, "faults": faults, "stale": stale, "repeated": again}
