"""A book of a few chapters in a copy of the checkout, for tests that build one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from casebook.author import files
from casebook.project import require_checkout

ROOT = require_checkout()
INDEX = "# A small book\n\nA few notebooks.\n"


def listed() -> list[str]:
    """Return what git would hold."""
    return subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def _without_links(source: str, kept: set[str]) -> str:
    """Make plain words of links to other folders and to notebooks that are left out."""

    def words(link: re.Match[str]) -> str:
        left_out = link["notebook"] and f"chapters/{link['notebook']}" not in kept
        return link["text"] if link["up"] or left_out else link[0]

    target = r"(?P<up>\.\./)?(?P<notebook>[\w.-]+\.ipynb)?[^)]*"
    return re.sub(rf"\[(?P<text>[^\]]*)\]\({target}\)", words, source)


def copy_book(target: Path, chapters: Sequence[str], pages: Sequence[str] = ()) -> Path:
    """Copy the checkout with a table of contents of a few chapters; nothing is built in it.

    Links to pages that the small book does not have become plain words.

    Parameters
    ----------
    target : Path
        The new folder.
    chapters : sequence of str
        Such as ``"chapters/00_how_a_case_works"``; the others, and every exercise but that of
        chapter 00, are left out.
    pages : sequence of str
        Further documents, such as ``"book/timings"``.

    Returns
    -------
    Path
        ``target``.
    """
    kept = {f"{name}.ipynb" for name in chapters}
    for name in listed():
        notebook = name.split("/")[0] in files.FOLDERS and name.endswith(".ipynb")
        unused = notebook and "/00_" not in name and name not in kept
        if (ROOT / name).is_file() and not unused:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    (target / "node_modules").symlink_to(ROOT / "node_modules")
    contents = "".join(f"  - file: {name}\n" for name in (*chapters, *pages))
    (target / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters:\n{contents}")
    (target / "book" / "index.md").write_text(INDEX)
    for name in chapters:
        if not (path := target / f"{name}.ipynb").is_file():
            continue
        chapter = files.read(path)
        for cell in chapter.cells:
            cell.source = _without_links(cell.source, kept)
        files.write(chapter, path)
    return target


def run(root: Path, *module: str, **env: str) -> subprocess.CompletedProcess:
    """Run a module of the copy's own package."""
    return subprocess.run(
        [sys.executable, "-m", *module],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True,
        text=True,
    )
