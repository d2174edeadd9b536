"""A page runs on the small world of its plan, and nothing is stored."""

from __future__ import annotations

import pytest
import tiny
from tiny import code, content

from casebook.author import __main__ as command
from casebook.author import dry
from casebook.project import require_checkout

PATH = "chapters/00_tiny.ipynb"
PLAN = """# Plan

**Reduced setting.** On a slow machine, run these lines after `load-world`:
two days instead of four.

```python
days = 2
days -= 1
```
"""


@pytest.fixture
def page(checkout):
    """Return a checkout with a chapter that is large without its reduced setting."""
    cells = [
        code("load-world", "days = 4"),
        tiny.checked("use", "assert days == 1, f'{days} days'\nprint(days)", shows="4\n"),
    ]
    tiny.add(checkout, PATH, *cells)
    plan = checkout / "book" / "instructors" / "00_tiny.md"
    plan.parent.mkdir(parents=True)
    plan.write_text(PLAN, encoding="utf-8")
    return checkout


def test_the_page_runs_on_its_small_world_and_nothing_is_stored(page, capsys):
    before = content(page)
    assert command.command_dry_run(page, "00") == 0
    assert capsys.readouterr().out.startswith(f"runs        {PATH}  ")
    assert content(page) == before


def test_a_cell_that_stops_is_named(page, capsys):
    plan = page / "book" / "instructors" / "00_tiny.md"
    plan.write_text(PLAN.replace("days -= 1", "days -= 3"), encoding="utf-8")
    assert command.command_dry_run(page, "00") == 1
    assert f"{PATH}, cell 'use': AssertionError: -1 days" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("**Reduced setting.**", "A setting.", "00_tiny.md has no reduced setting"),
        ("`load-world`", "`world`", "names the cell `world`, which the chapter does not have"),
    ],
)
def test_a_plan_that_does_not_say_how_is_named(page, capsys, old, new, reason):
    plan = page / "book" / "instructors" / "00_tiny.md"
    plan.write_text(PLAN.replace(old, new), encoding="utf-8")
    assert command.command_dry_run(page, "00") == 1
    assert reason in capsys.readouterr().out


def test_every_committed_plan_says_how():
    for plan in (require_checkout() / "book" / "instructors").glob("[0-9][0-9]_*.md"):
        cell, lines = dry.reduced(plan.read_text(encoding="utf-8"))
        assert cell and lines
