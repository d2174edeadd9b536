"""A question that stands by itself, made from up to five turns by rule.

Two things are taken over from what was asked before: the *subject* (a team, by its name or code
name) and the *predicate* (what is asked about it). A turn that only names a team takes over the
last predicate; one that only asks takes over the last team. Only the user's own questions are read:
an answer that was withdrawn since cannot come back through a rewritten question.

Names come from the directory. Code names stand in no list: :func:`code_names` learns them from
the documents that the asking user may see, as words that stand where one team is talked about.

Examples
--------
>>> names = Names(["Test Bench", "Identity"], {"Otter": "Identity"})
>>> standalone(["When is the weekly of Test Bench?", "And Otter?"], names)
'When is the weekly of Otter?'
>>> standalone(["When is the weekly of Test Bench?", "Thanks. how long is their freeze?"], names)
'how long is their freeze, Test Bench?'
>>> names.subjects("the Otter pager"), names.masked("Ask Test Bench or Otter.")
(('Identity',), 'Ask the team or the team.')
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from casebook.retrieval.text import content_words

#: Turns that are looked back on, the asked one included.
MOST_TURNS = 5
#: Lines in which a code name must stand with its team.
LEAST = 3
#: Words of a turn that asks nothing by itself.
_AROUND = {
    *("about", "also", "and", "for", "i", "instead", "mean", "meant", "no", "ok", "same"),
    *("thanks", "the", "what", "with"),
}
_POINTS = re.compile(r"\b(?:there|(?:with|of|for) them|their|they|same team|it)\b", re.IGNORECASE)
_POLITE = re.compile(r"^\s*(?:thanks|thank you|ok(?:ay)?|and|but|no)\b[\s,.!]*", re.IGNORECASE)
_NAMED = re.compile(r"\b[A-Z][a-z]{2,}\b")
_SMALL = re.compile(r"\b[a-z]{3,}\b")
#: How a text says outright that a team has another name.
_CALLED = re.compile(r"(?:also (?:called|known as)|code name:?|alias:?)\s+([A-Z][a-z]{2,})\b")


class Names:
    """Teams by their names and code names.

    Parameters
    ----------
    teams : iterable of str
        Names, as the directory has them.
    code_names : mapping of str to str, optional
        Code name → name.
    """

    def __init__(self, teams: Iterable[str], code_names: Mapping[str, str] | None = None) -> None:
        self.teams = tuple(sorted(teams))
        self.code_names = dict(code_names or {})
        self._called = {name.casefold(): name for name in self.teams}
        self._called |= {name.casefold().replace(" ", "-"): name for name in self.teams}
        self._called |= {code.casefold(): name for code, name in self.code_names.items()}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest = sorted(self._called, key=len, reverse=True)
        return re.compile(
            rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest)) or '(?!)'})(?![\w-])", re.I
        )

    def subjects(self, text: str) -> tuple[str, ...]:
        """Return the teams that a text names, each once, in order."""
        found = (self._called[one.casefold()] for one in self._pattern.findall(text))
        return tuple(dict.fromkeys(found))

    def masked(self, text: str, mask: str = "the team") -> str:
        """Return a text without the names: what is said of a team, whichever it is."""
        return self._pattern.sub(mask, text)

    def spans(self, text: str) -> list[str]:
        """Return the names as they stand in a text."""
        return self._pattern.findall(text)

    def expanded(self, question: str) -> str:
        """Return a question with the name beside each code name, and the other way round."""
        more = [one for one in self.called(question) if one.casefold() not in question.casefold()]
        return " ".join([question, *more])

    def called(self, text: str) -> list[str]:
        """Return the names and code names of the teams that a text names."""
        both = defaultdict(list)
        for code, name in self.code_names.items():
            both[name].append(code)
        return [word for name in self.subjects(text) for word in (name, *both[name])]


def code_names(
    titled: Iterable[tuple[str, str]], names: Names, least: int = LEAST, no: Collection[str] = ()
) -> dict[str, str]:
    """Learn code names: those that a line tells ("also called …"), and those that use betrays.

    The latter are words with a capital inside sentences, nearly all in texts of one team, which
    nobody writes in small letters.

    Parameters
    ----------
    titled : iterable of (str, str)
        Where a line stands (title of a thread or ticket, heading), and the line. Of documents that
        the asking user may see, no others.
    names : Names
    least : int
        Lines in which the word must stand with its team.
    no : collection of str
        Words in small letters that are something else, such as parts of a room's name.

    Returns
    -------
    dict of str to str
        Code name → team. A word that goes with several teams is none.
    """
    uses = uses_of(titled, names)
    where: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (word, team), n in uses.where.items():
        where[word][team] += n
    used = {}
    for word, found in where.items():
        team = betrayed(found, least)
        if team and word.casefold() not in uses.small and word.casefold() not in no:
            used[word] = team
    return used | uses.told


@dataclass(frozen=True)
class Uses:
    """What lines say of code names.

    Attributes
    ----------
    told : dict of str to str
        Code name → team, where a line tells it.
    where : Counter of (str, str)
        Lines in which a word with a capital stands where a team is talked about.
    small : frozenset of str
        Words that stand in small letters.
    """

    told: dict[str, str]
    where: Counter[tuple[str, str]]
    small: frozenset[str]


def uses_of(titled: Iterable[tuple[str, str]], names: Names) -> Uses:
    """Return what lines say of code names; see :func:`code_names`."""
    known = {part for name in names.teams for part in name.split()}
    told, where, small = dict[str, str](), Counter[tuple[str, str]](), set[str]()
    for title, line in titled:
        small.update(_SMALL.findall(line))
        own, called = names.subjects(line), _CALLED.search(line)
        if called and len(own) == 1 and called.group(1) not in known:
            told[called.group(1)] = own[0]
        named = names.subjects(title)
        if len(named) == 1:
            where.update((word, named[0]) for word in set(_NAMED.findall(line[1:])) - known)
    return Uses(told, where, frozenset(small))


def betrayed(found: Counter[str], least: int = LEAST) -> str:
    """Return the team with whose lines nearly all uses of a word stand, '' if there is none."""
    (team, n), *_ = found.most_common(1)
    return team if n >= max(least, 0.8 * found.total()) else ""


def standalone(turns: Sequence[str], names: Names) -> str:
    """Return the last of some questions as one that stands by itself.

    Parameters
    ----------
    turns : sequence of str
        Of one user, in order; the last :data:`MOST_TURNS` are read.
    names : Names

    Returns
    -------
    str
        The last turn itself where nothing is missing, or nothing can be taken over.
    """
    turns = list(turns[-MOST_TURNS:])
    asked = turns[-1]
    before = turns[-2::-1] if len(turns) > 1 else []
    if names.subjects(asked):
        if _predicate(asked, names):
            return asked
        full = next((one for one in before if _predicate(one, names)), None)
        if full is None:
            return asked
        called = names.spans(asked)[0]
        if names.spans(full):
            return full.replace(names.spans(full)[0], called)
        return f"{full.rstrip('?. ')}, {called}?"
    named = next((one for one in before if names.subjects(one)), None)
    if named is None or not (before and (_POINTS.search(asked) or not _capitals(asked))):
        return asked
    rest = _POLITE.sub("", asked).rstrip("?. !")
    return f"{rest}, {names.spans(named)[-1]}?"


def _predicate(turn: str, names: Names) -> bool:
    """Say whether a turn asks for something, apart from naming a team."""
    words = [w for w in content_words(names.masked(turn, " "), "en") if w not in _AROUND]
    return bool(words)


def _capitals(turn: str) -> bool:
    """Say whether a turn names what is no known team: then it is not about the last one."""
    return bool(_NAMED.findall(_POLITE.sub("", turn)[1:]))
