"""Files of stores are their owner's alone; streams end once, wherever they are thrown away."""

from __future__ import annotations

import doctest
import importlib
import os
from collections import deque

import pytest

from casebook.retrieval.dense import Hashed
from casebook.retrieval.kept_vectors import KeptVectors
from casebook.serving.allowance import Allowance
from casebook.serving.closing import Closing, finish
from casebook.serving.conversations import SqliteShelf
from casebook.serving.permitted_answers import AnswerCache
from casebook.serving.pulse import Thumbs
from casebook.serving.rights import Rights
from casebook.serving.text_dates import TextDates

STORES = {
    "allowance": lambda path: Allowance(path, 10),
    "answers": lambda path: AnswerCache(Rights(":memory:"), list, str, path),
    "dates": TextDates,
    "thumbs": Thumbs,
    "turns": SqliteShelf,
    "vectors": lambda path: KeptVectors(Hashed(8), path),
}


@pytest.mark.parametrize("name", STORES)
def test_what_a_store_writes_is_for_its_owner_alone(name, tmp_path):
    old = os.umask(0o022)
    try:
        (tmp_path / "there").touch(0o644)
        stores = [STORES[name](str(tmp_path / one)) for one in ("new", "there")]
    finally:
        os.umask(old)
    files = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert {"new", "there"} <= {*files} and {*files.values()} == {0o600}, files
    assert stores


def test_an_end_is_done_once_and_after_a_failure_too():
    done, left = [], deque()

    def events():
        yield 1
        raise ValueError("broke off")

    stream = Closing(events(), lambda: done.append("end"), left)
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broke off"):
        next(stream)
    stream.close()
    assert done == ["end"] and [*stream] == [] and finish(left) == 0


@pytest.mark.parametrize(
    "name",
    [
        *("data.private", "retrieval.counted_vectors", "retrieval.taught"),
        *("retrieval.visible_words", "serving.closing", "serving.text_dates", "serving.pulse"),
    ],
)
def test_the_example_holds(name):
    told = doctest.testmod(importlib.import_module(f"casebook.{name}"))
    assert told.attempted and not told.failed
