"""The build of the book: from a clean copy, fresh when code changes, honest when it fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from casebook.author import files
from casebook.book import __main__ as book
from casebook.book import fingerprint as fingerprints
from casebook.project import require_checkout

ROOT = require_checkout()
CHAPTER = "chapters/00_how_a_case_works"


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """Return a copy of what git would hold, without anything that was built."""
    target = tmp_path_factory.mktemp("clean") / "casebook"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in listed:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    (target / "node_modules").symlink_to(ROOT / "node_modules")
    return target


def run(root: Path, *module: str, **env: str) -> subprocess.CompletedProcess:
    """Run a module of the copy's own package."""
    return subprocess.run(
        [sys.executable, "-m", *module],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True,
        text=True,
    )


def article(root: Path, name: str = CHAPTER) -> str:
    """Return the text of a built page."""
    page = (root / "_build" / "html" / f"{name}.html").read_text()
    return " ".join(BeautifulSoup(page, "html.parser").find("article").get_text().split())


def stored_claim() -> str:
    """Return the baseline's claim as the committed chapter stores it, without emphasis."""
    notebook = files.read(ROOT / f"{CHAPTER}.ipynb")
    cell = next(c for c in notebook.cells if c.id == "repair-and-baseline")
    return cell.outputs[0]["data"]["text/plain"].replace("*", "")


@pytest.fixture(scope="module")
def built(copy) -> str:
    """Build the copy once; return what the build printed."""
    result = run(copy, "casebook.book")
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_line_for_each_notebook_and_every_page(copy, built):
    for name in book.pages(ROOT):
        assert f"executed  {name}" in built
    assert book.missing_pages(copy) == []
    assert stored_claim() in article(copy)


def test_an_unchanged_build_executes_nothing_and_takes_at_most_a_minute(copy, built):
    started = time.perf_counter()
    result = run(copy, "casebook.book")
    assert result.returncode == 0
    assert time.perf_counter() - started <= 60
    assert "executed" not in result.stdout
    assert result.stdout.count("unchanged ") == len(book.pages(ROOT))


def test_editing_the_package_changes_the_page(copy, built):
    module = copy / "casebook" / "systems" / "how_a_case_works.py"
    before = module.read_text()
    last_line = 'on=["unique_id", "quarter"], how="left")["y"].to_numpy()'
    assert last_line in before
    module.write_text(before.replace(last_line, f"{last_line} * 1.5"))
    try:
        result = run(copy, "casebook.book")
        assert result.returncode == 0, result.stdout + result.stderr
        assert stored_claim() not in article(copy)
        assert "Seasonal naive misses by" in article(copy)
    finally:
        module.write_text(before)


def test_without_real_data_the_page_says_so_and_the_rest_runs(copy, built):
    result = run(copy, "casebook.book", CASEBOOK_REAL_DATA="off")
    assert result.returncode == 0, result.stdout + result.stderr
    text = article(copy)
    assert "Not run here: the check on Australian tourism." in text
    assert "CASEBOOK_REAL_DATA=off" in text
    assert stored_claim() in text
    card = json.loads((copy / "_build/scorecards/00_how_a_case_works.json").read_text())
    assert {row["data"] for row in card["rows"]} == {
        "simulated, frozen world",
        "simulated, five seeds",
    }


def test_with_real_data_the_page_shows_the_result():
    """The page that was built beside the data (the main checkout's) ends with real results."""
    if book.find_real("tourism") is None:
        pytest.skip("the tourism data are not here")
    assert "On real trips WAPE changes by" in article(ROOT)
    assert "Not run here" not in article(ROOT)


def test_nbval_passes_without_real_data(copy):
    result = run(copy, "casebook.author", "nbval", CASEBOOK_REAL_DATA="off")
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


def plant(root: Path, source: str, **cell) -> nbformat.NotebookNode:
    """Add a cell to the chapter of a copy; return the notebook as it was."""
    path = root / f"{CHAPTER}.ipynb"
    before = files.read(path)
    changed = files.read(path)
    new = (
        nbformat.v4.new_markdown_cell if cell.pop("markdown", False) else nbformat.v4.new_code_cell
    )(source, **cell)
    changed.cells.insert(4, new)
    files.write(changed, path)
    return before


def test_gate_a_failing_notebook_ends_the_build(copy, built):
    before = plant(copy, "raise RuntimeError('planted')", id="planted-fault")
    try:
        result = run(copy, "casebook.book")
        assert result.returncode == 1
        assert f"failed    {CHAPTER}, cell 'planted-fault': RuntimeError: planted" in result.stdout
    finally:
        files.write(before, copy / f"{CHAPTER}.ipynb")


def test_gate_a_warning_is_an_error(copy, built):
    before = plant(copy, "[a dead link](no_such_page.md)", id="planted-link", markdown=True)
    try:
        result = run(copy, "casebook.book")
        assert result.returncode != 0
        assert "no_such_page" in result.stdout + result.stderr
    finally:
        files.write(before, copy / f"{CHAPTER}.ipynb")


def test_gate_a_page_of_the_contents_without_a_notebook(copy):
    contents = copy / "_toc.yml"
    before = contents.read_text()
    contents.write_text(before + "      - file: chapters/99_not_there\n")
    try:
        result = run(copy, "casebook.book")
        assert result.returncode != 0
        assert "99_not_there" in result.stdout + result.stderr
    finally:
        contents.write_text(before)


def test_gate_no_html(tmp_path, monkeypatch, capsys):
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    monkeypatch.setattr(book, "execute_pages", lambda root: None)
    monkeypatch.setattr(book, "render", lambda root: 0)
    assert book.build(tmp_path) == 1
    assert "no HTML was produced for: book/index" in capsys.readouterr().out


def test_two_at_a_time_and_serial_ones_alone(tmp_path, monkeypatch):
    """Run four notebooks, one of them with a timed cell, and record who ran beside whom."""
    running, beside, lock = set(), {}, threading.Lock()

    def fake_execute(notebook, name, folder, env):
        with lock:
            running.add(name)
            for other in running:
                beside.setdefault(other, set()).update(running)
        time.sleep(0.2)
        with lock:
            running.discard(name)
        return 0.2

    def notebook(name: str, *tags: str):
        cell = nbformat.v4.new_code_cell(f"name = {name!r}", metadata={"tags": list(tags)})
        return tmp_path / f"{name}.ipynb", nbformat.v4.new_notebook(cells=[cell])

    wanted = {"a": notebook("a"), "timed": notebook("timed", "serial")}
    wanted |= {name: notebook(name) for name in "bc"}
    monkeypatch.setattr(book, "pages", lambda root: wanted)
    monkeypatch.setattr(book, "execute", fake_execute)
    monkeypatch.setattr(book, "cache_path", lambda root: tmp_path / "cache")
    book.execute_pages(tmp_path)
    assert set(beside) == set(wanted)
    assert beside["timed"] == {"timed"}
    assert max(len(names) for names in beside.values()) >= 2


@pytest.mark.parametrize(
    "change",
    [
        "casebook/evaluate/metrics.py",
        "data/real.toml",
        "data/00_how_a_case_works/observed.parquet",
        "requirements.txt",
        "constraints.txt",
    ],
)
def test_the_fingerprint_knows(copy, change):
    before = fingerprints.fingerprint(copy)
    path = copy / change
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    try:
        assert fingerprints.fingerprint(copy) != before
    finally:
        path.write_bytes(content)
    assert fingerprints.fingerprint(copy) == before


def test_the_fingerprint_knows_which_real_data_are_there(copy, monkeypatch, tmp_path):
    monkeypatch.setattr(fingerprints, "find_real", lambda name: None)
    without = fingerprints.fingerprint(copy)
    monkeypatch.setattr(fingerprints, "find_real", lambda name: tmp_path)
    assert fingerprints.fingerprint(copy) != without
