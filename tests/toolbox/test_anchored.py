"""A log with an anchor: a tail that was cut off, another key and a missing anchor are noticed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time

import pytest
from pace import patience

from casebook.serving.anchored import AnchoredLog, LogCut
from casebook.serving.log import GENESIS, LogFailed, Table
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


def test_a_log_that_was_closed_before_its_first_row_opens_again(tmp_path):
    opened(tmp_path).close()
    log = opened(tmp_path)
    log.append("rows", {"number": 1})
    log.close()
    opened(tmp_path).close()
    (tmp_path / "anchor").write_bytes(b"")  # planted: an anchor that is empty hides no rows
    with pytest.raises(LogCut, match="is gone"):
        opened(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "anchor").write_bytes(b"")  # killed while it was made
    opened(tmp_path / "other").close()


def test_a_log_that_was_killed_before_its_first_anchor_opens_again(tmp_path, monkeypatch):
    log = opened(tmp_path)
    monkeypatch.setattr(log, "_keep", lambda *_: None)
    log.append("rows", {"number": 1})
    log.close()
    log = opened(tmp_path)
    assert log.anchor().count == 1
    log.close()


def test_a_last_row_that_was_changed_is_noticed_at_the_start(tmp_path):
    log = opened(tmp_path)
    log.append("rows", {"number": 1})
    log.close()
    db = sqlite3.connect(tmp_path / "log", isolation_level=None)
    name, guard = db.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%UPDATE%'"
    ).fetchone()
    db.execute(f"DROP TRIGGER {name}")
    db.execute("UPDATE rows SET number = 2")
    db.execute(guard)
    db.close()
    with pytest.raises(LogCut, match=r"Row 1 of .* is not what it was"):
        opened(tmp_path)


def test_nothing_is_written_to_a_file_that_was_taken_away(tmp_path):
    log = opened(tmp_path)
    log.append("rows", {"number": 1})
    (tmp_path / "log").unlink()
    with pytest.raises(LogFailed, match="not to be written"):
        log.append("rows", {"number": 2})
    (tmp_path / "log").touch()
    with pytest.raises(LogFailed, match="another file has its name"):
        log.append("rows", {"number": 2})
    log.close()


def test_a_row_without_its_anchor_is_no_success(tmp_path):
    log = opened(tmp_path)
    kept, log._kept = log._kept, os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(LogFailed, match="or its anchor"):
        log.append("rows", {"number": 1})
    assert log.anchor().count == 1
    os.close(log._kept)
    log._kept = kept
    log.append("rows", {"number": 2})
    log.close()
    opened(tmp_path).close()


def test_an_anchor_of_another_key_or_none_at_all_is_refused(tmp_path):
    log = opened(tmp_path)
    log.append("rows", {"number": 1})
    log.close()
    with pytest.raises(LogCut, match="not written with this key"):
        opened(tmp_path, sign=Tokens(b"another key of tests"))
    kept = tmp_path / "anchor"
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text(f"{0:012d} {GENESIS} {kept.read_text().split()[2]}")  # an older count
    with pytest.raises(LogCut, match="not written with this key"):
        opened(tmp_path)
    kept.unlink()
    with pytest.raises(LogCut, match="is gone"):
        opened(tmp_path)
    with pytest.raises(ValueError, match="give a key"):
        AnchoredLog(tmp_path / "other", TABLES, anchor=tmp_path / "anchor")


def test_a_lock_that_somebody_holds_is_not_waited_for(tmp_path):
    log = opened(tmp_path)
    other = sqlite3.connect(tmp_path / "log", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    with pytest.raises(LogFailed, match="locked"):
        log.append("rows", {"number": 1})
    assert time.monotonic() - start < 0.1 + patience(0.5)
    other.execute("ROLLBACK")
    other.close()
    assert log.append("rows", {"number": 1})["sequence"] == 1
    log.close()
