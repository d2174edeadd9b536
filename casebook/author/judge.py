"""nbval over an execution that has been made: ``pytest -p casebook.author.judge --judge …``.

nbval collects the cells, reads their tags and compares stored with fresh outputs, as always. Only
its kernel is another one: it answers each cell with what the one execution of the notebook
(`casebook.author.execute.executed`) has shown, so that no notebook is executed a second time.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from queue import Empty

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

from casebook.author import execute, files

_SAYS_NOTHING = re.compile(r"\s*(#.*|(\w+ = )?\.\.\.)?")


class NotExecuted(Exception):
    """The execution of a notebook lacks a cell, or has run another text of it."""


class Replay:
    """Answers as nbval's ``RunningKernel`` does, from an executed notebook.

    Parameters
    ----------
    executed : NotebookNode
        With the outputs and counts of its run.
    name : str
        Of the notebook, for messages.
    """

    def __init__(self, executed: NotebookNode, name: str) -> None:
        self._cells = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
        self._name = name
        self._next = ""
        self._messages: deque[dict] = deque()

    def turn_to(self, cell: str) -> None:
        """Say which cell, by its id, is asked for next: two cells may have one text."""
        self._next = cell

    def is_alive(self) -> bool:
        """Say that cells are answered: a run that broke off shows in the cells it left out."""
        return True

    def execute_cell_input(self, source: str, allow_stdin: bool | None = None) -> str:
        """Line up the messages of a cell; return their id.

        Raises
        ------
        NotExecuted
            If the execution has no such cell, ran another text of it, or ended before it.
        """
        where = f"{self._name}, cell {self._next!r}"
        cell = self._cells.get(self._next)
        if cell is None:
            raise NotExecuted(f"{where} is not in the execution.")
        if _code(cell.source) != _code(source):
            raise NotExecuted(f"{where}: another text of it was executed.")
        if cell.execution_count is None and source.strip():
            raise NotExecuted(f"{where} was not executed: the run ended before it.")
        self._messages = deque([*map(_message, cell.outputs), {"execution_state": "idle"}])
        return self._next

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None:
        """Return at once: the cell has run."""

    def await_idle(self, parent_id: str, timeout: float) -> None:
        """Drop what is left of a cell."""
        self._messages.clear()

    def get_message(self, stream: str, timeout: float | None = None) -> dict:
        """Return the next message of the cell, in the form of Jupyter's protocol."""
        if not self._messages:
            raise Empty
        content = dict(self._messages.popleft())
        kind = content.pop("output_type", "status")
        return {"msg_type": kind, "parent_header": {"msg_id": self._next}, "content": content}

    def interrupt(self) -> None:
        """Do nothing: nothing runs."""

    def stop(self) -> None:
        """Do nothing: there is no process."""


def _code(source: str) -> list[str]:
    """Return the lines of a cell without comments and stubs: the page of a solution has neither."""
    lines = [line.rstrip() for line in source.splitlines()]
    return [line for line in lines if not _SAYS_NOTHING.fullmatch(line)]


def _message(output: NotebookNode) -> NotebookNode:
    """Return the content of the message that a kernel sends for an output."""
    content = output.copy()
    if output.output_type in ("display_data", "execute_result"):
        content.setdefault("metadata", {})
    if output.output_type == "execute_result":
        content.setdefault("execution_count", None)
    return content


class JudgedCell(IPyNbCell):
    """A cell as nbval judges it; the replay learns which one is asked for."""

    def setup(self) -> None:
        super().setup()
        self.parent.kernel.turn_to(self.cell.id)

    def runtest(self) -> None:
        """Compare; a tagged cell without a stored output is an error (nbval would pass it)."""
        if files.CHECK_TAG in files.tags(self.cell) and not self.cell.outputs:
            self.raise_cell_error("The cell is to be compared and has no stored output")
        super().runtest()

    def repr_failure(self, excinfo: pytest.ExceptionInfo) -> str:
        if isinstance(excinfo.value, NotExecuted):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class JudgedNotebook(IPyNbFile):
    """A notebook whose cells nbval compares with the notebook's one execution."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.compare_outputs = False  # as --nbval-lax: only of tagged cells

    def setup(self) -> None:
        """Take the execution under the notebook's present key; make it if there is none."""
        path = Path(self.path)
        name = f"{path.parent.name}/{path.stem}"
        self.kernel = Replay(execute.executed(path.parents[1], name).notebook, name)
        self.setup_sanitize_files()

    def collect(self) -> Iterator[JudgedCell]:
        for cell in super().collect():
            yield JudgedCell.from_parent(
                self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options
            )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--judge``."""
    group = parser.getgroup("nbval")
    group.addoption(
        "--judge", action="store_true", help="compare notebooks with their one execution"
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> JudgedNotebook | None:
    """Collect notebooks where nbval's own options do not."""
    if parent.config.option.judge and file_path.suffix == ".ipynb":
        return JudgedNotebook.from_parent(parent, path=file_path)
    return None
