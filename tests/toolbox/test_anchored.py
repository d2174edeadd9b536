"""A log with an anchor: a tail that was cut off, another key and a missing anchor are noticed."""

from __future__ import annotations

import shutil

import pytest

from casebook.serving.anchored import AnchoredLog, LogCut
from casebook.serving.log import Table
from casebook.serving.tokens import Tokens

TABLES = {"rows": Table({"number": "int"})}
KEY = Tokens(b"the key of the tests")


def opened(folder, name="log", sign=KEY) -> AnchoredLog:
    return AnchoredLog(folder / name, TABLES, anchor=folder / "anchor", sign=sign)


def test_a_tail_that_was_cut_off_is_noticed(tmp_path):
    log = opened(tmp_path)
    log.append("rows", {"number": 1})
    log.close()
    shutil.copy(tmp_path / "log", tmp_path / "older")
    log = opened(tmp_path)
    made = log.append("rows", {"number": 2})
    assert log.holds(2, made["hash"]) and not log.holds(1, made["hash"])
    log.close()
    opened(tmp_path).close()
    with pytest.raises(LogCut, match="Rows 2 to 2 of"):
        opened(tmp_path, "older")


def test_an_anchor_of_another_key_or_none_at_all_is_refused(tmp_path):
    log = opened(tmp_path)
    log.append("rows", {"number": 1})
    log.close()
    with pytest.raises(LogCut, match="not written with this key"):
        opened(tmp_path, sign=Tokens(b"another key of tests"))
    (tmp_path / "anchor").unlink()
    with pytest.raises(LogCut, match="is gone"):
        opened(tmp_path)
    with pytest.raises(ValueError, match="give a key"):
        AnchoredLog(tmp_path / "other", TABLES, anchor=tmp_path / "anchor")
