"""Claims with planted faults, and true ones in other words: what a check of claims is tried on.

A check that reads rules (:mod:`~casebook.retrieval.claims`) or asks a judge is worth what it finds
of the faults that were put there on purpose, and how often it alarms at what is true.
:func:`faults` plants one fault of each kind into a sentence of a passage, as far as the sentence
has a place for it; :func:`rewordings` says the same in other words. Words that only a domain has
(its entities, invented sentences, frames) come from the caller as :class:`Words`: a rule that has
the same list finds what was planted with it by construction.

Examples
--------
>>> import numpy as np
>>> words = Words(entities=("sender", "recipient"), invented=("You get a voucher.",))
>>> found = faults("The sender pays 7 euros.", "en", words, [], np.random.default_rng(0))
>>> found["wrong entity"], sorted(found)[:2]
('The recipient pays 7 euros.', ['half invented', 'invented sentence'])
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.evaluate.intervals import by_cluster
from casebook.retrieval.claims import LEAST, NUMBER_WORDS, numbers, support
from casebook.retrieval.text import fold

#: Kinds of faults, those that change a word before those that add or replace a sentence.
FAULTS = (
    *("wrong number", "number of the passage", "wrong unit", "wrong code", "negation"),
    *("wrong entity", "half invented", "invented sentence", "sentence of another article"),
)
REWORDINGS = (
    *("word for word", "numbers respelled", "shortened", "framed", "two in one"),
    *("another word",),
)
_NUMBER = re.compile(r"(?<![\w-])\d+(?:[.,:]\d+)*(?![\w-])")
_CODE = re.compile(r"\b[A-Z]{1,3}[- ]?\d{2,4}\b")
_WORD = re.compile(r"[^\W\d_]+")
#: Units that change places; in one language no word stands in two pairs.
_UNITS = {
    "en": (("days", "weeks"), ("day", "week"), ("hours", "days"), ("months", "years"),
           ("EUR", "CHF"), ("kg", "g"), ("minutes", "hours"), ("cm", "m")),
    "de": (("Tage", "Wochen"), ("Tagen", "Wochen"), ("Stunden", "Tage"), ("Monate", "Jahre"),
           ("€", "CHF"), ("kg", "g"), ("Minuten", "Stunden"), ("cm", "m")),
    "es": (("días", "semanas"), ("horas", "días"), ("meses", "años"), ("€", "CHF"),
           ("kg", "g"), ("minutos", "horas"), ("cm", "m")),
}  # fmt: skip
#: Verbs after (in Spanish: before) which a *not* can stand.
_VERBS = {
    "en": r"\b(is|are|can|may|must|will|was|has been|have been|does|do)\b",
    "de": r"\b(ist|sind|kann|können|darf|dürfen|muss|müssen|wird|werden|gilt|kostet)\b",
    "es": r"\b(es|son|puede|pueden|debe|deben|está|están|cuesta|hay|tiene|se)\b",
}
_NEGATED = {"en": r"\1 not", "de": r"\1 nicht", "es": r"no \1"}
_DENIALS = {
    "en": ((r"\bnot ", ""), (r"\bnever\b", "always"), (r"\bno\b", "a"), (r"\bwithout\b", "with"),
           (r"\bcannot\b", "can"), (r"\bnobody\b", "everybody")),
    "de": ((r"\bnicht ", ""), (r"\bkein", "ein"), (r"\bnie\b", "immer"), (r"\bohne\b", "mit"),
           (r"\bnichts\b", "alles"), (r"\bniemand\b", "jemand")),
    "es": ((r"\bno ", ""), (r"\bnunca\b", "siempre"), (r"\bsin\b", "con"),
           (r"\bnadie\b", "alguien"), (r"\bnada\b", "todo")),
}  # fmt: skip
_AND = {"en": "and", "de": "und", "es": "y"}


@dataclass(frozen=True)
class Words:
    """What only a domain knows, in one language.

    Attributes
    ----------
    entities : sequence of str
        Words of one kind, of which one may wrongly stand for another: *sender*, *recipient*.
    invented : sequence of str
        Sentences that no passage says.
    frames : sequence of str
        Into which a true sentence fits, at ``{}``: *Please note: {}*.
    same : sequence of (str, str)
        Words that mean the same: *parcel*, *package*.
    """

    entities: Sequence[str] = ()
    invented: Sequence[str] = ()
    frames: Sequence[str] = ()
    same: Sequence[tuple[str, str]] = ()


def _drawn(options: Sequence[str], rng: np.random.Generator) -> str | None:
    return str(options[rng.integers(len(options))]) if len(options) else None


def _number_places(sentence: str, language: str) -> list[re.Match[str]]:
    """Return where numbers stand, written as digits or as a word."""
    known = NUMBER_WORDS.get(language, {})
    spoken = [m for m in _WORD.finditer(sentence) if fold(m.group()) in known]
    return [*_NUMBER.finditer(sentence), *spoken]


def _put(sentence: str, place: re.Match[str], text: str) -> str:
    return sentence[: place.start()] + text + sentence[place.end() :]


def other_number(
    sentence: str, language: str, others: Sequence[str], rng: np.random.Generator
) -> str | None:
    """Put another number in the place of one; None where there is none, or none to draw.

    Parameters
    ----------
    sentence, language : str
    others : sequence of str
        Numbers to draw from; those of the sentence are left out.
    rng : Generator
    """
    places = _number_places(sentence, language)
    own = numbers(sentence, language)
    options = sorted({n for n in others if not numbers(n) <= own})
    if not places or not options:
        return None
    return _put(sentence, places[rng.integers(len(places))], _drawn(options, rng) or "")


def other_unit(sentence: str, language: str, rng: np.random.Generator) -> str | None:
    """Put another unit behind (or before) a number: days for weeks."""
    options = []
    for pair in _UNITS.get(language, ()):
        for old, new in (pair, pair[::-1]):
            beside = rf"(?:(?<=\d )|(?<=\d)){re.escape(old)}(?!\w)|\b{re.escape(old)}(?= \d)"
            spoken = "|".join(re.escape(word) for word in NUMBER_WORDS.get(language, {}))
            after = re.search(rf"\b(?:{spoken}) ({re.escape(old)})(?!\w)", fold(sentence))
            if found := re.search(beside, sentence):
                options.append(_put(sentence, found, new))
            elif after and len(fold(sentence)) == len(sentence):
                options.append(sentence[: after.start(1)] + new + sentence[after.end(1) :])
    return _drawn(options, rng)


def other_code(sentence: str, rng: np.random.Generator) -> str | None:
    """Change the last two digits of a code such as F-131."""
    place = _CODE.search(sentence)
    if place is None or place.group().startswith("EUR"):
        return None
    last = int(place.group()[-2:])
    return _put(
        sentence, place, f"{place.group()[:-2]}{(last + int(rng.integers(1, 99))) % 100:02}"
    )


def denied(sentence: str, language: str) -> str | None:
    """Take a *no* away, or put one in; None where no place is known."""
    for pattern, plain in _DENIALS.get(language, ()):
        if re.search(pattern, sentence, re.I):
            return re.sub(pattern, plain, sentence, count=1, flags=re.I)
    pattern = _VERBS.get(language)
    if pattern is None or not re.search(pattern, sentence):
        return None
    return re.sub(pattern, _NEGATED[language], sentence, count=1)


def other_word(sentence: str, words: Sequence[str], rng: np.random.Generator) -> str | None:
    """Put another of some words in the place of one."""
    there = [w for w in words if re.search(rf"\b{re.escape(w)}\b", sentence)]
    if not there:
        return None
    old = _drawn(there, rng) or ""
    new = _drawn([word for word in words if word not in there], rng)
    return re.sub(rf"\b{re.escape(old)}\b", new, sentence, count=1) if new else None


def faults(
    sentence: str,
    language: str,
    words: Words,
    passage: Sequence[str],
    rng: np.random.Generator,
    elsewhere: Sequence[str] = (),
) -> dict[str, str]:
    """Plant one fault of each kind that the sentence has a place for.

    Parameters
    ----------
    sentence, language : str
    words : Words
    passage : sequence of str
        The other sentences of the passage: a number of theirs may wrongly stand here.
    rng : Generator
    elsewhere : sequence of str
        Sentences of other articles in the same language.

    Returns
    -------
    dict of str to str
        Claims by kind, of :data:`FAULTS`.
    """
    near = sorted({n for other in passage for n in _NUMBER.findall(other)})
    far = sorted({n for other in elsewhere for n in _NUMBER.findall(other)} - set(near))
    invented = _drawn(words.invented, rng)
    found = {
        "wrong number": other_number(sentence, language, far or ["2", "9", "45"], rng),
        "number of the passage": other_number(sentence, language, near, rng),
        "wrong unit": other_unit(sentence, language, rng),
        "wrong code": other_code(sentence, rng),
        "negation": denied(sentence, language),
        "wrong entity": other_word(sentence, words.entities, rng),
        "half invented": _joined(sentence, invented, language) if invented else None,
        "invented sentence": invented,
        "sentence of another article": _drawn(elsewhere, rng),
    }
    return {kind: claim for kind, claim in found.items() if claim and claim != sentence}


def _joined(first: str, second: str, language: str) -> str:
    """Make one sentence of two."""
    return f"{first.rstrip(' .')}, {_AND.get(language, '+')} {second[0].lower()}{second[1:]}"


def same_word(sentence: str, pairs: Sequence[tuple[str, str]], rng: np.random.Generator):
    """Put a word that means the same in the place of one; None where no pair fits."""
    options = [
        re.sub(rf"\b{re.escape(old)}\b", new, sentence, count=1)
        for pair in pairs
        for old, new in (pair, pair[::-1])
        if re.search(rf"\b{re.escape(old)}\b", sentence)
    ]
    return _drawn(options, rng)


def respelled(sentence: str, language: str) -> str | None:
    """Write numbers as words where they were digits, and the other way round."""
    known = NUMBER_WORDS.get(language, {})
    digits = {number: word for word, number in known.items()}
    for place in _number_places(sentence, language):
        own = place.group()
        new = known.get(fold(own)) or digits.get(own)
        if new:
            return _put(sentence, place, new)
    return None


def rewordings(
    sentence: str, following: str | None, language: str, words: Words, rng: np.random.Generator
) -> dict[str, str]:
    """Say what a sentence says in other words.

    Parameters
    ----------
    sentence : str
    following : str or None
        The next sentence of the passage.
    language : str
    words : Words
    rng : Generator

    Returns
    -------
    dict of str to str
        True claims by kind, of :data:`REWORDINGS`.
    """
    short = re.split(r"[,;:] ", sentence, maxsplit=1)
    frame = _drawn(words.frames, rng)
    found = {
        "word for word": sentence,
        "numbers respelled": respelled(sentence, language),
        "shortened": f"{short[0]}." if len(short) > 1 and len(short[0].split()) > 4 else None,
        "framed": frame.format(sentence[0].lower() + sentence[1:]) if frame else None,
        "two in one": _joined(sentence, following, language) if following else None,
        "another word": same_word(sentence, words.same, rng),
    }
    return {kind: claim for kind, claim in found.items() if claim}


# What a check makes of them -------------------------------------------------------------

#: Where the claims are of one article only.
NO_ENDS = (float("nan"),) * 3


def refused(rows: pd.DataFrame, least: float = LEAST) -> pd.DataFrame:
    """Hold each claim against its passages by the rules.

    Parameters
    ----------
    rows : DataFrame
        ``article``, ``language``, ``kind``, ``true`` (of a rewording), ``claim``, ``own`` (the
        passage that it is from) and ``three`` (it and others that a model was given).
    least : float
        See :func:`~casebook.retrieval.claims.support`.

    Returns
    -------
    DataFrame
        ``rows`` with ``refused`` (by its own section), ``refused_by_three`` and ``why``.
    """
    columns = zip(rows["claim"], rows["own"], rows["three"], rows["language"], strict=True)
    found = [
        (support(claim, [own], code, least), support(claim, three, code, least))
        for claim, own, three, code in columns
    ]
    return rows.assign(
        refused=[not own.good for own, _ in found],
        refused_by_three=[not three.good for _, three in found],
        why=["; ".join(own.why) for own, _ in found],
    )


def caught(rows: pd.DataFrame, by: Sequence[str] = ("true", "kind")) -> pd.DataFrame:
    """Return the share of claims that is refused, with intervals from resampled articles.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`refused`.
    by : sequence of str
        Columns.

    Returns
    -------
    DataFrame
        ``by``; ``claims``, ``refused`` with ``low`` and ``high``, ``refused_by_three``. Of planted
        faults the share is what the check catches, of true claims its false alarms.
    """
    out = []
    for keys, own in rows.groupby(list(by), sort=False):
        several = own["article"].nunique() > 1
        share = by_cluster(own["refused"], own["article"]) if several else NO_ENDS
        out.append((*keys, len(own), *share, own["refused_by_three"].mean()))
    return pd.DataFrame(out, columns=[*by, "claims", "refused", "low", "high", "refused_by_three"])


def strictness(
    rows: pd.DataFrame, levels: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
) -> pd.DataFrame:
    """Return faults caught and false alarms by the share of words that must be held.

    Returns
    -------
    DataFrame
        ``least``, ``kind``, ``true``, ``refused``.
    """
    parts = [
        refused(rows, least).groupby(["true", "kind"])["refused"].mean().rename(least)
        for least in levels
    ]
    found = pd.concat(parts, axis=1).rename_axis(columns="least").stack().rename("refused")
    return found.reset_index()
