"""Questions about the firm's facts, each with the user who asks and what that user may be told.

They name a team by its name or its code name. :data:`BY_NAME` of them use the word that slides and
tables have for what is asked; the others are worded from ``asks`` of the plan, which avoids the
words of the documents. What is right depends on who asks: of the documents that state the
fact, some may not be seen by the user (``hidden``), some say another value (``against``).

Who can read both sides of a contradiction can settle it: apart from rumours, the statement whose
date (``holds_from``) is the latest is true. The latest *document* may be a rumour.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .documents import World
from .truth import State, said_now, true_at
from .writing import ATTRIBUTES, PLAN

#: Kind of a question → share. Conversations have two to five turns, the last of which is judged.
KINDS = {
    "plain": 0.3,
    "code_name": 0.13,
    "site": 0.04,
    "conflict": 0.16,
    "stale": 0.04,
    "conversation": 0.18,
    "forbidden": 0.08,
    "unanswerable": 0.07,
}
#: Kinds to which a reader is told "I don't know".
UNKNOWN = ("forbidden", "unanswerable")
MOST_TURNS = 5
#: Share of questions of people who know the firm's own word for what they ask.
BY_NAME = 0.3
COLUMNS = ["kind", "user", "at", "turns", "standalone", "fact", "value"]
FOUND = ["support", "against", "hidden"]


@dataclass(frozen=True)
class _Known:
    """What is asked from: facts with their value now, and what each document says of them."""

    facts: dict[int, dict]
    said: dict[int, list[tuple[str, bool, str]]]
    visible: dict[str, set[str]]


def ask(
    world: World, seed: int, count: int = 400, at: np.datetime64 | None = None, askers: int = 60
) -> pd.DataFrame:
    """Draw questions.

    Parameters
    ----------
    world : World
    seed : int
    count : int
    at : datetime64[s], optional
        When they are asked; the end of the year by default.
    askers : int
        Users who ask.

    Returns
    -------
    DataFrame
        ``kind``, ``user``, ``at``, ``turns`` (tuple of str, the last is asked), ``standalone``
        (the last turn, complete), ``fact``, ``value`` (what holds at that time; '' if no document
        states the fact), and tuples of documents as they are at that time: ``support`` (visible,
        say the value), ``against`` (visible, say another one), ``hidden`` (say the value, but this
        user may not see them).

        ``plain``, ``code_name``, ``site`` and ``conversation`` have support; ``conflict`` has
        support and what is against; ``stale`` only what is against; ``forbidden`` only what is
        hidden; ``unanswerable`` nothing.

    Raises
    ------
    ValueError
        If the world is too small to have all kinds.
    """
    rng = random.Random(f"{seed}-1803")
    at = world.firm.end if at is None else at
    state = State((*world.firm.events, *world.events), at)
    active = sorted(user for user, there in state.active.items() if there)
    users = rng.sample(active, min(askers, len(active)))
    said = said_now(world, state, at)
    known = _Known(
        {row["fact"]: row for row in true_at(world, at).to_dict("records")},
        {
            fact: list(zip(rows["document"], rows["true"], rows["tone"], strict=True))
            for fact, rows in said.groupby("fact")
        },
        {user: state.visible(user) for user in users},
    )
    wanted = Counter({kind: round(share * count) for kind, share in KINDS.items()})
    wanted["plain"] += count - wanted.total()
    rows = _drawn(rng, known, wanted, at)
    rng.shuffle(rows)
    return pd.DataFrame(rows, columns=[*COLUMNS, *FOUND])


def _drawn(rng: random.Random, known: _Known, wanted: Counter, at: np.datetime64) -> list[tuple]:
    rows, tries, facts = [], 0, list(known.facts.values())
    while wanted.total():
        tries += 1
        if tries > 20_000:
            raise ValueError(f"no questions of {dict(+wanted)}: take a larger world")
        fact, user = rng.choice(facts), rng.choice(list(known.visible))
        found = _found(known, fact["fact"], user)
        kind = _kind(rng, fact, found, wanted)
        if not kind:
            continue
        turns, standalone = _worded(rng, known, fact, kind)
        wanted -= Counter([kind])
        value = "" if kind == "unanswerable" else fact["value"]
        rows.append((kind, user, at, turns, standalone, fact["fact"], value, *found))
    return rows


def _found(known: _Known, fact: int, user: str) -> tuple[tuple[str, ...], ...]:
    """Return the documents that support, contradict, and are hidden."""
    sees, support, against, hidden = known.visible[user], [], [], []
    for document, true, _ in known.said.get(fact, []):
        if document in sees:
            (support if true else against).append(document)
        elif true:
            hidden.append(document)
    return tuple(tuple(sorted(set(one))) for one in (support, against, hidden))


def _kind(rng: random.Random, fact: dict, found: tuple, wanted: Counter) -> str:
    """Return a kind that is still wanted and fits, or ''."""
    support, against, hidden = found
    if fact["site"]:
        fits = ["site"] if support else []
    elif support:
        fits = ["conflict"] if against else ["plain", "code_name", "conversation"]
    elif against:
        fits = ["stale"]
    else:
        fits = ["forbidden"] if hidden else ["unanswerable"] if not fact["written"] else []
    fits = [kind for kind in fits if wanted[kind]]
    return rng.choice(fits) if fits else ""


def _worded(
    rng: random.Random, known: _Known, fact: dict, kind: str
) -> tuple[tuple[str, ...], str]:
    """Return the turns, and the last one as a complete question."""
    called = fact["alias"] if kind == "code_name" else fact["name"]
    asked = _asked(rng, fact["attribute"], called)
    if fact["site"]:
        asked = f"{asked[:-1]} at site {fact['site']}?"
    if kind != "conversation":
        return (asked,), asked
    plain = [row for row in known.facts.values() if not row["site"]]
    length = rng.randint(2, MOST_TURNS)
    if rng.random() < 0.5:  # the team stays: it is not named again
        team = [row for row in plain if row["team"] == fact["team"] and row != fact]
        before = rng.sample(team, length - 1)
        last = rng.choice(("And {f} there?", "Thanks. {f} with them?", "{f}, same team?"))
    else:  # the subject stays
        same = [row for row in plain if row["attribute"] == fact["attribute"] and row != fact]
        before = rng.sample(same, min(length - 1, len(same)))
        last = rng.choice(("What about {t}?", "And {t}?", "No, I meant {t}."))
    turns = [_asked(rng, before[0]["attribute"], before[0]["name"])]
    turns += [_turn(last, row) for row in before[1:]]
    return (*turns, _turn(last, fact)), asked


def _turn(form: str, fact: dict) -> str:
    text = form.format(f=ATTRIBUTES[fact["attribute"]]["follow"], t=fact["name"])
    return text[0].upper() + text[1:]


def _asked(rng: random.Random, attribute: str, called: str) -> str:
    asks, short = ATTRIBUTES[attribute]["asks"], ATTRIBUTES[attribute]["short"]
    form = rng.choice(PLAN["by_name"]["asks"] if rng.random() < BY_NAME else asks)
    asked = form.replace("{a}", short).replace("{t}", called)
    return asked[0].upper() + asked[1:]
