"""Colab: the first code cell installs the course in an environment that does not have it."""

from __future__ import annotations

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import nbformat
from places import PRELOADED

from casebook.author.launch import COLAB_ID


def witness(notebook: nbformat.NotebookNode) -> dict:
    """Return what the last cell of the run on Colab printed."""
    return json.loads(notebook.cells[-1].outputs[0].text)


def installed_files(package: Path, data: Path) -> set[str]:
    """Return the modules of a package and the files that its readers open, by relative name."""
    modules = {f"casebook/{p.relative_to(package).as_posix()}" for p in package.rglob("*.py")}
    files = [*data.glob("real.toml"), *data.glob("*/*.parquet"), *data.glob("*/artifacts/*")]
    return modules | {f"data/{p.relative_to(data).as_posix()}" for p in files}


def test_the_whole_chapter_runs_to_its_end(colab_run):
    assert colab_run.code == 0, colab_run.log
    assert [
        cell.id
        for cell in colab_run.notebook.cells
        if cell.cell_type == "code" and cell.source and not cell.execution_count
    ] == []


def test_a_session_with_other_versions_stops_with_one_line(colab_stop):
    """Colab's situation: its kernel has loaded NumPy and others before the first cell."""
    assert colab_stop.code != 0
    said = [line for line in colab_stop.log.splitlines() if "Restart session" in line]
    assert said, colab_stop.log
    for sentence in said:
        assert "Everything is installed. Now choose Runtime → Restart session" in sentence
        for name, old in PRELOADED.items():
            assert f"{name} {old}, not {version(name)}" in sentence
    assert "Traceback" not in colab_stop.log.split("nbclient.exceptions.CellExecutionError")[-1]
    assert "binary incompatibility" not in colab_stop.log


def test_the_set_up_cell_does_nothing_after_the_restart(colab_run):
    """The first run installed everything: pip, which would print, is not called again."""
    assert colab_run.code == 0, colab_run.log
    cell = next(cell for cell in colab_run.notebook.cells if cell.id == COLAB_ID)
    assert cell.outputs == []


def test_without_the_comparison_the_next_import_fails(make_colab, chapter):
    """The planted fault: a set-up cell that only installs, as it was."""
    notebook = nbformat.from_dict({**chapter, "cells": [*chapter.cells]})
    cell = next(cell for cell in notebook.cells if cell.id == COLAB_ID)
    kept, comparison = cell.source.split("    from casebook.colab import stop_if_stale")
    assert "stop_if_stale(" in comparison
    cell.source = kept.rstrip()
    run = make_colab(old=True).run(notebook, "only_installs")
    assert run.code != 0
    assert re.search(r"Error: .*(binary incompatibility|No module named 'numpy\.)", run.log), (
        run.log
    )


def test_the_package_and_its_data_are_the_installed_ones(colab, colab_run, checkout_copy):
    assert colab_run.code == 0, colab_run.log
    where = witness(colab_run.notebook)
    package = colab.python.parent.parent / "lib"
    assert where["colab"]
    assert Path(where["package"]).is_relative_to(package), "casebook is not the installed one"
    assert Path(where["data"]).is_relative_to(package), "the snapshots are not the installed ones"
    assert Path(where["build"]) == colab.content / "_build"
    assert (colab.content / "_build" / "scorecards").is_dir()
    installed = installed_files(Path(where["package"]).parent, Path(where["data"]))
    assert installed == installed_files(checkout_copy / "casebook", checkout_copy / "data")


def test_the_baseline_claim_is_the_committed_one(chapter, colab_run):
    assert colab_run.code == 0, colab_run.log
    said, committed = (
        next(cell for cell in notebook.cells if cell.id == "baseline-claim").outputs
        for notebook in (colab_run.notebook, chapter)
    )
    assert [o.data["text/markdown"] for o in said] == [o.data["text/markdown"] for o in committed]


def test_without_the_set_up_cell_the_chapter_fails(make_colab, chapter):
    """The planted fault: it is the set-up cell that brings the course."""
    cells = [cell for cell in chapter.cells if cell.id != COLAB_ID]
    assert len(cells) == len(chapter.cells) - 1
    run = make_colab().run(nbformat.from_dict({**chapter, "cells": cells}), "no_set_up")
    assert run.code != 0
    assert "ModuleNotFoundError: No module named 'casebook'" in run.log


def test_a_forgotten_package_is_noticed(tmp_path, checkout_copy):
    """The planted fault of the comparison above: a wheel without ``casebook.cases``."""
    package, data = checkout_copy / "casebook", checkout_copy / "data"
    without = shutil.copytree(
        package, tmp_path / "casebook", ignore=shutil.ignore_patterns("cases")
    )
    lost = installed_files(package, data) - installed_files(without, data)
    assert lost >= {"casebook/cases/__init__.py", "casebook/cases/how_a_case_works/system.py"}
    assert all(name.startswith("casebook/cases/") for name in lost)
    lost = installed_files(package, data) - installed_files(package, tmp_path / "no data")
    assert "data/00_how_a_case_works/observed.parquet" in lost
