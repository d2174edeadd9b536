"""A check that passed is left out until something changes, its turn comes or everything runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import rotation

NAMES = ["01_a", "02_b", "03_c"]
COMMITS = [f"{number:040x}" for number in range(60)]


@pytest.fixture(autouse=True)
def own_records(build_folder, monkeypatch):
    """Nothing is recorded, and not everything is asked for; it is the turn of 01_a."""
    monkeypatch.delenv(rotation.EVERYTHING, raising=False)
    at = next(c for c in COMMITS if rotation.chosen(NAMES, "contract", c) == "01_a")
    monkeypatch.setattr(rotation, "commit", lambda *_: at)
    monkeypatch.setattr(rotation, "read_record", lambda root: {})


def run(name: str, key: str, fails: bool = False) -> str:
    """Run a check within its turn; return how it ended."""
    try:
        with rotation.turn("contract", name, key, NAMES):
            assert not fails
    except pytest.skip.Exception:
        return "left out"
    except AssertionError:
        return "failed"
    return "passed"


def test_on_a_new_machine_all_are_due():
    assert [run(name, "key") for name in NAMES] == ["passed"] * 3


def test_what_passed_is_left_out_but_for_one():
    assert [run(name, "key") for name in NAMES] == ["passed"] * 3
    assert [run(name, "key") for name in NAMES] == ["passed", "left out", "left out"]


def test_a_planted_change_makes_it_run_again(tmp_path):
    solution = tmp_path / "solution.ipynb"
    solution.write_text("x = 1")
    assert run("02_b", rotation.key_of("reached", solution)) == "passed"
    assert run("02_b", rotation.key_of("reached", solution)) == "left out"
    solution.write_text("x = 2")
    assert run("02_b", rotation.key_of("reached", solution), fails=True) == "failed"
    # A failure is not recorded, nor does the earlier pass count for it.
    assert run("02_b", rotation.key_of("reached", solution)) == "passed"
    assert run("02_b", rotation.key_of("reached otherwise", solution)) == "passed"
    assert run("02_b", rotation.key_of("reached otherwise", solution)) == "left out"


def test_parts_of_a_key_are_not_run_together():
    assert rotation.key_of("ab", "c") != rotation.key_of("a", "bc")


def test_everything_runs_when_asked(monkeypatch):
    assert run("02_b", "key") == "passed"
    monkeypatch.setenv(rotation.EVERYTHING, "1")
    assert run("02_b", "key") == "passed"


def test_kinds_of_checks_are_recorded_apart():
    rotation.passed("contract", "02_b", "key")
    assert rotation.due("contract", "02_b", "key", NAMES) == ""
    assert rotation.due("plan", "02_b", "key", NAMES) == "no pass is recorded"


def test_every_name_has_its_turn_and_one_at_a_time():
    turns = [rotation.chosen(NAMES, "contract", at) for at in COMMITS]
    assert set(turns) == set(NAMES)
    assert min(turns.count(name) for name in NAMES) >= 10
    assert turns == [rotation.chosen(NAMES[::-1], "contract", at) for at in COMMITS]
    assert turns != [rotation.chosen(NAMES, "plan", at) for at in COMMITS]


def test_the_commit_is_that_of_the_checkout_or_zeros(tmp_path, monkeypatch):
    monkeypatch.undo()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=rotation.require_checkout(), capture_output=True
    )
    assert rotation.commit() == head.stdout.decode().strip()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert rotation.commit(tmp_path) == "0" * 40


def test_a_notebook_that_is_not_executed_yet_is_executed_for_its_key(monkeypatch):
    asked = []
    made = SimpleNamespace(key="k")
    monkeypatch.setattr(rotation.execute, "stored", lambda *_: None)
    monkeypatch.setattr(rotation.execute, "executed", lambda _, name: asked.append(name) or made)
    assert rotation.notebook_key("solutions/01_a", "more") == rotation.key_of("k", "more")
    assert asked == ["solutions/01_a"]


# The committed record ------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path, build_folder, monkeypatch) -> Path:
    """Return a checkout with a package of two modules, a file of tests and a record."""
    for name, text in {
        "casebook/__init__.py": "",
        "casebook/used.py": "from casebook import below\n\ndef f():\n    return below\n",
        "casebook/below.py": "X = 1\n",
        "casebook/started.py": "",
        "casebook/other.py": "",
        "tests/helper.py": "from deeper import y\n",
        "tests/room/deeper.py": "",
        "tests/room/conftest.py": "",
        "tests/runner.py": "",
        "tests/room/test_a.py": "import casebook.used\nimport helper\n"
        "STARTED = 'casebook.started:app'\n",
        "tests/room/test_b.py": "",
        "book/style.css": "",
        "book/page.ipynb": '{"cells": [{"cell_type": "code", "source": ["%time 1\\n", '
        '"from casebook import cell"]}]}',
        "casebook/cell.py": "",
        "constraints.txt": "a==1",
        "requirements.txt": "a",
        "tests/turns.toml": '[shared]\nbook = ["book", "cons*.txt"]\n[files]\n'
        '"tests/room/test_a.py" = ["book"]\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.undo()
    monkeypatch.delenv(rotation.EVERYTHING, raising=False)
    monkeypatch.setenv("CASEBOOK_BUILD_DIR", str(build_folder))
    monkeypatch.setattr(rotation, "require_checkout", lambda: tmp_path)
    return tmp_path


def test_a_pass_of_another_machine_counts_once_it_is_committed(checkout, build_folder):
    not_its_turn = next(c for c in COMMITS if rotation.chosen(NAMES, "contract", c) != "02_b")
    due = ("contract", "02_b", "key", NAMES, not_its_turn)
    rotation.passed("contract", "02_b", "key")
    rotation.passed("page", "book/a", "k")
    assert rotation.unrecorded(checkout) == rotation.keep(checkout) == 2
    assert rotation.unrecorded(checkout) == 0
    (build_folder / "passed" / "contract" / "02_b").unlink()  # a new machine
    assert rotation.due(*due) == ""
    assert (
        rotation.due("contract", "02_b", "another", *due[3:])
        == "it has changed since its last pass"
    )
    assert rotation.due("contract", "01_a", "key", *due[3:]) == "no pass is recorded"
    its_turn = next(c for c in COMMITS if rotation.chosen(NAMES, "contract", c) == "02_b")
    assert rotation.due(*due[:4], its_turn) == "it is its turn"
    assert rotation.read_record(checkout)["page"] == {"book/a": ["k"]}


def test_the_record_keeps_the_newest_keys_and_what_other_machines_added(checkout):
    for n in range(rotation.MOST_KEYS + 2):
        rotation.passed("contract", "01_a", f"key {n}")
        assert rotation.keep(checkout) == 1
    rotation.passed("contract", "01_a", "key 3")
    assert rotation.keep(checkout) == 0
    assert rotation.read_record(checkout)["contract"]["01_a"] == ["key 3", "key 4", "key 2"]


def test_nothing_is_left_out_for_the_record_when_everything_runs(checkout, monkeypatch):
    rotation.passed("contract", "02_b", "key")
    rotation.keep(checkout)
    monkeypatch.setenv(rotation.EVERYTHING, "1")
    assert rotation.due("contract", "02_b", "key", NAMES) == "everything runs"


@pytest.mark.parametrize(
    "name",
    [
        *("casebook/used.py", "casebook/below.py", "casebook/started.py", "tests/helper.py"),
        *("tests/room/deeper.py", "tests/room/conftest.py"),
        *("tests/room/test_a.py", "book/style.css", "constraints.txt", "casebook/table.json"),
        "casebook/cell.py",
    ],
)
def test_a_planted_change_of_what_a_file_of_tests_uses_makes_it_due(checkout, name):
    [(path, before)] = rotation.file_keys(checkout).items()
    rotation.passed(rotation.FILE, path, before)
    others = [path, "tests/room/test_b.py"]
    at = next(c for c in COMMITS if rotation.chosen(others, rotation.FILE, c) != path)
    assert rotation.due(rotation.FILE, path, before, others, at) == ""
    with open(checkout / name, "a", encoding="utf-8") as file:
        file.write("\n# planted")
    after = rotation.file_keys(checkout)[path]
    assert rotation.due(rotation.FILE, path, after, others, at).startswith("it has changed")


@pytest.mark.parametrize("name", ["casebook/other.py", "tests/room/test_b.py", "tests/runner.py"])
def test_what_a_file_of_tests_does_not_use_leaves_its_key(checkout, name):
    before = rotation.file_keys(checkout)
    (checkout / name).write_text("# planted", encoding="utf-8")
    assert rotation.file_keys(checkout) == before


def test_a_setting_and_public_data_that_it_names_are_in_its_key(checkout, monkeypatch):
    keys = {rotation.file_keys(checkout)["tests/room/test_a.py"]}
    monkeypatch.setenv("CASEBOOK_STUDENT_SEED", "3")
    keys.add(rotation.file_keys(checkout)["tests/room/test_a.py"])
    monkeypatch.setattr(rotation, "registry", lambda: ["started"])
    monkeypatch.setattr(rotation, "find_real", lambda name: Path(name))
    keys.add(rotation.file_keys(checkout)["tests/room/test_a.py"])
    assert len(keys) == 3


def test_a_pattern_that_names_nothing_any_more_is_an_error(checkout):
    shutil.rmtree(checkout / "book")
    with pytest.raises(FileNotFoundError, match="There is nothing at book, on which"):
        rotation.file_keys(checkout)


def test_the_tests_of_a_case_use_what_belongs_to_it_alone(tmp_path):
    for name in ("how", "how_much"):
        (tmp_path / "casebook" / "cases" / name).mkdir(parents=True)
        (tmp_path / "data" / f"0{len(name)}_{name}").mkdir(parents=True)
    (tmp_path / "tests" / "cases").mkdir(parents=True)
    for name in ("test_how", "test_how_world", "test_how_much_world", "test_of_none", "how_fakes"):
        (tmp_path / "tests" / "cases" / f"{name}.py").touch()
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "03_how.ipynb").touch()
    patterns = ["casebook/cases/{case}", "data/[0-9][0-9]_{case}", "chapters/*_{case}.ipynb"]
    own = ["casebook/cases/how", "data/[0-9][0-9]_how", "chapters/*_how.ipynb"]
    assert rotation.of_cases(tmp_path, patterns) == {
        "tests/cases/test_how.py": own,
        "tests/cases/test_how_world.py": own,
        "tests/cases/test_how_much_world.py": [
            "casebook/cases/how_much",
            "data/[0-9][0-9]_how_much",
        ],
    }


def test_the_committed_table_names_files_that_are_there(monkeypatch):
    monkeypatch.undo()
    root = rotation.require_checkout()
    table = rotation.costly(root)
    assert all((root / name).is_file() for name in table)
    assert {path.relative_to(root).as_posix() for path in root.glob("tests/cases/test_*.py")} <= {
        *table
    }
    assert rotation.file_keys(root).keys() == table.keys()
