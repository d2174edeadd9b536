"""What several documents state of one thing, which of them holds, and who says otherwise.

A contradiction is shown, not hidden: the value that holds with its source and date, and the newest
statement of each other value. Which value holds is a policy, to be chosen where the truth is known.

Examples
--------
>>> day = np.datetime64("2026-01-01", "s")
>>> told = ("wiki", "We keep it.", 0)
>>> old = Statement("7 days", "wiki:d1", 1, "Rules", *told, day, False, 0.9)
>>> new = Statement("9 days", "chat:d1", 1, "Talk", *told, day + np.timedelta64(9, "s"), True, 0.8)
>>> settled([old, new], "newest text", day).value, settled([old, new], "in force", day).value
('9 days', '7 days')
>>> [one.value for one in contradictions([old, new], old)]
['9 days']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from casebook.retrieval.values import same

#: Ways to settle a contradiction.
POLICIES = ("surest", "newest version", "newest text", "majority", "in force")


@dataclass(frozen=True, slots=True)
class Statement:
    """A line that states what was asked.

    Attributes
    ----------
    value : str
    document : str
    version : int
    title, source : str
    quote : str
        The anchor: text of the document.
    start : int
        Character at which it begins.
    since : datetime64[s]
        Day from which it holds: a date that it names, else the day on which the text last changed.
    hearsay : bool
        Whether its writer has only heard it.
    sure : float
        Probability that the line is on topic.
    """

    value: str
    document: str
    version: int
    title: str
    source: str
    quote: str
    start: int
    since: np.datetime64
    hearsay: bool
    sure: float

    @property
    def text_of(self) -> tuple[str, int]:
        """The text that it stands in: document and version, as rights are asked about it."""
        return self.document, self.version


def settled(
    said: Sequence[Statement], policy: str, now: np.datetime64, modified: Mapping[str, object] = {}
) -> Statement | None:
    """Return the statement that holds, by one of :data:`POLICIES`; None where there is none.

    Parameters
    ----------
    said : sequence of Statement
        The surest first.
    policy : str
        ``surest``: the first. ``newest version``, ``newest text``: of the document whose version
        (in ``modified``) or text is the newest. ``majority``: the value of most documents, then the
        newest. ``in force``: the latest day from which one holds, hearsay left out as long as there
        is anything else, and days to come too.
    now : datetime64[s]
    modified : mapping of str to datetime64[s], optional
        Of documents.

    Raises
    ------
    ValueError
        On another policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r}: give one of {', '.join(POLICIES)}.")
    if not said or policy == "surest":
        return said[0] if said else None
    if policy == "newest version":
        return max(said, key=lambda one: modified.get(one.document, one.since))
    if policy == "majority":
        votes = [sum(same(one.value, other.value) for other in said) for one in said]
        said = [one for one, n in zip(said, votes, strict=True) if n == max(votes)]
    if policy == "in force":
        said = [one for one in said if not one.hearsay] or said
        said = [one for one in said if one.since <= now] or said
    return max(said, key=lambda one: one.since)


def contradictions(said: Sequence[Statement], held: Statement) -> list[Statement]:
    """Return the newest statement of each value other than the one that holds, the newest first."""
    found: list[Statement] = []
    for one in sorted(said, key=lambda one: one.since, reverse=True):
        if not any(same(one.value, other.value) for other in (held, *found)):
            found.append(one)
    return found
