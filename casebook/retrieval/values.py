"""What a sentence states: its value, since when, and whether the writer knows it or has heard it.

Two documents contradict each other when they state different values of one thing. Rules find
numbers with what they count, times, codes and shares in any text. Names (of a room, a role, a
tool) look like other words; they are known where tables and slides list them (:func:`listed`).

Examples
--------
>>> value_of("From 2026-03-01: Up to 1,200 euro one signature is enough.")
'1,200 euro'
>>> known = listed(["spare keys: Birch room", "Status of the crane: on plan."])
>>> value_of("The second set of keys hangs in the birch room.", known), sorted(known)
('birch room', ['birch room'])
>>> value_of("Ask for it at the Kite board."), value_of("Nobody is known for it.")
('Kite board', '')
>>> hedged("I heard at lunch: it is 7 days."), str(dated("Valid from 2026-03-01: 7 days."))
(True, '2026-03-01T00:00:00')
>>> same("7 days", "seven days"), same("7 days", "7 weeks")
(True, False)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import numpy as np

from casebook.retrieval.claims import measures
from casebook.retrieval.text import fold

_DATE = re.compile(r"\b(\d{4}-\d\d-\d\d)\b")
_WEEKDAY = "Mon|Tues|Wednes|Thurs|Fri|Satur|Sun"
_SPAN = "minute|hour|day|week|month|year"
#: At most so long, lest a line of digits and commas takes the square of its length.
_NUMBER = r"\b\d[\d.,]{0,30}(?<![.,]) ?"
#: Kind of a value → its form; the first in the text counts.
_FORMS = {
    "day and time": rf"\b(?:{_WEEKDAY})day at \d\d?:\d\d\b",
    "time": r"\b\d\d?:\d\d\b",
    "code": r"\b[A-Z]{1,3}-\d{2,5}\b",
    "share": rf"{_NUMBER}(?:%|per cent\b)",
    "money": rf"{_NUMBER}(?:euro|EUR)\b",
    "span": rf"{_NUMBER}(?:working )?(?:{_SPAN})s?\b",
}
_FORMS = {kind: re.compile(form, re.IGNORECASE) for kind, form in _FORMS.items()}
KINDS = (*_FORMS, "name", "count")
#: How a question asks → kinds of values that answer it.
_ASKS = {
    r"\bwho(?:m|se)?\b": ("name", "code"),
    r"\bwhere\b": ("name",),
    r"\bwhat (?:day|time)\b|\b(?:at|from) (?:what|which) (?:hour|time)\b": ("time", "day and time"),
    r"\bwhen\b": ("time", "day and time", "span"),
    r"\bhow (?:long|soon|early|late|often|fast|quickly|frequently)\b": ("span",),
    r"\bhow much (?:time|notice)\b": ("span",),
    r"\bhow many\b": ("count", "span"),
    r"\bhow much\b|\b(?:amount|sum|price|cost|fee)\b": ("money", "share"),
    r"\b(?:share|rate|portion|percentage|fraction|proportion)\b": ("share",),
    r"\b(?:identifier|code|number)\b": ("code",),
}
_ASKS = {re.compile(form, re.IGNORECASE): kinds for form, kinds in _ASKS.items()}
#: A name inside a sentence, with a small word after it.
_PROPER = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,} [a-z]{2,}\b")
_COUNT = re.compile(r"\b\d+\b")
_HEDGE = re.compile(
    r"\b(?:i heard|heard (?:at|that|from)|told me|pretty sure|apparently|rumou?rs?|supposedly"
    r"|i think|maybe|not sure|they say|if i remember)\b",
    re.IGNORECASE,
)
#: Words of a listed value.
_WORDS = 4


def listed(texts: Iterable[str]) -> frozenset[str]:
    """Return the values that points and rows list behind a colon, without a full stop.

    Parameters
    ----------
    texts : iterable of str
        Of :class:`~casebook.retrieval.lines.Line`, from what the reader may see.
    """
    found = set()
    for text in texts:
        head, colon, value = text.rpartition(": ")
        short = len(value.split()) <= _WORDS and len(head.split()) <= 3 * _WORDS
        if colon and short and not value.endswith((".", "?", "!")) and not re.search(r"\d", value):
            found.add(_bare(value))
    return frozenset(found - {""})


def value_of(text: str, known: Collection[str] = ()) -> str:
    """Return the value that a sentence states; '' if none is seen.

    Parameters
    ----------
    text : str
        Without names that are no values, such as those of teams.
    known : collection of str
        As of :func:`listed`: the longest one that stands in the text counts, after times, codes
        and measures and before other names with a capital and bare numbers.
    """
    plain = _DATE.sub(" ", text)
    found = [match for form in _FORMS.values() if (match := form.search(plain))]
    if found:
        return min(found, key=lambda match: match.start()).group()
    flat = f" {_flat(plain)} "
    if held := _names(frozenset(known), flat):
        return held
    match = _PROPER.search(plain) or _COUNT.search(plain)
    return match.group() if match else ""


def kind_of(value: str) -> str:
    """Return the kind of a value that was found, of :data:`KINDS`; '' for none.

    >>> [kind_of(one) for one in ("06:15", "3 weeks", "birch room", "14", "")]
    ['time', 'span', 'name', 'count', '']
    """
    for kind, form in _FORMS.items():
        if form.fullmatch(value):
            return kind
    return ("count" if value.isdigit() else "name") if value else ""


def asked_kinds(question: str) -> frozenset[str]:
    """Return the kinds of values that a question may ask for; none where its words do not tell.

    >>> sorted(asked_kinds("How early must I ask?")), sorted(asked_kinds("What about it?"))
    (['span'], [])
    """
    return frozenset(k for form, kinds in _ASKS.items() if form.search(question) for k in kinds)


def _names(known: frozenset[str], flat: str) -> str:
    return max((one for one in known if f" {one} " in flat), key=len, default="")


def _flat(text: str) -> str:
    return " ".join(re.findall(r"[\w’]+", fold(text)))


def _bare(value: str) -> str:
    """Return a value without its article, as words are compared."""
    words = _flat(value).split()
    return " ".join(words[1:] if words[:1] == ["the"] else words)


def same(one: str, other: str) -> bool:
    """Say whether two values are the same, in whatever spelling of numbers and units."""
    if _bare(one) == _bare(other):
        return True
    first, second = measures(one, "en"), measures(other, "en")
    counted = bool(first) and all(first.values())  # a code or a time counts nothing
    return counted and first == second


def hedged(text: str) -> bool:
    """Say whether the writer passes on what was heard."""
    return bool(_HEDGE.search(text))


def dated(text: str) -> np.datetime64 | None:
    """Return the day from which a sentence says that it holds, if it names one."""
    match = _DATE.search(text)
    try:
        return np.datetime64(match.group(1), "s") if match else None
    except ValueError:
        return None
