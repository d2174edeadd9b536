"""Personal data, found and masked before anything is stored or sent.

Five formats are looked for: e-mail, phone, IBAN (check by modulus 97), payment card (Luhn), postal
address. Tracking numbers, article and form numbers stay: the system cannot work without them. A
number that has the length of a card or an IBAN and fails its check is masked too: a slip of the
finger does not make it public. Names are *not* found; no pattern tells them from other words.

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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from casebook.llm import ChatModel, Chunk, Message, Reply, ResponseFormat, Tool

#: Formats that are looked for; ``number`` is what has the length of one and fails its check.
KINDS = ("email", "iban", "card", "phone", "address", "number")
#: Characters of the longest text that is searched.
LONGEST = 100_000
#: Characters of an IBAN by country (SWIFT's registry).
IBAN_LENGTH = {
    **{"AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20},
    **{"ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IS": 26},
    **{"IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MT": 31, "NL": 18, "NO": 15, "PL": 28},
    **{"PT": 25, "RO": 24, "SE": 24, "SI": 19, "SK": 24, "TR": 26},
}

_DOMAIN = re.compile(r"@[\w\-]+(?:\.[\w\-]+)+")
_IBAN = re.compile(r"(?<![^\W_])([A-Za-z]{2})\d{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,30}")
_TRACKING = re.compile(r"(?<![^\W_])[A-Za-z]{2}(?:[ .-]?\d){9}[ .-]?[A-Za-z]{2}(?![^\W_])")
_LONG = re.compile(r"(?<![\w,.])\d(?:[ \u00a0-]?\d){11,18}(?!\w)")
_PHONE = re.compile(r"(?<![\w,.€£$-])(?:\+ ?|00)?\(?\d(?:[ \u00a0/().-]{0,2}\d){7,13}(?!\w)")
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{2,4}")
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


def luhn(digits: str) -> bool:
    """Say whether the last digit of a card number fits the others (ISO/IEC 7812-1)."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0


def mod97(iban: str) -> bool:
    """Say whether the check digits of an IBAN fit (ISO 13616): the remainder by 97 is 1.

    Parameters
    ----------
    iban : str
        Letters and digits, without spaces.
    """
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def _emails(text: str) -> Iterator[Finding]:
    """Find domains behind an @, and go back from each over what may stand in front of it."""
    end = 0
    for match in _DOMAIN.finditer(text):
        start = match.start()
        while start > end and (text[start - 1].isalnum() or text[start - 1] in "_.+-'"):
            start -= 1
        if start < match.start():
            end = match.end()
            yield Finding("email", start, end)


def _ibans(text: str) -> Iterator[Finding]:
    for match in _IBAN.finditer(text):
        length = IBAN_LENGTH.get(match[1].upper())
        if length is None:
            continue
        # The pattern runs on into the words behind: count characters off by the country's length.
        places = [i for i in range(match.start(), match.end()) if text[i].isalnum()]
        if len(places) < length:
            continue
        end = places[length - 1] + 1
        plain = "".join(text[i] for i in places[:length])
        if sum(c.isdigit() for c in plain) < 8:
            continue
        yield Finding("iban" if mod97(plain) else "number", match.start(), end)


def _cards(text: str) -> Iterator[Finding]:
    for match in _LONG.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        card = 13 <= len(digits) <= 19 and luhn(digits)
        if card or not (digits.startswith("00") or len(digits) < 13):
            yield Finding("card" if card else "number", *match.span())


def _phones(text: str) -> Iterator[Finding]:
    for match in _PHONE.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        international = match[0].startswith(("+", "00"))
        local = digits.startswith("0") or (len(digits) == 9 and digits[0] in "56789")
        if _DATE.match(match[0]) or _UNIT.match(text, match.end()):
            continue
        if 8 <= len(digits) <= 15 and (international or (local and len(digits) >= 9)):
            yield Finding("phone", *match.span())


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
    free, found = Free(len(text)), []
    for match in _TRACKING.finditer(text):
        free.take(*match.span())
    addresses = (f for pattern in _ADDRESS for f in _matches("address", pattern, text))
    for candidates in (_emails(text), _ibans(text), _cards(text), addresses, _phones(text)):
        found += [f for f in candidates if free.take(f.start, f.end)]
    return sorted(found, key=lambda finding: finding.start)


def mask(text: str) -> Masked:
    """Mask personal data.

    Parameters
    ----------
    text : str

    Returns
    -------
    Masked
    """
    found, pieces, at = find(text), [], 0
    for finding in found:
        pieces += [text[at : finding.start], f"[{finding.kind}]"]
        at = finding.end
    return Masked("".join([*pieces, text[at:]]), Counter(f.kind for f in found))


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
        return [
            replace(
                message,
                content=check_clean(mask(message.content).text, "a model"),
                tool_calls=tuple(
                    replace(call, arguments=masked(call.arguments)) for call in message.tool_calls
                ),
            )
            for message in messages
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
