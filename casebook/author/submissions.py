"""Submissions that a student has damaged must not end the grading of the others."""

from __future__ import annotations

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbgrader.api import BaseCell, Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor


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
