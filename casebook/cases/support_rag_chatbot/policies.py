"""The chatbot at work: stale answers, policies in the stream of contacts, planted faults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.answer import faults, quoted
from casebook.cases.support_rag_chatbot.conversation import Chatbot, State
from casebook.cases.support_rag_chatbot.evaluation import NOW, faq_run, relevance
from casebook.cases.support_rag_chatbot.languages import HelpCentre, Query, as_articles
from casebook.cases.support_rag_chatbot.world.contacts import (
    FATES,
    GOODWILL,
    REACTIONS,
    UNDERSTANDS,
)
from casebook.evaluate.gap import by_item, gaps
from casebook.retrieval.index import Passage
from casebook.serving.guard import attack

# Stale answers -----------------------------------------------------------------------


def stale_hits(
    centre: HelpCentre, queries: Sequence[Query], day: object, k: int = 10
) -> tuple[int, int]:
    """Count hits whose version is not in force on a day.

    Returns
    -------
    stale, hits : int
    """
    page = world.knowledge_base(day)
    there = set(zip(page["article_id"], page["language"], page["version"], strict=True))
    found = [hit for query in queries for hit in centre.search(query, day, k)]
    return sum(hit.key not in there for hit in found), len(found)


def replay(
    centre: HelpCentre, queries: Sequence[Query], start: object, end: object, update: bool = True
) -> pd.DataFrame:
    """Change an index day by day as the world's articles change, and ask after each change.

    Parameters
    ----------
    centre : HelpCentre
        Of the articles that began before ``start``, with their last days as known then.
    queries : sequence of Query
    start, end : date-like
    update : bool
        False: the index is left as it was, and its clock with it.

    Returns
    -------
    DataFrame
        ``day``, ``added``, ``stale``, ``hits``.
    """
    articles = world.knowledge_base()
    changes, rows = world.updates(start, end), []
    for day, actions in changes.groupby("day"):
        new = articles[articles["id"].isin(actions.loc[actions["action"] == "add", "id"])]
        ended = articles[articles["id"].isin(actions.loc[actions["action"] == "withdraw", "id"])]
        if update:
            centre.update(as_articles(pd.concat([new, ended])))
            stale, hits = stale_hits(centre, queries, day)
        else:
            page = world.knowledge_base(day)
            there = set(zip(page["article_id"], page["language"], page["version"], strict=True))
            found = [hit for q in queries for hit in centre.search(q, start, 10)]
            stale, hits = sum(hit.key not in there for hit in found), len(found)
        rows.append((day, len(new), stale, hits))
    return pd.DataFrame(rows, columns=["day", "added", "stale", "hits"])


def known_before(start: object) -> pd.DataFrame:
    """Return the articles of an index as it was before a day: later ends are not known yet."""
    articles = world.knowledge_base()
    began = articles[articles["valid_from"] < pd.Timestamp(start)].copy()
    began.loc[began["valid_to"] >= pd.Timestamp(start), "valid_to"] = pd.NaT
    return as_articles(began)


# Policies in the stream of contacts --------------------------------------------------


def bot_kinds(rows: pd.DataFrame, answer_from: float, refuse_from: float) -> pd.Series:
    """Return what the bot does with each question, as a kind of answer.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`confidences`, with ``attack`` (bool).
    answer_from, refuse_from : float

    Returns
    -------
    Series of str
        Index ``id``: kinds of answer; ``track`` where the tracking system is asked, ``human``
        where it depends on the hour whether somebody is there.
    """
    good = rows["route"] == "refuse"
    refused = rows["attack"] | (rows["off_topic"] >= refuse_from)
    given = (rows["right"] >= answer_from) & (rows["said"] != "")
    told = rows["label"].replace({"": "wrong"})
    # A question for the tracking system that is answered from an article gets a wrong answer.
    told = told.mask(rows["route"] == "tracking", "wrong")
    kinds = np.select(
        [rows["attack"], rows["tracks"], refused & good, refused, given],
        [
            np.where(good, "refused_right", "refused_wrong"),
            "track",
            "refused_right",
            "refused_wrong",
            told,
        ],
        "human",
    )
    return pd.Series(kinds, index=rows["id"], name="kind")


def faq_kinds(table: pd.DataFrame, at: object = NOW, searched: object | None = None) -> pd.Series:
    """Return what the FAQ search does with each question, as a kind of answer.

    Parameters
    ----------
    table : DataFrame
        Of :func:`asked`.
    at : Timestamp
        When the questions are asked.
    searched : Timestamp, optional
        Day of the page that is searched, by default that of the questions.

    Returns
    -------
    Series of str
        Index ``id``: by what stands behind the three titles that are shown
        (``casebook.cases.support_rag_chatbot.world.contacts.BASELINE``).
    """
    from casebook.cases.support_rag_chatbot.world.contacts import BASELINE

    shown = faq_run(table, at if searched is None else searched)
    shown = shown[shown["rank"] <= 3].merge(relevance(at), on=["query_id", "doc_id"])
    hit = table["id"].isin(shown["query_id"])
    ours = table["route"] != "refuse"
    behind = np.select([~ours, hit], ["off_topic", "right"], "nothing")
    return pd.Series([BASELINE[name] for name in behind], index=table["id"], name="kind")


@cache
def _tracking(seed: int, day: pd.Timestamp) -> world.TrackingAPI:
    return world.TrackingAPI(seed, asked=day + pd.Timedelta(hours=12))


def tracking_kind(row: object, number: str, seed: int) -> str:
    """Ask the tracking system for a contact and return what it is told, as a kind of answer."""
    from casebook.cases.support_rag_chatbot.conversation import track

    api = _tracking(seed, row.arrived.normalize())
    told = track(api, number, row.arrived, row.language)
    if told.outcome in ("timeout", "unknown"):
        return "timeout_told" if told.outcome == "timeout" else "partial"
    if told.status is None:
        return "partial"
    true = api.true_status(number, row.arrived)
    same = (told.status.code, told.status.depot) == (true.code, true.depot)
    if same:
        return "right"
    return "partial" if told.outcome == "old" or told.status.code == true.code else "stale"


def contact_kinds(
    frame: pd.DataFrame, kinds: pd.Series, numbers: Mapping[str, str], seed: int
) -> list[str]:
    """Return the kind of answer of each contact: the hour and the tracking system decide the rest.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`casebook.cases.support_rag_chatbot.world.contacts`, of questions that ``kinds``
        knows.
    kinds : Series
        Of :func:`bot_kinds` or :func:`faq_kinds`.
    numbers : mapping of str to str
        Tracking number by question.
    seed : int
        Of the tracking system.
    """
    there = world.staffed(frame["arrived"])
    told = []
    for row, staffed in zip(frame.itertuples(), there, strict=True):
        kind = kinds[row.question]
        if kind == "track":
            kind = tracking_kind(row, numbers[row.question], seed)
        elif kind == "human":
            kind = "abstain_to_human" if staffed else "abstain_no_human"
        told.append(kind)
    return told


def compare_policies(
    policies: Mapping[str, tuple[pd.Series, str]],
    numbers: Mapping[str, str],
    seeds: Sequence[int],
    months: float = 1,
    per_month: float = 2000,
) -> pd.DataFrame:
    """Let policies serve the same contacts, for several seeds.

    What is answered to a question is what is right on the day on which the questions were written;
    the few articles that change during the stream are left to :func:`replay`. Each policy asks a
    tracking system of its own, with the same faults.

    Parameters
    ----------
    policies : mapping of str to (kinds, served)
        ``served`` is what each answer costs: faq or bot.
    numbers : mapping of str to str
        See :func:`contact_kinds`.
    seeds : sequence of int
    months, per_month : float
        Of each stream; contacts about questions that no policy knows are left out.

    Returns
    -------
    DataFrame
        ``policy``, ``seed``, ``contacts``, ``contained`` (share not escalated), ``resolved``,
        ``helped`` (contained and resolved), ``escalated``, ``csat``, ``cost_eur`` (the
        carrier's, of a contact, what it makes good among it), ``loss_eur`` (what the customer is
        left with).
    """
    known = set.intersection(*(set(kinds.index) for kinds, _ in policies.values()))
    rows = []
    for seed in seeds:
        frame = world.contacts(seed, months, per_month)
        frame = frame[frame["question"].isin(known)].reset_index(drop=True)
        for name, (kinds, served) in policies.items():
            _tracking.cache_clear()  # its faults hang on earlier calls: each policy has its own
            out = world.outcomes(frame, contact_kinds(frame, kinds, numbers, seed), seed, served)
            rows.append(
                {
                    "policy": name,
                    "seed": seed,
                    "contacts": len(out),
                    "contained": 1 - out["escalated"].mean(),
                    "resolved": out["resolved"].mean(),
                    "helped": (out["resolved"] & ~out["escalated"]).mean(),
                    "escalated": out["escalated"].mean(),
                    "csat": out["csat"].mean(),
                    "cost_eur": out["cost_eur"].mean(),
                    "loss_eur": (1 - GOODWILL) * out["customer_loss_eur"].mean(),
                }
            )
    return pd.DataFrame(rows)


def paired_gain(table: pd.DataFrame, against: str, column: str) -> pd.DataFrame:
    """Return each policy's mean difference to another one over the seeds, with 95 % by Student's t.

    Parameters
    ----------
    table : DataFrame
        Of :func:`compare_policies`.
    against : str
    column : str
    """
    wide = table.pivot(index="seed", columns="policy", values=column)
    gain = wide.drop(columns=against).sub(wide[against], axis=0)
    long = gain.stack().rename("difference").reset_index()
    return by_item(long, "difference")


#: The ends of the scale on which a policy's cost is put.
BASELINE, CEILING = "FAQ search", "knows everything"


def gap_closed(
    table: pd.DataFrame, columns: Sequence[str] = ("cost_eur", "loss_eur")
) -> pd.DataFrame:
    """Return which share of the gap from the FAQ search to knowing everything a policy closes.

    For each seed, with the sum of ``columns`` (euro for each contact): (FAQ search - policy) /
    (FAQ search - knows everything). 0 is as dear as the search, below 0 dearer.

    Parameters
    ----------
    table : DataFrame
        Of :func:`compare_policies`, with both ends.
    columns : sequence of str
        By default the carrier's cost and the customer's loss.

    Returns
    -------
    DataFrame
        ``policy`` (without the ends), ``gap`` (mean over the seeds), ``low``, ``high`` (95 % by
        Student's t).

    Raises
    ------
    ValueError
        Without one of the ends, or with fewer than two seeds.
    """
    costs = table.assign(eur=table[list(columns)].sum(axis=1))
    costs["gap"] = gaps(costs, BASELINE, CEILING, "eur", item="policy")
    return by_item(costs[~costs["policy"].isin([BASELINE, CEILING])], "gap")


# The two most arbitrary assumptions of the world -----------------------------------------

#: What is varied, one at a time: kind of answer, fate, and the fates that make room for it, each in
#: proportion.
ASSUMPTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "believes a wrong answer": ("wrong", "believed", ("again", "called", "gave_up")),
    "calls after a wrong answer": ("wrong", "called", ("again", "gave_up")),
    "understands another language": (
        "right_other_language",
        "helped",
        ("again", "called", "gave_up"),
    ),
}
#: Values of each; the middle one is the world's.
SETTINGS: dict[str, tuple[float, ...]] = {
    "believes a wrong answer": (0.15, 0.25, 0.35, 0.45, 0.55),
    "calls after a wrong answer": (0.20, 0.30, 0.40, 0.50, 0.60),
    "understands another language": (0.30, 0.40, UNDERSTANDS, 0.70, 0.80),
}


def reaction(parameter: str, value: float) -> tuple[str, tuple[float, ...]]:
    """Return a kind of answer and what customers do after it, under another assumption.

    Who reads an answer in another language well is as content with it as with one in his own:
    ``helped`` is the value times what a right answer gets. After a stale answer nothing changes.

    Parameters
    ----------
    parameter : str
        Of :data:`ASSUMPTIONS`.
    value : float
        Share of the customers.

    Returns
    -------
    kind : str
    shares : tuple of float
        Of the fates, in the order of ``casebook.cases.support_rag_chatbot.world.contacts.FATES``;
        they sum
        to 1.

    Raises
    ------
    ValueError
        If the value leaves nothing for the fates that make room.
    """
    kind, fate, room = ASSUMPTIONS[parameter]
    row = dict(zip(FATES, REACTIONS[kind], strict=True))
    right = dict(zip(FATES, REACTIONS["right"], strict=True))
    row[fate] = value * right["helped"] if fate == "helped" else value
    left = 1 - sum(share for name, share in row.items() if name not in room)
    if not (value >= 0 and left > 0):
        raise ValueError(f"{parameter} = {value}: the other fates would have {left:.2f} left.")
    scale = left / sum(row[name] for name in room)
    row |= {name: row[name] * scale for name in room}
    return kind, tuple(row.values())


@contextmanager
def assuming(parameter: str, value: float) -> Iterator[None]:
    """Let customers react otherwise for a while; see :func:`reaction`.

    Contacts, tracking and all random numbers stay the same, so that worlds are compared in pairs.
    """
    kind, shares = reaction(parameter, value)
    before = REACTIONS[kind]
    REACTIONS[kind] = shares
    try:
        yield
    finally:
        REACTIONS[kind] = before


def tracking_numbers(table: pd.DataFrame) -> dict[str, str]:
    """Return the tracking number of the questions that the bot would look up."""
    found = {}
    for question, turns in zip(table["id"], table["turns"], strict=True):
        state = State(tuple(turns), "en")
        if number := Chatbot._number(state, turns[-1]):
            found[question] = number
    return found


def with_routes(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``attack`` and ``tracks`` to questions: what the bot checks before it searches."""
    numbers = tracking_numbers(rows)
    return rows.assign(
        attack=[bool(attack(turns[-1])) for turns in rows["turns"]],
        tracks=rows["id"].isin(numbers),
    )


# The faithfulness check against planted faults -----------------------------------------


def embellish(text: str, language: str, rng: np.random.Generator) -> tuple[str, str]:
    """Change an answer as a careless model might: a number, a negation, a promise, a link.

    Returns
    -------
    text, what : str
        ``what`` is empty where nothing was changed.
    """
    number = re.search(r"\d+", text)
    ways = ["promise", "link", "negation"] + ["number"] * bool(number)
    what = str(rng.choice(ways))
    if what == "number":
        changed = str(int(number[0]) + int(rng.integers(1, 9)))
        return text[: number.start()] + changed + text[number.end() :], what
    if what == "negation":
        word = {"en": "not ", "de": "nicht ", "es": "no "}[language]
        cut = text.find(" ") + 1
        return text[:cut] + word + text[cut:], what
    promise = {
        "en": " You will also get a voucher.",
        "de": " Sie erhalten außerdem einen Gutschein.",
        "es": " Además recibirá un vale.",
    }
    link = {"en": " See", "de": " Siehe", "es": " Vea"}
    added = promise[language] if what == "promise" else f"{link[language]} www.example.com/claim"
    return text + added, what


def check_study(passages: Sequence[Passage], seed: int = 0) -> pd.DataFrame:
    """Let the check read planted faults, and faultless answers, in both its forms.

    Parameters
    ----------
    passages : sequence of Passage
        Sections to quote.
    seed : int

    Returns
    -------
    DataFrame
        ``fault`` (empty: none), ``answers``, ``refused_verbatim``, ``refused_reworded`` (shares).
    """
    rng, rows = np.random.default_rng(seed), []
    for passage in passages:
        quote = quoted(passage)
        changed, what = embellish(quote, passage.language, rng)
        for text, fault in ((quote, ""), (changed, what)):
            strict, loose = (faults(text, [passage], passage.language, v) for v in (True, False))
            rows.append((fault, bool(strict), bool(loose)))
    frame = pd.DataFrame(rows, columns=["fault", "refused_verbatim", "refused_reworded"])
    means = frame.groupby("fault").mean()
    return means.assign(answers=frame.groupby("fault").size()).reset_index()
