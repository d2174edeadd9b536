"""Third-party scripts of the page, copied from locked packages into the book's static folder.

None of them is committed; the built book contains them, so that a page asks no
other host for anything.
"""

from __future__ import annotations

import shutil
from importlib.resources import files as package_files
from pathlib import Path

MATHJAX_PARTS = ("tex-svg.js", "input/tex/extensions")


def copy(root: Path) -> Path:
    """Copy MathJax, Mermaid, reveal.js and plotly.js into ``book/_static/vendor``.

    Parameters
    ----------
    root : Path
        The checkout, after ``npm ci``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileNotFoundError
        If the packages are not installed.
    """
    modules = root / "node_modules"
    sources = {f"mathjax/{part}": modules / "mathjax" / "es5" / part for part in MATHJAX_PARTS} | {
        "reveal/reveal.js": modules / "reveal.js" / "dist" / "reveal.js",
        "reveal/reveal.css": modules / "reveal.js" / "dist" / "reveal.css",
        "reveal/notes.js": modules / "reveal.js" / "plugin" / "notes" / "notes.js",
        "mermaid/mermaid.min.js": modules / "mermaid" / "dist" / "mermaid.min.js",
        "plotly/plotly.min.js": Path(
            str(package_files("plotly") / "package_data" / "plotly.min.js")
        ),
    }
    target = root / "book" / "_static" / "vendor"
    for name, source in sources.items():
        if not source.exists():
            raise FileNotFoundError(f"{source} is not there: run `npm ci` (make book does).")
        goal = target / name
        if source.is_dir():
            shutil.copytree(source, goal, dirs_exist_ok=True)
        elif not goal.is_file() or goal.stat().st_size != source.stat().st_size:
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, goal)
    return target
