"""Build the book: ``python -m casebook.book``.

Notebooks are executed first, two at a time and those with timed cells alone,
with a line for each; Jupyter Book then finds every one in the cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract

from casebook.author import files
from casebook.author.execute import NotebookFailed, execute
from casebook.book.ext import exercise_page
from casebook.book.fingerprint import cache_path, note_built
from casebook.data import RealDataUnavailable, find_real, real, registry
from casebook.project import require_checkout

WORKERS = 2
BOOK_ENV = {"CASEBOOK_BOOK": "1", "OMP_NUM_THREADS": "1"}


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
        room, stem = name.split("/")
        notebook = exercise_page(root, stem) if room == "exercises" else files.read(path)
        found[name] = (path, notebook)
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


def _is_cached(cache: JupyterCacheAbstract, notebook) -> bool:
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def execute_pages(root: Path) -> None:
    """Execute what is not in the cache yet.

    Raises
    ------
    NotebookFailed
        With notebook, cell and error of the first that fails.
    """
    cache = get_cache(cache_path(root))
    serial, together = [], []
    for name, (path, notebook) in pages(root).items():
        if _is_cached(cache, notebook):
            say("unchanged", name)
        else:
            (serial if files.is_serial(notebook) else together).append((name, path, notebook))

    def run(job) -> tuple:
        name, path, notebook = job
        seconds = execute(notebook, name, path.parent, env=BOOK_ENV)
        say("executed", f"{name}  {seconds:.1f} s")
        return path, notebook, seconds

    def keep(done: tuple) -> None:  # the cache's database is written from one thread
        path, notebook, seconds = done
        bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)

    with ThreadPoolExecutor(WORKERS) as pool:
        for done in pool.map(run, together):
            keep(done)
    for job in serial:
        keep(run(job))


def render(root: Path) -> int:
    """Run Jupyter Book with warnings as errors; return its exit code."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(root)]
    command += ["-W", "--keep-going", "--quiet"]
    return subprocess.run(command, env={**os.environ, **BOOK_ENV}).returncode


def missing_pages(root: Path) -> list[str]:
    """Return the documents of the table of contents that have no HTML page."""
    output = root / "_build" / "html"
    return [name for name in toc_files(root) if not (output / f"{name}.html").is_file()]


def build(root: Path) -> int:
    """Build the book of a checkout; return the exit code."""
    started = time.perf_counter()
    fetch_real_data()
    try:
        execute_pages(root)
    except NotebookFailed as failure:
        say("failed", str(failure))
        return 1
    if code := render(root):
        say("failed", f"jupyter-book ended with exit code {code}; its warnings stand above")
        return code
    if absent := missing_pages(root):
        say("failed", f"no HTML was produced for: {', '.join(absent)}")
        return 1
    note_built(root)
    say(
        "built", f"{root / '_build' / 'html' / 'index.html'}  {time.perf_counter() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m casebook.book", description=__doc__)
    parser.add_argument("--root", type=Path, help="another checkout than this one")
    sys.exit(build((parser.parse_args().root or require_checkout()).resolve()))
