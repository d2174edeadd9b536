"""Costly checks run when what they check has changed, and one more of them by rotation.

A check with a key that has passed before is not due again, except in its turn, which the commit
decides, or when everything runs (``make test-all``). On a new machine nothing is recorded, and
all of them are due::

    with turn("contract", "01_demand_forecasting", key, among=names):
        assert solution_faults(path) == []
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from casebook.author import execute
from casebook.project import build_dir, require_checkout, write_whole

#: The variable by which ``make test-all`` asks for everything.
EVERYTHING = "EVERY_CHECK"


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
    note = _note(what, name)
    if not note.is_file():
        return "no pass is recorded"
    if note.read_text(encoding="utf-8") != key:
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
        pytest.skip(f"{what} of {name}: passed with this code before, and not its turn")
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
