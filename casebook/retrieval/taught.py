"""What visible documents teach of names: kept up document by document.

Code names and listed values stand in no list of the firm: they are learned from the documents that
the asking user may see. To learn them anew whenever any text changes takes seconds where somebody
sees thousands of documents, and lets a stopwatch tell that a hidden one changed. Here each document
is read once (:func:`lesson_of`); what it adds to somebody's names is counted in when it comes, and
out when it goes. The result is that of :func:`~.follow_up.code_names` over what is there.

Examples
--------
>>> names = Names(["Identity"])
>>> lines = [("Identity", f"Ask Otter in week {n}.") for n in range(3)]
>>> taught = Taught(names)
>>> taught.add("d1", lesson_of(lines, ["spare keys: Birch room"], names))
>>> taught.code_names(), taught.known()
({'Otter': 'Identity'}, frozenset({'birch room'}))
>>> taught.add("d2", lesson_of([("", "an otter swims")], [], names)); taught.code_names()
{}
>>> taught.remove("d2"); taught.code_names()
{'Otter': 'Identity'}
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from casebook.retrieval.follow_up import Names, betrayed, uses_of
from casebook.retrieval.values import listed


@dataclass(frozen=True, eq=False, slots=True)
class Lesson:
    """What a document teaches; see :class:`~.follow_up.Uses`.

    Attributes
    ----------
    told : tuple of (str, str)
    where : tuple of ((str, str), int)
    small, known : tuple of str
        Words in small letters; values that are listed and name no team.
    """

    told: tuple[tuple[str, str], ...]
    where: tuple[tuple[tuple[str, str], int], ...]
    small: tuple[str, ...]
    known: tuple[str, ...]


def lesson_of(titled: Iterable[tuple[str, str]], points: Iterable[str], names: Names) -> Lesson:
    """Return what a document teaches.

    Parameters
    ----------
    titled : iterable of (str, str)
        Its title, and each of its lines.
    points : iterable of str
        Lines that are points of a list or rows of a table.
    names : Names
        Teams of the directory.
    """
    uses = uses_of(titled, names)
    known = sorted(one for one in listed(points) if not names.subjects(one))
    small = tuple(map(sys.intern, sorted(uses.small)))  # one copy of a word in all lessons
    return Lesson(tuple(uses.told.items()), tuple(uses.where.items()), small, tuple(known))


class Taught:
    """What a set of documents teaches.

    Parameters
    ----------
    names : Names
    """

    def __init__(self, names: Names) -> None:
        self.names, self._lessons = names, dict[str, Lesson]()
        self._small, self._known, self._where = Counter(), Counter(), Counter()
        self._teams: dict[str, tuple[str, ...]] = {}
        self._betrayed: dict[str, str] = {}

    def __contains__(self, document: str) -> bool:
        return document in self._lessons

    def __iter__(self) -> Iterator[str]:
        return iter(self._lessons)

    def __len__(self) -> int:
        return len(self._lessons)

    def copy(self) -> Taught:
        """Return one that goes on from here by itself."""
        other = Taught(self.names)
        for name, held in vars(self).items():
            setattr(other, name, held if name == "names" else held.copy())
        return other

    def add(self, document: str, lesson: Lesson) -> None:
        """Count a document in, in place of what it taught before."""
        self.remove(document)
        self._lessons[document] = lesson
        self._small.update(lesson.small)
        self._known.update(lesson.known)
        for (word, team), n in lesson.where:
            self._where[word, team] += n
            if team not in self._teams.get(word, ()):
                self._teams[word] = (*self._teams.get(word, ()), team)
        self._judge(lesson)

    def remove(self, document: str) -> None:
        """Count a document out, if it is there."""
        if (lesson := self._lessons.pop(document, None)) is None:
            return
        for counts, words in ((self._small, lesson.small), (self._known, lesson.known)):
            for word in words:
                counts[word] -= 1
                if not counts[word]:
                    del counts[word]
        for (word, team), n in lesson.where:
            self._where[word, team] -= n
            if not self._where[word, team]:
                del self._where[word, team]
                self._teams[word] = tuple(one for one in self._teams[word] if one != team)
        self._judge(lesson)

    def _judge(self, lesson: Lesson) -> None:
        """Look again at the words that a document uses."""
        for word in {word for (word, _), _ in lesson.where}:
            found = Counter({team: self._where[word, team] for team in self._teams[word]})
            self._betrayed.pop(word, None)
            if not found:
                del self._teams[word]
            elif team := betrayed(found):
                self._betrayed[word] = team

    def become(self, lessons: Mapping[str, Lesson]) -> None:
        """Count documents in and out until there are these and no others."""
        for name in {*self._lessons} - {*lessons}:
            self.remove(name)
        for name in sorted({*lessons} - {*self._lessons}):
            self.add(name, lessons[name])

    def known(self) -> frozenset[str]:
        """Return the listed values."""
        return frozenset(self._known)

    def code_names(self) -> dict[str, str]:
        """Return the code names with their teams; a line that tells one counts above its use."""
        parts = {part for one in self._known for part in one.split()}
        used = {
            word: team
            for word, team in sorted(self._betrayed.items())
            if word.casefold() not in self._small and word.casefold() not in parts
        }
        told = (pair for name in sorted(self._lessons) for pair in self._lessons[name].told)
        return used | dict(told)
