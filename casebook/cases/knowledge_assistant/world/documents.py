"""What the firm writes in a year, who may read it, and what of it is true.

Mechanisms
----------
*Facts.* Each team decides 24 attributes (a limit, a weekday, a retention period); 15 % of them no
document states, 35 % change in the year. All teams use the same words, so that a search must tell
teams apart; each team also goes by a code name, which a page for everyone and some pages tell.

*Wiki* pages state two to four facts; after a change :data:`REWRITTEN` of them follow, up to some
weeks late, and the others stay stale. :data:`COPIED` of the pages have a near duplicate for one
site, with another value in one place. *Drive* holds slides and tables, which nobody corrects, and
memos. *Chat* announces most changes days before they hold, with the date; some threads carry a
rumour with a wrong value. *Tickets* and threads state a fact in passing, true on that day.

*Access.* Each source has a container for everyone, division ⊃ department ⊃ team containers,
closed ones of a team, and those of the projects. Departments and teams are allowed on theirs, and
managers on the drives of all divisions; contractors are denied where finance and people keep
theirs; some closed containers deny a site; single documents are shared with or denied to users. In
the year documents move, are deleted, are saved without a change, and grants change; containers move
to another department or behind closed doors, and their documents' text stays as it is. A user sees
from a handful of documents (contractors of no team) to a third of them (managers), most a fifth.

*Truth* is kept apart: :attr:`World.facts` and :attr:`World.statements`; :mod:`.truth` says who may
see what. All values and rates are invented: a score on this world proves a method, no business.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..records import SOURCES, Document, Event, Grant
from . import writing
from .firm import DAY, FOUNDED, PROJECTS, SITES, START, Firm, draw_firm
from .writing import Fact, Part

REWRITTEN, COPIED, ANNOUNCED, RUMOURS, DECKS = 0.65, 0.15, 0.6, 0.12, 0.6
#: Shares of documents in a year: moved, deleted, saved unchanged, edited, with other grants.
MOVED, DELETED, SAVED, EDITED, REGRANTED = 0.03, 0.04, 0.05, 0.08, 0.06
CRITICAL = {"wiki": 0.03, "tickets": 0.015, "drive": 0.0, "chat": 0.0}
#: Shares of the sources, and of the containers (open, team, closed, project) in each.
SHARES = {"wiki": 0.25, "drive": 0.2, "chat": 0.35, "tickets": 0.2}
PLACED = {
    "wiki": (0.12, 0.63, 0.22, 0.03),
    "drive": (0.05, 0.6, 0.33, 0.02),
    "chat": (0.1, 0.6, 0.28, 0.02),
    "tickets": (0.08, 0.72, 0.18, 0.02),
}
#: Single documents that are shared with a user, denied to a user, denied to a group.
SHARED, USER_DENIED, GROUP_DENIED = 0.1, 0.03, 0.02


@dataclass(frozen=True)
class World:
    """A firm and what it has written.

    Attributes
    ----------
    firm : Firm
    events : tuple of Event
        Of the four sources, by time; ``seq`` counts each source for itself.
    facts : DataFrame
        ``fact``, ``team``, ``name``, ``alias``, ``attribute``, ``site``, ``value``, ``since``,
        ``until`` (NaT for the last), ``written``: a row for each value of a fact.
    statements : DataFrame
        ``document``, ``version``, ``at``, ``fact``, ``value``, ``anchor`` (text of the body),
        ``tone`` (rule, announcement, rumour, passing), ``holds_from``.
    """

    firm: Firm
    events: tuple[Event, ...]
    facts: pd.DataFrame
    statements: pd.DataFrame


@dataclass
class _Desk:
    """Where the year is written: steps of each document and resource, sorted at the end."""

    rng: random.Random
    firm: Firm
    users: list[str]
    names: list[str]
    steps: dict[str, list[tuple[np.datetime64, dict[str, Any] | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    grants: dict[str, list[tuple[np.datetime64, tuple[Grant, ...]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    parents: list[tuple[np.datetime64, str, str]] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    places: dict[tuple[str, str, str], str] = field(default_factory=dict)
    texts: dict[str, tuple[str, list[Part]]] = field(default_factory=dict)
    said: list[tuple[str, np.datetime64, writing.Said]] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)

    def time(self, low: np.datetime64 = FOUNDED, high: np.datetime64 | None = None):
        """Draw a second from ``low`` to ``high``, at most the year's end."""
        span = int(((high or self.firm.end) - low).astype(int))
        return low + np.timedelta64(self.rng.randint(1, max(span, 1)), "s")

    def container(self, source: str, name: str, parent: str, *allowed: str, denied=()) -> str:
        """Make a container with its grants."""
        self.counts[source, "c"] += 1
        made = f"{source}:c{self.counts[source, 'c']}"
        above = f"{self.titles[parent]}/" if parent else ""
        self.titles[made] = f"{above}{name}"
        self.parents.append((FOUNDED, made, parent))
        grants = [Grant(made, group, "allow") for group in allowed]
        self.grant(made, FOUNDED, *grants, *(Grant(made, group, "deny") for group in denied))
        return made

    def grant(self, resource: str, at: np.datetime64, *grants: Grant) -> None:
        """Set all grants of a resource from a time."""
        self.grants[resource].append((at, grants))

    def write(self, source: str, at, team: str, title: str, parts: list[Part], place="") -> str:
        """Make a document of a team."""
        self.counts[source, "d"] += 1
        made = f"{source}:d{self.counts[source, 'd']}"
        where = place or self.rng.choices(("open", "team", "closed", "project"), PLACED[source])[0]
        holder = team if where in ("team", "closed") else ""
        if where == "project":
            holder = self.rng.choice(PROJECTS)
        container = self.places[source, where, holder]
        owner = team if source in ("wiki", "tickets") else self.rng.choice(self.users)
        critical = self.rng.random() < CRITICAL[source]
        self.texts[made] = (team, parts)
        self.steps[made].append(
            (at, {"title": title, "owner": owner, "critical": critical, "container": container})
        )
        self.say(made, at, parts)
        self._share(made, at)
        return made

    def say(self, document: str, at: np.datetime64, parts: list[Part]) -> None:
        """Write the text of a document, as of a time."""
        body, said = writing.render(parts, at)
        self.steps[document].append((at, {"body": body}))
        self.said += [(document, at, one) for one in said]

    def _share(self, document: str, at: np.datetime64) -> None:
        grants = []
        if self.rng.random() < SHARED:
            for user in self.rng.sample(self.users, min(2, len(self.users))):
                grants.append(Grant(document, user, "allow"))
        if self.rng.random() < USER_DENIED:
            grants.append(Grant(document, self.rng.choice(self.users), "deny"))
        if self.rng.random() < GROUP_DENIED:
            group = self.rng.choice([f"group:site-{site}" for site in SITES])
            grants.append(Grant(document, group, "deny"))
        if grants:
            self.grant(document, at, *grants)


def simulate(
    seed: int, people: int = 200, teams: int = 18, documents: int = 2000, days: int = 365
) -> World:
    """Draw a world.

    Parameters
    ----------
    seed : int
    people, teams, days : int
        As for :func:`~casebook.cases.knowledge_assistant.world.firm.draw_firm`.
    documents : int
        Written up to the end of the year, deleted ones included.

    Raises
    ------
    ValueError
        If there are fewer than the pages, slides and tables of the facts; it says how many.
    """
    base = draw_firm(seed, people, teams, days)
    rng = random.Random(f"{seed}-1802")
    rows = [(row.group, row.name, row.alias) for row in base.teams.itertuples(index=False)]
    desk = _Desk(rng, base, base.people["user"].tolist(), [name for _, name, _ in rows])
    facts = writing.facts(rng, rows, days)
    for source in SOURCES:
        _containers(desk, source)
    desk.write("wiki", START, rows[0][0], *writing.code_names(rows), place="open")
    facts += _of_facts(desk, facts)
    made = sum(desk.counts[source, "d"] for source in SOURCES)
    if documents < made:
        raise ValueError(f"{documents} documents are fewer than the {made} that state the facts")
    _everyday(desk, facts, documents)
    if days:
        _year(desk)
    return _world(desk, facts)


def _containers(desk: _Desk, source: str) -> None:
    """Make the containers of a source."""
    places, teams = desk.places, desk.firm.teams
    places[source, "open", ""] = desk.container(source, "Everyone", "", "group:all")
    closed = desk.container(source, "Closed", "")
    above: dict[str, str] = {}
    for row in teams.itertuples():
        for name, parent in ((row.division, ""), (row.department, row.division)):
            if name not in above:
                private = name in ("group:dept-finance", "group:dept-people")
                manages = source == "drive" and not parent
                allowed = (name,) if parent else ("group:managers",) if manages else ()
                denied = ("group:contractors",) if private else ()
                label = name.rpartition("-")[2].capitalize()
                above[name] = desk.container(
                    source, label, above.get(parent, ""), *allowed, denied=denied
                )
        places[source, "team", row.group] = desk.container(
            source, row.name, above[row.department], row.group
        )
        site = [f"group:site-{desk.rng.choice(SITES)}"] if desk.rng.random() < 0.1 else []
        places[source, "closed", row.group] = desk.container(
            source, row.name, closed, row.group, denied=["group:contractors", *site]
        )
    for project in PROJECTS:
        places[source, "project", project] = desk.container(
            source, project.capitalize(), "", f"group:project-{project}"
        )
    for department, made in above.items():
        places[source, "department", department] = made
    places[source, "shut", ""] = closed


def _of_facts(desk: _Desk, facts: list[Fact]) -> list[Fact]:
    """Write pages, slides, tables and what chat says of changes; return the facts of sites."""
    rng, variants = desk.rng, []
    by_team, by_attribute = defaultdict(list), defaultdict(list)
    for fact in facts:
        if fact.written:
            by_team[fact.team].append(fact)
            by_attribute[fact.attribute].append(fact)
    for team, known in by_team.items():
        rng.shuffle(known)
        others = [name for name in desk.names if name != known[0].name]
        for some in _runs(known, 3):
            _page_of(desk, team, some, others, len(facts), variants)
            if rng.random() < DECKS:
                title, parts = writing.deck(rng, some, others)
                desk.write("drive", desk.time(), team, title, parts)
        for fact in known:
            _talk_of(desk, fact, others)
    for known in by_attribute.values():
        for rows in _runs(rng.sample(known, len(known) // 2), 8):
            title, parts = writing.table(rng, rows)
            desk.write("drive", desk.time(), rows[0].team, title, parts, place="open")
    return variants


def _page_of(
    desk: _Desk, team: str, some: list[Fact], others: list[str], first: int, variants: list[Fact]
) -> None:
    """Write a page, its copy for a site, and its later versions."""
    rng = desk.rng
    title, parts = writing.page(rng, some, others)
    at = desk.time(FOUNDED, START)
    made = desk.write("wiki", at, team, title, parts)
    if rng.random() < COPIED:
        site = rng.choice(SITES[1:])
        variant = writing.site_variant(rng, rng.choice(some), first + len(variants), site)
        variants.append(variant)
        copied = [
            writing.sentence(rng, variant)
            if part.fact and part.fact.attribute == variant.attribute
            else part
            for part in parts
        ]
        name = writing.PLAN["titles"]["copy"].format(title=title, site=site)
        copied[0] = Part(f"# {name}")
        desk.write("wiki", desk.time(at, START), team, name, copied)
    for since in sorted(since for fact in some for since in fact.since[1:]):
        if rng.random() < REWRITTEN:
            late = int(rng.expovariate(1 / (10 * DAY))) + 3600
            when = since + np.timedelta64(late, "s")
            if when < desk.firm.end:
                desk.say(made, when, parts)


def _talk_of(desk: _Desk, fact: Fact, others: list[str]) -> None:
    """Write what chat says of a change: an announcement before it, or a rumour at any time."""
    rng = desk.rng
    for since, value in zip(fact.since[1:], fact.values[1:], strict=True):
        if rng.random() < ANNOUNCED:
            early = since - np.timedelta64(rng.randint(0, 5 * DAY), "s")
            part = writing.chat_line(rng, fact, "announcement", value=value, holds_from=since)
            _thread(desk, early, fact.team, fact.name, [part], others)
    if rng.random() < RUMOURS:
        wrong = writing.value(rng, writing.ATTRIBUTES[fact.attribute]["value"])
        if wrong not in fact.values:
            part = writing.chat_line(rng, fact, "rumour", value=wrong)
            _thread(desk, desk.time(START), fact.team, fact.name, [part], others)


def _thread(desk: _Desk, at, team: str, name: str, stated: list[Part], others: list[str]) -> None:
    users = desk.rng.sample(desk.users, min(4, len(desk.users)))
    parts = writing.thread(desk.rng, stated, name, others, users)
    title = f"#{name.lower().replace(' ', '-')} {str(at)[:10]}"
    desk.write("chat", at, team, title, parts)


def _everyday(desk: _Desk, facts: list[Fact], documents: int) -> None:
    """Write memos, threads, tickets and small pages until there are enough documents."""
    rng, by_team = desk.rng, defaultdict(list)
    for fact in facts:
        if fact.written and not fact.site:
            by_team[fact.team].append(fact)
    teams = list(by_team)
    missing = {
        source: max(round(share * documents) - desk.counts[source, "d"], 0) + 1
        for source, share in SHARES.items()
    }
    for _ in range(documents - sum(desk.counts[source, "d"] for source in SOURCES)):
        source = rng.choices(list(missing), list(missing.values()))[0]
        team = rng.choice(teams)
        name, at = by_team[team][0].name, desk.time()
        others = [other for other in desk.names if other != name]
        stated = []
        if rng.random() < 0.5:
            fact = rng.choice(by_team[team])
            plain = source in ("wiki", "drive")
            stated = [
                writing.sentence(rng, fact, "passing")
                if plain
                else writing.chat_line(rng, fact, "passing")
            ]
        if source == "chat":
            _thread(desk, at, team, name, stated, others)
        elif source == "tickets":
            desk.write(source, at, team, *writing.ticket(rng, stated, name, others))
        else:
            desk.write(source, at, team, *writing.memo(rng, stated, name, others))


def _year(desk: _Desk) -> None:
    """Move, delete, save, edit and share documents, and move containers."""
    rng, share = desk.rng, (desk.firm.end - START).astype(int) / (365 * DAY)
    for made, steps in list(desk.steps.items()):
        source, begin = made.split(":")[0], max(steps[0][0], START)
        team, parts = desk.texts[made]
        if rng.random() < MOVED * share:
            where = rng.choice(("open", "team", "closed"))
            target = desk.places[source, where, "" if where == "open" else team]
            steps.append((desk.time(begin), {"container": target}))
        if rng.random() < SAVED * share:
            steps.append((desk.time(begin), {}))
        if rng.random() < EDITED * share:
            more = writing.filler(rng, source, team.partition(":")[2], rng.choice(desk.names))
            desk.say(made, desk.time(begin), [*parts, more])
        if rng.random() < REGRANTED * share:
            kind = rng.choice(("allow", "deny", "none"))
            who = rng.choice([*desk.users[:60], *desk.firm.teams["department"]])
            new = () if kind == "none" else (Grant(made, who, kind),)
            if new or desk.grants.get(made):
                desk.grant(made, desk.time(begin), *new)
        if rng.random() < DELETED * share:
            steps.append((desk.time(begin), None))
    departments = sorted(set(desk.firm.teams["department"]))
    for source in SOURCES:
        for row in desk.firm.teams.sample(
            max(1, len(desk.firm.teams) // 6), random_state=rng.randint(0, 2**31)
        ).itertuples():
            shut = rng.random() < 0.5
            other = rng.choice([d for d in departments if d != row.department])
            target = ("shut", "") if shut else ("department", other)
            moved = desk.places[source, "team", row.group]
            desk.parents.append((desk.time(START), moved, desk.places[source, *target]))


def _world(desk: _Desk, facts: list[Fact]) -> World:
    """Sort what was written into feeds."""
    told: list[tuple[np.datetime64, int, str, str, Any]] = []
    told += [(at, 0, "container", made, parent) for at, made, parent in desk.parents]
    for resource, steps in desk.grants.items():
        told += [(at, 1, "grants", resource, grants) for at, grants in steps]
    versions: dict[tuple[str, np.datetime64], int] = {}
    gone: dict[str, np.datetime64] = {}
    for made, steps in desk.steps.items():
        told += _life(desk, made, steps, versions, gone)
    told = [one for one in told if one[0] <= min(gone.get(one[3], one[0]), desk.firm.end)]
    told.sort(key=lambda one: one[:2])
    seq: Counter = Counter()
    events = []
    for at, _, kind, subject, payload in told:
        source = subject.split(":")[0]
        seq[source] += 1
        events.append(Event(source, seq[source], at, kind, subject, payload))
    return World(desk.firm, tuple(events), _facts(facts), _statements(desk, versions))


def _life(desk: _Desk, made: str, steps: list, versions: dict, gone: dict):
    """Yield the events of a document; keep the version of each text, and when it was deleted."""
    steps.sort(key=lambda step: step[0])
    at, state = steps[0][0], {"version": 0}
    for at, changed in steps:
        if changed is None:
            gone[made] = at
            yield at, 3, "deleted", made, None
            return
        state |= changed
        if "title" in changed:
            continue
        if "container" not in changed:
            state |= {"version": state["version"] + 1, "modified": at}
            versions[made, at] = state["version"]
        path = f"{desk.titles[state['container']]}/{state['title']}"
        yield at, 2, "document", made, Document(made, made.split(":")[0], path, **state)


def _facts(facts: list[Fact]) -> pd.DataFrame:
    rows = []
    for fact in facts:
        for place, (since, value) in enumerate(zip(fact.since, fact.values, strict=True)):
            begin = since if place else FOUNDED
            until = fact.since[place + 1] if place + 1 < len(fact.since) else np.datetime64("NaT")
            of = (fact.number, fact.team, fact.name, fact.alias, fact.attribute, fact.site)
            rows.append((*of, value, begin, until, fact.written))
    names = ["fact", "team", "name", "alias", "attribute", "site", "value"]
    made = pd.DataFrame(rows, columns=[*names, "since", "until", "written"])
    return made.astype({"since": "datetime64[s]", "until": "datetime64[s]"})


def _statements(desk: _Desk, versions: dict) -> pd.DataFrame:
    rows = []
    for document, at, one in desk.said:
        if (document, at) in versions:
            holds = at if one.holds_from is None else one.holds_from
            said = (one.fact, one.value, one.anchor, one.tone, holds)
            rows.append((document, versions[document, at], at, *said))
    names = ["document", "version", "at", "fact", "value", "anchor", "tone", "holds_from"]
    made = pd.DataFrame(rows, columns=names)
    made = made.astype({"at": "datetime64[s]", "holds_from": "datetime64[s]"})
    return made[made["at"] <= desk.firm.end].reset_index(drop=True)


def _runs(items: list[Fact], size: int) -> Iterator[list[Fact]]:
    """Yield a list in runs of a size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
