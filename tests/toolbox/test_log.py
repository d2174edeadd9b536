"""The audit log: rows in order, never changed, private, and nothing claimed that is not there."""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from casebook.serving.log import (
    GENESIS,
    Log,
    LogBusy,
    LogFailed,
    Table,
    canonical,
    chained,
)

TABLES = {
    "loans": Table(
        {"id": "int", "asked": "json", "rate": "float?", "answer": "text"},
        once=("id", "answer, id"),
    ),
    "returns": Table({"id": "int", "day": "text"}, once=("id, day",)),
}


def loan(id: int = 1, **changes):
    return {"id": id, "asked": {"euro": 900.5}, "rate": 0.1 + 0.2, "answer": "yes"} | changes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.sqlite"


@pytest.fixture
def log(path):
    with Log(path, TABLES) as log:
        yield log


def raw(path, *statements: str) -> None:
    """Change the file behind the log's back, as someone with the file could."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in statements:
            db.execute(statement)
    finally:
        db.close()


def fill(log: Log) -> None:
    """Write five rows into two tables."""
    for id in (1, 2, 3):
        log.append("loans", loan(id))
    for id in (1, 2):
        log.append("returns", {"id": id, "day": "2026-01-02"})


# Rows ------------------------------------------------------------------------------------------


def test_a_row_is_found_as_it_was_written(log):
    written = log.append("loans", loan(rate=float("nan"), asked={"x": [1, float("nan")]}))
    assert written == {
        **{"id": 1, "asked": {"x": [1, None]}, "rate": None, "answer": "yes"},
        **{"sequence": 1, "previous": GENESIS, "hash": written["hash"]},
    }
    assert log.find("loans", id=1) == [written] == log.find("loans")
    assert log.find("loans", id=2) == []


def test_it_outlives_the_process(path):
    with Log(path, TABLES) as log:
        written = log.append("loans", loan())
    with Log(path, TABLES) as log:
        assert log.find("loans", id=1) == [written]
        assert log.anchor() == (1, written["hash"])
        assert log.append("loans", loan(2))["previous"] == written["hash"]
        assert log.verify()


def test_rows_come_in_order_across_the_tables(log):
    log.append("loans", loan(1))
    log.append("returns", {"id": 1, "day": "d"})
    log.append("loans", loan(2))
    assert [(kind, row["sequence"]) for kind, row in log.rows()] == [
        ("loans", 1),
        ("returns", 2),
        ("loans", 3),
    ]
    assert (log.count("loans"), log.count("returns")) == (2, 1)


def test_the_last_row_by_any_column(log):
    assert log.last("loans") is None
    for id in (5, 9, 7):
        log.append("loans", loan(id))
    assert (log.last("loans")["id"], log.last("loans", by="id")["id"]) == (7, 9)


def test_numbers_of_numpy_are_kept(log):
    row = log.append("loans", loan(np.int64(3), rate=np.float32(0.5), asked=[np.float64(1.5)]))
    assert (row["id"], row["rate"], row["asked"]) == (3, 0.5, [1.5])
    assert log.verify()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda log: log.append("gone", {}), "no table 'gone'"),
        (lambda log: log.append("loans", {"id": 1}), "answer, asked, rate"),
        (lambda log: log.append("loans", loan(more=1)), "more: a row has"),
        (lambda log: log.find("loans", euro=1), "euro: loans has no such column"),
        (lambda log: log.last("loans", by="euro"), "no column 'euro'"),
        (lambda log: log.count("gone"), "no table"),
        (lambda log: Table({"a": "date"}), "kind 'date'"),
        (lambda log: Table({"hash": "text"}), "column 'hash'"),
        (lambda log: Table({"a; b": "text"}), "identifier"),
        (lambda log: Table({"a": "text"}, once=("a, b",)), "once names b"),
        (lambda log: Log(log.path, TABLES, version=0), "version 0"),
        (lambda log: Log(log.path, {"a b": TABLES["loans"]}), "identifiers"),
    ],
)
def test_what_is_no_row_or_table_is_named(log, call, message):
    with pytest.raises(ValueError, match=message):
        call(log)
    assert log.anchor().count == 0


def test_what_occurs_once_is_not_written_twice(log):
    log.append("loans", loan(1))
    with pytest.raises(LogFailed, match="append-only"):
        log.append("loans", loan(1, answer="no"))
    with pytest.raises(LogFailed, match="NOT NULL"):
        log.append("loans", loan(2, answer=None))
    assert log.count("loans") == 1 and log.append("loans", loan(2))["sequence"] == 2
    assert log.verify()


def test_concurrent_writers_of_one_log_keep_the_chain(log):
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda id: log.append("loans", loan(id)), range(200)))
    assert len({row["hash"] for row in rows}) == 200
    assert log.verify().rows == 200


def test_a_look_and_the_row_that_depends_on_it_are_one(log):
    def once(id: int) -> None:
        with log.alone():
            if not log.find("loans", id=id):
                log.append("loans", loan(id))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: once(i % 10), range(200)))
    assert log.count("loans") == 10


# What is in the file is what was given ---------------------------------------------------------

SWALLOW = "BEGIN SELECT RAISE(IGNORE); END"
FOREIGN = {
    "swallows": f"CREATE TRIGGER t BEFORE INSERT ON loans {SWALLOW}",
    "swallows one": f"CREATE TRIGGER t BEFORE INSERT ON loans WHEN NEW.id = 2 {SWALLOW}",
    "changes": "CREATE TRIGGER t AFTER INSERT ON loans "
    "BEGIN UPDATE loans SET answer = 'no' WHERE id = NEW.id; END",
    "adds": "CREATE TRIGGER t AFTER INSERT ON loans "
    "BEGIN INSERT INTO returns VALUES (NEW.id, 'd', NEW.sequence + 1, 'x', 'x'); END",
}


def check_nothing_is_claimed(log: Log) -> None:
    """The row that a trigger swallows or changes is refused, and the file stays whole."""
    log.append("loans", loan(1))
    with pytest.raises(LogFailed, match="takes no row"):
        log.append("loans", loan(2))
    assert log.find("loans", id=2) == [] and log.count("returns") == 0


@pytest.mark.parametrize("trigger", FOREIGN.values(), ids=FOREIGN)
def test_a_row_that_a_trigger_swallows_or_changes_is_not_claimed(path, log, trigger):
    trigger = trigger.replace("ON loans BEGIN", "ON loans WHEN NEW.id = 2 BEGIN")
    raw(path, "DROP TRIGGER loans_no_update", trigger)
    check_nothing_is_claimed(log)
    raw(path, "DROP TRIGGER t")
    assert log.append("loans", loan(2))["sequence"] == 2


class Ignoring(Log):
    """The planted fault: INSERT OR IGNORE, which is silent about a row that does not fit."""

    def _insert(self, kind, row):
        names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
        insert = f"INSERT OR IGNORE INTO {kind} ({names}) VALUES ({marks})"
        self._db.execute(insert, [*row.values()])


def check_a_misfit_is_refused(log: Log) -> None:
    with pytest.raises(LogFailed, match="takes no row"):
        log.append("loans", loan(1, answer=None))
    assert log.anchor() == (0, GENESIS)


@pytest.mark.parametrize("kind", [Log, Ignoring])
def test_a_row_that_does_not_fit_is_refused(path, kind):
    with kind(path, TABLES) as log:
        check_a_misfit_is_refused(log)


def test_without_the_check_both_faults_go_through(path, tmp_path):
    class Trusting(Ignoring):
        def _check_inserted(self, kind, row, changes):
            pass

    with Trusting(path, TABLES) as log, pytest.raises(pytest.fail.Exception):
        check_a_misfit_is_refused(log)
    with Trusting(tmp_path / "other.sqlite", TABLES) as log:
        raw(log.path, FOREIGN["swallows one"])
        with pytest.raises(pytest.fail.Exception):
            check_nothing_is_claimed(log)


# Append-only -----------------------------------------------------------------------------------

REFUSED = {
    "update": "UPDATE loans SET answer = 'no'",
    "delete": "DELETE FROM loans",
    "replace": "INSERT OR REPLACE INTO loans SELECT * FROM loans",
    "update or replace": "UPDATE OR REPLACE loans SET id = 2 WHERE id = 1",
    "upsert": "INSERT INTO loans SELECT * FROM loans WHERE true "
    "ON CONFLICT (id) DO UPDATE SET answer = 'no'",
    "another table": "UPDATE returns SET day = 'x'",
    "another row away": "DELETE FROM returns",
    "another replaced": "INSERT OR REPLACE INTO returns SELECT * FROM returns",
}


def check_is_refused(path, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw(path, statement)
    with Log(path, TABLES, read_only=True) as log:
        assert log.verify().rows == 5


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_rows_are_neither_changed_nor_replaced(path, log, statement):
    fill(log)
    check_is_refused(path, statement)


@pytest.mark.parametrize("name", ["update", "delete", "replace"])
def test_a_missing_guard_is_found(path, log, name):
    """Without its trigger the statement goes through, the check sees it, and so does verify."""
    fill(log)
    trigger = {"replace": "loans_once_%"}.get(name, f"loans_no_{name}")
    db = sqlite3.connect(path)
    found = db.execute("SELECT name FROM sqlite_master WHERE name LIKE ?", (trigger,)).fetchall()
    db.close()
    assert found
    raw(path, *[f"DROP TRIGGER {row[0]}" for row in found])
    with pytest.raises(pytest.fail.Exception):
        check_is_refused(path, REFUSED[name])
    assert "guard" in log.verify().fault


def test_a_guard_that_was_made_harmless_is_found(path, log):
    harmless = "CREATE TRIGGER loans_no_update BEFORE UPDATE ON loans BEGIN SELECT 1; END"
    raw(path, "DROP TRIGGER loans_no_update", harmless)
    assert "loans_no_update" in log.verify().fault


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (FOREIGN["swallows"], "the trigger t on loans"),
        ("CREATE VIEW v AS SELECT * FROM loans", "the view v"),
        ("CREATE TABLE loot (id)", "the table loot"),
    ],
)
def test_what_is_foreign_in_the_file_is_found(path, log, statement, said):
    assert log.verify()
    raw(path, statement)
    assert said in log.verify().fault


TAMPERED = {
    "text": ("loans", "UPDATE loans SET answer = 'no' WHERE id = 2", "row 2"),
    "number": ("loans", "UPDATE loans SET rate = 0.3", "row 1"),
    "json": ("loans", "UPDATE loans SET asked = '[]' WHERE id = 3", "row 3"),
    "a row out": ("loans", "DELETE FROM loans WHERE id = 2", "row 2 is missing"),
    "the first row out": ("loans", "DELETE FROM loans WHERE id = 1", "row 1 is missing"),
    "another table": ("returns", "UPDATE returns SET day = 'x'", "row 4"),
    "the tail off": ("returns", "DELETE FROM returns", "rows 4 to 5 were cut off"),
    "new hash": ("loans", "UPDATE loans SET hash = upper(hash) WHERE id = 1", "row 1"),
    "order": ("loans", "UPDATE loans SET sequence = 9 - sequence WHERE id < 3", "missing"),
}


@pytest.mark.parametrize(("table", "statement", "where"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_past_the_guards_is_found(path, table, statement, where):
    """Someone takes the guards off, changes a row and puts the guards back."""
    with Log(path, TABLES) as log:
        fill(log)
        anchor = log.anchor()
        assert log.verify() and log.verify(anchor) and log.verify([*anchor])
    db = sqlite3.connect(path, isolation_level=None)
    kind = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
    guards = db.execute(kind, (table,)).fetchall()
    db.close()
    off, on = [f"DROP TRIGGER {name}" for name, _ in guards], [sql for _, sql in guards]
    raw(path, *off, statement, *on)
    with Log(path, TABLES, read_only=True) as log:
        found = log.verify(anchor)
        assert not found and where in found.fault, found
        # The end that was cut off is what the chain alone cannot show.
        assert bool(log.verify()) == ("cut off" in where)


def test_a_row_with_a_new_hash_that_fits_is_found(path):
    """Someone changes a row and its hash to match: the next row does not follow it."""
    with Log(path, TABLES) as log:
        fill(log)
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    row = dict(db.execute("SELECT * FROM loans WHERE sequence = 2").fetchone())
    guard = db.execute("SELECT sql FROM sqlite_master WHERE name = 'loans_no_update'")
    (guard,) = guard.fetchone()
    db.close()
    row["answer"] = "no"
    digest = chained("loans", {name: row[name] for name in row if name != "hash"})
    change = f"UPDATE loans SET answer = 'no', hash = '{digest}' WHERE sequence = 2"
    raw(path, "DROP TRIGGER loans_no_update", change, guard)
    with Log(path, TABLES, read_only=True) as log:
        assert log.verify().fault == "row 3 does not follow the row before it"


def test_a_forged_file_is_found_by_its_anchor(path, tmp_path):
    with Log(path, TABLES) as log:
        fill(log)
        anchor = log.anchor()
    with Log(tmp_path / "forged.sqlite", TABLES) as forged:
        for id in range(1, 6):
            forged.append("loans", loan(id))
        assert forged.verify() and "row 5" in forged.verify(anchor).fault


def test_a_tail_that_was_cut_and_grown_again_is_found(path, tmp_path):
    with Log(path, TABLES) as log:
        fill(log)
        anchor = log.anchor()
    with Log(tmp_path / "cut.sqlite", TABLES) as cut:
        for id in (1, 2, 3):
            cut.append("loans", loan(id))
        assert cut.verify(anchor).fault == "rows 4 to 5 were cut off"
        for id in (7, 8, 9):
            cut.append("loans", loan(id))
        assert cut.verify() and "row 5 is not what it was" in cut.verify(anchor).fault


def test_an_empty_log_is_right(log):
    assert log.verify().rows == 0 and log.anchor() == (0, GENESIS)


# On disk ---------------------------------------------------------------------------------------


@pytest.fixture
def generous():
    """Let new files be readable by everyone, as some machines do."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(path) -> dict[str, str]:
    names = [path.name + suffix for suffix in ("", "-wal", "-shm", ".lock")]
    return {n: oct(stat.S_IMODE((path.parent / n).stat().st_mode)) for n in names}


def check_private(path) -> None:
    with Log(path, TABLES) as log:
        log.append("loans", loan())
        assert set(modes(path).values()) == {"0o600"}, modes(path)


def test_only_its_owner_reads_the_file(path, generous):
    check_private(path)


def test_a_file_that_was_open_to_all_is_closed(path, generous):
    with Log(path, TABLES) as log:
        log.append("returns", {"id": 1, "day": "d"})
    path.chmod(0o644)
    check_private(path)


def test_a_file_that_is_not_made_private_is_found(path, generous, monkeypatch):
    monkeypatch.setattr("casebook.serving.log._make_private", lambda path: None)
    with pytest.raises(AssertionError, match="0o644"):
        check_private(path)


def test_a_commit_waits_for_the_disk(log):
    pragmas = {"journal_mode": "wal", "synchronous": 2}
    found = {name: log._db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas}
    assert found == pragmas


def test_what_cannot_be_written_is_not_claimed(path):
    def fails(point):
        if point == "before commit":
            raise sqlite3.OperationalError("database or disk is full")

    with Log(path, TABLES, hook=fails) as log:
        with pytest.raises(LogFailed, match="disk is full"):
            log.append("loans", loan())
        assert log.find("loans") == [] and log.anchor() == (0, GENESIS)
        log._hook = lambda point: None
        assert log.append("loans", loan())["sequence"] == 1
        assert log.verify()


def test_a_file_that_is_really_full_takes_no_row(log):
    pages = log._db.execute("PRAGMA page_count").fetchone()[0]
    log._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LogFailed, match="full"):
        for id in range(1000):
            log.append("loans", loan(id))
    written = log.count("loans")
    log._db.execute("PRAGMA max_page_count = 1000000")
    log.append("loans", loan(5000))
    assert log.verify().rows == written + 1


def test_a_second_writer_is_kept_out(path, log):
    with pytest.raises(LogBusy, match="read_only=True"):
        Log(path, TABLES)
    code = (
        "import sys; from casebook.serving.log import Log, Table; "
        "Log(sys.argv[1], {'loans': Table({'id': 'int'})})"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert "LogBusy" in run.stderr


def test_a_reader_looks_while_another_writes(path, log):
    stop = threading.Event()

    def write():
        for id in range(10_000):
            if stop.is_set():
                return
            log.append("loans", loan(id))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with Log(path, TABLES, read_only=True) as reader:
            assert all(reader.verify() for _ in range(10))
            with pytest.raises(LogFailed, match="readonly"):
                reader.append("loans", loan(20_000))
    finally:
        stop.set()
        writer.join(10)


def test_there_is_nothing_to_look_at(path):
    with pytest.raises(FileNotFoundError):
        Log(path, TABLES, read_only=True)
    assert not path.exists()


def test_a_file_of_another_version_is_refused(path):
    Log(path, TABLES, version=2).close()
    with pytest.raises(ValueError, match="version 2 of the tables, this code writes 1"):
        Log(path, TABLES)


def test_one_text_for_one_value():
    assert canonical({"b": 1, "a": [True, None, "ü"]}) == '{"a":[true,null,"\\u00fc"],"b":1}'
    assert canonical([math.inf, -math.inf, math.nan, np.int64(2)]) == '["inf","-inf",null,2.0]'
