"""The plans add up, promise only what is there, and the maps agree with the drill (a second)."""

from __future__ import annotations

import re

import pytest

from casebook.book import cases, drill
from casebook.book.__main__ import toc_files
from casebook.project import require_checkout

ROOT = require_checkout()
BOOK = ROOT / "book"
INDEX = drill.read_index(ROOT)
PROMPTS = drill.read_prompts(ROOT, INDEX)
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


@pytest.mark.parametrize("page", PAGES)
def test_the_plans_add_up(page):
    assert "<!-- plan:" in text(page)
    assert plan_faults(text(page)) == []


def test_there_is_a_plan_for_a_week_two_days_and_two_hours():
    names = {plan["name"]: int(plan["total"]) for plan in _PLAN.finditer(text("paths.md"))}
    assert names == {"one week": 7 * 120, "two days": 2 * 360, "two hours": 120}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("| 20 + 60 + 40 | 120 |", "| 20 + 60 + 30 | 120 |", "20 + 60 + 30 is not 120"),
        ("| 20 + 60 + 40 | 120 |", "| 20 + 60 + 60 | 140 |", "one week: 860 minutes, not 840"),
        ("plan: two hours = 120", "plan: two hours = 130", "two hours: 120 minutes, not 130"),
        (
            "<!-- plan: two days = 720 -->\n",
            "<!-- plan: two days = 720 -->\n\n",
            "without its table",
        ),
    ],
)
def test_gate_a_plan_that_does_not_add_up(old, new, message):
    page = text("paths.md")
    assert old in page
    assert any(message in fault for fault in plan_faults(page.replace(old, new, 1)))


def named(page: str) -> list[str]:
    """Return the cases that a piece of a page names, in order."""
    return re.findall(r"\{(?:case|owner)\}`(\w+)`", page)


def unpublished(page: str) -> list[str]:
    """Return the cases of the plan of two hours that are not in the book."""
    plan = page.split("## Two hours\n", 1)[1].split("\n## ", 1)[0]
    documents = toc_files(ROOT)
    return [name for name in named(plan) if cases.page(KNOWN[name]) not in documents]


def test_the_plan_of_two_hours_promises_only_what_is_published():
    assert "Everything in this plan is published." in text("paths.md")
    assert unpublished(text("paths.md")) == []
    assert unpublished(text("paths.md").replace("| third | {case}`01`", "| third | {case}`B`")) == [
        "B"
    ]


def test_no_page_promises_a_case_by_a_link_of_its_own():
    """A case that is not published is named by the role, which marks it."""
    documents = toc_files(ROOT)
    for page in (*PAGES, "patterns.md", "index.md"):
        for name in re.findall(r"(?:chapters|exercises)/([\w]+)\.ipynb", text(page)):
            assert f"chapters/{name}" in documents or f"exercises/{name}" in documents


def test_tracks_hold_six_ten_and_the_roles_of_the_glossary():
    tracks = text("paths.md").split("## Tracks\n", 1)[1].split("\n## ", 1)[0]
    assert named(tracks) == ["01", "04", "12", "16", "10", "21", "07", "09", "18", "20"]
    week = text("paths.md").split("## A week\n", 1)[1].split("\n## ", 1)[0]
    assert set(named(tracks)[:6]) <= set(named(week))
    roles = text("paths.md").split("## By role\n", 1)[1].split("\n## ", 1)[0]
    for role in ("ML engineer", "data scientist", "LLM engineer", "platform"):
        assert f"| {role} |" in roles


# Patterns, owners, prompts


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


def test_every_case_has_its_concepts_and_its_baseline():
    found = rows("Which chapter owns what")
    assert [named(case)[0] for case, _, _ in found] == list(KNOWN)
    assert all(min(len(concepts), len(baseline)) >= 5 for _, concepts, baseline in found)


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
