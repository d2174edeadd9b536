"""How personal data are written: the plain form of a text, patterns, and the checks behind them.

A text is searched in its plain form (:class:`Plain`): one kind of digit, space, dash and dot, and
no invisible characters. Each function of :data:`LOOKS` takes such a text and yields what has the
form of one kind of personal data and passes the kind's check: the numbering plans of telephones
(``phonenumbers``), length and check digits of accounts (``python-stdnum``), Luhn's digit of cards.

Words, gaps and repeats in the patterns are bounded, so that the time grows with the length of the
text and no faster, whoever wrote it.

Examples
--------
>>> [finding.kind for finding in phones("call 020 7946 0123")]
['phone']
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban as iban_number
from stdnum import luhn, numdb

#: Formats that are looked for; ``number`` is what has the length of one and fails its check.
KINDS = ("email", "iban", "card", "phone", "address", "number")

# Between two digits, as people write them; never three, or a list of prices would be one number.
_BETWEEN = r"[\s._/\-]{0,2}"
_DOMAIN = re.compile(r"@[\w\-]+(?:\.[\w\-]+)+")
_IBAN = re.compile(
    rf"(?<![^\W_])([A-Za-z])[ .-]?([A-Za-z])[ .-]?\d[ .-]?\d(?:{_BETWEEN}[A-Za-z0-9]){{11,30}}"
)
_TRACKING = re.compile(r"(?<![^\W_])[A-Za-z]{2}(?:[ .-]?\d){9}[ .-]?[A-Za-z]{2}(?![^\W_])")
_RUN = re.compile(rf"\d(?:{_BETWEEN}\d){{11,}}")
_REST = re.compile(r"(?:(?:[^\S\n]|[._/\-]){0,2}\d)*")
_GROUP = re.compile(r"\d+")
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
        (rf"{_NAMED}{_GAP}{_NUMBER_AND_CODE}{_GAP}{_CAPITAL}(?: {{1,10}}{_CAPITAL})?", 0),
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


@dataclass(frozen=True)
class Finding:
    """A piece of personal data: its format, and where it stands."""

    kind: str
    start: int
    end: int


# The plain form ------------------------------------------------------------------------


class Plain:
    """A text in the form that is searched, and where each of its characters stood.

    Compatibility forms are taken apart (NFKC: full-width letters, thin spaces). What nobody sees
    is dropped (format characters, selectors, fillers), and so are marks on the letter before:
    between the letters of an address either would hide it. Every digit, dash, space and dot becomes
    the one of ASCII. Line breaks stay.

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


#: Letters and symbols that are drawn as nothing, and code points kept for more of them (Unicode's
#: ``Default_Ignorable_Code_Point`` besides format characters and marks; the empty Braille cell).
_FILLERS = re.compile("[\u115f\u1160\u2065\u2800\u3164\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]")
_DOTS = "\u3002\u00b7\u2024\u2027\u30fb\uff61\u06d4"


@cache
def _plain(character: str) -> str:
    """Return what stands for a character in the plain form."""
    if character.isascii():
        return character
    if character in _DOTS:
        return "."
    kind = unicodedata.category(character)
    if kind in ("Cf", "Mn", "Me") or _FILLERS.match(character):
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


def emails(text: str) -> Iterator[Finding]:
    """Find domains behind an @, and go back from each over what may stand in front of it."""
    end = 0
    for match in _DOMAIN.finditer(text):
        start = match.start()
        while start > end and (text[start - 1].isalnum() or text[start - 1] in "_.+-'%"):
            start -= 1
        if start < match.start():
            end = match.end()
            yield Finding("email", start, end)


def spelled_emails(text: str) -> Iterator[Finding]:
    """Find e-mail addresses with gaps in them, in brackets, in words, or at a number."""
    for pattern in (_SPELLED, _SPOKEN, _AT_ADDRESS):
        yield from _matches("email", pattern, text)


def ibans(text: str) -> Iterator[Finding]:
    """Find bank accounts by country, length and check digits; ``number`` where these fail."""
    at = 0
    while match := _IBAN.search(text, at):
        # The pattern runs on into what stands behind, which may be another account: characters
        # are counted off by the country's length, and the search goes on from there.
        length, at = iban_length(match[1] + match[2]), match.start() + 1
        places = [i for i in range(match.start(), match.end()) if text[i].isalnum()]
        if not length or len(places) < length:
            continue
        places = places[:length]
        plain, end = "".join(text[i] for i in places), places[-1] + 1
        if iban_number.is_valid(plain, check_country=False):
            at = end
            yield Finding("iban", match.start(), end)
        elif sum(c.isdigit() for c in plain) >= 8 and places[3] == match.start() + 3:
            at = end
            yield Finding("number", match.start(), end)


def cards(text: str) -> Iterator[Finding]:
    """Find payment cards by beginning, length and Luhn's digit; ``number`` where this fails.

    A card stands between groups of digits as often as alone: the whole row is tried, and every part
    that is grouped like a card. Parts that overlap are one finding, and so is what stands behind
    them in the line, such as a card's last month and its code.
    """
    for run in _RUN.finditer(text):
        groups = [group.span() for group in _GROUP.finditer(text, *run.span())]
        parts = [
            f
            for first in range(len(groups))
            for f in _cards_from(text, groups[first : first + max(_CARDS)])
        ]
        if not parts and (kind := _card(re.sub(r"\D", "", run[0]))):
            parts = [Finding(kind, *run.span())]
        kind, start, end = "", 0, 0
        for found in parts:
            if kind and found.start >= end:
                yield Finding(kind, start, end)
                kind = ""
            if not kind:
                kind, start, end = found.kind, found.start, found.end
            kind = min(kind, found.kind)  # "card" before "number"
            end = max(end, _REST.match(text, found.end).end())
        if kind:
            yield Finding(kind, start, end)


def _card(digits: str) -> str:
    """Return what kind of finding a row of digits is: ``card``, ``number`` or nothing."""
    if not re.match(_CARDS.get(len(digits), "$"), digits):
        return ""
    return "card" if luhn.is_valid(digits) else "number" if len(digits) in (15, 16) else ""


def _cards_from(text: str, groups: list[tuple[int, int]]) -> Iterator[Finding]:
    """Yield what begins with the first of these groups and is grouped like a card."""
    (start, solid), sizes, digits = groups[0], [], ""
    for length in (15, 16):  # with something written behind it without a gap
        if start + length < solid and _card(text[start : start + length]) == "card":
            yield Finding("number", start, solid)
    for a, b in groups:
        sizes.append(b - a)
        if sum(sizes) > max(_CARDS):
            return
        digits += text[a:b]
        if (kind := _card(digits)) and _in_fours(sizes):
            yield Finding(kind, start, b)


def _in_fours(sizes: list[int]) -> bool:
    """Say whether groups are those of a card: all of one size but a shorter last one, or 4-6-5."""
    size, *_ = sizes
    alike = size in (1, 2, 4, 8) and set(sizes[:-1]) == {size} and sizes[-1] <= size
    return len(sizes) == 1 or alike or sizes in ([4, 6, 4], [4, 6, 5], [6, 13])


def phones(text: str) -> Iterator[Finding]:
    """Find telephone numbers; dates and amounts of something are none."""
    at = begun = 0
    while match := _PHONE.search(text, at):
        start, end = match.span()
        if date := _DATE.match(match[0]):
            at = begun = start + date.end()
        elif _UNIT.match(text, end):
            at = begun = end
        elif found := _phone_end(text, match, start >= begun):
            at = begun = found
            yield Finding("phone", start, found)
        else:  # another number may stand before it
            groups = _GROUP.finditer(text, start, end)
            at, begun = next((g.start() for g in groups if g.start() > start + 1), end), end


_AMERICAN = re.compile(r"\(?\d{3}\)?[-. ]{1,2}\d{3}[-.]\d{4}")


def _phone_end(text: str, match: re.Match[str], first: bool = False) -> int:
    """Return where a telephone number ends, at most with the match; 0 where there is none.

    One ends where the next begins, else with the last group with which it is a number.
    """
    start, end = match.span()
    ends = [group.end() for group in _GROUP.finditer(text, start, end)]
    heads = [b for b in ends if _is_phone(text[start:b], first and b == end)]
    for head in heads[:-1] if heads[-1:] == [end] else heads:
        behind = _GROUP.search(text, head)
        behind = behind and _PHONE.search(text, max(head, behind.start() - 2))
        if (
            behind
            and behind.start() <= end
            and any(
                _is_phone(text[behind.start() : group.end()])
                for group in _GROUP.finditer(text, *behind.span())
            )
        ):
            return head
    return heads[-1] if heads else 0


def _is_phone(said: str, alone: bool = False) -> bool:
    """Say whether a row of digits is a telephone number; one that stands alone, by plans too."""
    digits = re.sub(r"\D", "", said)
    if said.startswith(("+", "00")):
        return 8 <= len(digits) <= 15 + 2 * said.startswith("00")
    if digits.startswith("0"):
        return 9 <= len(digits) <= 15
    if len(digits) == 9 and digits[0] in "56789":
        return alone or not re.search(r"(?<!\d)\d(?!\d)", said)
    # Without a 0 or + in front: American numbers, in groups.
    said = re.sub(r"\s", " ", said)
    grouped = alone and bool(re.search(r"\d[ /().-]{1,3}\d", said))
    return bool(_AMERICAN.fullmatch(said)) or (
        grouped and any(PhoneNumberMatcher(said, "US", Leniency.STRICT_GROUPING))
    )


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[Finding]:
    return (Finding(kind, *match.span()) for match in pattern.finditer(text))


def addresses(text: str) -> Iterator[Finding]:
    """Find postal addresses: with a town first, then streets alone."""
    for pattern in _ADDRESS:
        yield from _matches("address", pattern, text)


def tracking_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the carrier's own numbers stand, which stay."""
    return (match.span() for match in _TRACKING.finditer(text))


#: What is looked for, in this order: what has a check comes first.
LOOKS = (emails, spelled_emails, ibans, cards, addresses, phones)
