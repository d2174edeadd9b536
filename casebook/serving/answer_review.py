"""The last look at an answer before somebody reads it: facts, other people, promises, tone.

What an answer states in sums, days and durations has to stand in what the tools have returned in
this conversation. That needs no understanding, and it stops the "3 days" of a withdrawn article and
of a model that guesses. What it cannot stop: a true value at the wrong place.

Examples
--------
>>> results = [{"order": "10007", "sum": "€45.90", "pays_in": "7 to 10 business days"}]
>>> review("€45.90 will be on your account in 7-10 working days.", results)
[]
>>> review("I promise: it is there within 3 days!!", results)
[('value', '3 days'), ('promise', 'I promise'), ('tone', '!!')]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from casebook.serving import privacy
from casebook.serving.toxicity import toxic

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
STATED = re.compile(
    r"(?:€ ?|\bEUR ?)\d[\d,.]*\d|\b\d[\d,.]* ?(?:€|euros?\b|EUR\b)"
    rf"|\b\d{{1,2}}\.? (?:{_MONTHS})(?: \d{{4}})?"
    r"|\b\d+(?:(?: to | ?[-–] ?)\d+)? ?(?:business |working )?(?:minute|hour|day|week|month)s?\b"
    r"|\b(?:one|two|three|four|five|a few) (?:business |working )?(?:hour|day|week)s?\b",
    re.IGNORECASE,
)
_PROMISES = re.compile(
    r"\b(?:i|we) (?:promise|guarantee|assure)|\bguaranteed?\b|\bmake an exception\b|\bfor sure\b"
    r"|\byou are (?:absolutely )?right\b|\bi (?:have|'ve) (?:already )?(?:refunded|paid|approved)\b"
    r"|\b(?:will|is going to) be refunded\b|\bright away\b|\bimmediately\b|\bno matter what\b",
    re.IGNORECASE,
)
_TONE = re.compile(
    r"\bas an ai\b|language model|\bcalm down\b|\bobviously\b|\byour (?:own )?fault\b"
    r"|\byou people\b|!{2,}|\blol\b|\bwhatever\b|\bgonna\b|\bnot my problem\b|\bhonestly\b",
    re.IGNORECASE,
)
_SHOUTED = re.compile(r"(?:\b[A-Z]{2,}\b\W+){3}[A-Z]{2,}\b")
_NUMBER = re.compile(r"(?<!\d)\d{5}(?!\d)|\bC\d{3,6}\b")
#: What a review can find.
FAULTS = ("value", "other people", "promise", "tone")


def _plain(value: str) -> str:
    """Return a value in one spelling: ``€45.90``, ``7 to 10 business days``."""
    text = re.sub(r"(?<=\d) ?[-–] ?(?=\d)", " to ", value.casefold())
    text = text.replace("working", "business").replace("eur ", "€").replace(",", "")
    text = re.sub(r"[\s.](?=\s|$)|(?<=€) ", "", text)
    return re.sub(r"\b(day|hour|minute|week|month)\b", r"\1s", text)


def stated(text: str) -> set[str]:
    """Return the values that a text states, each in one spelling.

    >>> sorted(stated("€45.90 within 7-10 working days"))
    ['7 to 10 business days', '€45.90']
    """
    return {_plain(found) for found in STATED.findall(text)}


def review(
    text: str, results: Iterable[Mapping[str, Any]], own: Iterable[str] = ()
) -> list[tuple[str, str]]:
    """Return what is wrong with an answer: fault (of ``FAULTS``) and the words.

    Parameters
    ----------
    text : str
    results : iterable of mapping
        What the tools have returned in this conversation, without the texts of strangers.
    own : iterable of str
        Numbers, addresses and names of this customer, which may be said.
    """
    seen, may = json.dumps(list(results), ensure_ascii=False), set(own)
    found = [("value", one) for one in sorted(stated(text) - stated(seen))]
    there = may | set(_NUMBER.findall(seen))
    found += [("other people", n) for n in _NUMBER.findall(text) if n not in there]
    said = (text[one.start : one.end] for one in privacy.find(text))
    found += [("other people", one) for one in said if one not in may]
    found += [("promise", match[0]) for match in _PROMISES.finditer(text)]
    found += [
        ("tone", match[0]) for pattern in (_TONE, _SHOUTED) for match in pattern.finditer(text)
    ]
    return found + [("tone", text[one.start : one.end]) for one in toxic(text)]
