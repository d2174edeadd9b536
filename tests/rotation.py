"""Costly checks run when what they check has changed, and one more of them by rotation.

A check with a key that has passed before is not due again, except in its turn, which the commit
decides, or when everything runs (``make test-all``)::

    with turn("contract", "01_demand_forecasting", key, among=names):
        assert solution_faults(path) == []

Whole files of tests have keys too: those of every case, and costly ones of the house;
``tests/turns.toml`` says what they use.

Passes are on record in two places: the machine's own, and ``tests/passed.toml``, which is
committed, so that a new machine does not begin from nothing. ``python tests/rotation.py`` adds
this machine's passes to it. A key that nobody has recorded is due, so an old line of the record
costs time and hides nothing; a false one is found in its turn and by ``make test-all``.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from casebook.author import execute, keys
from casebook.data import find_real, registry
from casebook.project import build_dir, require_checkout, write_whole
from casebook.reach import Sources

#: The variable by which ``make test-all`` asks for everything.
EVERYTHING = "EVERY_CHECK"
#: Why a check did not run.
LEFT_OUT = "passed with this code before, and not its turn"
#: What is installed, to the last package: a requirement that it already meets changes nothing.
LOCK = "constraints.txt"
#: The kind of check that is a file of tests.
FILE = "file"
#: Keys of each check that the committed record holds: with public data, without, and one more.
MOST_KEYS = 3
#: The dotted name of a module of the course, or of something in it (``"casebook.a:b"``).
MODULE = re.compile(r"casebook(\.\w+)+(:\w+)?")
HEAD = """\
# Costly checks and the keys with which they have passed. Written by `python tests/rotation.py`
# after a run of all checks; which checks, and what a key covers: tests/rotation.py.
"""


def everything() -> bool:
    """Say whether nothing is to be left out."""
    return os.environ.get(EVERYTHING) == "1"


def commit(root: Path | None = None) -> str:
    """Return the hash of the commit that is checked out; zeros where git knows none."""
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=root or require_checkout(), capture_output=True, text=True)
    return done.stdout.strip() or "0" * 40


def chosen(among: Sequence[str], what: str, at: str | None = None) -> str:
    """Return the name whose turn it is at a commit.

    Parameters
    ----------
    among : sequence of str
        All names. Not empty.
    what : str
        The kind of check: each has a rotation of its own.
    at : str, optional
        Hash of the commit; by default of the present one.
    """
    digest = hashlib.sha256(f"{what} {at or commit()}".encode()).hexdigest()
    return sorted(among)[int(digest, 16) % len(among)]


def _note(what: str, name: str) -> Path:
    return build_dir() / "passed" / what / name


def _record(root: Path) -> Path:
    return root / "tests" / "passed.toml"


def read_record(root: Path) -> dict[str, dict[str, list[str]]]:
    """Return the committed keys by kind of check and name, the newest first."""
    path = _record(root)
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def known_keys(what: str, name: str) -> list[str]:
    """Return the keys with which a check has passed, here or by the committed record."""
    note = _note(what, name)
    own = [note.read_text(encoding="utf-8")] if note.is_file() else []
    return own + read_record(require_checkout()).get(what, {}).get(name, [])


def record_text(known: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Return the content of ``tests/passed.toml``."""
    lines = [HEAD]
    for what in sorted(known):
        lines.append(f"\n[{what}]\n")
        for name, keys_ in sorted(known[what].items()):
            listed = ", ".join(f'"{key}"' for key in keys_)
            lines.append(f'"{name}" = [{listed}]\n')
    return "".join(lines)


def _with_own(root: Path) -> tuple[dict[str, dict[str, list[str]]], int]:
    """Return the committed record with this machine's passes, and how many of them are new."""
    known, new, folder = read_record(root), 0, build_dir() / "passed"
    for note in sorted(path for path in folder.rglob("*") if path.is_file()):
        what, *parts = note.relative_to(folder).parts
        name, key = "/".join(parts), note.read_text(encoding="utf-8")
        before = known.setdefault(what, {}).get(name, [])
        new += key not in before
        known[what][name] = [key, *(one for one in before if one != key)][:MOST_KEYS]
    return known, new


def unrecorded(root: Path) -> int:
    """Return how many of this machine's passes the committed record does not hold."""
    return _with_own(root)[1]


def keep(root: Path) -> int:
    """Add this machine's passes to the committed record; return how many were new."""
    known, new = _with_own(root)
    write_whole(_record(root), record_text(known).encode())
    return new


def due(what: str, name: str, key: str, among: Sequence[str], at: str | None = None) -> str:
    """Return why a check is to run now; an empty text if it is not.

    Parameters
    ----------
    what, name : str
        The kind of check and what it is run on: ``"contract"``, ``"01_demand_forecasting"``.
    key : str
        Of everything that the verdict depends on.
    among : sequence of str
        Every name that this kind of check is run on.
    at : str, optional
        As for `chosen`.
    """
    if everything():
        return "everything runs"
    known = known_keys(what, name)
    if not known:
        return "no pass is recorded"
    if key not in known:
        return "it has changed since its last pass"
    return "it is its turn" if chosen(among, what, at) == name else ""


def passed(what: str, name: str, key: str) -> None:
    """Record that a check has passed with this key."""
    write_whole(_note(what, name), key.encode())


@contextmanager
def turn(what: str, name: str, key: str, among: Sequence[str]) -> Iterator[None]:
    """Skip the test if its check is not due; record a pass if nothing inside raises.

    Parameters
    ----------
    what, name, key, among
        As for `due`.
    """
    if not (why := due(what, name, key, among)):
        pytest.skip(f"{what} of {name}: {LEFT_OUT}")
    print(f"{what} of {name}: {why}")
    yield
    passed(what, name, key)


def key_of(*parts: str | Path) -> str:
    """Return one key for texts and the contents of files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def notebook_key(name: str, *parts: str | Path) -> str:
    """Return the key of a notebook (its cells and everything they reach) and of further parts.

    Parameters
    ----------
    name : str
        Such as ``"solutions/01_demand_forecasting"``. It is executed if it has not been.
    *parts : str or Path
        As for `key_of`.
    """
    root = require_checkout()
    execution = execute.stored(root, name) or execute.executed(root, name)
    return key_of(execution.key, *parts)


# Whole files of tests ------------------------------------------------------------------


def costly(root: Path) -> dict[str, Sequence[str]]:
    """Return the files of tests that have turns, with what they use beyond their imports.

    From ``tests/turns.toml``: files, folders and patterns below the checkout; a name of its
    section ``shared`` stands for a list of them. Its section ``cases`` is for the tests of every
    case, which use what belongs to their case.
    """
    path = root / "tests" / "turns.toml"
    if not path.is_file():
        return {}
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    shared = content.get("shared", {})
    named = of_cases(root, content["cases"]["uses"]) if "cases" in content else {}
    named |= content["files"]
    return {
        name: [one for use in uses for one in shared.get(use, [use])]
        for name, uses in sorted(named.items())
    }


def of_cases(root: Path, patterns: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of tests of all cases, with what each uses.

    Parameters
    ----------
    root : Path
    patterns : sequence of str
        With ``{case}`` for the name of the case; one that names nothing is left out, since not
        every case has everything.
    """
    cases = {path.name for path in (root / keys.PACKAGE / "cases").glob("[a-z]*") if path.is_dir()}
    found = {}
    for path in (root / "tests" / "cases").glob("test_*.py"):
        words = path.stem.removeprefix("test_") + "_"
        if case := max((one for one in cases if words.startswith(f"{one}_")), key=len, default=""):
            uses = [pattern.format(case=case) for pattern in patterns]
            found[path.relative_to(root).as_posix()] = [use for use in uses if any(root.glob(use))]
    return found


def with_turns(root: Path) -> list[str]:
    """Return the files of tests in which single checks have turns."""
    there = (path for path in (root / "tests").rglob("test_*.py"))
    inside = (path for path in there if "rotation.turn(" in path.read_text(encoding="utf-8"))
    return sorted(path.relative_to(root).as_posix() for path in inside)


def held(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    """Yield the files that patterns name, and those in the folders that they name.

    Raises
    ------
    FileNotFoundError
        If a pattern names nothing: what it once named would no longer count.
    """
    for pattern in patterns:
        found = sorted(root.glob(pattern))
        if not found:
            raise FileNotFoundError(f"There is nothing at {pattern}, on which a key depends.")
        for place in found:
            inside = sorted(place.rglob("*")) if place.is_dir() else [place]
            yield from (path for path in inside if path.is_file() and _counts(path))


def _helpers(root: Path, path: Path) -> list[Path]:
    """Return a file of tests, the conftests above it, and the modules in ``tests`` they import."""
    folders = list(dict.fromkeys([path.parent, root / "tests"]))
    todo = [path, *(conftest for one in folders if (conftest := one / "conftest.py").is_file())]
    found: dict[Path, None] = {}
    while todo:
        one = todo.pop()
        if one in found:
            continue
        found[one] = None
        for name in _imported(one.read_text(encoding="utf-8")):
            places = [folder / f"{name}.py" for folder in folders]
            todo += [place for place in places if place.is_file()][:1]
    return list(found)


def _code(path: Path) -> Iterator[str]:
    """Yield the source of a module, or of each cell of a notebook, in Python's own words."""
    if path.suffix == ".py":
        yield path.read_text(encoding="utf-8")
    elif path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        yield from map(TransformerManager().transform_cell, code)


@lru_cache(maxsize=2048)
def _imported(text: str) -> frozenset[str]:
    """Return the dotted names of modules that a source imports, or holds as texts."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {name.split(":")[0] for name in [node.value] if MODULE.fullmatch(name)}
    return frozenset(found)


def _named_modules(path: Path) -> list[str]:
    """Return the modules of the course that a file imports or names."""
    names = (name for text in _code(path) for name in _imported(text))
    return [name for name in names if name.split(".")[0] == keys.PACKAGE]


def modules(root: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Return the modules of the course that files reach by imports, each with its file.

    A text that is the name of a module counts as an import of it: so do processes start it.
    """
    sources = Sources({keys.PACKAGE: root / keys.PACKAGE})
    found: dict[str, Path] = {}
    todo = [name for path in paths for name in _named_modules(path)]
    while todo:
        name = todo.pop()
        file = sources.file(name)
        if file is None or name in found:
            continue
        found[name] = file
        todo += _named_modules(file)
        todo += [f"{name}.__main__"] if file.name == "__init__.py" else []
        todo += [name.rpartition(".")[0]] if "." in name else []
    return found


def _asks(root: Path, path: Path) -> bool:
    """Say whether a file may ask for public data by name: tests, cases and their notebooks."""
    top, *below = path.relative_to(root).parts
    if top == keys.PACKAGE:
        return below[0] == "cases" and path.suffix == ".py"
    return path.suffix == ".ipynb" or (path.suffix == ".py" and path.name != "conftest.py")


def _public(texts: Iterable[str]) -> list[str]:
    """Return the public data sets that texts name, as far as they are here."""
    said = " ".join(texts)
    asked = {*registry()} if "needs_real_data" in said else set()  # the fixture names its own
    return [name for name in registry() if (name in said or name in asked) and find_real(name)]


def file_key(root: Path, name: str, uses: Iterable[str] = ()) -> str:
    """Return the key of a file of tests.

    It is made of the tests, the helpers beside them and the files that they use in other ways; of
    every module of the course that any of these imports, with the files beside it; of pins,
    settings, and whether the public data that they name are here.

    Parameters
    ----------
    root : Path
    name : str
        Such as ``"tests/book/test_build.py"``.
    uses : iterable of str
        As in `costly`.
    """
    files = {*_helpers(root, root / name), *held(root, uses)}
    reached = modules(root, files)
    files |= {*reached.values(), root / LOCK}
    files |= set(keys._package_files(root, reached))
    parts = [part for path in sorted(files) for part in (path.relative_to(root).as_posix(), path)]
    env = dict(os.environ)
    known = [sys.version_info[:2], keys.data_mode(env), keys._settings(env)]
    known.append(_public(path.read_text(encoding="utf-8") for path in files if _asks(root, path)))
    return key_of(json.dumps(known), *parts)


def _counts(path: Path) -> bool:
    return "__pycache__" not in path.parts and "vendor" not in path.parts


def file_keys(root: Path) -> dict[str, str]:
    """Return the keys of the costly files of tests."""
    return {name: file_key(root, name, uses) for name, uses in costly(root).items()}


def not_due(keys_: Mapping[str, str]) -> list[str]:
    """Return the costly files of tests that need not run now."""
    return [name for name, key in keys_.items() if not due(FILE, name, key, [*keys_])]


if __name__ == "__main__":
    print(f"tests/passed.toml: {keep(require_checkout())} new keys")
