"""A new case is small, whole and running, and not in order until it has been written."""

from __future__ import annotations

import json
import re
import shutil
import tomllib

import pytest
import tiny
import yaml
from tiny import ROOT

from casebook.author import content, files, scaffold
from casebook.author.__main__ import command_targets, main
from casebook.author.normalise import HEADINGS, LEAST_WORDS, faults
from casebook.author.scaffold import Case, create, unwritten

NAME = "02_sales_forecasting"
PATH = f"chapters/{NAME}.ipynb"
CASE = Case(NAME, "Sales for finance")


#: A case that the book will never have, for the copy of the whole checkout.
WHOLE = Case("97_bicycle_hire", "Bicycles for hire", part="Forecasting and logistics")
CONTENTS = {
    "format": "jb-book",
    "root": "book/index",
    "parts": [
        {"caption": caption, "chapters": [{"file": file} for file in listed]}
        for caption, listed in {
            "Start here": ["chapters/00_how_a_case_works", "book/paths"],
            "Forecasting and logistics": ["chapters/01_demand_forecasting"],
            "Trust and risk": ["chapters/12_card_fraud"],
            "Language-model systems": ["chapters/16_support_rag_chatbot"],
            "Practise": ["book/drill"],
            "For instructors": [
                f"book/instructors/{name}"
                for name in ("index", "01_demand_forecasting", "12_card_fraud")
            ],
            "Reference": ["book/glossary"],
        }.items()
    ],
}


@pytest.fixture
def root(checkout):
    """Return a checkout without notebooks and without the package: only files are written."""
    shutil.copytree(ROOT / "book" / "drill_prompts", checkout / "book" / "drill_prompts")
    (checkout / "_toc.yml").write_text(scaffold.contents_text(CONTENTS), encoding="utf-8")
    return checkout


def written(root):
    """Return the made chapter with some words under each heading."""
    notebook = files.read(root / PATH)
    for cell in notebook.cells:
        if cell.source.startswith("## "):
            cell.source += "\n\n" + "word " * LEAST_WORDS
        if cell.cell_type == "code":  # as if it had been run
            cell.metadata.pop("tags", None) if files.CHECK_TAG in files.tags(cell) else None
    return notebook


def in_order(notebook):
    """Return the faults of a chapter but those of cells that have not been run."""
    return [fault for fault in faults(notebook, PATH) if "stored output" not in fault]


def test_a_new_chapter_has_every_heading_and_each_is_called_empty(root):
    create(root, CASE)
    notebook = files.read(root / PATH)
    assert notebook.cells[0].source.startswith("# Sales for finance\n")
    found = "\n".join(in_order(notebook))
    for heading in HEADINGS:
        assert re.search(rf"the section '## {re.escape(heading)}' is empty: \d+ words", found)
    assert found.count("\n") + 1 == len(HEADINGS)


def test_each_heading_says_what_must_stand_under_it(root):
    create(root, CASE)
    comments = [c.source for c in files.read(root / PATH).cells if c.source.startswith("## ")]
    assert len(comments) == len(HEADINGS)
    assert all("<!-- To write: " in source for source in comments)


def test_a_chapter_whose_sections_are_written_is_in_order(root):
    create(root, CASE)
    assert in_order(written(root)) == []


@pytest.mark.parametrize(
    "instead",
    [
        "<!-- " + "later " * 40 + "-->",
        "```mermaid\nflowchart LR\naccTitle: a\naccDescr: b\n" + "a-->b\n" * 40 + "```",
    ],
)
def test_comments_and_diagrams_are_no_prose(root, instead):
    create(root, CASE)
    notebook = written(root)
    cell = next(c for c in notebook.cells if c.source.startswith("## Roadmap"))
    cell.source = f"## Roadmap\n\n{instead}"
    assert in_order(notebook) == ["the section '## Roadmap' is empty: 0 words"]


# Names, parts, groups -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "title", "more", "reason"),
    [
        ("sales", "Sales", [], "is not of the form"),
        (NAME, " ", [], "Give the chapter a title"),
        (NAME, "Sales\nand more", [], "a title of one line"),
        ("02_other", "Other", [], "taken by 02_sales_forecasting"),
        ("03_sales_forecasting", "Other", [], "casebook/cases/sales_forecasting"),
        ("03_2nd_case", "Other", [], "cannot be the name of a Python module"),
        ("03_class", "Other", [], "cannot be the name of a Python module"),
        ("03_other", "Other", ["No group"], "is not of the form `forecasting`"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(root, name, title, more, reason):
    create(root, CASE)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    given = Case(name, title, *more)
    with pytest.raises(ValueError, match=re.escape(reason)):
        create(root, given)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("path", sorted(CASE.paths().values()))
def test_no_file_is_overwritten(root, path):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("{}" if path.endswith("ipynb") else "mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"is there already|is taken by"):
        create(root, CASE)
    assert not (root / "data").exists() or path.startswith("data")
    assert (root / path).read_text(encoding="utf-8") in ("{}", "mine")


def test_the_command_refuses_in_a_sentence(tmp_path, capsys):
    for room in files.FOLDERS:
        (tmp_path / room).mkdir()
    assert main(["--root", str(tmp_path), "new", "sales", "Sales"]) == 1
    assert capsys.readouterr().out.startswith("not made    'sales' is not of the form")


def contents(root) -> dict[str, list[str]]:
    """Return the names of the files in each part of the contents."""
    parts = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    return {
        p["caption"]: [c["file"] for c in p["chapters"]]
        + [s["file"] for c in p["chapters"] for s in c.get("sections", [])]
        for p in parts
    }


def test_the_committed_contents_are_in_the_form_that_is_written():
    text = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert scaffold.contents_text(yaml.safe_load(text)) == text


def test_a_chapter_joins_its_part_after_those_before_it(root):
    create(root, CASE)
    now = contents(root)
    assert now["Forecasting and logistics"][:2] == ["chapters/01_demand_forecasting", PATH[:-6]]
    assert f"exercises/{NAME}" in now["Forecasting and logistics"]
    plans = now["For instructors"]
    assert plans[0] == "book/instructors/index"
    assert plans.index(f"book/instructors/{NAME}") == 2


def test_a_part_that_is_new_is_where_the_plan_of_the_book_has_it(root):
    for name in ("21_deployment_pipeline", "09_recommendations", "A_lead_scoring"):
        create(root, Case(name, "A title"))
    assert list(contents(root)) == [
        "Start here",
        "Forecasting and logistics",
        "Growth and marketplaces",
        "Trust and risk",
        "Language-model systems",
        "Platform",
        "Capstones",
        "Practise",
        "For instructors",
        "Reference",
    ]


def test_a_case_that_is_not_planned_comes_last_or_where_its_author_says(root):
    create(root, Case("77_queues", "Queues"))
    create(root, Case("78_lifts", "Lifts", part="Trust and risk"))
    now = contents(root)
    assert list(now)[list(now).index("Practise") - 1] == "More cases"
    assert now["More cases"][0] == "chapters/77_queues"
    assert "chapters/78_lifts" in now["Trust and risk"]


def test_a_capstone_is_an_exercise_without_a_chapter(root):
    changed = create(root, Case("A_lead_scoring", "Lead scoring"))
    assert "solutions/A_lead_scoring.ipynb" in changed
    assert not [path for path in changed if path.startswith(("chapters", "book"))]
    assert contents(root)["Capstones"] == ["exercises/A_lead_scoring"]


def test_a_group_is_added_once_and_in_order(root):
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    before = tomllib.loads(text)["project"]["optional-dependencies"]
    create(root, Case(NAME, "Sales", group="llm"))
    assert (root / "pyproject.toml").read_text(encoding="utf-8") == text
    create(root, Case("03_inventory_demand", "Stock", group="inventory"))
    after = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert after["project"]["optional-dependencies"] == before | {"inventory": ["rdata"]}
    assert list(after["project"]["optional-dependencies"]) == sorted({*before, "inventory"})
    assert after["tool"] == tomllib.loads(text)["tool"]


# Targets ------------------------------------------------------------------------------


ROW = {"metric": "WAPE", "data": "frozen", "verdict": "met", "peer": None, "oracle": 0.0}


def card(build_folder, *rows):
    """Write the scorecard of a run."""
    path = build_folder / "scorecards" / f"{NAME}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [ROW | {"baseline": 0.25, "model": 1 / 7} | row for row in rows]
    path.write_text(json.dumps({"rows": made}), encoding="utf-8")


@pytest.fixture
def accepted(root, build_folder):
    """Return what reads the accepted values of a checkout with the committed ones."""
    (root / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "targets.toml", root / "tests")
    return lambda: tomllib.loads((root / "tests" / "targets.toml").read_text(encoding="utf-8"))


def test_the_rows_of_a_scorecard_are_accepted_and_no_other_is_touched(root, build_folder, accepted):
    before = accepted()
    card(build_folder, {})
    assert scaffold.record_targets(root, NAME) == 1
    now = accepted()
    own = {"baseline": 0.25, "model": 0.1429, "tolerance": 0.05, "verdict": "met"}
    assert now.pop(NAME) == {"WAPE | frozen": own}
    assert now == before
    assert (root / "tests" / "targets.toml").read_text().startswith("# What the scorecards must")


def test_rows_are_replaced_and_keep_their_tolerance_and_data(root, build_folder, accepted):
    card(build_folder, {}, {"data": "old"})
    scaffold.record_targets(root, NAME)
    path = root / "tests" / "targets.toml"
    own = f'[{NAME}."WAPE | frozen"]\nbaseline = 0.25\nmodel = 0.1429\ntolerance = 0.05\n'
    tourism = f'[{NAME}."MASE | real"]\nmodel = 1.0\ntolerance = 0.1\nverdict = "met"\nreal = "x"\n'
    text = path.read_text(encoding="utf-8")
    assert own in text
    path.write_text(f"{text.replace(own, own.replace('0.05', '0.2'))}\n{tourism}", encoding="utf-8")
    card(build_folder, {"model": 0.5, "verdict": "missed"})
    scaffold.record_targets(root, NAME)
    rows = accepted()[NAME]
    assert set(rows) == {"WAPE | frozen", "MASE | real"}  # no run without the data drops a row
    assert (rows["WAPE | frozen"]["tolerance"], rows["WAPE | frozen"]["model"]) == (0.2, 0.5)
    assert rows["WAPE | frozen"]["verdict"] == "missed"
    assert rows["MASE | real"]["real"] == "x"


def test_without_a_run_nothing_is_accepted(root, accepted, capsys):
    create(root, CASE)
    assert command_targets(root, "02") == 1
    assert "run `make chapter N=02`" in capsys.readouterr().out
    assert command_targets(root, "98") == 1
    assert "No notebook '98'" in capsys.readouterr().out


# The whole case, in a copy of the checkout ---------------------------------------------


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Return a copy of the checkout with a new case."""
    root = tiny.copy_of_the_checkout(tmp_path_factory.mktemp("course") / "checkout")
    done = tool(root, "new", WHOLE.name, WHOLE.title, "--part", WHOLE.part)
    assert done.returncode == 0, done.stdout
    return root, done.stdout


def tool(root, *arguments):
    """Run the notebook tools of a copy, with its own package."""
    return tiny.run("casebook.author", *arguments, cwd=root, PYTHONPATH=str(root))


def pytest_of(root, *arguments):
    """Run tests of a copy, with its own package."""
    options = ("-q", "-p", "no:cacheprovider", "--no-header", *arguments)
    return tiny.run("pytest", *options, cwd=root, PYTHONPATH=str(root))


def left(root) -> list[str]:
    """Return what `check` says."""
    return tiny.lines(tool(root, "check"))


def test_it_says_what_it_wrote_and_what_is_to_be_written(course):
    root, said = course
    for path in WHOLE.paths().values():
        assert f"written     {path}\n" in said
        assert (root / path).is_file()
    assert f"generated   exercises/{WHOLE.name}.ipynb" in said
    assert f"to write    {len(unwritten(root, WHOLE.name))} comments" in said


def test_check_names_nothing_but_what_is_to_be_written(course):
    said = left(course[0])
    empty = [line for line in said if "is empty: " in line]
    to_write = [line for line in said if ": to write: " in line]
    assert sorted(empty + to_write) == sorted(said)
    assert len(empty) == len(HEADINGS)
    for room in (
        f"chapters/{WHOLE.name}.ipynb",
        f"solutions/{WHOLE.name}.ipynb",
        "questions.py",
        "world.py",
        "README.md",
    ):
        assert any(room in line for line in to_write), room


def test_ruff_finds_nothing_in_a_new_case(course):
    root, _ = course
    for command in (["check"], ["format", "--check"]):
        done = tiny.run("ruff", *command, *WHOLE.paths().values(), cwd=root)
        if command == ["check"]:
            assert done.returncode == 0, done.stdout
        else:
            assert "would be reformatted" not in done.stdout


def test_a_new_case_passes_its_tests_and_imports_run_one_way(course):
    world = f"tests/cases/test_{WHOLE.module}_world.py"
    done = pytest_of(
        course[0], world, "tests/toolbox/test_project.py", "-k", f"{WHOLE.module} or world"
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b(\d\d+) passed", done.stdout)


def test_the_exercise_keeps_its_contract_and_the_plan_holds(course):
    """The same tests as for every case: solution, stub, five students, names, ninety minutes."""
    rooms = ("contract", "declared_contract", "exercises", "instructors")
    paths = [f"tests/notebooks/test_{room}.py" for room in rooms]
    done = pytest_of(course[0], *paths, "-rs", "-k", f"{WHOLE.name} or every_full_chapter")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b14 passed, 1 skipped", done.stdout), done.stdout
    assert "it is still being written" in done.stdout


def test_its_group_and_its_packages_are_known(course):
    root, _ = course
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["bicycle-hire"] == ["rdata"]
    done = pytest_of(root, "tests/install/test_environment.py", "-k", f"group and {WHOLE.name}")
    assert re.search(r"\b2 passed", done.stdout), done.stdout
    code = "import setuptools; print(setuptools.find_packages(include=['casebook.*']))"
    done = tiny.shell(tiny.sys.executable, "-c", code, cwd=root)
    assert f"casebook.cases.{WHOLE.module}" in done.stdout


def test_a_reader_stumbles_over_nothing_new(course):
    root, _ = course
    grown = content.grown(content.counts(content.findings(root)), content.read_baseline(root))
    assert [line for line in grown if WHOLE.name in line] == []


def test_the_snapshots_of_one_case_are_written_alone(course):
    root, _ = course
    done = tiny.run("casebook.cases", "97", cwd=root, PYTHONPATH=str(root))
    assert done.returncode == 0, done.stdout
    assert {line.split()[1].split("/")[0] for line in tiny.lines(done)} == {WHOLE.name}
    assert tiny.run("casebook.cases", "98", cwd=root, PYTHONPATH=str(root)).returncode == 1


def test_a_second_case_of_the_same_number_is_refused(course):
    root, _ = course
    before = sorted(path.name for path in (root / "casebook" / "cases").iterdir())
    done = tool(root, "new", "97_other", "Other")
    assert (done.returncode, "taken by" in done.stdout) == (1, True)
    assert sorted(path.name for path in (root / "casebook" / "cases").iterdir()) == before


def test_when_everything_is_written_check_is_green(course, tmp_path):
    """And each comment that is left is named: the planted fault is the last one."""
    root = tmp_path / "checkout"
    shutil.copytree(course[0], root)
    comment = re.compile(r"<!-- To write:.*?-->|^.*To write:.*$", flags=re.M)
    for path in WHOLE.paths().values():
        if not path.endswith(".ipynb"):
            text = (root / path).read_text(encoding="utf-8")
            (root / path).write_text(comment.sub("", text), encoding="utf-8")
            continue
        notebook = files.read(root / path)
        for cell in notebook.cells:
            cell.source = comment.sub("", cell.source)
            if cell.source.startswith("## "):
                cell.source += "\n\n" + "word " * LEAST_WORDS
        files.write(notebook, root / path)
    assert tool(root, "normalise").returncode == 0
    assert tool(root, "exercises").returncode == 0
    assert unwritten(root, WHOLE.name) == []
    assert left(root) == [f"{len(files.notebooks(root=root))} notebooks are in order"]
    card = root / "data" / WHOLE.name / "README.md"
    card.write_text(f"{card.read_text()}\n<!-- To write: the licence -->\n")
    assert left(root) == [f"data/{WHOLE.name}/README.md: to write: the licence"]
