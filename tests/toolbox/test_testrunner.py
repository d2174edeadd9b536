"""The runner prints CPU seconds by case, fails a case that costs too much, orders files."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import rotation
import testrunner

from casebook.author import execute

pytest_plugins = "pytester"

NAMES = [
    "00_how_a_case_works",
    "01_demand_forecasting",
    "02_sales_forecasting",
    "12_card_fraud",
    "16_support_rag_chatbot",
    "17_support_agent",
]


@pytest.mark.parametrize(
    ("nodeid", "case"),
    [
        ("tests/cases/test_demand_forecasting_world.py::test_a", "01_demand_forecasting"),
        ("tests/cases/test_demand_forecasting_feed.py::test_a[01]", "01_demand_forecasting"),
        ("tests/cases/test_card_fraud_bank.py::test_a", "12_card_fraud"),
        ("tests/cases/test_how_a_case_works.py::test_a", "00_how_a_case_works"),
        ("tests/cases/test_support_agent_tools.py::test_a", "17_support_agent"),
        ("tests/cases/test_support_feed.py::test_a", "house"),
        ("tests/cases/test_card_frauds.py::test_a", "house"),
        ("tests/cases/test_forecasting.py::test_a", "house"),
        ("tests/page/test_page.py::test_a[chapters/12_card_fraud-390]", "12_card_fraud"),
        ("tests/notebooks/test_contract.py::test_a[12_card_fraud]", "12_card_fraud"),
        ("tests/cases/test_data.py::test_a[no 12_card_fraud_rings here]", "house"),
        ("tests/cases/test_data.py::test_12_card_fraud", "house"),
        ("tests/book/test_build.py::test_a[12_card_fraud]", "house"),
        ("tests/toolbox/test_bench.py::test_a[12_card_fraud]", "house"),
    ],
)
def test_the_case_of_a_test(nodeid, case):
    assert testrunner.case_of(nodeid, NAMES) == case


ALLOWED = testrunner.Allowance(90, {"12_card_fraud": 300.0}, {"12_card_fraud": "2026-11-28"})


@pytest.mark.parametrize(
    ("spent", "errors", "warnings"),
    [
        ({"01_a": 90.0, "house": 999.0}, [], []),
        ({"01_a": 91.0}, [], ["01_a: 91.0 CPU s, over its 90"]),
        ({"01_a": 181.0}, ["01_a: 181.0 CPU s, over 2 times its 90"], ["01_a: 181.0 CPU s"]),
        ({"12_card_fraud": 280.0}, [], ["12_card_fraud: 280.0 CPU s, over its 90"]),
        ({"12_card_fraud": 301.0}, ["12_card_fraud: 301.0 CPU s, over the 300"], ["12_card"]),
        ({"12_card_fraud": 80.0}, [], ["12_card_fraud: its exception of 300 may be lowered"]),
    ],
)
def test_what_a_case_may_cost(spent, errors, warnings):
    for found, expected in ((ALLOWED.errors(spent), errors), (ALLOWED.warnings(spent), warnings)):
        assert len(found) == len(expected)
        assert all(a.startswith(b) for a, b in zip(found, expected, strict=True))


def test_a_case_of_which_checks_were_left_out_says_nothing_of_its_ceiling():
    spent = {"12_card_fraud": 80.0, "01_a": 91.0}
    assert len(ALLOWED.warnings(spent)) == 2
    assert ALLOWED.warnings(spent, ["12_card_fraud"]) == ["01_a: 91.0 CPU s, over its 90"]


def test_limits_grow_with_the_strain_of_the_machine_and_the_error_says_so():
    spent = {"01_a": 270.0, "12_card_fraud": 430.0}
    assert len(ALLOWED.errors(spent)) == 2
    assert ALLOWED.errors(spent, strain=1.6) == []
    (found,) = ALLOWED.errors(spent, strain=1.45)
    assert found.startswith("01_a: 270.0 CPU s, over 2 times its 90 (limits were 1.4 times")


def test_the_committed_allowance_names_cases():
    allowance = testrunner.Allowance.read(Path(testrunner.__file__).with_name("allowance.toml"))
    names = testrunner.case_names(Path(testrunner.__file__).parents[1])
    assert allowance.seconds == 90
    assert {*allowance.ceilings} <= {*names}


def test_the_longest_file_is_first_and_an_unknown_one_in_the_middle():
    seconds = {"a": 1.0, "b": 30.0, "c": 5.0}
    assert testrunner.longest_first(["a", "b", "c", "new"], seconds) == ["b", "new", "c", "a"]
    assert testrunner.longest_first(["b", "a"], {}) == ["a", "b"]


# The projection: parts of a book of two cases, one of them the guide.


def parts_of(case: float = 90.0) -> list[testrunner.Part]:
    cases = {"00_how_a_case_works": 10.0, "01_demand_forecasting": case}
    return [testrunner.Part("house", 100.0, {}), testrunner.Part("cases", 0.0, cases)]


def minutes(parts, count: int) -> float:
    """Return the minutes in the last line of a projection."""
    return float(testrunner.projection(parts, count)[-1].split()[-1])


def test_a_case_to_come_costs_what_the_full_ones_do():
    assert parts_of()[1].at(0) == parts_of()[1].at(1) == 100.0
    assert parts_of()[1].at(22) == 100.0 + 21 * 90.0
    assert parts_of()[0].at(22) == 100.0
    three = {"00_guide": 10.0, "01_a": 50.0, "02_b": 70.0, "03_c": 60.0}
    assert testrunner.Part("cases", 5.0, three).at(0) == 195.0
    assert testrunner.Part("cases", 5.0, three).at(1) == 75.0  # a book of fewer than there are
    assert testrunner.Part("turns", 5.0, three, 2).at(1) == 65.0
    assert minutes(parts_of(), 22) == pytest.approx((200 + 21 * 90) / 120, abs=0.1)


def test_gate_a_case_twice_as_heavy_raises_the_projection():
    assert minutes(parts_of(180.0), 22) > minutes(parts_of(), 22) + 15


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Return a function that records what a checkout of two cases took."""

    def record(case: float):
        for name in ("00_how_a_case_works", "01_demand_forecasting"):
            (tmp_path / "chapters").mkdir(exist_ok=True)
            (tmp_path / "chapters" / f"{name}.ipynb").touch()
        (tmp_path / "tests").mkdir(exist_ok=True)
        (tmp_path / "tests" / "test_a.py").touch()
        seconds = {"tests/test_a.py": {"01_demand_forecasting": case, "house": 60.0}}
        text = testrunner.seed_text(seconds)
        (tmp_path / "tests" / "seconds.toml").write_text(text, encoding="utf-8")
        log = tmp_path / "_build" / "executed" / "log.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(json.dumps(asdict(run_of("chapters/01_demand_forecasting", "k"))) + "\n")
        (tmp_path / "_build" / "book.json").write_text('{"cpu_seconds": 40.0}')
        return tmp_path

    monkeypatch.setenv("CASEBOOK_BUILD_DIR", str(tmp_path / "_build"))
    return record


def test_the_projection_is_made_from_what_was_recorded(recorded, capsys):
    assert testrunner.project(recorded(100.0), 22) == 0
    by_name = {line[:28].strip(): line.split()[-3:] for line in capsys.readouterr().out.split("\n")}
    assert by_name["tests of cases"] == ["100", "2200", "100"]
    assert by_name["notebooks, executed once"] == ["2", "33", "2"]
    assert by_name["pages of the book"] == ["40", "460", "20"]


def test_gate_a_projection_over_the_hour_is_an_error(recorded, capsys):
    assert testrunner.project(recorded(400.0), 22) == 1
    assert "over the 60 of the whole course" in capsys.readouterr().out


def test_what_was_never_measured_is_named_with_the_command(recorded, capsys):
    root = recorded(100.0)
    (root / "_build" / "book.json").unlink()
    assert testrunner.project(root, 22) == 1
    assert "Run `make clean book`" in capsys.readouterr().out


def test_of_what_has_turns_a_run_holds_two_cases_and_one_file_of_the_house(recorded, capsys):
    root = recorded(100.0)
    seconds = {
        "tests/test_a.py": {"01_demand_forecasting": 5.0, "house": 60.0},
        "tests/test_b.py": {"house": 40.0},
        "tests/test_c.py": {"house": 20.0},
        "tests/test_d.py": {"01_demand_forecasting": 15.0, "house": 1.0},
    }
    (root / "tests" / "seconds.toml").write_text(testrunner.seed_text(seconds))
    for name in seconds:
        (root / name).touch()
    (root / "tests" / "test_d.py").write_text("rotation.turn(what, name, key, among)")
    table = '[files]\n"tests/test_b.py" = []\n"tests/test_c.py" = []\n'
    (root / "tests" / "turns.toml").write_text(table)
    assert testrunner.project(root, 22) == 0
    said = capsys.readouterr().out
    by_name = {line[:28].strip(): line.split()[-3:] for line in said.split("\n")}
    assert by_name["tests of no case"] == ["91", "91", "0"]  # 60 and 1, and one of 40 and 20
    assert by_name["tests of cases"] == ["5", "110", "5"]
    assert by_name["those of them in turns"] == ["15", "30", "15"]
    assert "none left out: 141 CPU s" in said


def run_of(name: str, key: str) -> execute.Run:
    return execute.Run(name, "a test", key, 1.5)


def test_a_notebook_may_be_executed_twice_with_the_same_code_and_data():
    runs = [run_of("chapters/01_a", "k"), run_of("chapters/01_a", "k")]
    runs += [run_of("chapters/01_a", "without data"), run_of("chapters/02_b", "k")]
    assert testrunner.too_often(runs) == []
    [line] = testrunner.too_often([*runs, run_of("chapters/01_a", "k")])
    assert line == "chapters/01_a was executed 3 times, at most 2 are needed"


# Runs of a small project, in processes of their own.

BURN = "import time\ndef burn(s):\n    end = time.process_time() + s\n"
BURN += "    while time.process_time() < end: pass\n"
CHILD = (
    "import subprocess, sys\ndef test_slow():\n    subprocess.run([sys.executable, '-c', {!r}])\n"
)
FAST = "def test_fast(): pass\n"
TWO = ("-p", "xdist", "-n", "2", "--dist", "loadfile")


@pytest.fixture
def project(pytester, build_folder, monkeypatch):
    """Return a project of two cases; the tests of the first cost a quarter of a CPU second."""
    places = [str(Path(testrunner.__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take seconds to import
    for name in ("01_slow_case", "02_fast_case"):
        place = pytester.path / "chapters" / f"{name}.ipynb"
        place.parent.mkdir(exist_ok=True)
        place.touch()
    write(pytester, "cases/test_slow_case_model.py", BURN + "def test_slow(): burn(0.25)\n")
    write(pytester, "cases/test_fast_case_model.py", FAST)
    write(pytester, "toolbox/test_toolbox.py", FAST)
    write(pytester, "test_house.py", FAST + "def test_again(): pass\n")
    strained(pytester, 1.0)
    return pytester


def strained(project, times: float) -> None:
    """Make the project's processes find the machine so many times slower than a quiet one."""
    text = f"import pace\n\npace.strain = lambda: {times}\n"
    (project.path / "conftest.py").write_text(text, encoding="utf-8")


def write(project, name: str, text: str) -> None:
    """Write a file of tests."""
    place = project.path / "tests" / name
    place.parent.mkdir(exist_ok=True, parents=True)
    place.write_text(text, encoding="utf-8")


def run(project, seconds: float, *options: str, exceptions: str = ""):
    """Run the project's tests with an allowance; return the exit code and what was printed."""
    allowance = project.path / "allowance.toml"
    allowance.write_text(f"seconds = {seconds}\n{exceptions}", encoding="utf-8")
    options = (
        "-p",
        "testrunner",
        "-p",
        "no:cacheprovider",
        "--allowance",
        str(allowance),
        *options,
    )
    done = project.runpytest_subprocess(*options, "tests")
    return done.ret, done.stdout.str() + done.stderr.str()


@pytest.mark.parametrize("workers", [(), TWO], ids=["alone", "two"])
def test_a_planted_slow_test_fails_the_run_over_twice_the_allowance(project, workers):
    code, text = run(project, 0.1, *workers)
    assert code == pytest.ExitCode.TESTS_FAILED, text
    assert "error: 01_slow_case: 0." in text and "over 2 times its 0.1" in text
    assert "02_fast_case" in text and "error: 02" not in text
    assert "5 passed" in text.splitlines()[-1]  # the closing line is the last


@pytest.mark.parametrize("workers", [(), TWO], ids=["alone", "two"])
def test_on_a_slow_machine_the_same_seconds_are_no_error(project, workers):
    strained(project, 20.0)
    code, text = run(project, 0.1, *workers)
    assert code == pytest.ExitCode.OK, text
    assert "warning: 01_slow_case: 0." in text
    assert "on a machine 20.0 times slower than a quiet one" in text


def test_between_once_and_twice_is_a_warning(project):
    code, text = run(project, 0.2)
    assert code == pytest.ExitCode.OK, text
    assert "warning: 01_slow_case: 0." in text


def test_a_process_that_a_test_starts_counts(project):
    write(project, "cases/test_slow_case_model.py", CHILD.format(BURN + "burn(0.25)"))
    code, text = run(project, 0.1)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "error: 01_slow_case: 0." in text


def test_an_exception_has_a_ceiling_and_says_since_when(project):
    ceiling = "[exceptions.01_slow_case]\nsince = 2026-11-28\nceiling = {}\n"
    code, text = run(project, 0.1, exceptions=ceiling.format(30))
    assert code == pytest.ExitCode.OK
    assert "exception since 2026-11-28: 30" in text
    assert "its exception of 30 may be lowered" in text
    code, text = run(project, 0.2, exceptions=ceiling.format(0.15))
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "over the 0.15 of its exception" in text


@pytest.mark.parametrize("workers", [(), TWO], ids=["alone", "two"])
def test_one_case_alone_and_what_was_left_out(project, workers):
    code, text = run(project, 9, "--case", "02", *workers)
    assert code == pytest.ExitCode.OK
    assert "1 passed" in text
    left_out = "house 2, tests/cases (files) 1, tests/toolbox (files) 1"
    assert f"left out, for `make test`: tests of {left_out}" in text


def test_a_planted_third_execution_since_the_start_fails_the_run(project):
    log = project.path / "_build" / "executed" / "log.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)

    def executed(times: int) -> None:
        with open(log, "a", encoding="utf-8") as file:
            file.write((json.dumps(asdict(run_of("chapters/01_slow_case", "k"))) + "\n") * times)

    executed(5)
    testrunner.begin(project.path)
    executed(2)
    code, text = run(project, 9)
    assert code == pytest.ExitCode.OK, text
    assert "chapters/01_slow_case: 2 for" in text
    executed(1)
    code, text = run(project, 9)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "error: chapters/01_slow_case was executed 3 times" in text


def test_a_case_that_there_is_not_is_an_error(project):
    code, text = run(project, 9, "--case", "07")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "no case '07'; there are 01_slow_case, 02_fast_case" in text


def test_files_run_in_the_order_of_their_last_seconds(project):
    names = ["cases/test_fast_case_model", "test_house", "cases/test_slow_case_model"]
    run(project, 9, "--seed-seconds")
    seed = (project.path / "tests" / "seconds.toml").read_text(encoding="utf-8")
    assert [line for line in seed.splitlines() if line.startswith('"tests/cases/test_slow')]
    _, text = run(project, 9, "-v")
    places = {name: text.index(f"tests/{name}.py::") for name in names}
    assert min(places, key=places.get) == "cases/test_slow_case_model"
    # A part of a file says nothing about its length.
    before = testrunner.read_seconds(project.path)
    run(project, 9, "-k", "again")
    assert testrunner.read_seconds(project.path) == before


COSTLY = ["tests/toolbox/test_toolbox.py", "tests/test_house.py"]


def test_what_a_check_took_is_not_forgotten_when_it_is_left_out(project):
    """The other checks of its file were measured anew."""
    name = "tests/cases/test_slow_case_model.py"
    text = f"import rotation\n{BURN}def test_slow():\n"
    text += "    with rotation.turn('slow', '01_a', 'key', ['01_b', '01_b']): burn(0.25)\n"
    write(project, "cases/test_slow_case_model.py", text)
    run(project, 9)
    before = testrunner.read_seconds(project.path)[name]
    assert before["01_slow_case"] >= 0.2
    assert "1 skipped" in run(project, 9)[1]
    assert testrunner.read_seconds(project.path)[name] == before


@pytest.fixture
def turned(project):
    """Return the project with two costly files, and the one of them whose turn it is not."""
    for pin in rotation.keys.PINS:
        (project.path / pin).write_text("a==1")
    lines = "".join(f'"{name}" = []\n' for name in COSTLY)
    write(project, "turns.toml", f"[files]\n{lines}")
    [waits] = {*COSTLY} - {rotation.chosen(COSTLY, rotation.FILE)}
    return project, waits.removeprefix("tests/")


@pytest.mark.parametrize("workers", [(), TWO], ids=["alone", "two"])
def test_a_costly_file_that_passed_is_left_out_until_it_changes(turned, workers):
    project, waits = turned
    count = 1 + waits.startswith("test_house")
    assert "5 passed" in run(project, 9, "--turns", *workers)[1]
    before = testrunner.read_seconds(project.path)
    code, text = run(project, 9, "--turns", *workers)
    assert code == pytest.ExitCode.OK, text
    assert f"{5 - count} passed, {count} skipped" in text
    assert testrunner.read_seconds(project.path)[f"tests/{waits}"] == before[f"tests/{waits}"]
    assert "5 passed" in run(project, 9, *workers)[1]  # who does not ask for turns gets all
    write(project, waits, FAST + "def test_again(): assert False\n")
    for _ in range(2):  # a failure is no pass
        code, text = run(project, 9, "--turns", *workers)
        assert code == pytest.ExitCode.TESTS_FAILED and "1 failed" in text


def test_a_part_of_a_costly_file_is_no_pass_of_it(turned):
    project, waits = turned
    write(project, waits, FAST + "def test_again(): pass\n")
    run(project, 9, "--turns", "-k", "fast")
    run(project, 9, "--turns", "--deselect", f"tests/{waits}::test_fast")
    assert "skipped" not in run(project, 9, "--turns")[1]
