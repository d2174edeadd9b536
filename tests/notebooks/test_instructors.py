"""Every session plan holds: its minutes, its cells, and the reduced setting in its time."""

from __future__ import annotations

import ast
import builtins
import math
import re
import statistics
from pathlib import Path

import nbformat
import pace
import pytest
import rotation
from nbclient import NotebookClient

from casebook.project import require_checkout

ROOT = require_checkout()
PLANS = sorted((ROOT / "book" / "instructors").glob("[0-9][0-9]_*.md"))
MINUTES, MOST_CELLS, EXERCISE, REDUCED_SECONDS = 90, 12, 20, 20


def section(plan: str, heading: str) -> str:
    """Return what stands under a heading."""
    return plan.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def cells(plan: str) -> list[str]:
    """Return the ids of the cells to run, in order."""
    return re.findall(r"^\| `([a-z0-9-]+)` \|", section(plan, "The cells to run"), re.M)


def reduced(plan: str) -> tuple[str, str]:
    """Return the cell after which the reduced setting is run, and its code."""
    text = section(plan, "The cells to run").split("**Reduced setting.**", 1)[1]
    return re.search(r"after `([a-z0-9-]+)`", text)[1], re.search(
        r"```python\n(.*?)```", text, re.S
    )[1]


def faults(plan: str, notebook) -> list[str]:
    """Return what is wrong with a plan."""
    found = []
    spans = re.findall(r"^\| (\d+)–(\d+) \| (.*)$", section(plan, "The ninety minutes"), re.M)
    times = [(int(start), int(end), what) for start, end, what in spans]
    ends = [0, *(end for _, end, _ in times)]
    found += [
        f"minute {start} follows minute {before}"
        for (start, _, _), before in zip(times, ends, strict=False)
        if start != before
    ]
    if ends[-1] != MINUTES:
        found.append(f"ends at minute {ends[-1]}")
    exercises = [end - start for start, end, what in times if "Exercise" in what]
    if exercises != [EXERCISE]:
        found.append(f"exercises of {exercises} minutes")
    code = [cell.id for cell in notebook.cells if cell.cell_type == "code"]
    if len(cells(plan)) > MOST_CELLS:
        found.append(f"{len(cells(plan))} cells to run")
    found += [f"no cell {name}" for name in cells(plan) if name not in code]
    named = set(re.findall(r"`([a-z0-9-]+)`", section(plan, "The ninety minutes")))
    found += [
        f"{name} is not in the list" for name in sorted((named & set(code)) - set(cells(plan)))
    ]
    places = [code.index(name) for name in cells(plan) if name in code]
    if places != sorted(places):
        found.append("cells out of order")
    found += [f"no {part}" for part in ("## The poll", "**Ten minutes late:**") if part not in plan]
    return found


SHORT = "In fifty minutes"


def names(code: str) -> tuple[set[str], set[str]]:
    """Return the names that a cell reads and those that it binds."""
    read, bound = set(), set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                read.add(name)
            case (
                ast.Name(id=name)
                | ast.arg(arg=name)
                | ast.FunctionDef(name=name)
                | ast.ExceptHandler(name=str(name))
            ):
                bound.add(name)
            case ast.alias(name=name, asname=other):
                bound.add((other or name).split(".")[0])
    return read, bound


def short_faults(plan: str, notebook) -> list[str]:
    """Return what is wrong with the plan of fifty minutes: its minutes and what its cells need."""
    text, found = section(plan, SHORT), []
    times = [(int(a), int(b)) for a, b in re.findall(r"^\| (\d+)–(\d+) \|", text, re.M)]
    ends = [0, *(end for _, end in times)]
    found += [
        f"minute {start} follows minute {before}"
        for (start, _), before in zip(times, ends, strict=False)
        if start != before
    ]
    if ends[-1] != 50:
        found.append(f"ends at minute {ends[-1]}")
    by_id = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}
    named = set(re.findall(r"`([a-z0-9-]+)`", text)) & set(by_id)
    found += [f"{name} is not in the list" for name in sorted(named - set(cells(plan)))]
    known = set(dir(builtins))
    for name in (name for name in cells(plan) if name in named):
        read, bound = names(by_id[name])
        found += [f"{name} needs {what}" for what in sorted(read - bound - known)]
        known |= bound
    return found


def chapter(plan):
    return nbformat.read(ROOT / "chapters" / f"{plan.stem}.ipynb", as_version=4)


def test_every_full_chapter_has_a_plan():
    full = [p.stem for p in (ROOT / "chapters").glob("*.ipynb") if not p.stem.startswith("00_")]
    assert sorted(full) == [p.stem for p in PLANS]


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.stem)
def test_plan_holds(plan):
    assert faults(plan.read_text(), chapter(plan)) == []


@pytest.mark.parametrize(
    "plan", [p for p in PLANS if f"## {SHORT}\n" in p.read_text()], ids=lambda p: p.stem
)
def test_the_plan_of_fifty_minutes_holds(plan):
    assert short_faults(plan.read_text(), chapter(plan)) == []


def run_cells(run: list, folder) -> float:
    """Run cells in one kernel; return the CPU seconds of it and of all that it starts."""
    client = NotebookClient(nbformat.v4.new_notebook(cells=list(run)))
    client.resources = {"metadata": {"path": str(folder)}}
    with client.setup_kernel():
        kernel = client.km.provisioner.pid
        before = pace.cpu_seconds(kernel)
        for index, cell in enumerate(run):
            with pace.waiting(f"the end of cell {cell.id}", 120) as limit:
                client.timeout = math.ceil(limit)  # an integer, also on a busy machine
                client.execute_cell(cell, index)
        return pace.cpu_seconds(kernel) - before


def too_slow(busy: float, limit: float, strain: float = 1.0) -> list[str]:
    """Return whether cells took more CPU seconds than a plan promises for a quiet machine."""
    if busy < limit * strain:
        return []
    return [f"{busy:.1f} CPU s, promised under {limit} s; {strain:.1f} times slower than quiet"]


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.stem)
def test_the_listed_cells_run_alone_and_in_the_reduced_setting_within_its_seconds(plan):
    text, notebook = plan.read_text(), chapter(plan)
    place, code = reduced(text)
    by_id = {cell.id: cell for cell in notebook.cells}
    run = [by_id[name] for name in cells(text)]
    run.insert(cells(text).index(place) + 1, nbformat.v4.new_code_cell(code))
    key = rotation.notebook_key(f"chapters/{plan.stem}", plan, Path(__file__))
    with rotation.turn("plan", plan.stem, key, among=[p.stem for p in PLANS]):
        strains = [pace.strain()]
        busy = run_cells(run, ROOT / "chapters")
        strains.append(pace.strain())
        assert too_slow(busy, REDUCED_SECONDS, statistics.mean(strains)) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("| 8–18 |", "| 9–18 |", "minute 9 follows minute 8"),
        ("| 86–90 |", "| 86–95 |", "ends at minute 95"),
        ("| 50–70 |", "| 50–65 |", "exercises of [15] minutes"),
        ("| `audit` |", "| `audits` |", "no cell audits"),
        ("| `audit` |", "| `audit` | x |\n| `contract` |", "13 cells to run"),
        ("| `staffing` |", "| `ablation` |", "staffing is not in the list"),
        ("## The poll", "## A vote", "no ## The poll"),
    ],
)
def test_gate_planted_faults(old, new, expected):
    plan = next(p for p in PLANS if p.stem.startswith("01_"))
    text = plan.read_text()
    assert old in text
    assert expected in faults(text.replace(old, new, 1), chapter(plan))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("| 7–15 |", "| 8–15 |", "minute 8 follows minute 7"),
        ("| 48–50 |", "| 48–55 |", "ends at minute 55"),
        ("`load-world`, `audit`, `origins`", "`load-world`, `origins`", "origins needs repaired"),
        (
            "| Money | Run `newsvendor` and `staffing`.",
            "| Money | Run `ablation`.",
            "ablation is not in the list",
        ),
    ],
)
def test_gate_planted_faults_of_the_fifty_minutes(old, new, expected):
    plan = next(p for p in PLANS if p.stem.startswith("01_"))
    text = plan.read_text()
    assert old in text
    assert expected in short_faults(text.replace(old, new, 1), chapter(plan))


BURN = "import time\nwhile time.process_time() < {}: pass"


@pytest.mark.parametrize(
    "burn",
    [
        BURN.format("begun + 1.0"),
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN.format(1.0)!r}])",
    ],
    ids=["in the kernel", "in a process that it starts"],
)
def test_gate_cells_that_take_longer_than_promised(tmp_path, burn):
    start = nbformat.v4.new_code_cell("import time; begun = time.process_time()")
    cell = nbformat.v4.new_code_cell(burn)
    busy = run_cells([start, cell], tmp_path)
    assert busy >= 0.95  # the system counts in hundredths
    assert too_slow(busy, limit=0.95)
    assert too_slow(busy, limit=60) == []
    assert too_slow(busy, limit=0.5, strain=1.5)
    assert too_slow(busy, limit=0.5, strain=30) == []


def test_gate_a_kernel_that_only_waits_is_not_blamed(tmp_path):
    busy = run_cells([nbformat.v4.new_code_cell("import time; time.sleep(1.5)")], tmp_path)
    assert too_slow(busy, limit=1.0) == []


def test_gate_a_cell_that_does_not_end_is_no_verdict_about_the_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "patience", lambda seconds: 1)
    with pytest.raises(pace.TooBusy, match="the end of cell endless did not come"):
        run_cells([nbformat.v4.new_code_cell("while True: pass", id="endless")], tmp_path)
