"""A new case is small, whole and running, and not in order until it has been written."""

from __future__ import annotations

import json
import re
import shutil
import tomllib

import pytest
import tiny
import yaml
from tiny import ROOT, content, text

from casebook.author import __main__ as command
from casebook.author import entries, files, scaffold
from casebook.author.normalise import HEADINGS, LEAST_WORDS, faults
from casebook.author.scaffold import Case, create
from casebook.author.unwritten import unwritten

NAME = "02_sales_forecasting"
PATH = f"chapters/{NAME}.ipynb"
CASE = Case(NAME, "Sales for finance")
PARTS = {
    "Start here": ["chapters/00_how_a_case_works", "book/paths"],
    "Forecasting and logistics": ["chapters/01_demand_forecasting", "chapters/04_delivery_eta"],
    "Trust and risk": ["chapters/12_card_fraud"],
    "Language-model systems": ["chapters/16_support_rag_chatbot"],
    "Practise": ["book/drill"],
    "For instructors": [
        f"book/instructors/{name}"
        for name in (
            *("index", "handout_01", "01_demand_forecasting", "handout_04", "04_delivery_eta"),
            *("12_card_fraud", "16_support_rag_chatbot"),
        )
    ],
    "Reference": ["book/glossary"],
}
CONTENTS = "format: jb-book\nroot: book/index\nparts:\n" + "".join(
    f"  - caption: {caption}\n    chapters:\n" + "".join(f"      - file: {f}\n" for f in listed)
    for caption, listed in PARTS.items()
)


@pytest.fixture
def root(checkout):
    """Return a checkout without notebooks and without the package: only files are written."""
    shutil.copytree(ROOT / "book" / "drill_prompts", checkout / "book" / "drill_prompts")
    (checkout / "_toc.yml").write_text(CONTENTS, encoding="utf-8")
    (checkout / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "targets.toml", checkout / "tests")
    return checkout


def added(before: str, after: str) -> list[str]:
    """Return the lines that were added to a text; fail if one was changed, moved or taken away."""
    left, new = before.splitlines(), []
    for line in after.splitlines():
        left.pop(0) if left and left[0] == line else new.append(line)
    assert left == []
    return new


def written(root):
    """Return the made chapter with some words under each heading."""
    notebook = files.read(root / PATH)
    for cell in notebook.cells:
        if cell.source.startswith("## "):
            cell.source += "\n\n" + "word " * LEAST_WORDS
    return notebook


def test_a_new_chapter_has_every_heading_and_each_is_called_empty(root):
    create(root, CASE)
    notebook = files.read(root / PATH)
    assert notebook.cells[0].source.startswith("# Sales for finance\n")
    found = "\n".join(faults(notebook, PATH))
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
    assert faults(written(root), PATH) == []


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
    assert faults(notebook, PATH) == ["the section '## Roadmap' is empty: 0 words"]


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
    before = content(root)
    given = Case(name, title, *more)
    with pytest.raises(ValueError, match=re.escape(reason)):
        create(root, given)
    assert content(root) == before


@pytest.mark.parametrize("path", [*sorted(CASE.paths().values()), f"exercises/{NAME}.ipynb"])
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
    assert command.main(["--root", str(tmp_path), "new", "sales", "Sales"]) == 1
    assert capsys.readouterr().out.startswith("not made    'sales' is not of the form")


def contents(root) -> dict[str, list[str]]:
    """Return the names of the files in each part of the contents."""
    parts = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    return {
        p["caption"]: [c["file"] for c in p["chapters"]]
        + [s["file"] for c in p["chapters"] for s in c.get("sections", [])]
        for p in parts
    }


def test_a_chapter_joins_its_part_and_no_handout_is_torn_from_its_plan(root):
    create(root, CASE)
    assert added(CONTENTS, text(root, "_toc.yml")) == [
        f"      - file: chapters/{NAME}",
        "        sections:",
        f"          - file: exercises/{NAME}",
        "      - file: book/instructors/handout_02",
        f"      - file: book/instructors/{NAME}",
    ]
    now = contents(root)
    assert now["Forecasting and logistics"][1] == PATH[:-6]
    assert now["For instructors"][1:7] == [
        *("book/instructors/handout_01", "book/instructors/01_demand_forecasting"),
        *("book/instructors/handout_02", f"book/instructors/{NAME}"),
        *("book/instructors/handout_04", "book/instructors/04_delivery_eta"),
    ]


def test_the_committed_contents_take_a_new_case():
    """They have the form in which lines can be placed."""
    before, planned = text(ROOT, "_toc.yml"), entries.planned_parts(ROOT)
    after = entries.with_case(before, "98_lifts", "", planned)
    assert len(added(before, after)) == 7
    assert entries.with_case(after, "98_lifts", "", planned) == after


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
    targets = text(root, "tests/targets.toml")
    changed = create(root, Case("A_lead_scoring", "Lead scoring"))
    assert text(root, "tests/targets.toml") == targets
    assert "solutions/A_lead_scoring.ipynb" in changed
    assert not [path for path in changed if path.startswith(("chapters", "book"))]
    assert contents(root)["Capstones"] == ["exercises/A_lead_scoring"]


def test_a_group_is_added_once_and_no_other_is_touched(root):
    before = text(root, "pyproject.toml")
    create(root, Case(NAME, "Sales", group="llm"))
    assert text(root, "pyproject.toml") == before
    create(root, Case("03_inventory_demand", "Stock", group="inventory"))
    create(root, Case("13_ad_clicks", "Clicks"))
    after = text(root, "pyproject.toml")
    assert [line.split(" #")[0] for line in added(before, after)] == [
        'ad-clicks = ["rdata"]',
        'inventory = ["rdata"]',
    ]
    assert after.index("\ninventory = ") < after.index("\nllm = ")
    assert entries.group_text(after, "llm").startswith('llm = [\n    "httpx",\n')


def test_check_says_that_packages_are_to_be_added(root):
    create(root, CASE)
    [said] = [line for line in unwritten(root, NAME) if line.startswith("pyproject.toml")]
    assert said.endswith("'sales-forecasting': to write: the other packages that the case imports")
    project = text(root, "pyproject.toml").replace(f" # {scaffold.MARK}", " #")
    (root / "pyproject.toml").write_text(project, encoding="utf-8")
    assert not [line for line in unwritten(root, NAME) if line.startswith("pyproject.toml")]


# What a new case teaches by its own example ---------------------------------------------


def test_a_plan_has_its_handout(root):
    changed = create(root, CASE)
    assert "book/instructors/handout_02.md" in changed
    assert "(handout_02.md)" in text(root, f"book/instructors/{NAME}.md")
    assert f"({NAME}.md)" in text(root, "book/instructors/handout_02.md")


@pytest.mark.parametrize("room", ["chapters", "solutions"])
def test_cells_that_are_hidden_are_forms_on_colab_and_lines_fit_the_page(root, room):
    create(root, CASE)
    cells = [c for c in files.read(root / room / f"{NAME}.ipynb").cells if c.cell_type == "code"]
    hidden = [cell for cell in cells if "hide-input" in files.tags(cell)]
    assert "set-up" in [cell.id for cell in hidden]
    assert {cell.metadata.get("cellView") for cell in hidden} == {"form"}
    lines = [line for c in cells if c.id != "colab-set-up" for line in c.source.split("\n")]
    assert [line for line in lines if len(line) > 80] == []


def test_code_that_only_shows_stands_in_cells_of_its_own(root):
    create(root, CASE)
    cells = [cell for cell in files.read(root / PATH).cells if cell.cell_type == "code"]
    shows = [cell for cell in cells if re.search(r"^(claim|figures\.\w+)\(", cell.source, re.M)]
    assert len(shows) >= 5
    assert all("hide-input" in files.tags(cell) for cell in shows)


def test_worlds_of_questions_are_not_kept_for_every_student(root):
    create(root, CASE)
    source = text(root, "casebook/cases/sales_forecasting/questions.py")
    assert "@lru_cache(maxsize=1)" in source
    assert not re.search(r"@(functools\.)?cache\b|maxsize=None", source)


# Cut off ---------------------------------------------------------------------------------


def test_who_is_cut_off_before_the_case_is_whole_has_nothing(root, monkeypatch, capsys):
    before = content(root)

    def interrupted(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scaffold, "_make", interrupted)
        assert command.command_new(root, CASE) == 130
    assert "run the same command again" in capsys.readouterr().out
    assert content(root) == before
    assert list((root / "_build" / "new").iterdir()) == []
    assert command.command_new(root, CASE) == 0


def test_a_template_whose_code_fails_leaves_nothing(root, capsys):
    (root / "casebook").mkdir()
    (root / "casebook" / "__init__.py").write_text("1 / 0\n", encoding="utf-8")
    before = content(root)
    assert command.command_new(root, CASE) == 1
    said = capsys.readouterr().out
    assert said.startswith("not made    the code of the template failed, and nothing was written:")
    assert "ZeroDivisionError" in said
    assert content(root) == before


def test_contents_in_another_form_are_refused_before_anything_is_written(root):
    (root / "_toc.yml").write_text(CONTENTS.replace("\n  ", "\n    "), encoding="utf-8")
    before = content(root)
    with pytest.raises(ValueError, match="not indented as it was"):
        create(root, CASE)
    assert content(root) == before


def put_in_place(root, monkeypatch, most: int) -> int:
    """Start a case that is cut off after some of its files; return how many were written."""
    place, written = scaffold.write_whole, []

    def write(path, given):
        if "_build" not in path.parts:
            if len(written) == most:
                raise KeyboardInterrupt
            written.append(path)
        place(path, given)

    with monkeypatch.context() as patch:
        patch.setattr(scaffold, "write_whole", write)
        try:
            create(root, CASE)
        except KeyboardInterrupt:
            return len(written)
    return -1


def test_who_is_cut_off_while_it_is_put_in_place_completes_it(root, monkeypatch, tmp_path):
    empty, whole = tmp_path / "empty", tmp_path / "whole"
    shutil.copytree(root, empty)
    shutil.copytree(root, whole)
    create(whole, CASE)
    expected = content(whole)
    for most in range(len(CASE.paths()) + 3):
        half = tmp_path / f"half-{most}"
        shutil.copytree(empty, half)
        assert put_in_place(half, monkeypatch, most) == most
        assert content(half) != expected
        create(half, CASE)
        assert content(half) == expected
        with pytest.raises(ValueError, match="is taken by"):
            create(half, CASE)


def test_what_was_written_since_is_not_replaced(root, monkeypatch):
    assert put_in_place(root, monkeypatch, 6) == 6
    path = root / "casebook" / "cases" / CASE.module / "__init__.py"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r'with other options: .*"Sales for finance"'):
        create(root, Case(NAME, "Another title"))
    create(root, CASE)
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_folder_with_nothing_but_compiled_code_is_no_case(root):
    compiled = root / "casebook" / "cases" / CASE.module / "__pycache__" / "world.cpython-311.pyc"
    compiled.parent.mkdir(parents=True)
    compiled.write_bytes(b"")
    create(root, CASE)


# Two cases at a time ---------------------------------------------------------------------

LISTS = {"_toc.yml", "pyproject.toml", "tests/targets.toml"}


def git(root, *arguments: str):
    name = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    return tiny.shell("git", *name, *arguments, cwd=root)


def merged(root, *cases: Case) -> set[str]:
    """Make each case on a branch of its own; merge them, and return the files in conflict."""
    git(root, "init", "-q", "-b", "main")
    (root / ".gitignore").write_text("/_build/\n", encoding="utf-8")
    git(root, "add", ".")
    git(root, "commit", "-qm", "Before")
    for case in cases:
        git(root, "checkout", "-q", "-b", case.module, "main")
        create(root, case)
        git(root, "add", ".")
        git(root, "commit", "-qm", case.name)
    git(root, "checkout", "-q", "main")
    for case in cases:
        done = git(root, "merge", "-q", case.module)
    assert (done.returncode == 0) == (git(root, "status", "--porcelain").stdout == "")
    return set(git(root, "diff", "--name-only", "--diff-filter=U").stdout.split())


def test_two_cases_of_two_parts_merge_without_a_conflict(root):
    before = text(root, "_toc.yml")
    churn, gateway = Case("07_subscription_churn", "Churn"), Case("20_llm_gateway", "Gateway")
    assert merged(root, churn, gateway) == set()
    listed = contents(root)
    for case in (churn, gateway):
        assert any(f"exercises/{case.name}" in files for files in listed.values())
    assert len(added(before, text(root, "_toc.yml"))) == 12
    groups = tomllib.loads(text(root, "pyproject.toml"))["project"]["optional-dependencies"]
    assert groups["subscription-churn"] == groups["llm-gateway"] == ["rdata"]
    assert {churn.name, gateway.name} <= tomllib.loads(text(root, "tests/targets.toml")).keys()


def test_two_neighbours_meet_in_lists_alone_and_both_are_kept(root):
    """Their lines stand side by side, and that is all there is to mend."""
    neighbours = Case("02_sales_forecasting", "Sales"), Case("03_sales_plans", "Plans")
    assert merged(root, *neighbours) <= LISTS
    for name in ("_toc.yml", "pyproject.toml"):
        kept = re.sub(r"^(<<<<<<<|=======|>>>>>>>).*\n", "", text(root, name), flags=re.M)
        (root / name).write_text(kept, encoding="utf-8")
    listed = contents(root)
    for case in neighbours:
        assert f"exercises/{case.name}" in listed["Forecasting and logistics"]
        assert f"book/instructors/handout_{case.number}" in listed["For instructors"]
    groups = tomllib.loads(text(root, "pyproject.toml"))["project"]["optional-dependencies"]
    assert groups["sales-forecasting"] == groups["sales-plans"] == ["rdata"]


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
    return lambda: tomllib.loads(text(root, "tests/targets.toml"))


def test_the_rows_of_a_scorecard_are_accepted_and_no_other_is_touched(root, build_folder, accepted):
    before = accepted()
    card(build_folder, {})
    assert entries.record_targets(root, NAME) == 1
    now = accepted()
    own = {"baseline": 0.25, "model": 0.1429, "tolerance": 0.05, "verdict": "met"}
    assert now.pop(NAME) == {"WAPE | frozen": own}
    assert now == before
    assert (root / "tests" / "targets.toml").read_text().startswith("# What the scorecards must")


def test_rows_are_replaced_and_keep_their_tolerance_and_data(root, build_folder, accepted):
    card(build_folder, {}, {"data": "old"})
    entries.record_targets(root, NAME)
    path = root / "tests" / "targets.toml"
    own = f'[{NAME}."WAPE | frozen"]\nbaseline = 0.25\nmodel = 0.1429\ntolerance = 0.05\n'
    tourism = f'[{NAME}."MASE | real"]\nmodel = 1.0\ntolerance = 0.1\nverdict = "met"\nreal = "x"\n'
    rows = text(root, "tests/targets.toml")
    assert own in rows
    path.write_text(f"{rows.replace(own, own.replace('0.05', '0.2'))}\n{tourism}", encoding="utf-8")
    card(build_folder, {"model": 0.5, "verdict": "missed"})
    entries.record_targets(root, NAME)
    rows = accepted()[NAME]
    assert set(rows) == {"WAPE | frozen", "MASE | real"}  # no run without the data drops a row
    assert (rows["WAPE | frozen"]["tolerance"], rows["WAPE | frozen"]["model"]) == (0.2, 0.5)
    assert rows["WAPE | frozen"]["verdict"] == "missed"
    assert rows["MASE | real"]["real"] == "x"


def test_without_a_run_nothing_is_accepted(root, accepted, capsys):
    create(root, CASE)
    assert command.command_targets(root, "02") == 1
    assert "run `make chapter N=02`" in capsys.readouterr().out
    assert command.command_targets(root, "98") == 1
    assert "No notebook '98'" in capsys.readouterr().out


def test_check_says_so_until_the_rows_of_the_template_are_replaced(root, build_folder, accepted):
    before = text(root, "tests/targets.toml")
    create(root, CASE)
    added(before, text(root, "tests/targets.toml"))
    assert len(accepted()[NAME]) == 2
    [said] = [line for line in unwritten(root, NAME) if line.startswith("tests/targets.toml")]
    assert "targets of your own chapter, by `make targets N=02`, in place of " in said
    assert "'share of the gap closed | 15 worlds', 'WAPE | frozen world'" in said
    card(build_folder, {"data": "frozen world"})
    entries.record_targets(root, NAME)
    assert not [line for line in unwritten(root, NAME) if line.startswith("tests/targets.toml")]
    card(build_folder, *scaffold.stored()["rows"])
    entries.record_targets(root, NAME)  # the template once more, by a run of its page
    assert [line for line in unwritten(root, NAME) if line.startswith("tests/targets.toml")]
