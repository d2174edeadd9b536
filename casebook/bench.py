"""Benchmarks that cost too much for a page: run by ``make bench``, shown as recorded.

A case keeps its benchmarks in ``casebook/systems/<case>/benchmarks.py``: a dict ``BENCHMARKS`` of
functions without required arguments, each of which returns a frame. ``python -m casebook.bench 01``
runs them and writes ``data/<case>/benchmarks/<name>.csv`` with ``<name>.json`` beside it: machine,
date, command, seconds, versions, the table's hash and a fingerprint of the code that made it. A
chapter shows a table by :func:`recorded`; a test says when one is :func:`stale`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import sys
import time
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from casebook.project import data_dir, write_whole

if TYPE_CHECKING:
    import pandas as pd

    Benchmark = Callable[[], pd.DataFrame]

PACKAGE = "casebook"
#: Numbers are written with so many significant digits.
DIGITS = 5


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


@dataclass(frozen=True)
class _Module:
    """What a module defines at its top, and where its other names come from.

    Attributes
    ----------
    code : dict of str to str
        Text of each definition, without comments, docstrings and empty lines.
    uses : dict of str to set of str
        Names that a definition mentions.
    imports : dict of str to tuple
        Module and attribute (None: the module itself) behind an imported name.
    """

    code: dict[str, str]
    uses: dict[str, set[str]]
    imports: dict[str, tuple[str, str | None]]


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _bare(source: str, tree: ast.Module) -> list[str]:
    """Return the lines of a source with its comments and docstrings blanked."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            first = node.body[0] if node.body else None
            value = getattr(first, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                for row in range(
                    max(first.lineno, getattr(node, "lineno", 0) + 1), first.end_lineno + 1
                ):
                    lines[row - 1] = ""
    return [line.rstrip() for line in lines]


def _imports(tree: ast.Module, package: str) -> dict[str, tuple[str, str | None]]:
    """Return what each imported name of a module stands for, wherever it is imported."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (alias.name, None)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                ours, inner = base.split(".")[0] == PACKAGE, f"{base}.{alias.name}"
                whole = ours and _is_module(inner)
                found[alias.asname or alias.name] = (inner, None) if whole else (base, alias.name)
    return found


@cache
def _parsed(module: str) -> _Module:
    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines, code, uses = _bare(source, tree), {}, {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = list(ast.walk(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound = {node.name}
        else:
            names = [n for n in names if isinstance(n, ast.Name)]
            bound = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        text = "\n".join(line for line in lines[start - 1 : node.end_lineno] if line)
        for name in bound:
            code[name] = code.get(name, "") + text + "\n"
            uses.setdefault(name, set()).update(n.id for n in names if isinstance(n, ast.Name))
    package = module if spec.submodule_search_locations else module.rpartition(".")[0]
    return _Module(code, uses, _imports(tree, package))


def _determining(benchmark: Benchmark) -> tuple[dict[tuple[str, str], str], set[str]]:
    """Return the course's definitions that a function reaches, and the packages they import."""
    while isinstance(benchmark, partial):
        benchmark = benchmark.func
    todo = [(benchmark.__module__, getattr(benchmark, "__name__", None))]
    code: dict[tuple[str, str], str] = {}
    packages: set[str] = set()
    while todo:
        module, name = todo.pop()
        root = module.split(".")[0]
        if root != benchmark.__module__.split(".")[0] and root != PACKAGE:
            packages.add(root)
            continue
        parsed = _parsed(module)
        if name in parsed.imports and name not in parsed.code:  # handed on from another module
            todo.append(parsed.imports[name])
            continue
        for one in [name] if name in parsed.code else parsed.code:
            if (module, one) not in code:
                code[module, one] = parsed.code[one]
                todo += [parsed.imports[n] for n in parsed.uses[one] if n in parsed.imports]
                todo += [(module, n) for n in parsed.uses[one] if n in parsed.code]
    return code, packages


def fingerprint(benchmark: Benchmark) -> str:
    """Return the fingerprint of the course's code that determines a benchmark.

    It covers the function and every definition of the course that it reaches, in any module;
    comments, docstrings and empty lines do not count. What another definition of the same modules
    does, changes nothing. Data files and other packages do not enter.

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
    code, _ = _determining(benchmark)
    text = "\0".join("\0".join([*where, what]) for where, what in sorted(code.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _versions(benchmark: Benchmark) -> dict[str, str]:
    """Return the versions of the packages that a benchmark's code imports."""
    _, packages = _determining(benchmark)
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
    module = f"{PACKAGE}.systems.{case.partition('_')[2]}.benchmarks"
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
    """Run the benchmarks of one case: ``python -m casebook.bench 01 [name …]``."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m casebook.bench", description=main.__doc__)
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
