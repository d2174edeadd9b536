"""Between the editors and the index: a contract refuses articles, audits find what no rule can.

The contract looks at each article: form, validity, and what an index must not hold, because a
model reads it and customers are shown it. What it knows of instructions and of addresses are
patterns, and what is worded anew gets through: masks, citations and the check of answers stand
behind it.

:func:`audit` looks at articles side by side: pages for different readers that are nearly the same,
pages for the same reader that contradict each other, languages that lag behind. It lists what an
editor should read, and decides nothing. :func:`question_audit` looks at the questions as they
arrive, before anything is masked.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.languages import PIVOT, as_articles
from casebook.cases.support_rag_chatbot.understand import entities
from casebook.cases.support_rag_chatbot.world.content import own_content
from casebook.data.contracts import ContractBroken, enforce, summary
from casebook.evaluate.intervals import wilson
from casebook.retrieval.chunks import Article, Chunk, Chunker, read_articles, sentence_spans
from casebook.retrieval.claims import numbers
from casebook.retrieval.classify import LanguageModel
from casebook.retrieval.dense import Embedder
from casebook.retrieval.text import content_words
from casebook.serving.guard import attack
from casebook.serving.privacy import KINDS, find

if TYPE_CHECKING:
    import pandera.pandas as pa

KEY = ["article_id", "language", "version"]
LANGUAGES, AUDIENCES = ("en", "de", "es"), ("private", "business")
#: An article of the help centre has 99 words and more; what has fewer than these was cut off.
FEWEST_WORDS = 30
#: Hosts that an article may link to, with all below them.
HOSTS = ("carrier.example",)
#: Phrases of our articles that the guard takes for an attack, once an editor has read and allowed
#: them; at present it takes none.
APPROVED: tuple[str, ...] = ()
#: What to do about a broken rule, by the name of its check.
REMEDY = {
    "column": "export the articles with all their columns",
    "type": "convert it where it is read, and refuse what does not convert",
    "empty": "fill it in and send the article again",
    "version": "number the versions from 1",
    "language": "an article is written in " + ", ".join(LANGUAGES),
    "number": "write it as KB- and four digits",
    "audience": "an article is for readers who are " + " or ".join(AUDIENCES),
    "title": "give it a title",
    "short": "send the whole article; to take one out of force, end it",
    "ends": "the last day is the first or a later one",
    "twice": "send one of them; a change is a new version",
    "overlap": "end the earlier on the day before the later begins",
    "personal": "take it out: everybody can read the article",
    "instructs": "write to the reader; if it does, an editor approves the phrase",
    "link": "link to a page of ours or write what stands there",
    "hidden": "delete what no reader sees and write the line anew",
    "garbled": "read the file as UTF-8 and export it again",
}
_WHAT = {
    "personal": "holds personal data",
    "instructs": "reads like instructions to a model",
    "link": "links to a foreign host",
    "hidden": "holds what no reader sees",
    "garbled": "holds garbled letters",
}


# What a text must not hold -----------------------------------------------------------

_ADDRESS = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s)>\]\"']*"  # with a scheme
    r"|\bwww\.[^\s)>\]\"']+"
    r"|(?<![\w:/])//[^\s)>\]\"']+"  # without one, as the page's
    r"|\b(?:javascript|vbscript|data|file|mailto):(?=\S)[^\s)>\]\"']*"
    r"|(?<![\w@.-])(?:[\w-]+\.)+(?:com|net|org|info|biz|io|eu|de|es|at|ch|uk|co|app|dev|link|click"
    r"|shop|site|top|xyz|ru|cn)\b(?![.-]?\w*@)[^\s)>\]\"']*",
    re.IGNORECASE,
)
_ROLE = re.compile(r"^\W*(?:system|assistant|developer|user)\s*:", re.IGNORECASE | re.MULTILINE)
_HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*")
#: Control, format and private characters, as Unicode sorts them.
_UNSEEN = ("Cc", "Cf", "Co")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_GARBLED = re.compile(r"\ufffd|[ÃÂ][^\x00-\x7f]|â[€‚„]|ï»¿")


def personal(text: str) -> str:
    """Return which formats of personal data a text holds; never the data."""
    return ", ".join(sorted({finding.kind for finding in find(text)}))


def instructs(text: str, approved: Collection[str] = APPROVED) -> str:
    """Return why a text looks like instructions to a model; empty if it does not.

    Parameters
    ----------
    text : str
    approved : collection of str
        Phrases that are left out before the guard looks.
    """
    for phrase in approved:
        words = r"\s+".join(map(re.escape, phrase.split()))
        text = re.sub(rf"\b{words}\b", "\n", text)
    return attack(text) or ("speaks in a role" if _ROLE.search(text) else "")


def _is_own(address: str, hosts: Collection[str]) -> bool:
    try:
        parts = urlsplit(address if "//" in address else f"//{address}", scheme="https")
        host = parts.hostname or ""
    except ValueError:
        return False
    ours = any(host == own or host.endswith(f".{own}") for own in hosts)
    return ours and parts.scheme in ("http", "https") and bool(_HOST.fullmatch(host))


def foreign_link(text: str, hosts: Collection[str] = HOSTS) -> str:
    """Return the first address in a text that is not on one of our hosts; empty without one.

    Parameters
    ----------
    text : str
        An address without a scheme is known by its ending, of which there are more than the
        pattern lists.
    hosts : collection of str
    """
    addresses = (match[0].rstrip(".,;:!?") for match in _ADDRESS.finditer(text))
    return next((found for found in addresses if not _is_own(found, hosts)), "")


def hidden(text: str) -> str:
    """Return what a text holds that no reader sees: comments, control and format characters."""
    if _COMMENT.search(text):
        return "a comment"
    plain = _GARBLED.sub("", text)
    odd = {c for c in plain if unicodedata.category(c) in _UNSEEN and c not in "\n\r\t"}
    return ", ".join(f"U+{ord(c):04X}" for c in sorted(odd))


def garbled(text: str) -> str:
    """Return the first letters that were read in a wrong encoding: ``Ã¼`` for ``ü``."""
    match = _GARBLED.search(text)
    return repr(match[0]) if match else ""


Looks = dict[str, Callable[[str], str]]


def _looks(hosts: Collection[str], approved: Collection[str]) -> Looks:
    """Return by rule what looks into title and text."""
    return {
        "personal": personal,
        "instructs": partial(instructs, approved=approved),
        "link": partial(foreign_link, hosts=hosts),
        "hidden": hidden,
        "garbled": garbled,
    }


def _said(rows: pd.DataFrame) -> pd.Series:
    """Return title and text of each article, empty where there is none."""
    return rows["title"].fillna("").astype(str) + "\n" + rows["text"].fillna("").astype(str)


# The contract ------------------------------------------------------------------------


def _words(texts: pd.Series) -> pd.Series:
    return texts.fillna("").astype(str).str.count(r"[^\W\d_]+")


def _alone(rows: pd.DataFrame) -> pd.Series:
    """Say of each article whether no other version of it is in force on a day of its own.

    The same version twice, and a validity that ends before it begins, break other rules.
    """
    sound = rows[~(rows["valid_to"] < rows["valid_from"]) & rows["valid_from"].notna()]
    table = sound[[*KEY, "valid_from"]].assign(
        last=sound["valid_to"].fillna(pd.Timestamp.max), row=sound.index
    )
    pairs = table.merge(table, on=["article_id", "language"], suffixes=("", "_other"))
    pairs = pairs[pairs["version"] != pairs["version_other"]]
    both = pairs["valid_from"].le(pairs["last_other"]) & pairs["valid_from_other"].le(pairs["last"])
    return ~rows.index.to_series().isin(pairs.loc[both, "row"])


def contract(
    hosts: Collection[str] = HOSTS, approved: Collection[str] = APPROVED
) -> pa.DataFrameSchema:
    """Return the contract of the help centre's articles as a pandera schema.

    Parameters
    ----------
    hosts : collection of str
        That an article may link to.
    approved : collection of str
        Phrases that an editor has read; see :func:`instructs`.

    Returns
    -------
    pandera.pandas.DataFrameSchema
        Its checks are named as in ``REMEDY``. Columns that it does not name are let through.
    """
    import pandera.pandas as pa

    def rule(name: str, what: str, holds) -> pa.Check:
        return pa.Check(holds, name=name, error=what, ignore_na=False)

    def clean(look: Callable[[str], str]) -> Callable[[pd.DataFrame], pd.Series]:
        return lambda rows: _said(rows).map(look).eq("")

    def among(values: Collection[str]) -> Callable[[pd.Series], pd.Series]:
        return lambda column: column.isna() | column.isin(values)

    def numbered(column: pd.Series) -> pd.Series:
        return column.isna() | column.astype(str).str.fullmatch(r"KB-\d{4}")

    def once(rows: pd.DataFrame) -> pd.Series:
        return ~rows.duplicated(KEY, keep=False)

    def in_order(rows: pd.DataFrame) -> pd.Series:
        return ~(rows["valid_to"] < rows["valid_from"])

    short = f"has fewer than {FEWEST_WORDS} words"
    enough = rule("short", short, lambda text: text.isna() | (_words(text) >= FEWEST_WORDS))
    titled = rule("title", "has no title", lambda title: title.isna() | (_words(title) > 0))
    return pa.DataFrameSchema(
        {
            "article_id": pa.Column(),
            "version": pa.Column("int64", rule("version", "version below 1", lambda v: v >= 1)),
            "language": pa.Column(None, rule("language", "unknown language", among(LANGUAGES))),
            "title": pa.Column(None, titled),
            "text": pa.Column(None, enough),
            "valid_from": pa.Column("datetime64[ns]"),
            "valid_to": pa.Column("datetime64[ns]", nullable=True),
            "number": pa.Column(None, rule("number", "number is not of the form", numbered)),
            "audience": pa.Column(None, rule("audience", "unknown readers", among(AUDIENCES))),
        },
        checks=[
            rule("ends", "ends before it begins", in_order),
            rule("twice", "stands there more than once", once),
            rule("overlap", "are in force on the same day", _alone),
            *(rule(n, _WHAT[n], clean(look)) for n, look in _looks(hosts, approved).items()),
        ],
        name="articles",
    )


def check_contract(
    articles: pd.DataFrame, hosts: Collection[str] = HOSTS, approved: Collection[str] = APPROVED
) -> pd.DataFrame:
    """Refuse articles that an index must not hold.

    Parameters
    ----------
    articles : DataFrame
        The columns of :func:`~casebook.cases.support_rag_chatbot.world.knowledge_base`;
        ``valid_to`` is the last
        day, empty where none is set.
    hosts, approved : collection of str
        See :func:`contract`.

    Returns
    -------
    DataFrame
        The same articles, when all keep the contract.

    Raises
    ------
    ContractBroken
        With a line for each rule that an article breaks in a language, and all rows that break
        one. Of versions that overlap, or stand there twice, all are refused: which of them counts
        only the editor knows, and an index that has one of them keeps it until then.
    """
    looks = _looks(hosts, approved)
    enforce(contract(hosts, approved), articles, partial(_lines, looks), ContractBroken)
    return articles


def _lines(looks: Looks, rule: str, what: str, rows: pd.DataFrame) -> list[str]:
    """Return a line for each article and language that breaks a rule."""
    if rule in ("column", "type"):
        return [summary(what, rows, KEY, REMEDY[rule])]
    lines = []
    for (name, language), same in rows.groupby(["article_id", "language"], dropna=False, sort=True):
        versions = ", ".join(f"v{version}" for version in sorted(set(same["version"])))
        found = sorted(set(_said(same).map(looks[rule]))) if rule in looks else []
        details = f" ({'; '.join(found)})" if found else ""
        lines.append(f"{name}/{language} {versions}: {what}{details}; {REMEDY[rule]}")
    return lines


# What articles say in numbers --------------------------------------------------------

#: Units in the three languages; what is counted in another unit is compared without one.
_UNITS = {
    "days": r"days?|(?:werk|arbeits|kalender)?tag(?:e|en|es)?|días?",
    "weeks": r"weeks?|wochen?|semanas?",
    "months": r"months?|monat(?:e|en|s)?|mes(?:es)?",
    "years": r"years?|jahr(?:e|en|es)?|años?",
    "hours": r"hours?|stunden?|horas?",
    "minutes": r"minutes?|minuten?|minutos?",
    "attempts": r"attempts?|zustellversuche?n?|intentos?",
    "euro": r"eur|euros?|€",
    "%": r"%|percent|prozent",
    "kg": r"kg|kilos?|kilograms?|kilogramm|kilogramos?",
    "g": r"g|grams?|gramm|gramos?",
    "cm": r"cm|centimetres?|zentimeter|centímetros?",
    "m": r"m|metres?|metern?|metros?",
    "ml": r"ml|millilitres?|milliliter|mililitros?",
    "l": r"l|litres?|liter|litros?",
    "digits": r"digits?|characters?|stellen|ziffern|zeichen|cifras|caracteres",
}
_UNIT = {name: re.compile(pattern) for name, pattern in _UNITS.items()}
_NUMBER_WORDS = {
    "en": "one two three four five six seven eight nine ten eleven twelve",
    "de": "ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "es": "un dos tres cuatro cinco seis siete ocho nueve diez once doce",
}
_TENS = {
    "en": {"fourteen": 14, "fifteen": 15, "twenty": 20, "thirty": 30, "sixty": 60},
    "de": {"vierzehn": 14, "fünfzehn": 15, "zwanzig": 20, "dreißig": 30, "sechzig": 60},
    "es": {"catorce": 14, "quince": 15, "veinte": 20, "treinta": 30, "sesenta": 60},
}
_ONES = {
    "de": dict.fromkeys(("eine", "einen", "einem", "einer"), 1),
    "es": dict.fromkeys(("uno", "una"), 1),
}
_VALUES = {
    code: {word: n for n, word in enumerate(words.split(), 1)} | _TENS[code] | _ONES.get(code, {})
    for code, words in _NUMBER_WORDS.items()
}
_CODE = re.compile(r"\b(?:[A-Z]{1,2}[- ]\d{2,4}|[A-Z]\d)\b")
_TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|[€%]|[^\W\d_]+")
_YEAR = re.compile(r"20\d\d")
Quantity = tuple[str, str]
#: Fault, two versions, and why.
Row = tuple[str, str, str, str]


def _unit(token: str) -> str:
    return next((name for name, pattern in _UNIT.items() if pattern.fullmatch(token)), "")


def quantities(text: str, language: str) -> set[Quantity]:
    """Return what a text counts: units and values, codes among them.

    A number in words counts before a unit only: in other places one, ein and un are articles.

    Parameters
    ----------
    text : str
    language : str

    Returns
    -------
    set of (str, str)
        Such as ``("days", "7")``, ``("time", "8.30")``, ``("code", "F-114")``; the unit is empty
        where none is known. Article numbers and years are left out.
    """
    plain = re.sub(r"KB[- ]?\d+", " ", text)
    found: set[Quantity] = {("code", code.replace(" ", "-")) for code in _CODE.findall(plain)}
    tokens = _TOKEN.findall(_CODE.sub(" ", plain).casefold())
    words = _VALUES.get(language, {})
    for place, token in enumerate(tokens):
        digits = token[0].isdigit()
        if not digits and token not in words:
            continue
        unit = _unit(tokens[place - 1]) if place and tokens[place - 1] in ("eur", "€") else ""
        for after in tokens[place + 1 : place + 3]:
            if unit or after[0].isdigit() or after in words:
                break
            unit = _unit(after)
        if ":" in token:
            unit, value = "time", token.lstrip("0").replace(":", ".")
        elif digits:
            value = next(iter(numbers(token)))
        else:
            value = str(words[token])
            if not unit:
                continue
        if unit or not _YEAR.fullmatch(token):
            found.add((unit, value))
    return found


def differing(one: set[Quantity], other: set[Quantity]) -> dict[str, tuple[set[str], set[str]]]:
    """Return by unit the values that only the one and only the other has, where both have some."""
    found = {}
    for unit in sorted({unit for unit, _ in one} & {unit for unit, _ in other}):
        left, right = ({v for u, v in side if u == unit} for side in (one, other))
        if left - right and right - left:
            found[unit] = (left - right, right - left)
    return found


def _values(found: Mapping[str, tuple[set[str], set[str]]]) -> str:
    """Return in words which values differ."""

    def listed(values: set[str]) -> str:
        return ", ".join(sorted(values, key=lambda v: (len(v), v)))

    parts = (f"{unit} {listed(a)} | {listed(b)}".strip() for unit, (a, b) in found.items())
    return "; ".join(parts)


# Articles side by side ---------------------------------------------------------------

#: Share of their words from which two articles are taken to be on the same subject: the middle of
#: the gap, on the tuning half, between pairs that are (0.32 and more) and others (0.21 and less).
SAME_SUBJECT = 0.26
#: Share of their words from which two sentences are taken to say the same but for a negation.
SAME_SENTENCE = 0.5
_REGION = re.compile(r"\b[ck]anar", re.IGNORECASE)
_NEGATION = {
    "en": re.compile(r"\b(?:no|not|never|nobody|nothing|without|cannot|\w+n't)\b"),
    "de": re.compile(r"\b(?:nicht|kein\w*|nie|niemals|niemand|nichts|ohne)\b"),
    "es": re.compile(r"\b(?:no|nunca|jamás|nadie|nada|sin|ning[uú]n\w*|tampoco)\b"),
}


def half_of(topic: str) -> str:
    """Return whether the audit was tuned on a topic (``tune``) or is judged on it (``test``)."""
    return "test" if int(hashlib.sha256(f"audit/{topic}".encode()).hexdigest(), 16) % 2 else "tune"


def _shared(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


@dataclass(frozen=True)
class _Page:
    """An article in force, as the audit reads it."""

    name: str
    audience: str
    article: Article

    @property
    def language(self) -> str:
        return self.article.language

    @property
    def said(self) -> str:
        return f"{self.article.title}\n{self.article.text}"

    @cached_property
    def sentences(self) -> list[Chunk]:
        return [s for s in Chunker("sentences", 1)(self.article) if not s.text.startswith("#")]

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(content_words(self.said, self.language))

    @cached_property
    def quantities(self) -> set[Quantity]:
        return quantities(self.said, self.language)

    @cached_property
    def reader(self) -> str:
        """Whom it is for: the audience, and places that the title names."""
        title = self.article.title
        places = {e.value for e in entities(title) if e.kind == "country"}
        places |= {"Canary Islands"} if _REGION.search(title) else set()
        return ", ".join([self.audience, *sorted(places)])

    def holding(self, unit: str, values: set[str]) -> list[Chunk]:
        """Return the sentences that give a value in a unit."""
        wanted = {(unit, value) for value in values}
        return [s for s in self.sentences if quantities(s.text, self.language) & wanted]


def _names(articles: pd.DataFrame) -> pd.Series:
    """Return how the audit calls each version: its ``id`` where there is one."""
    if "id" in articles:
        return articles["id"]
    version = articles["version"].astype(str)
    return articles["language"] + "/" + articles["article_id"] + "--v" + version


def _on(articles: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """Return the articles in force on a day."""
    return articles[(articles["valid_from"] <= day) & ~(articles["valid_to"] < day)]


def _pages(articles: pd.DataFrame, at: pd.Timestamp) -> list[_Page]:
    rows = _on(articles, at)
    read = read_articles(as_articles(rows))
    return [_Page(*row) for row in zip(_names(rows), rows["audience"], read, strict=True)]


def shared_words(articles: pd.DataFrame, at: object) -> pd.DataFrame:
    """Return how many of their words two articles in force in the same language share.

    Parameters
    ----------
    articles : DataFrame
        That keep the contract.
    at : date-like

    Returns
    -------
    DataFrame
        ``a``, ``b``, ``shared``: stems without stop words in both, over those in either; largest
        first.
    """
    rows = [(a.name, b.name, share) for a, b, share in _pairs(_pages(articles, _day(at)), 0.0)]
    frame = pd.DataFrame(rows, columns=["a", "b", "shared"])
    return frame.sort_values("shared", ascending=False, ignore_index=True)


def _day(at: object) -> pd.Timestamp:
    return pd.Timestamp(at).normalize()


def _pairs(pages: list[_Page], least: float) -> Iterator[tuple[_Page, _Page, float]]:
    """Yield the pairs in a language that share at least so many words."""
    for place, one in enumerate(pages):
        for other in pages[place + 1 :]:
            if one.language == other.language:
                share = _shared(one.words, other.words)
                if share >= least:
                    yield one, other, share


def _quote(sentence: Chunk) -> str:
    return f"“{' '.join(sentence.text.split())}”"


def _contradiction(one: _Page, other: _Page, embedder: Embedder) -> str:
    """Return what two articles contradict each other on; empty if nothing is seen.

    Of the sentences that hold differing numbers in a unit, the nearest two are quoted. Else it is
    a sentence and the nearest one of the other article, of which one is negated.
    """
    if not (one.sentences and other.sentences):
        return ""
    vectors = [embedder.encode([s.indexed for s in page.sentences]) for page in (one, other)]
    near = vectors[0] @ vectors[1].T
    place = [{s: i for i, s in enumerate(page.sentences)} for page in (one, other)]
    differs, best = differing(one.quantities, other.quantities), []
    for unit, (left, right) in differs.items():
        best += [
            (near[place[0][s], place[1][t]], s, t)
            for s in one.holding(unit, left)
            for t in other.holding(unit, right)
        ]
    if best:
        _, s, t = max(best, key=lambda row: row[0])
        return f"{_values(differs)}: {_quote(s)} | {_quote(t)}"
    for i, s in enumerate(one.sentences):
        t = other.sentences[int(near[i].argmax())]
        if _negated(s.text, t.text, one.language):
            return f"a negation: {_quote(s)} | {_quote(t)}"
    return ""


def _negated(one: str, other: str, language: str) -> bool:
    """Say whether one of two sentences with the same words is negated."""
    pattern = _NEGATION.get(language)
    if pattern is None:
        return False
    count = [len(pattern.findall(text.casefold())) for text in (one, other)]
    words = [frozenset(content_words(text, language)) for text in (one, other)]
    return (count[0] == 0) != (count[1] == 0) and _shared(*words) >= SAME_SENTENCE


def _side_by_side(articles: pd.DataFrame, at: pd.Timestamp, embedder: Embedder) -> Iterator[Row]:
    for one, other, share in _pairs(_pages(articles, at), SAME_SUBJECT):
        if one.reader != other.reader:
            differs = _values(differing(one.quantities, other.quantities))
            why = f"for {one.reader} | {other.reader}; {share:.0%} of words shared"
            yield "near duplicate", one.name, other.name, f"{why}; {differs}".rstrip("; ")
        elif why := _contradiction(one, other, embedder):
            yield "conflict", one.name, other.name, why


# Versions ----------------------------------------------------------------------------

_NIGHT = pd.Timedelta(days=1)


@dataclass(frozen=True)
class _Version:
    """A version of an article in a language, and on which days it is in force."""

    name: str
    language: str
    first: pd.Timestamp
    last: pd.Timestamp
    quantities: set[Quantity]

    def holds(self, day: pd.Timestamp) -> bool:
        return self.first <= day <= self.last


def _by_article(articles: pd.DataFrame) -> list[list[_Version]]:
    """Return the versions of each article in all languages, in the order of their beginning."""
    found: dict[str, list[_Version]] = {}
    rows = articles.assign(
        name=_names(articles), last=articles["valid_to"].fillna(pd.Timestamp.max)
    )
    for row in rows.sort_values(["valid_from", "name"]).itertuples():
        said = quantities(f"{row.title}\n{row.text}", row.language)
        version = _Version(row.name, row.language, row.valid_from, row.last, said)
        found.setdefault(row.article_id, []).append(version)
    return [found[name] for name in sorted(found)]


def _gaps(versions: list[_Version], at: pd.Timestamp) -> Iterator[Row]:
    """Yield the days from one on that lie between two versions in a language."""
    for language in sorted({v.language for v in versions}):
        for one, other in pairwise(v for v in versions if v.language == language):
            if at < other.first and one.last < other.first - _NIGHT:
                days = f"{one.last + _NIGHT:%F} to {other.first - _NIGHT:%F}"
                yield "gap", one.name, other.name, f"nothing in force in {language} {days}"


def _siblings(versions: list[_Version], day: pd.Timestamp) -> Iterator[Row]:
    """Yield what the languages of an article lack on a day, beside the first of them."""
    now = [v for v in versions if v.holds(day)]
    if not now:
        return
    lead, *others = sorted(now, key=lambda v: (v.language != PIVOT, v.language))
    for sibling in others:
        if differs := differing(lead.quantities, sibling.quantities):
            why = f"on {day:%F} other numbers: {_values(differs)}"
            yield "sibling differs", lead.name, sibling.name, why
    for language in sorted({v.language for v in versions} - {v.language for v in now}):
        own = [v for v in versions if v.language == language]
        # One that is still to come, after others or as the first, is no successor that is missing.
        if all(v.last < day for v in own):
            why = f"from {own[-1].last + _NIGHT:%F} not in {language}"
            yield "missing sibling", lead.name, own[-1].name, why


def _versions(articles: pd.DataFrame, at: pd.Timestamp) -> Iterator[Row]:
    """Yield the faults of versions on a day and on all days of a change after it."""
    for versions in _by_article(articles):
        yield from _gaps(versions, at)
        begins = {v.first for v in versions}
        ends = {v.last + _NIGHT for v in versions if v.last < pd.Timestamp.max}
        said: set[tuple[str, str]] = set()
        for day in sorted({at, *(day for day in begins | ends if day > at)}):
            for row in _siblings(versions, day):
                # What lags behind on a day does so on later ones: it is said once.
                if (row[0], row[2]) not in said:
                    said.add((row[0], row[2]))
                    yield row


def audit(articles: pd.DataFrame, at: object, embedder: Embedder) -> pd.DataFrame:
    """List what an editor of the help centre should read, by what the articles say of themselves.

    Parameters
    ----------
    articles : DataFrame
        Every version, those that are announced too; that keep the contract.
    at : date-like
        Near duplicates and conflicts are those of the day, versions those from it on.
    embedder : Embedder
        Reads the sentences of pairs for the same reader.

    Returns
    -------
    DataFrame
        ``fault``, ``a``, ``b`` (versions, by ``id``), ``why``. **near duplicate**: the same
        subject for different readers. **conflict**: the same subject for the same reader, with
        other numbers or with a negation. **gap**: days on which no version is in force.
        **missing sibling**: ``b`` ends and has no successor in its language, ``a`` is in force in
        another. **sibling differs**: ``b`` says other numbers than ``a`` in another language.

    Notes
    -----
    Two articles are on the same subject when they share a quarter of their words
    (``SAME_SUBJECT``); who reads them is known by the audience and by places in the title. Nothing
    reads the articles' numbers (``KB-1044``), which in this world are those of the topics and
    would give every pair away. Threshold and units were chosen on the tuning half of the topics,
    the rule for readers with all planted pairs in view. The world's pages on one subject have
    whole sentences in common, which makes them easy to find: see :func:`without_copies`.
    """
    day = _day(at)
    rows = [*_side_by_side(articles, day, embedder), *_versions(articles, day)]
    return pd.DataFrame(rows, columns=["fault", "a", "b", "why"])


# Held against the world's truth -------------------------------------------------------

#: Faults of articles, in the order of reports.
FAULTS = ("near duplicate", "conflict", "gap", "missing sibling", "sibling differs")


def without_copies(articles: pd.DataFrame, at: object) -> pd.DataFrame:
    """Take out of planted pairs what was copied: a harder test of the audit.

    Parameters
    ----------
    articles : DataFrame
        Of the world.
    at : date-like

    Returns
    -------
    DataFrame
        The same articles; of two that conflict or are near duplicates on the day, one lacks every
        sentence that stands word for word in the other.
    """
    known, texts = world.truth(at), articles.set_index("id")["text"].to_dict()
    duplicates = known.near_duplicates[["base", "article"]]
    pairs = [*known.conflicts[["article", "partner"]].itertuples(index=False, name=None)]
    pairs += duplicates.drop_duplicates().itertuples(index=False, name=None)

    def flat(sentence: str) -> str:
        return " ".join(sentence.split())

    for one, other in pairs:
        there = {flat(texts[one][a:b]) for a, b in sentence_spans(texts[one])}
        text = texts[other]
        for a, b in reversed(sentence_spans(text)):
            if flat(text[a:b]) in there and not text[a:b].startswith("#"):
                text = text[:a] + text[b:]
        texts[other] = text
    return articles.assign(text=articles["id"].map(texts))


def audit_scores(found: pd.DataFrame, at: object, half: str = "test") -> pd.DataFrame:
    """Hold an audit of the world's articles against the world's truth.

    Parameters
    ----------
    found : DataFrame
        Of :func:`audit`, of all articles of the world.
    at : date-like
        The day of the audit.
    half : {"tune", "test"}
        Of the topics; see :func:`half_of`. A pair is of the tuning half if both its topics are.

    Returns
    -------
    DataFrame
        Index ``fault``; ``planted``, ``found``, ``right`` (found and planted), ``precision`` and
        ``recall`` with ends of its 95 % interval (missing where nothing is planted). ``quoted``:
        of the right conflicts, the share that quotes both sentences which contradict each other.
    """
    articles, rows = world.knowledge_base(), []
    topic = articles.set_index("id")["topic"]
    answers = _contradicting(at)
    planted = {
        "near duplicate": _pairs_of(world.truth(at).near_duplicates[["article", "base"]]),
        "conflict": set(answers),
        "missing sibling": _lagging(articles, _day(at)),
    }

    def here(pair: frozenset[str]) -> bool:
        tuning = all(half_of(topic[name]) == "tune" for name in pair)
        return tuning == (half == "tune")

    for fault in FAULTS:
        said = found[found["fault"] == fault]
        whys = {frozenset((row.a, row.b)): row.why for row in said.itertuples()}
        true = {pair for pair in planted.get(fault, ()) if here(pair)}
        told = {pair for pair in whys if here(pair)}
        right = told & true
        recall, low, high = wilson([pair in told for pair in true])
        row = {"fault": fault, "planted": len(true), "found": len(told), "right": len(right)}
        row |= {"precision": len(right) / len(told) if told else np.nan}
        row |= {"recall": recall, "low": low, "high": high, "quoted": np.nan}
        if fault == "conflict" and right:
            quotes = [all(a in whys[pair] for a in answers[pair]) for pair in right]
            row["quoted"] = float(np.mean(quotes))
        rows.append(row)
    return pd.DataFrame(rows).set_index("fault")


def _pairs_of(frame: pd.DataFrame) -> set[frozenset[str]]:
    return set(map(frozenset, frame.itertuples(index=False, name=None)))


def _contradicting(at: object) -> dict[frozenset[str], list[str]]:
    """Return the pairs that contradict each other, with the sentences that do."""
    known = world.truth(at)
    said = known.facts.set_index(["article", "fact"])["answer"].to_dict()
    return {
        frozenset((c.article, c.partner)): [said[c.article, c.fact], said[c.partner, c.fact]]
        for c in known.conflicts.itertuples()
    }


def _lagging(articles: pd.DataFrame, at: pd.Timestamp) -> set[frozenset[str]]:
    """Return of the world's plan the last version in a language that has no successor, by topic.

    Paired with the version that is in force in another language on the day after.
    """
    found = set()
    for row in articles[articles["valid_to"] >= at].itertuples():
        morning = row.valid_to + _NIGHT
        of_topic = articles[articles["article_id"] == row.article_id]
        there = _on(of_topic, morning)
        planned = row.language in own_content().plan["topics"][row.topic]["languages"]
        if planned and len(there) and row.language not in set(there["language"]):
            lead = there.sort_values("language", key=lambda c: c != PIVOT)["id"].iloc[0]
            found.add(frozenset((lead, row.id)))
    return found


# Questions as they arrive ------------------------------------------------------------

#: Characters of a turn from which the embedder does not read its end (256 word pieces).
LONGEST_TURN = 1000
#: A language is believed to be another than declared from this probability and words on.
SURE, FEWEST_SAID = 0.9, 3


def question_faults(questions: pd.DataFrame, language: LanguageModel) -> pd.DataFrame:
    """List what the system finds in raw questions.

    Parameters
    ----------
    questions : DataFrame
        ``id``, ``language`` (declared), ``turns``.
    language : LanguageModel

    Returns
    -------
    DataFrame
        ``question``, ``fault``, ``start``, ``end`` (characters of the turns joined by a line
        break; -1 where it is the whole question): a format of personal data, ``wrong check
        digit``, ``empty turn``, ``long turn``, ``other language``.
    """
    rows = []
    for question in questions.itertuples():
        said = "\n".join(question.turns)
        rows += [(question.id, f.kind, f.start, f.end) for f in find(said)]
        wrong = (e for e in entities(said) if e.kind == "tracking_number_wrong")
        rows += [(question.id, "wrong check digit", e.start, e.end) for e in wrong]
        whole = {
            "empty turn": not all(turn.strip() for turn in question.turns),
            "long turn": any(len(turn) > LONGEST_TURN for turn in question.turns),
        }
        if len(re.findall(r"[^\W\d_]+", said)) >= FEWEST_SAID:
            told, probability = language(said)
            whole["other language"] = told != question.language and probability >= SURE
        rows += [(question.id, fault, -1, -1) for fault, is_there in whole.items() if is_there]
    return pd.DataFrame(rows, columns=["question", "fault", "start", "end"])


def question_audit(questions: pd.DataFrame, language: LanguageModel | None = None) -> pd.DataFrame:
    """Count what the system finds in the world's raw questions, against the world's truth.

    Parameters
    ----------
    questions : DataFrame
        Of the world, not masked.
    language : LanguageModel, optional
        :func:`~casebook.cases.support_rag_chatbot.evaluation.language_model` by default.

    Returns
    -------
    DataFrame
        Index ``fault``; ``planted``, ``found``, ``right`` (planted and found, as what it is).
        Empty turns, long ones and wrongly declared languages are not planted in the world: what is
        found of them is a false alarm. ``number`` has the length of a card or an IBAN and fails
        its check.
    """
    from casebook.cases.support_rag_chatbot.evaluation import language_model

    found = question_faults(questions, language or language_model())
    known = world.truth().entities
    known = known[known["question"].isin(questions["id"])]
    planted = known.assign(
        fault=known["type"].replace("tracking_number_wrong", "wrong check digit")
    )
    rows = []
    for fault in (*KINDS, "wrong check digit", "empty turn", "long turn", "other language"):
        true, told = (frame[frame["fault"] == fault] for frame in (planted, found))
        both = true.merge(told, on="question", suffixes=("", "_found"))
        touch = (both["start"] < both["end_found"]) & (both["start_found"] < both["end"])
        right = both[touch].drop_duplicates(["question", "start"])
        rows.append((fault, len(true), len(told), len(right)))
    return pd.DataFrame(rows, columns=["fault", "planted", "found", "right"]).set_index("fault")
