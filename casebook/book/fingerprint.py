"""What a built page depends on besides its own cells.

jupyter-cache recognises a notebook by its cells alone. The path of its cache
therefore carries a fingerprint of the package, the data, the pins and of which
real data are there: a change to any of them executes the notebooks anew.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from casebook.data import find_real, registry


def fingerprint(root: Path) -> str:
    """Return the fingerprint of everything that a notebook's results depend on.

    Parameters
    ----------
    root : Path
        The checkout.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    digest = hashlib.sha256()
    files = [root / "requirements.txt", root / "constraints.txt"]
    files += sorted(p for p in (root / "casebook").rglob("*.py") if "book" not in p.parts)
    files += sorted(p for p in (root / "data").rglob("*") if p.is_file() and p.suffix != ".md")
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    for name in sorted(registry()):
        digest.update(f"{name}={find_real(name) is not None}\0".encode())
    llm = [f"{k}={os.environ.get(k, '')}" for k in ("CASEBOOK_LLM_BASE_URL", "CASEBOOK_LLM_MODEL")]
    digest.update("\0".join(llm).encode())
    return digest.hexdigest()[:16]


def cache_path(root: Path) -> Path:
    """Return the folder of the execution cache for the present fingerprint."""
    return root / "_build" / "executed" / fingerprint(root)


def note_built(root: Path) -> None:
    """Remember which cache the book was built from."""
    (root / "_build" / "executed" / "latest").write_text(cache_path(root).name)


def built_from(root: Path) -> Path:
    """Return the execution cache of the last built book.

    Raises
    ------
    FileNotFoundError
        If no book has been built.
    """
    note = root / "_build" / "executed" / "latest"
    if not note.is_file():
        raise FileNotFoundError("No book has been built here: run `make book`.")
    return note.parent / note.read_text()
