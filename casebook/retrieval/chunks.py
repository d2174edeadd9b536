"""Passages of articles: four ways to cut, each with offsets that point into the article.

Whatever the cut, ``article.text[chunk.start:chunk.end] == chunk.text``: a citation can be looked
up. A passage carries the article's version and validity, so that an index can leave out what has
ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pandas as pd

Span = tuple[int, int]
Kind = Literal["article", "words", "sentences", "headings"]

#: Columns of a frame of articles; ``tags`` may be missing.
ARTICLE = ("article_id", "version", "language", "title", "text", "valid_from", "valid_to")
_WORD = re.compile(r"\S+")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”»)]*\s+(?=\S)|\n\s*\n|\n(?=\s*(?:[-*#]|\d+\.)\s)")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Article:
    """One version of an article in one language.

    Attributes
    ----------
    article_id : str
        The same in all versions and languages.
    version : int
        A higher one replaces a lower one from its ``valid_from`` on.
    language : str
        Two-letter code.
    title, text : str
        Headings in the text are lines that begin with ``#``.
    valid_from, valid_to : Timestamp
        In UTC without a zone: valid from the first, until before the second; ``NaT`` for no end.
    tags : str
        For filters of a caller's own, such as who may see it.
    """

    article_id: str
    version: int
    language: str
    title: str
    text: str
    valid_from: pd.Timestamp
    valid_to: pd.Timestamp
    tags: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from every other: article, language, version."""
        return self.article_id, self.language, self.version


@dataclass(frozen=True)
class Chunk:
    """A passage of an article.

    Attributes
    ----------
    article : Article
        That it was cut from.
    heading : str
        The last heading at or before its start; empty where there is none.
    start, end : int
        Characters of the article's text.
    """

    article: Article
    heading: str
    start: int
    end: int

    @property
    def text(self) -> str:
        """The passage itself."""
        return self.article.text[self.start : self.end]

    @property
    def indexed(self) -> str:
        """What an index reads: title and heading of the article in front of the passage."""
        heading = "" if self.text.startswith("#") else self.heading
        parts = (self.article.title, heading, self.text)
        return "\n".join(part for part in parts if part)


def as_utc(time: object) -> pd.Timestamp:
    """Return a time in UTC without a zone; one without a zone is taken to be in UTC.

    Raises
    ------
    ValueError
        If it is not a time.
    """
    stamp = pd.Timestamp(time)
    return stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo is not None else stamp


def moment(time: object) -> pd.Timestamp:
    """Return a time at which something is asked or done, as :func:`as_utc` does.

    Raises
    ------
    ValueError
        If it is missing, or not a time.
    """
    stamp = as_utc(time)
    if stamp is pd.NaT:
        raise ValueError(
            f"The time is missing ({time}): name one, such as pd.Timestamp.now('UTC')."
        )
    return stamp


def read_articles(frame: pd.DataFrame) -> list[Article]:
    """Turn a frame into articles and refuse what an index must not hold.

    Parameters
    ----------
    frame : DataFrame
        :data:`ARTICLE`, and ``tags`` where there are any.

    Returns
    -------
    list of Article

    Raises
    ------
    ValueError
        On missing columns or values, a version that is no whole number, a title or text that is no
        text, holds what cannot be stored or nothing to read, a validity that ends before it begins,
        or a version that stands there twice.
    """
    if missing := set(ARTICLE) - set(frame):
        raise ValueError(f"The articles lack the columns {sorted(missing)}.")
    required = [column for column in ARTICLE if column != "valid_to"]
    if (gaps := frame[required].isna().any()).any():
        raise ValueError(f"Values are missing in {sorted(gaps.index[gaps])} of the articles.")
    tags = frame["tags"] if "tags" in frame else [""] * len(frame)
    rows = zip(*(frame[column] for column in ARTICLE), tags, strict=True)
    articles = [
        Article(str(i), _version(v, i), str(code), title, text, as_utc(a), _end(z), str(tag))
        for i, v, code, title, text, a, z, tag in rows
    ]
    for article in articles:
        what = f"{article.article_id} version {article.version} ({article.language})"
        if fault := _unreadable(article.title) or _unreadable(article.text):
            raise ValueError(f"{what} {fault}.")
        if not any(c.isprintable() and not c.isspace() for c in article.text):
            raise ValueError(f"{what} has no text.")
        if article.valid_to <= article.valid_from:
            raise ValueError(f"{what} ends at {article.valid_to}, before it begins.")
    keys = [article.key for article in articles]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice[0]} version {twice[2]} ({twice[1]}) stands there twice.")
    return articles


def _version(value: object, article_id: object) -> int:
    try:
        if int(value) == float(value) and 0 <= int(value) < 2**31:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{article_id} has version {value!r}: it must be a whole number from 0.")


def _end(time: object) -> pd.Timestamp:
    """Return the end of a validity in UTC; what no nanosecond counts (the year 9999) is none."""
    end = as_utc(time)
    if end is pd.NaT or end.as_unit("s") > pd.Timestamp.max.as_unit("s"):
        return pd.NaT
    return end


def _unreadable(text: object) -> str:
    """Return what makes a text impossible to store and to cite by its characters, or nothing."""
    if not isinstance(text, str):
        return f"has a {type(text).__name__} where a text must stand"
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        return "holds a character that is no text (NUL, or half of one)"
    return ""


# Four ways to cut --------------------------------------------------------------------


def _windows(spans: list[Span], size: int, overlap: int) -> Iterator[Span]:
    """Yield spans of ``size`` neighbours each, of which ``overlap`` stand in the next one too."""
    for first in range(0, len(spans), size - overlap):
        last = min(first + size, len(spans))
        yield spans[first][0], spans[last - 1][1]
        if last == len(spans):
            return


def _trimmed(text: str, start: int, end: int) -> Span | None:
    """Return a span without the white space at its ends; None where nothing is left."""
    part = text[start:end]
    left, right = len(part) - len(part.lstrip()), len(part.rstrip())
    return (start + left, start + right) if right > left else None


def sentence_spans(text: str) -> list[Span]:
    """Return where the sentences, list items and headings of a text stand."""
    borders = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    spans = (_trimmed(text, a, b) for a, b in pairwise(borders))
    return [span for span in spans if span is not None]


def section_spans(text: str) -> list[Span]:
    """Return where the sections of a text stand, each with its heading."""
    starts = [match.start() for match in _HEADING.finditer(text)]
    borders = [0, *(start for start in starts if start), len(text)]
    spans = (_trimmed(text, a, b) for a, b in pairwise(borders))
    return [span for span in spans if span is not None]


def _word_spans(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    end = len(text) if end is None else end
    return [match.span() for match in _WORD.finditer(text, start, end)]


@dataclass(frozen=True)
class Chunker:
    """How articles are cut.

    Attributes
    ----------
    kind : {"article", "words", "sentences", "headings"}
        The whole article; windows of words; windows of sentences; sections under a heading, of
        which one that is longer than ``size`` words is cut into windows of words.
    size : int
        Words (or sentences) in a window.
    overlap : int
        Of them that stand in the next window too.

    Raises
    ------
    ValueError
        On another kind, a size below 1, or an overlap that is not smaller than the size.
    """

    kind: Kind = "headings"
    size: int = 200
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("article", "words", "sentences", "headings"):
            raise ValueError(f"{self.kind!r} is not a way to cut: article, words, sentences, …")
        if self.size < 1 or not 0 <= self.overlap < self.size:
            raise ValueError(
                f"Windows of {self.size} with an overlap of {self.overlap}: the size must be at "
                "least 1 and the overlap smaller than it, or a window would never move on."
            )

    def __str__(self) -> str:
        return f"{self.kind}/{self.size}/{self.overlap}"

    def spans(self, text: str) -> list[Span]:
        """Return where the passages of a text stand, in their order."""
        if self.kind == "article":
            whole = _trimmed(text, 0, len(text))
            return [whole] if whole else []
        if self.kind == "sentences":
            return list(_windows(sentence_spans(text), self.size, self.overlap))
        sections = section_spans(text) if self.kind == "headings" else [(0, len(text))]
        return [
            span
            for start, end in sections
            for span in _windows(_word_spans(text, start, end), self.size, self.overlap)
        ]

    def __call__(self, article: Article) -> list[Chunk]:
        """Cut an article into passages.

        Parameters
        ----------
        article : Article

        Returns
        -------
        list of Chunk
        """
        headings = [(match.start(), match.group(1)) for match in _HEADING.finditer(article.text)]
        return [
            Chunk(article, next((h for at, h in reversed(headings) if at <= start), ""), start, end)
            for start, end in self.spans(article.text)
        ]
