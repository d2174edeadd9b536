"""Assignments for a class: each student works in a world of their own.

``make assignment CLASS=autumn SEEDS=20 N=01`` writes into ``classes/autumn/``, which git ignores:

``seeds.csv``      the roster: a student and a seed a line; write your students' names into it
``handout/``       for each student the exercise with the seed in it
``expected.csv``   for each student the right answers
``source/``, ``release/``, ``nbgrader_config.py``   what ``nbgrader autograde`` needs

A seed is handed out only if the exercise keeps its contract in that world: the expected answers
are accepted, and every wrong answer gets its own reason.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from nbformat import NotebookNode

from casebook.author import contract, exercises, files, keys
from casebook.author.launch import BADGES_ID
from casebook.author.submissions import seed_cell
from casebook.exercises.asked import Asked
from casebook.project import write_whole

FOLDER = "classes"
ROSTER, EXPECTED, HELD = "seeds.csv", "expected.csv", ".held.json"
#: Seeds that are drawn lie between these.
LEAST, MOST = 1_000, 1_000_000
#: So many seeds are tried for each that is wanted.
TRIES = 4
CONFIG = '''\
"""nbgrader for this class: run its commands in this folder. `make assignment` writes this file."""

from pathlib import Path

from casebook.author.submissions import StudentSeed

here = Path(__file__).resolve().parent
c = get_config()  # noqa: F821 - given by traitlets when it reads this file
load_subconfig("nbgrader_config.py", path=str(here.parents[1]))  # noqa: F821
c.CourseDirectory.root = str(here)
c.StudentSeed.roster = str(here / "seeds.csv")
c.Autograde.sanitize_preprocessors = [*c.Autograde.sanitize_preprocessors, StudentSeed]
'''


class Refused(ValueError):
    """An assignment cannot be made as it was asked for; the message says why and what to do."""


@dataclass(frozen=True)
class Student:
    """A line of the roster."""

    student: str
    seed: int


# The roster ---------------------------------------------------------------------------


def read_roster(path: Path) -> list[Student]:
    """Return the students of a class and their seeds; none if there is no roster yet.

    Raises
    ------
    Refused
        If a name or a seed is missing or there twice.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    roster = []
    for number, row in enumerate(rows, 2):
        name, seed = (row.get("student") or "").strip(), (row.get("seed") or "").strip()
        if not re.fullmatch(r"[\w.@-]+", name) or not (seed.isascii() and seed.isdigit()):
            raise Refused(
                f"{path}, line {number}: give a name without spaces and a whole number, such as "
                "`anna,4711`."
            )
        roster.append(Student(name, int(seed)))
    for what in ("student", "seed"):
        values = [getattr(one, what) for one in roster]
        if twice := sorted({str(v) for v in values if values.count(v) > 1}):
            raise Refused(f"{path}: the {what} {', '.join(twice)} is there twice.")
    return roster


def asked_seeds(text: str) -> int | list[int]:
    """Return how many students are wanted, or the list of their seeds.

    Examples
    --------
    >>> asked_seeds("20")
    20
    >>> asked_seeds("11, 12")
    [11, 12]

    Raises
    ------
    Refused
        If it is neither, or a seed is there twice.
    """
    words = re.split(r"[,\s]+", text.strip(", \t"))
    if not all(word.isascii() and word.isdigit() for word in words):
        raise Refused(
            f"SEEDS is {text!r}: give the number of students (SEEDS=20) or a list of seeds "
            "(SEEDS=11,12,13)."
        )
    numbers = [int(word) for word in words]
    if len(numbers) == 1 and "," not in text:
        if not 1 <= numbers[0] <= 1000:
            raise Refused(f"SEEDS={text.strip()} is no number of students; a list has a comma.")
        return numbers[0]
    if twice := sorted({n for n in numbers if numbers.count(n) > 1}):
        raise Refused(f"SEEDS has {', '.join(map(str, twice))} twice.")
    return numbers


def drawn_seeds(class_name: str) -> Iterator[int]:
    """Yield the seeds of a class in an order that depends on its name alone."""
    entropy = int.from_bytes(hashlib.sha256(class_name.encode()).digest(), "big")
    rng, seen = np.random.default_rng(entropy), set()
    while True:
        seed = int(rng.integers(LEAST, MOST))
        if seed not in seen:
            seen.add(seed)
            yield seed


# What an exercise gives in the world of a seed -----------------------------------------


def fixed_questions(stem: str) -> list[int]:
    """Return the questions of an exercise that know the chapter's world only."""
    return [n for n, q in exercises.questions(stem).items() if not isinstance(q, Asked)]


def expected_rows(stem: str, one: Student) -> list[dict[str, object]]:
    """Return a student's right answers to an exercise, a row for each part."""
    return [
        {
            "student": one.student,
            "seed": one.seed,
            "exercise": stem,
            "question": number,
            "part": part,
            "expected": written(value),
        }
        for number, question in exercises.questions(stem).items()
        for part, value in question.expected(one.seed).items()
    ]


def written(value: object) -> str:
    """Return an answer as an instructor reads it.

    Examples
    --------
    >>> written(0.25), written({"b", "a"}), written(len)
    ('0.25', 'a, b', 'a function')
    """
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return value.to_json(orient="split", double_precision=10, date_format="iso")
    if isinstance(value, np.ndarray):
        return str(np.round(value, 10).tolist())
    if isinstance(value, (set, frozenset, list, tuple)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return ", ".join(map(written, items))
    if isinstance(value, (bool, np.bool_, str)):
        return str(value)
    if isinstance(value, (int, float, np.number)):
        return f"{value:.10g}"
    return "a function" if callable(value) else str(value)


def seed_refusal(root: Path, stem: str, seed: int) -> str:
    """Return why a seed is no world for a student; an empty text if it is one."""
    asked = exercises.questions(stem).values()
    if seed in {question.exercise.seed for question in asked}:
        return f"{stem}: it is the world of the chapter, whose answers are public"
    found = contract.seed_faults(root / "solutions" / f"{stem}.ipynb", [seed])
    return f"{stem}: {found[0].split(': ', 1)[-1]}" if found else ""


def same_for_all(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the parts whose answer is the same for every student."""
    answers: dict[str, set] = {}
    students = set()
    for row in rows:
        students.add(row["student"])
        part = f"`{row['part']}` of {row['exercise']}, question {row['question']}"
        answers.setdefault(part, set()).add(row["expected"])
    return [part for part, seen in answers.items() if len(seen) == 1 and len(students) > 1]


# The assignment -------------------------------------------------------------------------


def _stems(root: Path, number: str, there: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the exercises to make, and a line for each that knows no other world."""
    try:
        paths = files.find(number, "solutions", root=root) if number else []
    except FileNotFoundError as error:
        raise Refused(str(error)) from None
    paths = paths or files.notebooks("solutions", root=root)
    fixed = {path.stem: fixed_questions(path.stem) for path in paths}
    left_out = [
        f"{stem} draws no world by a seed yet: question{'s' * (len(numbers) > 1)} "
        f"{', '.join(map(str, numbers))} know{'s' * (len(numbers) == 1)} the chapter's world only"
        for stem, numbers in fixed.items()
        if numbers
    ]
    ready = [stem for stem, numbers in fixed.items() if not numbers]
    if not ready:
        raise Refused("; ".join(left_out) + ".")
    return sorted({*ready, *there}), left_out


class Judge:
    """Says why a seed cannot be handed out; what has held before, with the same code, holds again.

    Parameters
    ----------
    root : Path
        The checkout.
    stems : sequence of str
        The exercises of the class.
    path : Path
        Where it is kept which seeds have held.
    """

    def __init__(self, root: Path, stems: Sequence[str], path: Path):
        self.root, self.path = root, path
        self.keys = {stem: _key(root, stem) for stem in stems}
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.held = {key: set(kept.get(key, ())) for key in self.keys.values()}

    def refusal(self, seed: int) -> str:
        """Return why a seed does not hold, for the first exercise in which it does not."""
        for stem, key in self.keys.items():
            if seed in self.held[key]:
                continue
            if why := seed_refusal(self.root, stem, seed):
                return why
            self.held[key].add(seed)
        return ""

    def keep(self) -> None:
        """Write down which seeds have held."""
        text = json.dumps({key: sorted(seeds) for key, seeds in self.held.items()})
        write_whole(self.path, text.encode())


def _key(root: Path, stem: str) -> str:
    """Return the key of an exercise: of its cells and all code that they reach."""
    name = f"solutions/{stem}"
    return keys.key(root, name, files.read(root / f"{name}.ipynb"), {})


def _enrol(
    judge: Judge, class_name: str, roster: list[Student], seeds: str
) -> Iterator[str | Student]:
    """Yield the students of the class, and lines on seeds that were left out.

    Those of the roster come first: a seed that does not hold for them is an error.
    """
    wanted = asked_seeds(seeds) if seeds.strip() else len(roster)
    if not wanted:
        raise Refused("Say how many students there are: SEEDS=20, or SEEDS=11,12 with their seeds.")
    for one in roster:
        if why := judge.refusal(one.seed):
            raise Refused(f"{one.student} needs another seed in {ROSTER}: {why}.")
        yield one
    known = {one.seed for one in roster}
    names = {one.student for one in roster}
    fresh = (f"student-{number:02}" for number in range(1, 10_000))
    free = (name for name in fresh if name not in names)
    if isinstance(wanted, list):
        for seed in (seed for seed in wanted if seed not in known):
            if why := judge.refusal(seed):
                raise Refused(f"seed {seed} is refused: {why}. Give another one.")
            yield Student(next(free), seed)
        return
    missing, tries = wanted - len(roster), 0
    for seed in (seed for seed in drawn_seeds(class_name) if seed not in known):
        if missing <= 0:
            return
        if tries >= TRIES * wanted + TRIES:
            raise Refused(f"{tries} seeds were tried and too few hold; the last one: {why}.")
        tries += 1
        if why := judge.refusal(seed):
            yield f"left out    seed {seed}: {why}"
            continue
        missing -= 1
        yield Student(next(free), seed)


def handout(root: Path, stem: str, seed: int) -> NotebookNode:
    """Return the exercise of one student: the committed questions in a world of their own.

    Parameters
    ----------
    root : Path
        The checkout.
    stem : str
        Of the exercise.
    seed : int
        Of the student.
    """
    solution = files.read(root / "solutions" / f"{stem}.ipynb")
    made = exercises.exercise(solution, f"exercises/{stem}.ipynb")
    # The public links open the exercise in the chapter's world.
    made.cells = [cell for cell in made.cells if cell.id != BADGES_ID]
    made.cells.insert(1, seed_cell(seed))
    return made


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(path, text.getvalue().encode())


def _generate(folder: Path, root: Path, stem: str) -> None:
    """Let nbgrader take a solution into the class's gradebook and write its release."""
    source = folder / "source" / stem / f"{stem}.ipynb"
    source.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "solutions" / source.name, source)
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", stem, "--create", "--force"]
    # nbgrader calls alembic by its name, as in an activated environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise Refused(f"nbgrader did not take {stem}:\n{done.stdout}")


def make(root: Path, class_name: str, seeds: str, number: str = "") -> Iterator[str]:
    """Write the assignments of a class.

    Parameters
    ----------
    root : Path
        The checkout.
    class_name : str
        Name of its folder in ``classes/``.
    seeds : str
        How many students, or a list of their seeds. Empty: the students of the roster. The
        roster only grows: who has a seed keeps it.
    number : str
        Of one exercise; by default all that draw a world by the seed. Exercises that the class
        has already are made again.

    Yields
    ------
    str
        What was done, a line each.

    Raises
    ------
    Refused
        If the class, the number or a seed cannot be used. Nothing is written then.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", class_name):
        raise Refused(f"CLASS is {class_name!r}: give letters and digits, such as CLASS=autumn26.")
    folder = root / FOLDER / class_name
    roster = read_roster(folder / ROSTER)
    there = sorted(path.name for path in (folder / "source").glob("*") if path.is_dir())
    stems, left_out = _stems(root, number, there)
    yield from (f"left out    {line}" for line in left_out)
    students: list[Student] = []
    judge = Judge(root, stems, folder / HELD)
    for found in _enrol(judge, class_name, roster, seeds):
        if isinstance(found, str):
            yield found
            continue
        students.append(found)
        yield f"holds       seed {found.seed} for {found.student}"
    rows = [row for stem in stems for one in students for row in expected_rows(stem, one)]
    chapter = [row for stem in stems for row in expected_rows(stem, _chapter(stem))]
    if drawn_by_nothing := _without_a_world(stems, rows, chapter):
        raise Refused(
            f"{', '.join(drawn_by_nothing)}: the seed changes no answer; look for a value in its "
            "questions that takes no seed."
        )
    judge.keep()
    write_whole(folder / "nbgrader_config.py", CONFIG.encode())
    _write_csv(folder / ROSTER, [vars(one) for one in students])
    _write_csv(folder / EXPECTED, rows)
    for stem in stems:
        _generate(folder, root, stem)
        for one in students:
            path = folder / "handout" / one.student / stem / f"{stem}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(handout(root, stem, one.seed), path)
        yield f"written     {FOLDER}/{class_name}/handout/<student>/{stem}/{stem}.ipynb"
    yield from (
        f"note        the answer {part}, is the same for all" for part in same_for_all(rows)
    )
    yield (
        f"next        hand out each student's folder; collect it as {FOLDER}/{class_name}/"
        f"submitted/<student>/; in {FOLDER}/{class_name} run `nbgrader autograde {stems[0]}`"
    )


def _chapter(stem: str) -> Student:
    """Return the chapter's world as if it were a student's."""
    question = next(iter(exercises.questions(stem).values()))
    return Student("chapter", question.exercise.seed)


def _without_a_world(
    stems: Sequence[str], rows: Sequence[Mapping], chapter: Sequence[Mapping]
) -> list[str]:
    """Return the exercises in which some student's answers are all those of the chapter."""
    public = {(row["exercise"], row["question"], row["part"], row["expected"]) for row in chapter}
    own: dict[tuple, list[bool]] = {}
    for row in rows:
        key = (row["exercise"], row["question"], row["part"], row["expected"])
        own.setdefault((row["exercise"], row["student"]), []).append(key in public)
    return [stem for stem in stems if any(all(v) for k, v in own.items() if k[0] == stem)]
