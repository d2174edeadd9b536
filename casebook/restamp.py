"""Stamp recorded tables and artifacts with the present formula of their fingerprint, once.

The former formula hashed the paths of modules too, so that moving one made every table stale.
``python -m casebook.bench --restamp 01`` replaces a former fingerprint by the present one where it
still matches the code, and refuses otherwise. Nothing else uses this module: it can go as soon
as no table carries a former fingerprint.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import tokenize
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from casebook import artifacts, bench
from casebook.project import data_dir, write_whole

if TYPE_CHECKING:
    from casebook.bench import Benchmark


# The former formula ------------------------------------------------------------------


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


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
                ours, inner = base.split(".")[0] == bench.PACKAGE, f"{base}.{alias.name}"
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
        if root != benchmark.__module__.split(".")[0] and root != bench.PACKAGE:
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


def former(benchmark: Benchmark) -> str:
    """Return the fingerprint of a benchmark's code by the former formula."""
    code, _ = _determining(benchmark)
    text = "\0".join("\0".join([*where, what]) for where, what in sorted(code.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# Stamping ----------------------------------------------------------------------------


def _stamp(what: str, stored: str, benchmark: Benchmark) -> str:
    """Return the present fingerprint for a stored one.

    Raises
    ------
    ValueError
        If the stored one matches the code by neither formula.
    """
    now = bench.fingerprint(benchmark)
    if stored in (now, former(benchmark)):
        return now
    raise ValueError(f"{what} was made by other code than the present: make it again first.")


def restamp(case: str) -> list[str]:
    """Stamp the tables and the artifacts of a case with the present fingerprints.

    Parameters
    ----------
    case : str
        Such as ``"01_demand_forecasting"``.

    Returns
    -------
    list of str
        What was stamped. What is stamped already is left alone.

    Raises
    ------
    ValueError
        If a table, or an artifact, was altered or made by other code than the present. Nothing
        is written then.
    """
    files = {path: meta for path, meta in [*_tables(case), *_artifacts(case)] if meta}
    for path, meta in files.items():
        write_whole(path, (json.dumps(meta, indent=2) + "\n").encode())
    return sorted(f"{path.parent.name}/{path.name}" for path in files)


def _tables(case: str) -> list[tuple[Path, dict]]:
    """Return the file beside each table with its new content; none where it is right."""
    found = []
    for name in bench.tables(case):
        path = data_dir() / case / "benchmarks" / f"{name}.json"
        bench.recorded(case, name)  # refuses an altered table
        meta = json.loads(path.read_text(encoding="utf-8"))
        stamp = _stamp(f"{case}/{name}", meta["fingerprint"], bench.benchmarks(case)[name])
        changed = stamp != meta["fingerprint"]
        found.append((path, {**meta, "fingerprint": stamp} if changed else {}))
    return found


def _artifacts(case: str) -> list[tuple[Path, dict]]:
    """Return the manifest of the artifacts with its new content; none where it is right."""
    if case not in artifacts.cases():
        return []
    entries = artifacts.manifest(case)
    recipes, new = artifacts.builder(case).ARTIFACTS, {}
    for file, entry in entries.items():
        artifacts.artifact(case, file)  # refuses an altered file
        code = _stamp(f"{case}/{file}", entry["inputs"]["code"], recipes[file].build)
        new[file] = {**entry, "inputs": {**entry["inputs"], "code": code}}
    path = data_dir() / case / "artifacts" / artifacts.MANIFEST
    return [(path, new if new != entries else {})]
