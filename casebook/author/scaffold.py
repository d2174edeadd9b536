"""The start of a new case study: ``make new N=02_sales_forecasting TITLE="…"``.

The case that is made is whole and small: a tiny world, a tiny system, one worked question, so
that every check runs on it from the first day. What is to be replaced carries a comment that
begins with ``To write:``; :func:`unwritten` lists those that are left.
"""

from __future__ import annotations

import importlib
import json
import keyword
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from casebook.author import files
from casebook.author.normalise import SECTIONS, normalise
from casebook.project import build_dir

TEMPLATES = Path(__file__).resolve().parent / "templates" / "case"
#: What begins a comment of a template that somebody has to replace.
MARK = "To write:"
_MARKED = re.compile(rf"{MARK}\s*(.*?)\s*(?:-->)?$", flags=re.M)
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
    "benchmarks.py": "casebook/cases/{module}/benchmarks.py",
    "test_benchmarks.py": "tests/cases/test_{module}_benchmarks.py",
}
OF_CHAPTERS = ("chapter.ipynb", "plan.md", "benchmarks.py", "test_benchmarks.py")
#: Parts of the table of contents that come after those of the cases.
LATER = ("Practise", "For instructors", "Reference")
INSTRUCTORS = "For instructors"
#: The part of cases that the plan of the book does not know, here and on the landing page.
UNPLANNED = "More cases"
ANSWER = {"grade": False, "locked": False, "solution": True}
CHECK = {"grade": True, "locked": True, "points": 1, "solution": False}
METADATA = {
    "difficulty": "medium",
    "figure": "weekday-figure",
    "finding": "gap",
    "minutes": {"read": 10, "run": 0.5, "exercise": 20},
}
#: Optional packages that a new case needs from its first day: `casebook.data` imports them.
NEEDED = ("rdata",)
#: What a new row of ``tests/targets.toml`` may differ by.
TOLERANCE = 0.05


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
            template: path.format(name=self.name, module=self.module)
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


def notebook(template: str, case: Case) -> NotebookNode:
    """Return a notebook of a new case, without outputs.

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
    return new_notebook(cells=cells, metadata={"casebook": metadata})


# Registries ---------------------------------------------------------------------------


class _Indented(yaml.SafeDumper):
    """Writes lists as the table of contents has them: indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False):
        return super().increase_indent(flow, False)


def contents_text(contents: Mapping) -> str:
    """Return the table of contents as it is committed."""
    return yaml.dump(contents, Dumper=_Indented, sort_keys=False, allow_unicode=True, width=200)


def planned_parts(root: Path) -> dict[str, str]:
    """Return the part of each planned case, in the order of the book.

    The plan is ``book/drill_prompts/_index.yml``: the drill has a prompt for every case.
    """
    path = root / "book" / "drill_prompts" / "_index.yml"
    if not path.is_file():
        return {}
    index = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        stem: part["title"].partition(", ")[2] or part["title"]
        for part in index["parts"]
        for stem in part["chapters"]
    }


def _part(root: Path, case: Case) -> str:
    """Return the part of the book that a case belongs to."""
    by_number = {stem.split("_")[0]: part for stem, part in planned_parts(root).items()}
    return case.part or by_number.get(case.number, UNPLANNED)


def _place(parts: Sequence[str], part: str, order: Sequence[str]) -> int:
    """Return where a new part goes: after those before it in the order, and before the end."""
    before = order[: order.index(part)] if part in order else order
    places = [parts.index(name) + 1 for name in before if name in parts]
    ends = [parts.index(name) for name in LATER if name in parts]
    return max(places, default=min(ends, default=len(parts)))


def _entered(contents: dict, case: Case, part: str, order: Sequence[str]) -> dict:
    """Return the table of contents with a case in its part, and its plan with the others."""
    parts = contents["parts"]
    captions = [one["caption"] for one in parts]
    if part not in captions:
        place = _place(captions, part, list(dict.fromkeys(order)))
        parts.insert(place, {"caption": part, "chapters": []})
    entry = {"file": f"exercises/{case.name}"}
    if case.is_chapter:
        entry = {"file": f"chapters/{case.name}", "sections": [entry]}
    plan = {"file": f"book/instructors/{case.name}"}
    for one in parts:
        if one["caption"] == part:
            one["chapters"] = sorted([*one["chapters"], entry], key=_sorted_by)
        if one["caption"] == INSTRUCTORS and case.is_chapter:
            one["chapters"] = sorted([*one["chapters"], plan], key=_sorted_by)
    return contents


def _sorted_by(entry: Mapping) -> tuple[bool, str]:
    """Return the key by which entries are sorted: pages without a number come first."""
    stem = entry["file"].rsplit("/", 1)[1]
    return bool(files.NAME.match(stem)), stem if files.NAME.match(stem) else ""


def _with_group(pyproject: str, group: str) -> str:
    """Return pyproject.toml with a group of optional dependencies."""
    if group in tomllib.loads(pyproject)["project"]["optional-dependencies"]:
        return pyproject
    head = "[project.optional-dependencies]\n"
    before, _, after = pyproject.partition(head)
    table, gap, rest = after.partition("\n\n")
    lines = "".join(f'    "{package}",\n' for package in NEEDED)
    made = f"{group} = [\n{lines}]"
    groups = [*re.findall(r"^[\w-]+ = \[.*?\]$", table, flags=re.M | re.S), made]
    return before + head + "\n".join(sorted(groups)) + gap + rest


def record_targets(root: Path, name: str) -> int:
    """Write the rows of a chapter's last scorecard into ``tests/targets.toml``.

    Parameters
    ----------
    root : Path
        The checkout.
    name : str
        Of the chapter. Its rows are replaced; a tolerance and the data set that a row needs
        (``real``) are kept.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    FileNotFoundError
        If the chapter has not been executed.
    """
    card = build_dir() / "scorecards" / f"{name}.json"
    if not card.is_file():
        raise FileNotFoundError(f"{card} is not there: run `make chapter N={name.split('_')[0]}`.")
    path = root / "tests" / "targets.toml"
    text = path.read_text(encoding="utf-8")
    accepted = tomllib.loads(text).get(name, {})
    blocks = re.split(r"(?=^\[)", text, flags=re.M)
    own = [i for i, block in enumerate(blocks) if block.startswith(f"[{name}.")]
    others = [i for i, block in enumerate(blocks) if block.startswith("[") and i not in own]
    later = [i for i in others if blocks[i] > f"[{name}."]
    rows = json.loads(card.read_text(encoding="utf-8"))["rows"]
    shown = {f"{row['metric']} | {row['data']}" for row in rows}
    kept = [b for i in own if (b := blocks[i]).split('"')[1] not in shown and "\nreal = " in b]
    made = [_target(name, row, accepted) for row in rows] + [block.strip() for block in kept]
    place = own[0] if own else later[0] if later else len(blocks)
    before = [block for i, block in enumerate(blocks) if i < place and i not in own]
    after = [block for i, block in enumerate(blocks) if i >= place and i not in own]
    whole = [block.strip() for block in [*before, *made, *after] if block.strip()]
    path.write_text("\n\n".join(whole) + "\n", encoding="utf-8")
    return len(rows)


def _target(name: str, row: Mapping, accepted: Mapping) -> str:
    """Return the accepted values of one row of a scorecard, as TOML."""
    key = f"{row['metric']} | {row['data']}"
    before = accepted.get(key, {})
    lines = [f"[{name}.{json.dumps(key, ensure_ascii=False)}]"]
    for what in ("baseline", "model", "peer", "oracle"):
        if row.get(what):  # a value of zero has no relative tolerance
            lines.append(f"{what} = {float(f'{row[what]:.4g}')}")
    lines.append(f"tolerance = {before.get('tolerance', TOLERANCE)}")
    lines.append(f"verdict = {json.dumps(row['verdict'])}")
    if "real" in before:
        lines.append(f"real = {json.dumps(before['real'])}")
    return "\n".join(lines)


# The case -----------------------------------------------------------------------------


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
    there = [path for path in case.paths().values() if (root / path).exists()]
    if (root / "casebook" / "cases" / case.module).exists():
        there.insert(0, f"casebook/cases/{case.module}")
    if there:
        raise ValueError(
            f"{', '.join(dict.fromkeys(there))} is there already; choose another name."
        )


def create(root: Path, case: Case) -> list[str]:
    """Write the files of a new case and enter it in the registries; nothing is executed.

    Parameters
    ----------
    root : Path
        The checkout.
    case : Case

    Returns
    -------
    list of str
        The paths that were written or changed.

    Raises
    ------
    ValueError
        If the name has another form, its number or a file is taken, or there is no title.
        Nothing is written then.
    """
    _refuse(root, case)
    texts = {root / path: _text(template, case) for template, path in case.paths().items()}
    contents, project = root / "_toc.yml", root / "pyproject.toml"
    entered = _entered(
        yaml.safe_load(contents.read_text(encoding="utf-8")),
        case,
        _part(root, case),
        list(planned_parts(root).values()),
    )
    texts[contents] = contents_text(entered)
    texts[project] = _with_group(project.read_text(encoding="utf-8"), case.needs)
    changed = []
    for path, text in texts.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        changed.append(path.relative_to(root).as_posix())
    return changed


def _text(template: str, case: Case) -> str:
    if template.endswith(".ipynb"):
        path = case.paths()[template]
        return files.text(normalise(notebook(template, case), path))
    return _filled(template, case)


def finish(root: Path, case: Case) -> None:
    """Format the code of a new case, write its snapshots and record its tables.

    Parameters
    ----------
    root : Path
        The checkout whose package is imported.
    case : Case
        Created before.
    """
    from casebook.cases.__main__ import write_snapshots
    from casebook.recorded import bench

    code = [path for path in case.paths().values() if path.endswith((".py", ".ipynb"))]
    for command in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, *code], cwd=root, check=True)
    importlib.invalidate_caches()
    write_snapshots(importlib.import_module(f"casebook.cases.{case.module}.world"))
    if case.is_chapter:
        bench.main([case.number])


# What is yet to be written ------------------------------------------------------------


def _sources(root: Path, stem: str) -> Iterator[tuple[str, str]]:
    """Yield where a case has text of its author's, and the text."""
    case = Case(stem, "-")
    for room in ("chapters", "solutions"):
        path = root / room / f"{stem}.ipynb"
        for cell in files.read(path).cells if path.is_file() else ():
            yield f"{room}/{stem}.ipynb, cell {cell.id!r}", cell.source
    paths = [root / "data" / stem / "README.md", root / "book" / "instructors" / f"{stem}.md"]
    paths += sorted((root / "casebook" / "cases" / case.module).rglob("*.py"))
    paths += sorted((root / "tests" / "cases").glob(f"test_{case.module}_*.py"))
    for path in paths:
        if path.is_file():
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def unwritten(root: Path, stem: str) -> list[str]:
    """Return the comments of the templates that a case still has, one line each.

    Parameters
    ----------
    root : Path
        The checkout.
    stem : str
        Of the case, such as ``02_sales_forecasting``.
    """
    return [
        f"{where}: to write: {found[1]}"
        for where, text in _sources(root, stem)
        for found in _MARKED.finditer(text)
    ]


def stems(root: Path) -> list[str]:
    """Return the names of all cases."""
    return sorted({p.stem for p in files.notebooks("chapters", "solutions", root=root)})
