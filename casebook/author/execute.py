"""Execute a notebook in a kernel of its own."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

#: Seconds that one cell may take.
CELL_TIMEOUT = 300


@dataclass(eq=False)  # not frozen: Python itself sets the traceback of an exception
class NotebookFailed(Exception):
    """A notebook ended at a cell.

    Attributes
    ----------
    name, cell, error : str
        Notebook, id of its cell, and what was raised.
    """

    name: str
    cell: str
    error: str

    def __str__(self) -> str:
        return f"{self.name}, cell {self.cell!r}: {self.error}"


def execute(
    notebook: NotebookNode, name: str, folder: Path, env: dict[str, str] | None = None
) -> float:
    """Execute a notebook in place.

    Parameters
    ----------
    notebook : NotebookNode
        Gets the outputs.
    name : str
        For messages.
    folder : Path
        Working directory of the kernel.
    env : dict, optional
        Added to the environment of the kernel.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    NotebookFailed
        At the first cell that raises, runs out of time or loses its kernel.
    """
    position = {"id": notebook.cells[0].id if notebook.cells else ""}

    def note(cell, cell_index):
        position["id"] = cell.id

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,  # it would change the cells, by which jupyter-cache knows them
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=note,
        extra_arguments=["--log-level=ERROR"],
    )
    started = time.perf_counter()
    try:
        with client.setup_kernel(env={**os.environ, **(env or {})}):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
    except CellExecutionError as error:
        raise NotebookFailed(name, position["id"], f"{error.ename}: {error.evalue}") from error
    except CellTimeoutError as error:
        reason = f"took longer than {CELL_TIMEOUT} s"
        raise NotebookFailed(name, position["id"], reason) from error
    except DeadKernelError as error:
        raise NotebookFailed(name, position["id"], "the kernel died (out of memory?)") from error
    return time.perf_counter() - started
