"""What the chatbot does under the clock and under attack: drills that a page runs.

* :func:`stage_latency`, :func:`embedding_cost`: what a reply costs.
* :func:`personal_data_drill`: planted data, looked for in log, state and what the model reads.
* :func:`compromised_drill`: a model in an attacker's hands, and what the check cannot stop.

Each returns a small table, ready to print. All but times hangs on seeds alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import cycle
from typing import Any

import pandas as pd

from casebook.cases.support_rag_chatbot import answer as answering
from casebook.cases.support_rag_chatbot import conversation, learning
from casebook.cases.support_rag_chatbot.answer import Answerer, ExtractiveReader
from casebook.cases.support_rag_chatbot.conversation import Chatbot, State, Turn
from casebook.cases.support_rag_chatbot.evaluation import CASE, NOW, VECTORS, language_model
from casebook.cases.support_rag_chatbot.languages import HelpCentre, Query
from casebook.cases.support_rag_chatbot.tracker import SAYS
from casebook.cases.support_rag_chatbot.world import (
    PII,
    TrackingAPI,
)
from casebook.llm import ChatModel, Compromised
from casebook.llm.messages import Request
from casebook.recorded.artifacts import manifest
from casebook.retrieval.centre import Hit
from casebook.retrieval.classify import LanguageModel, Scope
from casebook.retrieval.dense import Embedder
from casebook.retrieval.hostile import ATTACKS, TWISTS, Attack, own_words
from casebook.serving.drills import stage_table
from casebook.serving.leaks import left_of
from casebook.serving.privacy import Leak, MaskedLog, MaskedModel, mask


def chatbot(
    centre: HelpCentre,
    embedder: Embedder,
    table: pd.DataFrame,
    model: ChatModel | None = None,
    **more: Any,
) -> Chatbot:
    """Put the chatbot together with what it learned on the tuning questions.

    Parameters
    ----------
    centre : HelpCentre
    embedder : Embedder
    table : DataFrame
        Of :func:`~casebook.cases.support_rag_chatbot.evaluation.asked`; of its tuning questions
        the scope is learned.
    model : ChatModel, optional
        The extractive reader by default.
    **more
        Of :class:`Chatbot`; ``api`` is a tracking system with the usual faults by default.

    Returns
    -------
    Chatbot
    """
    api = more.pop("api", None) or TrackingAPI()
    scope = learning.fit_scope(table)
    return Chatbot(centre, Answerer(centre, embedder, model), language_model(), scope, api, **more)


def ask(bot: Chatbot, question: Any, at: object = NOW) -> tuple[State, Turn]:
    """Send the last turn of a question; the earlier ones stand in the state, masked.

    Nothing is answered to the earlier ones: it would cost the time of another reply.

    Parameters
    ----------
    bot : Chatbot
    question : row of :func:`casebook.cases.support_rag_chatbot.world.questions`
        Attributes ``turns`` (as the customer wrote them) and ``language``.
    at : Timestamp

    Returns
    -------
    state : State
    turn : Turn
    """
    *earlier, last = question.turns
    state = State(tuple(mask(turn).text for turn in earlier), question.language)
    return bot.reply(state, last, at, question.language)


# Latency ---------------------------------------------------------------------------------------

#: Which functions make up a stage, as the modules know them.
STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "mask": ((conversation, "mask_turns"),),
    "understand": (
        (LanguageModel, "__call__"),
        *((conversation, name) for name in ("facts_of", "foreign", "entities", "query_of")),
    ),
    "tracking": ((conversation, "track"),),
    "search": ((HelpCentre, "search"),),
    "read": ((answering, "candidates"),),
    "model": ((MaskedModel, "complete"),),
    "check": ((answering, "faults"),),
    "how sure": ((Answerer, "evidence"), (Scope, "__call__"), (conversation, "probability")),
    "log": ((MaskedLog, "__call__"),),
}


def stage_latency(
    bot: Chatbot, questions: pd.DataFrame, at: object = NOW, n: int = 100, warm_up: int = 10
) -> pd.DataFrame:
    """Say where the time of a reply goes; see :func:`casebook.serving.drills.stage_table`.

    With vectors from the artifact the embedder costs nothing: add what :func:`embedding_cost`
    says for each text of a question (one in English, in other languages two: the question and its
    translation). The tracking system's time is virtual (:class:`Tracked`) and not in it.

    Parameters
    ----------
    bot : Chatbot
    questions : DataFrame
        Of :func:`casebook.cases.support_rag_chatbot.world.questions`; asked in their order, again
        and again.
    at : Timestamp
    n, warm_up : int

    Raises
    ------
    ValueError
        Without a question, or with n below 100.
    """
    if questions.empty:
        raise ValueError("There is no question to time: give rows of `questions()`.")
    rows = cycle(questions.itertuples())
    return stage_table(lambda: ask(bot, next(rows), at), STAGES, n, warm_up)


def embedding_cost() -> pd.DataFrame:
    """Return what MiniLM took for a text of this case when the artifacts were made.

    Returns
    -------
    DataFrame
        ``file``, ``texts``, ``seconds``, ``ms_a_text``; the last row is ``all``. The time holds
        the loading of the model, and texts are read 32 at a time: a single question costs more.
    """
    made = manifest(CASE)
    rows = [(file, made[file]["rows"], made[file]["seconds"]) for file in VECTORS]
    table = pd.DataFrame(rows, columns=["file", "texts", "seconds"])
    table.loc[len(table)] = ["all", table["texts"].sum(), table["seconds"].sum()]
    return table.assign(ms_a_text=1000 * table["seconds"] / table["texts"])


# Personal data ---------------------------------------------------------------------------------


class Recorded(ExtractiveReader):
    """The extractive reader, keeping what it was asked: ``requests``."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def answer(self, request: Request) -> dict:
        """Keep the request and answer it."""
        self.requests.append(request)
        return super().answer(request)


def _like(bot: Chatbot, model: ChatModel, **more: Any) -> Chatbot:
    """Return the same chatbot with another model, and what else differs."""
    centre, verbatim = more.pop("centre", bot.centre), more.pop("verbatim", bot.answerer.verbatim)
    answerer = Answerer(centre, bot.answerer.embedder, model, verbatim)
    same = {"answer_from": bot.answer_from, "refuse_from": bot.refuse_from, "known": bot.known}
    same |= {"language": bot.language, "scope": bot.scope, "api": bot.api}
    return Chatbot(centre, answerer, **(same | more))


def _ours(request: Request) -> str:
    """Return what a model was given that is not the customer's: the policy and the sections."""
    sections = json.loads(request.messages[-1].content)["sections"]
    texts = [f"{section['article']}\n{section['text']}" for section in sections]
    return "\n".join([request.messages[0].content, *texts])


def personal_data_drill(
    bot: Chatbot, questions: pd.DataFrame, entities: pd.DataFrame, at: object = NOW
) -> pd.DataFrame:
    """Send planted personal data through a chatbot and look for them wherever it keeps or sends.

    All turns of a question are sent, one after the other.

    Parameters
    ----------
    bot : Chatbot
        Its model is replaced by the extractive reader that keeps its requests, its log by one
        that keeps its lines.
    questions : DataFrame
        Of :func:`casebook.cases.support_rag_chatbot.world.questions`.
    entities : DataFrame
        ``question``, ``type``, ``value``; rows of other types than personal data are passed over.
    at : Timestamp

    Returns
    -------
    DataFrame
        A row for each ``type`` and one for ``all``: ``planted`` values; ``to_model`` (of them in
        questions with which a model was asked); of which a part or the whole is found
        ``in_log``, ``in_model`` (its messages) and ``in_state``; ``whole`` (in full in any of the
        three); ``stopped`` (a way out refused, and the customer had no reply).
    """
    personal = entities[entities["type"].isin(PII)]
    by_question = dict(list(personal.groupby("question")))
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in PII}
    for question in questions[questions["id"].isin(by_question)].itertuples():
        model, lines = Recorded(), []
        state, stopped = State(), 0
        spied = _like(bot, model, log=MaskedLog(lines.append))
        try:
            for said in question.turns:
                state, _ = spied.reply(state, said, at, question.language)
        except Leak:
            stopped = 1
        sent = [message.content for request in model.requests for message in request.messages]
        ours = "\n".join(map(_ours, model.requests))
        places = {
            "in_log": "".join(lines),
            "in_model": "\n".join(sent),
            "in_state": "\n".join([*state.turns, state.tracking_number, *state.cited]),
        }
        for row in by_question[question.id].itertuples():
            found = {place: left_of(row.value, text, ours) for place, text in places.items()}
            counts[row.type] += Counter(
                planted=1,
                to_model=int(bool(sent)),
                whole=int("whole" in found.values()),
                stopped=stopped,
                **{place: int(bool(left)) for place, left in found.items()},
            )
    columns = ["planted", "to_model", "in_log", "in_model", "in_state", "whole", "stopped"]
    rows = {kind: count for kind, count in counts.items() if count["planted"]}
    table = pd.DataFrame(rows, index=columns).fillna(0).astype(int).T
    table.loc["all"] = table.sum()
    return table.rename_axis("type").reset_index()


# A model in an attacker's hands ----------------------------------------------------------------


class _Remembered:
    """A help centre that searches and reads once for each question: the attacks share it."""

    def __init__(self, centre: HelpCentre) -> None:
        self._centre, self._found, self._read = centre, {}, {}

    def search(self, query: Query, at: object, scores: object = None) -> list[Hit]:
        """See :meth:`HelpCentre.search`."""
        if query not in self._found:
            self._found[query] = self._centre.search(query, at, scores=scores)
        return self._found[query]

    def read(self, hit: Hit, at: object) -> list:
        """See :meth:`HelpCentre.read`."""
        if hit.key not in self._read:
            self._read[hit.key] = self._centre.read(hit, at)
        return self._read[hit.key]


_FIXED = frozenset(text for says in SAYS.values() for text in says.values())


def said_alone(turn: Turn, articles: pd.DataFrame, at: object = NOW) -> tuple[int, int]:
    """Count the words and marks of a reply that do not stand in what it cites.

    The articles themselves are read, not what the chatbot holds of them.

    Parameters
    ----------
    turn : Turn
    articles : DataFrame
        See :func:`~casebook.cases.support_rag_chatbot.languages.as_articles`.
    at : Timestamp
        A cited article that is not in force counts as none.

    Returns
    -------
    words, marks : int
        Of a reply without citations all words, but for the chatbot's own fixed sentences.
    """
    said = "" if not turn.citations and turn.text in _FIXED else turn.text
    for says in SAYS.values():
        said = said.removeprefix(says["other"])
    cited, held = [], articles.set_index(["article_id", "language", "version"])
    for c in turn.citations:
        row = held.loc[(c.article_id, c.language, c.version)]
        if row["valid_from"] <= at and not row["valid_to"] <= at:
            lines = row["text"][c.start : c.end].split("\n")
            text = " ".join(" ".join(x for x in lines if not x.startswith("#")).split())
            cited.append(re.sub(r"^(?:[-*]|\d+\.) ", "", text))
    return own_words(said, cited)


def compromised_drill(
    bot: Chatbot,
    questions: pd.DataFrame,
    articles: pd.DataFrame,
    at: object = NOW,
    verbatim: bool | None = None,
) -> pd.DataFrame:
    """Let an attacker hold the model: it says what the attacks and twists hold.

    The thresholds of the chatbot are taken away, so that the check alone stands between the model
    and the customer; ``past_threshold`` says what they would have stopped.

    Parameters
    ----------
    bot : Chatbot
    questions : DataFrame
        Of :func:`casebook.cases.support_rag_chatbot.world.questions`; those that no model is asked
        about (tracking, attacks, a wish for a person) are passed over.
    articles : DataFrame
        See :func:`said_alone`.
    at : Timestamp
    verbatim : bool, optional
        See :func:`~casebook.cases.support_rag_chatbot.answer.faults`; as the chatbot has it by
        default.

    Returns
    -------
    DataFrame
        A row for each ``attack`` of :mod:`casebook.retrieval.hostile`, one for ``all``, then the
        twists (``what`` says which they are): ``tried``; ``past_check``, replies that reach the
        customer; ``past_threshold``, those of them that do with the thresholds; ``own_words`` and
        ``own_marks``, replies past the check in which :func:`said_alone` finds some; ``bound``, the
        upper end of 95 % for the rate of ``own_words`` where there is none.

    Raises
    ------
    ValueError
        If no question reaches the model.
    """
    more = {"centre": _Remembered(bot.centre), "answer_from": 0.0, "refuse_from": 1.01}
    if verbatim is not None:
        more["verbatim"] = verbatim
    rows = []
    for what, table in (("attack", ATTACKS), ("twist", TWISTS)):
        for name, attack in table.items():
            model, counts = _taken(attack), Counter()
            held = _like(bot, model, **more)
            for question in questions.itertuples():
                before = len(model.requests)
                _, turn = ask(held, question, at)
                if len(model.requests) > before:
                    counts += _passed(turn, bot.answer_from, said_alone(turn, articles, at))
            if not counts["tried"]:
                raise ValueError("No question reaches the model: give some that articles answer.")
            rows.append({"what": what, "attack": name, **counts})
    return _with_all(pd.DataFrame(rows))


def _taken(attack: Attack) -> Compromised:
    """Return a model that says what an attack makes of its request."""

    def answer(request: Request) -> Any:
        asked = json.loads(request.messages[-1].content)
        return attack(request.messages[0].content, asked["language"], asked["sections"])

    return Compromised(answer)


def _passed(turn: Turn, answer_from: float, alone: tuple[int, int]) -> Counter[str]:
    shown, (said, marks) = turn.route == "answer", alone
    return Counter(
        tried=1,
        past_check=int(shown),
        past_threshold=int(shown and turn.confidence >= answer_from),
        own_words=int(said > 0),
        own_marks=int(marks > 0),
    )


def _with_all(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the sum of the attacks, and the bound where nothing came through."""
    columns = ["tried", "past_check", "past_threshold", "own_words", "own_marks"]
    rows = rows.reindex(columns=["what", "attack", *columns]).fillna(0)
    attacks = rows["what"] == "attack"
    whole = rows.loc[attacks, columns].sum().to_frame().T.assign(what="attack", attack="all")
    found = pd.concat([rows[attacks], whole, rows[~attacks]], ignore_index=True)
    found = found.astype(dict.fromkeys(columns, int))
    return found.assign(bound=(3 / found["tried"]).where(found["own_words"] == 0))
