"""How the documents are worded: values, facts that change, and texts put together from parts.

A text is a list of :class:`Part`; :func:`render` says it as of a time. So a page that is written
again after a change says the new value and keeps the rest, and one that is not goes stale.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .firm import DAY, START

PLAN = tomllib.loads(Path(__file__).with_name("documents.toml").read_text(encoding="utf-8"))
ATTRIBUTES: dict[str, dict] = PLAN["attribute"]
_VALUES, _FILLER, _WORDS = PLAN["values"], PLAN["filler"], PLAN["filler"]["words"]
_SHORTS = [plan["short"] for plan in ATTRIBUTES.values()]
#: Share of facts that change in the year, and of attributes of a team that no document states.
CHANGES, UNWRITTEN = 0.35, 0.15


@dataclass
class Fact:
    """What holds for a team's attribute: ``values`` from each of the times ``since``."""

    number: int
    team: str
    name: str
    alias: str
    attribute: str
    site: str
    since: list[np.datetime64]
    values: list[str]
    written: bool = True

    def at(self, when: np.datetime64) -> str:
        """Return the value that holds at a time."""
        return self.values[max(sum(since <= when for since in self.since) - 1, 0)]


@dataclass(frozen=True)
class Part:
    """A line of a text: filler, or a sentence with the value of a fact."""

    template: str
    fact: Fact | None = None
    tone: str = "rule"
    value: str | None = None
    holds_from: np.datetime64 | None = None
    before: str = ""


@dataclass(frozen=True)
class Said:
    """A fact as a document says it; ``anchor`` stands in its body."""

    fact: int
    value: str
    anchor: str
    tone: str
    holds_from: np.datetime64 | None


def value(rng: random.Random, kind: str, but: str = "") -> str:
    """Draw a value of a kind, other than ``but``."""
    drawn = {
        "money": lambda: f"{rng.choice((2, 3, 4, 5, 6, 8, 12, 15, 18, 25, 40, 60)) * 100:,} euro",
        "days": lambda: f"{rng.randint(2, 15)} days",
        "homedays": lambda: rng.choice(("1 day", "2 days", "3 days", "4 days")),
        "weeks": lambda: f"{rng.randint(2, 16)} weeks",
        "hours": lambda: f"{rng.randint(2, 12)} hours",
        "years": lambda: f"{rng.randint(2, 12)} years",
        "percent": lambda: f"{rng.randint(2, 40) / 2:g} %",
        "count": lambda: str(rng.randint(4, 40)),
        "clock": lambda: f"0{rng.randint(5, 7)}:{rng.choice(('00', '15', '30', '45'))}",
        "code": lambda: f"{rng.choice('KLMQ')}-{rng.randint(100, 999)}",
    }.get(kind, lambda: rng.choice(_VALUES[kind]))
    while (made := drawn()) == but:
        pass
    return made


def facts(rng: random.Random, teams: list[tuple[str, str, str]], days: int) -> list[Fact]:
    """Draw the facts of the teams: group, name and code name of each."""
    made = []
    for group, name, alias in teams:
        for attribute, plan in ATTRIBUTES.items():
            fact = Fact(len(made), group, name, alias, attribute, "", [START], [])
            fact.values.append(value(rng, plan["value"]))
            fact.written = rng.random() >= UNWRITTEN
            if days > 30 and rng.random() < CHANGES * days / 365:
                fact.since.append(START + np.timedelta64(rng.randint(15, days - 5) * DAY, "s"))
                fact.values.append(value(rng, plan["value"], but=fact.values[0]))
            made.append(fact)
    return made


def site_variant(rng: random.Random, fact: Fact, number: int, site: str) -> Fact:
    """Return the fact of one site, with another value that does not change."""
    other = value(rng, ATTRIBUTES[fact.attribute]["value"], but=fact.values[0])
    while other in fact.values:
        other = value(rng, ATTRIBUTES[fact.attribute]["value"], but=fact.values[0])
    return replace(fact, number=number, site=site, since=[START], values=[other])


def filler(rng: random.Random, source: str, team: str, other: str) -> Part:
    """Draw a line without a fact."""
    text = rng.choice(_FILLER[source])
    return Part(fill(rng, text, team, other))


def fill(rng: random.Random, text: str, team: str = "", other: str = "", **more: str) -> str:
    """Fill a template in."""
    drawn = {"t": team, "o": other, "n": str(rng.randint(2, 29)), "w": rng.choice(_WORDS)}
    drawn["a"] = rng.choice(_SHORTS)
    return text.format(**{**drawn, **more})


def sentence(rng: random.Random, fact: Fact, tone: str = "rule", called: str = "") -> Part:
    """Draw a sentence that states a fact; a fact of a site names the site."""
    text = rng.choice(ATTRIBUTES[fact.attribute]["says"])
    text = text.replace("{t}", called or fact.name)
    return Part(f"At site {fact.site}: {text}" if fact.site else text, fact, tone)


def chat_line(rng: random.Random, fact: Fact, tone: str, **more: object) -> Part:
    """Draw a line of a chat that states a fact: announcement, rumour or passing."""
    part = sentence(rng, fact, tone, rng.choice((fact.name, fact.alias)))
    wrap = rng.choice(PLAN["chat"][tone])
    day = str(more.get("holds_from", ""))[:10]
    text = wrap.replace("{t}", fact.name).replace("{d}", day).replace("{s}", part.template)
    return replace(part, template=text, **more)


def render(parts: list[Part], when: np.datetime64) -> tuple[str, list[Said]]:
    """Return a text as of a time, and which facts it states."""
    lines, said = [], []
    for part in parts:
        if part.fact is None:
            lines.append(part.before + part.template)
            continue
        stated = part.value or part.fact.at(when)
        anchor = part.template.format(v=stated)
        lines.append(part.before + anchor)
        said.append(Said(part.fact.number, stated, anchor, part.tone, part.holds_from))
    return "\n".join(lines), said


def page(rng: random.Random, stated: list[Fact], others: list[str]) -> tuple[str, list[Part]]:
    """Return title and parts of a wiki page about some facts of a team."""
    team = stated[0].name
    names = [ATTRIBUTES[fact.attribute]["short"] for fact in stated]
    a, b = names[0], names[-1]
    title = fill(rng, rng.choice(PLAN["titles"]["wiki"]), team, a=a, b=b)

    def more(least: int, most: int) -> list[Part]:
        count = rng.randint(least, most)
        return [filler(rng, "wiki", team, rng.choice(others)) for _ in range(count)]

    called = f"A page of {team}, also called {stated[0].alias}."
    parts = [Part(f"# {title}"), *([Part(called)] if rng.random() < 0.3 else []), *more(1, 3)]
    for fact, name in zip(stated, names, strict=True):
        heading = rng.choice((name.capitalize(), "Rules", "Details", f"On the {name}"))
        parts += [Part(f"## {heading}"), sentence(rng, fact), *more(1, 4)]
    return title, parts


def deck(rng: random.Random, stated: list[Fact], others: list[str]) -> tuple[str, list[Part]]:
    """Return title and parts of slides about some facts of a team."""
    team, shorts = stated[0].name, [ATTRIBUTES[fact.attribute]["short"] for fact in stated]
    title = fill(rng, rng.choice(PLAN["titles"]["deck"]), team, a=rng.choice(shorts))
    parts = [Part(f"# Slide 1: {title}"), filler(rng, "drive", team, rng.choice(others))]
    for number, (fact, short) in enumerate(zip(stated, shorts, strict=True), 2):
        parts += [Part(f"# Slide {number}: {team}"), Part(f"{short}: {{v}}", fact, before="- ")]
        parts += [
            replace(filler(rng, "drive", team, rng.choice(others)), before="- ")
            for _ in range(rng.randint(1, 4))
        ]
    return title, parts


def table(rng: random.Random, rows: list[Fact]) -> tuple[str, list[Part]]:
    """Return title and parts of a table of one attribute over teams."""
    short = ATTRIBUTES[rows[0].attribute]["short"]
    title = fill(rng, rng.choice(PLAN["titles"]["table"]), a=short)
    parts = [Part(f"# {title}"), Part(f"| team | {short} |"), Part("| --- | --- |")]
    return title, parts + [Part(f"| {fact.name} | {{v}} |", fact) for fact in rows]


def code_names(teams: list[tuple[str, str, str]]) -> tuple[str, list[Part]]:
    """Return title and parts of the page that tells the teams' code names."""
    title = PLAN["titles"]["names"]
    head = [Part(f"# {title}"), Part("| team | code name |"), Part("| --- | --- |")]
    return title, head + [Part(f"| {name} | {alias} |") for _, name, alias in teams]


def thread(
    rng: random.Random, stated: list[Part], team: str, others: list[str], users: list[str]
) -> list[Part]:
    """Return the lines of a chat thread in which some parts are said."""
    lines = [filler(rng, "chat", team, rng.choice(others)) for _ in range(rng.randint(2, 8))]
    for part in stated:
        lines.insert(rng.randint(0, len(lines)), part)
    clock, made = rng.randint(480, 960), []
    for part in lines:
        clock += rng.randint(1, 9)
        said_at = f"[{clock // 60:02d}:{clock % 60:02d}] {rng.choice(users)}: "
        made.append(replace(part, before=said_at))
    return made


def ticket(
    rng: random.Random, stated: list[Part], team: str, others: list[str]
) -> tuple[str, list[Part]]:
    """Return title and parts of a ticket."""
    other = rng.choice(others)
    title = fill(rng, rng.choice(PLAN["titles"]["tickets"]), team, other)
    lines = [filler(rng, "tickets", team, other) for _ in range(rng.randint(2, 6))]
    for part in stated:
        lines.insert(rng.randint(1, len(lines)), part)
    status = rng.choice(("open", "waiting", "resolved", "closed"))
    head = [Part(f"Status: {status}"), Part(f"Queue: {team}")]
    return title, head + lines


def memo(
    rng: random.Random, stated: list[Part], team: str, others: list[str]
) -> tuple[str, list[Part]]:
    """Return title and parts of a longer text of the drive."""
    other = rng.choice(others)
    title = fill(rng, rng.choice(PLAN["titles"]["memo"]), team, other)
    lines = [
        filler(rng, rng.choice(("drive", "wiki")), team, rng.choice(others))
        for _ in range(rng.randint(5, 30))
    ]
    lines = list(dict.fromkeys(lines))
    for part in stated:
        lines.insert(rng.randint(0, len(lines)), part)
    return title, [Part(f"# {title}"), *lines]
