"""The committed form of a notebook: each rule finds its fault, normalising mends what it can."""

from __future__ import annotations

import copy
import json

import pytest
import tiny
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from tiny import ROOT, checked, code, prose

from casebook.author import files
from casebook.author.__main__ import main
from casebook.author.normalise import HEADINGS, KERNEL, LEAST_WORDS, faults, normalise

PATH = "chapters/00_tiny.ipynb"
CASE = "00_how_a_case_works.ipynb"


@pytest.fixture
def tidy():
    """Return a notebook in order: cells 0 to 2 are the title and the launch cells."""
    return tiny.notebook(
        prose("intro", "Some prose."),
        code("count", "n = 3"),
        checked("shown", "print(n)", shows="3\n"),
    )


# Each fault alone, by the position of its cell.


def change(index: int, **changes):
    """Return a function that changes fields of one cell."""
    return lambda notebook: notebook.cells[index].update(changes)


def with_metadata(index: int | None, **changes):
    """Return a function that changes the metadata of a cell, or of the notebook."""
    return lambda notebook: (notebook if index is None else notebook.cells[index]).metadata.update(
        changes
    )


def without(index: int):
    return lambda notebook: notebook.cells.pop(index)


ERROR = new_output("error", ename="ValueError", evalue="no", traceback=[])
PRINTED = new_output("stream", name="stdout", text="3\n")
FAULTS = {
    "no title": (
        change(0, source="Tiny"),
        "the first cell is not Markdown that starts with a title ('# …')",
    ),
    "a comment for a title": (
        lambda notebook: notebook.cells.__setitem__(0, new_code_cell("# Tiny", id="title")),
        "the first cell is not Markdown that starts with a title ('# …')",
    ),
    "another kernel": (
        with_metadata(None, kernelspec={"name": "mine"}),
        f"the kernel is {{'name': 'mine'}}, not {KERNEL}",
    ),
    "no kernel": (
        lambda notebook: notebook.metadata.pop("kernelspec"),
        f"the kernel is None, not {KERNEL}",
    ),
    "metadata of an editor": (
        with_metadata(None, widgets={}, toc={}),
        "notebook metadata that is not pinned: toc, widgets",
    ),
    "badges edited": (
        change(1, source="Run it: nowhere"),
        "cell 'launch-badges' is missing or not as generated",
    ),
    "set-up edited": (
        change(2, source="%pip install casebook"),
        "cell 'colab-set-up' is missing or not as generated",
    ),
    "set-up missing": (without(2), "cell 'colab-set-up' is missing or not as generated"),
    "set-up for another group": (
        with_metadata(None, casebook={"group": "forecasting"}),
        "cell 'colab-set-up' is missing or not as generated",
    ),
    "a generated id": (
        change(4, id="1f6a09c2"),
        "cell 4 ('1f6a09c2'): the id is not named by hand (words-with-hyphens)",
    ),
    "an id of a full UUID": (
        change(4, id="deadbeef-0a1b-4c3d-8e9f-0123456789ab"),
        "cell 4 ('deadbeef-0a1b-4c3d-8e9f-0123456789ab'): "
        "the id is not named by hand (words-with-hyphens)",
    ),
    "an id in another style": (
        change(4, id="Count_Rows"),
        "cell 4 ('Count_Rows'): the id is not named by hand (words-with-hyphens)",
    ),
    "metadata of a cell": (
        with_metadata(4, collapsed=True, ExecuteTime={}),
        "cell 4 ('count'): cell metadata ExecuteTime, collapsed",
    ),
    "an execution count": (
        change(4, execution_count=7),
        "cell 4 ('count'): the execution count 7",
    ),
    "a checked output without its count": (
        change(5, execution_count=None),  # nbval would skip the comparison
        "cell 5 ('shown'): the execution count None",
    ),
    "an output that nobody checks": (
        change(4, outputs=[PRINTED], execution_count=1),
        "cell 4 ('count'): outputs, and it is not tagged nbval-check-output",
    ),
    "a check without an output": (
        change(5, outputs=[], execution_count=None),
        "cell 5 ('shown'): tagged nbval-check-output without a stored output: nbval checks nothing",
    ),
    "a stored error": (
        change(5, outputs=[ERROR]),
        "cell 5 ('shown'): the stored output is an error",
    ),
    "a misspelled tag": (
        with_metadata(4, tags=["nbval-chek-output"]),
        "cell 4 ('count'): unknown tags nbval-chek-output",
    ),
    "a tag that hides failures": (
        with_metadata(4, tags=["raises-exception"]),
        "cell 4 ('count'): unknown tags raises-exception",
    ),
    "a diagram without a description": (
        change(3, source="```mermaid\nflowchart LR\n    accTitle: A to B\n    a --> b\n```"),
        "cell 3 ('intro'): a diagram without accDescr",
    ),
    "%run": (
        change(4, source="n = 3\n  %run helpers.py"),
        "cell 4 ('count'): %run hides where names come from; import instead",
    ),
}


def test_a_notebook_in_order_has_no_faults(tidy):
    assert faults(tidy, PATH) == []


@pytest.mark.parametrize(("fault", "line"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_alone(tidy, fault, line):
    fault(tidy)
    assert faults(tidy, PATH) == [line]


def test_both_launch_cells_missing(tidy):
    del tidy.cells[1:3]
    assert faults(tidy, PATH) == [
        "cell 'launch-badges' is missing or not as generated",
        "cell 'colab-set-up' is missing or not as generated",
    ]


def test_badges_of_another_notebook(tidy):
    [fault] = faults(tidy, "chapters/00_other.ipynb")
    assert fault == "cell 'launch-badges' is missing or not as generated"


def test_an_id_that_stands_twice(tidy):
    tidy.cells[4].id = "shown"
    assert faults(tidy, PATH) == [f"cell {i} ('shown'): the id stands twice" for i in (4, 5)]


@pytest.mark.parametrize("stem", ["tiny", "1_tiny", "001_tiny", "00_Tiny", "00-tiny", "E_tiny"])
def test_a_file_name_of_another_form(stem):
    path = f"solutions/{stem}.ipynb"
    [fault] = faults(tiny.notebook(path=path), path)
    assert fault == f"the file name {stem!r} is not of the form 01_some_name"


@pytest.mark.parametrize("stem", ["00_tiny", "21_two_words", "A_capstone"])
def test_a_good_file_name(stem):
    path = f"solutions/{stem}.ipynb"
    assert faults(tiny.notebook(path=path), path) == []


# What only MyST understands.


MYST = {
    "role": ("See {ref}`here`.", "{ref}`here`"),
    "role in a domain": ("{py:func}`casebook.claim`", "{py:func}`casebook.claim`"),
    "role after inline code": ("`x` and {doc}`here`", "{doc}`here`"),
    "directive": ("```{note}\nText\n```", "```{note}"),
    "directive with tildes": ("~~~{note}\nText\n~~~", "~~~{note}"),
    "directive with a title": ("````{admonition} Title\nText\n````", "````{admonition}"),
    "directive in a list": ("1. A\n\n   ```{note}\n   Text\n   ```", "```{note}"),
    "directive in a quotation": ("> ```{note}\n> Text\n> ```", "```{note}"),
    "colon fence": (":::{tip}\nText\n:::", ":::{tip}"),
    "longer colon fence": ("::::{grid} 2\n::::", "::::{grid}"),
    "target": ("Text\n\n(here)=\n\n## Heading", "(here)="),
    "target with a colon": ("(sec:one)=\n## Heading", "(sec:one)="),
}


@pytest.mark.parametrize(("source", "shown"), MYST.values(), ids=MYST)
def test_markup_that_only_the_book_understands(tidy, source, shown):
    tidy.cells[3].source = source
    assert faults(tidy, PATH) == [
        f"cell 3 ('intro'): {shown!r} shows as raw markup outside the book"
    ]


@pytest.mark.parametrize(
    "source",
    [
        "```mermaid\nflowchart LR\n  accTitle: A\n  accDescr { b }\n  a{Late?} --> b\n```",
        "A claim shows `{x:.1%}` of its values.",
        "Write `{wape}` and `{mape}` into the template.",
        "Write `f{n}` or `n`.",
        'A set, such as `{"one", "two"}`, and `n`.',
        "```python\nprint(f'{n}')  # `n` and `m`\n```",
        "````markdown\n```{note}\nHow MyST writes a note.\n```\n````",
        "The role ``{ref}`here` `` is MyST.",
        "Sets are written {a, b}, and f(x) = 3.",
        "<details>\n<summary>Why</summary>\n\nBecause.\n\n</details>",
    ],
)
def test_markdown_that_every_viewer_understands(tidy, source):
    tidy.cells[3].source = source
    assert faults(tidy, PATH) == []


def test_markup_is_sought_in_prose_only(tidy):
    tidy.cells[4].source = 'template = "{ref}`here`"'
    assert faults(tidy, PATH) == []


# The headings of a chapter.


def chapter(headings=HEADINGS, path="chapters/01_tiny.ipynb"):
    words = "word " * LEAST_WORDS
    cells = [prose(f"part-{i}", f"## {h}\n\n{words}".strip()) for i, h in enumerate(headings)]
    return tiny.notebook(*cells, path=path)


def test_a_chapter_with_all_headings_in_order():
    assert faults(chapter(), "chapters/01_tiny.ipynb") == []


def test_other_headings_may_stand_between():
    headings = [*HEADINGS[:5], "An aside", *HEADINGS[5:]]
    assert faults(chapter(headings), "chapters/01_tiny.ipynb") == []


@pytest.mark.parametrize("missing", HEADINGS)
def test_a_missing_heading(missing):
    headings = [heading for heading in HEADINGS if heading != missing]
    [fault] = faults(chapter(headings), "chapters/01_tiny.ipynb")
    assert fault == f"the heading '## {missing}' is missing"


def test_a_heading_in_a_code_block_does_not_count():
    notebook = chapter()
    notebook.cells[3].source = f"```markdown\n{notebook.cells[3].source}\n```"
    [fault] = faults(notebook, "chapters/01_tiny.ipynb")
    assert fault == f"the heading '## {HEADINGS[0]}' is missing"


@pytest.mark.parametrize(
    "headings",
    [[HEADINGS[1], HEADINGS[0], *HEADINGS[2:]], [*HEADINGS, HEADINGS[0]]],
    ids=["swapped", "twice"],
)
def test_headings_in_another_order(headings):
    [fault] = faults(chapter(headings), "chapters/01_tiny.ipynb")
    assert fault == f"the headings stand in another order or twice: {', '.join(headings)}"


@pytest.mark.parametrize(
    "path", ["chapters/00_tiny.ipynb", "solutions/01_tiny.ipynb", "exercises/01_tiny.ipynb"]
)
def test_headings_are_asked_of_case_studies_only(path):
    assert faults(tiny.notebook(path=path), path) == []


# Normalising.


@pytest.fixture
def messy():
    """Return a notebook as an editor leaves it."""
    result = new_output(
        "execute_result",
        data={"text/plain": "3"},
        metadata={"isolated": True},
        execution_count=4,
    )
    cells = [
        new_markdown_cell("# Tiny  \n", id="title", metadata={"collapsed": True}),
        new_code_cell("n = 3\n\n\n", id="4e1f9a20", execution_count=3, outputs=[PRINTED]),
        new_code_cell("n", id="shown", execution_count=4, outputs=[result]),
        new_code_cell("n", id="shown", metadata={"tags": [], "ExecuteTime": {}}),
        new_markdown_cell("## Slide", id="slide", metadata={"slideshow": {"slide_type": "x"}}),
    ]
    cells[2].metadata.tags = [files.CHECK_TAG]
    metadata = {
        "kernelspec": {"name": "mine", "display_name": "Mine"},
        "language_info": {"name": "python", "version": "3.12.1"},
        "widgets": {},
        "casebook": {"group": "forecasting"},
    }
    return NotebookNode(nbformat=4, nbformat_minor=5, metadata=from_dict(metadata), cells=cells)


def test_normalising_mends_a_messy_notebook(messy):
    assert len(faults(messy, PATH)) > 8
    assert faults(normalise(messy, PATH), PATH) == []


def test_normalising_twice_changes_nothing(messy):
    once = normalise(messy, PATH)
    assert files.text(normalise(once, PATH)) == files.text(once)


def test_normalising_does_not_touch_its_argument(messy):
    before = copy.deepcopy(messy)
    normalise(messy, PATH)
    assert messy == before


def test_outputs_stay_on_checked_cells_without_what_changes_from_run_to_run(messy):
    kept = [cell for cell in normalise(messy, PATH).cells if cell.get("outputs")]
    [[output]] = [cell.outputs for cell in kept]
    assert [files.CHECK_TAG in files.tags(cell) for cell in kept] == [True]
    assert (output.data, output.metadata) == ({"text/plain": "3"}, {})


def test_only_cells_with_an_output_have_a_count_and_always_the_same(messy):
    cells = [cell for cell in normalise(messy, PATH).cells if cell.cell_type == "code"]
    assert {cell.execution_count for cell in cells if cell.outputs} == {1}
    assert {cell.execution_count for cell in cells if not cell.outputs} == {None}


def test_metadata_is_pinned_and_the_course_s_own_is_kept(messy):
    done = normalise(messy, PATH)
    assert done.metadata == {
        "casebook": {"group": "forecasting"},
        "kernelspec": KERNEL,
        "language_info": {"name": "python"},
    }
    assert [
        cell.metadata for cell in done.cells if cell.id not in ("launch-badges", "colab-set-up")
    ] == [
        {},
        {},
        {"tags": [files.CHECK_TAG]},
        {},
        {"slideshow": {"slide_type": "x"}},
    ]


def test_metadata_of_nbgrader_is_kept():
    graded = code("answer-1", "share = ...")
    graded.metadata = {"nbgrader": {"grade_id": "answer-1"}, "deletable": False, "editable": True}
    assert tiny.notebook(graded).cells[-1].metadata == graded.metadata


def test_the_launch_cells_are_renewed_where_they_belong(tidy):
    tidy.cells[1].source = "Run it: nowhere"
    tidy.cells.append(tidy.cells.pop(1))
    assert normalise(tidy, PATH).cells[1].source == tiny.notebook().cells[1].source
    assert [cell.id for cell in normalise(tidy, PATH).cells[:3]] == [
        "title",
        "launch-badges",
        "colab-set-up",
    ]


def named(*cells):
    """Return the ids that normalising gives to cells after the launch cells."""
    return [cell.id for cell in tiny.notebook(*cells).cells[3:]]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("Load the world", "load-the-world"),
        ("## 2024 was a *late* year", "cell-2024-was-a-late-year"),
        ("frame = load(CASE, rows=3)", "frame-load-case-rows-3"),
        ("", "cell"),
        ("…", "cell"),
        ("decade = 3", "cell-decade-3"),  # nothing but hexadecimal digits, like a generated id
    ],
)
def test_an_unnamed_cell_gets_a_name_from_its_text(source, name):
    assert named(new_code_cell(source, id="4e1f9a20")) == [name]
    assert faults(tiny.notebook(new_code_cell(source, id="4e1f9a20")), PATH) == []


def test_names_are_unique():
    cells = [new_code_cell("wape(y)", id=name) for name in ("4e1f9a20", "Wape", "77aa00ff")]
    assert named(*cells) == ["wape-y", "wape-y-2", "wape-y-3"]


def test_the_first_of_two_equal_names_stays():
    cells = [code("rows", "len(x)"), code("rows", "len(y)")]
    assert named(*cells) == ["rows", "len-y"]


def test_names_given_by_hand_stay_wherever_an_unnamed_cell_is_added():
    cells = [new_code_cell("rows", id="4e1f9a20"), code("rows", "len(x)")]
    assert named(*cells) == ["rows-2", "rows"]


@pytest.mark.parametrize(
    "source",
    [
        "n = 3\n\n\ndef f():\n    return n",
        "* a\n  * b\n\n$$x^2$$",
        'separator = "\x0c"',
        'separator = "\u2028"',
        "Grüße: 3 € – “quoted”, ≥ 2",
    ],
)
def test_text_survives(source, tmp_path):
    path = tiny.add(tmp_path, "tiny.ipynb", new_code_cell(source, id="text"))
    assert files.read(path).cells[-1].source == source


def test_only_blanks_at_the_ends_of_lines_go():
    assert tiny.notebook(code("n", "n = 3  \n\t\nm = 4\n")).cells[-1].source == "n = 3\n\nm = 4"


# The whole repository, through the command line.


def test_the_notebooks_of_this_repository_are_in_order():
    done = tiny.run("casebook.author", "check", cwd=ROOT)
    count = len(files.notebooks(root=ROOT))
    assert (done.returncode, tiny.lines(done)) == (0, [f"{count} notebooks are in order"])


@pytest.fixture(scope="module")
def own_copy(tmp_path_factory):
    """Return a whole copy of the checkout, one for the tests that follow."""
    return tiny.copy_of_the_checkout(tmp_path_factory.mktemp("copy") / "checkout")


def test_a_planted_fault_is_named_with_its_notebook_and_cell(own_copy):
    path = own_copy / "chapters" / CASE
    before = path.read_text(encoding="utf-8")
    number = [cell["id"] for cell in json.loads(before)["cells"]].index("set-up")
    tiny.plant(path, "set-up", execution_count=3)
    done = tiny.run("casebook.author", "check", cwd=own_copy)
    path.write_text(before, encoding="utf-8")
    assert (done.returncode, tiny.lines(done)) == (
        1,
        [
            f"chapters/{CASE}: cell {number} ('set-up'): the execution count 3",
            f"chapters/{CASE}: not normalised; run `make exercises`",
        ],
    )


def test_another_checkout_is_judged_by_its_own_address(own_copy):
    settings = own_copy / "pyproject.toml"
    ours, theirs = "https://github.com/ml-systems-casebook/", "https://example.org/fork/"
    text = settings.read_text(encoding="utf-8")
    assert ours in text
    settings.write_text(text.replace(ours, theirs), encoding="utf-8")
    tool = ("casebook.author", "--root", own_copy)
    done = tiny.run(*tool, "check", cwd=ROOT)
    assert done.returncode == 1
    assert f"chapters/{CASE}: cell 'launch-badges' is missing or not as generated" in done.stdout
    tiny.run(*tool, "normalise", cwd=ROOT)
    assert theirs in files.read(own_copy / "chapters" / CASE).cells[1].source


def test_normalise_says_what_it_changed(checkout, capfd):
    path = tiny.add(checkout, PATH, code("count", "n = 3"))
    assert main(["--root", str(checkout), "normalise"]) == 0
    assert capfd.readouterr().out == ""
    tiny.plant(path, "count", execution_count=3)
    assert main(["--root", str(checkout), "normalise"]) == 0
    assert capfd.readouterr().out == f"normalised  {PATH}\n"
    assert faults(files.read(path), PATH) == []


# Code that JupyterLab and Colab hide as the book does.


SOURCE_HIDDEN = {"jupyter": {"source_hidden": True}, "cellView": "form"}


def tagged(*given: str) -> NotebookNode:
    """Return a tidy notebook whose last cell has tags."""
    return tiny.notebook(code("count", "n = 3", tags=list(given)))


@pytest.mark.parametrize("tag", ["hide-input", "remove-input", "hide-cell"])
def test_code_that_the_book_hides_is_hidden_everywhere(tag):
    notebook = tagged(tag)
    notebook.cells[-1].metadata = from_dict({"tags": [tag]})
    [fault] = faults(notebook, PATH)
    assert fault == HIDES.format(3, "count")
    mended = normalise(notebook, PATH)
    assert {k: mended.cells[-1].metadata[k] for k in SOURCE_HIDDEN} == SOURCE_HIDDEN
    assert faults(mended, PATH) == []


HIDES = "cell {} ({!r}): its tags and what hides its code in JupyterLab and Colab differ"


@pytest.mark.parametrize(
    "planted", [{"jupyter": {"source_hidden": True}}, {"cellView": "form"}, SOURCE_HIDDEN]
)
def test_code_that_the_book_shows_is_shown_everywhere(tidy, planted):
    tidy.cells[4].metadata.update(from_dict(planted))
    assert faults(tidy, PATH) == [HIDES.format(4, "count")]
    assert faults(normalise(tidy, PATH), PATH) == []


ONLY_SHOWS = {
    "claim('{a}', a=1)": True,
    "figures.table(frame, caption='x')\nfigures.show(fig, alt='y')": True,
    "figures.show_source(f)": True,
    "a = 1\nclaim('{a}', a=a)": False,
    "print(claim)": False,
    "answer.claim()": False,
    "%pip install x": False,
    "": False,
}


@pytest.mark.parametrize(("source", "hidden"), ONLY_SHOWS.items())
def test_code_that_only_shows_something_is_hidden(source, hidden):
    notebook = tiny.notebook(prose("intro", "Words."), code("count", "n = 3"))
    notebook.cells[-1].source = source
    found = faults(notebook, PATH)
    wanted = ["cell 4 ('count'): code that only shows something, and no tag hide-input"]
    assert found == (wanted if hidden else [])
    mended = normalise(notebook, PATH)
    assert mended.cells[-1].metadata == (
        {"tags": ["hide-input"], **SOURCE_HIDDEN} if hidden else {}
    )
    assert faults(mended, PATH) == []


def test_a_tag_that_hides_already_is_kept():
    notebook = tagged("remove-input")
    notebook.cells[-1].source = "claim('{a}', a=1)"
    assert normalise(notebook, PATH).cells[-1].metadata.tags == ["remove-input"]
