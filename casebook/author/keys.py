"""The key of a notebook's execution: a hash of everything that its results depend on.

It covers the code cells, every definition of the course that they reach (:mod:`casebook.reach`),
the data files of the case and of the cases that cells or code name, the public data sets that
they name and whether each is here, the pinned packages, and the settings of the course. What
none of these touches, changes no key.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

import casebook
from casebook.author.files import SERIAL_TAG, tags
from casebook.data import cache_dir
from casebook.project import folder_from
from casebook.reach import Reached, Sources

PACKAGE = "casebook"
PINS = ("requirements.txt", "constraints.txt")
CASE = re.compile(r"(?:\d\d|[A-D])_[a-z0-9_]+")
#: Settings that say where files are, or who asks: no result depends on them.
PLACES = ("CASEBOOK_DATA_DIR", "CASEBOOK_CACHE_DIR", "CASEBOOK_BUILD_DIR", "CASEBOOK_RUN_FOR")
REAL_DATA = "CASEBOOK_REAL_DATA"
#: The function by which a cell shows the source of a definition.
SHOWS = "show_source"
#: The tags that change how a kernel runs a cell; others say how a page shows it.
RUN_TAGS = (SERIAL_TAG, "raises-exception", "skip-execution")


def data_mode(env: Mapping[str, str]) -> str:
    """Return whether public data may be used: ``"on"`` or ``"off"``."""
    return "off" if env.get(REAL_DATA, "").strip().lower() == "off" else "on"


def package_folder(root: Path) -> Path:
    """Return the folder of the package that a notebook of a checkout imports."""
    own = root / PACKAGE
    return own if own.is_dir() else Path(casebook.__file__).parent


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that a kernel runs."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def reached(root: Path, notebook: NotebookNode) -> Reached:
    """Return what the code cells of a notebook reach.

    Where they are not Python, everything counts.
    """
    sources = Sources({PACKAGE: package_folder(root)})
    transform = TransformerManager().transform_cell
    text = "\n".join(transform(cell.source) for cell in code_cells(notebook))
    try:
        parsed = sources.parse(text)
    except SyntaxError:
        parsed = sources.parse("exec('')")
    return sources.reached_by(parsed)


def key(root: Path, name: str, notebook: NotebookNode, env: Mapping[str, str]) -> str:
    """Return the key of a notebook's execution.

    Parameters
    ----------
    root : Path
        The checkout.
    name : str
        Such as ``"chapters/01_demand_forecasting"``.
    notebook : NotebookNode
    env : mapping
        Whole environment of the kernel.

    Returns
    -------
    str
        Twenty hexadecimal digits.
    """
    return digest(parts(root, name, notebook, env))


def digest(values: Mapping[str, object]) -> str:
    """Return the key for its parts."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def parts(
    root: Path, name: str, notebook: NotebookNode, env: Mapping[str, str]
) -> dict[str, object]:
    """Return what a key is made of, by what it is; parameters as for :func:`key`."""
    code, cells = reached(root, notebook), code_cells(notebook)
    return {
        "cells": [[c.id, c.source, *(t for t in RUN_TAGS if t in tags(c))] for c in cells],
        "code": code.fingerprint(),
        "shown": _shown(code, cells),
        "package": _hashes(package_folder(root), _package_files(root, code.modules)),
        "data": _hashes(root, _data_files(root, name.split("/")[-1], code.named)),
        "real": {
            dataset: [entry, _presence(entry, env)]
            for dataset, entry in _public(root, code.named).items()
        },
        "pins": _hashes(root, [root / pin for pin in PINS]),
        "python": sys.version_info[:2],
        "mode": data_mode(env),
        "settings": _settings(env),
    }


def _shown(code: Reached, cells: Iterable[NotebookNode]) -> list[list[str]]:
    """Return the definitions whose source cells may show: module, name, and text with comments."""
    if not any(SHOWS in cell.source for cell in cells):
        return []
    return [[*one, code.definitions[one].text] for one in sorted(code.direct)]


def _settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the course on which results may depend."""
    own = {k: v for k, v in env.items() if k.startswith("CASEBOOK_") and v}
    return {k: v for k, v in sorted(own.items()) if k not in (*PLACES, REAL_DATA)}


# Files -------------------------------------------------------------------------------


def _package_files(root: Path, modules: Iterable[str]) -> Iterator[Path]:
    """Yield the package's files, other than modules, that stand by reached modules or below."""
    sources = Sources({PACKAGE: package_folder(root)})
    for folder in {file.parent for module in modules if (file := sources.file(module))}:
        yield from _beside(folder)


def _beside(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").is_file():
            yield from _beside(path)
        elif path.is_file() and path.suffix != ".py":
            yield path


def _data_files(root: Path, stem: str, named: set[str]) -> Iterator[Path]:
    """Yield the files of the cases whose folders in ``data/`` count."""
    places = {place.split("/")[0] for place in named}
    for case in {stem, *filter(CASE.fullmatch, places)}:
        folder = root / "data" / case
        yield from (p for p in folder.rglob("*") if p.is_file() and p.name != "README.md")


def _hashes(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the hash of each file that is there, by its path below the root."""
    found = {p.relative_to(root).as_posix(): p for p in paths if p.is_file()}
    return {name: _hash(path) for name, path in sorted(found.items())}


def _hash(path: Path) -> str:
    status = path.stat()
    return _hash_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _hash_of(path: Path, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Public data -------------------------------------------------------------------------


def _public(root: Path, named: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the entries of the registry that texts name, as a whole or by a beginning (``a_``)."""
    path = root / "data" / "real.toml"
    entries = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    begun = tuple(text for text in named if re.fullmatch(r"\w+_", text))
    return {k: v for k, v in sorted(entries.items()) if k in named or k.startswith(begun)}


def _presence(entry: Mapping[str, str], env: Mapping[str, str]) -> str:
    """Return the hash of a public data set that a kernel would find, or ``"absent"``."""
    if data_mode(env) == "off":
        return "absent"
    given = folder_from("CASEBOOK_DATA_DIR", env)
    cache = folder_from("CASEBOOK_CACHE_DIR", env) or cache_dir()
    for folder in filter(None, (given, cache)):
        path = folder / entry["path"]
        # A set that is put together has a file for each version of what wrote it.
        if path.is_file() and ("content" in entry or _hash(path) == entry["sha256"]):
            return _hash(path)
    return "absent"
