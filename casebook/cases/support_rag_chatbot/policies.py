"""The chatbot at work: stale answers, and policies in the stream of contacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot import world
from casebook.cases.support_rag_chatbot.conversation import (
    SHOWN,
    Unsure,
    decide,
    facts_of,
    number_in,
)
from casebook.cases.support_rag_chatbot.evaluation import NOW, faq_run, relevance
from casebook.cases.support_rag_chatbot.languages import HelpCentre, Query, as_articles
from casebook.cases.support_rag_chatbot.world.contacts import (
    BASELINE,
    FATES,
    GOODWILL,
    REACTIONS,
)
from casebook.evaluate.intervals import Interval, pigeonhole

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

#: Where a tracking system is asked, where it depends on the hour whether somebody is there, and a
#: question back, after which the customer is handed over.
TRACK, HUMAN, ASKED_BACK = "track", "human", "asked back"


def with_facts(rows: pd.DataFrame) -> pd.DataFrame:
    """Add what the bot knows of each question before it searches: ``facts``.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`evaluation.confidences`.
    """
    known = [facts_of(tuple(turns)) for turns in rows["turns"]]
    searched = rows[["right", "off_topic", "said", "pair"]].itertuples(index=False)
    facts = [
        replace(f, sure=sure, off_topic=off, said=bool(said), pair=bool(pair))
        for f, (sure, off, said, pair) in zip(known, searched, strict=True)
    ]
    return rows.assign(facts=facts)


def bot_kinds(
    rows: pd.DataFrame,
    answer_from: float | Sequence[float],
    refuse_from: float,
    unsure: Unsure = "human",
) -> pd.Series:
    """Return what the bot does with each question, as a kind of answer.

    The route is that of :func:`conversation.decide`, which the bot calls for every turn.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`with_facts`.
    answer_from : float or sequence of float
        The same for all questions, or one for each.
    refuse_from, unsure
        See :func:`conversation.decide`.

    Returns
    -------
    Series of str
        Index ``id``: kinds of answer, :data:`TRACK`, :data:`HUMAN` or :data:`ASKED_BACK`.
    """
    kinds, titles = [], title_kinds(rows, rows["shown"])
    for row, cut in zip(rows.itertuples(), np.broadcast_to(answer_from, len(rows)), strict=True):
        route, _ = decide(row.facts, cut, refuse_from, unsure)
        if route == "refuse":
            kinds.append("refused_right" if row.route == "refuse" else "refused_wrong")
        elif route == "answer":  # where a parcel is stands in no article
            kinds.append("wrong" if row.route == "tracking" else row.label or "wrong")
        elif route == "titles":
            kinds.append(titles[row.id])
        else:
            kinds.append({"tracking": TRACK, "clarify": ASKED_BACK}.get(route, HUMAN))
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
    found = faq_run(table, at if searched is None else searched)
    by_question = found[found["rank"] <= SHOWN].groupby("query_id")["doc_id"].agg(tuple)
    return title_kinds(table, table["id"].map(by_question), at)


def title_kinds(table: pd.DataFrame, shown: pd.Series, at: object = NOW) -> pd.Series:
    """Return what titles do for each question, as a kind of answer.

    Parameters
    ----------
    table : DataFrame
        ``id``, ``language``.
    shown : Series of tuple of str
        Articles whose titles are shown, in the order of the table; missing where there are none.
    at : Timestamp
        When the questions are asked.

    Returns
    -------
    Series of str
        Index ``id``: what the world's customers do with titles (``BASELINE``), by whether a
        relevant article is among them, and in their language.
    """
    good, page = relevance(at).groupby("query_id")["doc_id"].agg(set), world.knowledge_base(at)
    written = page.groupby("language")["article_id"].agg(set)
    kinds = []
    for question, code, titles in zip(table["id"], table["language"], shown, strict=True):
        there = good.get(question, set()) & set(titles if isinstance(titles, tuple) else ())
        what = "right" if there & written[code] else "foreign" if there else "nothing"
        kinds.append(BASELINE[what])
    return pd.Series(kinds, index=table["id"], name="kind")


@cache
def _tracking(seed: int, day: pd.Timestamp) -> world.TrackingAPI:
    return world.TrackingAPI(seed, asked=day + pd.Timedelta(hours=12))


def tracking_kind(row: object, number: str, seed: int) -> str:
    """Ask the tracking system for a contact and return what it is told, as a kind of answer."""
    from casebook.cases.support_rag_chatbot.tracker import track

    api = _tracking(seed, row.arrived.normalize())
    told = track(api, number, row.arrived, row.language)
    if told.outcome in ("timeout", "garbled"):
        return "timeout_told"
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
        if kind == TRACK:
            kind = tracking_kind(row, numbers[row.question], seed)
        elif kind in (HUMAN, ASKED_BACK):
            kind = "abstain_to_human" if staffed else "abstain_no_human"
        told.append(kind)
    return told


#: What is added up over contacts.
MEASURES = ("contained", "resolved", "helped", "escalated", "csat", "cost_eur", "loss_eur")


def serve(
    policies: Mapping[str, tuple[pd.Series, str]],
    numbers: Mapping[str, str],
    cluster: pd.Series,
    seeds: Sequence[int],
    per_month: float = 2000,
    reactions: Mapping[str, Sequence[float]] = REACTIONS,
) -> pd.DataFrame:
    """Let policies serve the same contacts of a month, for several seeds.

    What is answered to a question is what is right on the day on which the questions were written;
    the few articles that change during the stream are left to :func:`replay`. Each policy asks a
    tracking system of its own, with the same faults.

    Parameters
    ----------
    policies : mapping of str to (kinds, served)
        ``served`` is what each answer costs: faq, bot or bot_with_model.
    numbers : mapping of str to str
        See :func:`contact_kinds`.
    cluster : Series of str
        By question: what would be new next time; see :func:`evaluation.asked`.
    seeds : sequence of int
    per_month : float
        Contacts about questions that no policy knows are left out.
    reactions : mapping
        What customers do after each kind of answer.

    Returns
    -------
    DataFrame
        A row for each ``policy``, ``seed`` and ``cluster``: number of ``contacts`` and the sums of
        :data:`MEASURES` over them (``helped``: contained and resolved; ``loss_eur``: what customers
        are left with).
    """
    known, rows = set.intersection(*(set(kinds.index) for kinds, _ in policies.values())), []
    for seed in seeds:
        frame = world.contacts(seed, 1, per_month)
        frame = frame[frame["question"].isin(known)].reset_index(drop=True)
        for name, (kinds, served) in policies.items():
            _tracking.cache_clear()  # its faults hang on earlier calls: each policy has its own
            told = contact_kinds(frame, kinds, numbers, seed)
            out = world.outcomes(frame, told, seed, served, reactions=reactions)
            out = out.assign(
                contacts=1,
                contained=~out["escalated"],
                helped=out["resolved"] & ~out["escalated"],
                loss_eur=(1 - GOODWILL) * out["customer_loss_eur"],
                cluster=frame["question"].map(cluster).to_numpy(),
            )
            sums = out.groupby("cluster")[["contacts", *MEASURES]].sum().reset_index()
            rows.append(sums.assign(policy=name, seed=seed))
    table = pd.concat(rows, ignore_index=True)
    return table[["policy", "seed", "cluster", "contacts", *MEASURES]]


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Return each policy's means over contacts, all seeds together: index ``policy``.

    Parameters
    ----------
    table : DataFrame
        Of :func:`serve`.
    """
    sums = table.groupby("policy", sort=False)[["contacts", *MEASURES]].sum()
    return sums[list(MEASURES)].div(sums["contacts"], axis=0).assign(contacts=sums["contacts"])


def _grid(table: pd.DataFrame, policy: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return the sums of a policy by seed and cluster, zero where nothing was asked."""
    own = table[table["policy"] == policy].assign(eur=lambda t: t[list(columns)].sum(axis=1))
    return own.pivot(index="seed", columns="cluster", values="eur").fillna(0.0)


def gap_closed(
    table: pd.DataFrame,
    policy: str,
    floor: str,
    ceiling: str,
    against: str = "",
    columns: Sequence[str] = ("cost_eur", "loss_eur"),
) -> Interval:
    """Return which share of the way from a floor to a ceiling a policy closes, in euro.

    Months and clusters of questions are resampled, both: another month would bring other contacts,
    and another year other topics.

    Parameters
    ----------
    table : DataFrame
        Of :func:`serve`.
    policy, floor, ceiling : str
    against : str, optional
        By how much more than this policy it closes, on the same contacts; the floor by default.
    columns : sequence of str
        What is added up; by default the carrier's cost and the customer's loss.
    """
    ends = [_grid(table, name, columns) for name in (against or floor, policy, floor, ceiling)]
    other, own, low, high = (frame.to_numpy() for frame in ends)
    return pigeonhole(other - own, low - high, draws=4000)


# The most arbitrary assumptions of the world ---------------------------------------------

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
    "is helped by a title": ("partial", "helped", ("again", "called", "gave_up")),
    "is misled by a title": ("titles_wrong", "believed", ("again", "called", "gave_up")),
}
#: What another language does to an answer and to a title: kind, and the kind in one's own.
FOREIGN = {"right_other_language": "right", "partial_other_language": "partial"}
#: Values of each beside the world's own.
SETTINGS: dict[str, tuple[float, ...]] = {
    "believes a wrong answer": (0.15, 0.25, 0.45, 0.55),
    "calls after a wrong answer": (0.20, 0.30, 0.50, 0.60),
    "understands another language": (0.30, 0.40, 0.70, 0.80),
    "is helped by a title": (0.38, 0.48, 0.68, 0.78),
    "is misled by a title": (0.01, 0.02, 0.05, 0.10, 0.15),
}


def reactions_if(parameter: str, value: float) -> dict[str, Sequence[float]]:
    """Return what customers do after each kind of answer, under another assumption.

    Who reads another language well is as content with an answer or a title in it as with one in
    his own: there ``helped`` of both is the value times what it is in one's own. After a stale
    answer nothing changes.

    Parameters
    ----------
    parameter : str
        Of :data:`ASSUMPTIONS`.
    value : float
        Share of the customers.

    Raises
    ------
    ValueError
        If the value leaves nothing for the fates that make room.
    """
    kind, fate, room = ASSUMPTIONS[parameter]
    changed = {}
    for name in FOREIGN if kind in FOREIGN else (kind,):
        row = dict(zip(FATES, REACTIONS[name], strict=True))
        own = (
            dict(zip(FATES, REACTIONS[FOREIGN[name]], strict=True))[fate] if kind in FOREIGN else 1
        )
        row[fate] = value * own
        left = 1 - sum(share for f, share in row.items() if f not in room)
        if not (value >= 0 and left > 0):
            raise ValueError(f"{parameter} = {value}: the other fates would have {left:.2f} left.")
        scale = left / sum(row[f] for f in room)
        changed[name] = tuple((row | {f: row[f] * scale for f in room}).values())
    return dict(REACTIONS) | changed


def tracking_numbers(table: pd.DataFrame) -> dict[str, str]:
    """Return the tracking number of the questions that the bot would look up."""
    found = {i: number_in(turns[-1]) for i, turns in zip(table["id"], table["turns"], strict=True)}
    return {question: number for question, number in found.items() if number}
