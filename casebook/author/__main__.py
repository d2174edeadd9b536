"""Command line of the notebook tools: ``python -m casebook.author COMMAND``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from casebook.author import entries, files, minutes, scaffold, unwritten, working
from casebook.author.execute import NotebookFailed, execute, stored
from casebook.author.kernels import ForeignKernel, own_package, require_own_kernel
from casebook.author.normalise import faults, normalise
from casebook.project import checkout, require_checkout, settings


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def command_normalise(root: Path) -> int:
    """Bring every chapter and solution into its committed form."""
    for path in files.notebooks("chapters", "solutions", root=root):
        name = _relative(path, root)
        if files.write(normalise(files.read(path), name), path):
            print(f"normalised  {name}")
    return 0


def _exercises(root: Path, which: str | None = None) -> dict[Path, str]:
    """Return the text of every exercise by its path, as its solution says; or of one case."""
    from casebook.author.exercises import exercise, exercise_path

    wanted = {}
    for path in files.notebooks("solutions", root=root):
        if which is None or path.stem.split("_")[0] == which:
            target = exercise_path(path)
            wanted[target] = files.text(exercise(files.read(path), _relative(target, root)))
    return wanted


def _differs(path: Path, content: str) -> bool:
    return not path.is_file() or path.read_text(encoding="utf-8") != content


def _hold(path: Path, root: Path, overwrite: bool) -> bool:
    """Say whether an exercise must not be replaced; what was written in it is copied first."""
    if not path.is_file():
        return False
    name = _relative(path, root)
    held = working.secure(path, root)
    if held.copy is None:
        return False
    copied = _relative(held.copy, root)
    if held.answers and not overwrite:
        print(
            f"held        {name} has answers ({', '.join(held.answers)}) and is not replaced. "
            f"They are in {copied} too: go on there (`make lab`). To have {name} blank again, "
            "run this command with OVERWRITE=1 (`make`) or --overwrite."
        )
        return True
    print(f"kept        {copied} has what was changed by hand in {name}")
    return False


def command_exercises(root: Path, which: str | None = None, overwrite: bool = False) -> int:
    """Generate the exercises from the solutions; 1 if one holds answers and was not replaced."""
    held = 0
    for path, content in _exercises(root, which).items():
        if not _differs(path, content):
            continue
        if _hold(path, root, overwrite):
            held += 1
            continue
        path.write_text(content, encoding="utf-8")
        print(f"generated   {_relative(path, root)}")
    return 1 if held else 0


def command_work(root: Path) -> int:
    """Give every exercise a copy to work on, in work/; none is ever written again."""
    for line in working.prepare(root):
        print(line)
    return 0


def command_check(root: Path) -> int:
    """List everything that is not in order; 1 if anything is."""
    found = []
    for path in files.notebooks(root=root):
        name = _relative(path, root)
        notebook = files.read(path)
        if path.parent.name == "exercises" and (answers := working.answered(notebook)):
            found.append(
                f"{name}: has answers ({', '.join(answers)}); the file is generated, so work in "
                f"{working.FOLDER}/ (`make lab` copies it there, nothing is lost)"
            )
            continue
        found += [f"{name}: {fault}" for fault in faults(notebook, name)]
        if path.parent.name != "exercises" and files.text(
            normalise(notebook, name)
        ) != path.read_text(encoding="utf-8"):
            found.append(f"{name}: not normalised; run `make exercises`")
    wanted = _exercises(root)
    for path, content in wanted.items():
        if path.is_file() and working.answered(files.read(path)):
            continue  # said above
        if _differs(path, content):
            found.append(
                f"{_relative(path, root)}: not what its solution generates; run `make exercises`"
            )
    for path in files.notebooks("exercises", root=root):
        if path not in wanted:
            found.append(f"{_relative(path, root)}: an exercise without a solution")
    found += minutes.faults(root)
    for stem in unwritten.stems(root):
        found += unwritten.unwritten(root, stem)
    print("\n".join(found) or f"{len(files.notebooks(root=root))} notebooks are in order")
    return 1 if found else 0


def command_nbval(root: Path, which: Sequence[str] = ()) -> int:
    """Compare what chapters and solutions store with their one execution, by nbval."""
    rooms = ("chapters", "solutions")
    paths = [path for one in which for path in files.find(one, *rooms, root=root)]
    paths = paths or files.notebooks(*rooms, root=root)
    if not paths:
        return 0
    # What the book has executed is only read; what it has not, two workers execute.
    fresh = all(stored(root, _relative(p.with_suffix(""), root)) for p in paths)
    arguments = [sys.executable, "-m", "pytest", "-p", "casebook.author.judge", "--judge"]
    arguments += ["-n", "0"] if fresh else ["-n", "2", "--dist", "loadscope"]
    arguments += ["--timeout=0", "-p", "no:cacheprovider", "-q"]  # each cell has its own limit
    return subprocess.run([*arguments, *map(str, paths)], cwd=root).returncode


def command_record(root: Path, which: str, overwrite: bool = False) -> int:
    """Execute the notebooks of a case and store the outputs of their checked cells."""
    try:
        require_own_kernel()
    except ForeignKernel as foreign:
        print(f"failed      {foreign}")
        return 1
    for path in files.find(which, "chapters", "solutions", root=root):
        name = _relative(path, root)
        before = path.read_bytes()
        notebook = normalise(files.read(path), name)
        try:
            seconds = execute(notebook, name, path.parent, own_package(root))
        except NotebookFailed as failure:
            print(f"failed      {failure}")
            return 1
        if path.read_bytes() != before:
            print(f"not stored  {name} was edited while it ran; run the command again")
            return 1
        files.write(normalise(notebook, name), path)
        print(f"recorded    {name}  {seconds:.1f} s")
    return command_exercises(root, which, overwrite)


def command_content(root: Path, lower: bool = False) -> int:
    """List what a reader would stumble over; 1 if a link is dead or a count has grown."""
    from casebook.author import content

    found = content.findings(root)
    now, accepted = content.counts(found), content.read_baseline(root)
    print("\n".join(map(str, found)))
    errors = [f for f in found if f.check in content.ERRORS]
    grown, shrunk = content.grown(now, accepted), content.shrunk(now, accepted)
    if lower and shrunk:
        content.write_baseline(root, content.lower(now, accepted))
    print(f"{len(found) - len(errors)} warnings, {len(errors)} errors")
    for what, lines in (
        ("more than accepted", grown),
        ("lowered" if lower else "may be lowered (content --lower)", shrunk),
    ):
        print("".join(f"{what}: {line}\n" for line in lines), end="")
    return 1 if errors or grown else 0


def command_links(root: Path) -> int:
    """Ask every address of another host whether it still answers; 1 if one is dead."""
    from casebook.author import external

    places = external.external_links(root)
    answers = external.ask_all(list(places))
    for answer in answers:
        if answer.verdict != "alive":
            where = ", ".join(places[answer.address])
            print(f"{answer.verdict:<10}{answer.address} ({answer.detail}) in {where}")
    dead = sum(answer.verdict == "dead" for answer in answers)
    print(f"{len(answers)} addresses, {dead} dead")
    return 1 if dead else 0


def command_release(root: Path, tag: str, check: bool = False, overwrite: bool = False) -> int:
    """Write a release's tag into pyproject.toml and every notebook; or check that it is there."""
    from casebook.author import release

    if check:
        if (name := release.declared(root)) != tag:
            print(f"pyproject.toml names the release {name!r}, not {tag!r}: make release TAG={tag}")
            return 1
        return command_check(root)
    held = [_hold(path, root, overwrite) for path in files.notebooks("exercises", root=root)]
    if any(held):
        return 1  # before anything is written: a release names itself in every notebook or in none
    try:
        release.set_release(root, tag)
    except ValueError as error:
        print(f"not written {error}")
        return 1
    settings.cache_clear()
    command_normalise(root)
    return command_exercises(root, overwrite=overwrite)


def command_new(root: Path, case: scaffold.Case) -> int:
    """Start a new case: every file of it, small and whole; then `check` says what to write."""
    try:
        changed = scaffold.create(root, case)
    except (ValueError, scaffold.NotMade) as error:
        print(f"not made    {error}")
        return 1
    except KeyboardInterrupt:
        print("cut off     run the same command again: it makes the case, or adds what is missing")
        return 130
    print("".join(f"written     {path}\n" for path in changed), end="")
    left, number = unwritten.unwritten(root, case.name), case.number
    print(
        f"to write    {len(left)} places; `python -m casebook.author check` lists what is left\n"
        f"next        casebook/cases/{case.module}/world.py and its tests: commit them before you "
        f"compare models\n            (CONTRIBUTING.md; `make chapter N={number}` runs the page)"
    )
    return 0


def command_dry_run(root: Path, which: str) -> int:
    """Run a chapter on the small world of its plan's reduced setting; store nothing."""
    from casebook.author import dry

    try:
        require_own_kernel()
        name, spent = dry.dry_run(root, which)
    except (FileNotFoundError, ForeignKernel, NotebookFailed, ValueError) as error:
        print(f"failed      {error}")
        return 1
    print(f"runs        {name}  {spent.cpu_seconds:.1f} CPU s, {spent.memory_mb:.0f} MB")
    return 0


def command_template(root: Path, check: bool = False) -> int:
    """Run the template of a new case and store what its cells show; 1 if --check finds it stale."""
    from casebook.author import template

    fresh, path = template.shown(root), scaffold.TEMPLATES / scaffold.STORED
    if path.is_file() and path.read_text(encoding="utf-8") == fresh:
        print("the template stores what its cells show")
        return 0
    if check:
        print(f"{_relative(path, root)} is stale: run `python -m casebook.author template`")
        return 1
    path.write_text(fresh, encoding="utf-8")
    print(f"written     {_relative(path, root)}")
    return 0


def command_targets(root: Path, which: str) -> int:
    """Accept what the last run of a chapter put on its scorecard: tests/targets.toml."""
    try:
        name = files.find(which.split("_")[0], "chapters", root=root)[0].stem
        count = entries.record_targets(root, name)
    except FileNotFoundError as error:
        print(f"not written {error}")
        return 1
    print(f"accepted    {count} rows of {name} in tests/targets.toml")
    return 0


def command_assignment(root: Path, given: argparse.Namespace) -> int:
    """Write a class's assignments, each student with a world of their own, into classes/."""
    from casebook.author import assignment

    try:
        for line in assignment.make(root, given.class_name, given.seeds, given.number):
            print(line)
    except assignment.Refused as refused:
        print(f"not made    {refused}")
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m casebook.author", description=__doc__)
    parser.add_argument(
        "--root", type=Path, help="another checkout than this one (its own package is used)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (
        ("normalise", command_normalise),
        ("work", command_work),
        ("check", command_check),
        ("links", command_links),
    ):
        commands.add_parser(name, help=function.__doc__)
    nbval = commands.add_parser("nbval", help=command_nbval.__doc__)
    nbval.add_argument("which", nargs="*", help="numbers of some cases, such as 01")
    exercises = commands.add_parser("exercises", help=command_exercises.__doc__)
    record = commands.add_parser("record", help=command_record.__doc__)
    record.add_argument("which", help="number of the case, such as 01")
    content = commands.add_parser("content", help=command_content.__doc__)
    content.add_argument("--lower", action="store_true", help="lower the accepted counts")
    release = commands.add_parser("release", help=command_release.__doc__)
    release.add_argument("tag", help="such as v1.2")
    release.add_argument("--check", action="store_true", help="write nothing")
    for command in (exercises, record, release):
        command.add_argument(
            "--overwrite", action="store_true", help="replace exercises with answers, copied first"
        )
    new = commands.add_parser("new", help=command_new.__doc__)
    new.add_argument("name", help="number and name of the case, such as 02_sales_forecasting")
    new.add_argument("title", help="title of the chapter")
    new.add_argument("--group", default="", help="optional dependencies: its own by default")
    new.add_argument("--part", default="", help="part of the book: by default its plan's")
    dry_run = commands.add_parser("dry-run", help=command_dry_run.__doc__)
    dry_run.add_argument("which", help="number of the chapter, such as 01")
    template = commands.add_parser("template", help=command_template.__doc__)
    template.add_argument("--check", action="store_true", help="write nothing")
    targets = commands.add_parser("targets", help=command_targets.__doc__)
    targets.add_argument("which", help="number of the chapter, such as 01")
    assignment = commands.add_parser("assignment", help=command_assignment.__doc__)
    assignment.add_argument("class_name", help="of the class: its folder in classes/")
    assignment.add_argument(
        "--seeds", default="", help="how many students, or a list of their seeds: 11,12,13"
    )
    assignment.add_argument("--number", default="", help="of one exercise, such as 01")
    given = parser.parse_args(arguments)
    root = (given.root or require_checkout()).resolve()
    if root != checkout() and (root / "casebook").is_dir():
        # Its own package knows its public address, its rules and its data.
        rest = list(arguments if arguments is not None else sys.argv[1:])
        rest = rest[rest.index(given.command) :]
        command = [sys.executable, "-m", "casebook.author", *rest]
        env = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run(command, cwd=root, env=env).returncode
    if given.command == "nbval":
        return command_nbval(root, given.which)
    if given.command == "record":
        return command_record(root, given.which, given.overwrite)
    if given.command == "exercises":
        return command_exercises(root, overwrite=given.overwrite)
    if given.command == "content":
        return command_content(root, given.lower)
    if given.command == "release":
        return command_release(root, given.tag, given.check, given.overwrite)
    if given.command == "new":
        case = scaffold.Case(given.name, given.title, given.group, given.part)
        return command_new(root, case)
    if given.command == "dry-run":
        return command_dry_run(root, given.which)
    if given.command == "template":
        return command_template(root, given.check)
    if given.command == "targets":
        return command_targets(root, given.which)
    if given.command == "assignment":
        return command_assignment(root, given)
    return globals()[f"command_{given.command}"](root)


if __name__ == "__main__":
    sys.exit(main())
