"""A notebook ends at a cell, by name; what is recorded; which notebooks are found."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import tiny
from tiny import checked, code

from casebook.author import execute as module
from casebook.author import exercises, files
from casebook.author.__main__ import main
from casebook.author.execute import (
    NotebookFailed,
    Run,
    Turns,
    execute,
    executed,
    measured,
    runs,
    store,
    stored,
    summary,
)

PATH = "chapters/00_tiny.ipynb"
OPEN_END = "import time\nprint('asleep')\ntime.sleep(60)"


def run(folder, *cells, **env):
    """Execute a small notebook; return it with the seconds that it took."""
    notebook = tiny.notebook(*cells)
    return notebook, execute(notebook, PATH, folder, env or None)


def outputs(notebook, name) -> list[str]:
    """Return what a cell of a notebook has printed."""
    [cell] = [cell for cell in notebook.cells if cell.id == name]
    return [output.text for output in cell.outputs]


# Where a notebook ends.


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("raise ValueError('no such column')", "ValueError: no such column"),
        ("return 3", "SyntaxError: 'return' outside function"),
        ("import os\nos._exit(1)", "the kernel died (out of memory?)"),
        (OPEN_END, "took longer than 4 s"),
    ],
    ids=["an exception", "no Python", "a dead kernel", "out of time"],
)
def test_the_failing_cell_is_named(tmp_path, monkeypatch, source, error):
    monkeypatch.setattr(module, "CELL_TIMEOUT", 4)
    with pytest.raises(NotebookFailed) as caught:
        run(tmp_path, code("fine", "n = 3"), code("fails", source), code("after", "n"))
    failure = caught.value
    assert (failure.name, failure.cell) == (PATH, "fails")
    assert failure.error.startswith(error)
    assert str(failure) == f"{PATH}, cell 'fails': {failure.error}"


def test_a_failure_passes_through_context_managers_and_processes():
    failure = NotebookFailed(PATH, "fails", "ValueError: no")

    @contextlib.contextmanager
    def around():
        yield

    with pytest.raises(NotebookFailed, match="cell 'fails'"), around():
        raise failure
    assert str(pickle.loads(pickle.dumps(failure))) == str(failure)


def test_a_notebook_without_faults_gets_its_outputs(tmp_path):
    show = "import os\nprint(os.environ['CASEBOOK_TINY'], os.path.basename(os.getcwd()))"
    notebook, seconds = run(tmp_path, code("show", show), CASEBOOK_TINY="yes")
    assert outputs(notebook, "show") == [f"yes {tmp_path.name}\n"]
    assert 0 < seconds < 60
    assert all("execution" not in cell.metadata for cell in notebook.cells)


def test_a_text_that_comes_in_pieces_is_one_output(tmp_path):
    show = "import time\nfor n in range(3):\n    print(n, flush=True)\n    time.sleep(0.3)"
    notebook, _ = run(tmp_path, code("show", show))
    assert outputs(notebook, "show") == ["0\n1\n2\n"]


# Once.

NAME = PATH.removesuffix(".ipynb")


def test_a_notebook_runs_once_outside_the_sources_and_is_given_out_again(checkout, monkeypatch):
    monkeypatch.setenv("CASEBOOK_RUN_FOR", "a test")
    show = "import os\nprint(os.environ['CASEBOOK_BOOK'], os.getcwd())"
    path = tiny.add(checkout, PATH, code("show", show), tiny.prose("words", "Words."))
    assert stored(checkout, NAME) is None
    assert runs(checkout) == []
    first = executed(checkout, NAME)
    book, folder = outputs(first.notebook, "show")[0].split()
    assert (book, first.cached) == ("1", False)
    assert not folder.startswith(str(checkout))
    assert {p.name for p in path.parent.iterdir()} == {"00_tiny.ipynb", "ruff.toml"}
    tiny.plant(path, "words", source="Other words.")  # prose runs nothing
    again = executed(checkout, NAME)
    assert (again.cached, again.key) == (True, first.key)
    assert again.notebook.cells[-1].source == "Other words."
    assert outputs(again.notebook, "show") == outputs(first.notebook, "show")
    assert again.cpu_seconds == first.cpu_seconds > 0
    assert stored(checkout, NAME) == again
    assert runs(checkout) == [Run(NAME, "a test", first.key, first.cpu_seconds)]
    tiny.plant(path, "show", source="print(3)")
    assert stored(checkout, NAME) is None
    assert outputs(executed(checkout, NAME).notebook, "show") == ["3\n"]
    assert [run.name for run in runs(checkout)] == [NAME, NAME]


def test_several_that_ask_at_a_time_get_one_run(checkout):
    tiny.add(checkout, PATH, code("show", "print(3)"))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(executed(checkout, NAME))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.cached for one in found) == [False, True, True]
    assert len(runs(checkout)) == 1


def test_both_data_modes_are_kept_side_by_side(checkout):
    show = "import os\nprint(os.environ['CASEBOOK_REAL_DATA'])"
    tiny.add(checkout, PATH, code("show", show))
    off = executed(checkout, NAME, {"CASEBOOK_REAL_DATA": "Off"})
    on = executed(checkout, NAME, {"CASEBOOK_REAL_DATA": ""})
    assert outputs(off.notebook, "show") == ["off\n"]
    assert outputs(on.notebook, "show") == ["on\n"]
    assert stored(checkout, NAME, {"CASEBOOK_REAL_DATA": "off"}).key == off.key != on.key
    assert len(runs(checkout)) == 2


def test_an_exercise_and_its_solution_are_one_execution(checkout, monkeypatch):
    asked = {1: SimpleNamespace(hints=["Count them."])}
    monkeypatch.setattr(exercises, "questions", lambda stem: asked)
    answer = code("answer-1", "### BEGIN SOLUTION\nn = 3\n### END SOLUTION")
    check = checked(
        "check-1", "print(n)\n### BEGIN HIDDEN TESTS\nassert n == 3\n### END HIDDEN TESTS"
    )
    path = tiny.add(checkout, "solutions/00_tiny.ipynb", answer, check)
    for name in ("answer-1", "check-1"):
        tiny.plant(path, name, metadata={"nbgrader": {"grade_id": name}})
    page = executed(checkout, "exercises/00_tiny")
    assert outputs(page.notebook, "check-1") == ["3\n"]
    assert any("Count them." in cell.source for cell in page.notebook.cells)
    solution = executed(checkout, "solutions/00_tiny")
    assert (solution.cached, solution.key) == (True, page.key)
    assert outputs(solution.notebook, "check-1") == ["3\n"]
    assert "### BEGIN SOLUTION" in str(solution.notebook.cells)
    assert "### BEGIN" not in str(page.notebook.cells)
    assert len(runs(checkout)) == 1


def test_what_fails_is_noted_and_not_kept(checkout):
    tiny.add(checkout, PATH, code("fails", "1 / 0"))
    for _ in range(2):
        with pytest.raises(NotebookFailed, match="cell 'fails': ZeroDivisionError"):
            executed(checkout, NAME)
    assert stored(checkout, NAME) is None
    assert [run.error for run in runs(checkout)] == [
        f"{NAME}, cell 'fails': ZeroDivisionError: division by zero"
    ] * 2


def test_a_run_during_which_something_was_edited_is_not_kept(checkout):
    edit = f"from pathlib import Path\npath = Path({str(checkout / PATH)!r})\n"
    edit += "_ = path.write_text(path.read_text().replace('n = 3', 'n = 4'))"
    tiny.add(checkout, PATH, code("n", "n = 3"), code("edit", edit))
    assert not executed(checkout, NAME).cached
    assert stored(checkout, NAME) is None
    assert list(store(checkout).rglob("*.json")) == []


def test_a_scorecard_belongs_to_the_run_that_wrote_it(checkout):
    write = "import os\nfrom pathlib import Path\nfolder = Path(os.environ['CASEBOOK_BUILD_DIR'])\n"
    write += "(folder / 'scorecards').mkdir(parents=True)\n"
    write += "_ = (folder / 'scorecards' / '00_tiny.json').write_text('[]')"
    tiny.add(checkout, PATH, code("write", write))
    for cached in (False, True):
        done = executed(checkout, NAME)
        assert (done.cached, done.written) == (cached, {"scorecards/00_tiny.json": "[]"})
    assert not (checkout / "_build" / "scorecards").exists()


def test_the_oldest_executions_are_thrown_away(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    for count, name in enumerate("abcd"):
        module._keep(tmp_path, name, {})
        stamp = time.time() - 60 + count
        module.os.utime(tmp_path / f"{name}.json", (stamp, stamp))
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["c.json", "d.json"]


def test_a_broken_record_counts_as_none(checkout):
    tiny.add(checkout, PATH, code("show", "print(3)"))
    key = executed(checkout, NAME).key
    [path] = store(checkout).rglob(f"{key}.json")
    path.write_text(path.read_text()[:-9])
    assert stored(checkout, NAME) is None


def test_a_notebook_that_is_not_there_is_named(checkout):
    for name in ("chapters/07_gone", "exercises/07_gone"):
        with pytest.raises(FileNotFoundError, match="07_gone"):
            executed(checkout, name)


def test_the_summary_says_how_often_and_for_whom():
    of = [Run("chapters/02_b", "book", "k", 4.0), Run("chapters/01_a", "book", "k", 2.25)]
    of += [Run("chapters/01_a", "contract", "l", 0.75), Run("chapters/01_a", "book", "k", 1.0)]
    assert summary(of) == [
        "chapters/01_a: 2 for book, 1 for contract; 4.0 CPU s",
        "chapters/02_b: 1 for book; 4.0 CPU s",
    ]


# What it took.

BURN = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"


def test_processes_that_the_kernel_started_count_whether_they_ended_or_not(tmp_path):
    def spent(*cells):
        return measured(tiny.notebook(*cells), PATH, tmp_path, dict(module.os.environ))

    start = f"import subprocess, sys\nburn = {BURN!r}\n"
    over = code("over", start + "_ = subprocess.run([sys.executable, '-c', burn])")
    lives = start + 'burn += "\\nprint(flush=True); input()"\n'
    lives += "child = subprocess.Popen([sys.executable, '-c', burn], stdin=-1, stdout=-1)\n"
    lives += "child.stdout.readline()"
    large = code("large", "content = b'x' * 300_000_000\nimport time\ntime.sleep(1)")
    idle = spent(code("sleeps", "import time\ntime.sleep(1)"))
    busy = spent(over, code("lives", lives), large)
    assert busy.cpu_seconds >= idle.cpu_seconds + 0.9
    assert busy.memory_mb >= idle.memory_mb + 250
    assert idle.seconds >= 1


def test_waiting_costs_no_cpu_seconds(tmp_path):
    sleeps = tiny.notebook(code("sleeps", "import time\ntime.sleep(8)"))
    spent = measured(sleeps, PATH, tmp_path, dict(module.os.environ))
    assert spent.seconds >= 8 > spent.cpu_seconds


# Timed cells run alone.


class Hall:
    """Fake cells: who was in when."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.lock = turns, threading.Lock()
        self.inside: set[str] = set()
        self.met: dict[str, set[str]] = {}

    def cell(self, name: str, alone: bool, stay=lambda: time.sleep(0.05)) -> None:
        with self.turns.take(alone):
            with self.lock:
                self.inside.add(name)
                for other in self.inside:
                    self.met.setdefault(other, set()).update(self.inside)
            stay()
            with self.lock:
                self.inside.discard(name)

    def together(self, *jobs) -> None:
        threads = [threading.Thread(target=self.cell, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_cells_run_side_by_side_and_timed_ones_alone(tmp_path):
    hall = Hall(Turns(tmp_path))
    both = threading.Barrier(2, timeout=30)

    def meets():
        with hall.turns.take(alone=False):
            both.wait()  # ends only if both are in

    threads = [threading.Thread(target=meets) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken
    hall.together(*((f"{'timed' if i % 3 == 0 else 'cell'} {i}", i % 3 == 0) for i in range(12)))
    for name, others in hall.met.items():
        if name.startswith("timed"):
            assert others == {name}


def test_without_turns_a_timed_cell_would_not_be_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(Turns, "take", lambda self, alone: contextlib.nullcontext())  # the fault
    hall, both = Hall(Turns(tmp_path)), threading.Barrier(2, timeout=30)
    hall.together(("timed", True, both.wait), ("cell", False, both.wait))
    assert hall.met["timed"] == {"timed", "cell"}


def test_a_timed_cell_that_waits_is_not_passed_for_ever(tmp_path):
    hall, done = Hall(Turns(tmp_path)), threading.Event()

    def one_after_the_other(name):
        while not done.is_set():
            hall.cell(name, False, lambda: time.sleep(0.01))

    crowd = [threading.Thread(target=one_after_the_other, args=(f"cell {i}",)) for i in range(3)]
    timed = threading.Thread(target=lambda: (hall.cell("timed", True), done.set()), daemon=True)
    for thread in crowd:
        thread.daemon = True
        thread.start()
    timed.start()
    timed.join(60)
    assert not timed.is_alive()
    done.set()
    assert hall.met["timed"] == {"timed"}


def test_a_timed_cell_waits_for_the_cells_of_another_process(tmp_path):
    source = (
        "import sys\nfrom pathlib import Path\nfrom casebook.author.execute import Turns\n"
        "with Turns(Path(sys.argv[1])).take(alone=False):\n    print(flush=True)\n    input()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    other.stdout.readline()
    entered = threading.Event()

    def timed():
        with Turns(tmp_path).take(alone=True):
            entered.set()

    thread = threading.Thread(target=timed, daemon=True)
    thread.start()
    assert not entered.wait(0.5)
    other.communicate("\n")
    assert entered.wait(60)


def test_each_cell_of_a_notebook_takes_its_own_turn(tmp_path):
    taken = []

    class Noted(Turns):
        def take(self, alone):
            taken.append(alone)
            return super().take(alone)

    cells = [code("a", "n = 1"), code("timed", "n += 1", [files.SERIAL_TAG]), code("b", "n")]
    notebook = tiny.notebook(*cells)
    notebook.cells = [c for c in notebook.cells if c.id in ("a", "timed", "b")]
    measured(notebook, PATH, tmp_path, dict(module.os.environ), Noted(tmp_path))
    assert taken == [False, False, True, False]  # the first is the start of the kernel


# Files.


def test_find_lists_the_names_there_are(checkout):
    for path in (PATH, "chapters/01_other.ipynb", "solutions/01_other.ipynb"):
        tiny.add(checkout, path)
    with pytest.raises(FileNotFoundError) as caught:
        files.find("07", root=checkout)
    assert str(caught.value) == "No notebook '07'. There are: 00_tiny, 01_other."
    assert [path.parent.name for path in files.find("01", root=checkout)] == [
        "chapters",
        "solutions",
    ]
    assert files.find("01", "solutions", root=checkout) == [checkout / "solutions/01_other.ipynb"]


def test_find_says_that_there_are_none(checkout):
    with pytest.raises(FileNotFoundError, match="There are: none"):
        files.find("00", root=checkout)


def test_write_changes_a_file_only_if_it_has_to(tmp_path):
    notebook, path = tiny.notebook(), tmp_path / "tiny.ipynb"
    assert files.write(notebook, path) is True
    before = path.stat()
    assert files.write(notebook, path) is False
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    notebook.cells[0].source = "# Other"
    assert files.write(notebook, path) is True
    assert files.read(path) == notebook


@pytest.mark.parametrize("content", ["", "{", '{"cells": 3}'])
def test_a_file_that_is_no_notebook_is_named(tmp_path, content):
    path = tmp_path / "broken.ipynb"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.ipynb is not a readable notebook"):
        files.read(path)


# Recording.


def test_record_stores_the_outputs_of_checked_cells_only(checkout, capfd):
    cells = [code("quiet", "n = 3\nprint('seen')"), checked("shown", "print(n)", shows="2\n")]
    path = tiny.add(checkout, PATH, *cells)
    assert main(["--root", str(checkout), "record", "00"]) == 0
    assert capfd.readouterr().out.startswith(f"recorded    {PATH}  ")
    notebook = files.read(path)
    assert (outputs(notebook, "quiet"), outputs(notebook, "shown")) == ([], ["3\n"])
    recorded = path.read_bytes()
    assert main(["--root", str(checkout), "record", "00"]) == 0
    assert path.read_bytes() == recorded
    assert main(["--root", str(checkout), "check"]) == 0


def test_record_stores_nothing_of_a_notebook_that_fails(checkout, capfd):
    cells = [checked("shown", "print(3)", shows="2\n"), code("fails", "1 / 0")]
    path = tiny.add(checkout, PATH, *cells)
    before = path.read_bytes()
    assert main(["--root", str(checkout), "record", "00"]) == 1
    failure = f"failed      {PATH}, cell 'fails': ZeroDivisionError: division by zero\n"
    assert capfd.readouterr().out == failure
    assert path.read_bytes() == before


def test_record_keeps_an_edit_that_was_made_meanwhile(checkout, capfd):
    edit = "from pathlib import Path\npath = Path('00_tiny.ipynb')\n"
    edit += "_ = path.write_text(path.read_text().replace('# Tiny', '# Edited'))"
    path = tiny.add(checkout, PATH, code("edit", edit))
    assert main(["--root", str(checkout), "record", "00"]) == 1
    assert capfd.readouterr().out.startswith(f"not stored  {PATH} was edited")
    assert "# Edited" in files.read(path).cells[0].source


def test_record_generates_the_exercise(checkout):
    path = "solutions/00_tiny.ipynb"
    tiny.add(checkout, path, code("n", "n = 3"))
    assert main(["--root", str(checkout), "record", "00"]) == 0
    assert (checkout / "exercises" / "00_tiny.ipynb").is_file()
