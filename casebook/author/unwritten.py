"""What is yet to be written of a case: each comment that begins with ``To write:``.

A new case is whole and runs, so that nothing else would say that its placeholders are still there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from casebook.author import entries, files, scaffold

_MARKED = re.compile(rf"{scaffold.MARK}\s*(.*?)\s*(?:-->)?$", flags=re.M)


def _sources(root: Path, stem: str) -> Iterator[tuple[str, str]]:
    """Yield where a case has text of its author's, and the text."""
    case, group = scaffold.Case(stem, "-"), ""
    for room in ("chapters", "solutions"):
        path = root / room / f"{stem}.ipynb"
        if not path.is_file():
            continue
        notebook = files.read(path)
        group = notebook.metadata.get("casebook", {}).get("group", "")
        for cell in notebook.cells:
            yield f"{room}/{stem}.ipynb, cell {cell.id!r}", cell.source
    paths = [root / path for path in case.paths().values() if path.endswith(".md")]
    paths += sorted((root / "casebook" / "cases" / case.module).rglob("*.py"))
    paths += sorted((root / "tests" / "cases").glob(f"test_{case.module}_*.py"))
    for path in paths:
        if path.is_file():
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
    project = root / "pyproject.toml"
    if group and project.is_file():
        text = entries.group_text(project.read_text(encoding="utf-8"), group)
        yield f"pyproject.toml, group {group!r}", text


def _targets(root: Path, stem: str) -> list[str]:
    """Return a line if accepted values of a case are still those of the template."""
    path = root / "tests" / "targets.toml"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    same = entries.same_targets(text, stem, scaffold.stored()["rows"])
    said = f"targets of your own chapter, by `make targets N={stem.split('_')[0]}`, in place of "
    return [f"tests/targets.toml: to write: {said}{', '.join(map(repr, same))}"] if same else []


def unwritten(root: Path, stem: str) -> list[str]:
    """Return what a case still has of the templates, one line each.

    Parameters
    ----------
    root : Path
        The checkout.
    stem : str
        Of the case, such as ``02_sales_forecasting``.
    """
    found = [
        f"{where}: to write: {mark[1]}"
        for where, text in _sources(root, stem)
        for mark in _MARKED.finditer(text)
    ]
    return found + _targets(root, stem)


def stems(root: Path) -> list[str]:
    """Return the names of all cases."""
    return sorted({p.stem for p in files.notebooks("chapters", "solutions", root=root)})
