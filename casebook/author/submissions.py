"""Submissions: repaired where a student has damaged them, and graded in the student's own world."""

from __future__ import annotations

import csv
from pathlib import Path

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbgrader.api import BaseCell, Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Unicode

from casebook.exercises.grading import STUDENT_SEED

SEED_ID = "student-seed"
SEED = """\
# Your own world: the numbers in this notebook are yours alone. Run this cell first, unchanged.
import os

os.environ["{variable}"] = "{seed}\""""
#: Grading reads the seed before any answer can change it.
READ_NOW = "\n\nimport casebook.exercises.grading"


def seed_cell(seed: int, graded: bool = False) -> NotebookNode:
    """Return the cell that draws a notebook's world.

    Parameters
    ----------
    seed : int
        Of the student.
    graded : bool
        Whether it is for grading: then nothing that follows can choose another world.
    """
    source = SEED.format(variable=STUDENT_SEED, seed=seed) + (READ_NOW if graded else "")
    return new_code_cell(source, id=SEED_ID)


class StudentSeed(NbGraderPreprocessor):
    """Give a submission the world of its student, whatever its own cell says."""

    roster = Unicode("", help="File with the columns student and seed.").tag(config=True)

    def preprocess(
        self, notebook: NotebookNode, resources: ResourcesDict
    ) -> tuple[NotebookNode, ResourcesDict]:
        """Replace the cell of the seed in one submitted notebook."""
        student = resources["nbgrader"]["student"]
        with Path(self.roster).open(encoding="utf-8-sig", newline="") as file:
            seeds = {row["student"].strip(): row["seed"] for row in csv.DictReader(file)}
        if student not in seeds:
            raise ValueError(
                f"{student!r} is not in {self.roster}: add a line with the seed that was handed "
                "out, or name the folder in submitted/ as the roster does."
            )
        cells = [cell for cell in notebook.cells if cell.get("id") != SEED_ID]
        notebook.cells = [seed_cell(int(seeds[student]), graded=True), *cells]
        return notebook, resources


class RepairSubmission(NbGraderPreprocessor):
    """Bring a submission's cells into a form that every later step of nbgrader accepts.

    It runs after ``DeduplicateIds``. A copied cell keeps its code and loses its empty
    nbgrader metadata, which no validator accepts; a deleted answer cell is put back blank, so
    that ``OverwriteCells`` finds the place of its check.
    """

    def preprocess(
        self, notebook: NotebookNode, resources: ResourcesDict
    ) -> tuple[NotebookNode, ResourcesDict]:
        """Repair one submitted notebook in place."""
        for cell in notebook.cells:
            if "nbgrader" in cell.metadata and not cell.metadata.nbgrader:
                del cell.metadata["nbgrader"]
        with Gradebook(resources["nbgrader"]["db_url"]) as gradebook:
            assigned = gradebook.find_notebook(
                resources["nbgrader"]["notebook"], resources["nbgrader"]["assignment"]
            )
            answers = {cell.name for cell in assigned.solution_cells}
            graded = {cell.name for cell in assigned.grade_cells}
            previous = None
            for source in assigned.source_cells:
                if _position(notebook, source.name) is None and source.name in answers - graded:
                    self.log.warning("Cell '%s' was deleted; it is put back blank", source.name)
                    before = -1 if previous is None else _position(notebook, previous)
                    notebook.cells.insert(
                        len(notebook.cells) if before is None else before + 1, _blank(source)
                    )
                previous = source.name
        return notebook, resources


def _position(notebook: NotebookNode, name: str) -> int | None:
    """Return where the cell of a grade id is."""
    for index, cell in enumerate(notebook.cells):
        if cell.metadata.get("nbgrader", {}).get("grade_id") == name:
            return index
    return None


def _blank(source: BaseCell) -> NotebookNode:
    """Return an answer cell as it was handed out."""
    cell = new_code_cell(source.source)
    cell.metadata.nbgrader = NotebookNode(
        grade=False,
        grade_id=source.name,
        locked=source.locked,
        schema_version=3,
        solution=True,
        task=False,
        checksum=source.checksum,
    )
    return cell
