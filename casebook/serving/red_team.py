"""An adaptive search for attacks: templates, mutations, several steps; what got further is kept.

A fixed list of attacks finds what its writer thought of. Here each attack is a list of steps (plain
dicts); a run says which violations it led to and how far it got, by marks such as *proposed* or
*paid*. What reached a mark that no attack had reached, or reached more of them, becomes a parent of
the next ones. So the search learns from refusals, as an attacker would, and it stops for a limit of
runs, not for a lack of ideas.

A search that finds nothing bounds no rate: its attacks are mutations of a few templates, and most
lead to what others led to. :func:`by_template` counts the distinct *trails*: what the system did. A
bound needs attacks that are drawn independently (:func:`independent`), and holds for these alone.

Examples
--------
The system pays unless the sum is above 60, and forgets to add up:

>>> def run(steps):
...     paid = [s["sum"] for s in steps if type(s["sum"]) is int and 0 < s["sum"] <= 60]
...     marks = {f"paid {min(sum(paid) // 30, 4)}"} if paid else set()
...     return Outcome(["more than 100"] if sum(paid) > 100 else [], marks)
>>> found = search({"ask": [{"sum": 90}]}, run, budget=200, seed=1)
>>> bool(found["violations"].astype(bool).any()), len(found)
(True, 200)
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

Step = dict[str, Any]
Steps = list[Step]
#: Steps of an attack, at most; parents that are kept.
LONGEST, PARENTS = 12, 20


@dataclass(frozen=True)
class Outcome:
    """What a run led to.

    Attributes
    ----------
    violations : sequence of str
        What must not happen and did; from the effects, not from what the system says of itself.
    marks : set of str
        How far it got.
    trail : str
        What the system did, without what differs by chance (numbers of rows).
    """

    violations: Sequence[str]
    marks: frozenset[str] | set[str] = field(default_factory=frozenset)
    trail: str = ""


# Mutations -----------------------------------------------------------------------------


def _drop(rng: np.random.Generator, steps: Steps, _: Steps) -> Steps:
    return [one for i, one in enumerate(steps) if i != int(rng.integers(len(steps)))] or steps


def _repeat(rng: np.random.Generator, steps: Steps, _: Steps) -> Steps:
    at = int(rng.integers(len(steps)))
    return [*steps[: at + 1], copy.deepcopy(steps[at]), *steps[at + 1 :]]


def _swap(rng: np.random.Generator, steps: Steps, _: Steps) -> Steps:
    order = rng.permutation(len(steps))[:2]
    made = list(steps)
    if len(order) == 2:
        made[order[0]], made[order[1]] = made[order[1]], made[order[0]]
    return made


def _splice(rng: np.random.Generator, steps: Steps, other: Steps) -> Steps:
    a, b = int(rng.integers(len(steps) + 1)), int(rng.integers(len(other) + 1))
    return [*steps[:a], *copy.deepcopy(other[b:])] or steps


def _insert(rng: np.random.Generator, steps: Steps, other: Steps) -> Steps:
    at = int(rng.integers(len(steps) + 1))
    return [*steps[:at], copy.deepcopy(other[int(rng.integers(len(other)))]), *steps[at:]]


def _places(value: Any, path: tuple = ()) -> list[tuple]:
    """Return the paths to all texts and numbers of a value."""
    if isinstance(value, Mapping | list):
        inner = value.items() if isinstance(value, Mapping) else enumerate(value)
        return [place for key, one in inner for place in _places(one, (*path, key))]
    return [path]


def _value(rng: np.random.Generator, steps: Steps, other: Steps) -> Steps:
    """Change one value: near it, at an edge, in another spelling, or to one of another attack."""
    made = copy.deepcopy(steps)
    places = [place for place in _places(made) if place[-1] != "do"]
    if not places:
        return made
    *path, last = places[int(rng.integers(len(places)))]
    inside: Any = made
    for key in path:
        inside = inside[key]
    inside[last] = _changed(rng, inside[last], other, last)
    return made


def _changed(rng: np.random.Generator, old: Any, other: Steps, name: Any) -> Any:
    same = [place for place in _places(other) if place[-1] == name]
    if same and rng.random() < 0.5:
        value: Any = other
        for key in same[int(rng.integers(len(same)))]:
            value = value[key]
        return copy.deepcopy(value)
    if isinstance(old, bool) or old is None:
        return not old
    if isinstance(old, int | float):
        near = (old + 1, old - 1, -old, 0, old * 2, old // 2, old * 100, float(old), str(old))
        return near[int(rng.integers(len(near)))]
    text = str(old)
    digits = text.translate({48 + i: 0x0660 + i for i in range(10)})
    spelled = (
        f" {text}",
        f"{text}\n",
        text.upper(),
        text[:-1],
        digits,
        f"{text}\u200b",
        "",
        text * 2,
    )
    return spelled[int(rng.integers(len(spelled)))]


MUTATIONS = (_drop, _repeat, _swap, _splice, _insert, _value, _value)


def mutated(rng: np.random.Generator, steps: Steps, other: Steps) -> Steps:
    """Return an attack that is one to three mutations away; ``other`` lends it parts."""
    made = copy.deepcopy(steps)
    for _ in range(int(rng.integers(1, 4))):
        made = MUTATIONS[int(rng.integers(len(MUTATIONS)))](rng, made, other)
    return made[:LONGEST]


# Search --------------------------------------------------------------------------------


def search(
    templates: Mapping[str, Steps],
    run: Callable[[Steps], Outcome],
    budget: int,
    seed: int = 0,
    until_found: bool = False,
    words: Sequence[Step] = (),
) -> pd.DataFrame:
    """Run attacks: the templates first, then mutations of what got furthest.

    Parameters
    ----------
    templates : mapping of str to list of dict
        By name; each has a step or more. The value under ``do`` is not mutated.
    run : callable
        Carries an attack out against a fresh system.
    budget : int
        Runs.
    seed : int
    until_found : bool
        Stop at the first violation.
    words : sequence of dict
        Single steps that lend attacks their values and themselves, half of the time: what there is
        to ask for, without saying in which order.

    Returns
    -------
    DataFrame
        ``run`` (from 1), ``template`` that it comes from, ``mutated``, ``steps`` (JSON), ``marks``
        (how many), ``violations`` (JSON list; empty text if none), ``trail``.

    Raises
    ------
    ValueError
        Without templates, or with an empty one.
    """
    if not templates or not all(templates.values()):
        raise ValueError("Give templates, each with a step or more.")
    rng, rows, pool = np.random.default_rng([seed, 8]), [], _Pool(list(words))
    queue = [(name, copy.deepcopy(steps)) for name, steps in templates.items()]
    for number in range(1, budget + 1):
        fresh = number <= len(queue)
        name, steps = queue[number - 1] if fresh else pool.next(rng)
        outcome = run(steps)
        pool.add(name, steps, outcome.marks, fresh)
        rows.append((number, name, not fresh, json.dumps(steps), *_told(outcome)))
        if until_found and outcome.violations:
            break
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = ["run", "template", "mutated", "steps", "marks", "violations", "trail"]


def _told(outcome: Outcome) -> tuple[int, str, str]:
    told = json.dumps(list(outcome.violations)) if outcome.violations else ""
    return len(outcome.marks), told, outcome.trail


def independent(
    words: Sequence[Step],
    run: Callable[[Steps], Outcome],
    n: int,
    seed: int = 0,
    template: str = "drawn",
) -> pd.DataFrame:
    """Run attacks that are drawn anew, each of 2 to :data:`LONGEST` steps in any order.

    They are worse than a search, and they are what a bound of a rate is for.

    Parameters
    ----------
    words : sequence of dict
        Steps.
    run : callable
    n, seed : int
    template : str
        What the rows are called.

    Returns
    -------
    DataFrame
        As of :func:`search`.

    Examples
    --------
    >>> drawn = independent([{"do": "a"}, {"do": "b"}], lambda steps: Outcome([], set(), "x"), 5)
    >>> len(drawn), drawn["trail"].nunique()
    (5, 1)
    """
    rows = []
    for number in range(1, n + 1):
        rng = np.random.default_rng([seed, number, 9])
        picked = rng.integers(len(words), size=int(rng.integers(2, LONGEST + 1)))
        steps = [copy.deepcopy(words[int(i)]) for i in picked]
        rows.append((number, template, False, json.dumps(steps), *_told(run(steps))))
    return pd.DataFrame(rows, columns=_COLUMNS)


class _Pool:
    """Attacks that got somewhere, and the marks that were reached."""

    def __init__(self, words: Steps) -> None:
        self.words = words
        self.parents: list[tuple[int, str, Steps]] = []
        self.seen: set[str] = set()

    def next(self, rng: np.random.Generator) -> tuple[str, Steps]:
        """Return a mutation of one of the best, or of any other."""
        best = self.parents
        if rng.random() < 0.5:
            best = sorted(self.parents, key=lambda one: -one[0])[:PARENTS]
        _, name, parent = best[int(rng.integers(len(best)))]
        _, _, other = self.parents[int(rng.integers(len(self.parents)))]
        if self.words and rng.random() < 0.5:
            other = [self.words[int(rng.integers(len(self.words)))]]
        return name, mutated(rng, parent, other)

    def add(self, name: str, steps: Steps, marks: Set[str], fresh: bool) -> None:
        """Keep an attack that is a template, or reached what none had reached."""
        new = bool(marks - self.seen)
        if fresh or new:
            self.parents.append((len(marks) + 2 * new, name, steps))
        self.seen |= marks


def by_template(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what a search found, by the template that an attack comes from, and for ``all``.

    Returns
    -------
    DataFrame
        ``template``, ``runs``, share ``mutated``, ``reached`` (mean number of marks), ``attacks``
        and ``trails`` (distinct lists of steps, and distinct things that the system did), and the
        runs with ``violations``.
    """
    runs = runs.assign(bad=runs["violations"].astype(bool))
    whole = pd.concat([runs, runs.assign(template="all")]).groupby("template", sort=False)
    made = whole[["mutated", "marks"]].mean().set_axis(["mutated", "reached"], axis=1)
    made.insert(0, "runs", whole.size())
    made[["attacks", "trails"]] = whole[["steps", "trail"]].nunique()
    made["violations"] = whole["bad"].sum()
    return made.reset_index()


def first_found(runs: pd.DataFrame) -> dict[str, Any]:
    """Return ``first`` (run of the first violation; None if none), ``template``, ``violation``."""
    bad = runs["violations"].astype(bool).to_numpy()
    if not bad.any():
        return {"first": None, "template": "", "violation": ""}
    row = runs.iloc[int(bad.argmax())]
    told = json.loads(row["violations"])[0]
    return {"first": int(bad.argmax()) + 1, "template": row["template"], "violation": told}
