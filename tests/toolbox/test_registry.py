"""The registry of models: what is stored comes back whole, and what must not answer is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from casebook.data.contracts import ModelRefused
from casebook.serving.registry import put, take

MORNING, DAY = pd.Timestamp("2024-06-03"), pd.Timedelta(days=1)
CONTENT = {"text": "tree\nnum_leaves=31", "features": ["ahead", "lift"], "countries": ["BR", "PL"]}


def stored(folder: Path) -> Path:
    return put(folder, MORNING - DAY, **CONTENT)


def spoilt(path: Path) -> None:
    path.write_text(path.read_text().replace("num_leaves", "num_leafs", 1))


def altered(name: str, value: object):
    """Return what changes one entry of the file."""

    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        assert content[name] != value
        path.write_text(json.dumps({**content, name: value}))

    return spoil


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


ALTERED = "was altered after it was saved: save the model again"


#: What is wrong with the registry, and what is said of it.
REFUSED = {
    "another day": (altered("trained_until", "2024-06-01"), 0, ALTERED),
    "other countries": (altered("countries", ["PL", "BR"]), 0, ALTERED),
    "other features": (altered("features", ["ahead"]), 0, ALTERED),
    "null": (lambda path: path.write_text("null"), 0, "is no stored model"),
    "a number": (lambda path: path.write_text("7"), 0, "is no stored model"),
    "a folder": (a_folder, 0, "is no stored model"),
    "a day too old": (lambda path: None, 35, "ends on 2024-06-02, 36 days ago, at most 35"),
    "none": (lambda path: path.unlink(), 0, "there is no model in .*: train one"),
    "altered": (spoilt, 0, "was altered after it was saved: save the model again"),
    "half": (lambda path: path.write_text(path.read_text()[:99]), 0, "is no stored model"),
    "another table": (lambda path: path.write_text("[1]"), 0, "is no stored model"),
    "too old": (lambda path: None, 36, "ends on 2024-06-02, 37 days ago, at most 35"),
    "of the future": (lambda path: None, -1, "has seen 2024-06-02, which 2024-06-02 does not"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_model_that_must_not_answer_is_refused(tmp_path, fault):
    spoil, later, says = REFUSED[fault]
    spoil(stored(tmp_path))
    with pytest.raises(ModelRefused, match=says):
        take(tmp_path, MORNING + later * DAY)


def test_what_was_put_is_taken_until_its_last_day(tmp_path):
    stored(tmp_path)
    for day in (MORNING, MORNING + 34 * DAY):  # 35 days after its end
        assert take(tmp_path, day) == {"trained_until": MORNING - DAY, **CONTENT}
