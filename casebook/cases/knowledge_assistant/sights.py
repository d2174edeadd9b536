"""What is kept for a state of rights: a mask over passages, and names that visible texts teach.

Colleagues with the same rights share it. It is made when a state of rights is first met, and kept
up to date as documents come and go: a hidden one changes nothing but the length of the mask.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from casebook.retrieval.filtered import Visible
from casebook.retrieval.follow_up import Names
from casebook.retrieval.taught import Lesson, Taught
from casebook.retrieval.values import value_of
from casebook.serving.rights import Sight


@dataclass(frozen=True, eq=False)
class View:
    """What a user's rights make of names: code names and listed values, from visible texts only."""

    names: Names
    known: frozenset[str]
    subjects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    def value(self, text: str) -> str:
        """Return the value that a text states, '' for none."""
        if text not in self.values:
            self.values[text] = value_of(self.names.masked(text), self.known)
        return self.values[text]

    def of(self, text: str) -> tuple[str, ...]:
        """Return the teams that a text names."""
        if text not in self.subjects:
            self.subjects[text] = self.names.subjects(text)
        return self.subjects[text]


@dataclass(eq=False)
class Seen:
    """What is kept for a state of rights; the names are learned when they are first asked for."""

    sight: Sight
    visible: Visible
    taught: Taught | None = None
    view: View | None = None


def sees(sight: Sight, rows: np.ndarray, versions: np.ndarray) -> np.ndarray:
    """Say of rows of the rights whether they are seen in a version.

    Rows that are newer than the sight are not: had one of them been visible, the rights would have
    another fingerprint.
    """
    seen, known = np.zeros(len(rows), bool), rows < len(sight.mask)
    seen[known] = sight.sees(rows[known], versions[known])
    return seen


class Sights:
    """The states of rights that were met last.

    Parameters
    ----------
    kept : int
        How many.
    """

    def __init__(self, kept: int) -> None:
        self._kept, self._last = kept, dict[str, str]()
        self._held: OrderedDict[str, Seen] = OrderedDict()

    def get(self, user: str, key: str) -> Seen | None:
        """Return what is kept for a state in which a user is now."""
        if key in self._held:
            self._held.move_to_end(key)
            self._last[user] = key
        return self._held.get(key)

    def last(self, user: str) -> Seen | None:
        """Return what is kept for the last state of a user."""
        return self._held.get(self._last.get(user, ""))

    def put(self, user: str, key: str, seen: Seen) -> Seen:
        """Keep it, in place of the one that was not asked for the longest."""
        self._held[key], self._last[user] = seen, key
        if len(self._held) > self._kept:
            self._held.popitem(last=False)
        return seen

    def change(
        self,
        rows: np.ndarray,
        versions: np.ndarray,
        lessons: Mapping[str, Lesson | None],
        cut: np.ndarray,
        owners: np.ndarray,
    ) -> None:
        """Bring everything up to date after a change of documents.

        Parameters
        ----------
        rows, versions : ndarray of int
            Of the changed documents.
        lessons : mapping of str to Lesson or None
            What each of them, in this order, teaches now; None for one that is gone.
        cut : ndarray of int
            Passages that are gone.
        owners : ndarray of int
            Of each new passage, which of the documents it is of.
        """
        for seen in self._held.values():
            may, before = sees(seen.sight, rows, versions), seen.visible
            mask = np.concatenate([before.mask, may[owners]])
            same = not mask[cut].any() and not may[owners].any()
            mask[cut] = False
            seen.visible = Visible(mask, before.rows) if same else Visible.of(mask)
            if seen.taught is None:
                continue
            for (name, lesson), visible in zip(lessons.items(), may.tolist(), strict=True):
                there = visible and lesson is not None
                if there or name in seen.taught:
                    seen.view = None
                    seen.taught.remove(name)
                if there:
                    seen.taught.add(name, lesson)

    def keep(self, live: np.ndarray) -> None:
        """Keep these passages alone, and number them anew."""
        for seen in self._held.values():
            seen.visible = Visible.of(seen.visible.mask[live])
