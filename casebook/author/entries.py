"""Where a case is entered beside others: contents, groups of packages, accepted values.

Lines are inserted and no others are touched, so that two cases that are under way at a time meet
in a merge only where their lines stand side by side.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from casebook.project import build_dir

#: Parts of the table of contents that come after those of the cases.
LATER = ("Practise", "For instructors", "Reference")
INSTRUCTORS = "For instructors"
#: The part of cases that the plan of the book does not know, here and on the landing page.
UNPLANNED = "More cases"
#: What a new row of ``tests/targets.toml`` may differ by.
TOLERANCE = 0.05
_PART = re.compile(r"^  - caption: (.+)$")
#: A page of a case, its plan or its handout, with the number of the case.
_NUMBERED = re.compile(r"^      - file: .*/(?:handout_)?(\d\d|[A-D])(?:_\w+)?$")
_GROUPS = re.compile(r"^\[project\.optional-dependencies\]\n", flags=re.M)


# The table of contents -----------------------------------------------------------------


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


def _place(parts: Sequence[str], part: str, order: Sequence[str]) -> int:
    """Return where a new part goes: after those before it in the order, and before the end."""
    before = order[: order.index(part)] if part in order else order
    places = [parts.index(name) + 1 for name in before if name in parts]
    ends = [parts.index(name) for name in LATER if name in parts]
    return max(places, default=min(ends, default=len(parts)))


def _captions(lines: Sequence[str]) -> dict[str, int]:
    """Return the line of each part of the contents by its caption."""
    return {found[1]: i for i, line in enumerate(lines) if (found := _PART.match(line))}


def _inserted(lines: Sequence[str], part: str, number: str, new: Sequence[str]) -> list[str]:
    """Return lines with new ones in a part, before its first entry of a larger number."""
    if new[0] in lines:
        return [*lines]
    start, starts = _captions(lines)[part], [*_captions(lines).values(), len(lines)]
    place = min(line for line in starts if line > start)
    larger = (
        i for i in range(start, place) if (found := _NUMBERED.match(lines[i])) and found[1] > number
    )
    place = next(larger, place)
    return [*lines[:place], *new, *lines[place:]]


def with_case(contents: str, stem: str, part: str, planned: Mapping[str, str]) -> str:
    """Return the table of contents with a case in its part, its handout and its plan.

    Parameters
    ----------
    contents : str
        Text of ``_toc.yml``.
    stem : str
        Name of the case. What is listed already stays where it is.
    part : str
        Caption of a part; empty for the one of the plan. One that is not there is made.
    planned : mapping of str to str
        As of :func:`planned_parts`.

    Raises
    ------
    ValueError
        If the file has another form than it is committed in, and lines cannot be placed.
    """
    number, lines = stem.split("_")[0], contents.rstrip("\n").split("\n")
    by_number = {name.split("_")[0]: caption for name, caption in planned.items()}
    part = part or by_number.get(number, UNPLANNED)
    captions = _captions(lines)
    if sorted(captions) != sorted(one["caption"] for one in yaml.safe_load(contents)["parts"]):
        raise ValueError("_toc.yml is not indented as it was: restore it, or enter the case there.")
    if part not in captions:
        place = _place([*captions], part, list(dict.fromkeys(planned.values())))
        place = [*captions.values(), len(lines)][place]
        lines[place:place] = [f"  - caption: {part}", "    chapters:"]
    new = [f"      - file: exercises/{stem}"]
    if number.isdigit():
        file = f"      - file: chapters/{stem}"
        new = [file, "        sections:", f"          - file: exercises/{stem}"]
    lines = _inserted(lines, part, number, new)
    if number.isdigit() and INSTRUCTORS in captions:
        names = (f"handout_{number}", stem)
        new = [f"      - file: book/instructors/{name}" for name in names]
        lines = _inserted(lines, INSTRUCTORS, number, new)
    return "\n".join(lines) + "\n"


# Groups of packages --------------------------------------------------------------------


def _groups(pyproject: str) -> tuple[int, int]:
    """Return where the lines of the groups begin and end."""
    head = _GROUPS.search(pyproject)
    if head is None:
        raise ValueError("pyproject.toml has no [project.optional-dependencies].")
    following = re.compile(r"^\[|\Z", flags=re.M).search(pyproject, head.end())
    return head.end(), head.end() + len(pyproject[head.end() : following.start()].rstrip()) + 1


def group_text(pyproject: str, group: str) -> str:
    """Return the lines of a group of packages; an empty text if there is none."""
    start, end = _groups(pyproject)
    whole = rf"^{group} = \[(?:\n(?:    .*\n)*\].*|.+)$"  # over lines, or on one
    found = re.search(whole, pyproject[start:end], flags=re.M)
    return found[0] if found else ""


def with_group(pyproject: str, group: str, packages: str) -> str:
    """Return pyproject.toml with a group of packages, before the first of a later name.

    Parameters
    ----------
    pyproject : str
        Its text. A group that it has stays as it is.
    group : str
        Name of the group.
    packages : str
        What stands behind the equals sign. On one line it is easily kept in a merge.
    """
    if group in tomllib.loads(pyproject)["project"]["optional-dependencies"]:
        return pyproject
    start, end = _groups(pyproject)
    heads = re.compile(r"^([\w-]+) = \[", flags=re.M).finditer(pyproject, start, end)
    place = next((head.start() for head in heads if head[1] > group), end)
    return f"{pyproject[:place]}{group} = {packages}\n{pyproject[place:]}"


# Accepted values -----------------------------------------------------------------------


def _target(name: str, row: Mapping, accepted: Mapping) -> str:
    """Return the accepted values of one row of a scorecard, as TOML."""
    key = _key(row)
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


def _key(row: Mapping) -> str:
    return f"{row['metric']} | {row['data']}"


def with_targets(targets: str, name: str, rows: Sequence[Mapping]) -> str:
    """Return the accepted values with those of a chapter's scorecard in place of its old ones.

    Parameters
    ----------
    targets : str
        Text of ``tests/targets.toml``.
    name : str
        Of the chapter. A tolerance and the data set that a row needs (``real``) are kept.
    rows : sequence of mapping
        Of its scorecard.
    """
    accepted = tomllib.loads(targets).get(name, {})
    blocks = re.split(r"(?=^\[)", targets, flags=re.M)
    own = [i for i, block in enumerate(blocks) if block.startswith(f"[{name}.")]
    others = [i for i, block in enumerate(blocks) if block.startswith("[") and i not in own]
    later = [i for i in others if blocks[i] > f"[{name}."]
    shown = {_key(row) for row in rows}
    kept = [b for i in own if (b := blocks[i]).split('"')[1] not in shown and "\nreal = " in b]
    made = [_target(name, row, accepted) for row in rows] + [block.strip() for block in kept]
    place = own[0] if own else later[0] if later else len(blocks)
    before = [block for i, block in enumerate(blocks) if i < place and i not in own]
    after = [block for i, block in enumerate(blocks) if i >= place and i not in own]
    whole = [block.strip() for block in [*before, *made, *after] if block.strip()]
    return "\n\n".join(whole) + "\n"


def record_targets(root: Path, name: str) -> int:
    """Write the rows of a chapter's last scorecard into ``tests/targets.toml``.

    Parameters
    ----------
    root : Path
        The checkout.
    name : str
        Of the chapter; its rows are replaced as by :func:`with_targets`.

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
    rows = json.loads(card.read_text(encoding="utf-8"))["rows"]
    path = root / "tests" / "targets.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(with_targets(text, name, rows), encoding="utf-8")
    return len(rows)


def same_targets(targets: str, name: str, rows: Sequence[Mapping]) -> list[str]:
    """Return the names of those rows whose accepted values are exactly the given ones."""
    accepted = tomllib.loads(targets).get(name, {})
    made = tomllib.loads(with_targets("", name, rows)).get(name, {})
    return [key for key, values in made.items() if accepted.get(key) == values]
