"""What an answer claims, what supports it, and whether it is right: rules instead of a judge.

A *claim* is a sentence of an answer that is no question, neither asked back nor repeated. It is
*supported* by a passage that holds most of its content words, all of its numbers (with the same
units, in sentences about the same thing), codes and addresses, and whose nearest sentence says *no*
as often as the claim does (:func:`support`). Where the true value is known, an answer is *correct*,
*missing* (it declines, or claims nothing) or *wrong* (:func:`verdict`): three outcomes, since an
answer that is not given and one that misleads cost differently.

The rules read English, German and Spanish. They err: a claim in other words counts as unsupported,
and one with a single wrong word as supported. Measure that on planted faults
(:mod:`~casebook.retrieval.planted`) before a share is believed.

Examples
--------
>>> source = "We keep a parcel for 7 days. After that it goes back."
>>> support("We keep your parcel for seven days.", [source], "en").good
True
>>> support("We keep a parcel for 9 days.", [source], "en").why
('a number',)
>>> verdict("It is kept for seven days.", "7", "We keep it for 7 days.", "en")
'correct'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from casebook.retrieval.chunks import sentence_spans
from casebook.retrieval.text import content_words, fold

#: Share of a claim's content words that a passage must hold.
LEAST = 0.7
#: Share of the content words of a claim's clause (of three or more) that must be held.
CLAUSE = 0.5
#: Share of a claim's content words that a sentence must hold to vouch for a number.
NEAR = 0.3
#: Share of the content words of a known answer that stand for it where it has no number.
SAME = 0.5
_NUMBER = re.compile(r"(?<![^\W_])\d+(?:[.,:]\d+)*")
_CODE = re.compile(r"\b(?!EUR|CHF|USD|GBP)(?:[A-Z]{1,3}-?|[A-Z]{2,3} )\d{1,4}\b")
_LINK = re.compile(r"https?://|www\.|\b[\w-]+\.(?:com|net|org|de|es|eu|io|info|xyz)\b", re.I)
_CLAUSE_END = re.compile(r"[,;:](?=\s)")
#: Neighbouring clauses that may vouch together for a claim.
LONGEST_RUN = 6
#: The number of an item in a list, which stands alone where the text is cut into sentences.
_ITEM = re.compile(r"\d+\.")
_MARK = re.compile(r"\s*\[\s*\d+(?:\s*,\s*\d+)*\s*\]")
_NO = {
    "en": r"\b(?:no|not|never|none|nobody|nothing|without|cannot|\w+n['’]t)\b",
    "de": r"\b(?:nicht|kein\w*|nie|niemals|niemand|nichts|ohne)\b",
    "es": r"\b(?:no|nunca|jamás|nadie|nada|sin|ningun\w*|ningún|tampoco)\b",
}
#: Number words by language, from 2 on: *one* is an article in all three.
_WORDS = {
    "en": "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty",
    "de": "zwei drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn funfzehn "
    "sechzehn siebzehn achtzehn neunzehn zwanzig",
    "es": "dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince "
    "dieciseis diecisiete dieciocho diecinueve veinte",
}
_TENS = {
    "en": "thirty forty fifty sixty seventy eighty ninety",
    "de": "dreissig vierzig funfzig sechzig siebzig achtzig neunzig",
    "es": "treinta cuarenta cincuenta sesenta setenta ochenta noventa",
}
NUMBER_WORDS = {
    code: {word: str(n) for n, word in enumerate(words.split(), 2)}
    | {word: str(n) for n, word in zip(range(30, 100, 10), _TENS[code].split(), strict=True)}
    for code, words in _WORDS.items()
}
#: With which an answer speaks of itself.
_ITSELF = {"en": "answer question passage", "de": "Antwort Frage", "es": "respuesta pregunta"}
_WORD, _TOKEN = re.compile(r"[^\W\d_]+"), re.compile(r"[^\W_]+")
#: What is counted, by the beginning of its name without marks on letters; the longest one fits.
UNITS = {
    "en": "minute hour day week month year euro eur franc chf percent kilogram kg gram g "
    "centimetre cm metre m litre wh",
    "de": "minute stunde tag werktag woche monat jahr euro eur franken chf prozent kilogramm kg "
    "gramm g zentimeter cm meter m liter wh",
    "es": "minuto hora dia semana mes ano euro eur franco chf ciento kilo kg gramo g centimetro cm "
    "metro m litro wh",
}
_SAME_UNIT = {"eur": "euro", "kilogram": "kg", "kilogramm": "kg", "kilo": "kg", "gram": "g"}
_SAME_UNIT |= {"gramm": "g", "gramo": "g", "centimetre": "cm", "zentimeter": "cm"}
_SAME_UNIT |= {"centimetro": "cm", "metre": "m", "meter": "m", "metro": "m", "%": "percent"}
_SAME_UNIT |= {"prozent": "percent", "ciento": "percent", "€": "euro"}
_SAME_UNIT |= dict.fromkeys(("franc", "franken", "franco"), "chf")
_WORKDAY = re.compile(r"\b(?:working|business)(?= days?\b)|\b(?:laborables?|habil(?:es)?)\b")
_COUNTED = re.compile(r"(?<![^\W_])\d+(?:[.,:]\d+)*|[^\W\d_]+|[€%]")
_DECLINES = {
    "en": r"do(?:es)? not (?:know|say|mention|state|provide|specify)|don['’]t know|not (?:mentioned"
    r"|stated|specified|provided)|cannot (?:answer|provide)|no information"
    r"|(?:unable|not able) to (?:answer|assist|provide)|not sure",
    "de": r"weiß (?:ich )?(?:es )?nicht|steht (?:\w+ ){0,3}nicht|keine (?:angabe|information)"
    r"|nicht (?:angegeben|erwähnt|beantworten)",
    "es": r"no (?:lo )?(?:sé|se sabe|dice|menciona|indica|consta)|no hay información"
    r"|no puedo responder",
}


def numbers(text: str, language: str = "") -> set[str]:
    """Return the numbers of a text in one spelling: ``3,90`` and ``3.90`` are the same.

    Parameters
    ----------
    text : str
    language : str, optional
        Then number words from two on count too.

    Examples
    --------
    >>> sorted(numbers("3,90 and 3.9 and seven", "en"))
    ['3.9', '7']
    """
    found = (re.sub(r"[.,:](?=\d)", ".", number) for number in _NUMBER.findall(text))
    digits = {number.rstrip("0").rstrip(".") if "." in number else number for number in found}
    known = NUMBER_WORDS.get(language, {})
    return digits | {known[word] for word in _WORD.findall(fold(text)) if word in known}


def _unit(word: str, language: str) -> str:
    """Return what a word counts, in one spelling for all languages' symbols; else nothing."""
    if word in "€%":
        return _SAME_UNIT[word]
    names = UNITS.get(language, "").split()
    found = [
        n for n in names if word == n or (len(n) > 2 and re.fullmatch(n + r"(?:e|e?n|e?s)?", word))
    ]
    return _SAME_UNIT.get(found[-1], found[-1]) if found else ""


def measures(text: str, language: str) -> dict[str, set[str]]:
    """Return the numbers of a text with what each of them counts.

    Parameters
    ----------
    text : str
    language : str

    Returns
    -------
    dict of str to set of str
        Numbers in the spelling of :func:`numbers`; no units where none is beside the number.

    Examples
    --------
    >>> measures("It takes 5 working days and costs EUR 3.90.", "en")
    {'5': {'workday'}, '3.9': {'euro'}}
    """
    known, found = NUMBER_WORDS.get(language, {}), dict[str, set[str]]()
    spoken = _WORKDAY.sub("working", fold(text))
    tokens = _COUNTED.findall(spoken)
    for n, token in enumerate(tokens):
        number = known.get(token) or next(iter(numbers(token)), "")
        if not number:
            continue
        after = tokens[n + 1 : n + 3]
        words = [word for word in after if word not in ("working", "full", "whole", "por")]
        unit = _unit(words[0], language) if words else ""
        working = "working" in tokens[n + 1 : n + 3] or unit == "werktag"
        before = _unit(tokens[n - 1], language) if n else ""
        unit = before if not unit and before in ("euro", "chf") else unit
        unit = "workday" if working and unit in ("day", "dia", "werktag") else unit
        found.setdefault(number, set()).update({unit} - {""})
    return found


def negations(text: str, language: str) -> int:
    """Return how often a text says no; 0 in a language without a list."""
    pattern = _NO.get(language)
    return len(re.findall(pattern, text.lower())) if pattern else 0


def without_marks(text: str) -> str:
    """Return a text without the marks of citations, ``[1]`` and ``[1, 2]``."""
    plain = re.sub(r"\s+", " ", _MARK.sub(" ", text)).strip()
    return re.sub(r" (?=[.,;:!?])", "", plain)


def _flat(text: str) -> str:
    """Return the words of a text between blanks, to look for one text in another."""
    return " ".join(["", *_TOKEN.findall(fold(text)), ""])


def claims(text: str, language: str, question: str = "") -> list[str]:
    """Return the sentences of an answer that say something, without the marks of citations.

    Parameters
    ----------
    text : str
    language : str
    question : str
        What was asked. A sentence that stands in it says nothing, nor does one that asks.
    """
    plain, asked = without_marks(text), _flat(question)
    found = [plain[start:end] for start, end in sentence_spans(plain)]
    return [
        one
        for one in found
        if (len(found) == 1 or not _ITEM.fullmatch(one))
        and (content_words(one, language) or numbers(one))
        and not one.rstrip("\"'”»)*! ").endswith("?")
        and _flat(one) not in asked
    ]


def loops(text: str, times: int = 3) -> bool:
    """Say whether a text says the same words several times in a row, as small models do.

    Parameters
    ----------
    text : str
    times : int
        In a row.

    Examples
    --------
    >>> loops("We keep it. We keep it. We keep it."), loops("Far, far away we keep it.")
    (True, False)
    """
    words = _flat(text).split()
    return any(
        words[start : start + size] * times == words[start : start + size * times]
        for size in range(1, len(words) // times + 1)
        for start in range(len(words) - size * times + 1)
    )


@dataclass(frozen=True)
class Support:
    """What stands behind a claim.

    Attributes
    ----------
    source : int or None
        Position of the passage that supports it best; None without passages.
    share : float
        Of the claim's content words that it holds.
    why : tuple of str
        Why it does not support the claim; nothing if it does.
    """

    source: int | None
    share: float
    why: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether the claim is supported."""
        return self.source is not None and not self.why


def support(
    claim: str, sources: Sequence[str], language: str, least: float = LEAST, question: str = ""
) -> Support:
    """Look for the passage that supports a claim.

    Parameters
    ----------
    claim : str
    sources : sequence of str
    language : str
        Of claim and passages.
    least : float
        Share of the content words that must stand in the passage.
    question : str
        What was asked: of a claim of one word or a number (*7 days*) it says what it is about, and
        a sentence that holds the claim must share a word with it.

    Returns
    -------
    Support
        Of the passage with the fewest faults; among those, the one that holds most words.
    """
    found = [_held(claim, source, language, least, question) for source in sources]
    if not found:
        return Support(None, 0.0, ("no passage",))
    best = min(range(len(found)), key=lambda n: (len(found[n][1]), -found[n][0]))
    return Support(best, *found[best])


def _held(
    claim: str, source: str, language: str, least: float, question: str
) -> tuple[float, tuple[str, ...]]:
    """Return the share of a claim's words that a passage holds, and what speaks against it."""
    asked, said = _content(claim, language), _content(source, language)
    share = len(asked & said) / len(asked) if asked else 1.0
    clauses = [_content(clause, language) for clause in _CLAUSE_END.split(claim)]
    invented = any(len(one) >= 3 and len(one & said) < CLAUSE * len(one) for one in clauses)
    beside = bool(question) and len(asked) < 2 and not _about(claim, source, language, question)
    faults = {
        "words": share < least or invented or beside,
        "a number": not _counts(claim, source, language),
        "a code": not _codes(claim) <= _codes(source),
        "an address": bool(_LINK.search(claim)) and claim not in source,
        "a negation": not _denies_alike(claim, source, language),
        "a language": language not in _NO,  # who cannot tell no from yes supports nothing
    }
    return share, tuple(name for name, there in faults.items() if there)


def _about(claim: str, source: str, language: str, question: str) -> bool:
    """Say whether a sentence is a claim of one word, or holds it and a word of the question."""
    asked = {word for word in _content(question, language) if not _unit(word, language)}
    sentences = (source[start:end] for start, end in sentence_spans(source))
    return any(
        _flat(claim) == _flat(sentence)
        or (
            numbers(claim, language) <= numbers(sentence, language)
            and _content(claim, language) <= (held := _content(sentence, language))
            and bool(asked & held)
        )
        for sentence in sentences
    )


@lru_cache(maxsize=20_000)
def _content(text: str, language: str) -> frozenset[str]:
    """Return the content words of a text; numbers are looked at apart."""
    known = NUMBER_WORDS.get(language, {})
    spoken = _TOKEN.sub(lambda m: "" if fold(m.group()) in known else m.group(), text)
    left_out = content_words(_ITSELF.get(language, ""), language)
    found = content_words(spoken, language) - left_out
    return frozenset(word for word in found if not word.isdigit())


@lru_cache(maxsize=5_000)
def _parts(source: str, language: str) -> tuple[tuple[int, frozenset[str], int], ...]:
    """Return the clauses of a passage: number of the sentence, content words, how often *no*."""
    sentences = [source[start:end] for start, end in sentence_spans(source)]
    return tuple(
        (n, _content(part, language), negations(part, language))
        for n, sentence in enumerate(sentences)
        for part in _CLAUSE_END.split(sentence)
    )


def _denies_alike(claim: str, source: str, language: str) -> bool:
    """Say whether the clauses that hold most of a claim's words say *no* as often as it does.

    A claim may leave out a clause of a sentence, or join two sentences: the shortest runs of
    clauses that hold as many of the words as any may vouch for it, and the sentences around them.
    """
    asked, parts = _content(claim, language), _parts(source, language)
    runs = {
        (first, last): frozenset().union(*(one[1] for one in parts[first:last])) & asked
        for first in range(len(parts))
        for last in range(first + 1, min(first + LONGEST_RUN, len(parts)) + 1)
    }
    most = max(map(len, runs.values()), default=0)
    said = set()
    for (first, last), held in runs.items():
        shorter = (runs.get((first + 1, last)), runs.get((first, last - 1)))
        if len(held) < most or any(one is not None and len(one) == most for one in shorter):
            continue
        around = [one for one in parts if parts[first][0] <= one[0] <= parts[last - 1][0]]
        said |= {sum(one[2] for one in parts[first:last]), sum(one[2] for one in around)}
    return not said or negations(claim, language) in said


def _codes(text: str) -> set[str]:
    """Return the codes of a text, such as CN-23 and T7, in one spelling."""
    return {re.sub(r"[- ]", "", code) for code in _CODE.findall(text)}


def _counts(claim: str, source: str, language: str) -> bool:
    """Say whether a passage has a claim's numbers, with their units, where it is about the same."""
    wanted, asked = numbers(claim, language), _content(claim, language)
    sentences = (source[start:end] for start, end in sentence_spans(source))
    vouch = (s for s in sentences if len(asked & _content(s, language)) >= NEAR * len(asked))
    if not wanted <= set().union(*(numbers(sentence, language) for sentence in vouch)):
        return False
    held = measures(source, language)
    units = measures(claim, language).items()
    return all(not unit or not held.get(n) or unit & held[n] for n, unit in units)


def declines(text: str, language: str) -> bool:
    """Say whether an answer says that it does not know; an empty one does."""
    pattern = _DECLINES.get(language, "") or _DECLINES["en"]
    return not text.strip() or bool(re.search(f"{pattern}|{_DECLINES['en']}", text.lower()))


def holds(said: str, value: str, answer: str, language: str, question: str = "") -> bool:
    """Say whether a text gives a known answer: all its numbers, else most of its words.

    Parameters
    ----------
    said : str
    value : str
        The known value. One without a number (``true``, a name) is looked for by the words of
        ``answer``, which says it in the language of the text, in the sentence that holds most of
        them; it must say *no* if and only if ``answer`` does.
    answer : str
        A sentence with the value.
    language : str
    question : str
        What was asked: a number that stands in it is no answer.
    """
    wanted = numbers(value) - numbers(question)
    if wanted and not wanted <= {"0", "1"}:
        return wanted <= numbers(said, language)
    words = content_words(answer, language)
    sentences = [said[start:end] for start, end in sentence_spans(said)] or [""]
    best = max(sentences, key=lambda one: len(words & content_words(one, language)))
    held = content_words(best, language)
    needed = [words]
    if language == "en" and value not in ("true", "false") and not numbers(value):
        needed.append(content_words(value, "en"))  # values are written in English
    alike = (negations(answer, language) > 0) == (negations(best, language) > 0)
    return alike and all(_share(each, held) >= SAME for each in needed)


def _share(words: set[str], held: set[str]) -> float:
    return len(words & held) / len(words) if words else 0.0


def verdict(
    said: str, value: str, answer: str, language: str, answerable: bool = True, question: str = ""
) -> str:
    """Return what an answer is worth: ``correct``, ``missing`` or ``wrong``.

    Parameters
    ----------
    said : str
        Empty where nothing was answered.
    value, answer, language
        See :func:`holds`.
    answerable : bool
        Of a question that cannot be answered only declining is correct.
    question : str
        An answer that only repeats it, or asks back, is missing.
    """
    if declines(said, language):
        return "missing" if answerable else "correct"
    if not claims(said, language, question):
        return "missing"
    right = answerable and holds(said, value, answer, language, question)
    return "correct" if right else "wrong"
