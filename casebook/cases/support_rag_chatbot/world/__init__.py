"""World of case 16: a parcel carrier's knowledge base, its customers' questions, its tracking API.

Mechanisms
----------
*Knowledge base.* 60 topics of the help centre of an invented carrier, as articles in English (all),
German (45) and Spanish (40), each written in its language from one plan of facts. Topics come in
groups that readers and retrievers confuse. 21 topics have versions, each in force from a day to a
day; two changes lie after the day of the questions and are written in English only. 13 topics have
a near duplicate: the same subject for business customers or another country, with other values.
8 have a second article that contradicts the first on one fact; which one is right has a reason
(newer, or more specific).

*Questions.* 1,600, asked on 2026-06-30 in some fifteen voices a language: paraphrases,
identifiers (tracking, article and form numbers, status codes), two or three turns of which the last
is elliptic, what no article answers, what is no business of a carrier, personal data given away,
attempts to redirect the assistant, and questions in a language that has no article on the topic.
They were written from the facts, not from the articles' sentences: at most 30 % of a question's
content words stand in its article, in the median of each language and of each of its kinds.

*Truth.* Which articles answer, with grades, and the sentence that does; on any day, because
versions begin and end. What is stale is what is no longer in force.

*Tracking API.* Histories of parcels, and faults: time-outs that come in streaks, 500, unknown
numbers, stale answers and wrong depots.

*Contacts.* A stream of arrivals by hour, weekday and season, and what an answer leads to:
contained, repeated, handed over, believed and wrong, with cost and satisfaction.

Text is written by hand and frozen (``frozen.toml``); ``python -m
casebook.cases.support_rag_chatbot.world`` says whether it still is what was frozen, and
``… freeze`` freezes a change; ``tests/cases/support_rag_chatbot_promises.py`` lists where it breaks
a promise. Only tracking and contacts have seeds. All values are invented, none was estimated from
data: a high score here proves a method, not a business. Relevance is by topic and fact: a passage
of an article on another topic that happens to help counts as not relevant.

The two most arbitrary assumptions are what customers do after a wrong answer, and how well they
read an answer in another language
(:data:`~casebook.cases.support_rag_chatbot.world.contacts.REACTIONS`).
"""

from __future__ import annotations

import json

import pandas as pd

from .contacts import (
    ANSWER_KINDS,
    BASELINE,
    CONTACTS_A_MONTH,
    LANGUAGES_SERVED,
    Outcome,
    a_month,
    contacts,
    outcome,
    outcomes,
    staffed,
)
from .content import (
    KINDS,
    TODAY,
    Content,
    fingerprints,
    knowledge_base,
    questions,
    read,
    updates,
)
from .tracking import (
    SEED,
    STATUS_TEXTS,
    BadNumber,
    Faults,
    Status,
    TrackingAPI,
    TrackingError,
    TrackingRateLimited,
    TrackingServerError,
    TrackingTimeout,
    UnknownNumber,
    check_digit,
    is_tracking_number,
)
from .truth import PII, Truth, truth

CHAPTER = "16_support_rag_chatbot"

__all__ = [
    "ANSWER_KINDS",
    "BASELINE",
    "CHAPTER",
    "CONTACTS_A_MONTH",
    "KINDS",
    "LANGUAGES_SERVED",
    "PII",
    "SEED",
    "STATUS_TEXTS",
    "TODAY",
    "BadNumber",
    "Content",
    "Faults",
    "Outcome",
    "Status",
    "TrackingAPI",
    "TrackingError",
    "TrackingRateLimited",
    "TrackingServerError",
    "TrackingTimeout",
    "Truth",
    "UnknownNumber",
    "a_month",
    "check_digit",
    "contacts",
    "fingerprints",
    "is_tracking_number",
    "knowledge_base",
    "outcome",
    "outcomes",
    "questions",
    "read",
    "snapshots",
    "staffed",
    "truth",
    "updates",
]


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what ``make data`` writes: file name to frame.

    Returns
    -------
    dict
        Articles, questions (``turns`` as JSON), contacts, and the truth of :data:`TODAY`.
    """
    known = truth()
    asked = questions()
    asked["turns"] = [json.dumps(turns, ensure_ascii=False) for turns in asked["turns"]]
    return {
        "knowledge_base.parquet": knowledge_base(),
        "questions.parquet": asked,
        "relevance.parquet": known.relevance,
        "truth.parquet": known.questions,
        "entities.parquet": known.entities,
        "facts.parquet": known.facts,
        "contacts.parquet": contacts(),
    }
