"""The plans add up, promise only what is there, and the maps agree with the drill (a second)."""

from __future__ import annotations

import dataclasses
import re

import pytest

from casebook.book import cases, drill, drill_prompts, routes
from casebook.book.__main__ import toc_files
from casebook.book.effort import (
    DRILL,
    LINES_A_MINUTE,
    SHORT_ROUTE,
    WORDS_A_MINUTE,
    Effort,
    minutes_of,
)
from casebook.project import require_checkout

ROOT = require_checkout()
BOOK = ROOT / "book"
INDEX = drill_prompts.read_index(ROOT)
PROMPTS = drill_prompts.read_prompts(ROOT, INDEX)
KNOWN = cases.stems(ROOT)
PAGES = ("paths.md", "instructors/index.md")
_PLAN = re.compile(r"<!-- plan: (?P<name>[\w ]+) = (?P<total>\d+) -->\n(?P<table>(?:\|.*\n)+)")


def text(page: str) -> str:
    return (BOOK / page).read_text(encoding="utf-8")


def plan_faults(page: str) -> list[str]:
    """Return where the minutes of a page's plans do not add up."""
    found = []
    for plan in _PLAN.finditer(page):
        rows = plan["table"].strip().splitlines()[2:]
        total = 0
        for row in rows:
            *_, parts, minutes = (cell.strip() for cell in row.strip("| ").split("|"))
            stated = re.fullmatch(r"\d+( \+ \d+)*", parts)
            if stated and sum(int(part) for part in parts.split("+")) != int(minutes):
                found.append(f"{plan['name']}: {parts} is not {minutes}")
            total += int(minutes)
        if total != int(plan["total"]):
            found.append(f"{plan['name']}: {total} minutes, not {plan['total']}")
    if len(_PLAN.findall(page)) != page.count("<!-- plan:"):
        found.append("a plan without its table")
    return found


def test_the_plans_of_the_instructors_add_up():
    page = text("instructors/index.md")
    assert "<!-- plan:" in page
    assert plan_faults(page) == []


PLANNED = """\
<!-- plan: one week = 100 -->
| day | parts | minutes |
|---|---|---|
| 1 | 20 + 40 | 60 |
| 2 | 40 | 40 |
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("20 + 40", "20 + 30", "20 + 30 is not 60"),
        ("| 40 | 40 |", "| 60 | 60 |", "one week: 120 minutes, not 100"),
        ("plan: one week = 100", "plan: one week = 130", "one week: 100 minutes, not 130"),
        ("100 -->\n", "100 -->\n\n", "without its table"),
    ],
)
def test_gate_a_plan_that_does_not_add_up(old, new, message):
    assert plan_faults(PLANNED) == []
    assert old in PLANNED
    assert any(message in fault for fault in plan_faults(PLANNED.replace(old, new, 1)))


def named(page: str) -> list[str]:
    """Return the cases that a piece of a page names, in order."""
    return re.findall(r"\{(?:case|owner)\}`(\w+)`", page)


def test_no_page_promises_a_case_by_a_link_of_its_own():
    """A case that is not published is named by the role, which marks it."""
    documents = toc_files(ROOT)
    for page in (*PAGES, "patterns.md", "index.md"):
        for name in re.findall(r"(?:chapters|exercises)/([\w]+)\.ipynb", text(page)):
            assert f"chapters/{name}" in documents or f"exercises/{name}" in documents


# Routes: what the directives of paths.md write

LONG = Effort(words=12_000, lines=80, read=105, run=1, exercise=110, difficulty="hard")
SHORT = Effort(words=1_300, lines=80, read=20, run=1, exercise=25, difficulty="easy")
SHELF = routes.Shelf(KNOWN, {"00": SHORT, "01": SHORT, "12": LONG})


def content(directive: str, page: str | None = None) -> list[list[str]]:
    """Return the lines of every directive of a kind on the page of paths."""
    page = text("paths.md") if page is None else page
    found = re.findall(rf"^```\{{{directive}\}}\n(.*?)^```$", page, flags=re.M | re.S)
    return [block.strip().splitlines() for block in found]


def test_a_track_shows_what_is_there_and_counts_the_rest():
    assert (SHORT.computed, LONG.computed) == (SHORT.read, LONG.read)
    with_drill = ", 35 for a drill and the comparison"
    assert routes.track(SHELF, ["01", "04", "12", "21"]) == [
        "1. {case}`01`: 20 minutes to read, 25 for the exercise" + with_drill,
        "2. {case}`12`: 105 minutes to read, 110 for the exercise" + with_drill,
        "",
        "2 of 4 chapters are here, 5½ hours in all. 2 more chapters are in preparation.",
    ]
    assert routes.track(SHELF, ["01"])[-1] == "1 of 1 chapters are here, 80 minutes in all."
    assert routes.track(SHELF, ["01", "02"])[-1].endswith("1 more chapter is in preparation.")


def test_a_role_begins_with_the_first_chapter_that_is_there():
    table = routes.roles(SHELF, ["ML engineer: 21 12 01", "platform: 21 20"])
    assert table[2:] == [
        "| ML engineer | {case}`12` | {case}`01` | 1 |",
        "| platform | none yet | – | 2 |",
    ]


def test_a_plan_adds_up_and_leaves_out_what_is_not_there():
    lines = [
        "day 1 | read 00; [costs](costs.md) = 40",
        "day 2 | read 04",
        "day 3 | exercise 12; drill 04",
    ]
    table = routes.plan(SHELF, lines)
    assert table[2:] == [
        "| day 1 | {case}`00` (20), [costs](costs.md) (40) | 60 |",
        "| day 3 | exercise of {case}`12` (110) | 110 |",
        "| **in all** |  | **170** |",
        "",
        "2 more parts are in preparation.",
    ]
    assert "in preparation" not in routes.plan(SHELF, lines[:1])[-1]


def test_a_chapter_that_joins_the_book_joins_the_routes():
    more = routes.Shelf(KNOWN, SHELF.there | {"04": SHORT})
    assert "1. {case}`04`" in routes.track(more, ["04"])[0]
    assert "in preparation" not in routes.track(more, ["04"])[-1]
    assert "| read | {case}`04` (20) | 20 |" in routes.plan(more, ["read | read 04"])
    assert "{case}`04`" in routes.roles(more, ["x: 04"])[2]
    assert any("{case}`04`" in row for row in routes.efforts(more))


def test_the_shelf_holds_the_chapters_among_the_documents():
    shelf = routes.shelf(ROOT, toc_files(ROOT))
    documents = [name for name in toc_files(ROOT) if name.startswith("chapters/")]
    assert [cases.page(KNOWN[number]) for number in shelf.there] == sorted(documents)
    assert list(routes.shelf(ROOT, ["chapters/12_card_fraud"]).there) == ["12"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: routes.track(SHELF, ["77"]), "there is no case 77"),
        (lambda: routes.roles(SHELF, ["ML engineer 12"]), "not of the form"),
        (lambda: routes.roles(SHELF, ["ML engineer: E"]), "there is no case E"),
        (lambda: routes.plan(SHELF, ["day 1, read 00"]), "not of the form"),
        (lambda: routes.plan(SHELF, ["day 1 | watch 00"]), "neither `read 01` nor"),
        (lambda: routes.plan(SHELF, ["day 1 | read 99"]), "there is no case 99"),
    ],
)
def test_gate_a_route_with_a_fault_is_refused(write, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write()


def slow_short_routes(shelf: routes.Shelf) -> list[str]:
    """Return the chapters whose short route takes more than 25 minutes."""
    return [number for number, needs in shelf.there.items() if needs.short > 25]


def test_the_short_route_through_a_chapter_takes_about_twenty_minutes():
    """The page promises it, and names the sections that are counted."""
    assert slow_short_routes(routes.shelf(ROOT, toc_files(ROOT))) == []
    page = text("paths.md").split("## Twenty minutes in a chapter")[1].split("\n## ")[0]
    named = [name for name in re.findall(r"\*\*(.+?)\*\*", page) if name != "Evaluation"]
    assert tuple(named) == SHORT_ROUTE
    slow = dataclasses.replace(LONG, short=30)
    assert slow_short_routes(routes.Shelf(KNOWN, {"00": SHORT, "12": slow})) == ["12"]


def test_hours_are_rounded_to_halves():
    assert [routes.hours(m) for m in (85, 119, 120, 150, 745)] == [
        "85 minutes",
        "119 minutes",
        "2 hours",
        "2½ hours",
        "12½ hours",
    ]


def test_the_page_has_two_tracks_four_roles_and_three_plans():
    six, ten = (" ".join(lines).split() for lines in content("track"))
    assert (len(six), len(ten), ten[:6]) == (6, 10, six)
    roles = [line.partition(":")[0] for line in content("roles")[0]]
    assert roles == ["ML engineer", "data scientist", "LLM engineer", "platform"]
    assert len(content("plan")) == 3
    assert len(content("efforts")) == 1


def overlong(page: str) -> list[str]:
    """Return the days of the plans that take more than is promised: 2 or 6 hours, and a tenth."""
    shelf, found = routes.shelf(ROOT, toc_files(ROOT)), []
    week, days, once = content("plan", page)
    of_day = {day: [line for line in days if line.startswith(day)] for day in ("day 1", "day 2")}
    groups = [(line.partition(" |")[0], [line], 120) for line in week]
    groups += [(f"{day} of two", lines, 360) for day, lines in of_day.items()]
    for name, lines, promised in [*groups, ("two hours", once, 120)]:
        total = routes.plan(shelf, lines)[-1].strip("| *")
        if int(total.split()[-1].strip("*")) > 1.1 * promised:
            found.append(f"{name}: {total}")
    return found


def test_the_plans_keep_to_the_hours_that_they_promise():
    page = text("paths.md")
    assert overlong(page) == []
    assert (
        overlong(page.replace("day 3 | exercise 01", "day 3 | exercise 01; read 12; read 16")) != []
    )


def misjudged(page: str) -> list[str]:
    """Return the pages of the plans whose minutes of reading are off by more than half.

    A task that names parts of a page (after a colon) or a calculator takes its own time.
    """
    found = []
    for name, minutes in re.findall(r"\[[^\]]+\]\((\w+\.md)\) = (\d+)", page):
        prose = re.sub(r"<!--.*?-->|^```.*?^```", "", text(name), flags=re.M | re.S)
        computed = minutes_of(len(prose.split()), 0)
        if abs(int(minutes) - computed) > computed / 2:
            found.append(f"{name}: {minutes} minutes, and its words take {computed}")
    return found


def test_the_plans_give_a_page_the_minutes_of_its_words():
    page = text("paths.md")
    assert "[method](method.md) = " in page
    assert misjudged(page) == []
    planted = page.replace("[method](method.md) = 30", "[method](method.md) = 60")
    assert {fault.split(":")[0] for fault in misjudged(planted)} == {"method.md"}


def test_minutes_of_the_cadence_are_those_of_the_drill():
    assert sum(step["minutes"] for step in INDEX["cadence"]) == DRILL
    assert "130 words of prose and eight lines of code per minute" in " ".join(
        text("paths.md").split()
    )
    assert (WORDS_A_MINUTE, LINES_A_MINUTE) == (130, 8)


# Patterns and prompts


def section(heading: str) -> str:
    return text("patterns.md").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(heading: str) -> list[list[str]]:
    found = [line for line in section(heading).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("| ").split("|")] for row in found[1:]]


@pytest.mark.parametrize(
    ("heading", "number"),
    [
        ("Twelve patterns of systems", 12),
        ("Eight patterns of models", 8),
        ("Five patterns of infrastructure", 5),
    ],
)
def test_each_pattern_says_what_it_solves_when_to_leave_it_and_where_it_runs(heading, number):
    found = rows(heading)
    assert len(found) == number
    for pattern, solves, leave, runs in found:
        assert "glossary.md#" in pattern
        assert min(len(solves), len(leave)) >= 15
        assert named(runs)


def test_the_map_of_prompts_is_that_of_the_drill():
    found = drill.map_rows(PROMPTS)
    assert [number for number, _ in found[:12]] == [str(k) for k in range(1, 13)]
    assert {stem for _, stem in found} == set(PROMPTS)
    assert len(found) == len(PROMPTS) == 25
    addresses = dict.fromkeys(PROMPTS) | {"01_demand_forecasting": "../chapters/01.html"}
    page = drill._map(INDEX, PROMPTS, addresses, "drill.html")
    assert page.count("(in preparation)") == 24
    assert 'href="drill.html#prompt-12_card_fraud"' in page
    assert 'href="../chapters/01.html"' in page
