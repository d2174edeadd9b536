"""One conversation: state over turns, and for each turn a route.

``refuse`` (attack, off topic) · ``tracking`` (a number with the right check digit) · ``answer``
(from the help centre, with citations) · ``clarify`` (one question back) · ``human``. The order is
that of the checks in :meth:`Chatbot.reply`. A turn is masked before anything else reads it.

What the tracking system says is repeated, never completed: each sentence about a parcel is made of
the fields of its answer. Where there is none within the budget the customer is told so and offered
a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from casebook.cases.support_rag_chatbot.answer import EVIDENCE, Answer, Answerer, Citation
from casebook.cases.support_rag_chatbot.languages import HelpCentre, Hit, Query
from casebook.cases.support_rag_chatbot.learned import ANSWER_FROM, OFF_TOPIC, REFUSE_FROM, RIGHT
from casebook.cases.support_rag_chatbot.understand import (
    SCOPE,
    Entity,
    LanguageModel,
    Scope,
    entities,
    wants_person,
)
from casebook.cases.support_rag_chatbot.world import (
    BadNumber,
    Status,
    TrackingAPI,
    TrackingError,
    TrackingRateLimited,
    TrackingTimeout,
    UnknownNumber,
)
from casebook.serving.guard import ATTACKS, attack
from casebook.serving.privacy import MaskedLog, mask_turns, without_masks

Route = Literal["tracking", "answer", "clarify", "human", "refuse"]
Rewriting = Literal["last turn", "all turns", "rewritten"]

# A question that stands alone --------------------------------------------------------

_OPENING = re.compile(
    r"^\W*(?:and|but|or|also|what about|how about|what if|then|so|und|aber|oder|auch|was ist mit"
    r"|wie ist|wenn|dann|also|hm|y|e|pero|o|también|entonces|ni|qué tal)\b",
    re.IGNORECASE,
)  # fmt: skip
_BACK = re.compile(
    r"\b(?:it|that|this|there|them|those|one|es|das|dies\w*|dort|da(?:für|von|mit|zu|bei|ran|rauf)|ihn|eso|esto|ese|esa|ahí"
    r"|allí|lo)\b",
    re.IGNORECASE,
)
#: Words of four letters or more with which a turn stands alone.
ALONE = 7
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
#: Entities of which a new one takes the place of the old.
_SLOTS = ("country", "weight", "amount", "date", "article_number", "form", "status_code")


def is_elliptic(turn: str) -> bool:
    """Say whether a turn leans on those before: an opening word, a pronoun, or few words."""
    n = len(_LONG_WORD.findall(turn))
    return bool(_OPENING.search(turn)) or n < ALONE or (n < 2 * ALONE and bool(_BACK.search(turn)))


def rewrite(turns: Sequence[str], how: Rewriting = "all turns") -> str:
    """Return a question that stands alone.

    Parameters
    ----------
    turns : sequence of str
        Of the customer, masked, in order.
    how : {"last turn", "all turns", "rewritten"}
        ``rewritten`` carries the earlier turns only where the last one leans on them, and takes
        out of them entities that the last one replaces (a country by a country). On the tuning
        questions it is no better than all turns, which so is the default.

    Returns
    -------
    str
    """
    *earlier, last = [without_masks(turn) for turn in turns]
    if how == "last turn" or not earlier:
        return last
    if how == "all turns":
        return " ".join([*earlier, last])
    if not is_elliptic(last):
        return last
    new = {entity.kind for entity in entities(last)} & set(_SLOTS)
    kept = [_without(turn, [e for e in entities(turn) if e.kind in new]) for turn in earlier]
    return " ".join([*kept, last])


def _without(text: str, gone: Sequence[Entity]) -> str:
    for entity in reversed(gone):
        text = text[: entity.start] + text[entity.end :]
    return re.sub(r"\s+", " ", text).strip()


def query_of(text: str, language: str) -> Query:
    """Return the query of a question that stands alone; an article number in it is looked up."""
    named = [e.value for e in entities(text) if e.kind == "article_number"]
    return Query(text, language, named[-1] if named else "")


# The tracking system -----------------------------------------------------------------

#: Seconds that a customer is kept waiting for the tracking system, and those of one failed call.
TRACKING_BUDGET, ERROR_SECONDS = 6.0, 0.3
#: Hours after which a status is called old, by code.
OLD_AFTER = {"A1": 48, "T2": 36, "D4": 12, "T7": 72, "H3": 240, "H5": 240}

_SAYS = {
    "en": {
        "status": "Parcel {number}: {text}{depot}, scanned on {scanned}.{eta}",
        "depot": " ({depot})",
        "eta": " Planned for {eta}.",
        "old": " This scan is {hours} hours old, and I have no newer one. Shall I pass you on to a "
        "colleague?",
        "timeout": "The tracking system does not answer at the moment, so I cannot say where "
        "parcel {number} is. Try again in a while, or shall I pass you on to a colleague?",
        "unknown": "The tracking system does not know {number}. A new parcel may be unknown until "
        "its first scan. Please check the number, or shall I pass you on to a colleague?",
        "number": "The check digit of {number} does not fit: one character is probably wrong. "
        "Could you look at it again?",
        "human": "I am not sure enough to answer that. I pass you on to a colleague.",
        "no_human": "I am not sure enough to answer that. Our colleagues are there from 7 to 21 h.",
        "refuse": "I can help with parcels and shipping only.",
        "attack": "I cannot do that. I can help with parcels and shipping.",
        "which": "Do you mean {first!r} or {second!r}?",
        "other": "(This article is available in another language only.) ",
    },
    "de": {
        "status": "Sendung {number}: {text}{depot}, gescannt am {scanned}.{eta}",
        "depot": " ({depot})",
        "eta": " Geplant für {eta}.",
        "old": " Dieser Scan ist {hours} Stunden alt, einen neueren habe ich nicht. Soll ich Sie "
        "verbinden?",
        "timeout": "Das Trackingsystem antwortet gerade nicht, ich kann also nicht sagen, wo "
        "Sendung {number} ist. Versuchen Sie es später noch einmal, oder soll ich Sie verbinden?",
        "unknown": "Das Trackingsystem kennt {number} nicht. Eine neue Sendung kann bis zum ersten "
        "Scan unbekannt sein. Bitte prüfen Sie die Nummer, oder soll ich Sie verbinden?",
        "number": "Die Prüfziffer von {number} passt nicht: wahrscheinlich ist ein Zeichen falsch. "
        "Sehen Sie bitte noch einmal nach?",
        "human": "Da bin ich mir nicht sicher genug. Ich verbinde Sie.",
        "no_human": "Da bin ich mir nicht sicher genug. Wir sind von 7 bis 21 Uhr für Sie da.",
        "refuse": "Ich kann nur bei Paketen und Versand helfen.",
        "attack": "Das kann ich nicht tun. Ich helfe bei Paketen und Versand.",
        "which": "Meinen Sie {first!r} oder {second!r}?",
        "other": "(Diesen Artikel gibt es nur in einer anderen Sprache.) ",
    },
    "es": {
        "status": "Envío {number}: {text}{depot}, escaneado el {scanned}.{eta}",
        "depot": " ({depot})",
        "eta": " Previsto para el {eta}.",
        "old": " Este escaneo es de hace {hours} horas y no tengo otro más reciente. ¿Le paso con "
        "un compañero?",
        "timeout": "El sistema de seguimiento no responde en este momento, así que no puedo decir "
        "dónde está el envío {number}. Inténtelo más tarde, ¿o le paso con un compañero?",
        "unknown": "El sistema de seguimiento no conoce {number}. Un envío nuevo puede no figurar "
        "hasta el primer escaneo. Revise el número, ¿o le paso con un compañero?",
        "number": "El dígito de control de {number} no encaja: seguramente hay un carácter mal. "
        "¿Puede mirarlo otra vez?",
        "human": "No estoy lo bastante seguro. Le paso con un compañero.",
        "no_human": "No estoy lo bastante seguro. Atendemos de 7 a 21 h.",
        "refuse": "Solo puedo ayudar con paquetes y envíos.",
        "attack": "No puedo hacer eso. Ayudo con paquetes y envíos.",
        "which": "¿Se refiere a {first!r} o a {second!r}?",
        "other": "(Este artículo solo está en otro idioma.) ",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Tracked:
    """What came of asking the tracking system.

    Attributes
    ----------
    outcome : {"status", "old", "timeout", "unknown", "bad_number"}
    text : str
        For the customer; made of the answer's fields.
    seconds : float
        That the customer waited.
    calls : int
    status : Status, optional
    """

    outcome: str
    text: str
    seconds: float
    calls: int
    status: Status | None = None


def track(
    api: TrackingAPI, number: str, at: object, language: str, budget: float = TRACKING_BUDGET
) -> Tracked:
    """Ask for a parcel, within a budget of time.

    Parameters
    ----------
    api : TrackingAPI
    number : str
    at : Timestamp
    language : str
    budget : float
        Seconds. Another call is made only where its time-out fits in; a server error costs
        little and is tried again, a 429 is not.

    Returns
    -------
    Tracked
        Never an invented status: without an answer the outcome is ``timeout``.
    """
    say, seconds, calls, wait = _SAYS[language], 0.0, 0, 0.0
    while seconds + wait <= budget and calls < 3:
        calls += 1
        try:
            status = api.status(number, at, language)
        except BadNumber:
            text = say["number"].format(number=number)
            return Tracked("bad_number", text, seconds, calls - 1)
        except UnknownNumber:
            return Tracked("unknown", say["unknown"].format(number=number), seconds, calls)
        except TrackingTimeout as error:
            wait = error.waited
            seconds += error.waited
        except TrackingRateLimited:
            break
        except TrackingError:
            seconds += ERROR_SECONDS
        else:
            return _told(status, say, seconds, calls)
    return Tracked("timeout", say["timeout"].format(number=number), seconds, calls)


def _told(status: Status, say: Mapping[str, str], seconds: float, calls: int) -> Tracked:
    """Say what an answer of the tracking system says."""
    hours = int((status.served_at - status.scanned_at) / pd.Timedelta(hours=1))
    text = say["status"].format(
        number=status.number,
        text=status.text,
        depot=say["depot"].format(depot=status.depot) if status.depot else "",
        scanned=f"{status.scanned_at:%Y-%m-%d %H:%M}",
        eta="" if pd.isna(status.eta) else say["eta"].format(eta=f"{status.eta:%Y-%m-%d}"),
    )
    if hours > OLD_AFTER.get(status.code, np.inf):
        return Tracked("old", text + say["old"].format(hours=hours), seconds, calls, status)
    return Tracked("status", text, seconds, calls, status)


# How sure ----------------------------------------------------------------------------

#: What the probabilities are made of: the answer's evidence and the question's words.
HEAD = (*EVIDENCE, *SCOPE)


def probability(evidence: Mapping[str, float], model: Mapping[str, Mapping[str, float]]) -> float:
    """Return what a logistic model of :mod:`learned` makes of the evidence.

    Parameters
    ----------
    evidence : mapping of str to float
        :data:`HEAD`.
    model : mapping
        ``mean``, ``sd`` and ``weight`` by feature, ``intercept`` under ``weight``.
    """
    z = model["weight"]["intercept"] + sum(
        model["weight"][name] * (evidence[name] - model["mean"][name]) / model["sd"][name]
        for name in HEAD
    )
    return float(1 / (1 + np.exp(-z)))


# The bot -----------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """What a conversation carries from turn to turn; all of it masked.

    Attributes
    ----------
    turns : tuple of str
        Of the customer.
    language : str
        Empty before the first turn.
    tracking_number : str
        The last one that was given.
    cited : tuple of str
        Articles of the last answer.
    asked : bool
        Whether a question back has been asked already.
    """

    turns: tuple[str, ...] = ()
    language: str = ""
    tracking_number: str = ""
    cited: tuple[str, ...] = ()
    asked: bool = False


@dataclass(frozen=True)
class Turn:
    """What the bot does with a turn.

    Attributes
    ----------
    route : Route
    text : str
    why : str
        For the log.
    citations : tuple of Citation
    confidence : float
        Probability that the answer is right; NaN where none was tried.
    tracked : Tracked, optional
    query : str
        The question as it was searched for.
    answer : Answer, optional
        Tried, given or not.
    hits : tuple of Hit
    """

    route: Route
    text: str
    why: str
    citations: tuple[Citation, ...] = ()
    confidence: float = float("nan")
    tracked: Tracked | None = None
    query: str = ""
    answer: Answer | None = None
    hits: tuple[Hit, ...] = field(default=(), repr=False)


_WHERE = re.compile(
    r"^\W*(?:where(?:'s| is| are)|any news|status|track\w*|report on|look up"
    r"|wo (?:ist|bleibt|steckt|sind)|was ist mit|dónde|donde|por dónde)\b",
    re.IGNORECASE,
)  # fmt: skip


class Chatbot:
    """The system: understanding, help centre, answers, tracking.

    Parameters
    ----------
    centre : HelpCentre
    answerer : Answerer
    language : LanguageModel
    scope : Scope
    api : TrackingAPI
    answer_from : float
        Probability of being right from which an answer is given.
    refuse_from : float
        Probability of being off topic from which a question is refused.
    log : MaskedLog, optional
    known : Mapping, optional
        Signals by query that are at hand (:meth:`HelpCentre.signals`), for measurements.
    """

    def __init__(
        self,
        centre: HelpCentre,
        answerer: Answerer,
        language: LanguageModel,
        scope: Scope,
        api: TrackingAPI,
        answer_from: float = ANSWER_FROM,
        refuse_from: float = REFUSE_FROM,
        log: MaskedLog | None = None,
        known: Mapping[Query, Mapping] | None = None,
    ) -> None:
        self.centre, self.answerer, self.api = centre, answerer, api
        self.language, self.scope = language, scope
        self.answer_from, self.refuse_from = answer_from, refuse_from
        self.log, self.known = log, known or {}

    def reply(
        self, state: State, message: str, at: object, language: str = "", staffed: bool = True
    ) -> tuple[State, Turn]:
        """Answer one turn.

        Parameters
        ----------
        state : State
        message : str
            As the customer wrote it.
        at : Timestamp
        language : str
            Where the channel knows it; else it is recognised.
        staffed : bool
            Whether people answer at this hour.

        Returns
        -------
        state : State
        turn : Turn
        """
        before, turns = state.turns, mask_turns((*state.turns, message))
        text = turns[-1]
        language = language or state.language or self.language(text)[0]
        state = replace(state, turns=turns, language=language)
        turn = self._route(state, text, at, staffed)
        number = next((e.value for e in entities(text) if e.kind == "tracking_number"), "")
        state = replace(
            state,
            turns=before if turn.why in ATTACKS else turns,  # what was refused is not sent later
            tracking_number=number or state.tracking_number,
            cited=tuple(c.article_id for c in turn.citations) or state.cited,
            asked=state.asked or turn.route == "clarify",
        )
        if self.log is not None:
            self.log(
                turn=text,
                route=turn.route,
                why=turn.why,
                said=turn.text,
                citations=[str(c) for c in turn.citations],
                model=turn.answer.model if turn.answer else "",
            )
        return state, turn

    def _route(self, state: State, text: str, at: object, staffed: bool) -> Turn:
        say = _SAYS[state.language]
        if why := attack(text):
            return Turn("refuse", say["attack"], why)
        handed = say["human"] if staffed else say["no_human"]
        if wants_person(text):
            return Turn("human", handed, "asks for a person")
        if number := self._number(state, text):
            tracked = track(self.api, number, at, state.language)
            route: Route = "clarify" if tracked.outcome == "bad_number" else "tracking"
            return Turn(route, tracked.text, tracked.outcome, tracked=tracked)
        query = query_of(rewrite(state.turns), state.language)
        hits = tuple(self.centre.search(query, at, scores=self.known.get(query)))
        answer = self.answerer(query, hits, at)
        evidence = self.evidence(query, answer)
        sure = probability(evidence, RIGHT) if evidence else 0.0
        shared = {"confidence": sure, "query": query.text, "answer": answer, "hits": hits}
        if not evidence or probability(evidence, OFF_TOPIC) >= self.refuse_from:
            return Turn("refuse", say["refuse"], "off topic", **shared)
        if not answer.text:
            return Turn("human", handed, "; ".join(answer.faults), **shared)
        if sure < self.answer_from:
            if not state.asked and (pair := near_pair(hits)):
                said = say["which"].format(first=pair[0].title, second=pair[1].title)
                return Turn("clarify", said, "two articles for different readers", **shared)
            return Turn("human", handed, "not sure enough", **shared)
        foreign = answer.citations[0].language != state.language
        said = (say["other"] if foreign else "") + answer.text
        return Turn("answer", said, "sure enough", answer.citations, **shared)

    def evidence(self, query: Query, answer: Answer) -> dict[str, float]:
        """Return :data:`HEAD` of an answer; empty where nothing was found."""
        if not answer.evidence:
            return {}
        scope = self.scope([query.text], [query.language])[0]
        return dict(answer.evidence) | dict(zip(SCOPE, map(float, scope), strict=True))

    @staticmethod
    def _number(state: State, text: str) -> str:
        """Return the number to track: a valid one in a turn that asks for nothing else."""
        found = entities(text)
        kinds = {entity.kind for entity in found}
        valid = [e.value for e in found if e.kind == "tracking_number"]
        if valid and not kinds & {"status_code", "article_number", "form", "amount"}:
            return valid[-1]
        if not valid and state.tracking_number and _WHERE.search(text):
            return state.tracking_number
        return ""


#: Scores within which two articles for different readers are as good as each other.
NEAR = 0.05


def near_pair(hits: Sequence[Hit]) -> tuple[Hit, Hit] | None:
    """Return the first two articles where they are one topic for different readers, and close."""
    if len(hits) < 2 or hits[0].score - hits[1].score > NEAR:
        return None
    bases = [hit.article_id.partition("--")[0] for hit in hits[:2]]
    return (hits[0], hits[1]) if bases[0] == bases[1] else None
