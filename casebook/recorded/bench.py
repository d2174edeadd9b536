"""Benchmarks that cost too much for a page: run by ``make bench``, shown as recorded.

A case keeps its benchmarks in ``casebook/cases/<case>/benchmarks.py``: a dict ``BENCHMARKS`` of
functions without required arguments, each of which returns a frame. ``python -m
casebook.recorded.bench 01``
runs them and writes ``data/<case>/benchmarks/<name>.csv`` with ``<name>.json`` beside it: machine,
date, command, seconds, versions, the table's hash and a fingerprint of the code that made it. A
chapter shows a table by :func:`recorded`; a test says when one is :func:`stale`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from casebook.project import data_dir, write_whole
from casebook.reach import Reached, of_function

if TYPE_CHECKING:
    import pandas as pd

    Benchmark = Callable[[], pd.DataFrame]

PACKAGE = "casebook"
#: Numbers are written with so many significant digits.
DIGITS = 5
#: Modules that hand out files whose hash is known: how they find one does not determine a table.
CLOSED = ("casebook.data.files",)


# A recorded table --------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """A table that ``make bench`` wrote.

    Attributes
    ----------
    frame : DataFrame
        As it stands in the csv: dates are text, numbers have five significant digits.
    machine : dict
        ``cores``, ``cpu``, ``memory_gb``, ``python``, ``system``, ``threads`` (what
        ``OMP_NUM_THREADS`` allowed), ``load`` (mean number of busy processes in the minute before
        the start) and ``others`` (mean number of cores that other processes kept busy during the
        run; None where the system does not say).
    date : str
        Day of the run, year first.
    command : str
        What makes it anew.
    seconds : float
        Duration of the run.
    versions : dict of str to str
        Packages that the benchmark's code imports.
    """

    frame: pd.DataFrame
    machine: dict[str, object]
    date: str
    command: str
    seconds: float
    versions: dict[str, str]

    def caption(self, text: str) -> str:
        """Return a table's caption that says where its numbers come from.

        Parameters
        ----------
        text : str
            What the table shows.

        Returns
        -------
        str
            ``text`` and "Recorded <date> on <n> cores by `<command>`."
        """
        cores = self.machine["cores"]
        plural = "core" if cores == 1 else "cores"
        return f"{text} Recorded {self.date} on {cores} {plural} by `{self.command}`."


def _folder(case: str) -> Path:
    return data_dir() / case / "benchmarks"


def _command(case: str) -> str:
    return f"make bench N={case.split('_')[0]}"


def _meta(case: str, name: str) -> dict:
    """Return what stands beside a table, after its hash was checked."""
    folder = _folder(case)
    table, beside = folder / f"{name}.csv", folder / f"{name}.json"
    if not (table.is_file() and beside.is_file()):
        there = ", ".join(tables(case)) or "none"
        raise FileNotFoundError(
            f"No benchmark {case}/{name}; recorded: {there}. `{_command(case)}` runs them."
        )
    meta = json.loads(beside.read_text(encoding="utf-8"))
    if hashlib.sha256(table.read_bytes()).hexdigest() != meta["sha256"]:
        raise ValueError(
            f"{case}/benchmarks/{name}.csv is not the table that was recorded on {meta['date']}: "
            f"its hash differs. Restore it, or run `{_command(case)}`."
        )
    return meta


def recorded(case: str, name: str) -> Recorded:
    """Read a recorded benchmark.

    Parameters
    ----------
    case : str
        Folder in ``data/``, such as ``"01_demand_forecasting"``.
    name : str
        Of the benchmark.

    Returns
    -------
    Recorded

    Raises
    ------
    FileNotFoundError
        With the names that are there and the command that runs them.
    ValueError
        If the table was altered after it was recorded.
    """
    import pandas as pd

    meta = _meta(case, name)
    frame = pd.read_csv(_folder(case) / f"{name}.csv")
    keys = ("machine", "date", "command", "seconds", "versions")
    return Recorded(frame, **{key: meta[key] for key in keys})


def tables(case: str) -> list[str]:
    """Return the names of a case's recorded benchmarks.

    Parameters
    ----------
    case : str
        Folder in ``data/``.
    """
    return sorted(path.stem for path in _folder(case).glob("*.csv"))


def stale(case: str, name: str) -> bool:
    """Say whether the code that made a recorded table has changed since.

    Parameters
    ----------
    case, name : str
        As for :func:`recorded`.

    Returns
    -------
    bool

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`recorded`.
    KeyError
        If the case has no such benchmark any more.
    """
    return _meta(case, name)["fingerprint"] != fingerprint(_pick(case, [name])[name])


# The code that determines a table ----------------------------------------------------


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _reached(benchmark: Benchmark) -> Reached:
    """Return the course's definitions that a benchmark reaches, and the packages they import."""
    while isinstance(benchmark, partial):
        benchmark = benchmark.func
    return of_function(benchmark, PACKAGE, closed=CLOSED)


def fingerprint(benchmark: Benchmark) -> str:
    """Return the fingerprint of the course's code that determines a benchmark.

    It covers the function and every definition of the course that it reaches, in any module.
    Comments, docstrings, empty lines and import statements do not count, nor does the module in
    which a definition stands. What another definition of the same modules does, changes nothing.
    Data files, the modules that find them (``CLOSED``) and other packages do not enter.

    Parameters
    ----------
    benchmark : callable
        A function at the top of a module, or a partial of one. Of anything else the whole module
        counts.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    return _reached(benchmark).fingerprint()


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _versions(benchmark: Benchmark) -> dict[str, str]:
    """Return the versions of the packages that a benchmark's code imports."""
    packages = _reached(benchmark).packages
    names = {name for root in packages for name in _distributions().get(root, [])}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


# Running -----------------------------------------------------------------------------


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None
    return round(size / 2**30, 1)


def _machine() -> dict[str, object]:
    """Describe the machine, by nothing that names it."""
    usable = getattr(os, "sched_getaffinity", None)
    return {
        "cores": len(usable(0)) if usable else os.cpu_count(),
        "cpu": _cpu(),
        "memory_gb": _memory_gb(),
        "system": platform.system(),
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _busy() -> tuple[float, float] | None:
    """Return the seconds that all cores, and this process with those it ended, were busy so far."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:  # Linux alone has it
        return None
    user, nice, system, _, _, irq, softirq = map(int, lines[0].split()[1:8])
    own = os.times()
    ours = own.user + own.system + own.children_user + own.children_system
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), ours


def _others(before: tuple[float, float] | None, seconds: float) -> float | None:
    """Return the mean number of cores that other processes kept busy since ``before``."""
    if before is None or (after := _busy()) is None:
        return None
    every, own = (b - a for a, b in zip(before, after, strict=True))
    return round(max(0.0, every - own) / max(seconds, 0.1), 2)


def record(case: str, name: str, benchmark: Benchmark) -> Recorded:
    """Run a benchmark and write its table.

    Parameters
    ----------
    case, name : str
        As for :func:`recorded`.
    benchmark : callable
        Returns the frame; its index is not written.

    Returns
    -------
    Recorded

    Raises
    ------
    ValueError
        If the frame is empty. Whatever the benchmark raises is passed on; a table that was
        recorded before stays as it is.
    """
    made_by, machine = fingerprint(benchmark), _machine()  # of before: the run takes minutes
    busy, start = _busy(), time.perf_counter()
    frame = benchmark()
    seconds = time.perf_counter() - start
    machine["others"] = _others(busy, seconds)
    if frame.empty:
        raise ValueError(f"benchmark {name} made an empty table")
    csv = frame.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
    meta = {
        "command": _command(case),
        "date": date.today().isoformat(),
        "seconds": round(seconds, 1),
        "rows": len(frame),
        "machine": machine,
        "versions": _versions(benchmark),
        "fingerprint": made_by,
        "sha256": hashlib.sha256(csv.encode()).hexdigest(),
    }
    text = json.dumps(meta, indent=2) + "\n"
    write_whole(_folder(case) / f"{name}.csv", csv.encode())
    write_whole(_folder(case) / f"{name}.json", text.encode())
    return recorded(case, name)


def case_of(number: str) -> str:
    """Return the full name of a case.

    Parameters
    ----------
    number : str
        ``"01"``, or the name itself.

    Returns
    -------
    str
        Such as ``"01_demand_forecasting"``.

    Raises
    ------
    KeyError
        If there is no such case.
    """
    cases = sorted(path.name for path in data_dir().glob("[0-9][0-9]_*") if path.is_dir())
    for case in cases:
        if number in (case, case.split("_")[0]):
            return case
    raise KeyError(f"No case {number!r}; there: {', '.join(cases)}.")


def benchmarks(case: str) -> Mapping[str, Benchmark]:
    """Return the benchmarks of a case by name.

    Parameters
    ----------
    case : str
        Such as ``"01_demand_forecasting"``.

    Returns
    -------
    mapping of str to callable

    Raises
    ------
    KeyError
        If the case has none.
    """
    module = f"{PACKAGE}.cases.{case.partition('_')[2]}.benchmarks"
    if not _is_module(module):
        raise KeyError(f"{case} has no benchmarks: there is no module {module}.")
    return importlib.import_module(module).BENCHMARKS


def _pick(case: str, names: Sequence[str]) -> dict[str, Benchmark]:
    """Return the named benchmarks of a case, or all of them."""
    known = benchmarks(case)
    if unknown := [name for name in names if name not in known]:
        raise KeyError(f"{case} has no benchmark {unknown[0]!r}; there: {', '.join(known)}.")
    return {name: known[name] for name in known if name in names or not names}


def _run(case: str, chosen: Mapping[str, Benchmark]) -> Iterator[bool]:
    """Record each benchmark and print a line; yield whether it went well."""
    for name, benchmark in chosen.items():
        start = time.perf_counter()
        try:
            rows = len(record(case, name, benchmark).frame)
            line, well = f"recorded  {name}  {rows:,} rows", True
        except Exception as error:  # the others are run all the same
            line, well = f"failed    {name}  {type(error).__name__}: {error}", False
        print(f"{line}  {time.perf_counter() - start:.1f} s", flush=True)
        yield well


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks of one case: ``python -m casebook.recorded.bench 01 [name …]``."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m casebook.recorded.bench", description=main.__doc__
    )
    parser.add_argument("case", help="number of the case, such as 01")
    parser.add_argument("names", nargs="*", help="benchmarks to run (all of them by default)")
    options = parser.parse_args(arguments)
    # Before anything loads a library that counts the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        case = case_of(options.case)
        chosen = _pick(case, options.names)
    except KeyError as error:
        parser.error(error.args[0])
    return 0 if all(list(_run(case, chosen))) else 1


if __name__ == "__main__":
    sys.exit(main())
