"""Pages that are written from data and committed: ``python -m casebook.book.reference``.

They are committed because links lead to them from notebooks, which are also read where
nothing is built. A test compares each with what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from casebook.book import bibliography, glossary
from casebook.project import require_checkout

PAGES: dict[Path, Callable[[Path], str]] = {
    glossary.PAGE: glossary.page,
    bibliography.PAGE: bibliography.page,
}


def stale(root: Path) -> list[Path]:
    """Return the pages that are not what their data say."""
    return [
        path
        for path, page in PAGES.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != page(root)
    ]


def write(root: Path) -> list[Path]:
    """Write every page that is stale; return these."""
    written = stale(root)
    for path in written:
        (root / path).write_text(PAGES[path](root), encoding="utf-8")
    return written


if __name__ == "__main__":
    for path in write(require_checkout()):
        print(f"written   {path}")
    sys.exit(0)
