"""A new case in a copy of the checkout: it is green, but for what is to be written."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pace
import pytest
import tiny
from tiny import content, text

from casebook.author import content as content_checks
from casebook.author import files
from casebook.author.normalise import HEADINGS, LEAST_WORDS
from casebook.author.scaffold import Case, create
from casebook.author.unwritten import unwritten

#: A case that the book will never have.
WHOLE = Case("97_bicycle_hire", "Bicycles for hire", part="Forecasting and logistics")
#: Tests as for every case: its own, the house, contract, students, plan, group of packages.
AS_FOR_EVERY_CASE = (
    f"tests/cases/test_{WHOLE.module}_world.py",
    f"tests/cases/test_{WHOLE.module}_benchmarks.py",
    "tests/toolbox/test_project.py",
    "tests/notebooks/test_contract.py",
    "tests/notebooks/test_declared_contract.py",
    "tests/notebooks/test_exercises.py",
    "tests/notebooks/test_instructors.py",
    "tests/install/test_environment.py",
)


def run(root, *arguments):
    """Run a Python module in a copy, with the package of the copy; compile it once."""
    own = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": ""}
    return tiny.run(*arguments, cwd=root, **own)


def alone(root) -> None:
    """Take the notebooks, plans and data of all cases but 00 out of a copy of the checkout."""
    for room in ("chapters", "solutions", "exercises", "book/instructors", "data"):
        for path in (root / room).glob("*[0-9][0-9]*"):
            if not path.name.startswith("00_"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def killed(root) -> tuple[int, dict[str, bytes]]:
    """Kill `make new` while it makes a case; return its exit code, and what it leaves."""
    arguments = ("-m", "casebook.author", "new", WHOLE.name, WHOLE.title, "--part", WHOLE.part)
    env = {**tiny.os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen([tiny.sys.executable, *arguments], cwd=root, env=env)
    with pace.waiting("the files of a new case", 30) as seconds:
        end = time.monotonic() + seconds
        while not list((root / "_build" / "new").glob(".*/made/solutions/*.ipynb")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    return process.wait(), content(root)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Return a copy of the checkout with a new case, made after a run that was killed."""
    root = tiny.copy_of_the_checkout(tmp_path_factory.mktemp("course") / "checkout")
    alone(root)
    before = content(root)
    assert killed(root) == (-signal.SIGKILL, before)
    done = run(root, "casebook.author", "new", WHOLE.name, WHOLE.title, "--part", WHOLE.part)
    assert done.returncode == 0, done.stdout
    assert list((root / "_build" / "new").iterdir()) == []
    assert not (root / "_build" / "executed").exists()  # no notebook has been run
    return root, done.stdout


@pytest.fixture(scope="module")
def tested(course) -> Counter:
    """Return how many tests of a new case ended how, by file."""
    root, report = course[0], course[0] / "_build" / "report.xml"
    chosen = f"{WHOLE.module} or every_full_chapter"
    options = ("-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-k", chosen)
    done = run(root, "pytest", *options, *AS_FOR_EVERY_CASE)
    assert done.returncode == 0, done.stdout
    found = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        how = "skipped" if case.find("skipped") is not None else "passed"
        found[case.get("classname").split(".")[-1], how] += 1
    return found


def left(root) -> list[str]:
    """Return what `check` says."""
    return tiny.lines(run(root, "casebook.author", "check"))


def test_it_says_what_it_wrote_and_what_is_to_be_written(course):
    root, said = course
    for path in (*WHOLE.paths().values(), f"exercises/{WHOLE.name}.ipynb", "tests/targets.toml"):
        assert f"written     {path}\n" in said
        assert (root / path).is_file()
    assert f"to write    {len(unwritten(root, WHOLE.name))} places" in said
    assert f"next        casebook/cases/{WHOLE.module}/world.py and its tests" in said


def test_check_names_nothing_but_what_is_to_be_written(course):
    said = left(course[0])
    empty = [line for line in said if "is empty: " in line]
    to_write = [line for line in said if ": to write: " in line]
    assert sorted(empty + to_write) == sorted(said)
    assert len(empty) == len(HEADINGS)
    for room in (
        *(f"chapters/{WHOLE.name}.ipynb", f"solutions/{WHOLE.name}.ipynb", "questions.py"),
        *("world.py", "README.md", "handout_97.md", "pyproject.toml", "tests/targets.toml"),
    ):
        assert any(room in line for line in to_write), room


def test_ruff_finds_nothing_in_a_new_case(course):
    for command_line in (["check"], ["format", "--check"]):
        paths = [path for path in WHOLE.paths().values() if not path.endswith(".md")]
        done = run(course[0], "ruff", *command_line, *paths)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "least"),
    [
        ("test_bicycle_hire_world", 15),
        ("test_bicycle_hire_benchmarks", 2),
        ("test_project", 5),
        ("test_contract", 2),
        ("test_declared_contract", 3),
        ("test_exercises", 1),
        ("test_instructors", 4),
        ("test_environment", 2),
    ],
)
def test_a_new_case_passes_its_tests_and_those_of_every_case(tested, file, least):
    """Solution, stub, five students, names, ninety minutes, imports that run one way."""
    assert tested[file, "passed"] >= least
    # It has one question, and is told to have four only when it is written.
    assert tested[file, "skipped"] == (file == "test_contract")


def test_what_its_cells_show_is_what_a_run_shows(course, tested):
    """The tests above have run both notebooks; nothing is run again."""
    root = course[0]
    done = run(root, "casebook.author", "nbval", WHOLE.number)
    assert done.returncode == 0, f"`python -m casebook.author template` renews it\n{done.stdout}"
    assert re.search(r"\b18 passed", done.stdout), done.stdout


def test_its_group_and_its_packages_are_known(course):
    root = course[0]
    project = tomllib.loads(text(root, "pyproject.toml"))["project"]
    assert project["optional-dependencies"]["bicycle-hire"] == ["rdata"]
    code = "import setuptools; print(setuptools.find_packages(include=['casebook.*']))"
    done = tiny.shell(tiny.sys.executable, "-c", code, cwd=root)
    assert f"casebook.cases.{WHOLE.module}" in done.stdout


def test_a_reader_stumbles_over_nothing_new(course):
    found = [f for f in content_checks.findings(course[0]) if WHOLE.name in f.document]
    assert [f for f in found if f.check in content_checks.ERRORS] == []
    assert content_checks.grown(content_checks.counts(found), {}) == []


def test_the_snapshots_of_one_case_are_written_alone(course):
    code = "from casebook.cases.__main__ import main; print(main(['97']), main(['98']))"
    own = {"PYTHONPATH": str(course[0])}
    said = tiny.lines(tiny.shell(tiny.sys.executable, "-c", code, cwd=course[0], **own))
    assert {line.split()[1].split("/")[0] for line in said[:-2]} == {WHOLE.name}
    assert said[-2:] == ["no case has the number 98", "0 1"]


def test_a_second_case_of_the_same_number_is_refused(course):
    root = course[0]
    before = content(root)
    with pytest.raises(ValueError, match="taken by 97_bicycle_hire"):
        create(root, Case("97_other", "Other"))
    assert content(root) == before


def write_everything(root) -> None:
    """Take the marks out of a case, give its sections words and its targets other values."""
    mark = re.compile(r"<!-- To write:.*?-->|^# To write:.*\n|^.*To write:.*$", flags=re.M)
    for path in (*WHOLE.paths().values(), "pyproject.toml", "tests/targets.toml"):
        if not path.endswith(".ipynb"):
            source = text(root, path).replace(
                " # To write: the other packages that the case imports", ""
            )
            source = mark.sub("", source)
            if path == "tests/targets.toml":
                source = re.sub(rf"(\[{WHOLE.name}.*\n)", r"\1note = 1\n", source)
            (root / path).write_text(source, encoding="utf-8")
            continue
        notebook = files.read(root / path)
        for cell in notebook.cells:
            cell.source = mark.sub("", cell.source)
            if cell.source.startswith("## "):
                cell.source += "\n\n" + "word " * LEAST_WORDS
        files.write(notebook, root / path)


def test_when_everything_is_written_check_is_green(course, tmp_path):
    """And each comment that is left is named: the planted fault is the last one."""
    root = tmp_path / "checkout"
    shutil.copytree(course[0], root)
    write_everything(root)
    assert unwritten(root, WHOLE.name) == []
    code = "from casebook.author.__main__ import main; [main([c]) for c in {!r}]"
    commands = ("normalise", "exercises", "check")
    own = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": ""}
    done = tiny.shell(tiny.sys.executable, "-c", code.format(commands), cwd=root, **own)
    assert tiny.lines(done)[-1] == f"{len(files.notebooks(root=root))} notebooks are in order"
    card = root / "data" / WHOLE.name / "README.md"
    card.write_text(f"{card.read_text()}\n<!-- To write: the licence -->\n")
    assert unwritten(root, WHOLE.name) == [f"data/{WHOLE.name}/README.md: to write: the licence"]
