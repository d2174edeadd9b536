"""Text as a lexical index sees it: words, stems, content words, character n-grams.

An *analyser* turns a text and its language into a list of terms; the same one must read documents
and queries. Languages are given by their two-letter code. A language without a stemmer or a list
of stop words is read without them.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

Analyser = Callable[[str, str], list[str]]

#: Languages of Snowball's stemmers and of bm25s's lists of stop words.
LANGUAGES = {
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "tr": "turkish",
}
#: Letters that Unicode does not take apart into a letter and a mark.
_UNMARKED = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe"})
_WORD = re.compile(r"[^\W_]+")
#: Letters and digits across hyphens, dots or slashes with a digit among them: CN-23, IL-6.
_COMPOUND = re.compile(r"[^\W_]+(?:[-‐‑/.][^\W_]+)+")
#: Function words of Polish, of which bm25s has no list.
_POLISH = """
a aby ale albo bo być by był była było były co czy dla do gdy gdzie go i ich ile im ja jak jako jest
jestem ją jego jej już kiedy kto która które który lub ma mam mi mnie mój może można moja moje na
nad nam nas nie nich niego nim o od on ona one oni oraz po pod przed przez przy są się sobie swoje
ta tak także tam te tego tej ten to tu tylko tym u w we więc wszystko z za ze że
"""
#: What stands around a question in English, beside bm25s's long list.
_AROUND = """
anyone anything could dont cant would may might must hello hi help im ive know please shall tell
thank thanks us want wants yes get got need
"""


def fold(word: str) -> str:
    """Return a word without the marks on its letters (``é`` is ``e``), in lower case.

    Parameters
    ----------
    word : str

    Returns
    -------
    str
    """
    split = unicodedata.normalize("NFKD", word.casefold().translate(_UNMARKED))
    return "".join(letter for letter in split if not unicodedata.combining(letter))


@cache
def stop_words(language: str) -> frozenset[str]:
    """Return the stop words of a language, from bm25s; empty where it has none.

    English is the short list that Lucene made common (33 words).
    """
    from bm25s import stopwords

    if language == "pl":
        return frozenset(_POLISH.split())
    name = "EN" if language == "en" else LANGUAGES.get(language, "").upper()
    return frozenset(getattr(stopwords, f"STOPWORDS_{name}", ()))


_stemmers = threading.local()  # a Snowball stemmer keeps the word in itself


@lru_cache(maxsize=200_000)
def stem(word: str, language: str = "en") -> str:
    """Return the stem of a word by Snowball, without marks on its letters.

    Parameters
    ----------
    word : str
        In lower case. One with a digit is an identifier and stays as it is.
    language : str
        Two-letter code; without a stemmer the word keeps its ending.

    Returns
    -------
    str
    """
    name = LANGUAGES.get(language)
    if name is None or not word.isalpha():
        return fold(word)
    if not hasattr(_stemmers, name):
        import snowballstemmer

        known = name in snowballstemmer.algorithms()
        setattr(_stemmers, name, snowballstemmer.stemmer(name) if known else None)
    stemmer = getattr(_stemmers, name)
    return fold(stemmer.stemWord(word) if stemmer else word)


def _raw(text: str) -> list[str]:
    """Return the words in lower case, and identifiers written as one word."""
    text = unicodedata.normalize("NFKC", text).casefold()
    found = [word for word in _WORD.findall(text) if len(word) > 1]
    for match in _COMPOUND.findall(text):
        joined = "".join(_WORD.findall(match))
        if any(c.isdigit() for c in joined) and any(c.isalpha() for c in joined):
            found.append(joined)
    return found


def words(text: str, language: str = "en") -> list[str]:
    """Return the stemmed words of a text without stop words, for BM25.

    Lower case; words of two letters or more; an identifier such as ``CN-23`` counts as ``cn``,
    ``23`` and ``cn23``, so that it is found however it is written.

    Parameters
    ----------
    text : str
    language : str
        Two-letter code.

    Returns
    -------
    list of str
        In the order of the text, identifiers last; repeated words repeat.
    """
    stop = stop_words(language)
    return [stem(word, language) for word in _raw(text) if word not in stop]


@cache
def _around(language: str) -> frozenset[str]:
    """Return what is no content: stop words, and in English what stands around a question."""
    from bm25s.stopwords import STOPWORDS_EN_PLUS

    if language != "en":
        return stop_words(language)
    return stop_words("en") | frozenset(STOPWORDS_EN_PLUS) | frozenset(_AROUND.split())


def content_words(text: str, language: str = "en") -> set[str]:
    """Return the stems that carry the content of a question or an article.

    Parameters
    ----------
    text : str
    language : str
        Two-letter code.

    Returns
    -------
    set of str
        Without stop words and, in English, without what stands around a question ("how can I").
    """
    left_out = _around(language)
    return {stem(word, language) for word in _raw(text) if word not in left_out}


def overlap(question: str, passage: str, language: str = "en") -> float:
    """Return the share of a question's content words that a passage holds.

    Parameters
    ----------
    question, passage : str
    language : str
        Of both.

    Returns
    -------
    float
        0 where the question has no content words.
    """
    asked = content_words(question, language)
    return len(asked & content_words(passage, language)) / len(asked) if asked else 0.0


def char_ngrams(text: str, language: str = "en", sizes: Sequence[int] = (4,)) -> list[str]:
    """Return the character n-grams of the words of a text: no stemmer, no list, any language.

    Parameters
    ----------
    text : str
    language : str
        Not used; an analyser takes it.
    sizes : sequence of int
        Lengths. A word is read with a mark at both ends; one that is shorter stays whole.

    Returns
    -------
    list of str

    References
    ----------
    McNamee & Mayfield (2004), *Character n-gram tokenization for European language text
    retrieval*, Information Retrieval 7.
    """
    grams = []
    for word in _raw(text):
        marked = f"_{fold(word)}_"
        for n in sizes:
            grams += [marked[i : i + n] for i in range(max(1, len(marked) - n + 1))]
    return grams


#: By the name under which an index remembers how it reads.
ANALYSERS: dict[str, Analyser] = {"words": words, "ngrams": char_ngrams}
