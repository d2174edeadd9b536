"""The test runner: CPU seconds by case against an allowance, one case alone, longest files first.

``pytest --allowance``    prints what each case's tests cost and how often notebooks were executed;
                          a case far over its allowance is an error (see tests/allowance.toml)
``pytest --case 01``      runs the tests of one case and says how many it left out
``pytest --turns``        leaves out costly files that have passed as they are and whose turn it is
                          not, and records the passes of the others (see tests/rotation.py)
``pytest --seed-seconds`` writes what each file took to tests/seconds.toml, for a new machine

``python tests/testrunner.py`` marks the start of a run of all checks, of which pytest is the end;
with ``--project 22`` it prints what a run for so many cases would take, from recorded seconds.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pace
import pytest
import rotation

from casebook.author import execute
from casebook.project import build_dir, require_checkout, write_whole

HOUSE = "house"
#: Twice an allowance is an error; an exception's ceiling is one at once.
FACTOR = 2.0
#: A ceiling that is this much too high may be lowered.
SLACK = 1.25
#: From this strain on a message says that a machine was slow.
SLOW = 1.1
#: Seconds by the clock between two measurements of the strain.
EVERY = 20.0
#: A notebook is executed so often in one run of all checks, with the same code and data.
MOST_RUNS = 2
#: Folders whose tests belong to no case.
NO_CASE = ("book", "toolbox")
#: The folder whose files belong to one case each.
OF_CASES = "cases"
#: How many tests of each case, and files of each folder, were left out for another case.
LEFT_OUT = pytest.StashKey[dict[str, int]]()
#: The keys of the costly files, and of those among them that are not due.
KEYS = pytest.StashKey[dict[str, str]]()
NOT_DUE = pytest.StashKey[list[str]]()
#: How many tests each file holds.
HELD = pytest.StashKey[dict[str, int]]()
#: The case that shows how a case works: those that are still to come are larger.
GUIDE = "00"
#: A run of all checks for the whole course, on two cores (the course's budget).
CORES, MOST_MINUTES = 2, 60
#: Of how many cases the checks in turns run: of the one that has changed, and by rotation.
TURNS = 2
FIRST_PARAGRAPH = """\
# CPU seconds of each test file by case, for a machine that has not run them yet: the order of
# files (the longest first) and `python tests/testrunner.py --project 22`.
# Written by `pytest --seed-seconds`.
"""
#: CPU seconds of each test file by case (``"house"``: of none).
Seconds = Mapping[str, Mapping[str, float]]


# Which case a test belongs to ---------------------------------------------------------


def case_names(root: Path) -> list[str]:
    """Return the names of all cases: ``01_demand_forecasting``."""
    rooms = ("chapters", "solutions")
    return sorted({path.stem for room in rooms for path in (root / room).glob("*.ipynb")})


def case_of(nodeid: str, names: Sequence[str]) -> str:
    """Return the case of a test, ``"house"`` if it belongs to none.

    A notebook's name among the test's parameters decides, then the name of the file.

    Parameters
    ----------
    nodeid : str
        ``tests/cases/test_demand_forecasting_feed.py::test_a_day[2024-01-01]``.
    names : sequence of str
        Of all cases.
    """
    path, _, test = nodeid.partition("::")
    if Path(path).parent.name in NO_CASE:
        return HOUSE
    for name in names:
        if re.search(rf"\[(.*[^\w])?{name}([^\w].*)?\]", test):
            return name
    words = f"{Path(path).stem.removeprefix('test_')}_"
    return next((name for name in names if words.startswith(f"{name.split('_', 1)[1]}_")), HOUSE)


# The allowance ------------------------------------------------------------------------


@dataclass(frozen=True)
class Allowance:
    """What the tests of one case may cost.

    Attributes
    ----------
    seconds : float
        CPU seconds of a case.
    ceilings : dict of str to float
        For cases with an exception: more than it is an error.
    since : dict of str to str
        Day of each exception.
    """

    seconds: float
    ceilings: Mapping[str, float] = field(default_factory=dict)
    since: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Allowance:
        """Read ``tests/allowance.toml``."""
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        exceptions = content.get("exceptions", {})
        return cls(
            content["seconds"],
            {name: one["ceiling"] for name, one in exceptions.items()},
            {name: one["since"].isoformat() for name, one in exceptions.items()},
        )

    def errors(self, spent: Mapping[str, float], strain: float = 1.0) -> list[str]:
        """Return a line for each case that costs too much.

        Parameters
        ----------
        spent : dict of str to float
            CPU seconds of each case.
        strain : float
            How many times slower than a quiet machine this one was. What browsers draw and
            servers poll while they wait costs CPU seconds too, so limits grow with it.
        """
        found = []
        for case, seconds in sorted(spent.items()):
            if case == HOUSE:
                continue
            ceiling = self.ceilings.get(case)
            if ceiling is not None and seconds > strain * ceiling:
                found.append(
                    f"{case}: {seconds:.1f} CPU s, over the {ceiling:g} of its exception, which "
                    "may only shrink"
                )
            elif ceiling is None and seconds > strain * FACTOR * self.seconds:
                found.append(
                    f"{case}: {seconds:.1f} CPU s, over {FACTOR:g} times its {self.seconds:g}"
                )
        if strain >= SLOW:
            times = f" (limits were {strain:.1f} times as high, for a machine so much slower)"
            found = [line + times for line in found]
        return found

    def warnings(self, spent: Mapping[str, float], partly: Collection[str] = ()) -> list[str]:
        """Return a line for each case over its allowance, and for ceilings that may be lower.

        Parameters
        ----------
        spent : dict of str to float
            CPU seconds of each case.
        partly : collection of str
            Cases of which checks were left out for their turn: they say nothing of a ceiling.
        """
        found = [
            f"{case}: {seconds:.1f} CPU s, over its {self.seconds:g}"
            for case, seconds in sorted(spent.items())
            if case != HOUSE and seconds > self.seconds
        ]
        for case, ceiling in sorted(self.ceilings.items()):
            seconds = spent.get(case, 0.0)
            if seconds and case not in partly and seconds * SLACK < ceiling:
                found.append(f"{case}: its exception of {ceiling:g} may be lowered")
        return found

    def table(self, spent: Mapping[str, float], tests: Mapping[str, int]) -> list[str]:
        """Return the lines of the table: case, tests, CPU seconds, allowance."""
        lines = [f"{'case':<30}{'tests':>7}{'CPU s':>9}{'allowance':>11}"]
        for case in sorted(spent, key=lambda name: (name == HOUSE, name)):
            allowed, note = f"{self.seconds:g}", ""
            if case == HOUSE:
                allowed = ""
            elif case in self.ceilings:
                note = f"  exception since {self.since[case]}: {self.ceilings[case]:g}"
            lines.append(f"{case:<30}{tests[case]:>7}{spent[case]:>9.1f}{allowed:>11}{note}")
        return lines


# How often notebooks were executed ----------------------------------------------------


def _began() -> Path:
    return build_dir() / "tests" / "began"


def begin(root: Path) -> None:
    """Note how long the log of executions is, before a run of all checks."""
    write_whole(_began(), str(len(execute.runs(root))).encode())


def runs_since(root: Path) -> list[execute.Run]:
    """Return the executions since `begin`; all that are known if nothing was noted."""
    note = _began()
    before = int(note.read_text(encoding="utf-8")) if note.is_file() else 0
    return execute.runs(root)[before:]


def too_often(runs: Iterable[execute.Run]) -> list[str]:
    """Return a line for each notebook that ran more than twice with the same code and data."""
    counts = Counter((run.name, run.key) for run in runs)
    return [
        f"{name} was executed {count} times, at most {MOST_RUNS} are needed"
        for (name, _), count in sorted(counts.items())
        if count > MOST_RUNS
    ]


# Recorded seconds ---------------------------------------------------------------------


def longest_first(paths: Iterable[str], seconds: Mapping[str, float]) -> list[str]:
    """Return files in the order in which they are to run: the longest first.

    A file that nobody has measured is taken for an average one. Files of the same length stay in
    the order of their names, so that every worker finds the same order.
    """
    usual = statistics.mean(seconds.values()) if seconds else 0.0
    return sorted(paths, key=lambda path: (-seconds.get(path, usual), path))


def read_seconds(root: Path) -> dict[str, dict[str, float]]:
    """Return each test file's recorded seconds by case: the machine's own before the committed."""
    seed, own = root / "tests" / "seconds.toml", build_dir() / "tests" / "seconds.json"
    known: dict[str, dict[str, float]] = {}
    if seed.is_file():
        known |= tomllib.loads(seed.read_text(encoding="utf-8"))
    if own.is_file():
        known |= json.loads(own.read_text(encoding="utf-8"))
    # A file that an earlier version of this runner has measured is taken for unknown.
    return {path: cases for path, cases in known.items() if isinstance(cases, dict)}


def by_file(seconds: Seconds) -> dict[str, float]:
    """Return the seconds of each file."""
    return {path: sum(cases.values()) for path, cases in seconds.items()}


def by_case(seconds: Seconds) -> Counter[str]:
    """Return the seconds of each case, and of ``"house"``."""
    total: Counter[str] = Counter()
    for cases in seconds.values():
        total.update(cases)
    return total


def seed_text(seconds: Seconds) -> str:
    """Return the content of ``tests/seconds.toml``, the longest file first."""
    lines = []
    for path in longest_first(seconds, by_file(seconds)):
        cases = ", ".join(f'"{case}" = {s:.1f}' for case, s in sorted(seconds[path].items()))
        lines.append(f'"{path}" = {{ {cases} }}\n')
    return FIRST_PARAGRAPH + "".join(lines)


# What a larger book would take --------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A part of a run of all checks.

    Attributes
    ----------
    name : str
    fixed : float
        CPU seconds that do not grow with the book.
    cases : dict of str to float
        CPU seconds of each case that is there.
    turns : int
        For how many cases the part runs at a time; 0 for all of them.
    """

    name: str
    fixed: float
    cases: Mapping[str, float]
    turns: int = 0

    @property
    def usual(self) -> float:
        """Return the mean of the full cases, which stands for one that is still to come."""
        full = [s for case, s in self.cases.items() if case.split("_")[0] != GUIDE]
        return statistics.mean(full) if full else 0.0

    def at(self, count: int) -> float:
        """Return the CPU seconds of a book of so many full cases and the guide; 0: as it is."""
        full = [case for case in self.cases if case.split("_")[0] != GUIDE]
        count = count or len(full)
        if self.turns:
            return self.fixed + min(self.turns, count) * self.usual
        more = count - len(full)
        return self.fixed + sum(self.cases.values()) + more * self.usual


def measured_parts(root: Path) -> list[Part]:
    """Return the parts of a run of all checks, as far as this machine or the seed knows them.

    It is a run after a change of one case: of the checks in turns it does those of this case, those
    whose turn it is, and one costly file of the house.

    Raises
    ------
    FileNotFoundError
        If a part was never measured, with the command that does.
    """
    names = case_names(root)
    known = {p: c for p, c in read_seconds(root).items() if (root / p).is_file()}
    whole, inside = rotation.costly(root), rotation.with_turns(root)
    always = by_case({p: c for p, c in known.items() if p not in {*whole, *inside}})
    turned = by_case({p: c for p, c in known.items() if p in {*whole, *inside}})
    fixed = always[HOUSE] + sum(known[p].get(HOUSE, 0.0) for p in inside if p in known)
    files = [sum(known[p].values()) for p in whole if p in known and HOUSE in known[p]]
    fixed += statistics.mean(files) if files else 0.0
    if not known:
        raise FileNotFoundError("No seconds of tests are recorded. Run `make test`.")
    notebooks = dict.fromkeys(names, 0.0)
    for run in _last_runs(root):
        case = run.name.split("/")[-1]
        if case in notebooks:
            notebooks[case] += run.cpu_seconds
    note = root / "_build" / "book.json"
    if not note.is_file() or not any(notebooks.values()):
        raise FileNotFoundError("No book was built here as a whole. Run `make clean book`.")
    book = json.loads(note.read_text(encoding="utf-8"))
    # Of a build that wrote every page. `make test` builds once more, and writes few.
    pages = {name: book["cpu_seconds"] / len(names) for name in names}
    return [
        Part("tests of no case", fixed, {}),
        Part("tests of cases", 0.0, {name: always[name] for name in names}),
        Part("those of them in turns", 0.0, {name: turned[name] for name in names}, TURNS),
        Part("notebooks, executed once", 0.0, notebooks),
        Part("pages of the book", 0.0, pages),
    ]


def _last_runs(root: Path) -> list[execute.Run]:
    """Return the last run of each notebook that did not fail."""
    return [*{run.name: run for run in execute.runs(root) if not run.error}.values()]


def everything(root: Path) -> float:
    """Return the CPU seconds of all tests, when none is left out for its turn."""
    return sum(by_case(read_seconds(root)).values())


def projection(parts: Sequence[Part], count: int) -> list[str]:
    """Return the lines of a table: the parts of a run now, and for a book of so many cases."""
    lines = [f"{'CPU seconds':<28}{'now':>9}{f'{count} cases':>12}{'a case':>9}"]
    for part in parts:
        lines.append(f"{part.name:<28}{part.at(0):>9.0f}{part.at(count):>12.0f}{part.usual:>9.0f}")
    now, then = (sum(part.at(n) for part in parts) for n in (0, count))
    lines.append(f"{'in all':<28}{now:>9.0f}{then:>12.0f}")
    label = f"minutes on {CORES} cores"
    lines.append(f"{label:<28}{now / 60 / CORES:>9.1f}{then / 60 / CORES:>12.1f}")
    return lines


def project(root: Path, count: int) -> int:
    """Print the projection for so many cases; 1 if it is over the budget, or nothing is known."""
    try:
        parts = measured_parts(root)
    except FileNotFoundError as error:
        print(error)
        return 1
    print("\n".join(projection(parts, count)))
    print(f"all tests that there are now, with none left out: {everything(root):.0f} CPU s")
    minutes = sum(part.at(count) for part in parts) / 60 / CORES
    if minutes > MOST_MINUTES:
        print(f"error: {minutes:.0f} minutes, over the {MOST_MINUTES} of the whole course")
    return int(minutes > MOST_MINUTES)


# The plug-in --------------------------------------------------------------------------


class Meter:
    """In each process that runs tests: puts on a test's last report its CPU seconds.

    On some it puts the strain too: how many times slower than a quiet machine this one is.
    """

    def __init__(self) -> None:
        self._before: float | None = None
        self._next = 0.0

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the first process what this one has left out."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, {})
            session.config.workeroutput["held"] = session.config.stash.get(HELD, {})

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        """Start to count, if this is the first test."""
        if self._before is None:
            self._before = pace.cpu_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo):
        report = yield
        if call.when == "teardown":
            now = pace.cpu_seconds()
            # A process that ended without being waited for takes its seconds with it.
            report.cpu_seconds = max(0.0, now - self._before)
            if time.monotonic() > self._next:
                report.strain, self._next = pace.strain(), time.monotonic() + EVERY
            self._before = pace.cpu_seconds()
        return report


class Bookkeeper:
    """In the process that reports: sums over all workers, prints, and judges."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._names = case_names(config.rootpath)
        self._by_case: Counter[str] = Counter()
        self._tests: Counter[str] = Counter()
        self._by_file: dict[str, Counter[str]] = {}
        self._strains: list[float] = []
        self._errors: list[str] = []
        self._left_out: Mapping[str, int] = {}
        self._held: Mapping[str, int] = {}
        self._ran: Counter[str] = Counter()
        self._failed: set[str] = set()
        self._waits: set[tuple[str, str]] = set()
        self._whole = not (config.option.keyword or config.option.case or config.option.markexpr)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the seconds of a test."""
        path = report.nodeid.partition("::")[0]
        if report.failed:
            self._failed.add(path)
        if report.skipped and rotation.LEFT_OUT in str(report.longrepr):
            self._waits.add((path, case_of(report.nodeid, self._names)))
        seconds = getattr(report, "cpu_seconds", None)
        if seconds is None:
            return
        if strain := getattr(report, "strain", None):
            self._strains.append(strain)
        case = case_of(report.nodeid, self._names)
        self._by_case[case] += seconds
        self._tests[case] += 1
        self._ran[path] += 1
        self._by_file.setdefault(path, Counter())[case] += seconds

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node) -> None:
        """Learn from a worker what it has left out; each leaves out the same."""
        told = getattr(node, "workeroutput", {})
        self._left_out, self._held = told.get("left_out", {}), told.get("held", {})

    def _keep_passes(self) -> None:
        """Record the costly files of which every test has run and none has failed."""
        held = self._held or self._config.stash.get(HELD, {})
        for path, key in self._config.stash[KEYS].items():
            ran = path not in self._config.stash[NOT_DUE] and 0 < self._ran[path] == held.get(path)
            if self._whole and ran and path not in self._failed:
                rotation.passed(rotation.FILE, path, key)

    def _keep_seconds(self) -> None:
        """Remember what each file took; a part of a file says nothing about it."""
        if not self._whole or any("::" in argument for argument in self._config.args):
            return
        root = self._config.rootpath
        known = read_seconds(root)
        for path, cases in self._by_file.items():
            # What was left out for its turn took nothing now, and will again.
            now = {case: round(s, 1) for case, s in cases.items()}
            kept = {
                case: s for case, s in known.get(path, {}).items() if (path, case) in self._waits
            }
            known[path] = now | kept
        known = {path: cases for path, cases in known.items() if (root / path).is_file()}
        write_whole(build_dir() / "tests" / "seconds.json", json.dumps(known, indent=1).encode())
        if self._config.option.seed_seconds:
            write_whole(root / "tests" / "seconds.toml", seed_text(known).encode())

    @property
    def _strain(self) -> float:
        """Return how many times slower than a quiet machine this one was in the mean."""
        return statistics.mean(self._strains) if self._strains else 1.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge; a case far over its allowance makes the run fail."""
        self._keep_seconds()
        self._keep_passes()
        if self._config.option.allowance:
            allowance = Allowance.read(Path(self._config.option.allowance))
            runs = runs_since(self._config.rootpath)
            errors = allowance.errors(self._by_case, self._strain)
            self._errors = [*errors, *too_often(runs)]
            if self._errors and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and what one case alone has left out."""
        left_out = self._left_out or self._config.stash.get(LEFT_OUT, {})
        if left_out:
            parts = ", ".join(f"{case} {count}" for case, count in sorted(left_out.items()))
            terminalreporter.line(f"left out, for `make test`: tests of {parts}")
        if not self._config.option.allowance:
            return
        allowance = Allowance.read(Path(self._config.option.allowance))
        terminalreporter.section("CPU seconds by case, beyond the book and nbval")
        for line in allowance.table(self._by_case, self._tests):
            terminalreporter.line(line)
        terminalreporter.line(f"on a machine {self._strain:.1f} times slower than a quiet one")
        terminalreporter.section("notebooks executed since the start of the checks")
        for line in execute.summary(runs_since(self._config.rootpath)) or ["none"]:
            terminalreporter.line(line)
        if self._config.option.turns and (new := rotation.unrecorded(self._config.rootpath)):
            terminalreporter.line(f"{new} passes are new: `python tests/rotation.py` records them")
        partly = {case for _, case in self._waits}
        for line in allowance.warnings(self._by_case, partly):
            terminalreporter.line(f"warning: {line}", yellow=True)
        for line in self._errors:
            terminalreporter.line(f"error: {line}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the runner."""
    group = parser.getgroup("casebook", "the casebook's runner")
    group.addoption(
        "--allowance",
        nargs="?",
        const=str(Path(__file__).with_name("allowance.toml")),
        help="print CPU seconds by case; more than allowed is an error",
    )
    group.addoption("--turns", action="store_true", help="leave out costly files that passed")
    group.addoption("--case", help="run the tests of one case alone: 01")
    group.addoption("--seed-seconds", action="store_true", help="write tests/seconds.toml")


def pytest_configure(config: pytest.Config) -> None:
    """Register what this process needs: workers measure, the first process reports."""
    config.pluginmanager.register(Meter(), "casebook-meter")
    config.stash[KEYS], config.stash[NOT_DUE] = {}, []
    if hasattr(config, "workerinput"):
        config.stash[NOT_DUE] = config.workerinput.get("not_due", [])
    else:
        if config.option.turns:
            config.stash[KEYS] = rotation.file_keys(config.rootpath)
            config.stash[NOT_DUE] = rotation.not_due(config.stash[KEYS])
        config.pluginmanager.register(Bookkeeper(config), "casebook-bookkeeper")
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # not by the number of tests: by their seconds


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tell a worker which costly files are not due: the first process alone decides."""
    node.workerinput["not_due"] = node.config.stash[NOT_DUE]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what cannot belong to the case that is asked for."""
    wanted, room = config.option.case, collection_path.parent.name
    if not wanted or not collection_path.match("test_*.py"):
        return None
    case = case_of(f"{room}/{collection_path.name}", case_names(config.rootpath))
    if room not in NO_CASE and (room != OF_CASES or case.split("_")[0] == wanted):
        return None
    left_out = config.stash.setdefault(LEFT_OUT, {})
    left_out[f"tests/{room} (files)"] = left_out.get(f"tests/{room} (files)", 0) + 1
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of one case, if one is asked for; put the longest files first."""
    if wanted := config.option.case:
        names = case_names(config.rootpath)
        if wanted not in {name.split("_")[0] for name in names}:
            raise pytest.UsageError(f"no case {wanted!r}; there are {', '.join(names)}")
        cases = {item: case_of(item.nodeid, names) for item in items}
        kept = [item for item, case in cases.items() if case.split("_")[0] == wanted]
        left_out = [item for item, case in cases.items() if case.split("_")[0] != wanted]
        config.stash.setdefault(LEFT_OUT, {}).update(Counter(cases[item] for item in left_out))
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
    held = Counter(item.nodeid.partition("::")[0] for item in items)
    config.stash[HELD], paths = dict(held), set(held)
    for item in items:
        if item.nodeid.partition("::")[0] in config.stash[NOT_DUE]:
            item.add_marker(pytest.mark.skip(reason=rotation.LEFT_OUT))
    seconds = by_file(read_seconds(config.rootpath))
    order = {path: n for n, path in enumerate(longest_first(paths, seconds))}
    items.sort(key=lambda item: order[item.nodeid.partition("::")[0]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python tests/testrunner.py")
    parser.add_argument("--project", type=int, metavar="CASES", help="print a run for so many")
    if count := parser.parse_args().project:
        sys.exit(project(require_checkout(), count))
    begin(require_checkout())
