"""Personal data, found and masked before anything is stored or sent.

Five formats are looked for: e-mail, phone (checked by ``phonenumbers`` where its form alone is not
clear), IBAN (length and check digits by ``python-stdnum``), payment card (Luhn), postal address.
Tracking numbers, article and form numbers stay: the system cannot work without them. A number that
has the length of a card or an IBAN and fails its check is masked too: a slip of the finger does not
make it public. Names are *not* found; no pattern tells them from other words.

A text is searched in its plain form (:class:`Plain`): one kind of digit, space, dash and dot, and
no invisible characters. What is found is masked where it stands in the text as it was written. A
number that is written over two messages is found by :func:`mask_turns` alone.

:class:`MaskedModel` and :class:`MaskedLog` are the only ways out: a model that may be elsewhere and
a log that is kept. Both mask what they are given, look once more, and refuse what is not clean.

The time that a search takes grows with the length of the text, and no faster, whoever wrote it:
words, gaps and repeats in the patterns are bounded, and a text beyond :data:`LONGEST` is refused.

Examples
--------
>>> mask("Call 020 7946 0123 or write to jane.doe@example.com").text
'Call [phone] or write to [email]'
>>> mask("where is EC314283557XA?").found
Counter()
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pandas as pd
from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban as iban_number
from stdnum import luhn, numdb

from casebook.llm import ChatModel, Chunk, Message, Reply, ResponseFormat, Tool

#: Formats that are looked for; ``number`` is what has the length of one and fails its check.
KINDS = ("email", "iban", "card", "phone", "address", "number")
#: Characters of the longest text that is searched.
LONGEST = 100_000
#: Messages of a conversation that are joined to look for what is written over several.
JOINED = 10

# Between two digits, as people write them; never three, or a list of prices would be one number.
_BETWEEN = r"[\s._/\-]{0,2}"
_DOMAIN = re.compile(r"@[\w\-]+(?:\.[\w\-]+)+")
_IBAN = re.compile(
    rf"(?<![^\W_])([A-Za-z])[ .-]?([A-Za-z])[ .-]?\d[ .-]?\d(?:{_BETWEEN}[A-Za-z0-9]){{11,30}}"
)
_TRACKING = re.compile(r"(?<![^\W_])[A-Za-z]{2}(?:[ .-]?\d){9}[ .-]?[A-Za-z]{2}(?![^\W_])")
_LONG = re.compile(rf"(?<!\d)(?<!\d[,.])\d(?:{_BETWEEN}\d){{11,18}}(?!\d)")
#: How cards begin, by the length of their number (ISO/IEC 7812 ranges of the large schemes).
_CARDS = {
    **dict.fromkeys((12, 13, 17, 18), r"5[06-8]|6"),
    13: r"4|5[06-8]|6",
    14: r"3[0689]",
    15: r"3[47]|5[06-8]|6",
    16: r"3[58]|4|5|6|2[2-7]",
    19: r"4|5[06-8]|6",
}
_PHONE = re.compile(
    r"(?<!\d)(?<!\d[,.])(?<![€£$])(?:\+ ?|00)?\(?\d(?:[\s/()._-]{0,3}\d){7,14}(?!\d)"
)
_SPELLED = re.compile(
    r"[\w.+'%-]{1,64}\s{0,2}(?:@|[\[({<]\s?(?:at|ät|arroba)\s?[\])}>])\s{0,2}"
    r"[\w-]{1,63}(?:\s?(?:\.|[\[({<]\s?(?:dot|punkt|punto)\s?[\])}>])\s?[\w-]{2,63}){1,3}",
    re.IGNORECASE,
)
_SPOKEN = re.compile(
    r"[\w.+'%]{1,64}[\s-]{1,2}(?:at|ät|arroba)[\s-]{1,2}[\w]{1,63}"
    r"(?:[\s-]{1,2}(?:dot|punkt|punto)[\s-]{1,2}\w{2,63}){0,2}"
    r"(?:[\s-]{1,2}(?:dot|punkt|punto)[\s-]{1,2}|\.)"
    r"(?:com|org|net|info|eu|de|at|ch|es|fr|it|nl|pt|pl|ie|uk|us|mx|example|test)(?!\w)",
    re.IGNORECASE,
)
_AT_ADDRESS = re.compile(r"[\w.+'%-]{1,64}@\[[\d.:a-fA-F]{2,40}\]")
_DATE = re.compile(r"(?:\d{4}|\d{1,2})[./-]\d{1,2}[./-](?:\d{4}|\d{2})(?![./-]?\d)")
_UNIT = re.compile(r"\s*(?:€|£|\$|%|eur|kg|gramm?|km\b|cm\b)", re.IGNORECASE)

# A word or a gap without a bound would be read again from each place in it.
_LETTERS = r"[\w'’.\-]{0,60}"
_GAP = r"\s{1,10}"
_MAYBE_GAP = r"\s{0,10}"
_WORD = rf"[^\W\d_]{_LETTERS}"
_CAPITAL = rf"[A-ZÄÖÜÁÉÍÓÚÑ]{_LETTERS}"
_PARTICLE = r"(?:de|del|dl|d|la|las|los|el|of|the|am|an der|auf der|im|zum|zur)"
_NAMED = rf"{_CAPITAL}(?:{_GAP}(?:{_PARTICLE}{_GAP}){{0,4}}{_CAPITAL}){{0,4}}"
_UNIT_OF = r"(?:flat|apartment|apt|unit|building|suite|block)\.?\s{1,10}\d{1,4}[a-z]?"
_HOUSE = r"\d{1,4}\s?[a-zA-Z]?\b"
_POSTCODE = r"(?:[A-Z]{1,2}-)?\d{5}"
_UK = r"[A-Z]{1,2}\d[\dA-Z]?\s?\d[A-Z]{2}"
_GERMAN = r"\w*(?:straße|strasse|str\.|gasse|allee|platz|steig|stieg|hag|damm|ufer|weg|ring)"
_ENGLISH = (
    r"(?:street|st|road|rd|lane|ln|avenue|ave|close|row|mews|parade|walk|yard|drive|court|terrace"
    r"|crescent|gardens|square|hill|way|place|grove)"
)
_SPANISH = (
    r"(?:calle|c/|avenida|avda\.?|av\.|plaza|pza\.?|paseo|ronda|camino|vereda|carretera"
    r"|travesía|callejón|cuesta|glorieta|rambla)"
)
#: A house number with a postcode of five digits behind it, and one with a comma or not.
_NUMBER_AND_CODE = rf"{_HOUSE}(?:{_MAYBE_GAP},)?{_GAP}{_POSTCODE}"
_ADDRESS = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        # A house number after the street, a postcode of five digits and a town.
        (rf"{_NAMED}{_GAP}{_NUMBER_AND_CODE}{_GAP}{_CAPITAL}(?:{_GAP}{_CAPITAL})?", 0),
        (rf"\b{_GERMAN}{_GAP}{_NUMBER_AND_CODE}{_GAP}{_WORD}", re.IGNORECASE),
        (
            rf"(?<!\w){_SPANISH}{_GAP}(?:{_WORD}{_GAP}){{1,5}}{_NUMBER_AND_CODE}{_GAP}{_WORD}",
            re.IGNORECASE,
        ),
        # A house number in front, a British postcode; a flat or the name of a house before it.
        (
            rf"(?:(?:{_UNIT_OF}|(?-i:{_NAMED})),{_MAYBE_GAP})?(?:\b{_UNIT_OF}|\b{_HOUSE}{_GAP}"
            rf"{_WORD}(?:{_GAP}{_WORD}){{0,4}}{_MAYBE_GAP})"
            rf"(?:,{_MAYBE_GAP}{_WORD}(?:{_GAP}{_WORD}){{0,3}}){{0,3}},?{_GAP}{_UK}\b",
            re.IGNORECASE,
        ),
        # A street without a town.
        (rf"\b\d{{1,4}}[a-z]?{_GAP}(?:{_CAPITAL}{_GAP}){{1,4}}(?i:{_ENGLISH})\b", 0),
        (
            rf"\b[A-ZÄÖÜ]{_GERMAN}{_GAP}\d{{1,4}}\s?[a-z]?\b"
            rf"(?!{_MAYBE_GAP}(?:€|kg|cm|%|tage|uhr))",
            0,
        ),
        (rf"(?<!\w){_SPANISH}{_GAP}(?:{_WORD}{_GAP}){{1,5}}\d{{1,4}}\b", re.IGNORECASE),
    )
)  # fmt: skip


class Free:
    """The places of a text that nothing was found at so far.

    Parameters
    ----------
    length : int
        Characters of the text.

    Examples
    --------
    >>> free = Free(10)
    >>> free.take(2, 5), free.take(4, 8), free.take(5, 8)
    (True, False, True)
    """

    def __init__(self, length: int) -> None:
        self._taken = bytearray(length)

    def take(self, start: int, end: int) -> bool:
        """Take a span; False, and nothing taken, when a part of it is not free."""
        if self._taken.find(1, start, end) >= 0:
            return False
        self._taken[start:end] = b"\x01" * (end - start)
        return True


@dataclass(frozen=True)
class Finding:
    """A piece of personal data: its format, and where it stands."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Masked:
    """A text that may be stored and sent.

    Attributes
    ----------
    text : str
        With ``[email]``, ``[phone]``, … in place of what was found.
    found : mapping of str to int
        How often by kind. The data themselves are nowhere in it.
    """

    text: str
    found: Mapping[str, int] = field(default_factory=dict)


class Leak(RuntimeError):
    """Something that looks like personal data was about to leave. The message does not hold it."""


# The plain form ------------------------------------------------------------------------


class Plain:
    """A text in the form that is searched, and where each of its characters stood.

    Compatibility forms are taken apart (NFKC: full-width letters, thin spaces), invisible
    characters (Unicode's format characters) are dropped, and every digit, dash, space and dot
    becomes the one of ASCII. Line breaks stay.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> plain = Plain("\uff14\u200b1\u20111")
    >>> plain.text, plain.span(1, 4)
    ('41-1', (2, 5))
    """

    def __init__(self, text: str) -> None:
        self._places: list[int] | None = None
        self.text = text
        if text.isascii():
            return
        pieces = [_plain(character) for character in text]
        self.text = "".join(pieces)
        self._places = [at for at, piece in enumerate(pieces) for _ in piece]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where characters of the plain form stand in the text."""
        if self._places is None:
            return start, end
        return self._places[start], self._places[end - 1] + 1


_DOTS = "\u3002\u00b7\u2024\u2027\u30fb\uff61\u06d4"


@cache
def _plain(character: str) -> str:
    """Return what stands for a character in the plain form."""
    if character.isascii():
        return character
    if character in _DOTS:
        return "."
    kind = unicodedata.category(character)
    if kind == "Cf":
        return ""
    if kind == "Nd":
        return str(unicodedata.decimal(character))
    if kind == "Pd" or character == "\u2212":
        return "-"
    if kind == "Zs":
        return " "
    return unicodedata.normalize("NFKC", character)


# What is looked for --------------------------------------------------------------------


@cache
def iban_length(country: str) -> int:
    """Return the characters of an IBAN by two-letter country code; 0 where there are none."""
    found = numdb.get("iban").info(f"{country.upper()}00")[0][1].get("bban", "")
    return 4 + sum(map(int, re.findall(r"(\d+)!", found))) if found else 0


def _emails(text: str) -> Iterator[Finding]:
    """Find domains behind an @, and go back from each over what may stand in front of it."""
    end = 0
    for match in _DOMAIN.finditer(text):
        start = match.start()
        while start > end and (text[start - 1].isalnum() or text[start - 1] in "_.+-'%"):
            start -= 1
        if start < match.start():
            end = match.end()
            yield Finding("email", start, end)


def _spelled(text: str) -> Iterator[Finding]:
    """Find e-mail addresses with gaps in them, in brackets, in words, or at a number."""
    for pattern in (_SPELLED, _SPOKEN, _AT_ADDRESS):
        yield from _matches("email", pattern, text)


def _ibans(text: str) -> Iterator[Finding]:
    for match in _IBAN.finditer(text):
        length = iban_length(match[1] + match[2])
        # The pattern runs on into the words behind: count characters off by the country's length.
        places = [i for i in range(match.start(), match.end()) if text[i].isalnum()]
        if not length or len(places) < length:
            continue
        places = places[:length]
        plain, end = "".join(text[i] for i in places), places[-1] + 1
        if iban_number.is_valid(plain, check_country=False):
            yield Finding("iban", match.start(), end)
        elif sum(c.isdigit() for c in plain) >= 8 and places[3] == match.start() + 3:
            yield Finding("number", match.start(), end)


def _cards(text: str) -> Iterator[Finding]:
    for match in _LONG.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        begins = re.match(_CARDS.get(len(digits), "$"), digits)
        if begins and luhn.is_valid(digits):
            yield Finding("card", *match.span())
        elif begins and len(digits) in (15, 16):
            yield Finding("number", *match.span())


def _phones(text: str) -> Iterator[Finding]:
    for match in _PHONE.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if _DATE.match(match[0]) or _UNIT.match(text, match.end()):
            continue
        if _is_phone(match[0], digits):
            yield Finding("phone", *match.span())


_AMERICAN = re.compile(r"\(?\d{3}\)?[-. ]{1,2}\d{3}[-.]\d{4}")


def _is_phone(said: str, digits: str) -> bool:
    """Say whether a row of digits is a telephone number by its form or by the numbering plans."""
    if said.startswith(("+", "00")):
        return 8 <= len(digits) <= 15 + 2 * said.startswith("00")
    if digits.startswith("0"):
        return 9 <= len(digits) <= 15
    if len(digits) == 9 and digits[0] in "56789":
        return True
    # Without a 0 or + in front: American numbers, in groups.
    said = re.sub(r"\s", " ", said)
    grouped = bool(re.search(r"\d[ /().-]{1,3}\d", said))
    return bool(_AMERICAN.fullmatch(said)) or (
        grouped and any(PhoneNumberMatcher(said, "US", Leniency.STRICT_GROUPING))
    )


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[Finding]:
    return (Finding(kind, *match.span()) for match in pattern.finditer(text))


def find(text: str) -> list[Finding]:
    """Find personal data.

    Parameters
    ----------
    text : str
        In English, German or Spanish.

    Returns
    -------
    list of Finding
        In the order of the text, not overlapping: what has a check comes first, and nothing is
        found inside of a tracking number.

    Raises
    ------
    ValueError
        If the text is longer than :data:`LONGEST`.
    """
    if len(text) > LONGEST:
        raise ValueError(
            f"A text of {len(text):,} characters is to be searched for personal data: at most "
            f"{LONGEST:,} are. Cut it, or hand it on in pieces."
        )
    plain = Plain(text)
    found = [Finding(f.kind, *plain.span(f.start, f.end)) for f in _find(plain.text)]
    return sorted(found, key=lambda finding: finding.start)


def _find(text: str) -> list[Finding]:
    """Find personal data in a plain text."""
    free, found = Free(len(text)), []
    for match in _TRACKING.finditer(text):
        free.take(*match.span())
    addresses = (f for pattern in _ADDRESS for f in _matches("address", pattern, text))
    looked = (_emails, _spelled, _ibans, _cards)
    for candidates in (*(look(text) for look in looked), addresses, _phones(text)):
        found += [f for f in candidates if free.take(f.start, f.end)]
    return found


def _with_masks(text: str, found: Sequence[Finding]) -> str:
    """Return a text with the masks of findings, which do not overlap, in their places."""
    pieces, at = [], 0
    for finding in sorted(found, key=lambda finding: finding.start):
        pieces += [text[at : finding.start], f"[{finding.kind}]"]
        at = finding.end
    return "".join([*pieces, text[at:]])


def mask(text: str) -> Masked:
    """Mask personal data.

    Parameters
    ----------
    text : str

    Returns
    -------
    Masked
    """
    found = find(text)
    return Masked(_with_masks(text, found), Counter(f.kind for f in found))


def mask_turns(turns: Sequence[str]) -> tuple[str, ...]:
    """Mask messages of one writer, each for itself and all as one text.

    A number that begins in one message and ends in another is masked in both. An address counts
    within a message only: two messages beside each other are often a word and a number.

    Parameters
    ----------
    turns : sequence of str
        In their order; masked ones may be among them. The last :data:`JOINED` are joined.

    Returns
    -------
    tuple of str
        As many.

    Examples
    --------
    >>> mask_turns(["my card is 4111 1111", "1111 1111, sorry"])
    ('my card is [card]', '[card], sorry')
    """
    first = max(0, len(turns) - JOINED)
    pieces = _over_turns(turns[first:])
    clean = [mask(turn).text for turn in turns[:first]]
    for turn, found in zip(turns[first:], pieces, strict=True):
        free = Free(len(turn))
        clean.append(
            _with_masks(turn, [f for f in (*found, *find(turn)) if free.take(f.start, f.end)])
        )
    return tuple(clean)


def _over_turns(turns: Sequence[str]) -> list[list[Finding]]:
    """Return for each message its part of what is found over more than one."""
    borders = [0]
    for turn in turns:
        borders.append(borders[-1] + len(turn) + 1)
    parts: list[list[Finding]] = [[] for _ in turns]
    if borders[-1] > LONGEST:
        return parts
    for found in find("\n".join(turns)):
        inside = [
            (row, max(found.start - at, 0), min(found.end - at, len(turns[row])))
            for row, at in enumerate(borders[:-1])
        ]
        inside = [(row, start, end) for row, start, end in inside if start < end]
        if len(inside) > 1 and found.kind not in ("address", "number"):
            for row, start, end in inside:
                parts[row].append(Finding(found.kind, start, end))
    return parts


_MASKS = re.compile(r"\[(?:" + "|".join(KINDS) + r")\]")


def without_masks(text: str) -> str:
    """Return a masked text without its masks, for a search that would look for their words."""
    return re.sub(r"\s+", " ", _MASKS.sub(" ", text)).strip()


def masked(value: Any) -> Any:
    """Mask every text in a value that could be written as JSON, keys included."""
    if isinstance(value, str):
        return mask(value).text
    if isinstance(value, Mapping):
        return {masked(key): masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def check_clean(text: str, where: str) -> str:
    """Return a text in which nothing is found.

    Raises
    ------
    Leak
        With kinds and counts, never with the text.
    """
    if found := find(text):
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(f.kind for f in found).items())
        raise Leak(f"Personal data were about to reach {where}: {kinds}. Nothing was sent.")
    return text


# The ways out ------------------------------------------------------------------------


class MaskedModel:
    """A chat model that never reads personal data: a wrapper around any other.

    Parameters
    ----------
    model : ChatModel

    Raises
    ------
    TypeError
        If it is no chat model.
    """

    def __init__(self, model: ChatModel) -> None:
        if isinstance(model, type) or not isinstance(model, ChatModel):
            raise TypeError("What is wrapped is no ChatModel: it needs name, complete and stream.")
        self.model, self.name = model, model.name

    def _clean(self, messages: Sequence[Message]) -> list[Message]:
        if any(message.images for message in messages):
            raise Leak("Images cannot be masked: nothing was sent.")
        said = [mask(message.content).text for message in messages]
        rows = [at for at, message in enumerate(messages) if message.role == "user"]
        for at, text in zip(rows, mask_turns([said[at] for at in rows]), strict=True):
            said[at] = text
        return [
            replace(
                message,
                content=check_clean(text, "a model"),
                tool_calls=tuple(
                    replace(call, arguments=masked(call.arguments)) for call in message.tool_calls
                ),
            )
            for message, text in zip(messages, said, strict=True)
        ]

    def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Reply:
        """Return the model's answer to the masked conversation; :class:`Leak` on an image."""
        clean = self._clean(messages)
        return self.model.complete(clean, tools=tools, response_format=response_format)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        response_format: ResponseFormat | None = None,
    ) -> Iterator[Chunk]:
        """Yield the model's answer to the masked conversation."""
        clean = self._clean(messages)
        return self.model.stream(clean, tools=tools, response_format=response_format)


class MaskedLog:
    """A log of JSON lines that never holds personal data.

    Parameters
    ----------
    write : callable
        Takes one line; such as the ``write`` of an open file.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, **record: Any) -> None:
        """Write a record.

        Raises
        ------
        Leak
            If something is still found after masking; nothing is written then.
        """
        line = json.dumps(masked(record), ensure_ascii=False, default=str)
        self._write(check_clean(line, "a log") + "\n")


# How well it works -------------------------------------------------------------------


def audit(texts: Mapping[str, str], entities: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold the masks against planted data.

    Parameters
    ----------
    texts : mapping of str to str
        By question.
    entities : DataFrame
        ``question``, ``type``, ``value``, ``start``, ``end``: all entities, those that are no
        personal data included.

    Returns
    -------
    recall : DataFrame
        Index ``type`` of personal data: ``planted``, ``masked`` (all characters but spaces and
        punctuation), ``recall``, ``named`` (of the masked ones: found as what they are).
    false : DataFrame
        ``question``, ``kind``, ``text``: what was masked and does not touch anything planted, or
        touches an entity that is needed.
    """
    personal = entities[entities["type"].isin(KINDS)]
    by_question = dict(list(entities.groupby("question")))
    planted, hit, named, false = Counter(), Counter(), Counter(), []
    for question, text in texts.items():
        found, rows = find(text), by_question.get(question, entities.iloc[:0])
        for row in rows[rows["type"].isin(KINDS)].itertuples():
            planted[row.type] += 1
            open_places = {i for i in range(row.start, row.end) if text[i].isalnum()}
            for finding in found:
                open_places -= set(range(finding.start, finding.end))
            hit[row.type] += not open_places
            named[row.type] += not open_places and any(
                f.kind == row.type and f.start < row.end and row.start < f.end for f in found
            )
        for finding in found:
            touched = rows[(rows["start"] < finding.end) & (finding.start < rows["end"])]
            if touched.empty or not touched["type"].isin(KINDS).all():
                false.append((question, finding.kind, text[finding.start : finding.end]))
    types = [kind for kind in KINDS if kind in set(personal["type"])]
    recall = pd.DataFrame(
        {
            "planted": [planted[t] for t in types],
            "masked": [hit[t] for t in types],
            "recall": [hit[t] / planted[t] for t in types],
            "named": [named[t] / max(hit[t], 1) for t in types],
        },
        index=pd.Index(types, name="type"),
    )
    return recall, pd.DataFrame(false, columns=["question", "kind", "text"])
