"""Execute notebooks, each once: what it shows is kept under a key and given out again.

:func:`executed` returns what a notebook shows; it runs a kernel only where the store
(``_build/executed``) has nothing under the notebook's key (:mod:`casebook.author.keys`).
The exercise, as the book shows it, and its solution are one execution: the same code cells.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_notebook

from casebook.author import files, keys
from casebook.project import write_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: Seconds that one cell may take.
CELL_TIMEOUT = 300
#: What the kernel of every execution is told.
BOOK_ENV = {"CASEBOOK_BOOK": "1", "OMP_NUM_THREADS": "1"}
#: How many kernels may run side by side.
WORKERS = 2 if fcntl else 1
#: How many executions of a notebook are kept.
KEPT = 8
#: Seconds between two looks at a kernel's processes.
INTERVAL = 0.25


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


@dataclass(frozen=True)
class Spent:
    """What an execution took.

    Attributes
    ----------
    cpu_seconds : float
        Of the kernel and of all processes that it started.
    seconds : float
        Wall clock.
    memory_mb : float
        Largest sum of the resident memory of these processes, looked at four times a second.
    """

    cpu_seconds: float
    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class Execution:
    """What a notebook shows, and what that took.

    Attributes
    ----------
    notebook : NotebookNode
        As it is now, with the outputs.
    cpu_seconds, seconds, memory_mb : float
        As in :class:`Spent`.
    key : str
        What the outputs depend on.
    cached : bool
        Whether nothing ran for it now.
    written : dict of str to str
        Content of the files that it wrote into its build folder, by path.
    """

    notebook: NotebookNode
    cpu_seconds: float
    seconds: float
    memory_mb: float
    key: str
    cached: bool
    written: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A line of the log: a kernel ran for somebody."""

    name: str
    who: str
    key: str
    cpu_seconds: float = 0.0
    error: str = ""


# The store ---------------------------------------------------------------------------


def store(root: Path) -> Path:
    """Return the folder of the executions of a checkout."""
    return root / "_build" / "executed"


def _folder(root: Path, name: str) -> Path:
    """Return where the executions of a notebook are; an exercise and its solution share them."""
    room, stem = name.split("/")
    return store(root) / ("exercises" if room == "solutions" else room) / stem


def source(root: Path, name: str) -> NotebookNode:
    """Return a notebook as its page shows it, without outputs of a run.

    Parameters
    ----------
    root : Path
        The checkout.
    name : str
        Such as ``"chapters/01_demand_forecasting"``. An exercise is made from its solution: with
        the answers, and with hints.

    Raises
    ------
    FileNotFoundError
        If there is no such notebook.
    """
    room, stem = name.split("/")
    if room == "exercises":
        from casebook.author import exercises

        return exercises.page(files.read(_there(root, f"solutions/{stem}")), stem)
    return files.read(_there(root, name))


def _there(root: Path, name: str) -> Path:
    path = root / f"{name}.ipynb"
    if not path.is_file():
        raise FileNotFoundError(f"There is no notebook {path}.")
    return path


def _to_run(name: str, notebook: NotebookNode) -> NotebookNode:
    """Return the code cells of a notebook as a kernel gets them: without stubs and outputs."""
    cut = {}
    if name.split("/")[0] == "solutions":
        from casebook.author import exercises

        graded = [*exercises.answer_cells(notebook).values()]
        graded += exercises.check_cells(notebook).values()
        cut = {
            notebook.cells[i].id: exercises.without_stub(notebook.cells[i].source) for i in graded
        }
    new = new_notebook(metadata=copy.deepcopy(notebook.metadata))
    new.cells = copy.deepcopy(keys.code_cells(notebook))
    for cell in new.cells:
        cell.source = cut.get(cell.id, cell.source)
        cell.outputs, cell.execution_count = [], None
    return new


def _environment(root: Path, env: Mapping[str, str] | None) -> dict[str, str]:
    """Return the whole environment of a kernel, for which a checkout's own package comes first."""
    given = {**os.environ, **BOOK_ENV, **(env or {})}
    given[keys.REAL_DATA] = keys.data_mode(given)
    if (root / keys.PACKAGE).is_dir():
        paths = [str(root), given.get("PYTHONPATH", "")]
        given["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return given


def stored(root: Path, name: str, env: Mapping[str, str] | None = None) -> Execution | None:
    """Return a notebook's execution if it is in the store; run nothing.

    Parameters are those of :func:`executed`.
    """
    root, notebook = root.resolve(), source(root, name)
    key = keys.key(root, name, _to_run(name, notebook), _environment(root, env))
    return _look_up(root, name, notebook, key)


def _look_up(root: Path, name: str, notebook: NotebookNode, key: str) -> Execution | None:
    path = _folder(root, name) / f"{key}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return _execution(notebook, record, key, cached=True)


def _execution(notebook: NotebookNode, record: Mapping, key: str, cached: bool) -> Execution:
    """Return an execution: the notebook with the outputs of a record."""
    filled = copy.deepcopy(notebook)
    for cell in keys.code_cells(filled):
        shown = record["cells"][cell.id]
        cell.execution_count = shown["execution_count"]
        cell.outputs = [from_dict(output) for output in shown["outputs"]]
    return Execution(filled, **record["spent"], key=key, cached=cached, written=record["written"])


def executed(
    root: Path, name: str, env: Mapping[str, str] | None = None, who: str | None = None
) -> Execution:
    """Return a notebook's execution: the stored one, or a new one that is stored.

    Parameters
    ----------
    root : Path
        The checkout.
    name : str
        Such as ``"chapters/01_demand_forecasting"``; an exercise and its solution share one
        execution.
    env : mapping, optional
        Added to the environment of the kernel; ``{"CASEBOOK_REAL_DATA": "off"}`` runs it without
        public data.
    who : str, optional
        For whom, in the log; the variable CASEBOOK_RUN_FOR or the program by default.

    Returns
    -------
    Execution

    Raises
    ------
    FileNotFoundError
        If there is no such notebook.
    NotebookFailed
        At the first cell that raises, runs out of time or loses its kernel. Nothing is stored.
    """
    if (found := stored(root, name, env)) is not None:
        return found
    root = root.resolve()
    with _locked(_folder(root, name).with_suffix(".lock")):  # another process may have run it
        if (found := stored(root, name, env)) is not None:
            return found
        return _run(root, name, env, who)


def _run(root: Path, name: str, env: Mapping[str, str] | None, who: str | None) -> Execution:
    """Run a kernel and store what it showed, unless what it depends on changed meanwhile."""
    given, notebook = _environment(root, env), source(root, name)
    todo = _to_run(name, notebook)
    before = keys.parts(root, name, todo, given)
    run = Run(name, who or os.environ.get("CASEBOOK_RUN_FOR") or _program(), keys.digest(before))
    with tempfile.TemporaryDirectory(prefix="casebook-") as scratch:
        given["CASEBOOK_BUILD_DIR"] = str(Path(scratch, "_build"))
        try:
            spent = measured(todo, name, Path(scratch), given, Turns(store(root)))
        except NotebookFailed as failure:
            _note(root, Run(**{**asdict(run), "error": str(failure)}))
            raise
        written = _written(Path(scratch, "_build"))
    after = keys.parts(root, name, _to_run(name, source(root, name)), given)
    record = {
        "spent": asdict(spent),
        "cells": {
            cell.id: {"execution_count": cell.execution_count, "outputs": cell.outputs}
            for cell in todo.cells
        },
        "written": written,
    }
    # Public data that the run itself has downloaded are the one change that it has seen.
    if {**before, "real": None} == {**after, "real": None}:
        _keep(_folder(root, name), keys.digest(after), record)
    _note(root, Run(**{**asdict(run), "cpu_seconds": spent.cpu_seconds}))
    return _execution(notebook, record, keys.digest(after), cached=False)


def _keep(folder: Path, key: str, record: Mapping) -> None:
    """Write a record; throw the oldest ones away."""
    write_whole(folder / f"{key}.json", json.dumps(record).encode())
    for old in sorted(folder.glob("*.json"), key=lambda path: -path.stat().st_mtime_ns)[KEPT:]:
        old.unlink(missing_ok=True)


def _written(folder: Path) -> dict[str, str]:
    """Return the scorecards that a notebook wrote, by path below its build folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.glob("scorecards/*.json"))
    }


# The log -----------------------------------------------------------------------------


def _program() -> str:
    """Return the name of the running program: ``pytest`` for ``python -m pytest`` too."""
    path = Path(sys.argv[0])
    return (path.parent if path.stem == "__main__" else path).name or "python"


def _note(root: Path, run: Run) -> None:
    store(root).mkdir(parents=True, exist_ok=True)
    with open(store(root) / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(run)) + "\n")


def runs(root: Path) -> list[Run]:
    """Return every run of a kernel that the store's log has, in order."""
    log = store(root) / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return [Run(**json.loads(line)) for line in lines]


def summary(of: Iterable[Run]) -> list[str]:
    """Return a line for each notebook: how often it ran, for whom, and its CPU seconds.

    A runner prints it for the runs since its start: ``runs(root)[before:]``.
    """
    by_name: dict[str, list[Run]] = {}
    for run in of:
        by_name.setdefault(run.name, []).append(run)
    found = []
    for name, own in sorted(by_name.items()):
        who = ", ".join(f"{count} for {who}" for who, count in Counter(r.who for r in own).items())
        found.append(f"{name}: {who}; {sum(run.cpu_seconds for run in own):.1f} CPU s")
    return found


# Running -----------------------------------------------------------------------------


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock against other threads and processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets go


class Turns:
    """Lets cells of several kernels run side by side, and a timed cell alone.

    The locks are files: they hold between threads and between processes.

    Parameters
    ----------
    folder : Path
        Of the lock files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    @contextmanager
    def take(self, alone: bool) -> Iterator[None]:
        """Wait for a turn and hold it."""
        if fcntl is None:  # kernels run one after the other then
            yield
            return
        with open(self.folder / "cells.lock", "w") as cells:
            # Who waits holds the gate, so that a timed cell is not passed by others for ever.
            with _locked(self.folder / "gate.lock"):
                fcntl.flock(cells, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield


class _Meter(threading.Thread):
    """Adds up what the processes of a kernel use, as long as it runs."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.kernel = psutil.Process(pid)
        self.own: dict[tuple[int, float], float] = {}
        self.cpu_seconds = self.memory_mb = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(INTERVAL):
            self.look()

    def look(self) -> None:
        """Look at all processes once.

        Those that ended are in the sum of the one that waited for them, and those that nobody
        waited for count as they were last seen.
        """
        total = memory = 0.0
        try:
            processes = [self.kernel, *self.kernel.children(recursive=True)]
        except psutil.Error:  # the kernel has ended
            return
        for process in processes:
            try:
                times, resident = process.cpu_times(), process.memory_info().rss
                one = process.pid, process.create_time()
            except psutil.Error:
                continue
            self.own[one] = own = times.user + times.system
            total += own + getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
            memory += resident / 2**20
        self.cpu_seconds = max(self.cpu_seconds, total, sum(self.own.values()))
        self.memory_mb = max(self.memory_mb, memory)

    def __enter__(self) -> _Meter:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Look for a last time, while the kernel still runs."""
        self.over.set()
        self.join()
        self.look()


def measured(
    notebook: NotebookNode,
    name: str,
    folder: Path,
    env: Mapping[str, str],
    turns: Turns | None = None,
) -> Spent:
    """Execute a notebook in place and measure it.

    Parameters
    ----------
    notebook : NotebookNode
        Gets the outputs.
    name : str
        For messages.
    folder : Path
        Working directory of the kernel.
    env : mapping
        Whole environment of the kernel.
    turns : Turns, optional
        What each cell waits for.

    Returns
    -------
    Spent

    Raises
    ------
    NotebookFailed
        At the first cell that raises, runs out of time or loses its kernel.
    """
    position = {"id": notebook.cells[0].id if notebook.cells else ""}

    def note(cell, cell_index):
        position["id"] = cell.id

    def turn(alone: bool):
        return turns.take(alone) if turns else nullcontext()

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,  # a second run would differ from the first
        coalesce_streams=True,  # a slow machine hands a text out in more pieces
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=note,
        extra_arguments=["--log-level=ERROR"],
    )
    started = time.perf_counter()
    try:
        with ExitStack() as stack:
            with turn(alone=False):
                stack.enter_context(client.setup_kernel(env=dict(env)))
            meter = stack.enter_context(_Meter(client.km.provisioner.pid))
            for index, cell in enumerate(notebook.cells):
                with turn(alone=files.SERIAL_TAG in files.tags(cell)):
                    client.execute_cell(cell, index)
    except CellExecutionError as error:
        raise NotebookFailed(name, position["id"], f"{error.ename}: {error.evalue}") from error
    except CellTimeoutError as error:
        reason = f"took longer than {CELL_TIMEOUT} s"
        raise NotebookFailed(name, position["id"], reason) from error
    except DeadKernelError as error:
        raise NotebookFailed(name, position["id"], "the kernel died (out of memory?)") from error
    seconds = time.perf_counter() - started
    return Spent(round(meter.cpu_seconds, 2), round(seconds, 2), round(meter.memory_mb, 1))


def execute(
    notebook: NotebookNode, name: str, folder: Path, env: dict[str, str] | None = None
) -> float:
    """Execute a notebook in place, whatever the store has; return the wall-clock seconds.

    Parameters and errors are those of :func:`measured`; ``env`` is added to the environment.
    """
    return measured(notebook, name, folder, {**os.environ, **(env or {})}).seconds
