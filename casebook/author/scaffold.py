"""The start of a new case study: ``make new N=02_sales_forecasting TITLE="…"``.

The case that is made is whole and small: a tiny world, a tiny system, one worked question, so
that every check runs on it from the first day. What is to be replaced carries a comment that
begins with ``To write:``; :mod:`casebook.author.unwritten` lists those that are left.

No notebook is executed: what the template's cells show is stored beside it
(``python -m casebook.author template`` renews it). The case is made in a folder of its own and put
in place when it is whole. Whoever is cut off before has nothing; whoever is cut off while it is
put in place runs the same command again, which adds what is missing.
"""

from __future__ import annotations

import json
import keyword
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from casebook.author import entries, files
from casebook.author.normalise import SECTIONS, normalise
from casebook.project import write_whole

TEMPLATES = Path(__file__).resolve().parent / "templates" / "case"
#: What begins a comment of a template that somebody has to replace.
MARK = "To write:"
#: File of a case by its template. Capstones have no chapter, and so no plan and no scorecard.
FILES = {
    "init.py": "casebook/cases/{module}/__init__.py",
    "world.py": "casebook/cases/{module}/world.py",
    "system.py": "casebook/cases/{module}/system.py",
    "questions.py": "casebook/cases/{module}/questions.py",
    "test_world.py": "tests/cases/test_{module}_world.py",
    "card.md": "data/{name}/README.md",
    "solution.ipynb": "solutions/{name}.ipynb",
    "chapter.ipynb": "chapters/{name}.ipynb",
    "plan.md": "book/instructors/{name}.md",
    "handout.md": "book/instructors/handout_{number}.md",
    "benchmarks.py": "casebook/cases/{module}/benchmarks.py",
    "test_benchmarks.py": "tests/cases/test_{module}_benchmarks.py",
}
OF_CHAPTERS = ("chapter.ipynb", "plan.md", "handout.md", "benchmarks.py", "test_benchmarks.py")
#: What the cells of the template show, and the rows of its scorecard.
STORED = "stored.json"
ANSWER = {"grade": False, "locked": False, "solution": True}
CHECK = {"grade": True, "locked": True, "points": 1, "solution": False}
METADATA = {
    "difficulty": "medium",
    "figure": "weekday-figure",
    "finding": "gap",
    "minutes": {"read": 10, "run": 0.5, "exercise": 20},
}
#: A new group of packages, on one line until it is written: `casebook.data` imports rdata.
GROUP = f'["rdata"] # {MARK} the other packages that the case imports'


@dataclass(frozen=True)
class Case:
    """A case that is to be started.

    Attributes
    ----------
    name, title : str
        Of its files (``02_sales_forecasting``) and of its chapter.
    group : str
        Optional dependencies that its notebooks need on Colab; by default a group of its own.
    part : str
        Part of the book; by default as the plan of the book has it.
    """

    name: str
    title: str
    group: str = ""
    part: str = ""

    @property
    def number(self) -> str:
        """Number of a chapter, letter of a capstone."""
        return self.name.split("_", 1)[0]

    @property
    def module(self) -> str:
        return self.name.split("_", 1)[1]

    @property
    def is_chapter(self) -> bool:
        return self.number.isdigit()

    @property
    def needs(self) -> str:
        """Name of the group of its optional dependencies."""
        return self.group or self.module.replace("_", "-")

    @property
    def words(self) -> Mapping[str, str]:
        """What stands in the templates between two @."""
        before = f"[the chapter](../chapters/{self.name}.ipynb), and some pandas"
        return {
            "name": self.name,
            "title": self.title.strip(),
            "number": self.number,
            "module": self.module,
            "words": self.module.replace("_", " "),
            "alias": f"exercise_{self.number}",
            "before": before if self.is_chapter else "the cases of the book, and some pandas",
        }

    def paths(self) -> dict[str, str]:
        """Return the path of each file in the checkout, by its template."""
        return {
            template: path.format(name=self.name, module=self.module, number=self.number)
            for template, path in FILES.items()
            if self.is_chapter or template not in OF_CHAPTERS
        }


# Text and cells -----------------------------------------------------------------------


def _filled(template: str, case: Case) -> str:
    """Return the text of a template for a case."""
    text = (TEMPLATES / f"{template}.tmpl").read_text(encoding="utf-8")
    for key, value in case.words.items():
        text = text.replace(f"@{key}@", value)
    return text


def _cell(head: str, source: str) -> NotebookNode:
    """Return a cell of its head (``code answer-1 answer``) and its source."""
    kind, name, *tags = head.split()
    metadata: dict = {}
    role = next((word for word in ("answer", "check") if name.startswith(f"{word}-")), "")
    if role:
        flags = ANSWER if role == "answer" else CHECK
        metadata["nbgrader"] = {"grade_id": name, "schema_version": 3, "task": False, **flags}
    if kept := [tag for tag in tags if tag != role]:
        metadata["tags"] = kept
    make = new_code_cell if kind == "code" else new_markdown_cell
    return make(source, id=name, metadata=metadata)


def _with_sections(source: str) -> str:
    """Return Markdown with what a section must hold, as a comment below its heading."""
    heading = re.match(r"## (.+)$", source, flags=re.M)
    if heading is None or heading[1] not in SECTIONS:
        return source
    comment = f"<!-- {MARK} {SECTIONS[heading[1]]} -->"
    return source.replace(heading[0], f"{heading[0]}\n\n{comment}", 1)


@lru_cache(maxsize=1)
def stored() -> dict:
    """Return what the template's checked cells show by notebook and cell, and its scorecard."""
    return json.loads((TEMPLATES / STORED).read_text(encoding="utf-8"))


def notebook(template: str, case: Case) -> NotebookNode:
    """Return a notebook of a new case, with what its checked cells show.

    Parameters
    ----------
    template : str
        ``"chapter.ipynb"`` or ``"solution.ipynb"``.
    case : Case
    """
    _, *texts = re.split(r"^%%% ", _filled(template, case), flags=re.M)
    cells = [_cell(*(part.strip() for part in text.split("\n", 1))) for text in texts]
    metadata: dict = {"group": case.needs}
    if template == "chapter.ipynb":
        metadata |= METADATA
        for cell in cells:
            cell.source = _with_sections(cell.source)
    for cell in cells:
        if shown := stored()[template].get(cell.id):
            cell.outputs = [from_dict(output) for output in shown]
    return new_notebook(cells=cells, metadata={"casebook": metadata})


# Made in a folder of its own -----------------------------------------------------------


def _refuse(root: Path, case: Case) -> None:
    """Raise if a case cannot be started under this name."""
    if not files.NAME.match(case.name):
        raise ValueError(f"{case.name!r} is not of the form 02_sales_forecasting.")
    if not case.module.isidentifier() or keyword.iskeyword(case.module):
        raise ValueError(f"{case.module!r} cannot be the name of a Python module.")
    if not case.title.strip() or "\n" in case.title.strip():
        raise ValueError('Give the chapter a title of one line: TITLE="Sales for finance".')
    if case.group and not re.fullmatch(r"[a-z][a-z0-9-]*", case.group):
        raise ValueError(f"The group {case.group!r} is not of the form `forecasting`.")
    taken = [p.stem for p in files.notebooks("chapters", "solutions", root=root)]
    if clash := [stem for stem in taken if stem.split("_")[0] == case.number]:
        raise ValueError(f"The number of {case.name!r} is taken by {clash[0]}.")
    folders = [f"casebook/cases/{case.module}", f"data/{case.name}"]
    there = [folder for folder in folders if _holds_files(root / folder)]
    paths = [*case.paths().values(), f"exercises/{case.name}.ipynb"]
    there += [path for path in paths if (root / path).exists()]
    if there:
        raise ValueError(
            f"{', '.join(dict.fromkeys(there))} is there already; choose another name."
        )


def _holds_files(folder: Path) -> bool:
    """Say whether a folder holds more than what Python has compiled."""
    return any(path.is_file() and path.suffix != ".pyc" for path in folder.rglob("*"))


def _text(template: str, case: Case) -> str:
    if template.endswith(".ipynb"):
        path = case.paths()[template]
        return files.text(normalise(notebook(template, case), path))
    return _filled(template, case)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


class NotMade(Exception):
    """The world of a new case did not run; nothing was put in place."""


def _make(root: Path, case: Case, folder: Path) -> None:
    """Write the files of a new case into a folder; with the package, also what its code makes."""
    package = (root / "casebook" / "__init__.py").is_file()  # checkouts of tests have files only
    if package:
        shutil.copytree(root / "casebook", folder / "casebook")
        rules = [f"{room}/ruff.toml" for room in files.FOLDERS]
        for name in ("_toc.yml", "pyproject.toml", *rules):
            _write(folder / name, (root / name).read_bytes())
    for template, path in case.paths().items():
        _write(folder / path, _text(template, case).encode())
    if not package:
        return
    code = "import sys; from casebook.author import scaffold; scaffold.finish(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, case.name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise NotMade(f"the code of the template failed, and nothing was written:\n{done.stdout}")


def finish(name: str) -> None:
    """Format a new case in the working directory; write its snapshots, tables and exercise.

    Parameters
    ----------
    name : str
        Of the case. The package of the working directory is the one that is imported.
    """
    import importlib

    from casebook.author.exercises import exercise
    from casebook.cases.__main__ import write_snapshots
    from casebook.recorded import bench

    case = Case(name, "-")
    code = [path for path in case.paths().values() if path.endswith((".py", ".ipynb"))]
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, *code], check=True)
    for path in code:
        if path.endswith(".ipynb"):
            files.write(normalise(files.read(Path(path)), path), Path(path))
    write_snapshots(importlib.import_module(f"casebook.cases.{case.module}.world"))
    if case.is_chapter and bench.main([case.number]):
        raise SystemExit("A table of the template could not be recorded.")
    path = f"exercises/{case.name}.ipynb"
    files.write(exercise(files.read(Path(f"solutions/{case.name}.ipynb")), path), Path(path))


def _own(folder: Path, case: Case) -> list[Path]:
    """Return the files of a case in the folder where it was made."""
    paths = [folder / path for path in case.paths().values()]
    paths += [folder / "exercises" / f"{case.name}.ipynb", *(folder / "data").rglob("*")]
    return sorted({path for path in paths if path.is_file()})


def _ready(root: Path, case: Case) -> Path:
    """Return the folder in which a whole case waits to be put in place.

    It has this name only when it is whole: until then it is made in another one.
    """
    waiting = root / "_build" / "new"
    ready, told = waiting / case.name, json.dumps(asdict(case))
    if ready.is_dir():
        before = (ready / "case.json").read_text(encoding="utf-8")
        if before == told:
            return ready  # a run was cut off while it put this very case in place
        raise ValueError(
            f"{case.name!r} was cut off while it was put in place, with other options: {before}. "
            f"Run it again with them, or delete {ready.relative_to(root).as_posix()}."
        )
    _refuse(root, case)
    _entered(root, case)
    waiting.mkdir(parents=True, exist_ok=True)
    for left in waiting.glob(f".{case.name}-*"):  # of runs that were killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{case.name}-", dir=waiting) as scratch:
        made, whole = Path(scratch, "made"), Path(scratch, "whole")
        _make(root, case, made)
        for path in _own(made, case):
            _write(whole / "files" / path.relative_to(made), path.read_bytes())
        _write(whole / "case.json", told.encode())
        os.replace(whole, ready)
    return ready


# Put in place ---------------------------------------------------------------------------


def _entered(root: Path, case: Case) -> dict[str, str]:
    """Return the files in which a case is entered beside others, with the texts that change.

    Raises ValueError where its lines cannot be placed.
    """
    planned, rows = entries.planned_parts(root), stored()["rows"]
    enter: dict[str, Callable[[str], str]] = {
        "_toc.yml": lambda text: entries.with_case(text, case.name, case.part, planned),
        "pyproject.toml": lambda text: entries.with_group(text, case.needs, GROUP),
    }
    if case.is_chapter:
        enter["tests/targets.toml"] = lambda text: (
            text if f"\n[{case.name}." in text else entries.with_targets(text, case.name, rows)
        )
    texts = {name: (root / name).read_text(encoding="utf-8") for name in enter}
    return {name: new for name, old in texts.items() if (new := enter[name](old)) != old}


def _put(ready: Path, root: Path, case: Case) -> list[str]:
    """Put a whole case in place: what is missing is added, nothing is replaced."""
    paths = sorted(path for path in (ready / "files").rglob("*") if path.is_file())
    made = {path.relative_to(ready / "files").as_posix(): path.read_bytes() for path in paths}
    missing = {name: data for name, data in made.items() if not (root / name).exists()}
    entered = {name: text.encode() for name, text in _entered(root, case).items()}
    for name, data in (missing | entered).items():
        write_whole(root / name, data)
    return [*missing, *entered]


def create(root: Path, case: Case) -> list[str]:
    """Make a new case and put it in place; no notebook is executed.

    Parameters
    ----------
    root : Path
        The checkout. If the call is cut off, it is as before, or the same call completes it.
    case : Case

    Returns
    -------
    list of str
        The paths that were written or changed.

    Raises
    ------
    ValueError
        If the name has another form, its number or a file is taken, there is no title, or the
        table of contents has another form than it is committed in. Nothing is written then.
    NotMade
        If the code of the template fails. Nothing is written then either.
    """
    ready = _ready(root, case)
    changed = _put(ready, root, case)
    shutil.rmtree(ready)
    return changed
