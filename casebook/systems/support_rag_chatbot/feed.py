"""Between the editors and the index: a contract refuses articles, audits find what no rule can.

The contract looks at each article: form, validity, and what an index must not hold, because a
model reads it and customers are shown it. What it knows of instructions and of addresses are
patterns, and what is worded anew gets through: masks, citations and the check of answers stand
behind it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pandas as pd

from casebook.contracts import ContractBroken, enforce, summary
from casebook.systems.support_rag_chatbot.privacy import find
from casebook.systems.support_rag_chatbot.understand import attack

if TYPE_CHECKING:
    import pandera.pandas as pa

KEY = ["article_id", "language", "version"]
LANGUAGES, AUDIENCES = ("en", "de", "es"), ("private", "business")
#: An article of the help centre has 99 words and more; what has fewer than these was cut off.
FEWEST_WORDS = 30
#: Hosts that an article may link to, with all below them.
HOSTS = ("carrier.example",)
#: Phrases of our articles that the guard takes for an attack; an editor has read and allowed them.
APPROVED = ("hold the contract", "holds the contract", "after which other customers pay")
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
        The columns of :func:`~casebook.simulators.support.knowledge_base`; ``valid_to`` is the last
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
