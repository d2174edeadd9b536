"""One conversation: state over turns, and for each turn a route.

``refuse`` (attack, off topic) · ``tracking`` (a number with the right check digit) · ``answer``
(from the help centre, with citations) · ``titles`` (the nearest pages) · ``clarify`` (one question
back) · ``human``.
:func:`decide` chooses it from what is known of a turn; the simulation of policies calls the same
function. A turn is made readable, bounded and masked before anything else reads it; a conversation
keeps the last :data:`TURNS` turns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from casebook.cases.support_rag_chatbot.answer import EVIDENCE, Answer, Answerer, Citation
from casebook.cases.support_rag_chatbot.languages import HelpCentre, Query
from casebook.cases.support_rag_chatbot.learned import ANSWER_FROM, OFF_TOPIC, REFUSE_FROM, RIGHT
from casebook.cases.support_rag_chatbot.tracker import SAYS, Tracked, track
from casebook.cases.support_rag_chatbot.understand import entities, wants_person
from casebook.cases.support_rag_chatbot.world import TrackingAPI
from casebook.evaluate.abstain import probability
from casebook.retrieval.centre import Hit
from casebook.retrieval.classify import SCOPE, LanguageModel, Scope, foreign, spoken
from casebook.serving.guard import ATTACKS, attack
from casebook.serving.privacy import MaskedLog, mask_turns, without_masks

Route = Literal["tracking", "answer", "titles", "clarify", "human", "refuse"]
Unsure = Literal["human", "titles"]

# A question that stands alone --------------------------------------------------------


def rewrite(turns: Sequence[str]) -> str:
    """Return a question that stands alone: all turns in a row, without their masks.

    Carrying over only what the last turn leaves open was tried on the tuning questions, and found
    no more.
    """
    return " ".join(without_masks(turn) for turn in turns)


def query_of(text: str, language: str) -> Query:
    """Return the query of a question that stands alone; an article number in it is looked up."""
    named = [e.value for e in entities(text) if e.kind == "article_number"]
    return Query(text, language, named[-1] if named else "")


# How sure ----------------------------------------------------------------------------

#: What the probabilities are made of: the answer's evidence and the question's words.
HEAD = (*EVIDENCE, *SCOPE)


# The decision ------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What a route is chosen by.

    Attributes
    ----------
    attack : str
        Why the guard refuses; empty if it does not.
    person : bool
        Whether the customer asks for one.
    number : str
        To be tracked; empty if there is none.
    sure : float, optional
        Probability that the answer is right; None before anything was searched for.
    off_topic : float
        Probability that the question is none of ours.
    said : bool
        Whether an answer passed the check.
    pair : bool
        Whether the first two articles are one topic for different readers, and close.
    asked : bool
        Whether a question back has been asked already.
    """

    attack: str = ""
    person: bool = False
    number: str = ""
    sure: float | None = None
    off_topic: float = 0.0
    said: bool = True
    pair: bool = False
    asked: bool = False


def decide(
    facts: Facts, answer_from: float, refuse_from: float, unsure: Unsure = "human"
) -> tuple[Route | None, str]:
    """Return the route of a turn and why; no route as long as the help centre was not searched.

    Parameters
    ----------
    facts : Facts
    answer_from : float
        Probability of being right from which an answer is given.
    refuse_from : float
        Probability of being off topic from which a question is refused.
    unsure : {"human", "titles"}
        What is done with a question that is not answered.

    Examples
    --------
    >>> decide(Facts(sure=0.7), answer_from=0.3, refuse_from=0.9)
    ('answer', 'sure enough')
    >>> decide(Facts(sure=0.2, pair=True), answer_from=0.3, refuse_from=0.9)[0]
    'clarify'
    """
    if facts.attack:
        return "refuse", facts.attack
    if facts.person:
        return "human", "asks for a person"
    if facts.number:
        return "tracking", "a number"
    if facts.sure is None:
        return None, "to be searched"
    if facts.off_topic >= refuse_from:
        return "refuse", "off topic"
    if not facts.said:
        return unsure, "no answer passed"
    if facts.sure >= answer_from:
        return "answer", "sure enough"
    if facts.pair and not facts.asked and unsure == "human":  # titles show both articles
        return "clarify", "two articles for different readers"
    return unsure, "not sure enough"


# The bot -----------------------------------------------------------------------------

#: Titles that are shown where nothing is answered.
SHOWN = 3
#: Characters of the longest turn that is read, and turns that a conversation keeps.
LONGEST, TURNS = 2000, 6
#: Turns that are read as one text for an attack that is spread over them.
TOGETHER = 3
_ANEW = re.compile(
    r"\b(?:another|different|new|next) question|\bsomething else\b"
    r"|\bandere frage|\bneue frage|\bwas anderes\b|\botra (?:pregunta|cosa|consulta)\b",
    re.IGNORECASE,
)


def readable(message: str) -> str:
    """Return a message that can be stored: without halves of characters and control characters.

    Raises
    ------
    TypeError
        If it is no text.
    """
    if not isinstance(message, str):
        raise TypeError(f"A message is a text, not {type(message).__name__}.")
    whole = message.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in whole).strip()


@dataclass(frozen=True)
class State:
    """What a conversation carries from turn to turn; all of it masked.

    Attributes
    ----------
    turns : tuple of str
        Of the customer; the last :data:`TURNS`.
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
    unsure : {"human", "titles"}
        Whether a question that is not answered goes to a person, or to the titles of the nearest
        pages (with a person on request).
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
        unsure: Unsure = "human",
        log: MaskedLog | None = None,
        known: Mapping[Query, Mapping] | None = None,
    ) -> None:
        self.centre, self.answerer, self.api = centre, answerer, api
        self.language, self.scope = language, scope
        self.answer_from, self.refuse_from = answer_from, refuse_from
        self.unsure, self.log, self.known = unsure, log, known or {}

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
            Where the channel knows it (``de``, ``de-AT``, ``DE``); else it is recognised. One that
            is not ours counts as not known.
        staffed : bool
            Whether people answer at this hour.

        Returns
        -------
        state : State
        turn : Turn
        """
        said = readable(message)
        known = spoken(language) or state.language
        if not re.search(r"[^\W_]", said):
            return self._short(state, known, "empty")
        if len(said) > LONGEST:
            return self._short(state, known, "long")
        if _ANEW.search(said):
            state = replace(state, turns=(), cited=(), asked=False)
        before, turns = state.turns, mask_turns((*state.turns, said)[-TURNS:])
        text = turns[-1]
        if foreign(text):
            return self._short(state, known, "foreign")
        state = replace(state, turns=turns, language=known or self.language(text)[0])
        turn = self._route(state, text, at, staffed)
        if turn.why in ATTACKS:  # what was refused is not sent with later turns
            turns = before if attack(text) else ()
        number = next((e.value for e in entities(text) if e.kind == "tracking_number"), "")
        state = replace(
            state,
            turns=turns,
            tracking_number=number or state.tracking_number,
            cited=tuple(c.article_id for c in turn.citations) or state.cited,
            asked=state.asked or turn.route == "clarify",
        )
        self._keep(text, turn)
        return state, turn

    def _short(self, state: State, language: str, why: str) -> tuple[State, Turn]:
        """Answer what is not read any further; nothing of it is kept."""
        route: Route = "human" if why == "foreign" else "clarify"
        turn = Turn(route, SAYS[language or "en"][why], why)
        self._keep("", turn)
        return state, turn

    def _keep(self, text: str, turn: Turn) -> None:
        if self.log is not None:
            self.log(
                turn=text,
                route=turn.route,
                why=turn.why,
                said=turn.text,
                citations=[str(c) for c in turn.citations],
                model=turn.answer.model if turn.answer else "",
            )

    def _route(self, state: State, text: str, at: object, staffed: bool) -> Turn:
        facts = facts_of(state.turns, state.tracking_number, asked=state.asked)
        route, why = decide(facts, self.answer_from, self.refuse_from, self.unsure)
        if route == "tracking":
            tracked = track(self.api, facts.number, at, state.language)
            route = "clarify" if tracked.outcome == "bad_number" else "tracking"
            return Turn(route, tracked.text, tracked.outcome, tracked=tracked)
        if route is not None:
            return Turn(route, self._fixed(route, why, state.language, staffed), why)
        query = query_of(rewrite(state.turns), state.language)
        hits = tuple(self.centre.search(query, at, scores=self.known.get(query)))
        answer = self.answerer(query, hits, at)
        facts = self.searched(facts, query, answer, hits)
        route, why = decide(facts, self.answer_from, self.refuse_from, self.unsure)
        if route == "titles" and not hits:
            route = "human"
        shared = {"confidence": facts.sure, "query": query.text, "answer": answer, "hits": hits}
        if route == "answer":
            foreign = answer.citations[0].language != state.language
            said = (SAYS[state.language]["other"] if foreign else "") + answer.text
            return Turn(route, said, why, answer.citations, **shared)
        if route == "clarify":
            first, second = (hit.title for hit in hits[:2])
            said = SAYS[state.language]["which"].format(first=first, second=second)
            return Turn(route, said, why, **shared)
        if route == "titles":
            pages = "; ".join(hit.title for hit in hits[:SHOWN])
            return Turn(route, SAYS[state.language]["titles"].format(pages=pages), why, **shared)
        why = "; ".join(answer.faults) if route == "human" and answer.faults else why
        return Turn(route, self._fixed(route, why, state.language, staffed), why, **shared)

    @staticmethod
    def _fixed(route: Route, why: str, language: str, staffed: bool) -> str:
        """Return the sentence for a refusal or a hand-over."""
        if route == "refuse":
            return SAYS[language]["refuse" if why == "off topic" else "attack"]
        return SAYS[language]["human" if staffed else "no_human"]

    def searched(self, facts: Facts, query: Query, answer: Answer, hits: Sequence[Hit]) -> Facts:
        """Add to the facts what a search and an answer say."""
        evidence = self.evidence(query, answer)
        if not evidence:
            return replace(facts, sure=0.0, off_topic=1.01, said=False)
        return replace(
            facts,
            sure=probability(evidence, RIGHT),
            off_topic=probability(evidence, OFF_TOPIC),
            said=bool(answer.text),
            pair=near_pair(hits) is not None,
        )

    def evidence(self, query: Query, answer: Answer) -> dict[str, float]:
        """Return :data:`HEAD` of an answer; empty where nothing was found."""
        if not answer.evidence:
            return {}
        scope = self.scope([query.text], [query.language])[0]
        return dict(answer.evidence) | dict(zip(SCOPE, map(float, scope), strict=True))


def number_in(text: str, last: str = "") -> str:
    """Return the number to track: a valid one in a turn that asks for nothing else.

    Parameters
    ----------
    text : str
    last : str
        Number of an earlier turn, which *any news?* is about.
    """
    found = entities(text)
    kinds = {entity.kind for entity in found}
    valid = [e.value for e in found if e.kind == "tracking_number"]
    if valid and not kinds & {"status_code", "article_number", "form", "amount"}:
        return valid[-1]
    return last if not valid and last and _WHERE.search(text) else ""


def facts_of(turns: Sequence[str], last: str = "", asked: bool = False) -> Facts:
    """Return what is known of the last turn before anything is searched for.

    An attack is looked for in the turn, and in the last :data:`TOGETHER` turns as one text.

    Parameters
    ----------
    turns : sequence of str
        Masked, in order.
    last : str
        Tracking number of an earlier turn.
    asked : bool
        Whether a question back has been asked already.
    """
    text = turns[-1]
    return Facts(
        attack=attack(text) or attack(" ".join(turns[-TOGETHER:])),
        person=wants_person(text),
        number=number_in(text, last),
        asked=asked,
    )


#: Scores within which two articles for different readers are as good as each other.
NEAR = 0.05


def near_pair(hits: Sequence[Hit]) -> tuple[Hit, Hit] | None:
    """Return the first two articles where they are one topic for different readers, and close."""
    if len(hits) < 2 or hits[0].score - hits[1].score > NEAR:
        return None
    bases = [hit.article_id.partition("--")[0] for hit in hits[:2]]
    return (hits[0], hits[1]) if bases[0] == bases[1] else None
