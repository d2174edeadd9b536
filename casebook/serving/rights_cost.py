"""What it costs to ask who may see what, at the size of a firm: measured, not assumed.

Examples
--------
>>> told = rights_cost(documents=300, people=20, rounds=2)
>>> told["documents"], told["users with one mask"] > 1
(300, True)
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from casebook.serving.held_back import HeldBack
from casebook.serving.rights import Rights


def rights_cost(
    documents: int,
    people: int,
    seed: int = 0,
    rounds: int = 50,
    store: type[Rights] = Rights,
) -> dict[str, float]:
    """Fill a store like that of a firm, and time its questions.

    Parameters
    ----------
    documents, people : int
        A container for 50 documents, in a tree; a team for ten people, ten teams a department.
        Every container is allowed to a team or a department, one in ten is denied to another team,
        one document in 50 is shared with a person.
    seed : int
    rounds : int
        Timings of each kind.
    store : type
        :class:`.Rights`, or :class:`.HeldBack`, whose changes then wait while they are timed.

    Returns
    -------
    dict of str to float
        Milliseconds (medians): ``nothing changed`` (ten documents are asked about), ``rights
        changed`` (the first question of a user whose grants have changed), ``others' rights
        changed`` (of one whose have not), ``a document more``. ``seconds to fill``, ``visible
        share``, ``bytes of a mask``, ``users with one mask``.
    """
    rng, rights = np.random.default_rng(seed), store(":memory:", clock=lambda: 1.0)
    start = time.perf_counter()
    with rights.writing():
        _fill(rights, rng, documents, people)
    if isinstance(rights, HeldBack):
        rights.settle()
    filled = time.perf_counter() - start
    asked = [f"d{i}" for i in rng.choice(documents, 10, replace=False)]
    users = [f"p{i}" for i in rng.choice(people, min(people, 200), replace=False)]
    shares = [rights.sight(user).mask.sum() / documents for user in users]
    masks = {rights.sight(user).fingerprint for user in users}
    one, changes = users[0], _changes(rights, users, rounds)
    told = {name: _median(rights, one, asked, change, rounds) for name, change in changes.items()}
    sizes = {
        "seconds to fill": filled,
        "visible share": float(np.mean(shares)),
        "bytes of a mask": float(rights.sight(one).mask.nbytes),
        "users with one mask": len(users) / len(masks),
    }
    return {"documents": documents, "people": people} | told | sizes


def _changes(rights: Rights, users: list[str], rounds: int) -> dict[str, Callable[[int], None]]:
    """Return what happens before a question is timed, by its name."""
    one, other = users[:2]

    def grant(who: str, first: int) -> Callable[[int], None]:
        def change(row: int) -> None:
            with rights.writing():
                rights.grants(f"d{first + row}", {(who, "allow")})

        return change

    def add(row: int) -> None:
        with rights.writing():
            rights.lies_in(f"new{row}", "c0", item=True)

    return {
        "nothing changed": lambda row: None,
        "rights changed": grant(one, 0),
        "others' rights changed": grant(other, rounds),
        "a document more": add,
    }


def _median(
    rights: Rights, user: str, asked: list[str], change: Callable[[int], None], rounds: int
) -> float:
    """Return the median of milliseconds of the first question after a change."""
    took = []
    for row in range(rounds):
        change(row)
        start = time.perf_counter()
        rights.sees(user, asked)
        took.append(1000 * (time.perf_counter() - start))
    return float(np.median(took))


def _fill(rights: Rights, rng: np.random.Generator, documents: int, people: int) -> None:
    """Write people, groups, containers, documents and grants."""
    teams, containers = max(2, people // 10), max(2, documents // 50)
    team_of = rng.integers(teams, size=people)
    for i in range(people):
        rights.person(f"p{i}", 0)
    for team in range(teams):
        rights.members(f"t{team}", [f"p{i}" for i in np.flatnonzero(team_of == team)])
    for department in range(-(-teams // 10)):
        held = range(10 * department, min(10 * department + 10, teams))
        rights.members(f"dep{department}", [f"t{team}" for team in held])
    rights.members("all", [f"dep{i}" for i in range(-(-teams // 10))])
    for i in range(containers):
        rights.lies_in(f"c{i}", "" if i < 10 else f"c{rng.integers(i)}")
        team = rng.integers(teams)
        who = str(rng.choice(["all", f"dep{team // 10}", f"t{team}"], p=[0.01, 0.19, 0.8]))
        denied = {(f"t{rng.integers(teams)}", "deny")} if rng.random() < 0.1 else set()
        rights.grants(f"c{i}", {(who, "allow")} | denied)
    for i in range(documents):
        rights.lies_in(f"d{i}", f"c{rng.integers(containers)}", item=True)
        if rng.random() < 0.02:
            rights.grants(f"d{i}", {(f"p{rng.integers(people)}", "allow")})
