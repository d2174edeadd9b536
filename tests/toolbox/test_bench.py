"""Recorded benchmarks: written, read back, refused when altered, reported when stale."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from casebook.project import data_dir
from casebook.recorded import bench

CASE = "07_planted"
HELPER = '''"""What the benchmark needs."""
SIZE = 3
UNUSED = 1

def scale(x):
    """Scale."""
    return x * SIZE

def other():
    return UNUSED
'''
SOURCE = '''"""Benchmarks of a planted case."""
import numpy as np
import pandas as pd
from planted_helper import scale

ROWS = 2
KEPT = ["a"]
KEPT += ["b"]

def _frame(n):
    return pd.DataFrame({"k": range(n), "x": scale(np.arange(n)) / 3 + 1 / 3})  # thirds

def table():
    """Make a table."""
    return _frame(ROWS).assign(names=KEPT)

def fails():
    raise OSError("the disk is full")

def empty():
    return _frame(0)

BENCHMARKS = {"table": table, "fails": fails, "empty": empty}
'''


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Plant a case with benchmarks in a folder of its own.

    ``write(source, helper)`` puts other code on the disk; ``folder`` holds the tables.
    """
    monkeypatch.setattr(bench, "data_dir", lambda: tmp_path / "data")
    monkeypatch.setattr(bench, "PACKAGE", "planted_bench")  # the helper's room
    (tmp_path / "data" / CASE).mkdir(parents=True)
    (tmp_path / "code").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "code")

    def write(source: str = SOURCE, helper: str = HELPER) -> None:
        folder = tmp_path / "code" / "planted_bench"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text("")
        (folder / "helper.py").write_text(helper)
        source = source.replace("planted_helper", "planted_bench.helper")
        (folder / "benchmarks.py").write_text(source)

    def known(case):
        from planted_bench.benchmarks import BENCHMARKS

        return BENCHMARKS

    write()
    monkeypatch.setattr(bench, "benchmarks", known)
    yield SimpleNamespace(
        write=write, folder=tmp_path / "data" / CASE / "benchmarks", code=tmp_path / "code"
    )
    for name in [n for n in sys.modules if n.split(".")[0] == "planted_bench"]:
        del sys.modules[name]


def run(*names: str) -> int:
    return bench.main(["07", *names])


# Round trip --------------------------------------------------------------------------


def test_a_table_is_recorded_and_read_back(planted, capsys):
    start = time.perf_counter()
    assert run("table") == 0
    passed = time.perf_counter() - start
    result = bench.recorded(CASE, "table")
    said = re.fullmatch(r"recorded  table  2 rows  (\d+\.\d) s\n", capsys.readouterr().out)
    # What is printed counts the reading of the sources too, what is recorded the run alone.
    assert 0 <= result.seconds <= float(said[1]) <= passed + 0.05
    assert result.frame.to_dict("list") == {"k": [0, 1], "x": [0.33333, 1.3333], "names": [*"ab"]}
    assert (result.date, result.command) == (date.today().isoformat(), "make bench N=07")
    assert result.versions == {n: bench.importlib.metadata.version(n) for n in ("numpy", "pandas")}
    assert set(result.machine) == {
        *("cores", "cpu", "memory_gb", "system", "python", "threads", "load", "others")
    }
    assert result.machine["cores"] >= 1
    assert bench.tables(CASE) == ["table"]


def test_the_same_run_gives_the_same_bytes(planted):
    run("table")
    first = (planted.folder / "table.csv").read_bytes()
    run("table")
    assert (planted.folder / "table.csv").read_bytes() == first
    assert b"\r" not in first


def test_the_caption_says_where_the_numbers_come_from(planted):
    machine = {"cores": 2}
    given = bench.Recorded(pd.DataFrame(), machine, "2026-11-21", "make bench N=01", 3.0, {})
    assert given.caption("Share of the gap.") == (
        "Share of the gap. Recorded 2026-11-21 on 2 cores by `make bench N=01`."
    )
    machine["cores"] = 1
    assert "on 1 core by" in given.caption("")


def test_the_work_of_others_is_told_from_our_own(planted, monkeypatch):
    busy = iter([(100.0, 10.0), (107.0, 15.0)])
    monkeypatch.setattr(bench, "_busy", lambda: next(busy))
    assert bench._others((90.0, 8.0), 4.0) == 2.0
    assert bench._others((105.0, 15.0), 4.0) == 0.5
    monkeypatch.setattr(bench, "_busy", lambda: None)
    assert bench._others((105.0, 15.0), 4.0) is None


def test_our_own_work_and_that_of_processes_we_ended_is_not_others():
    before = bench._busy()
    if before is None:
        pytest.skip("the system does not say how busy its cores were")
    burn = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    exec(burn.replace("0.5", "0.3"))
    after = bench._busy()
    assert after[1] - before[1] >= 0.8
    assert after[0] - before[0] >= 0.7  # all cores are at least as busy, within clock ticks


def test_nothing_that_names_the_machine_is_written(planted):
    import getpass
    import socket

    run("table")
    text = (planted.folder / "table.json").read_text()
    for word in (socket.gethostname(), getpass.getuser(), sys.prefix, str(data_dir().parent)):
        assert word not in text.split('"sha256"')[0], word


# Refusals ----------------------------------------------------------------------------


def test_an_absent_table_names_those_that_are_there(planted):
    run("table")
    with pytest.raises(FileNotFoundError, match=r"recorded: table\. `make bench N=07` runs them"):
        bench.recorded(CASE, "speed")
    with pytest.raises(FileNotFoundError, match="recorded: none"):
        bench.recorded("08_other", "table")
    (planted.folder / "table.json").unlink()
    with pytest.raises(FileNotFoundError, match="No benchmark 07_planted/table"):
        bench.recorded(CASE, "table")


def test_an_altered_table_is_refused(planted):
    run("table")
    path = planted.folder / "table.csv"
    path.write_text(path.read_text().replace("1.3333", "0.3333"))
    with pytest.raises(ValueError, match="its hash differs"):
        bench.recorded(CASE, "table")
    with pytest.raises(ValueError, match="its hash differs"):
        bench.stale(CASE, "table")


def test_unknown_names_are_refused_before_anything_runs(planted, capsys):
    for arguments, says in (
        (["07", "table", "speed"], "no benchmark 'speed'; there: table, fails, empty"),
        (["09"], "No case '09'; there: 07_planted"),
    ):
        with pytest.raises(SystemExit) as caught:
            bench.main(arguments)
        assert caught.value.code == 2
        assert says in capsys.readouterr().err
    assert not planted.folder.exists()


def test_a_case_without_benchmarks_says_so():
    with pytest.raises(KeyError, match=r"no module casebook\.cases\.not_written\.benchmarks"):
        bench.benchmarks("99_not_written")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ('raise OSError("the disk is full")', "failed    table  OSError: the disk is full"),
        ("return _frame(0)", "failed    table  ValueError: benchmark table made an empty table"),
    ],
)
def test_a_failing_benchmark_leaves_the_old_table_and_lets_the_others_run(
    planted, capsys, fault, says
):
    assert run("table") == 0
    before = {path.name: path.read_bytes() for path in planted.folder.iterdir()}
    del sys.modules["planted_bench.benchmarks"]
    code = SOURCE.replace("return _frame(ROWS).assign(names=KEPT)", fault)
    planted.write(code.replace("BENCHMARKS = {", 'BENCHMARKS = {"new": lambda: _frame(1), '))
    assert run("table", "new") == 1
    assert says in capsys.readouterr().out
    after = {path.name: path.read_bytes() for path in planted.folder.iterdir()}
    assert before.items() <= after.items()
    assert sorted(set(after) - set(before)) == ["new.csv", "new.json"]


def test_a_run_that_is_broken_off_while_writing_leaves_the_old_table(planted, monkeypatch):
    run("table")
    before = (planted.folder / "table.csv").read_bytes()

    def broken(part, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.os, "replace", broken)
    with pytest.raises(KeyboardInterrupt):
        run("table")
    assert (planted.folder / "table.csv").read_bytes() == before
    assert bench.tables(CASE) == ["table"]


# Stale tables ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "other"),
    [
        ("ROWS = 2", "ROWS = 4"),
        ("_frame(ROWS)", "_frame(ROWS + 0)"),
        ("/ 3 + 1 / 3", "/ 3 + 1 / 4"),
        ('KEPT += ["b"]', 'KEPT += ["c"]'),
        ("SIZE = 3", "SIZE = 4"),
        ("x * SIZE", "x * SIZE + 0"),
        ("import scale", "import other as scale"),
    ],
)
def test_a_change_of_what_determines_a_table_makes_it_stale(planted, right, other):
    run("table")
    assert not bench.stale(CASE, "table")
    assert (SOURCE + HELPER).count(right) == 1
    planted.write(SOURCE.replace(right, other), HELPER.replace(right, other))
    assert bench.stale(CASE, "table")


@pytest.mark.parametrize(
    ("right", "other"),
    [
        ("  # thirds", "  # a third each"),
        ('"""Make a table."""', '"""Make the table.\n\n    It has rows.\n    """'),
        ("\n\ndef fails", "\n\n\n# A rule ---\n\n\ndef fails"),
        ("the disk is full", "the disk is gone"),
        ("UNUSED = 1", "UNUSED = 2"),
        ("def other():\n    return", "def other():\n    return 1 +"),
        ('"""What the benchmark needs."""', '"""What it needs."""'),
    ],
)
def test_a_change_of_anything_else_does_not(planted, right, other):
    run("table")
    assert (SOURCE + HELPER).count(right) == 1
    planted.write(SOURCE.replace(right, other), HELPER.replace(right, other))
    assert not bench.stale(CASE, "table")


def test_the_code_behind_a_module_a_decorator_and_a_local_import_counts(planted):
    source = SOURCE.replace("from planted_helper import scale", "from . import helper")
    source = source.replace("scale(np", "helper.scale(np")
    local = SOURCE.replace("from planted_helper import scale\n", "").replace(
        "def _frame(n):\n", "def _frame(n):\n    from .helper import scale\n"
    )
    for code in (source, local):
        planted.write(code)
        sys.modules.pop("planted_bench.benchmarks", None)
        run("table")
        planted.write(code, HELPER.replace("SIZE = 3", "SIZE = 4"))
        assert bench.stale(CASE, "table")
    decorated = SOURCE.replace("def _frame", "def same(f):\n    return f\n\n@same\ndef _frame")
    planted.write(decorated)
    sys.modules.pop("planted_bench.benchmarks")
    run("table")
    planted.write(decorated.replace("    return f\n", "    return f or f\n"))
    assert bench.stale(CASE, "table")


@pytest.mark.parametrize("place", ["local", "top", "as a module", "named in a text"])
def test_moving_a_module_makes_no_table_stale(planted, place):
    found = {
        "top": SOURCE,
        "as a module": SOURCE.replace(
            "from planted_helper import scale", "from planted_bench import helper"
        ).replace("scale(np", "helper.scale(np"),
        "local": SOURCE.replace("from planted_helper import scale\n", "").replace(
            "def _frame(n):\n", "def _frame(n):\n    from .helper import scale\n\n"
        ),
        "named in a text": SOURCE.replace(
            "ROWS = 2", "ROWS = 2\nRUNS = ['planted_bench.helper:scale', 3]"
        ).replace("assign(names=KEPT)", "assign(names=KEPT, runs=len(RUNS))"),
    }[place]
    planted.write(found)
    run("table")
    package = planted.code / "planted_bench"
    (package / "inner").mkdir()
    (package / "inner" / "__init__.py").write_text("")
    (package / "helper.py").rename(package / "inner" / "helper.py")
    moved = (package / "benchmarks.py").read_text()
    for old, new in (
        ("planted_bench.helper", "planted_bench.inner.helper"),
        ("from .helper", "from .inner.helper"),
        ("from planted_bench import", "from planted_bench.inner import"),
    ):
        moved = moved.replace(old, new)
    (package / "benchmarks.py").write_text(moved)
    assert not bench.stale(CASE, "table")
    helper = package / "inner" / "helper.py"
    helper.write_text(helper.read_text().replace("SIZE = 3", "SIZE = 4"))
    assert bench.stale(CASE, "table")


def lost_words(path: Path) -> list[str]:
    """Return the words of a table that pandas reads as missing, such as the name of a fault."""
    written, read = pd.read_csv(path, dtype=str, keep_default_na=False), pd.read_csv(path)
    lost = written[(written != "") & read.isna()].stack()
    return sorted(set(lost))


def test_no_word_of_a_recorded_table_is_read_as_missing():
    tables = sorted(data_dir().glob("*/benchmarks/*.csv"))
    assert len(tables) > 80
    assert {path.stem: words for path in tables if (words := lost_words(path))} == {}


def test_a_word_that_is_read_as_missing_is_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("fault,seconds\nnone,\nnan,1.5\nNA,2\nslow,nan\n")
    assert lost_words(path) == ["NA", "nan"]
