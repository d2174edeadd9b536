"""The last look at an answer before somebody reads it: facts, people, promises, requests, tone.

What an answer states has to stand in what the tools have returned in this conversation: sums, days,
durations, all other numbers, links, and what is said to have been done. That needs no
understanding, and it stops the "3 days" of a withdrawn article and of a model that guesses. An
answer may also ask for nothing that a service never asks for: cards, passwords, codes, a visit to
another page. A text is read in its plain form (:class:`casebook.serving.formats.Plain`), so that
other spaces and invisible characters hide nothing.

What it cannot stop: a true value at the wrong place, a false sentence without a value or a word of
the lists, the name of another customer. :func:`review` is measured on texts that its lists were not
written on.

Examples
--------
>>> results = [{"order": "10007", "sum": "€45.90", "pays_in": "7 to 10 business days"}]
>>> review("€45.90 will be on your account in 7-10 working days.", results)
[]
>>> review("I promise: it is there within 3 days!!", results)
[('value', '3 days'), ('promise', 'I promise'), ('tone', '!!')]
>>> review("Your refund has been approved. Please send us your password.", results)
[('promise', 'has been approved'), ('asks', 'send us your password')]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from casebook.serving import privacy
from casebook.serving.formats import Plain
from casebook.serving.toxicity import toxic

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_MONTH = "|".join(f"{one}|{one[:3]}" for one in _MONTHS)
_WORDS = (
    "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen|eighteen|nineteen|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)"
    "(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?|(?:a |one )?(?:hundred|thousand)"
    "|an?|half an?|a few|few|several|a couple of|a dozen)"
)
_SPAN = r"(?:minute|hour|hr|day|week|month|year)s?|fortnights?"
_COUNT = rf"(?:\d+(?:[.,]\d+)?|{_WORDS})"
STATED = re.compile(
    r"(?:[€£$] ?|\b(?:EUR|USD|GBP) ?)\d[\d,.]*"
    rf"|\b(?:\d[\d,.]*|{_WORDS}) ?(?:[€£$]|(?:euros?|EUR|cents?|dollars?|USD|bucks|pounds?|GBP)\b)"
    r"|\d+(?:[.,]\d+)? ?(?:%|per ?cent\b)"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)?\.? (?:of )?(?:{_MONTH})\b\.?(?:,? \d{{4}})?"
    rf"|\b(?:{_MONTH})\.? \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}})?"
    r"|\b\d{4}-\d\d?-\d\d?\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b"
    rf"|\b{_COUNT}(?:(?: to | or | ?- ?){_COUNT})?[ -]?(?:business |working )?(?:{_SPAN})\b"
    r"|\b\d+ ?(?:h|hrs?|d|min)\b"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b(?:tomorrow|tonight|midnight|weekend)\b"
    r"|\bnext (?:week|month|year)\b|\bend of (?:the |this )?(?:day|week|month|year)\b",
    re.IGNORECASE,
)
_DATE = re.compile(
    rf"(\d{{1,2}})\D{{0,3}}(?:of )?({_MONTH})\b\D{{0,2}}(\d{{4}})?"
    rf"|({_MONTH})\.? (\d{{1,2}})\D{{0,4}}(\d{{4}})?|(\d{{4}})-(\d\d?)-(\d\d?)"
    r"|(\d{1,2})[./](\d{1,2})[./](\d{2,4})"
)
#: What is said to have been done, by us.
_PARTICIPLE = (
    "(?:refunded|paid|repaid|reimbursed|credited|issued|approved|granted|accepted|processed"
    "|transferred|settled|authori[sz]ed)"
)
_DONE = re.compile(
    rf"\b(?:i|we)(?: have|'ve| had)?(?: already| just| now)* {_PARTICIPLE}\b"
    r"|(?<!you )(?<!you've )\b(?:has|have|had|was|were|is|are|got)"
    rf"(?: already| just| now| been| being)* {_PARTICIPLE}\b"
    r"|\b(?:refund|money|amount|sum|payment) (?:is|are)(?: already)? (?:on its way|under ?way)\b",
    re.IGNORECASE,
)
_PROMISES = re.compile(
    r"\b(?:i|we)(?: can)? (?:promise|guarantee|assure)|\bguaranteed?\b|\bexception\b|\bfor sure\b"
    r"|\byou are (?:absolutely )?right\b|\b(?:will|is going to|shall) be (?:refunded|paid|repaid)\b"
    r"|\b(?:i|we)(?:'ll| will| shall| am going to| are going to) (?:refund|pay|repay|credit)\b"
    r"|\bright away\b|\bimmediately\b|\bno matter what\b|\b(?:full|complete|whole) refund\b"
    r"|\byou(?:'ll| will| are going to) (?:get|receive|have) (?:all |the whole |your )"
    r"(?:of it|money|sum|refund)\b|\b(?:discount|voucher|free of charge|goodwill)\b",
    re.IGNORECASE,
)
_RIGHT = re.compile(
    r"\b(?:can|may|could|allowed|eligible|entitled|free|(?:do not|don't|need not) have)\b"
    r".*\b(?:return|send|sent|refund|keep|exchange|ship)",
    re.IGNORECASE,
)
_SECRET = (
    r"(?:cards?\b(?! that)|cvc|cvv|(?:security|one-time|access) code|code that you|pin\b|password"
    r"|passcode|log-?in|iban|bank (?:account|details)|passport|identity card|signature)"
)
_ASKS = re.compile(
    r"\b(?:send|tell|give|reply|confirm|enter|type|share|provide|verify|forward|mail|add|need"
    rf"|what is|what's)\b[^.!?]{{0,40}}?{_SECRET}"
    r"|\b(?:click (?:here|on)|log in at|install|download|whatsapp|telegram)\b",
    re.IGNORECASE,
)
_NEVER = re.compile(r"\b(?:never|do not|don't|nobody|not)\b", re.IGNORECASE)
_LINK = re.compile(
    r"\bhttps?://\S+|\bwww\.\S+|(?<![@\w.-])[a-z0-9-]{2,}(?:\.[a-z0-9-]+)*\.[a-z]{2,}/\S*"
    r"|(?<![@\w.-])[a-z0-9-]{2,}\.(?:com|net|org|info|io|co|eu|example)\b",
    re.IGNORECASE,
)
_TONE = re.compile(
    r"\bas an ai\b|language model|\bcalm down\b|\bobviously\b|\byour (?:own )?fault\b"
    r"|\byou people\b|!{2,}|\blol\b|\bwhatever\b|\bgonna\b|\bnot my problem\b|\bhonestly\b",
    re.IGNORECASE,
)
_SHOUTED = re.compile(r"(?:\b[A-Z]{2,}\b\W+){3}[A-Z]{2,}\b")
_NUMBER = re.compile(r"(?<!\d)\d{5}(?!\d)|\bC\d{3,6}\b", re.IGNORECASE)
#: A number whose digits are written apart.
_APART = re.compile(r"(?<!\d)\d(?:[ .-]\d){4,}(?!\d)")
#: What a review can find.
FAULTS = ("value", "other people", "promise", "asks", "tone")


def _dated(text: str) -> str:
    """Return a day as ``4 june 2026`` or ``4 june``; empty if the text is none."""
    if not (found := _DATE.fullmatch(text)):
        return ""
    a, b, c, d, e, f, year, month, day, g, h, i = found.groups()
    day, month, year = (
        (a, b, c) if a else (e, d, f) if d else (day, month, year) if day else (g, h, i)
    )
    if month.isdigit():
        month = _MONTHS[int(month) - 1] if 0 < int(month) < 13 else month
    name = next((one for one in _MONTHS if one.startswith(month)), month)
    return f"{int(day)} {name}" + (f" {year}" if year else "")


def _plain(value: str) -> str:
    """Return a value in one spelling: ``€45.90``, ``7 to 10 business days``, ``4 june 2026``."""
    text = re.sub(r"(?<=[\w.]) ?- ?(?=\w)", "-", value.casefold()).strip(" .,")
    if dated := _dated(text):
        return dated
    text = re.sub(r"(?<=\d)-(?=\d)", " to ", text).replace("working", "business")
    text = re.sub(r"^(?:eur|€) ?([\d.,]+)$|^([\d.,]+) ?(?:eur|euros?|€)$", r"€\1\2", text)
    text = re.sub(r",(?=\d{3}\b)", "", text)
    text = re.sub(r"(?<=\d) ?(?:hrs?|h)$", " hours", re.sub(r"(?<=\d) ?d$", " days", text))
    return re.sub(r"\b(day|hour|minute|week|month|year)$", r"\1s", text)


def stated(text: str) -> set[str]:
    """Return the values that a text states, each in one spelling.

    >>> sorted(stated("€45.90 within 7-10 working days, on 2026-06-04"))
    ['4 june 2026', '7 to 10 business days', '€45.90']
    """
    return {_plain(found[0]) for found in STATED.finditer(Plain(text).text)}


def _values(text: str, seen: str) -> Iterator[str]:
    """Yield values, and other numbers, of a plain text that stand nowhere in what was seen."""
    known = stated(seen)
    known |= {one.rsplit(" ", 1)[0] for one in known if re.fullmatch(r"\d+ [a-z]+ \d{4}", one)}
    yield from sorted({_plain(one[0]) for one in STATED.finditer(text)} - known)
    rest, numbers = _NUMBER.sub(" ", STATED.sub(" ", text)), set(re.findall(r"\d+", seen))
    yield from (n for n in re.findall(r"\d+", rest) if n not in numbers)


def _claims(text: str, seen: str, values: set[str]) -> Iterator[str]:
    """Yield promises, and effects or rights that nothing returned bears out."""
    low = seen.casefold()
    for match in _PROMISES.finditer(text):
        if match[0].casefold() not in low:
            yield match[0]
    for match in _DONE.finditer(text):
        participle = match[0].casefold().split()[-1]
        if participle not in values and match[0].casefold() not in low:
            yield match[0]
    for sentence in re.split(r"(?<=[.!?:;])\s+", text):
        words = {w[:5] for w in re.findall(r"[a-z]{4,}", sentence.casefold())}
        if _RIGHT.search(sentence) and not all(word in low for word in words - _COMMON):
            yield sentence


#: Beginnings of words that say nothing about a right.
_COMMON = {"allow", "also", "back", "could", "from", "have", "into", "need", "once", "order",
           "please"[:5], "send", "sent", "that", "them", "then", "this", "what", "when", "which",
           "withi", "with", "your", "cannot"[:5], "retur", "refun", "deliv"}  # fmt: skip


def _requests(text: str, seen: str) -> Iterator[str]:
    """Yield what a service never asks for, and links that nothing returned holds."""
    for sentence in re.split(r"(?<=[.!?:;])\s+", text):
        if not _NEVER.search(sentence):
            yield from (match[0] for match in _ASKS.finditer(sentence))
    yield from (link for link in _LINK.findall(text) if link.casefold() not in seen.casefold())


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.casefold()
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(one)


def review(
    text: str, results: Iterable[Mapping[str, Any]], own: Iterable[str] = ()
) -> list[tuple[str, str]]:
    """Return what is wrong with an answer: fault (of ``FAULTS``) and the words.

    Parameters
    ----------
    text : str
    results : iterable of mapping
        What the tools have returned in this conversation, without the texts of strangers. A
        participle among the values ("refunded") lets an answer say that this was done.
    own : iterable of str
        Numbers, addresses and names of this customer, which may be said.
    """
    results, may = list(results), set(own)
    said = _APART.sub(lambda m: re.sub(r"\D", "", m[0]), Plain(text).text).replace("’", "'")
    seen = Plain(json.dumps(results, ensure_ascii=False)).text
    for one in sorted(may - {""}, key=len, reverse=True):
        said = said.replace(one, " ")
    found = [("value", one) for one in _values(said, seen)]
    there = {one.casefold() for one in _NUMBER.findall(seen)}
    numbers = _NUMBER.findall(said)
    found += [("other people", n) for n in numbers if n.casefold() not in there]
    there = (text[one.start : one.end] for one in privacy.find(text))
    found += [("other people", one) for one in there if one not in may]
    found += [("promise", one) for one in _claims(said, seen, set(_strings(results)))]
    found += [("asks", one) for one in _requests(said, seen)]
    found += [
        ("tone", match[0]) for pattern in (_TONE, _SHOUTED) for match in pattern.finditer(text)
    ]
    return found + [("tone", text[one.start : one.end]) for one in toxic(text)]
