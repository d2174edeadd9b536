"""A firm in its directory: people, groups that hold groups, and a year of joining and leaving.

Mechanisms
----------
*Groups.* Everyone ⊃ divisions ⊃ departments ⊃ teams: four levels. Beside them stand managers,
contractors, a works council, one group a site, and two projects that hold each other.

*People.* Most belong to a team and a site, one in eight leads (``managers``); one in twelve is a
contractor: half of the contractors sit in a team, the others belong to a project, or to nothing,
and see a handful of documents that were shared with them.

*The year.* :data:`JOIN`, :data:`LEAVE` and :data:`MOVE` are shares of the people in a year. Who
leaves is inactive from that second; the groups are cleaned up to :data:`CLEANUP` days later. Half
of those who move keep the old team for up to :data:`OVERLAP` days. Two teams change department.

All rates are invented. Sizes are arguments; :mod:`.documents` writes what these people can read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd

from ..records import DIRECTORY, Event, moment

#: First second of the year that the world plays, and of all that was there before.
START, FOUNDED = moment("2025-07-01T00:00:00"), moment("2023-07-01T00:00:00")
JOIN, LEAVE, MOVE = 0.12, 0.12, 0.15
MANAGERS, CONTRACTORS, COUNCIL = 1 / 8, 1 / 12, 1 / 25
CLEANUP, OVERLAP = 7, 30
DAY = 86_400
_PLAN = tomllib.loads(Path(__file__).with_name("firm.toml").read_text(encoding="utf-8"))
SITES, PROJECTS = tuple(_PLAN["sites"]), tuple(_PLAN["projects"])
#: A change of one member: time, group, member, whether it is added.
Change = tuple[np.datetime64, str, str, bool]


@dataclass(frozen=True)
class Firm:
    """A firm and its year.

    Attributes
    ----------
    teams : DataFrame
        ``group``, ``name``, ``alias``, ``department``, ``division`` (both as groups).
    people : DataFrame
        ``user``, ``team`` (group, '' for contractors of none; before any move), ``site``,
        ``role`` (staff, manager, contractor), ``joined``, ``left`` (NaT if they stay).
    events : tuple of Event
        What the directory tells, in order.
    end : datetime64[s]
        End of the year.
    """

    teams: pd.DataFrame
    people: pd.DataFrame
    events: tuple[Event, ...]
    end: np.datetime64


def draw_firm(seed: int, people: int = 200, teams: int = 18, days: int = 365) -> Firm:
    """Draw a firm.

    Parameters
    ----------
    seed : int
    people : int
        At the start; at least two a team.
    teams : int
        At least two; 18 give 40 groups.
    days : int
        Length of the year; 0 gives the start alone.

    Raises
    ------
    ValueError
        For sizes that make no firm.
    """
    if teams < 2 or people < 2 * teams or days < 0:
        raise ValueError(f"{people} people, {teams} teams, {days} days: take two people a team")
    rng = np.random.default_rng([seed, 1801])
    structure = _teams(teams)
    staff = _people(rng, people, structure["group"].tolist(), days)
    end = START + np.timedelta64(days * DAY, "s")
    changes = [*_nesting(structure), *_memberships(rng, staff, structure["group"].tolist(), days)]
    if days:
        changes += _reorganised(rng, structure, days)
    changes = [change for change in changes if change[0] <= end]
    return Firm(structure, staff, tuple(_told(changes, staff, end)), end)


def _teams(count: int) -> pd.DataFrame:
    rows = []
    for number, (name, (department, alias)) in enumerate(
        islice(cycle(_PLAN["teams"].items()), count)
    ):
        lap = number // len(_PLAN["teams"]) + 1
        more = f" {lap}" if lap > 1 else ""
        group = "group:" + f"{name}{more}".lower().replace(" ", "-")
        division = f"group:div-{_PLAN['departments'][department]}"
        rows.append((group, name + more, alias + more, f"group:dept-{department}", division))
    return pd.DataFrame(rows, columns=["group", "name", "alias", "department", "division"])


def _people(rng: np.random.Generator, count: int, teams: list[str], days: int) -> pd.DataFrame:
    """Draw who works there: those of the start, then those who join."""
    joiners = int(rng.poisson(JOIN * count * days / 365))
    total = count + joiners
    kind = np.where(rng.random(total) < CONTRACTORS, "contractor", "staff").astype(object)
    kind[(rng.random(total) < MANAGERS) & (kind == "staff")] = "manager"
    team = np.array(teams, object)[np.arange(total) % len(teams)]
    team[(kind == "contractor") & (rng.random(total) < 0.5)] = ""
    joined = np.full(total, FOUNDED)
    joined[count:] = _times(rng, joiners, days)
    left = np.full(total, np.datetime64("NaT", "s"))
    leaves = rng.random(total) < LEAVE * days / 365
    when = _times(rng, total, days)
    leaves &= when > joined
    left[leaves] = when[leaves]
    return pd.DataFrame(
        {
            "user": [f"user:{n}" for n in range(1, total + 1)],
            "team": team,
            "site": rng.choice(SITES, total, p=[0.5, 0.3, 0.2]),
            "role": kind,
            "joined": joined,
            "left": left,
        }
    )


def second(at: pd.Timestamp) -> np.datetime64:
    """Return a timestamp, or NaT, in the seconds of the records."""
    return pd.Timestamp(at).to_datetime64().astype("datetime64[s]")


def _times(rng: np.random.Generator, count: int, days: int) -> np.ndarray:
    """Draw seconds of the year."""
    return START + rng.integers(1, max(days * DAY, 2), count).astype("timedelta64[s]")


def _nesting(teams: pd.DataFrame) -> Iterator[Change]:
    """Yield the groups that groups hold from the start."""
    for row in teams.itertuples():
        yield FOUNDED, row.department, row.group, True
        yield FOUNDED, row.division, row.department, True
        yield FOUNDED, "group:all", row.division, True
    first, second = (f"group:project-{name}" for name in PROJECTS)
    yield FOUNDED, first, second, True
    yield FOUNDED, second, first, True


def _memberships(
    rng: np.random.Generator, people: pd.DataFrame, teams: list[str], days: int
) -> Iterator[Change]:
    """Yield when each user enters and leaves each group."""
    for row in people.itertuples():
        joined, left = second(row.joined), second(row.left)
        stays = [f"group:site-{row.site}"]
        if row.role in ("manager", "contractor"):
            stays.append(f"group:{row.role}s")
        if rng.random() < (0.06 if row.team else 0.5):
            stays.append(f"group:project-{rng.choice(PROJECTS)}")
        if row.role == "staff" and rng.random() < COUNCIL:
            stays.append("group:works-council")
        enters = {group: joined for group in [*stays, row.team] if group}
        moves, when = rng.random() < MOVE * days / 365, _times(rng, 1, days)[0]
        if row.team and moves and when > joined and not when >= left:
            late = rng.integers(0, OVERLAP * DAY) if rng.random() < 0.5 else 0
            yield when + np.timedelta64(int(late), "s"), row.team, row.user, False
            enters[str(rng.choice([team for team in teams if team != row.team]))] = when
        for group, at in enters.items():
            yield at, group, row.user, True
            if not np.isnat(left):
                late = np.timedelta64(int(rng.integers(0, CLEANUP * DAY)), "s")
                yield left + late, group, row.user, False


def _reorganised(rng: np.random.Generator, teams: pd.DataFrame, days: int) -> Iterator[Change]:
    """Yield two teams that change department."""
    for place in rng.choice(len(teams), 2, replace=False):
        row = teams.iloc[place]
        others = sorted(set(teams["department"]) - {row["department"]})
        if others:
            when = _times(rng, 1, days)[0]
            yield when, row["department"], row["group"], False
            yield when, str(rng.choice(others)), row["group"], True


def _told(changes: list[Change], people: pd.DataFrame, end: np.datetime64) -> Iterator[Event]:
    """Yield the directory's events: all members of a group after each second that changed it."""
    members: dict[str, dict[str, None]] = {
        f"group:{name}": {} for name in (*_PLAN["others"], *(f"site-{site}" for site in SITES))
    }
    steps: list[tuple[np.datetime64, int, str, object]] = [
        (FOUNDED, 1, group, None) for group in members
    ]
    for row in people.itertuples():
        steps.append((second(row.joined), 0, row.user, True))
        if not pd.isna(row.left):
            steps.append((second(row.left), 0, row.user, False))
    steps += [(at, 1, group, (member, added)) for at, group, member, added in changes]
    steps = [step for step in steps if step[0] <= end]
    steps.sort(key=lambda step: step[:3])
    seq = 0
    for place, (at, of_group, subject, what) in enumerate(steps):
        if of_group:
            held = members.setdefault(subject, {})
            if what and what[1]:
                held[what[0]] = None
            elif what:
                held.pop(what[0], None)
            if place + 1 < len(steps) and steps[place + 1][:3] == (at, 1, subject):
                continue
        seq += 1
        if of_group:
            yield Event(DIRECTORY, seq, at, "members", subject, tuple(held))
        else:
            yield Event(DIRECTORY, seq, at, "user", subject, bool(what))
