"""Build the book: ``python -m casebook.book``.

Notebooks are executed first, two at a time, with a line for each: those of which
something has changed (:mod:`casebook.author.keys`). The extension
:mod:`casebook.book.ext` then puts what they showed into their pages.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from casebook.author import files
from casebook.author.execute import (
    BOOK_ENV,
    WORKERS,
    Execution,
    NotebookFailed,
    executed,
    source,
)
from casebook.author.kernels import ForeignKernel, require_own_kernel
from casebook.data import RealDataUnavailable, find_real, real, registry
from casebook.project import require_checkout, write_whole

#: Folders that a checkout holds beside what its pages are made of.
MADE = re.compile(r"_build|\..*|node_modules|__pycache__|.*\.egg-info|build|vendor|work|classes")


def say(what: str, detail: str) -> None:
    """Print one progress line."""
    print(f"{what:<10}{detail}", flush=True)


def toc_files(root: Path) -> list[str]:
    """Return the documents of the table of contents, in order, without suffix."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    found = [toc["root"]]

    def walk(node) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            if "file" in node:
                found.append(node["file"])
            for value in node.values():
                walk(value)

    walk({k: v for k, v in toc.items() if k != "root"})
    return found


def pages(root: Path) -> dict[str, tuple[Path, object]]:
    """Return, for each notebook page, its path and the notebook that the book executes.

    Raises
    ------
    FileNotFoundError
        If the table of contents names a notebook that is not there.
    """
    found = {}
    for name in toc_files(root):
        if name.split("/")[0] not in files.FOLDERS:
            continue
        path = root / f"{name}.ipynb"
        if not path.is_file():
            raise FileNotFoundError(f"_toc.yml names {name}, and {path} is not there.")
        found[name] = (path, source(root, name))
    return found


def fetch_real_data() -> None:
    """Get the real data that can be had, so that it is settled before anything runs."""
    for name in registry():
        if find_real(name):
            say("data", f"{name}: here")
            continue
        try:
            real(name)
            say("data", f"{name}: downloaded")
        except RealDataUnavailable as error:
            say("data", f"{name}: absent, its sections will say so ({error})")


def execute_pages(root: Path) -> bool:
    """Execute every notebook of which the store has no execution as it is now.

    The scorecards that they wrote, now or when they ran, are put in ``_build/scorecards``.

    Returns
    -------
    bool
        Whether one was executed.

    Raises
    ------
    NotebookFailed
        With notebook, cell and error of the first that fails.
    """

    def run(name: str) -> Execution:
        done = executed(root, name, who="book")
        if done.cached:
            say("unchanged", name)
        else:
            say("executed", f"{name}  {done.cpu_seconds:.1f} CPU s, {done.seconds:.1f} s")
        return done

    with ThreadPoolExecutor(WORKERS) as pool:
        all_done = list(pool.map(run, pages(root)))
    known = {path: text for done in all_done for path, text in done.written.items()}
    for path, text in known.items():
        write_whole(root / "_build" / path, text.encode())
    for card in (root / "_build" / "scorecards").glob("*.json"):
        if f"scorecards/{card.name}" not in known:  # of a page that writes none any more
            card.unlink()
    return not all(done.cached for done in all_done)


def ingredients(root: Path) -> str:
    """Return a hash of what the pages are made of: files, packages, settings, data that are here.

    The files of a folder that git would not hold, and what is installed beside them, do not enter.
    """
    found = hashlib.sha256()
    for folder, inside, names in os.walk(root):
        inside[:] = sorted(name for name in inside if not MADE.fullmatch(name))
        for path in (Path(folder) / name for name in sorted(names)):
            found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    packages = sorted(f"{one.name} {one.version}" for one in importlib.metadata.distributions())
    settings = sorted(item for item in os.environ.items() if item[0].startswith("CASEBOOK"))
    found.update(repr((packages, settings, [str(find_real(name)) for name in registry()])).encode())
    return found.hexdigest()


def render(root: Path) -> int:
    """Run Jupyter Book with warnings as errors; return its exit code."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(root)]
    command += ["-W", "--keep-going", "--quiet"]
    return subprocess.run(command, env={**os.environ, **BOOK_ENV}).returncode


def missing_pages(root: Path) -> list[str]:
    """Return the documents of the table of contents that have no HTML page."""
    output = root / "_build" / "html"
    return [name for name in toc_files(root) if not (output / f"{name}.html").is_file()]


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def build(root: Path) -> int:
    """Build the book of a checkout; return the exit code.

    What all pages took, in CPU seconds, is noted in ``_build/book.json``; a build that found some
    pages made already says nothing about it.
    """
    started = time.perf_counter()
    whole = not (root / "_build" / "html" / "index.html").is_file()
    fetch_real_data()
    note, made_of = root / "_build" / "book.of", ingredients(root)
    try:
        require_own_kernel()
        anew = execute_pages(root)
    except (ForeignKernel, NotebookFailed) as failure:
        say("failed", str(failure))
        return 1
    if not anew and note.is_file() and note.read_text() == made_of and not missing_pages(root):
        say("unchanged", f"{root / '_build' / 'html' / 'index.html'}")
        return 0
    note.unlink(missing_ok=True)
    before = _cpu_seconds()
    if code := render(root):
        say("failed", f"jupyter-book ended with exit code {code}; its warnings stand above")
        return code
    if absent := missing_pages(root):
        say("failed", f"no HTML was produced for: {', '.join(absent)}")
        return 1
    if whole:
        spent = {"cpu_seconds": round(_cpu_seconds() - before, 1)}
        write_whole(root / "_build" / "book.json", json.dumps(spent).encode())
    write_whole(note, made_of.encode())
    say(
        "built", f"{root / '_build' / 'html' / 'index.html'}  {time.perf_counter() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m casebook.book", description=__doc__)
    parser.add_argument("--root", type=Path, help="another checkout than this one")
    sys.exit(build((parser.parse_args().root or require_checkout()).resolve()))
