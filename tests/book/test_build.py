"""The build of a small book: executed once, fresh when its code changes, honest when it fails.

The book has two notebooks, chapter 00 and a tiny one, in a copy of the checkout.
"""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from small_book import copy_book, run

from casebook.author import files, keys
from casebook.author.execute import Execution, runs, source, stored
from casebook.book import __main__ as book
from casebook.project import require_checkout

ROOT = require_checkout()
CHAPTER, TINY = "chapters/00_how_a_case_works", "chapters/99_tiny"
#: An address at which nothing answers: a build with it has no network.
NOWHERE = "http://127.0.0.1:9"
RECORDED = re.compile(r"Recorded on \d{4}-\d\d-\d\d from Australian tourism")


def tiny_notebook() -> nbformat.NotebookNode:
    """Return a notebook that reaches one function of the course and no data."""
    source = "from casebook.project import in_book\n\nprint('in the book:', in_book())"
    notebook = nbformat.v4.new_notebook(metadata=files.read(ROOT / f"{CHAPTER}.ipynb").metadata)
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# Tiny\n\nA page.", id="title"),
        nbformat.v4.new_code_cell(source, id="in-book"),
    ]
    return notebook


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """Return a copy of the checkout with a book of two notebooks and nothing built."""
    target = tmp_path_factory.mktemp("clean") / "casebook"
    copy_book(target, [CHAPTER, TINY], ["book/scoreboard", "book/timings"])
    files.write(tiny_notebook(), target / f"{TINY}.ipynb")
    return target


class Book:
    """The copy and what its last build was made from.

    Attributes
    ----------
    root : Path
    as_committed : bool
        Whether the pages are those of the unedited copy with this machine's data.
    rendered : bool
        Whether the last build wrote pages.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.as_committed, self.rendered = root, False, False
        self._before: dict[Path, bytes] = {}

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a file of the copy."""
        path = self.root / name
        content = path.read_text()
        assert content.count(old) == 1
        self._before.setdefault(path, path.read_bytes())
        self.as_committed = False
        path.write_text(content.replace(old, new))

    def undo(self) -> None:
        """Make the files what they were before they were edited."""
        for path, content in self._before.items():
            path.write_bytes(content)
        self._before.clear()

    def make(self, **env: str) -> list[str]:
        """Build the book; return the notebooks that were executed for it."""
        self.as_committed = False
        before = len(runs(self.root))
        result = run(self.root, "casebook.book", **env)
        assert result.returncode == 0, result.stdout + result.stderr
        last = result.stdout.splitlines()[-1]
        assert last.startswith(("built ", "unchanged ")) and "index.html" in last
        self.rendered = last.startswith("built ")
        ran = [one.name for one in runs(self.root)[before:]]
        for name in (CHAPTER, TINY):
            assert f"{'executed' if name in ran else 'unchanged':<10}{name}" in result.stdout
        assert book.missing_pages(self.root) == []
        self.as_committed = not env and not self._before
        return sorted(ran)

    def settle(self) -> Path:
        """Build the unedited copy, unless the last build did; return its folder."""
        if not self.as_committed:
            self.make()
        return self.root


def article(root: Path, name: str = CHAPTER) -> str:
    """Return the text of a built page."""
    page = (root / "_build" / "html" / f"{name}.html").read_text()
    return " ".join(BeautifulSoup(page, "html.parser").find("article").get_text().split())


def stored_claim() -> str:
    """Return what the committed chapter says that LightGBM's plan costs, without emphasis."""
    notebook = files.read(ROOT / f"{CHAPTER}.ipynb")
    cell = next(c for c in notebook.cells if c.id == "cost-claim")
    said = cell.outputs[0]["data"]["text/plain"].partition(" than ")[0]
    return " ".join(said.replace("*", "").split())


@pytest.fixture(scope="module")
def made(copy) -> Book:
    """Return the book after its first build."""
    made = Book(copy)
    assert made.make() == [CHAPTER, TINY]
    return made


@pytest.fixture
def built(made) -> Path:
    """Return the folder of the book as it was committed, built."""
    return made.settle()


@pytest.fixture
def edited(made):
    """Return a function that edits a file of the copy; it is as before afterwards."""
    yield made.edit
    made.undo()


# Executed once -----------------------------------------------------------------------


def test_the_pages_show_what_their_notebooks_showed(built):
    assert stored_claim() in article(built)
    assert "in the book: True" in article(built, TINY)
    timings = article(built, "book/timings")
    assert f"{stored(built, TINY).cpu_seconds:,.1f}" in timings
    assert "2 of 2 notebooks" in timings


def test_an_unchanged_book_is_left_alone_and_a_page_that_is_gone_is_made(made, built):
    assert made.make() == [] and not made.rendered
    page = built / "_build" / "html" / f"{TINY}.html"
    page.unlink()
    assert made.make() == [] and made.rendered and page.is_file()


def test_a_build_after_an_edit_of_another_page_reads_no_notebooks_page_again(made, built, edited):
    doctrees = [built / "_build" / ".doctrees" / f"{name}.doctree" for name in (CHAPTER, TINY)]
    read = [path.stat().st_mtime_ns for path in doctrees]
    content = [article(built, name) for name in (CHAPTER, TINY)]
    edited("book/index.md", "A few notebooks.", "Two notebooks.")
    assert made.make() == [] and made.rendered
    assert [path.stat().st_mtime_ns for path in doctrees] == read
    assert [article(built, name) for name in (CHAPTER, TINY)] == content


def test_an_edit_of_what_a_chapter_reaches_changes_its_page_alone(made, built, edited):
    before, tiny = article(built), article(built, TINY)
    last_line = 'on=["unique_id", "quarter"], how="left")["y"].to_numpy()'
    edited("casebook/cases/how_a_case_works/system.py", last_line, f"{last_line} * 1.5")
    assert made.make() == [CHAPTER]
    assert stored_claim() not in article(built)
    assert "The plan of LightGBM costs" in article(built)
    assert article(built, TINY) == tiny
    made.undo()
    assert made.make() == []  # back: the earlier execution is still there
    assert article(built) == before


def test_edits_of_prose_and_of_what_no_chapter_reaches_execute_nothing(made, built, edited):
    """The page of the prose changes, and no other."""
    before, reached = article(built), keys.reached(built, source(built, CHAPTER))
    assert "casebook.evaluate.metrics" in reached.modules  # by another of its functions
    assert ("casebook.evaluate.metrics", "mape") not in reached.definitions
    edited("casebook/evaluate/metrics.py", "def mape(", "def mape_of_a_test(")
    edited("casebook/recorded/bench.py", "def stale(", "def stale_of_a_test(")
    edited(f"{TINY}.ipynb", "A page.", "Another page.")
    assert made.make() == []
    assert article(built) == before
    assert "Another page." in article(built, TINY)


def test_two_notebooks_run_at_a_time_and_each_leaves_its_scorecard(tmp_path, monkeypatch, capsys):
    both, lock, inside, most = threading.Barrier(2, timeout=60), threading.Lock(), set(), [0]

    def fake(root, name, who):
        with lock:
            inside.add(name)
            most[0] = max(most[0], len(inside))
        both.wait()  # ends only if two are in
        with lock:
            inside.discard(name)
        written = {"scorecards/a.json": "[]"} if name == "chapters/a" else {}
        return Execution(None, 1.0, 2.0, 3.0, "key", cached=name == "chapters/b", written=written)

    names = [f"chapters/{letter}" for letter in "abcd"]
    monkeypatch.setattr(book, "pages", lambda root: dict.fromkeys(names))
    monkeypatch.setattr(book, "executed", fake)
    cards = tmp_path / "_build" / "scorecards"
    cards.mkdir(parents=True)
    (cards / "b.json").write_text("[]")  # an earlier run of this page wrote one
    book.execute_pages(tmp_path)
    assert most == [2]
    assert [path.name for path in cards.iterdir()] == ["a.json"]
    said = sorted(capsys.readouterr().out.splitlines())
    assert said[0] == "executed  chapters/a  1.0 CPU s, 2.0 s"
    assert said[-1] == "unchanged chapters/b"


# Both data modes ---------------------------------------------------------------------


def card(root: Path) -> set[str]:
    """Return the data of which the chapter's scorecard has rows."""
    rows = json.loads((root / "_build/scorecards/00_how_a_case_works.json").read_text())["rows"]
    return {row["data"] for row in rows}


@pytest.mark.parametrize("machine", ["as it is", "without data and network"])
def test_without_real_data_the_page_shows_recorded_results_and_says_so(made, tmp_path, machine):
    env, built = {}, made.root
    if machine == "as it is":
        made.settle()
    else:
        env |= {"CASEBOOK_DATA_DIR": "", "CASEBOOK_CACHE_DIR": str(tmp_path), "NO_PROXY": ""}
        env |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "http_proxy"), NOWHERE)
        made.make(**env)
        assert RECORDED.search(article(built))
        assert stored_claim() in article(built)
    on, on_card = article(built), card(built)
    off = env | {"CASEBOOK_REAL_DATA": "off"}
    made.make(**off)
    text = article(built)
    assert RECORDED.search(text)
    assert "On real trips WAPE changes by" in text
    assert "Not run here" not in text
    assert stored_claim() in text
    assert card(built) == {
        "simulated, frozen world",
        "simulated, five seeds",
        "Australian tourism",
    }
    if machine == "as it is" and book.find_real("tourism"):
        assert text != on
    assert stored(built, CHAPTER, off).key != stored(built, CHAPTER, env).key
    assert made.make(**env) == []  # and back: the pages of the two modes do not mix
    assert (article(built), card(built)) == (on, on_card)


def test_with_real_data_the_page_shows_the_result():
    """The page that was built beside the data (the main checkout's) ends with real results."""
    if book.find_real("tourism") is None:
        pytest.skip("the tourism data are not here")
    assert "On real trips WAPE changes by" in article(ROOT)
    assert "Recorded on" not in article(ROOT)


def test_nbval_passes_without_real_data(copy):
    result = run(copy, "casebook.author", "nbval", CASEBOOK_REAL_DATA="off")
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


# Gates -------------------------------------------------------------------------------


@pytest.fixture
def plant(made):
    """Return a function that adds a cell to the tiny notebook; it is as before afterwards."""
    path = made.root / f"{TINY}.ipynb"

    def add(cell: nbformat.NotebookNode) -> None:
        changed = tiny_notebook()
        changed.cells.append(cell)
        files.write(changed, path)
        made.as_committed = False

    yield add
    files.write(tiny_notebook(), path)


def test_gate_a_failing_notebook_ends_the_build(made, plant):
    plant(nbformat.v4.new_code_cell("raise RuntimeError('planted')", id="planted-fault"))
    result = run(made.root, "casebook.book")
    assert result.returncode == 1
    assert f"failed    {TINY}, cell 'planted-fault': RuntimeError: planted" in result.stdout


def test_gate_a_warning_is_an_error(made, plant):
    plant(nbformat.v4.new_markdown_cell("[a dead link](no_such_page.md)", id="planted-link"))
    result = run(made.root, "casebook.book")
    assert result.returncode != 0
    assert "no_such_page" in result.stdout + result.stderr


def test_gate_a_page_of_the_contents_without_a_notebook(made, edited):
    edited("_toc.yml", f"  - file: {TINY}\n", f"  - file: {TINY}\n  - file: chapters/98_gone\n")
    result = run(made.root, "casebook.book")
    assert result.returncode != 0
    assert "98_gone" in result.stdout + result.stderr


def test_gate_a_kernel_of_another_environment(tmp_path, monkeypatch, capsys):
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [str(tmp_path / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setattr(book, "fetch_real_data", lambda: None)
    assert book.build(ROOT) == 1
    assert f"starts {command[0]}" in capsys.readouterr().out


def test_gate_no_html(tmp_path, monkeypatch, capsys):
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    monkeypatch.setattr(book, "execute_pages", lambda root: None)
    monkeypatch.setattr(book, "fetch_real_data", lambda: None)
    monkeypatch.setattr(book, "render", lambda root: 0)
    assert book.build(tmp_path) == 1
    assert "no HTML was produced for: book/index" in capsys.readouterr().out
