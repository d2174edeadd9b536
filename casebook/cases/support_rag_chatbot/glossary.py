"""German and Spanish words of a parcel carrier's customers, each with its English: by hand.

Built from the frequent words of the articles and of the questions that were tuning questions at
that time; the split was drawn anew afterwards. :func:`unread` says which of today's test questions
gave no word to it. The words stand in ``glossary.toml``, which says how they are read.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from casebook.retrieval.text import fold

_SOURCES: dict[str, str] = tomllib.loads(
    Path(__file__).with_name("glossary.toml").read_text(encoding="utf-8")
)


@cache
def _tables(language: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return phrases and single words of a language."""
    phrases: dict[str, str] = {}
    singles: dict[str, str] = {}
    for entry in re.split(r"[;\n]", re.sub(r",\s*\n", ",", _SOURCES[language])):
        forms, _, english = entry.strip().partition("=")
        for form in filter(None, (fold(part.strip()) for part in forms.split(","))):
            table = phrases if " " in form else singles
            table.setdefault(form, english.strip())
    return phrases, singles


def size(language: str) -> int:
    """Return the number of forms of a language."""
    return sum(map(len, _tables(language)))


#: Letters by which an ending may be longer than an entry; what is longer is read as a compound.
_ENDING = 4


def _word(word: str, singles: dict[str, str], compounds: bool) -> str | None:
    """Return the English of a word, None where it is not known."""
    if word in singles:
        return singles[word]
    for n in range(len(word) - 1, 3, -1):
        english = singles.get(word[:n])
        if english is None:
            continue
        rest = word[n:]
        if compounds and len(rest) >= 4:
            tail = _word(rest, singles, True) or _word(rest.removeprefix("s"), singles, True)
            if tail:
                return f"{english} {tail}"
        if len(rest) <= _ENDING or n >= 6:
            return english
    return None


@lru_cache(maxsize=20_000)
def translated(text: str, language: str) -> str:
    """Translate a question word by word into English.

    Parameters
    ----------
    text : str
    language : str
        de or es; a text in another language comes back as it is.

    Returns
    -------
    str
        In lower case. A word that is not known stays: names, numbers, words that English shares.
    """
    if language not in _SOURCES:
        return text
    phrases, singles = _tables(language)
    folded = " ".join(re.findall(r"[^\W_]+(?:[-‑.,][^\W_]+)*|[?]", fold(text)))
    for phrase in sorted(phrases, key=len, reverse=True):
        folded = re.sub(rf"\b{re.escape(phrase)}\b", f"<{phrases[phrase]}>", folded)
    out = []
    for piece in re.findall(r"<[^>]*>|[^\s<>]+", folded):
        if piece.startswith("<"):
            out.append(piece[1:-1])
        else:
            out.append(_word(piece, singles, language == "de") or piece)
    return " ".join(word for word in out if word != "-")


#: Under this salt the questions were split when the glossary was written.
_EARLIER = "support-1"


def unread(keys: Iterable[str], share: float = 0.4) -> list[bool]:
    """Say of questions, by what the world splits them by, whether the glossary's author left them.

    Parameters
    ----------
    keys : iterable of str
        Group of the topic, or the question's id.
    share : float
        Of tuning questions.

    Returns
    -------
    list of bool
        True where the question was a test question already when the glossary was written.
    """
    digests = (hashlib.sha256(f"{_EARLIER}/{key}".encode()).digest() for key in keys)
    return [int.from_bytes(digest[:8], "big") >= share * 2**64 for digest in digests]
