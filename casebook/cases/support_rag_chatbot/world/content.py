"""What the world says and what it is asked: articles and questions, read from their files.

The text is written by hand and frozen; nothing here is drawn. ``topics.yml`` is the plan (topics,
facts, versions, near duplicates, conflicts), ``articles/<language>/<name>.md`` holds an article
with its facts in front, ``questions/<language>.yml`` the questions of a language.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

#: Day on which the questions are asked.
TODAY = pd.Timestamp("2026-06-30")
ROOT = Path(__file__).parent
#: Kinds of questions, in the order of reports.
KINDS = (
    "paraphrase",
    "identifier",
    "multi_turn",
    "unanswerable",
    "off_topic",
    "pii",
    "injection",
    "wrong_language",
)
#: First day of an article of which the plan does not say it.
FIRST_DAY = pd.Timestamp("2024-01-01")
#: Tune and test are told apart by a hash with this in front. It was chosen so that tune is near
#: two fifths of the questions of each language, before any model was tried.
SPLIT_SALT, TUNE_SHARE = "support-26", 0.4

#: Columns of :func:`knowledge_base`.
ARTICLE_COLUMNS = (
    *("id", "article_id", "topic", "number", "language", "version"),
    *("valid_from", "valid_to", "title", "text", "audience", "intent"),
)
#: Columns of :func:`questions`.
QUESTION_COLUMNS = ("id", "language", "kind", "text", "turns", "voice", "split")
_TITLE = re.compile(r"\A\s*# +(.+?) *\n")


@dataclass(frozen=True)
class Content:
    """All that stands in the files of a folder.

    Attributes
    ----------
    plan : dict
        ``topics.yml``, and under ``topics`` a dictionary by topic.
    planned : DataFrame
        One row for each article that the plan asks for: ``id``, ``article_id``, ``role`` (only,
        version, near_duplicate, conflict), ``variant``, ``topic``, ``language``, ``version``,
        ``valid_from``, ``valid_to``, ``audience``, ``facts`` (dictionary).
    articles : DataFrame
        :data:`ARTICLE_COLUMNS`, sorted by id.
    facts : DataFrame
        ``article``, ``fact``, ``value`` (as text, see :func:`as_text`), ``answer`` (the sentence),
        ``start``, ``end`` (where it stands in the article's text).
    questions : DataFrame
        :data:`QUESTION_COLUMNS` and what the writers say of each: ``topic``, ``relevant``,
        ``answer_fact``, ``entities``, ``route``, ``language_of_answer``.
    """

    plan: dict[str, Any]
    planned: pd.DataFrame
    articles: pd.DataFrame
    facts: pd.DataFrame
    questions: pd.DataFrame


def as_text(value: object) -> str:
    """Return a fact's value as text: ``7``, ``3.9``, ``true``, ``F-114``.

    Parameters
    ----------
    value : object
        As YAML gives it.

    Returns
    -------
    str
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _yaml(text: str) -> Any:
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _day(value: dt.date | None) -> pd.Timestamp:
    return pd.NaT if value is None else pd.Timestamp(value)


def name_of(article: str) -> str:
    """Return an article's name without language and version: ``en/express--v2`` is ``express``."""
    return re.sub(r"--v\d+$", "", article.partition("/")[2])


def _planned(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the articles that the plan asks for."""
    for topic in plan["topics"].values():

        def row(role: str, part: dict[str, Any], suffix: str, language: str, topic=topic) -> dict:
            variant = part.get("variant", "")
            return {
                "id": f"{language}/{topic['id']}{suffix}",
                "article_id": f"{topic['id']}--{variant}" if variant else topic["id"],
                "role": role,
                "variant": variant,
                "topic": topic["id"],
                "language": language,
                "version": part.get("version", 1),
                "valid_from": _day(part.get("valid_from", FIRST_DAY)),
                "valid_to": _day(part.get("valid_to")),
                "audience": part.get("audience", "private"),
                "facts": topic["facts"] | part.get("facts", {}),
            }

        for version in topic.get("versions", []):
            for language in version.get("languages", topic["languages"]):
                yield row("version", version, f"--v{version['version']}", language)
        if "versions" not in topic:
            for language in topic["languages"]:
                yield row("only", {}, "", language)
        for role, key in (("near_duplicate", "near_duplicates"), ("conflict", "conflicts")):
            for part in topic.get(key, []):
                for language in part["languages"]:
                    yield row(role, part, f"--{part['variant']}", language)


def _find(sentence: str, text: str) -> tuple[int, int]:
    """Return where a sentence stands in a text, line breaks taken for spaces; -1 if nowhere."""
    words = [re.escape(word) for word in sentence.split()]
    found = re.search(r"\s+".join(words), text) if words else None
    return found.span() if found else (-1, -1)


def _read_articles(root: Path, plan: dict[str, Any]) -> tuple[list[dict], list[dict]]:
    articles, facts = [], []
    for path in sorted((root / "articles").rglob("*.md")):
        ident = path.relative_to(root / "articles").with_suffix("").as_posix()
        parts = path.read_text(encoding="utf-8").split("---\n", 2)
        title = _TITLE.match(parts[-1])
        if len(parts) != 3 or not title:
            raise ValueError(f"{path} has no front matter between lines of --- or no title.")
        head, text = _yaml(parts[1]), parts[2][title.end() :].strip() + "\n"
        topic = plan["topics"].get(head["topic"])
        if topic is None or head["id"] != ident:
            raise ValueError(f"{path}: id {head['id']} or topic {head['topic']} is wrong.")
        articles.append(
            {
                "id": ident,
                "article_id": name_of(ident),
                "topic": head["topic"],
                "number": topic["number"],
                "language": head["language"],
                "version": head["version"],
                "valid_from": _day(head["valid_from"]),
                "valid_to": _day(head["valid_to"]),
                "title": title[1],
                "text": text,
                "audience": head["audience"],
                "intent": topic["intent"],
            }
        )
        for fact, said in head["facts"].items():
            start, end = _find(said["answer"], text)
            answer = " ".join(said["answer"].split())
            facts.append(
                {
                    "article": ident,
                    "fact": fact,
                    "value": as_text(said["value"]),
                    "answer": answer,
                    "start": start,
                    "end": end,
                }
            )
    return articles, facts


def split_of(key: str) -> str:
    """Return the split of a group of topics, or of a question that no article is to answer."""
    digest = hashlib.sha256(f"{SPLIT_SALT}/{key}".encode()).digest()
    return "tune" if int.from_bytes(digest[:8], "big") < TUNE_SHARE * 2**64 else "test"


def _read_questions(root: Path, plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in sorted((root / "questions").glob("*.yml")):
        for said in _yaml(path.read_text(encoding="utf-8")):
            if ("text" in said) == ("turns" in said):
                raise ValueError(f"{path}: {said.get('id')} needs either text or turns.")
            turns = tuple(said["turns"]) if "turns" in said else (said["text"],)
            topic = plan["topics"].get(said["topic"])
            if topic is None and said["topic"] is not None:
                raise ValueError(f"{path}: {said['id']} has the unknown topic {said['topic']}.")
            by_group = topic is not None and said["route"] != "tracking"
            yield {
                "id": said["id"],
                "language": path.stem,
                "kind": said["kind"],
                "text": turns[-1],
                "turns": turns,
                "voice": said["voice"],
                "split": split_of(topic["group"] if by_group else said["id"]),
                "topic": said["topic"],
                "relevant": tuple(said["relevant"]),
                "answer_fact": said["answer_fact"],
                "entities": tuple((e["type"], str(e["value"])) for e in said["entities"]),
                "route": said["route"],
                "language_of_answer": said["language_of_answer"],
            }


def read(root: Path = ROOT) -> Content:
    """Read the files of a folder.

    Parameters
    ----------
    root : Path
        With ``topics.yml``, ``articles/`` and ``questions/``.

    Returns
    -------
    Content
        What stands there; whether it keeps the world's promises says
        :func:`~casebook.cases.support_rag_chatbot.world.checks.audit`.

    Raises
    ------
    ValueError
        If a file cannot be read as what it should be.
    """
    plan = _yaml((root / "topics.yml").read_text(encoding="utf-8"))
    plan["topics"] = {topic["id"]: topic for topic in plan["topics"]}
    articles, facts = _read_articles(root, plan)
    return Content(
        plan=plan,
        planned=pd.DataFrame(_planned(plan)).sort_values("id", ignore_index=True),
        articles=pd.DataFrame(articles, columns=list(ARTICLE_COLUMNS)).sort_values(
            "id", ignore_index=True
        ),
        facts=pd.DataFrame(facts).sort_values(["article", "fact"], ignore_index=True),
        questions=pd.DataFrame(_read_questions(root, plan)).sort_values("id", ignore_index=True),
    )


@cache
def own_content() -> Content:
    """Return the world's own content, read once. Not to be changed by the caller."""
    return read()


def in_force(articles: pd.DataFrame, at: object) -> pd.DataFrame:
    """Return the rows that are valid on a day, both ends of the validity included.

    Parameters
    ----------
    articles : DataFrame
        With ``valid_from`` and ``valid_to``.
    at : date-like
        A time of day is left out.

    Returns
    -------
    DataFrame
    """
    day = pd.Timestamp(at).normalize()
    ends = articles["valid_to"].fillna(pd.Timestamp.max)
    return articles[(articles["valid_from"] <= day) & (day <= ends)]


def knowledge_base(at: object = None) -> pd.DataFrame:
    """Return the articles of the help centre.

    Nothing in it says that an article is a near duplicate or loses a conflict: that is truth.

    Parameters
    ----------
    at : date-like, optional
        Those in force on that day; by default every article ever, announced ones too.

    Returns
    -------
    DataFrame
        Sorted by ``id``. ``article_id`` is the same in all languages and versions, ``number`` the
        same for all articles on a topic; ``valid_to`` is the **last day** of validity, ``NaT``
        where none is set (an index that wants the moment of the end adds a day); ``text`` is
        Markdown without the title; ``audience`` is private or business.
    """
    articles = own_content().articles
    chosen = articles if at is None else in_force(articles, at)
    return chosen.reset_index(drop=True).copy()


def questions() -> pd.DataFrame:
    """Return the customers' questions.

    Returns
    -------
    DataFrame
        ``id``, ``language``, ``kind`` (for reports, never a feature), ``text`` (the last turn),
        ``turns`` (tuple of the customer's turns), ``voice`` (who writes; the languages have voices
        of their own), ``split`` (tune, test). A group of topics that are easily confused stands in
        one of them only; questions without a topic and those for the tracking system are split one
        by one.
    """
    return own_content().questions[list(QUESTION_COLUMNS)].copy()


def updates(start: object, end: object) -> pd.DataFrame:
    """Return what an index has to do on the days from ``start`` to ``end``, both included.

    Parameters
    ----------
    start, end : date-like

    Returns
    -------
    DataFrame
        ``day``, ``action`` (add, withdraw), ``id``, in order; on a day what has ended is withdrawn
        first. After the actions of a day the articles are those of ``knowledge_base(day)``.

    Raises
    ------
    ValueError
        If the end lies before the start.
    """
    first, last = pd.Timestamp(start).normalize(), pd.Timestamp(end).normalize()
    if last < first:
        raise ValueError(f"The updates end on {last:%Y-%m-%d}, before they begin ({first:%F}).")
    articles = own_content().articles
    rows = pd.concat(
        [
            pd.DataFrame({"day": articles["valid_from"], "action": "add", "id": articles["id"]}),
            pd.DataFrame(
                {
                    "day": articles["valid_to"] + pd.Timedelta(days=1),
                    "action": "withdraw",
                    "id": articles["id"],
                }
            ).dropna(),
        ]
    )
    rows = rows[rows["day"].between(first, last)]
    return rows.sort_values(
        ["day", "action", "id"], key=lambda c: c == "add" if c.name == "action" else c
    ).reset_index(drop=True)


def fingerprints(root: Path = ROOT) -> dict[str, str]:
    """Return the SHA-256 of the plan and of all articles and questions of each language.

    Parameters
    ----------
    root : Path

    Returns
    -------
    dict
        ``topics`` and each language; of the files' names and contents, in order, with line ends
        as in Unix.
    """
    files: dict[str, list[Path]] = {"topics": [root / "topics.yml"]}
    for path in sorted((root / "articles").rglob("*.md")):
        files.setdefault(path.parent.name, []).append(path)
    for path in sorted((root / "questions").glob("*.yml")):
        files.setdefault(path.stem, []).append(path)
    found = {}
    for name, paths in sorted(files.items()):
        digest = hashlib.sha256()
        for path in paths:
            text = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(text)}\0".encode() + text)
        found[name] = digest.hexdigest()
    return found
